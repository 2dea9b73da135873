//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"bytes"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// In these rows it is our Client that is attacked, by a server that is written by hand. The well-behaved client has its echoes
// from a server in the same process meanwhile.

// newClient makes a client that tells on a channel when its connection has ended.
func (a *abuse) newClient() (cl *websocket.Client, quit <-chan struct{}) {
	ch := make(chan struct{})
	return &websocket.Client{
		Logger:     a.slog(),
		HandleQuit: func() { close(ch) },
		HandleText: func(*websocket.Client, *websocket.Frame) error { return nil },
		HandleBin:  func(*websocket.Client, *websocket.Frame) error { return nil },
	}, ch
}

// openedClient is a client that is connected to a hostile server.
type openedClient struct {
	*peer.Script
	cl   *websocket.Client
	quit <-chan struct{}
}

func (a *abuse) openClient(change func(*websocket.Client)) *openedClient {
	a.t.Helper()
	cl, quit := a.newClient()
	if change != nil {
		change(cl)
	}
	c := peer.Open(a.t, cl)
	c.Conn.SetDeadline(time.Now().Add(2 * wait))
	return &openedClient{c, cl, quit}
}

// closedWith waits for the end of the client's connection, and checks the code that the client has closed it with.
func (o *openedClient) closedWith(code websocket.CloseCode) {
	o.T.Helper()
	peer.Done(o.T, o.quit)
	var ended *websocket.CloseError
	require.ErrorAs(o.T, o.cl.Err(), &ended)
	require.Equal(o.T, code, ended.Code, "%v", ended)
	require.NotEmpty(o.T, ended.Reason)
}

