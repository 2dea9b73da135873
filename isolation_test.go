//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// span is when something began and ended.
type span struct{ begin, end time.Time }

func (s span) took() time.Duration { return s.end.Sub(s.begin) }

func (s span) overlaps(other span) bool {
	return s.begin.Before(other.end) && other.begin.Before(s.end)
}

// spanOf is the time that f takes.
func spanOf(f func()) span {
	begin := time.Now()
	f()
	return span{begin, time.Now()}
}

// rawTries repeats a comparison of times until it holds, which fails where the machine gave its processors to something else.
// What is wrong fails every time.
func rawTries(t *testing.T, n int, try func() (holds bool)) {
	t.Helper()
	for range n {
		if try() {
			return
		}
	}
	t.Errorf("it held in none of %d tries", n)
}

// TestLargePacketHoldsUpNobody has a packet sent to a peer that does not read. Copying it takes far longer than an echo. The peer
// sends Pings all the while, so that its loop has to do with it.
func TestLargePacketHoldsUpNobody(t *testing.T) {
	size := 128 << 20
	if raced() { // which looks at each byte
		size = 16 << 20
	}
	packet := NewFrameBin(false, make([]byte, size))
	for _, from := range []string{"a handler", "a goroutine of the program"} {
		t.Run(fmt.Sprintf("others have their echoes while %s sends %d MiB to a peer that does not read", from, size>>20), func(t *testing.T) {
			sent := make(chan span, 1)
			send := func(conn int) { sent <- spanOf(func() { Send(conn, packet) }) }
			opts := &ServerOptions{HandleText: rawEcho, HandleBin: func(conn int, _ []byte) { send(conn) }}
			added := rawAdded(opts)
			s := startServer(t, opts)
			others := make([]*rawConn, 2*runtime.GOMAXPROCS(0)) // on every loop
			for i := range others {
				others[i] = s.connect(t)
				rawGet(t, added)
			}
			defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector stops all goroutines, and waits for one that copies
			rawTries(t, 20, func() bool {
				runtime.GC()
				deaf := s.connect(t)
				defer deaf.reset()
				conn := rawGet(t, added)
				stop, echoes := make(chan struct{}), make(chan []span, len(others))
				errs := make(chan error, len(others))
				for _, c := range others {
					go func() {
						spans, err := c.echoesBesides(deaf, stop)
						echoes <- spans
						errs <- err
					}()
				}
				if from == "a handler" {
					deaf.send(NewFrameBin(true, nil))
				} else {
					go send(conn)
				}
				during := rawGet(t, sent)
				close(stop)
				var longest time.Duration
				for range others {
					for _, echo := range rawGet(t, echoes) {
						if echo.overlaps(during) {
							longest = max(longest, echo.took())
						}
					}
					require.NoError(t, rawGet(t, errs))
				}
				t.Logf("Send took %v, the longest echo meanwhile %v", during.took(), longest)
				return longest < during.took()/2
			})
		})
	}
}

// echoesBesides has a message echoed and another connection send a Ping, in turn, until it is stopped. It returns when the
// echoes were.
func (c *rawConn) echoesBesides(other *rawConn, stop <-chan struct{}) (echoes []span, err error) {
	for err == nil {
		echoes = append(echoes, spanOf(func() {
			if _, err = c.Write(NewFrameText(true, []byte("echo"))); err == nil {
				err = c.rawExpect(OpcodeText, "echo")
			}
		}))
		other.Write(NewFramePing(true, nil))
		select {
		case <-stop:
			return echoes, err
		default:
		}
	}
	return echoes, err
}

func TestSendersHoldUpNobody(t *testing.T) {
	const senders, rounds = 16, 8
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	got := make(chan struct{}, 1)
	opts := &ServerOptions{HandleText: rawEcho, HandleBin: func(int, []byte) { got <- struct{}{} }}
	added := rawAdded(opts)
	s := startServer(t, opts)
	c := s.connect(t)
	conn := rawGet(t, added)
	other := s.connect(t)
	plain, err := net.Dial("tcp", plainServer(t))
	require.NoError(t, err)
	defer plain.Close()
	stop := make(chan struct{})
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for packet := NewFrameText(false, rawPattern(100, 0)); ; {
				select {
				case <-stop:
					return
				default:
					TrySend(conn, packet)
				}
			}
		})
	}
	defer sending.Wait()
	defer close(stop)
	go io.Copy(io.Discard, c.Conn) // until the end of the test

	// What shares the only processor with 16 goroutines that never wait takes its time: a plain echo, too.
	rawTries(t, 4, func() bool {
		var own, others, control time.Duration
		for range rounds {
			own += spanOf(func() {
				c.send(NewFrameBin(true, nil))
				rawGet(t, got)
			}).took()
			others += spanOf(func() {
				other.text("x")
				other.expectText("x")
			}).took()
			control += spanOf(func() {
				plain.Write([]byte("x"))
				plain.Read(make([]byte, 1))
			}).took()
		}
		t.Logf("a message of the connection took %v, an echo of another %v, a plain echo %v", own/rounds, others/rounds, control/rounds)
		return own < 4*control && others < 4*control
	})
}

// plainServer sends each byte back, without this package, until the end of the test. It returns its address.
func plainServer(t *testing.T) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			remote, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer remote.Close()
				b := make([]byte, 1)
				for {
					if _, err := remote.Read(b); err != nil {
						return
					}
					remote.Write(b)
				}
			}()
		}
	}()
	return ln.Addr().String()
}
