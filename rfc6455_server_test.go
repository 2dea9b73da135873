//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Rows with a running Server, over TCP.

func init() {
	rfcServerRuns["frames, a server"] = rfcRunServer
}

// echoOptions are those of a server whose handlers send back what they are given.
func (pl *rfcPlan) echoOptions() *ServerOptions {
	opts := &ServerOptions{MaxMessageSize: int(pl.protocol.maxMessage), MaxFragments: pl.protocol.maxFragments, HandleText: rawEcho}
	opts.HandleBin = func(conn int, payload []byte) { Send(conn, NewFrameBin(false, payload)) }
	if pl.protocol.reservedControl {
		opts.HandleRsvControl = func(conn int, f *Frame) { Send(conn, NewFrame(f.Opcode(), false, f.Payload())) }
	}
	return opts
}

// rfcRunServer runs all rows for the server. Those with the same rules share one; those that begin with the program have their own.
func rfcRunServer(t *testing.T, count *rfcCount) {
	type named struct {
		*rfcPlan
		name string
	}
	plans := make(map[protocol][]named)
	rfcEachRow(func(name string, pl *rfcPlan) {
		switch {
		case pl.side != rfcServer:
		case pl.first == nil:
			plans[pl.protocol] = append(plans[pl.protocol], named{pl, name})
		default:
			t.Run(name, func(t *testing.T) {
				opts := pl.echoOptions()
				added := rawAdded(opts)
				pl.runServer(t, startServer(t, opts), added, count)
			})
		}
	})
	for p, rows := range plans {
		t.Run(fmt.Sprintf("%+v", p), func(t *testing.T) {
			s := startServer(t, rows[0].echoOptions())
			s.AllowReservedBits(p.allowedRsv&bitRsv1 != 0, p.allowedRsv&bitRsv2 != 0, p.allowedRsv&bitRsv3 != 0)
			t.Run("rows", func(t *testing.T) {
				for _, row := range rows {
					t.Run(row.name, func(t *testing.T) {
						t.Parallel()
						row.runServer(t, s, nil, count)
					})
				}
			})
		})
	}
}

func (pl *rfcPlan) runServer(t *testing.T, s *rawServer, added <-chan int, count *rfcCount) {
	fastest, ways := int64(never), pl.ways(1, len(pl.in)/2, len(pl.in)-1)
	for _, way := range ways {
		count.runs.Add(1)
		took, err := pl.runPeer(t, s, added, way)
		require.NoError(t, err, way.name)
		fastest = min(fastest, int64(took))
		if pl.first != nil && pl.first.stops {
			s.stop(t)
			s.restart(t)
		}
	}
	if len(ways) > 1 { // one alone may have been held up by the machine
		require.Less(t, fastest, int64(maxDrainTime/2), "the server waits before it ends TCP")
	}
}

// runPeer runs a row with a connection of its own. It returns how long the server took to end TCP.
func (pl *rfcPlan) runPeer(t *testing.T, s *rawServer, added <-chan int, way rfcWay) (took time.Duration, err error) {
	c, err := s.rawOpen()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err = io.WriteString(c, rawRequest+string(way.behind)); err != nil {
		return 0, err
	}
	answer := make([]byte, len(rawAccepted))
	if _, err = io.ReadFull(c.r, answer); err != nil || string(answer) != rawAccepted {
		return 0, fmt.Errorf("answer %q: %v", answer, err)
	}
	p := rfcNewPeer(c.Conn, c.r, rfcServer, nil)
	if pl.first != nil {
		if err = pl.first.server(s.Server, rawGet(t, added)); err != nil {
			return 0, err
		}
		if err = p.wait(func() bool { return len(p.got) == len(pl.first.sent) }); err != nil {
			return 0, err
		}
	}
	if err = pl.say(p, way); err != nil {
		return 0, err
	}
	if !pl.ends() && pl.tcp != rfcCloses {
		p.end()
	}
	start := time.Now()
	if err = p.toEnd(); err != nil {
		return 0, err
	}
	return time.Since(start), pl.compare(p.got, way)
}
