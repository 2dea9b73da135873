//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

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
)

// In these rows it is our Client that is attacked, by a server that is written by hand. The well-behaved client has its echoes
// from a server in the same process meanwhile.

// abuseClient makes a client that tells on a channel when its connection has ended.
func (a *abuse) abuseClient() (cl *Client, quit <-chan struct{}) {
	ch := make(chan struct{})
	return &Client{
		Logger:     a.slog(),
		HandleQuit: func() { close(ch) },
		HandleText: func(*Client, *Frame) error { return nil },
		HandleBin:  func(*Client, *Frame) error { return nil },
	}, ch
}

// abuseOpened is a client that is connected to a hostile server.
type abuseOpened struct {
	*scriptedConn
	cl   *Client
	quit <-chan struct{}
}

func (a *abuse) abuseOpen(change func(*Client)) *abuseOpened {
	a.t.Helper()
	cl, quit := a.abuseClient()
	if change != nil {
		change(cl)
	}
	c := scriptedOpen(a.t, cl)
	c.conn.SetDeadline(time.Now().Add(2 * abuseWait))
	return &abuseOpened{c, cl, quit}
}

// closedWith waits for the end of the client's connection, and checks the code that the client has closed it with.
func (o *abuseOpened) closedWith(code CloseCode) {
	o.t.Helper()
	rawDone(o.t, o.quit)
	var ended *CloseError
	require.ErrorAs(o.t, o.cl.Err(), &ended)
	require.Equal(o.t, code, ended.Code, "%v", ended)
	require.NotEmpty(o.t, ended.Reason)
}

func TestAbuseClient(t *testing.T) {
	abuseRun(t, []abuseRow{
		{name: "answers to the handshake that accept nothing give an error that names the cause", attack: abuseBadAnswers},
		{name: "endless answers to the handshake end at the limit", attack: abuseEndlessAnswers},
		{name: "a handshake that stops anywhere ends at the time-out", attack: abuseSilentAnswers},
		{name: "line ends in header fields, their names or the endpoint never leave the client", attack: abuseSplitRequests},
		{name: "frames that claim a GiB and more are refused from their header", attack: func(a *abuse) {
			a.start(&ServerOptions{})
			a.bounded(8 << 20)
			for _, row := range []struct {
				length uint64
				code   CloseCode
			}{
				{16<<20 + 1, StatusRequestEntityTooLarge}, {1 << 30, StatusRequestEntityTooLarge}, {1<<63 - 1, StatusRequestEntityTooLarge},
				{1 << 63, StatusBadRequest}, {math.MaxUint64, StatusBadRequest},
			} {
				o := a.abuseOpen(nil)
				head := abuseHead(bitFin|byte(OpcodeBin), row.length)
				head[1] &^= bitMasked
				o.send(head[:10])
				code, _ := o.readClose()
				require.Equal(a.t, row.code, code)
				o.conn.Close()
				o.closedWith(row.code)
			}
		}},
		{name: "frames that break the rules end the connection with their code", attack: abuseBadFrames},
		{name: "a message of a million empty fragments ends at the limit of fragments", attack: func(a *abuse) {
			a.start(&ServerOptions{})
			a.bounded(8 << 20)
			o := a.abuseOpen(nil)
			wrote := make(chan struct{})
			go func() {
				o.conn.Write([]byte{byte(OpcodeBin), 0})
				abuseFlood(o.conn, []byte{byte(OpcodeCont), 0}, 1_000_000)
				close(wrote)
			}()
			code, _ := o.readClose()
			require.EqualValues(a.t, StatusRequestEntityTooLarge, code)
			o.closedWith(StatusRequestEntityTooLarge)
			rawDone(a.t, wrote)
		}},
		{name: "64 MiB of Pings from a server that does not read cost no memory", attack: func(a *abuse) {
			a.start(&ServerOptions{})
			a.bounded(8 << 20)
			o := a.abuseOpen(func(cl *Client) { cl.WriteTimeout = 2 * abuseWait })
			ping := NewFramePing(false, bytes.Repeat([]byte("p"), maxControl))
			_, err := abuseFlood(o.conn, ping, 64<<20/len(ping))
			require.NoError(a.t, err)
			o.send(NewFramePing(false, []byte("last")))
			pongs := 1
			for ; ; pongs++ {
				f := o.read()
				if f.opcode == OpcodePing {
					continue // the client's own
				}
				require.Equal(a.t, OpcodePong, f.opcode)
				if string(f.payload) == "last" {
					break
				}
			}
			a.t.Logf("%d Pings, %d Pongs", 64<<20/len(ping)+1, pongs)
		}},
		{name: "a flood of messages waits for a slow handler in bounded memory, and TCP pushes back", attack: abuseFloodedClient},
		{name: "a server that reads nothing lets no Send wait for longer than the write time-out", attack: func(a *abuse) {
			a.start(&ServerOptions{})
			o := a.abuseOpen(func(cl *Client) { cl.WriteTimeout = abuseScale(defaultWriteTimeout) })
			payload := rawPattern(1<<20, 1)
			var err error
			for start := time.Now(); err == nil && time.Since(start) < abuseWait; {
				err = o.cl.SendBin(payload)
			}
			require.ErrorIs(a.t, err, ErrWriteTimeout)
			rawDone(a.t, o.quit)
			require.ErrorIs(a.t, o.cl.Err(), ErrWriteTimeout)
			require.ErrorIs(a.t, o.cl.SendBin(payload), ErrConnClosed)
		}},
		{name: "a server that goes on sending after the Close frame is cut off", attack: func(a *abuse) {
			a.start(&ServerOptions{})
			a.bounded(16 << 20)
			for _, first := range [][]byte{NewFrameClose(false, StatusNormal, nil), {0xFF, 0xFF}} {
				o := a.abuseOpen(nil)
				o.send(first)
				start := time.Now()
				_, err := abuseFlood(o.conn, NewFrameBin(false, rawPattern(1000, 1)), 1<<30) // a TiB
				require.Error(a.t, err)
				assert.Less(a.t, time.Since(start), maxDrainTime+abuseTime(2*time.Second))
				rawDone(a.t, o.quit)
				require.Error(a.t, o.cl.Err())
			}
		}},
		{name: "silence in a header, a payload, a message, and instead of a Close frame ends the connection", attack: abuseSilentServer},
		{name: "handlers of the client that panic end its connection", logs: []string{"websocket: client handler panicked"}, attack: func(a *abuse) {
			a.start(&ServerOptions{})
			o := a.abuseOpen(func(cl *Client) { cl.HandleText = func(*Client, *Frame) error { panic("handler of the test") } })
			o.send(NewFrameText(false, []byte("x")))
			code, _ := o.readClose()
			require.EqualValues(a.t, StatusBadRequest, code)
			o.conn.Close()
			o.closedWith(StatusBadRequest)
		}},
	})
}

