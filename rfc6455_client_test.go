package websocket

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Rows about frames with a Client: over a pipe, where each piece is one read of the client and time is the test's own, and
// over TCP.

// rfcRunClient runs all rows for the client.
func rfcRunClient(t *testing.T, count *rfcCount) {
	checkGoroutines(t)
	checkDescriptors(t)
	var keys rfcKeys
	t.Run("rows", func(t *testing.T) {
		rfcEachRow(func(name string, pl *rfcPlan) {
			if pl.side != rfcClient {
				return
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					for _, way := range pl.ways(pl.everyCut()...) {
						count.runs.Add(1)
						require.NoError(t, rfcPipe(pl, way, &keys), "%s, over a pipe", way.name)
					}
				})
				if pl.protocol.allowedRsv != 0 {
					return // a Client allows no reserved bits
				}
				for _, way := range pl.ways(len(pl.in) / 2) {
					count.runs.Add(1)
					require.NoError(t, rfcDialed(t, pl, way, &keys), "%s, over TCP", way.name)
				}
			})
		})
	})
	t.Run("5.3, 10.3: each frame has a masking key of its own that nobody can predict", func(t *testing.T) {
		distinct := make(map[[4]byte]bool)
		var bits [32]int
		for _, key := range keys.keys {
			distinct[key] = true
			for i := range bits {
				bits[i] += int(key[i/8] >> (i % 8) & 1)
			}
		}
		n := len(keys.keys)
		require.Greater(t, n, 1000)
		assert.GreaterOrEqual(t, len(distinct), n-5, "random keys seldom repeat")
		for i, ones := range bits {
			assert.InDelta(t, n/2, ones, float64(n)/10, "bit %d of the keys", i)
		}
	})
}

// everyCut is each place where the input can be cut.
func (pl *rfcPlan) everyCut() (cuts []int) {
	if pl.long {
		return []int{len(pl.in) / 2}
	}
	for cut := range pl.in {
		cuts = append(cuts, cut)
	}
	return cuts
}

// rfcSubject is a client under test.
type rfcSubject struct {
	*Client
	quit chan bool // told by HandleQuit

	mu      sync.Mutex
	handled []rfcEvent // what the handlers were given; guarded by mu
}

func rfcNewSubject(pl *rfcPlan) *rfcSubject {
	s := &rfcSubject{quit: make(chan bool, 2)}
	handle := func(cl *Client, f *Frame) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		kind := eventMessage
		if f.IsControl() {
			kind = eventControl
		}
		s.handled = append(s.handled, rfcEvent{kind, f.Opcode(), string(f.Payload()), 0, f.head.rsv()})
		cl.send(f.Opcode(), f.Payload()) // fails where the server has closed
		return nil
	}
	s.Client = &Client{Endpoint: "ws://example.com/", HandleText: handle, HandleBin: handle, Logger: slog.New(slog.DiscardHandler),
		MaxMessageSize: int(pl.protocol.maxMessage), MaxFragments: pl.protocol.maxFragments, HandleQuit: func() { s.quit <- true }}
	if pl.protocol.reservedControl {
		s.HandleRsvControl = handle
	}
	return s
}

// connectOver is Connect with a connection that is there. As in Connect, it is closed where that fails.
func (s *rfcSubject) connectOver(l *clientConn, conn net.Conn) error {
	l.attach(conn)
	u, _, err := s.serverURL()
	if err == nil {
		_, err = s.shakeHands(l, u)
	}
	if err != nil {
		conn.Close()
		return err
	}
	s.Client.mu.Lock()
	defer s.Client.mu.Unlock()
	s.conn = l
	l.start()
	return nil
}

// rfcPipe runs a row over a pipe.
func rfcPipe(pl *rfcPlan, way rfcWay, keys *rfcKeys) error {
	s := rfcNewSubject(pl)
	client, server := net.Pipe()
	defer client.Close()
	l := newClientConn(s.Client)
	l.protocol.allowedRsv = pl.protocol.allowedRsv
	connected := make(chan error, 1)
	go func() { connected <- s.connectOver(l, client) }()
	p, err := rfcAccept(server, way, keys)
	if err == nil {
		err = <-connected
	}
	if err != nil {
		return err
	}
	return pl.runClient(s, p, way, true)
}