func TestAbuseClient(t *testing.T) {
	runRows(t, []attackRow{
		{name: "answers to the handshake that accept nothing give an error that names the cause", attack: badAnswers},
		{name: "endless answers to the handshake end at the limit", attack: endlessAnswers},
		{name: "a handshake that stops anywhere ends at the time-out", attack: silentAnswers},
		{name: "line ends in header fields, their names or the endpoint never leave the client", attack: splitRequests},
		{name: "frames that claim a GiB and more are refused from their header", attack: func(a *abuse) {
			a.start(&websocket.ServerOptions{})
			a.bounded(8 << 20)
			for _, row := range []struct {
				length uint64
				code   websocket.CloseCode
			}{
				{16<<20 + 1, websocket.StatusRequestEntityTooLarge}, {1 << 30, websocket.StatusRequestEntityTooLarge}, {1<<63 - 1, websocket.StatusRequestEntityTooLarge},
				{1 << 63, websocket.StatusBadRequest}, {math.MaxUint64, websocket.StatusBadRequest},
			} {
				o := a.openClient(nil)
				head := frameHead(peer.BitFin|byte(websocket.OpcodeBin), row.length)
				head[1] &^= peer.BitMasked
				o.Send(head[:10])
				code, _ := o.ReadClose()
				require.Equal(a.t, row.code, code)
				o.Conn.Close()
				o.closedWith(row.code)
			}
		}},
		{name: "frames that break the rules end the connection with their code", attack: badFrames},
		{name: "a message of a million empty fragments ends at the limit of fragments", attack: func(a *abuse) {
			a.start(&websocket.ServerOptions{})
			a.bounded(8 << 20)
			o := a.openClient(nil)
			wrote := make(chan struct{})
			go func() {
				o.Conn.Write([]byte{byte(websocket.OpcodeBin), 0})
				flood(o.Conn, []byte{byte(websocket.OpcodeCont), 0}, 1_000_000)
				close(wrote)
			}()
			code, _ := o.ReadClose()
			require.EqualValues(a.t, websocket.StatusRequestEntityTooLarge, code)
			o.closedWith(websocket.StatusRequestEntityTooLarge)
			peer.Done(a.t, wrote)
		}},
		{name: "64 MiB of Pings from a server that does not read cost no memory", attack: func(a *abuse) {
			a.start(&websocket.ServerOptions{})
			a.bounded(16 << 20) // with the garbage of a collector that has to wait for its turn
			o := a.openClient(func(cl *websocket.Client) { cl.WriteTimeout = 2 * wait })
			ping := websocket.NewFramePing(false, bytes.Repeat([]byte("p"), peer.MaxControl))
			_, err := flood(o.Conn, ping, 64<<20/len(ping))
			require.NoError(a.t, err)
			o.Send(websocket.NewFramePing(false, []byte("last")))
			pongs := 1
			for ; ; pongs++ {
				f := o.Read()
				if f.Opcode == websocket.OpcodePing {
					continue // the client's own
				}
				require.Equal(a.t, websocket.OpcodePong, f.Opcode)
				if string(f.Payload) == "last" {
					break
				}
			}
			a.t.Logf("%d Pings, %d Pongs", 64<<20/len(ping)+1, pongs)
		}},
		{name: "a flood of messages waits for a slow handler in bounded memory, and TCP pushes back", attack: floodedClient},
		{name: "a server that reads nothing lets no Send wait for longer than the write time-out", attack: func(a *abuse) {
			a.start(&websocket.ServerOptions{})
			o := a.openClient(func(cl *websocket.Client) { cl.WriteTimeout = scale(peer.WriteTimeout) })
			payload := peer.Pattern(1<<20, 1)
			var err error
			for start := time.Now(); err == nil && time.Since(start) < wait; {
				err = o.cl.SendBin(payload)
			}
			require.ErrorIs(a.t, err, websocket.ErrWriteTimeout)
			peer.Done(a.t, o.quit)
			require.ErrorIs(a.t, o.cl.Err(), websocket.ErrWriteTimeout)
			require.ErrorIs(a.t, o.cl.SendBin(payload), websocket.ErrConnClosed)
		}},
		{name: "a server that goes on sending after the Close frame is cut off", attack: func(a *abuse) {
			a.start(&websocket.ServerOptions{})
			a.bounded(16 << 20)
			for _, first := range [][]byte{websocket.NewFrameClose(false, websocket.StatusNormal, nil), {0xFF, 0xFF}} {
				o := a.openClient(nil)
				o.Send(first)
				start := time.Now()
				_, err := flood(o.Conn, websocket.NewFrameBin(false, peer.Pattern(1000, 1)), 1<<30) // a TiB
				require.Error(a.t, err)
				assert.Less(a.t, time.Since(start), peer.DrainTime+timeLimit(2*time.Second))
				peer.Done(a.t, o.quit)
				require.Error(a.t, o.cl.Err())
			}
		}},
		{name: "silence in a header, a payload, a message, and instead of a Close frame ends the connection", attack: silentServer},
		{name: "handlers of the client that panic end its connection", logs: []string{"websocket: client handler panicked"}, attack: func(a *abuse) {
			a.start(&websocket.ServerOptions{})
			o := a.openClient(func(cl *websocket.Client) {
				cl.HandleText = func(*websocket.Client, *websocket.Frame) error { panic("handler of the test") }
			})
			o.Send(websocket.NewFrameText(false, []byte("x")))
			code, _ := o.ReadClose()
			require.EqualValues(a.t, websocket.StatusBadRequest, code)
			o.Conn.Close()
			o.closedWith(websocket.StatusBadRequest)
		}},
	})
}

// answerWith has a client connect to a server that writes an answer, made from the right one, and closes.
func (a *abuse) answerWith(cl *websocket.Client, answer func(right string) string) error {
	a.t.Helper()
	s := peer.Listen(a.t)
	cl.Endpoint = s.Endpoint()
	connected := peer.Connect(cl)
	c := s.Accept()
	io.WriteString(c.Conn, answer(string(c.Answer())))
	c.Conn.(*net.TCPConn).CloseWrite()
	err := peer.Receive(a.t, connected)
	c.Conn.Close()
	s.Socket.Close()
	return err
}

