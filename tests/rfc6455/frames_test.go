//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package rfc6455

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// rules are the limits of a server, and what it takes.
type rules struct {
	MaxMessage      uint64
	MaxFragments    int
	AllowedRsv      byte
	ReservedControl bool
}

func (r rules) String() string {
	return fmt.Sprintf("{maxMessage:%d maxFragments:%d allowedRsv:%d fromClient:true reservedControl:%t}",
		r.MaxMessage, r.MaxFragments, r.AllowedRsv, r.ReservedControl)
}

// echoOptions are those of a server whose handlers send back what they are given.
func (r rules) echoOptions() *websocket.ServerOptions {
	opts := &websocket.ServerOptions{MaxMessageSize: int(r.MaxMessage), MaxFragments: r.MaxFragments, HandleText: peer.Echo}
	opts.HandleBin = func(conn int, payload []byte) { websocket.Send(conn, websocket.NewFrameBin(false, payload)) }
	if r.ReservedControl {
		opts.HandleRsvControl = func(conn int, f *websocket.Frame) {
			websocket.Send(conn, websocket.NewFrame(f.Opcode(), false, f.Payload()))
		}
	}
	return opts
}

// act is what the program does before the input of a row comes, and what is sent for that.
type act struct {
	do     func(s *websocket.Server, conn int) error
	sent   []sent
	closes bool // a Close frame has been sent
	stops  bool // the server stops
}

// acts are by the name that rows have for them.
var acts = map[string]*act{
	"sends all": {
		do: func(_ *websocket.Server, conn int) error {
			return errors.Join(websocket.Send(conn, websocket.NewFrameText(false, []byte("é"))),
				websocket.Send(conn, websocket.NewFrameBin(false, []byte("\xff"))),
				websocket.Send(conn, websocket.NewFramePing(false, []byte("1"))),
				websocket.Send(conn, websocket.NewFramePong(false, []byte("2"))))
		},
		sent: []sent{{websocket.OpcodeText, "é"}, {websocket.OpcodeBin, "\xff"}, {websocket.OpcodePing, "1"}, {websocket.OpcodePong, "2"}},
	},
	"sends Close": {
		do: func(s *websocket.Server, conn int) error {
			err := websocket.Send(conn, websocket.NewFrameClose(false, 4000, []byte("done")))
			if !slices.Contains(s.Clients.All(), conn) {
				err = errors.Join(err, errors.New("the connection does not wait for the answer"))
			}
			return err
		},
		sent:   []sent{sentClose(4000, "done")},
		closes: true,
	},
	"sends Close and more": { // in the same packet and in others
		do: func(_ *websocket.Server, conn int) error {
			late := websocket.NewFrameText(false, []byte("late"))
			err := websocket.Send(conn, append(websocket.NewFrameClose(false, 4000, []byte("done")), late...))
			return errors.Join(err, fails(websocket.Send(conn, late)), fails(websocket.Send(conn, websocket.NewFramePing(false, nil))),
				fails(websocket.Send(conn, websocket.NewFrameClose(false, 4001, nil))))
		},
		sent:   []sent{sentClose(4000, "done")},
		closes: true,
	},
	"removes": {
		do: func(s *websocket.Server, conn int) error {
			s.ClientRemove(conn)
			return nil
		},
		sent:   []sent{sentClose(1000, "")},
		closes: true,
	},
	"stops": {
		do: func(s *websocket.Server, _ int) error {
			go s.Stop()
			return nil
		},
		sent:   []sent{sentClose(1001, "")},
		closes: true,
		stops:  true,
	},
}

// fails is an error if sending has not failed as it has to behind a Close frame.
func fails(err error) error {
	if !errors.Is(err, websocket.ErrConnClosed) {
		return fmt.Errorf("sending behind a Close frame: %v", err)
	}
	return nil
}

// runFrames runs all rows about frames. Those with the same rules share a server; those that begin with the program have their
// own.
func runFrames(t *testing.T, all []*frameRow, runs *atomic.Int64) {
	shared := make(map[rules][]*frameRow)
	for _, row := range all {
		if row.First == "" {
			shared[*row.Rules] = append(shared[*row.Rules], row)
			continue
		}
		t.Run(row.Name, func(t *testing.T) {
			require.Contains(t, acts, row.First)
			opts := row.Rules.echoOptions()
			added := peer.Added(opts)
			row.run(t, peer.Start(t, opts), added, runs)
		})
	}
	for r, rows := range shared {
		t.Run(r.String(), func(t *testing.T) {
			s := peer.Start(t, r.echoOptions())
			s.AllowReservedBits(r.AllowedRsv&peer.BitRsv1 != 0, r.AllowedRsv&peer.BitRsv2 != 0, r.AllowedRsv&peer.BitRsv3 != 0)
			t.Run("rows", func(t *testing.T) {
				for _, row := range rows {
					t.Run(row.Name, func(t *testing.T) {
						t.Parallel()
						row.run(t, s, nil, runs)
					})
				}
			})
		})
	}
}

func (row *frameRow) run(t *testing.T, s *peer.Server, added <-chan int, runs *atomic.Int64) {
	fastest, ways := time.Hour, row.ways(1, len(row.in)/2, len(row.in)-1)
	for _, way := range ways {
		runs.Add(1)
		took, err := row.runClient(t, s, added, way)
		require.NoError(t, err, way.name)
		fastest = min(fastest, took)
		if first := acts[row.First]; first != nil && first.stops {
			s.StopAndWait(t)
			s.Restart(t)
		}
	}
	if len(ways) > 1 { // one alone may have been held up by the machine
		require.Less(t, fastest, peer.DrainTime/2, "the server waits before it ends TCP")
	}
}

