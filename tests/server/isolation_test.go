//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

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
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
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

// TestLargePacketHoldsUpNobody has a packet sent to a peer that does not read. Copying it takes far longer than an echo. The peer
// sends Pings all the while, so that its loop has to do with it.
func TestLargePacketHoldsUpNobody(t *testing.T) {
	size := 128 << 20
	if peer.Raced() { // which looks at each byte
		size = 16 << 20
	}
	packet := websocket.NewFrameBin(false, make([]byte, size))
	for _, from := range []string{"a handler", "a goroutine of the program"} {
		t.Run(fmt.Sprintf("others have their echoes while %s sends %d MiB to a peer that does not read", from, size>>20), func(t *testing.T) {
			sent := make(chan span, 1)
			send := func(conn int) { sent <- spanOf(func() { websocket.Send(conn, packet) }) }
			opts := &websocket.ServerOptions{HandleText: peer.Echo, HandleBin: func(conn int, _ []byte) { send(conn) }}
			added := peer.Added(opts)
			s := peer.Start(t, opts)
			others := make([]*peer.Conn, 2*runtime.GOMAXPROCS(0)) // on every loop
			for i := range others {
				others[i] = s.Connect(t)
				peer.Get(t, added)
			}
			defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector stops all goroutines, and waits for one that copies
			peer.Tries(t, 20, func() bool {
				runtime.GC()
				deaf := s.Connect(t)
				defer deaf.Reset()
				conn := peer.Get(t, added)
				stop, echoes := make(chan struct{}), make(chan []span, len(others))
				errs := make(chan error, len(others))
				for _, c := range others {
					go func() {
						spans, err := echoesBesides(c, deaf, stop)
						echoes <- spans
						errs <- err
					}()
				}
				if from == "a handler" {
					deaf.Send(websocket.NewFrameBin(true, nil))
				} else {
					go send(conn)
				}
				during := peer.Get(t, sent)
				close(stop)
				var longest time.Duration
				for range others {
					for _, echo := range peer.Get(t, echoes) {
						if echo.overlaps(during) {
							longest = max(longest, echo.took())
						}
					}
					require.NoError(t, peer.Get(t, errs))
				}
				t.Logf("Send took %v, the longest echo meanwhile %v", during.took(), longest)
				return longest < during.took()/2
			})
		})
	}
}

// echoesBesides has a message echoed and another connection send a Ping, in turn, until it is stopped. It returns when the
// echoes were.
func echoesBesides(c *peer.Conn, other *peer.Conn, stop <-chan struct{}) (echoes []span, err error) {
	for err == nil {
		echoes = append(echoes, spanOf(func() {
			if _, err = c.Write(websocket.NewFrameText(true, []byte("echo"))); err == nil {
				err = c.Compare(websocket.OpcodeText, "echo")
			}
		}))
		other.Write(websocket.NewFramePing(true, nil))
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
	opts := &websocket.ServerOptions{HandleText: peer.Echo, HandleBin: func(int, []byte) { got <- struct{}{} }}
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	c := s.Connect(t)
	conn := peer.Get(t, added)
	other := s.Connect(t)
	plain, err := net.Dial("tcp", peer.PlainServer(t))
	require.NoError(t, err)
	defer plain.Close()
	stop := make(chan struct{})
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for packet := websocket.NewFrameText(false, peer.Pattern(100, 0)); ; {
				select {
				case <-stop:
					return
				default:
					websocket.TrySend(conn, packet)
				}
			}
		})
	}
	defer sending.Wait()
	defer close(stop)
	go io.Copy(io.Discard, c.Conn) // until the end of the test

	// What shares the only processor with 16 goroutines that never wait takes its time: a plain echo, too.
	peer.Tries(t, 4, func() bool {
		var own, others, control time.Duration
		for range rounds {
			own += spanOf(func() {
				c.Send(websocket.NewFrameBin(true, nil))
				peer.Get(t, got)
			}).took()
			others += spanOf(func() {
				other.Text("x")
				other.ExpectText("x")
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
