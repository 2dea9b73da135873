//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rawRelease returns what closes a channel that handlers wait for. At the end of the test it is closed in any case. It is
// called after startServer, so that this comes before the server stops.
func rawRelease(t *testing.T, release chan struct{}) (now func()) {
	t.Helper()
	now = sync.OnceFunc(func() { close(release) })
	t.Cleanup(now)
	return now
}

func TestIsolation(t *testing.T) {
	t.Run("64 handlers that block for ever do not hold up another connection", func(t *testing.T) {
		inside := make(chan struct{}, 64)
		release := make(chan struct{})
		s := startServer(t, &ServerOptions{HandleText: func(conn int, p []byte) {
			if string(p) == "block" {
				inside <- struct{}{}
				<-release
			}
			rawEcho(conn, p)
		}})
		rawRelease(t, release)
		for range 64 {
			s.connect(t).text("block")
		}
		for range 64 {
			rawGet(t, inside)
		}
		for range 4 {
			c := s.connect(t)
			for i := range 100 {
				c.text(fmt.Sprint(i))
				c.expectText(fmt.Sprint(i))
			}
		}
	})
	t.Run("a handler whose Send waits for a peer that does not read holds up nobody else", func(t *testing.T) {
		const size = 8 << 10
		var slow atomic.Int64
		errs := make(chan error, 1)
		opts := &ServerOptions{SendQueueSize: 64 << 10, WriteTimeout: time.Hour, HandleText: func(conn int, p []byte) {
			if string(p) == "fill" {
				errs <- Send(int(slow.Load()), NewFrameText(false, rawPattern(size, 1)))
			}
			rawEcho(conn, p)
		}}
		added := rawAdded(opts)
		s := startServer(t, opts)
		lazy := s.connect(t)
		slow.Store(int64(rawGet(t, added)))
		sent := rawFill(t, int(slow.Load()), NewFrameText(false, rawPattern(size, 0)))
		c := s.connect(t)
		c.text("fill")
		for range 4 {
			other := s.connect(t)
			other.text("x")
			other.expectText("x")
		}
		require.Empty(t, errs)
		for range sent {
			lazy.expectText(string(rawPattern(size, 0)))
		}
		lazy.expectText(string(rawPattern(size, 1)))
		require.NoError(t, rawGet(t, errs))
		c.expectText("fill")
	})
	t.Run("200 handlers of as many connections run side by side", func(t *testing.T) {
		const peers = 200
		var inside atomic.Int32
		all := make(chan struct{})
		s := startServer(t, &ServerOptions{HandleText: func(conn int, p []byte) {
			if inside.Add(1) == peers {
				close(all)
			}
			<-all
			rawEcho(conn, p)
		}})
		conns := make([]*rawConn, peers)
		for i := range conns {
			conns[i] = s.connect(t)
		}
		for i, c := range conns {
			c.text(fmt.Sprint(i))
		}
		for i, c := range conns {
			c.expectText(fmt.Sprint(i))
		}
	})
	t.Run("a client with many short requests does not hold up the others of its loop", func(t *testing.T) {
		// Each request is shorter than what the monitor notices, thousands of them are not.
		const requests = 1200
		var handled atomic.Int32
		begun := make(chan struct{})
		s := startServer(t, nil)
		require.NoError(t, s.RegisterTextHandler("GET", "/", func(context.Context, *Request) Response {
			if handled.Add(1) == 1 {
				close(begun)
			}
			<-time.After(300 * time.Microsecond)
			return Response{}
		}))
		others := make([]*rawConn, 2*runtime.GOMAXPROCS(0)) // on every loop
		for i := range others {
			others[i] = s.connect(t)
		}
		busy := s.connect(t)
		var all []byte
		for i := range requests {
			all = append(all, NewFrameText(true, fmt.Appendf(nil, `{"id":%d,"method":"GET","target":"/"}`, i))...)
		}
		busy.send(all[:50_000]) // in one read
		rawDone(t, begun)
		for _, c := range others {
			c.send(NewFramePing(true, []byte("x")))
		}
		for _, c := range others {
			c.expect(OpcodePong, "x")
		}
		require.Less(t, int(handled.Load()), requests/2, "requests were handled before the others had their answers")
		busy.send(all[50_000:])
		seen := make(map[uint64]bool)
		for range requests {
			var res Response
			op, payload, err := busy.rawFrame()
			require.NoError(t, err)
			require.Equal(t, OpcodeText, op)
			require.NoError(t, json.Unmarshal(payload, &res))
			require.False(t, seen[res.ID])
			seen[res.ID] = true
		}
	})
}