// runClient runs a row with a connection of its own. It returns how long the server took to end TCP.
func (row *frameRow) runClient(t *testing.T, s *peer.Server, added <-chan int, way way) (took time.Duration, err error) {
	conn, err := s.Open()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err = io.WriteString(conn, peer.Request+string(way.behind)); err != nil {
		return 0, err
	}
	answer := make([]byte, len(peer.Accepted))
	if _, err = io.ReadFull(conn.Reader, answer); err != nil || string(answer) != peer.Accepted {
		return 0, fmt.Errorf("answer %q: %v", answer, err)
	}
	c := newClient(conn)
	if first := acts[row.First]; first != nil {
		if err = first.do(s.Server, peer.Get(t, added)); err != nil {
			return 0, err
		}
		if err = c.wait(func() bool { return len(c.got) == len(first.sent) }); err != nil {
			return 0, err
		}
	}
	if err = row.say(c, way); err != nil {
		return 0, err
	}
	if !row.Ends && !row.Closes {
		c.end()
	}
	start := time.Now()
	if err = c.toEnd(); err != nil {
		return 0, err
	}
	return time.Since(start), row.compare(c.got, way)
}

// expected is the frames that go out for the input if it comes in that way.
func (row *frameRow) expected(way way) (out []sent) {
	switch first := acts[row.First]; {
	case first != nil:
		out = append(out, first.sent...)
	case way.before:
		out = append(out, sent{websocket.OpcodeText, before})
	}
	return append(append(out, slices.Repeat(row.Out, way.times)...), row.Then...)
}

// way is one way in which the input comes.
type way struct {
	name   string
	behind []byte   // in one piece with the opening handshake
	pieces [][]byte // after it
	times  int      // how often it comes
	before bool     // a message comes before it
	waits  bool     // for the answers to each piece
}

// before is the message of ways that begin with one, and late what nobody reads behind the end of a connection.
const (
	before = "b"
	late   = "late"
)

// masked is a text message of a client.
func masked(payload string) []byte { return websocket.NewFrameText(true, []byte(payload)) }

// ways are those in which a row runs.
func (row *frameRow) ways(cuts ...int) (ways []way) {
	in, last := row.in, len(row.in)-1
	add := func(way way) {
		way.times = max(way.times, 1)
		ways = append(ways, way)
	}
	if len(in) == 0 {
		return append(ways, way{name: "without a byte", times: 1})
	}
	add(way{name: "whole", pieces: [][]byte{in}})
	add(way{name: "in small pieces", pieces: each(in, 1+len(in)/1000)})
	if row.First == "" {
		add(way{name: "in one piece behind a message", pieces: [][]byte{join(masked(before), in)}, before: true})
		add(way{name: "in one piece with the handshake", behind: in})
		add(way{name: "in one piece with the handshake but for its last byte", behind: in[:last], pieces: [][]byte{in[last:]}})
	}
	for _, cut := range cuts {
		if cut > 0 && cut <= last {
			add(way{name: fmt.Sprintf("cut at %d", cut), pieces: [][]byte{in[:cut], in[cut:]}})
		}
	}
	if row.Answered != nil {
		byFrame := way{name: "frame by frame", waits: true}
		for _, piece := range row.In {
			byFrame.pieces = append(byFrame.pieces, piece)
		}
		add(byFrame)
	}
	switch {
	case row.Ends:
		add(way{name: "with more behind it", pieces: [][]byte{join(in, masked(late))}})
	case !row.Open:
		add(way{name: "twice in one piece", pieces: [][]byte{join(in, in)}, times: 2})
	}
	return ways
}

// probe shows that a connection is open.
var probe = sent{websocket.OpcodePong, "still there?"}

// say sends the input, what ends it, and a Ping that shows that the connection is still open where it should be, and waits
// for its Pong.
func (row *frameRow) say(c *client, way way) error {
	had := len(c.got)
	for i, piece := range way.pieces {
		if _, err := c.conn.Write(piece); err != nil && !row.Ends {
			return err
		}
		if way.waits {
			if err := c.wait(func() bool { return len(c.got) >= had+row.Answered[i] }); err != nil {
				return err
			}
			if row.Ends && i == len(row.Answered)-1 {
				return nil
			}
		}
	}
	if row.Ends {
		return nil
	}
	if len(row.Rest) > 0 {
		if _, err := c.conn.Write(row.Rest); err != nil {
			return err
		}
	}
	if first := acts[row.First]; row.Open && len(row.Rest) == 0 || first != nil && first.closes {
		return nil
	}
	if err := c.wait(func() bool { return row.complete(c.got, way) }); err != nil {
		return err
	}
	if _, err := c.conn.Write(websocket.NewFramePing(true, []byte(probe.payload))); err != nil {
		return err
	}
	return c.wait(func() bool { return slices.Contains(c.got, probe) })
}

// complete reports whether all has gone out that has to, if the connection stays open.
func (row *frameRow) complete(got []sent, way way) bool {
	data, pongs, _ := split(got)
	wantData, wantPongs, _ := split(row.expected(way))
	return len(data) >= len(wantData) && len(pongs) >= len(wantPongs)
}

// compare holds the frames that went out against those that had to.
func (row *frameRow) compare(got []sent, way way) error {
	want := row.expected(way)
	got = slices.DeleteFunc(slices.Clone(got), func(f sent) bool { return f == probe })
	data, pongs, closes := split(got)
	wantData, wantPongs, wantCloses := split(want)
	same := slices.Equal(data, wantData) && slices.Equal(pongs, wantPongs)
	last := len(closes) == 0 || got[len(got)-1].opcode == websocket.OpcodeClose
	if !same || !slices.Equal(closes, wantCloses) || !last {
		return fmt.Errorf("went out: %v, want: %v", got, want)
	}
	return nil
}