// abuseAnswerWith has a client connect to a server that writes an answer, made from the right one, and closes.
func (a *abuse) abuseAnswerWith(cl *Client, answer func(right string) string) error {
	a.t.Helper()
	s := scriptedListen(a.t)
	cl.Endpoint = s.endpoint()
	connected := scriptedConnect(cl)
	c := s.accept()
	io.WriteString(c.conn, answer(string(c.answer())))
	c.conn.(*net.TCPConn).CloseWrite()
	err := scriptedWait(a.t, connected)
	c.conn.Close()
	s.ln.Close()
	return err
}

func abuseBadAnswers(a *abuse) {
	a.start(&ServerOptions{})
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
		cl, _ := a.abuseClient()
		err := a.abuseAnswerWith(cl, row.answer)
		require.ErrorContains(a.t, err, row.cause)
		require.ErrorContains(a.t, err, "websocket: ")
		require.ErrorIs(a.t, cl.SendText([]byte("x")), ErrConnClosed)
		require.True(a.t, isFieldValue(err.Error()), "%q", err)
	}
}

func abuseEndlessAnswers(a *abuse) {
	a.start(&ServerOptions{})
	a.bounded(8 << 20)
	for _, again := range []string{"X: y\r\n", "y", "HTTP/1.1 101 ", "\x00", " ", "\r", "\n"} {
		for _, begin := range []string{"", "HTTP/1.1 101 Switching Protocols\r\n", "HTTP/1.1 101 Switching Protocols\r\nX: "} {
			cl, _ := a.abuseClient()
			s := scriptedListen(a.t)
			cl.Endpoint = s.endpoint()
			connected := scriptedConnect(cl)
			c := s.accept()
			io.WriteString(c.conn, begin)
			_, err := abuseFlood(c.conn, []byte(again), 1<<30/len(again))
			require.Error(a.t, err, "%q: the client reads on", again)
			require.ErrorContains(a.t, scriptedWait(a.t, connected), "websocket: handshake: answer: ", "%q", again)
			s.ln.Close()
		}
	}
}