func TestOrderOfMessages(t *testing.T) {
	const messages = 2000
	for name, slow := range map[string]func(i int) bool{
		"where handlers are fast":                func(int) bool { return false },
		"where some handlers block for a moment": func(i int) bool { return i%150 == 7 },
		"where the first handler blocks":         func(i int) bool { return i == 0 },
	} {
		for _, piece := range []int{1 << 20, 1000, 7} {
			t.Run(fmt.Sprintf("messages of one connection are handled one by one in order %s, in pieces of %d bytes", name, piece), func(t *testing.T) {
				var inside atomic.Int32
				var next int
				wrong := make(chan string, messages)
				s := startServer(t, &ServerOptions{HandleText: func(conn int, p []byte) {
					if inside.Add(1) != 1 {
						wrong <- "two at once"
					}
					if string(p) != fmt.Sprint(next) {
						wrong <- fmt.Sprintf("%s instead of %d", p, next)
					}
					if slow(next) {
						<-time.After(5 * time.Millisecond)
					}
					next++
					rawEcho(conn, p)
					inside.Add(-1)
				}})
				c := s.connect(t)
				var all []byte
				for i := range messages {
					all = append(all, NewFrameText(true, fmt.Append(nil, i))...)
				}
				errs := make(chan error, 1)
				go func() {
					var err error
					for p := range slices.Chunk(all, piece) {
						if err == nil {
							_, err = c.Write(p)
						}
					}
					errs <- err
				}()
				for i := range messages {
					c.expectText(fmt.Sprint(i))
				}
				require.NoError(t, rawGet(t, errs))
				require.Empty(t, wrong)
			})
		}
	}
}

func TestMessagesAtOnce(t *testing.T) {
	t.Run("a handler may wait for a later message of its own connection", func(t *testing.T) {
		later := make(chan struct{})
		s := startServer(t, &ServerOptions{MessagesAtOnce: 2, HandleText: func(conn int, p []byte) {
			if string(p) == "later" {
				close(later)
			} else {
				<-later
			}
			rawEcho(conn, p)
		}})
		c := s.connect(t)
		c.text("waits")
		c.text("later")
		_, one, err := c.rawFrame()
		require.NoError(t, err)
		_, two, err := c.rawFrame()
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"waits", "later"}, []string{string(one), string(two)})
	})
	for _, limit := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("%d run at once and no more", limit), func(t *testing.T) {
			const messages = 300
			var inside, most atomic.Int32
			full := make(chan struct{})
			s := startServer(t, &ServerOptions{MessagesAtOnce: limit, HandleBin: func(conn int, p []byte) {
				n := inside.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				if int(n) == limit {
					select {
					case <-full:
					default:
						close(full)
					}
				}
				<-full // none goes before as many as may be are inside
				inside.Add(-1)
				Send(conn, NewFrameBin(false, p))
			}})
			c := s.connect(t)
			for range messages {
				c.send(NewFrameBin(true, []byte("x")))
			}
			for range messages {
				c.expect(OpcodeBin, "x")
			}
			require.Equal(t, limit, int(most.Load()))
		})
	}
}

func TestRequestsAtOnce(t *testing.T) {
	const limit = 4
	var inside, most atomic.Int32
	entered := make(chan uint64, 64)
	s := startServer(t, &ServerOptions{RequestsAtOnce: limit})
	release := make(chan struct{})
	now := rawRelease(t, release)
	require.NoError(t, s.RegisterTextHandler("GET", "/block", func(_ context.Context, req *Request) Response {
		n := inside.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		entered <- req.ID
		<-release
		inside.Add(-1)
		return Response{Code: 200, Body: req.Body}
	}))
	require.NoError(t, s.RegisterTextHandler("GET", "/fast", func(_ context.Context, req *Request) Response {
		return Response{Code: 200, Body: req.Body}
	}))
	request := func(id int, target string) string {
		return fmt.Sprintf(`{"id":%d,"method":"get","target":%q,"body":"b%d"}`, id, target, id)
	}
	c := s.connect(t)
	for id := 1; id < limit; id++ { // all but one of the places
		c.text(request(id, "/block"))
		require.Equal(t, uint64(id), rawGet(t, entered))
	}
	for id := 100; id < 200; id++ {
		c.text(request(id, "/fast"))
		c.expectText(fmt.Sprintf(`{"message":"","body":"b%d","id":%d,"code":200}`, id, id))
	}
	for id := limit; id < 3*limit; id++ {
		c.text(request(id, "/block"))
	}
	require.Equal(t, uint64(limit), rawGet(t, entered))
	c.send(NewFramePing(true, []byte("all of it was read")))
	c.expect(OpcodePong, "all of it was read")
	require.Empty(t, entered, "the limit holds")
	other := s.connect(t)
	other.text(request(1, "/fast"))
	other.expectText(`{"message":"","body":"b1","id":1,"code":200}`)
	now()
	ids := make(map[string]bool)
	for id := 1; id < 3*limit; id++ {
		_, payload, err := c.rawFrame()
		require.NoError(t, err)
		ids[string(payload)] = true
	}
	require.Len(t, ids, 3*limit-1)
	require.Equal(t, limit, int(most.Load()))
}

