// Package figures measures what the README says of the package.
package figures

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// The figures that the README gives are measured here: each benchmark is one scenario, run once (-benchtime 1x), and reports
// what it saw. See "make figures".

func TestMain(m *testing.M) { peer.Main(m) }

// server starts a server for a scenario.
func server(b *testing.B, opts *websocket.ServerOptions) (serv *websocket.Server, address string) {
	b.Helper()
	serv = websocket.NewServer(opts)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- serv.Serve(ln) }()
	b.Cleanup(func() {
		serv.Stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return serv, ln.Addr().String()
}

// figureClient is a client that does no more than it must, so that it does not disturb the measurement.
type figureClient struct {
	net.Conn
	in *bufio.Reader
}

func dial(address string) (c *figureClient, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c = &figureClient{conn, bufio.NewReaderSize(conn, 512)}
	return c, c.shake()
}

func (c *figureClient) shake() error {
	if _, err := io.WriteString(c, peer.Request); err != nil {
		return err
	}
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return err
		}
		if line == "\r\n" {
			return nil
		}
	}
}

func mustDial(b *testing.B, address string) *figureClient {
	b.Helper()
	c, err := dial(address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// readMessage reads one unmasked frame and returns its payload.
func (c *figureClient) readMessage() (payload []byte, err error) {
	for {
		b, err := c.in.Peek(2)
		if err != nil {
			return nil, err
		}
		opcode, size, length := websocket.Opcode(b[0]&0xF), 2, uint64(b[1])
		switch length {
		case peer.Length16:
			size = 4
		case peer.Length64:
			size = 10
		}
		if b, err = c.in.Peek(size); err != nil {
			return nil, err
		}
		switch size {
		case 4:
			length = uint64(binary.BigEndian.Uint16(b[2:]))
		case 10:
			length = binary.BigEndian.Uint64(b[2:])
		}
		c.in.Discard(size)
		payload = make([]byte, length)
		if _, err = io.ReadFull(c.in, payload); err != nil || opcode < websocket.OpcodeClose {
			return payload, err
		}
	}
}

// echo sends a text and waits for it to come back.
func (c *figureClient) echo(text string) error {
	if _, err := c.Write(websocket.NewFrameText(true, []byte(text))); err != nil {
		return err
	}
	payload, err := c.readMessage()
	if err == nil && string(payload) != text {
		err = fmt.Errorf("got %q for %q", payload, text)
	}
	return err
}

// echoes measures n echoes, one after the other.
func (c *figureClient) echoes(n int) (took []time.Duration, err error) {
	for i := range n {
		start := time.Now()
		if err = c.echo(strconv.Itoa(i)); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func sendBack(conn int, payload []byte) { websocket.Send(conn, websocket.NewFrameText(false, payload)) }

func residentBytes(b *testing.B) int64 {
	b.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("needs /proc")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func descriptorCount(b *testing.B) int {
	b.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		b.Skip("needs /proc")
	}
	return len(entries)
}

// 64 handlers never return; how long do echoes on another connection take?
func BenchmarkBlockedHandlers(b *testing.B) {
	for range b.N {
		release := make(chan struct{})
		var blocked sync.WaitGroup
		blocked.Add(64)
		_, address := server(b, &websocket.ServerOptions{HandleText: func(conn int, payload []byte) {
			if string(payload) == "block" {
				blocked.Done()
				<-release
			}
			sendBack(conn, payload)
		}})
		for range 64 {
			if _, err := mustDial(b, address).Write(websocket.NewFrameText(true, []byte("block"))); err != nil {
				b.Fatal(err)
			}
		}
		c := mustDial(b, address)
		first, err := c.echoes(200) // while the handlers are getting stuck
		if err != nil {
			b.Fatal(err)
		}
		blocked.Wait()
		took, err := c.echoes(5000)
		if err != nil {
			b.Fatal(err)
		}
		close(release)
		b.ReportMetric(milliseconds(took[len(took)*99/100]), "ms-p99")
		b.ReportMetric(milliseconds(took[len(took)-1]), "ms-max")
		b.ReportMetric(milliseconds(first[len(first)*99/100]), "ms-p99-at-first")
	}
}

// 1,000 connections send one message each, whose handlers sleep 20 ms; how long until all are answered?
func BenchmarkSleepingHandlers(b *testing.B) {
	_, address := server(b, &websocket.ServerOptions{HandleText: func(conn int, payload []byte) {
		time.Sleep(20 * time.Millisecond)
		sendBack(conn, payload)
	}})
	conns := make([]*figureClient, 1000)
	for i := range conns {
		conns[i] = mustDial(b, address)
	}
	for range b.N {
		packet := websocket.NewFrameText(true, []byte("hello"))
		start := time.Now()
		for _, c := range conns {
			if _, err := c.Write(packet); err != nil {
				b.Fatal(err)
			}
		}
		for _, c := range conns {
			if _, err := c.readMessage(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(milliseconds(time.Since(start)), "ms-all")
	}
}

// A client reads nothing while 300 MiB are sent to it, first without waiting, then waiting.
func BenchmarkDeafClient(b *testing.B) {
	const packetSize = 64 << 10
	for range b.N {
		added := make(chan int, 2)
		_, address := server(b, &websocket.ServerOptions{
			HandleText:      sendBack,
			HandleClientAdd: func(_ context.Context, conn int) { added <- conn },
		})
		mustDial(b, address)
		deaf := <-added
		other := mustDial(b, address)
		<-added
		var stop atomic.Bool
		echoed := make(chan []time.Duration)
		go func() {
			var all []time.Duration
			for !stop.Load() {
				took, err := other.echoes(100)
				if err != nil {
					b.Error(err)
					break
				}
				all = append(all, took...)
			}
			slices.Sort(all)
			echoed <- all
		}()
		packet := websocket.NewFrameBin(false, make([]byte, packetSize))
		runtime.GC()
		before := residentBytes(b)
		longest, refused := time.Duration(0), 0
		for range 300 << 20 / packetSize {
			start := time.Now()
			if websocket.TrySend(deaf, packet) != nil {
				refused++
			}
			longest = max(longest, time.Since(start))
		}
		grown := residentBytes(b) - before
		var err error
		var waited time.Duration
		for err == nil { // the system takes a little more at first
			start := time.Now()
			err = websocket.Send(deaf, packet)
			waited = max(waited, time.Since(start))
		}
		after := websocket.Send(deaf, packet)
		stop.Store(true)
		all := <-echoed
		b.Logf("Send: %v; Send after that: %v", err, after)
		b.ReportMetric(milliseconds(longest), "ms-longest-TrySend")
		b.ReportMetric(float64(refused), "refused")
		b.ReportMetric(waited.Seconds(), "s-longest-Send")
		b.ReportMetric(float64(grown)/(1<<20), "MiB-grown")
		b.ReportMetric(milliseconds(all[len(all)*99/100]), "ms-p99-of-other")
		b.ReportMetric(float64(len(all)), "echoes-of-other")
	}
}

// A routed request sleeps 5 s; how long does the next one of the same connection take?
func BenchmarkSlowRequest(b *testing.B) {
	serv, address := server(b, new(websocket.ServerOptions))
	serv.RegisterTextHandler("GET", "/slow", func(context.Context, *websocket.Request) websocket.Response {
		time.Sleep(5 * time.Second)
		return websocket.Response{Code: 200}
	})
	serv.RegisterTextHandler("GET", "/fast", func(context.Context, *websocket.Request) websocket.Response { return websocket.Response{Code: 200} })
	c := mustDial(b, address)
	for range b.N {
		start := time.Now()
		for i, target := range []string{"/slow", "/fast"} {
			request := fmt.Sprintf(`{"id":%d,"method":"GET","target":%q}`, i+1, target)
			if _, err := c.Write(websocket.NewFrameText(true, []byte(request))); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := c.readMessage(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(milliseconds(time.Since(start)), "ms-fast")
		if _, err := c.readMessage(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(milliseconds(time.Since(start)), "ms-slow")
	}
}

// 10,000 connections come and go, half of them with a reset.
func BenchmarkChurn(b *testing.B) {
	const connections = 10000
	for range b.N {
		goroutines, descriptorsBefore := runtime.NumGoroutine(), descriptorCount(b)
		var adds, removes atomic.Int64
		serv := websocket.NewServer(&websocket.ServerOptions{
			HandleText:         sendBack,
			HandleClientAdd:    func(context.Context, int) { adds.Add(1) },
			HandleClientRemove: func(context.Context, int) { removes.Add(1) },
		})
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- serv.Serve(ln) }()
		var clients sync.WaitGroup
		for worker := range 16 {
			clients.Go(func() {
				for i := range connections / 16 {
					c, err := dial(ln.Addr().String())
					if err != nil {
						b.Error(err)
						return
					}
					if err = c.echo("hello"); err != nil {
						b.Error(err)
					}
					if (i+worker)%2 == 0 {
						c.Conn.(*net.TCPConn).SetLinger(0)
					} else {
						c.Write(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
						c.readMessage()
					}
					c.Close()
				}
			})
		}
		clients.Wait()
		serv.Stop()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
			runtime.Gosched()
		}
		b.ReportMetric(float64(adds.Load()), "adds")
		b.ReportMetric(float64(removes.Load()), "removes")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines-left")
		b.ReportMetric(float64(descriptorCount(b)-descriptorsBefore), "descriptors-left")
	}
}

// What an idle connection costs the server process, after one echo, with a context, a user id and its ClientManager entry.
// The clients are in this process, the server is in a child: this test binary, run again.
func BenchmarkIdleConnection(b *testing.B) { idleConnections(b, "own", 2000, 10000) }

// BenchmarkIdleAdopted is the same for connections that ServeHTTP takes over from net/http.
func BenchmarkIdleAdopted(b *testing.B) { idleConnections(b, "adopted", 2000, 10000) }

// BenchmarkIdleBridged is the same for connections over the TLS of net/http, and BenchmarkIdleTLS for what such a connection costs
// when nothing but net/http has it, which waits for a request.
func BenchmarkIdleBridged(b *testing.B) { idleConnections(b, "bridged", 1000, 4000) }
func BenchmarkIdleTLS(b *testing.B)     { idleConnections(b, "tls", 1000, 4000) }

func idleConnections(b *testing.B, way string, few, many int) {
	for range b.N {
		child := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkIdleServer$", "-test.benchtime=1x")
		child.Env = append(os.Environ(), "WEBSOCKET_IDLE_SERVER="+way)
		child.Stderr = os.Stderr
		stdin, _ := child.StdinPipe()
		stdout, _ := child.StdoutPipe()
		if err := child.Start(); err != nil {
			b.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		read := func(name string) string {
			for lines.Scan() {
				if _, value, ok := strings.Cut(lines.Text(), name+"="); ok {
					return value
				}
			}
			b.Fatal("server has gone")
			return ""
		}
		measure := func() (resident, goroutines float64) {
			fmt.Fprintln(stdin, "measure")
			resident, _ = strconv.ParseFloat(read("resident"), 64)
			goroutines, _ = strconv.ParseFloat(read("goroutines"), 64)
			return resident, goroutines
		}
		address := read("address")
		var conns []*figureClient
		open := func(n int) {
			for len(conns) < n {
				c, err := dialIdle(address, way)
				if err != nil {
					b.Fatal(err)
				}
				c.in = nil
				conns = append(conns, c)
			}
		}
		open(few)
		residentFew, _ := measure()
		open(many)
		residentMany, goroutines := measure()
		b.ReportMetric((residentMany-residentFew)/float64(many-few), "B/conn")
		b.ReportMetric(goroutines, "goroutines")
		b.ReportMetric(residentMany/(1<<20), "MiB-in-all")
		stdin.Close()
		for _, c := range conns {
			c.Close()
		}
		child.Wait()
	}
}

// dialIdle connects and exchanges one message.
func dialIdle(address, way string) (c *figureClient, err error) {
	if way == "own" || way == "adopted" {
		if c, err = dial(address); err != nil {
			return nil, err
		}
		return c, c.echo("hello")
	}
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	c = &figureClient{conn, bufio.NewReaderSize(conn, 512)}
	if way == "tls" {
		fmt.Fprintf(c, "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
		_, err = http.ReadResponse(c.in, nil)
		return c, err
	}
	if err = c.shake(); err != nil {
		return nil, err
	}
	return c, c.echo("hello")
}

// BenchmarkIdleServer is the server of those.
func BenchmarkIdleServer(b *testing.B) {
	way := os.Getenv("WEBSOCKET_IDLE_SERVER")
	if way == "" {
		b.Skip("is run by BenchmarkIdleConnection")
	}
	var users atomic.Uint64
	opts := &websocket.ServerOptions{
		HandleAuth: func(*websocket.Handshake) (context.Context, error) {
			return context.WithValue(context.Background(), websocket.CtxKeyUID, users.Add(1)), nil
		},
		HandleText: sendBack,
	}
	var address string
	if way == "own" {
		_, address = server(b, opts)
	} else {
		serv := websocket.NewServer(opts)
		mux := http.NewServeMux()
		mux.Handle("/{$}", serv)
		hs := httptest.NewUnstartedServer(mux)
		if way == "adopted" {
			hs.Start()
		} else {
			hs.StartTLS()
		}
		b.Cleanup(hs.Close)
		b.Cleanup(serv.Stop)
		address = hs.Listener.Addr().String()
	}
	fmt.Println("address=" + address)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		debug.FreeOSMemory()
		fmt.Printf("resident=%d\ngoroutines=%d\n", residentBytes(b), runtime.NumGoroutine())
	}
}