func badAnswers(a *abuse) {
	a.start(&websocket.ServerOptions{})
	without := func(name string) func(string) string {
		return func(right string) string {
			i := strings.Index(right, name+":")
			return right[:i] + right[i+strings.Index(right[i:], "\r\n")+2:]
		}
	}
	replace := func(old, new string) func(string) string {
		return func(right string) string { return strings.Replace(right, old, new, 1) }
	}
	const end = "\r\n\r\n"
	for _, row := range []struct {
		cause  string // in the error
		answer func(right string) string
	}{
		{"Accept", func(right string) string {
			i := strings.Index(right, "Accept: ") + len("Accept: ")
			return right[:i] + "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" + end
		}},
		{"Accept", without("Sec-WebSocket-Accept")},
		{"Accept", replace("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x\r\nSec-WebSocket-Accept: ")},
		{"Upgrade", without("Upgrade")},
		{"Upgrade", replace("Upgrade: websocket", "Upgrade: h2c")},
		{"Connection", without("Connection")},
		{"Connection", replace("Connection: Upgrade", "Connection: close")},
		{"200 OK", replace("101 Switching Protocols", "200 OK")},
		{"503 no room", replace("101 Switching Protocols", "503 no room")},
		{"1010 x", replace("101 Switching Protocols", "1010 x")},
		{"HTTP/1.1", replace("HTTP/1.1", "HTTP/1.0")},
		{"status line", replace("HTTP/1.1", "HTTP/2")},
		{"status line", replace("HTTP/1.1", "SSH-2.0-x")},
		{"status line", replace("Switching Protocols", "Switching\x00\x1b[2J Protocols")},
		{"extension", replace(end, "\r\nSec-WebSocket-Extensions: permessage-deflate"+end)},
		{"subprotocol", replace(end, "\r\nSec-WebSocket-Protocol: evil"+end)},
		{"malformed", replace(end, "\r\nno colon"+end)},
		{"malformed", replace("Switching Protocols", "Switching Protocols\r\n folded")},
		{"malformed", replace(end, "\r\nX: \x00"+end)},
		{"invalid Header", func(right string) string { return strings.ReplaceAll(right, "\r\n", "\n") }},
		{"no complete answer", func(right string) string { return right[:len(right)-2] }},
		{"no complete answer", func(string) string { return "" }},
		{"too large", replace(end, strings.Repeat("\r\nX: y", 200)+end)},
		{"too large", replace(end, "\r\nX: "+strings.Repeat("y", 64<<10)+end)},
	} {
		cl, _ := a.newClient()
		err := a.answerWith(cl, row.answer)
		require.ErrorContains(a.t, err, row.cause)
		require.ErrorContains(a.t, err, "websocket: ")
		require.ErrorIs(a.t, cl.SendText([]byte("x")), websocket.ErrConnClosed)
		require.True(a.t, isFieldValue(err.Error()), "%q", err)
	}
}

func endlessAnswers(a *abuse) {
	a.start(&websocket.ServerOptions{})
	a.bounded(8 << 20)
	for _, again := range []string{"X: y\r\n", "y", "HTTP/1.1 101 ", "\x00", " ", "\r", "\n"} {
		for _, begin := range []string{"", "HTTP/1.1 101 Switching Protocols\r\n", "HTTP/1.1 101 Switching Protocols\r\nX: "} {
			cl, _ := a.newClient()
			s := peer.Listen(a.t)
			cl.Endpoint = s.Endpoint()
			connected := peer.Connect(cl)
			c := s.Accept()
			io.WriteString(c.Conn, begin)
			_, err := flood(c.Conn, []byte(again), 1<<30/len(again))
			require.Error(a.t, err, "%q: the client reads on", again)
			require.ErrorContains(a.t, peer.Receive(a.t, connected), "websocket: handshake: answer: ", "%q", again)
			s.Socket.Close()
		}
	}
}

func silentAnswers(a *abuse) {
	timeout := scale(peer.HandshakeTimeout)
	a.start(&websocket.ServerOptions{})
	parts := []int{0, 1, 12, 40, 80, 120} // bytes of the answer
	listeners := make([]*peer.Listener, len(parts))
	clients := make([]*websocket.Client, len(parts))
	for i := range parts {
		listeners[i] = peer.Listen(a.t)
		clients[i], _ = a.newClient()
		clients[i].Endpoint, clients[i].HandshakeTimeout = listeners[i].Endpoint(), timeout
	}
	clients[0].Endpoint = strings.Replace(clients[0].Endpoint, "ws:", "wss:", 1) // and one that waits for TLS
	start := time.Now()
	results := make(chan error, len(parts))
	for i, cl := range clients {
		go func() {
			conn, err := listeners[i].Socket.Accept()
			if err == nil {
				defer conn.Close()
				io.WriteString(conn, peer.Accepted[:parts[i]])
				io.Copy(io.Discard, conn)
			}
		}()
		go func() { results <- cl.Connect() }()
	}
	for range clients {
		err := peer.Get(a.t, results)
		require.ErrorContains(a.t, err, "websocket: handshake: ")
		var netErr net.Error
		require.ErrorAs(a.t, err, &netErr)
		require.True(a.t, netErr.Timeout(), "%v", err)
	}
	assert.Less(a.t, time.Since(start), timeout+timeLimit(2*time.Second))
	// One that sends a byte per second does not last any longer.
	s := peer.Listen(a.t)
	cl, _ := a.newClient()
	cl.Endpoint, cl.HandshakeTimeout = s.Endpoint(), timeout
	start = time.Now()
	connected := peer.Connect(cl)
	c := s.Accept()
	done := make(chan struct{})
	defer close(done)
	go trickle(c.Conn, strings.Repeat("y", 1000), done)
	require.ErrorContains(a.t, peer.Receive(a.t, connected), "timeout")
	assert.Less(a.t, time.Since(start), timeout+timeLimit(2*time.Second))
}