func TestBacklogIsBounded(t *testing.T) {
	inside := make(chan struct{}, 1)
	var blocked sync.Once
	next, wrong := 0, make(chan int, 1)
	const most, size = 64 << 20, 1 << 10
	opts := &ServerOptions{PingInterval: 100 * time.Millisecond, SilenceTimeout: 400 * time.Millisecond}
	release := make(chan struct{})
	opts.HandleBin = func(conn int, p []byte) {
		blocked.Do(func() {
			inside <- struct{}{}
			<-release
		})
		if len(p) != size || string(p[:8]) != fmt.Sprintf("%08d", next) {
			select {
			case wrong <- next:
			default:
			}
		}
		next++
		if string(p[8:12]) == "last" {
			Send(conn, NewFrameText(false, fmt.Append(nil, next)))
		}
	}
	s := startServer(t, opts)
	now := rawRelease(t, release)
	c := s.connect(t)
	message := func(i int, mark string) []byte {
		p := make([]byte, size)
		copy(p, fmt.Sprintf("%08d%s", i, mark))
		return NewFrameBin(true, p)
	}
	sent, rest := 0, []byte(nil)
	for sent*size < most && rest == nil {
		b := message(sent, "")
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
		n, err := c.Write(b)
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			rest = b[n:]
		}
		sent++
	}
	rawGet(t, inside)
	require.NotNil(t, rest, "the client could send %d bytes to a handler that blocks", most)
	mc := descriptors.get(s.Clients.All()[0])
	mc.mu.Lock()
	waiting := 0
	if mc.lanes.backlog != nil {
		waiting = mc.lanes.backlog.bytes
	}
	mc.mu.Unlock()
	require.LessOrEqual(t, waiting, maxBacklog+2*readSize)
	other := s.connect(t)
	other.send(NewFramePing(true, []byte("x")))
	for { // the server's own Pings come too
		op, payload, err := other.rawFrame()
		require.NoError(t, err)
		if op == OpcodePong {
			require.Equal(t, "x", string(payload))
			break
		}
	}
	<-time.After(600 * time.Millisecond) // the client would be silent, if it were read
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(3*rawWait)))
	now()
	c.send(rest)
	c.send(message(sent, "last"))
	for { // the silence of a client that is not read is not its own
		op, payload, err := c.rawFrame()
		require.NoError(t, err)
		if op == OpcodeText {
			require.Equal(t, fmt.Sprint(sent+1), string(payload))
			break
		}
		require.Equal(t, OpcodePing, op)
		c.send(NewFramePong(true, payload))
	}
	require.Empty(t, wrong)
}

func TestMemoryOfStrings(t *testing.T) {
	t.Run("a handler may keep what it was given for ever", func(t *testing.T) {
		kept := make(chan []byte, 4096)
		s := startServer(t, &ServerOptions{HandleText: func(conn int, p []byte) { kept <- p; rawEcho(conn, p) }})
		rawAll(t, 4, func(i int) error {
			c, err := s.rawJoin()
			if err != nil {
				return err
			}
			defer c.Close()
			for n := range 200 {
				want := strings.Repeat(fmt.Sprintf("%d-%d ", i, n), 1+n)
				if _, err = c.Write(NewFrameText(true, []byte(want))); err != nil {
					return err
				}
				if err = c.rawExpect(OpcodeText, want); err != nil {
					return err
				}
			}
			return nil
		})
		seen := make(map[string]bool)
		for range 4 * 200 {
			words := strings.Fields(string(rawGet(t, kept)))
			for _, word := range words {
				require.Equal(t, words[0], word)
			}
			require.False(t, seen[words[0]])
			seen[words[0]] = true
		}
	})
}
