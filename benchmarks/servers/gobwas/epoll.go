package main

import (
	"bufio"
	"net"
	"sync"

	"github.com/gobwas/ws"
	"github.com/wsloop/websocket/benchmarks/internal/raw"
)

const sharedBuffer = 64 << 10

// loop serves all connections on one goroutine, which shares a read buffer among them. The rest of a frame that has not arrived
// in full is waited for.
type loop struct {
	poller *raw.Poller
	mu     sync.Mutex
	conns  map[int]*conn // by descriptor; guarded by mu
}

func serveEpoll(ln net.Listener) (err error) {
	l := &loop{conns: make(map[int]*conn)}
	if l.poller, err = raw.NewPoller(); err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- l.accept(ln) }()
	go func() { failed <- l.serve() }()
	return <-failed
}

func (l *loop) accept(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go l.open(&conn{Conn: c})
	}
}

func (l *loop) open(c *conn) {
	fd := -1
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(f uintptr) { fd = int(f) })
	}
	if err == nil {
		_, err = ws.Upgrade(c.Conn)
	}
	if err != nil {
		c.Close()
		return
	}
	l.mu.Lock()
	l.conns[fd] = c
	l.mu.Unlock()
	conns.Add(c)
	if err = l.poller.Add(fd, false); err != nil {
		l.close(fd, c)
	}
}

func (l *loop) serve() error {
	e := echoer{r: bufio.NewReaderSize(nil, sharedBuffer)}
	for {
		n, err := l.poller.Wait()
		if err != nil {
			return err
		}
		for i := range n {
			fd, _, _ := l.poller.At(i)
			l.mu.Lock()
			c := l.conns[fd]
			l.mu.Unlock()
			if c == nil {
				continue
			}
			e.r.Reset(c)
			if err = e.serveRead(c); err != nil {
				l.close(fd, c)
			}
		}
	}
}

func (l *loop) close(fd int, c *conn) {
	l.mu.Lock()
	delete(l.conns, fd)
	l.mu.Unlock()
	conns.Remove(c)
	c.Close()
}