// splitRequests has the program's own values carry lines into the request.
func splitRequests(a *abuse) {
	a.start(&websocket.ServerOptions{})
	const evil = "\r\nEvil: 1"
	for i, change := range []func(cl *websocket.Client){
		func(cl *websocket.Client) { cl.Headers = http.Header{"X": {"y" + evil}} },
		func(cl *websocket.Client) { cl.Headers = http.Header{"X": {"ok", "y\nEvil: 1"}} },
		func(cl *websocket.Client) { cl.Headers = http.Header{"X": {"y\rEvil: 1"}} },
		func(cl *websocket.Client) { cl.Headers = http.Header{"X: y" + evil + "\r\nZ": {"y"}} },
		func(cl *websocket.Client) { cl.Headers = http.Header{"": {"y"}} },
		func(cl *websocket.Client) { cl.Headers = http.Header{"X": {"\x00"}} },
		func(cl *websocket.Client) { cl.Endpoint += evil },
		func(cl *websocket.Client) { cl.Endpoint += "?x=y HTTP/1.1" + evil + "\r\nX: " },
		func(cl *websocket.Client) { cl.Endpoint += "?a b" },
		func(cl *websocket.Client) { cl.Endpoint += "%0d%0aEvil:%201" },
		func(cl *websocket.Client) { cl.Endpoint += "a b\tc" },
		func(cl *websocket.Client) {
			cl.Endpoint = strings.Replace(cl.Endpoint, "ws://", "ws://user:pa%0d%0aEvil:%201@", 1)
		},
		func(cl *websocket.Client) {
			cl.Headers = http.Header{"Host": {"evil"}, "Upgrade": {"evil"}, "sec-websocket-key": {"evil"}}
		},
	} {
		s := peer.Listen(a.t)
		cl, _ := a.newClient()
		cl.Endpoint = s.Endpoint()
		cl.HandshakeTimeout = scale(peer.HandshakeTimeout)
		change(cl)
		got := make(chan string, 1)
		go func() {
			conn, err := s.Socket.Accept()
			if err != nil {
				got <- ""
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(wait))
			head := make([]byte, 0, 4096)
			for !bytes.Contains(head, []byte("\r\n\r\n")) {
				n, err := conn.Read(head[len(head):cap(head)])
				if head = head[:len(head)+n]; err != nil {
					break
				}
			}
			got <- string(head)
		}()
		require.Error(a.t, cl.Connect(), "%d", i)
		s.Socket.Close()
		request := peer.Get(a.t, got)
		for _, line := range strings.Split(request, "\r\n") {
			assert.False(a.t, strings.HasPrefix(line, "Evil"), "%d: %q", i, request)
		}
		assert.NotContains(a.t, strings.ReplaceAll(request, "\r\n", ""), "\n")
		assert.NotContains(a.t, strings.ReplaceAll(request, "\r\n", ""), "\r")
		assert.NotContains(a.t, request, "evil", "%d", i)
		if request != "" {
			line, _, _ := strings.Cut(request, "\r\n")
			assert.Equal(a.t, 2, strings.Count(line, " "), "%q", line)
		}
	}
}