func abuseSilentAnswers(a *abuse) {
	timeout := abuseScale(defaultHandshakeTimeout)
	a.start(&ServerOptions{})
	parts := []int{0, 1, 12, 40, 80, 120} // bytes of the answer
	listeners := make([]*scriptedServer, len(parts))
	clients := make([]*Client, len(parts))
	for i := range parts {
		listeners[i] = scriptedListen(a.t)
		clients[i], _ = a.abuseClient()
		clients[i].Endpoint, clients[i].HandshakeTimeout = listeners[i].endpoint(), timeout
	}
	clients[0].Endpoint = strings.Replace(clients[0].Endpoint, "ws:", "wss:", 1) // and one that waits for TLS
	start := time.Now()
	results := make(chan error, len(parts))
	for i, cl := range clients {
		go func() {
			conn, err := listeners[i].ln.Accept()
			if err == nil {
				defer conn.Close()
				io.WriteString(conn, rawAccepted[:parts[i]])
				io.Copy(io.Discard, conn)
			}
		}()
		go func() { results <- cl.Connect() }()
	}
	for range clients {
		err := rawGet(a.t, results)
		require.ErrorContains(a.t, err, "websocket: handshake: ")
		var netErr net.Error
		require.ErrorAs(a.t, err, &netErr)
		require.True(a.t, netErr.Timeout(), "%v", err)
	}
	assert.Less(a.t, time.Since(start), timeout+abuseTime(2*time.Second))
	// One that sends a byte per second does not last any longer.
	s := scriptedListen(a.t)
	cl, _ := a.abuseClient()
	cl.Endpoint, cl.HandshakeTimeout = s.endpoint(), timeout
	start = time.Now()
	connected := scriptedConnect(cl)
	c := s.accept()
	done := make(chan struct{})
	defer close(done)
	go abuseTrickle(c.conn, strings.Repeat("y", 1000), done)
	require.ErrorContains(a.t, scriptedWait(a.t, connected), "timeout")
	assert.Less(a.t, time.Since(start), timeout+abuseTime(2*time.Second))
}