// rfcDialed runs a row over TCP.
func rfcDialed(t *testing.T, pl *rfcPlan, way rfcWay, keys *rfcKeys) error {
	s := rfcNewSubject(pl)
	ln := scriptedListen(t)
	s.Endpoint = ln.endpoint()
	defer s.Quit()
	connected := scriptedConnect(s.Client)
	conn, err := ln.ln.Accept()
	if err != nil {
		return err
	}
	ln.ln.Close()
	p, err := rfcAccept(conn, way, keys)
	if err == nil {
		err = scriptedWait(t, connected)
	}
	if err != nil {
		return err
	}
	return pl.runClient(s, p, way, false)
}

// rfcAccept accepts a client's opening handshake.
func rfcAccept(conn net.Conn, way rfcWay, keys *rfcKeys) (*rfcPeer, error) {
	r := bufio.NewReader(conn)
	request, err := http.ReadRequest(r)
	if err != nil {
		return nil, err
	}
	answer := string(scriptedAnswer(request.Header.Get("Sec-WebSocket-Key")))
	p := rfcNewPeer(conn, r, rfcClient, keys.add)
	_, err = io.WriteString(conn, answer+string(way.behind))
	return p, err
}

// runClient runs a row with an open connection. In a bubble, time is its own and all that goes on can be waited for.
func (pl *rfcPlan) runClient(s *rfcSubject, p *rfcPeer, way rfcWay, bubble bool) error {
	if pl.first != nil {
		if err := pl.first.client(s.Client); err != nil {
			return err
		}
		if err := p.wait(func() bool { return len(p.got) == len(pl.first.sent) }); err != nil {
			return err
		}
	}
	if err := pl.say(p, way); err != nil {
		return err
	}
	data, _, closes := rfcSplit(pl.expected(way))
	err := p.wait(func() bool {
		got, _, ends := rfcSplit(p.got)
		return len(ends) == len(closes) && (len(got) == len(data) || len(closes) > 0)
	})
	if err != nil {
		return err
	}
	if bubble && pl.tcp != rfcCloses {
		if err = pl.waitsForEnd(p); err != nil {
			return err
		}
	}
	if pl.tcp != rfcCloses {
		p.end()
	}
	start := time.Now()
	if err = p.toEnd(); err != nil {
		return err
	}
	if took := time.Since(start); bubble && took > 0 {
		return fmt.Errorf("TCP ends after %s", took)
	}
	select {
	case <-s.quit:
	case <-rfcExpired():
		return rfcInVain("HandleQuit is not called")
	}
	if bubble {
		if synctest.Wait(); len(s.quit) > 0 {
			return errors.New("HandleQuit is called twice")
		}
	}
	return errors.Join(pl.compare(p.got, way), pl.checkClient(s, way))
}

// waitsForEnd checks that the client leaves TCP open, whatever comes (section 7.1.1).
func (pl *rfcPlan) waitsForEnd(p *rfcPeer) error {
	if pl.ends() {
		<-time.After(maxDrainTime / 2)
		if _, err := p.conn.Write(pl.late()); err != nil {
			return fmt.Errorf("the client has ended TCP: %w", err)
		}
	}
	synctest.Wait()
	select {
	case f, ok := <-p.frames:
		return fmt.Errorf("a frame goes out, or the client ends TCP: %v, %v", f, ok)
	default:
		return nil
	}
}

// checkClient compares what the program was told.
func (pl *rfcPlan) checkClient(s *rfcSubject, way rfcWay) error {
	var want []rfcEvent
	for _, ev := range pl.events(way) {
		if ev.kind == eventMessage || ev.kind == eventControl {
			want = append(want, ev)
		}
	}
	var end *CloseError
	switch {
	case pl.first != nil && pl.first.closes: // what the program does not want any more is not handled
		want = nil
	case pl.fails != nil:
		end = &CloseError{Code: pl.code, Reason: pl.fails.text}
	case pl.ends():
		last := pl.want[len(pl.want)-1]
		end = &CloseError{Code: last.code, Reason: last.payload}
	}
	if !slices.Equal(want, s.handled) {
		return fmt.Errorf("handled: %+q, want: %+q", s.handled, want)
	}
	var got *CloseError
	switch err := s.Err(); {
	case end != nil && (!errors.As(err, &got) || *got != *end):
		return fmt.Errorf("Err is %v, want %v", err, end)
	case end == nil && pl.first != nil && pl.first.closes && err != nil:
		return fmt.Errorf("Err is %v behind Close", err)
	case end == nil && (pl.first == nil || !pl.first.closes) && (errors.As(err, &got) || !errors.Is(err, ErrConnClosed)):
		return fmt.Errorf("Err is %v for an end without a Close frame", err)
	}
	return nil
}
