//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Rows with a running Server, over TCP.

func init() {
	rfcServerRuns["frames, a server"] = rfcRunServer
	rfcServerRuns["opening handshake, a server"] = rfcRunRequestsAtServer
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

// rfcRunServer runs all rows for the server. Those with the same rules share one; those that begin with the program have
// their own.
func rfcRunServer(t *testing.T, count *rfcCount) {
	type named struct {
		*rfcPlan
		name string
	}
	plans := make(map[rules][]named)
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

// rfcRunRequestsAtServer runs the rows of rfc6455_request_test.go.
func rfcRunRequestsAtServer(t *testing.T, count *rfcCount) {
	s := startServer(t, &ServerOptions{HandleText: rawEcho, MaxHeaderSize: rfcMaxHeader, MaxHeaderFields: rfcMaxFields})
	t.Run("rows", func(t *testing.T) {
		for _, row := range rfcRequests() {
			t.Run(row.section+": "+row.name, func(t *testing.T) {
				t.Parallel()
				run := func(how string, pieces ...[]byte) {
					count.runs.Add(1)
					require.NoError(t, row.atServer(s, pieces), how)
				}
				run("whole", []byte(row.in))
				if row.whole || row.in == "" {
					return
				}
				run("byte by byte", rfcEach([]byte(row.in), 1)...)
				step := 1 + len(row.in)/16
				if row.wire || len(row.out) > 0 { // nothing else cuts these everywhere
					step = 1
				}
				for cut := step; cut < len(row.in); cut += step {
					run(fmt.Sprintf("cut at %d", cut), []byte(row.in[:cut]), []byte(row.in[cut:]))
				}
			})
		}
	})
	require.True(t, eventually(func() bool { return s.Clients.Len() == 0 }))
}

// atServer sends a request and compares what comes back, up to the end of TCP.
func (row *rfcRequest) atServer(s *rawServer, pieces [][]byte) error {
	c, err := s.rawOpen()
	if err != nil {
		return err
	}
	defer c.Close()
	for _, piece := range pieces {
		if _, err = c.Write(piece); err != nil {
			break // it may be refused before it is complete
		}
	}
	if row.ends {
		c.Conn.(*net.TCPConn).CloseWrite()
	}
	answer := make([]byte, len(row.answer()))
	if _, err = io.ReadFull(c.r, answer); err != nil || string(answer) != row.answer() {
		return fmt.Errorf("answer %q: %v", answer, err)
	}
	p := rfcNewPeer(c.Conn, c.r, rfcServer, nil)
	out := slices.Clone(row.out)
	if row.status == 101 && (len(out) == 0 || out[len(out)-1].opcode != OpcodeClose) { // it is open
		if err = p.wait(func() bool { return len(p.got) == len(out) }); err != nil {
			return err
		}
		if _, err = c.Write(NewFrameClose(true, StatusNormal, nil)); err != nil {
			return err
		}
		out = append(out, rfcSentClose(StatusNormal, ""))
	}
	if err = p.toEnd(); err != nil {
		return err
	}
	data, pongs, closes := rfcSplit(p.got)
	wantData, wantPongs, wantCloses := rfcSplit(out)
	if !slices.Equal(data, wantData) || !slices.Equal(pongs, wantPongs) || !slices.Equal(closes, wantCloses) {
		return fmt.Errorf("went out: %v, want: %v", p.got, out)
	}
	return nil
}
