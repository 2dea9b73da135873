package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

// The simulated network: what happens to a piece of data, in one of so many cases.
const (
	proxyBuffer  = 16 << 10
	proxySocket  = 64 << 10
	maxDelay     = 10 * time.Millisecond
	splitIn      = 3
	stallIn      = 1000
	maxStall     = 2 * time.Second
	resetIn      = 5000
	idParameter  = "?id="
	proxyStreams = 1 << 32 // the random numbers of connections are streams from here on
)

// cutList knows the sessions whose connection the network has reset.
type cutList struct {
	mu  sync.Mutex
	ids map[uint32]bool // guarded by mu
}

func (l *cutList) add(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ids == nil {
		l.ids = make(map[uint32]bool)
	}
	l.ids[id] = true
}

func (l *cutList) has(id uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[id]
}

// startProxy puts a bad network before a server and returns its address. It lasts as long as the process.
func (d *driver) startProxy(server string) (address string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for stream := uint64(proxyStreams); ; stream += 2 {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go d.relay(client, server, stream)
		}
	}()
	return ln.Addr().String(), nil
}

// relayed is one connection through the proxy.
type relayed struct {
	d              *driver
	client, server net.Conn

	mu sync.Mutex
	id uint32 // of the session, once it has said so; guarded by mu
}

func (d *driver) relay(client net.Conn, address string, stream uint64) {
	server, err := dialTCP(address)
	if err != nil {
		client.Close()
		return
	}
	for _, conn := range []net.Conn{client, server} {
		if tcp, ok := conn.(*net.TCPConn); ok { // a network holds little
			tcp.SetReadBuffer(proxySocket)
			tcp.SetWriteBuffer(proxySocket)
		}
	}
	r := &relayed{d: d, client: client, server: server}
	var both sync.WaitGroup
	both.Go(func() { r.pump(server, client, rand.New(rand.NewPCG(d.cfg.seed, stream))) })
	both.Go(func() { r.pump(client, server, rand.New(rand.NewPCG(d.cfg.seed, stream+1))) })
	both.Wait()
	client.Close()
	server.Close()
}

// pump carries what comes from one side to the other, badly.
func (r *relayed) pump(to, from net.Conn, rng *rand.Rand) {
	buf := make([]byte, proxyBuffer)
	for {
		n, err := from.Read(buf)
		r.learn(from, buf[:n])
		for piece := buf[:n]; len(piece) > 0; {
			m := len(piece)
			if rng.IntN(splitIn) == 0 {
				m = 1 + rng.IntN(m)
			}
			time.Sleep(delay(rng))
			if rng.IntN(resetIn) == 0 && r.cut() {
				return
			}
			if _, err := to.Write(piece[:m]); err != nil {
				resetTCP(from)
				return
			}
			piece = piece[m:]
		}
		if err != nil {
			r.pass(to, err)
			return
		}
	}
}

func delay(rng *rand.Rand) time.Duration {
	if rng.IntN(stallIn) == 0 {
		return time.Duration(rng.Int64N(int64(maxStall)))
	}
	return time.Duration(rng.Int64N(int64(maxDelay)))
}

// pass tells one side how the other has ended.
func (r *relayed) pass(to net.Conn, err error) {
	if tcp, ok := to.(*net.TCPConn); ok && err == io.EOF {
		tcp.CloseWrite()
		return
	}
	resetTCP(to)
}

// learn finds the session in the client's first bytes.
func (r *relayed) learn(from net.Conn, b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from != r.client || r.id != 0 {
		return
	}
	if _, after, found := bytes.Cut(b, []byte(idParameter)); found {
		digits, _, _ := bytes.Cut(after, []byte("&"))
		id, _ := strconv.ParseUint(string(digits), 10, 32)
		r.id = uint32(id)
	}
}

// cut resets both sides. A connection of a session that is not known is left alone.
func (r *relayed) cut() bool {
	r.mu.Lock()
	id := r.id
	r.mu.Unlock()
	if id == 0 {
		return false
	}
	r.d.cuts.add(id)
	resetTCP(r.client)
	resetTCP(r.server)
	return true
}