// abuseSplitRequests has the program's own values carry lines into the request.
func abuseSplitRequests(a *abuse) {
	a.start(&ServerOptions{})
	const evil = "\r\nEvil: 1"
	for i, change := range []func(cl *Client){
		func(cl *Client) { cl.Headers = http.Header{"X": {"y" + evil}} },
		func(cl *Client) { cl.Headers = http.Header{"X": {"ok", "y\nEvil: 1"}} },
		func(cl *Client) { cl.Headers = http.Header{"X": {"y\rEvil: 1"}} },
		func(cl *Client) { cl.Headers = http.Header{"X: y" + evil + "\r\nZ": {"y"}} },
		func(cl *Client) { cl.Headers = http.Header{"": {"y"}} },
		func(cl *Client) { cl.Headers = http.Header{"X": {"\x00"}} },
		func(cl *Client) { cl.Endpoint += evil },
		func(cl *Client) { cl.Endpoint += "?x=y HTTP/1.1" + evil + "\r\nX: " },
		func(cl *Client) { cl.Endpoint += "?a b" },
		func(cl *Client) { cl.Endpoint += "%0d%0aEvil:%201" },
		func(cl *Client) { cl.Endpoint += "a b\tc" },
		func(cl *Client) {
			cl.Endpoint = strings.Replace(cl.Endpoint, "ws://", "ws://user:pa%0d%0aEvil:%201@", 1)
		},
		func(cl *Client) {
			cl.Headers = http.Header{"Host": {"evil"}, "Upgrade": {"evil"}, "sec-websocket-key": {"evil"}}
		},
	} {
		s := scriptedListen(a.t)
		cl, _ := a.abuseClient()
		cl.Endpoint = s.endpoint()
		cl.HandshakeTimeout = abuseScale(defaultHandshakeTimeout)
		change(cl)
		got := make(chan string, 1)
		go func() {
			conn, err := s.ln.Accept()
			if err != nil {
				got <- ""
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(abuseWait))
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
		s.ln.Close()
		request := rawGet(a.t, got)
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

func abuseBadFrames(a *abuse) {
	a.start(&ServerOptions{})
	for _, row := range []struct {
		name  string
		bytes []byte
		code  CloseCode
	}{
		{"masked text", NewFrameText(true, []byte("x")), StatusBadRequest},
		{"masked ping", NewFramePing(true, nil), StatusBadRequest},
		{"masked close", NewFrameClose(true, StatusNormal, nil), StatusBadRequest},
		{"reserved bit", []byte{0xC1, 0}, StatusBadRequest},
		{"reserved opcode", []byte{0x83, 0}, StatusBadRequest},
		{"reserved control opcode", []byte{0x8B, 0}, StatusBadRequest},
		{"fragmented ping", []byte{0x09, 0}, StatusBadRequest},
		{"long ping", []byte{0x89, 126, 0, 126}, StatusBadRequest},
		{"continuation of nothing", []byte{0x80, 0}, StatusBadRequest},
		{"message in a message", []byte{0x01, 0, 0x81, 0}, StatusBadRequest},
		{"long length", []byte{0x81, 126, 0, 5}, StatusBadRequest},
		{"close of one byte", []byte{0x88, 1, 3}, StatusBadRequest},
		{"close with 1005", []byte{0x88, 2, 3, 0xED}, StatusBadRequest},
		{"text that is not UTF-8", []byte{0x81, 2, 'a', 0xFF}, StatusInvalidData},
		{"and unfinished", []byte{0x01, 100, 'a', 0xFF}, StatusInvalidData},
		{"an HTTP answer", []byte("HTTP/1.1 200 OK\r\n\r\n"), StatusBadRequest},
	} {
		o := a.abuseOpen(nil)
		o.send(row.bytes)
		code, reason := o.readClose()
		assert.Equal(a.t, row.code, code, row.name)
		assert.NotEmpty(a.t, reason, row.name)
		o.conn.Close()
		o.closedWith(row.code)
	}
}

func abuseFloodedClient(a *abuse) {
	a.start(&ServerOptions{})
	a.bounded(16 << 20)
	const size, n = 1000, 200_000
	release := make(chan struct{})
	o := a.abuseOpen(func(cl *Client) {
		cl.HandleBin = func(*Client, *Frame) error { <-release; return nil }
	})
	free := rawRelease(a.t, release)
	o.conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
	packet := NewFrameBin(false, rawPattern(size, 1))
	o.conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	written, err := abuseFlood(o.conn, packet, n)
	var netErr net.Error
	require.ErrorAs(a.t, err, &netErr, "all was taken")
	require.True(a.t, netErr.Timeout())
	a.t.Logf("%d KiB were taken before TCP pushed back", written*len(packet)>>10)
	free()
	o.cl.Quit()
	rawDone(a.t, o.quit)
}

// abuseSilentServer has servers stop sending. The client notices after its PingInterval, which is 10 seconds at least, or after
// the 10 seconds that Close waits: all of them do at the same time.
func abuseSilentServer(a *abuse) {
	if testing.Short() {
		a.start(&ServerOptions{})
		a.t.Log("left out: it takes 10 seconds and more")
		return
	}
	silence := abuseScale(defaultSilenceTimeout)
	a.start(&ServerOptions{})
	start := time.Now()
	var opened []*abuseOpened
	for _, part := range []string{"", "\x82", "\x82\x7e", "\x82\x7f\x00\x00\x00", "\x82\x05ab", "\x01\x02ab", "\x01\x02ab\x80", "\x89\x02a", "\x88\x02"} {
		o := a.abuseOpen(func(cl *Client) { cl.SilenceTimeout = silence })
		o.send([]byte(part))
		opened = append(opened, o)
	}
	closing := a.abuseOpen(nil)
	closed := make(chan error, 1)
	go func() { closed <- closing.cl.Close() }()
	for _, o := range opened {
		abuseGet(a.t, o.quit, minPingInterval+silence)
		err := o.cl.Err()
		require.ErrorContains(a.t, err, "silent")
		require.ErrorIs(a.t, err, ErrConnClosed)
	}
	require.ErrorIs(a.t, rawGet(a.t, closed), errNoAnswer)
	rawDone(a.t, closing.quit)
	took := time.Since(start)
	assert.Less(a.t, took, minPingInterval+silence+abuseTime(3*time.Second))
}