func badFrames(a *abuse) {
	a.start(&websocket.ServerOptions{})
	for _, row := range []struct {
		name  string
		bytes []byte
		code  websocket.CloseCode
	}{
		{"masked text", websocket.NewFrameText(true, []byte("x")), websocket.StatusBadRequest},
		{"masked ping", websocket.NewFramePing(true, nil), websocket.StatusBadRequest},
		{"masked close", websocket.NewFrameClose(true, websocket.StatusNormal, nil), websocket.StatusBadRequest},
		{"reserved bit", []byte{0xC1, 0}, websocket.StatusBadRequest},
		{"reserved opcode", []byte{0x83, 0}, websocket.StatusBadRequest},
		{"reserved control opcode", []byte{0x8B, 0}, websocket.StatusBadRequest},
		{"fragmented ping", []byte{0x09, 0}, websocket.StatusBadRequest},
		{"long ping", []byte{0x89, 126, 0, 126}, websocket.StatusBadRequest},
		{"continuation of nothing", []byte{0x80, 0}, websocket.StatusBadRequest},
		{"message in a message", []byte{0x01, 0, 0x81, 0}, websocket.StatusBadRequest},
		{"long length", []byte{0x81, 126, 0, 5}, websocket.StatusBadRequest},
		{"close of one byte", []byte{0x88, 1, 3}, websocket.StatusBadRequest},
		{"close with 1005", []byte{0x88, 2, 3, 0xED}, websocket.StatusBadRequest},
		{"text that is not UTF-8", []byte{0x81, 2, 'a', 0xFF}, websocket.StatusInvalidData},
		{"and unfinished", []byte{0x01, 100, 'a', 0xFF}, websocket.StatusInvalidData},
		{"an HTTP answer", []byte("HTTP/1.1 200 OK\r\n\r\n"), websocket.StatusBadRequest},
	} {
		o := a.openClient(nil)
		o.Send(row.bytes)
		code, reason := o.ReadClose()
		assert.Equal(a.t, row.code, code, row.name)
		assert.NotEmpty(a.t, reason, row.name)
		o.Conn.Close()
		o.closedWith(row.code)
	}
}

func floodedClient(a *abuse) {
	a.start(&websocket.ServerOptions{})
	a.bounded(16 << 20)
	const size, n = 1000, 200_000
	release := make(chan struct{})
	o := a.openClient(func(cl *websocket.Client) {
		cl.HandleBin = func(*websocket.Client, *websocket.Frame) error { <-release; return nil }
	})
	free := peer.Release(a.t, release)
	o.Conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
	packet := websocket.NewFrameBin(false, peer.Pattern(size, 1))
	o.Conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	written, err := flood(o.Conn, packet, n)
	var netErr net.Error
	require.ErrorAs(a.t, err, &netErr, "all was taken")
	require.True(a.t, netErr.Timeout())
	a.t.Logf("%d KiB were taken before TCP pushed back", written*len(packet)>>10)
	free()
	o.cl.Quit()
	peer.Done(a.t, o.quit)
}

// silentServer has servers stop sending. The client notices after its PingInterval, which is 10 seconds at least, or after
// the 10 seconds that Close waits: all of them do at the same time.
func silentServer(a *abuse) {
	if testing.Short() {
		a.start(&websocket.ServerOptions{})
		a.t.Log("left out: it takes 10 seconds and more")
		return
	}
	silence := scale(peer.SilenceTimeout)
	a.start(&websocket.ServerOptions{})
	start := time.Now()
	var opened []*openedClient
	for _, part := range []string{"", "\x82", "\x82\x7e", "\x82\x7f\x00\x00\x00", "\x82\x05ab", "\x01\x02ab", "\x01\x02ab\x80", "\x89\x02a", "\x88\x02"} {
		o := a.openClient(func(cl *websocket.Client) { cl.SilenceTimeout = silence })
		o.Send([]byte(part))
		opened = append(opened, o)
	}
	closing := a.openClient(nil)
	closed := make(chan error, 1)
	go func() { closed <- closing.cl.Close() }()
	for _, o := range opened {
		get(a.t, o.quit, peer.MinPingInterval+silence)
		err := o.cl.Err()
		require.ErrorContains(a.t, err, "silent")
		require.ErrorIs(a.t, err, websocket.ErrConnClosed)
	}
	require.EqualError(a.t, peer.Get(a.t, closed), "websocket: server did not answer the close frame")
	peer.Done(a.t, closing.quit)
	took := time.Since(start)
	assert.Less(a.t, took, peer.MinPingInterval+silence+timeLimit(3*time.Second))
}
