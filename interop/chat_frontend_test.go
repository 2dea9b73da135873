package interop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// maxDelayed is how many pieces may be on their way through one direction of a frontend.
const maxDelayed = 1000

// frontend is a proxy in front of the two servers of the chat, and the network between it and a browser: it sends opening handshakes
// to one and all else to the other, it can be slow, and it can die and come back.
type frontend struct {
	url      string // of its clients
	listener net.Listener
	up, down *gate // to and from the servers

	mu       sync.Mutex
	page, ws string                // addresses of the servers; guarded by mu
	delay    time.Duration         // of each direction; guarded by mu
	conns    map[net.Conn]struct{} // nil: the frontend has ended; guarded by mu
	running  sync.WaitGroup
}

// startFrontend starts a frontend, with TLS or without, until the end of the test.
func startFrontend(t *testing.T, config *tls.Config) *frontend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &frontend{url: "http://" + ln.Addr().String(), up: newGate(), down: newGate(), conns: make(map[net.Conn]struct{})}
	if config != nil {
		ln, r.url = tls.NewListener(ln, config), "https://"+ln.Addr().String()
	}
	r.listener = ln
	r.running.Go(r.accept)
	t.Cleanup(func() {
		ln.Close()
		r.up.open()
		r.down.open()
		r.cut()
		r.mu.Lock()
		rest := r.conns
		r.conns = nil
		r.mu.Unlock()
		for c := range rest {
			c.Close()
		}
		r.running.Wait()
	})
	return r
}

// leadTo names the servers behind the frontend.
func (r *frontend) leadTo(page, ws string, delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.page, r.ws, r.delay = page, ws, delay
}

// die stops all traffic, and tells nobody: new connections are accepted by the system, and that is all.
func (r *frontend) die() {
	r.up.shut()
	r.down.shut()
}

// revive lets new connections through. The old ones are lost with what they held.
func (r *frontend) revive() {
	r.cut()
	r.up.open()
	r.down.open()
}

// cut closes all connections.
func (r *frontend) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
}

// keep remembers a connection until forget. It reports false if the frontend has ended.
func (r *frontend) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		c.Close()
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *frontend) forget(c net.Conn) {
	c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

func (r *frontend) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.running.Go(func() {
			if r.keep(client) {
				defer r.forget(client)
				r.serve(client)
			}
		})
	}
}

// serve passes on what comes over one connection of a client. Its first request decides which server it is for.
func (r *frontend) serve(client net.Conn) {
	head, err := readHead(client)
	if err != nil {
		return
	}
	r.mu.Lock()
	address, delay := r.page, r.delay
	if bytes.Contains(bytes.ToLower(head), []byte("upgrade: websocket")) {
		address = r.ws
	}
	r.mu.Unlock()
	server, err := net.Dial("tcp", address)
	if err != nil || !r.keep(server) {
		return
	}
	defer r.forget(server)
	var both sync.WaitGroup
	both.Go(func() { passOn(server, io.MultiReader(bytes.NewReader(head), client), r.up, delay, client) })
	both.Go(func() { passOn(client, server, r.down, delay, server) })
	both.Wait()
}

// readHead reads until the end of a request's head, and perhaps more.
func readHead(c net.Conn) (head []byte, err error) {
	for !bytes.Contains(head, []byte("\r\n\r\n")) {
		if len(head) > limit {
			return nil, errors.New("a head without end")
		}
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		head = append(head, buf[:n]...)
	}
	return head, nil
}

// passOn copies from one connection to another until one has ended, then ends both.
func passOn(to net.Conn, from io.Reader, through *gate, delay time.Duration, source net.Conn) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, maxDelayed)
	go func() {
		defer close(pieces)
		for {
			buf := make([]byte, 16<<10)
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			pieces <- piece{buf[:n], time.Now().Add(delay)}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due)) // this is the length of the line
		through.wait()
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	to.Close()
	source.Close()
	for range pieces { // until the reader has ended
	}
}

// gate is what all pieces of one direction go through.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open; guarded by mu
}

func newGate() *gate {
	opened := make(chan struct{})
	close(opened)
	return &gate{opened: opened}
}

func (g *gate) state() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened
}

func (g *gate) wait() { <-g.state() }

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
		g.opened = make(chan struct{})
	default:
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}
