//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
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

func TestHandlersMayCallAnything(t *testing.T) {
	type call struct {
		name string
		do   func(s *rawServer, own, other int)
	}
	calls := []call{
		{"Send to their own connection", func(_ *rawServer, own, _ int) { Send(own, NewFrameText(false, []byte("x"))) }},
		{"Send to another connection", func(_ *rawServer, _, other int) { Send(other, NewFrameText(false, []byte("x"))) }},
		{"ClientRemove of their own connection", func(s *rawServer, own, _ int) { s.ClientRemove(own); s.ClientRemove(own) }},
		{"ClientRemove of another connection", func(s *rawServer, _, other int) { s.ClientRemove(other) }},
		{"everything of Clients", func(s *rawServer, own, other int) {
			s.Clients.Context(own)
			s.Clients.Context(other)
			s.Clients.Conns(1)
			s.Clients.SendUser(1, NewFrameText(false, []byte("x")))
			s.Clients.SendAll(NewFrameText(false, []byte("x")))
			for _, conn := range s.Clients.All() {
				ID(conn)
			}
			s.Clients.Len()
			s.Clients.Users()
		}},
		{"RegisterTextHandler, AllowReservedBits and Addr", func(s *rawServer, _, _ int) {
			s.RegisterTextHandler("GET", "/x", func(context.Context, *Request) Response { return Response{} })
			s.AllowReservedBits(false, false, false)
			s.Addr()
		}},
		{"a second Start", func(s *rawServer, _, _ int) { s.Start() }},
		{"a Close frame", func(_ *rawServer, own, _ int) { Send(own, NewFrameClose(false, StatusNormal, nil)) }},
		{"Stop", func(s *rawServer, _, _ int) { s.Stop() }},
	}
	for _, tc := range calls {
		for _, from := range []string{"HandleAuth", "HandleClientAdd", "HandleText", "HandleBin", "HandleRsvControl", "HandleClientRemove", "HandleStatus"} {
			t.Run(from+" may call "+tc.name, func(t *testing.T) {
				var s *rawServer
				var own, other atomic.Int64
				var armed atomic.Bool
				done := make(chan struct{})
				do := func(in string, conn int) {
					if in == "HandleClientAdd" && conn != int(other.Load()) {
						own.CompareAndSwap(-1, int64(conn))
					}
					if in == from && armed.CompareAndSwap(true, false) {
						if conn < 0 {
							conn = int(own.Load())
						}
						tc.do(s, conn, int(other.Load()))
						close(done)
					}
				}
				added := make(chan int, 8)
				own.Store(-1)
				other.Store(-1)
				s = startServer(t, &ServerOptions{
					Address:            "127.0.0.1:0",
					HandleAuth:         func(*Handshake) (context.Context, error) { do("HandleAuth", -1); return nil, nil },
					HandleClientAdd:    func(_ context.Context, conn int) { do("HandleClientAdd", conn); added <- conn },
					HandleText:         func(conn int, _ []byte) { do("HandleText", conn) },
					HandleBin:          func(conn int, _ []byte) { do("HandleBin", conn) },
					HandleRsvControl:   func(conn int, _ *Frame) { do("HandleRsvControl", conn) },
					HandleClientRemove: func(_ context.Context, conn int) { do("HandleClientRemove", conn) },
					HandleStatus:       func() (string, []byte) { do("HandleStatus", -1); return "text/plain", nil },
				})
				s.connect(t).rawLeave()
				other.Store(int64(rawGet(t, added)))
				own.Store(-1)
				armed.Store(true)
				c := s.dial(t)
				if from == "HandleStatus" {
					c.send([]byte("GET /status HTTP/1.1\r\n\r\n"))
				} else {
					c.send([]byte(rawRequest))
					c.send(NewFrameText(true, []byte("x")))
					c.send(NewFrameBin(true, []byte("x")))
					c.send(NewFrame(OpcodeControlRsvB, true, nil))
					c.send(NewFrameClose(true, StatusNormal, nil))
				}
				c.rawLeave()
				rawDone(t, done)
			})
		}
	}
}

func TestHandlerPanics(t *testing.T) {
	for name, fail := range map[string]func(){
		"a panic":             func() { panic("handler") },
		"a nil dereference":   func() { var p *rawServer; p.t.Name() },
		"runtime.Goexit":      runtime.Goexit,
		"a panic once late":   func() { <-time.After(5 * time.Millisecond); panic("late") },
		"runtime.Goexit late": func() { <-time.After(5 * time.Millisecond); runtime.Goexit() },
	} {
		for _, in := range []string{"HandleClientAdd", "HandleText", "HandleBin", "HandleRsvControl", "HandleClientRemove", "a routed request"} {
			t.Run(name+" in "+in+" ends that one connection with 1011", func(t *testing.T) {
				var armed atomic.Bool
				do := func(where string) {
					if where == in && armed.CompareAndSwap(true, false) {
						fail()
					}
				}
				removed := make(chan int, 8)
				added := make(chan int, 8)
				opts := &ServerOptions{
					HandleClientAdd: func(_ context.Context, conn int) {
						defer func() { added <- conn }() // the one before has passed when the next is to fail
						do("HandleClientAdd")
					},
					HandleText:       func(conn int, p []byte) { do("HandleText"); rawEcho(conn, p) },
					HandleBin:        func(int, []byte) { do("HandleBin") },
					HandleRsvControl: func(int, *Frame) { do("HandleRsvControl") },
					HandleClientRemove: func(_ context.Context, conn int) {
						removed <- conn
						do("HandleClientRemove")
					},
				}
				if in == "a routed request" {
					opts.HandleText = nil
				}
				s := startServer(t, opts)
				require.NoError(t, s.RegisterTextHandler("GET", "/", func(context.Context, *Request) Response {
					do("a routed request")
					return Response{}
				}))
				other := s.connect(t)
				rawGet(t, added)
				armed.Store(true)
				c := s.connect(t)
				conn := rawGet(t, added)
				switch in {
				case "HandleText":
					c.text("x")
				case "HandleBin":
					c.send(NewFrameBin(true, nil))
				case "HandleRsvControl":
					c.send(NewFrame(OpcodeControlRsvC, true, nil))
				case "HandleClientRemove":
					c.send(NewFrameClose(true, StatusNormal, nil))
				case "a routed request":
					c.text(`{"id":1,"method":"GET","target":"/"}`)
				}
				if in == "HandleClientRemove" {
					c.expectClose(StatusNormal) // it had been answered already
				} else {
					c.expectClose(StatusInternalError)
				}
				require.Equal(t, conn, rawGet(t, removed))
				for range 2 { // every loop lives
					again := s.connect(t)
					again.text(`{"id":2,"method":"GET","target":"/"}`)
					op, _, err := again.rawFrame()
					require.NoError(t, err)
					require.Equal(t, OpcodeText, op)
				}
				other.text(`{"id":2,"method":"GET","target":"/"}`)
				op, _, err := other.rawFrame()
				require.NoError(t, err)
				require.Equal(t, OpcodeText, op)
				require.Empty(t, removed, "Remove is called once")
			})
		}
	}
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
	if mc.backlog != nil {
		waiting = mc.backlog.bytes
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

func TestHandleClientAdd(t *testing.T) {
	t.Run("it returns before the first message is handled", func(t *testing.T) {
		var added atomic.Bool
		early := make(chan bool, 100)
		s := startServer(t, &ServerOptions{
			AddTimeout:      time.Hour,
			HandleClientAdd: func(context.Context, int) { <-time.After(5 * time.Millisecond); added.Store(true) },
			HandleText:      func(conn int, p []byte) { early <- !added.Load(); rawEcho(conn, p) },
		})
		c := s.dial(t)
		all := []byte(rawRequest)
		for range 100 {
			all = append(all, NewFrameText(true, []byte("x"))...)
		}
		c.send(all)
		_, err := c.r.Discard(len(rawAccepted))
		require.NoError(t, err)
		for range 100 {
			c.expectText("x")
			require.False(t, rawGet(t, early))
		}
	})
	t.Run("after AddTimeout it goes on as a writer while messages are handled", func(t *testing.T) {
		ended := make(chan struct{})
		words := make(chan string)
		opts := &ServerOptions{AddTimeout: 10 * time.Millisecond, HandleText: rawEcho}
		opts.HandleClientAdd = func(_ context.Context, conn int) {
			defer close(ended)
			for word := range words {
				if Send(conn, NewFrameText(false, []byte(word))) != nil {
					return
				}
			}
		}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		for i := range 100 {
			c.text("message")
			c.expectText("message")
			words <- fmt.Sprint(i)
			c.expectText(fmt.Sprint(i))
		}
		c.reset()
		close(words)
		rawDone(t, ended)
		rawGet(t, removed)
	})
}

func TestAddAndRemove(t *testing.T) {
	const workers, each = 10, 100
	type record struct{ adds, removes, running int }
	records := make(map[uint64]*record)
	var mu sync.Mutex
	var problems []string
	note := func(ok bool, problem string) {
		if !ok {
			problems = append(problems, problem)
		}
	}
	ids := make(map[int]uint64) // the last id on each number
	s := startServer(t, nil)
	s.stop(t)
	opts := s.Options
	opts.HandleAuth = func(*Handshake) (context.Context, error) {
		return context.WithValue(context.Background(), CtxKeyUID, 7), nil
	}
	opts.HandleClientAdd = func(ctx context.Context, conn int) {
		mu.Lock()
		defer mu.Unlock()
		id := ID(conn)
		note(id != 0 && records[id] == nil, "an id is 0 or comes twice")
		records[id] = &record{adds: 1}
		ids[conn] = id
	}
	opts.HandleText = func(conn int, p []byte) {
		mu.Lock()
		rec := records[ids[conn]]
		note(rec != nil && rec.removes == 0, "a message before Add or after Remove")
		rec.running++
		mu.Unlock()
		if len(p) == 3 {
			runtime.Gosched()
		}
		rawEcho(conn, p)
		mu.Lock()
		rec.running--
		mu.Unlock()
	}
	opts.HandleClientRemove = func(ctx context.Context, conn int) {
		got, ok := s.Clients.Context(conn)
		listed := slices.Contains(s.Clients.All(), conn) || slices.Contains(s.Clients.Conns(7), conn)
		mu.Lock()
		defer mu.Unlock()
		note(ok && got == ctx, "Context does not answer in Remove")
		note(!listed, "All or Conns list a connection in Remove")
		rec := records[ids[conn]]
		note(rec != nil, "Remove without Add")
		note(ID(conn) == ids[conn], "ID does not answer in Remove")
		rec.removes++
		note(rec.running == 0, "a handler runs in Remove")
	}
	s.restart(t)
	rawAll(t, workers, func(worker int) error {
		for i := range each {
			c, err := s.rawJoin()
			if err != nil {
				return err
			}
			if _, err = c.Write(NewFrameText(true, fmt.Appendf(nil, "%d", i))); err != nil {
				return err
			}
			switch i % 4 {
			case 0, 1: // with answers on their way
				c.reset()
				continue
			case 2:
				err = errors.Join(c.rawExpect(OpcodeText, fmt.Sprint(i)))
			case 3:
				c.Write(NewFrameClose(true, StatusNormal, nil))
				err = errors.Join(c.rawExpect(OpcodeText, fmt.Sprint(i)), c.rawExpect(OpcodeClose, rawCloseBody(StatusNormal, "")))
			}
			c.Close()
			if err != nil {
				return fmt.Errorf("worker %d, %d: %w", worker, i, err)
			}
		}
		return nil
	})
	require.True(t, eventually(func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, rec := range records {
			if rec.removes == 0 {
				return false
			}
		}
		return len(records) == workers*each
	}))
	s.stop(t)
	mu.Lock()
	defer mu.Unlock()
	require.Empty(t, problems)
	for _, rec := range records {
		require.Equal(t, record{adds: 1, removes: 1}, *rec)
	}
}

func TestHandleClientRemove(t *testing.T) {
	t.Run("it waits for the handler that runs", func(t *testing.T) {
		inside := make(chan struct{}, 1)
		release := make(chan struct{})
		var returned atomic.Bool
		early := make(chan bool, 1)
		s := startServer(t, &ServerOptions{
			HandleText: func(int, []byte) {
				inside <- struct{}{}
				<-release
				returned.Store(true)
			},
			HandleClientRemove: func(context.Context, int) { early <- !returned.Load() },
		})
		now := rawRelease(t, release)
		c := s.connect(t)
		c.text("x")
		rawGet(t, inside)
		conn := s.Clients.All()[0]
		c.reset()
		require.True(t, eventually(func() bool { return s.Clients.Len() == 0 }), "it leaves Clients at once")
		_, ok := s.Clients.Context(conn)
		require.True(t, ok)
		require.Empty(t, early)
		now()
		require.False(t, rawGet(t, early))
		require.True(t, eventually(func() bool { _, ok := s.Clients.Context(conn); return !ok }))
	})
	t.Run("where a handler blocks for longer than the write time-out, the socket goes all the same", func(t *testing.T) {
		inside := make(chan struct{}, 1)
		release := make(chan struct{})
		opts := &ServerOptions{WriteTimeout: 50 * time.Millisecond, HandleText: func(int, []byte) {
			inside <- struct{}{}
			<-release
		}}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		now := rawRelease(t, release)
		c := s.connect(t)
		c.text("x")
		rawGet(t, inside)
		conn := s.Clients.All()[0]
		c.send(NewFrameClose(true, 4000, nil))
		c.expectClose(4000)
		c.Close()
		require.ErrorIs(t, Send(conn, []byte("x")), ErrConnClosed)
		require.Empty(t, removed)
		now()
		require.Equal(t, conn, rawGet(t, removed))
	})
	t.Run("it may send a goodbye when the program removes the connection", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleClientRemove: func(_ context.Context, conn int) {
			Send(conn, NewFrameText(false, []byte("goodbye")))
		}})
		c := s.connect(t)
		c.text("x")
		c.expectText("x")
		s.ClientRemove(s.Clients.All()[0])
		c.expectText("goodbye")
		c.expectClose(StatusNormal)
	})
	t.Run("its goodbye may be a Close frame of its own", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandleText: rawEcho, HandleClientRemove: func(_ context.Context, conn int) {
			Send(conn, NewFrameClose(false, 4001, []byte("mine")))
		}})
		c := s.connect(t)
		c.text("x")
		c.expectText("x")
		s.ClientRemove(s.Clients.All()[0])
		c.expect(OpcodeClose, rawCloseBody(4001, "mine"))
		c.expectEOF()
	})
	t.Run("it cannot send after the client's Close was answered", func(t *testing.T) {
		errs := make(chan error, 1)
		s := startServer(t, &ServerOptions{HandleClientRemove: func(_ context.Context, conn int) {
			errs <- Send(conn, NewFrameText(false, []byte("goodbye")))
		}})
		c := s.connect(t)
		c.send(NewFrameClose(true, StatusNormal, nil))
		c.expectClose(StatusNormal)
		require.ErrorIs(t, rawGet(t, errs), ErrConnClosed)
	})
}

func TestClientRemove(t *testing.T) {
	t.Run("what was sent before it arrives, all of it", func(t *testing.T) {
		opts := new(ServerOptions)
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		want := rawPattern(16<<20, 0)
		require.NoError(t, Send(conn, NewFrameText(false, want)))
		s.ClientRemove(conn)
		require.Empty(t, s.Clients.All())
		c.expectText(string(want))
		c.expectClose(StatusNormal)
	})
	t.Run("it does nothing on a number that is no open connection of this server", func(t *testing.T) {
		opts := &ServerOptions{HandleText: rawEcho}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		otherOpts := &ServerOptions{HandleText: rawEcho}
		otherAdded := rawAdded(otherOpts)
		other := startServer(t, otherOpts)
		c, foreign := s.connect(t), other.connect(t)
		conn, foreignConn := rawGet(t, added), rawGet(t, otherAdded)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close()
		for fd := -2; fd < 1000; fd++ {
			if fd != conn {
				s.ClientRemove(fd)
			}
		}
		s.ClientRemove(math.MaxInt)
		for _, peer := range []*rawConn{c, foreign} {
			peer.text("alive")
			peer.expectText("alive")
		}
		require.Equal(t, []int{foreignConn}, other.Clients.All())
		probe, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		probe.Close()
		s.ClientRemove(conn)
		s.ClientRemove(conn)
		c.expectClose(StatusNormal)
		rawGet(t, removed)
		s.ClientRemove(conn)
		require.True(t, eventually(func() bool { _, ok := s.Clients.Context(conn); return !ok }))
		s.ClientRemove(conn)
		require.Empty(t, removed)
		foreign.Close()
		other.stop(t)
		s.stop(t) // gives the number back, before descriptors are counted
	})
	t.Run("messages that wait for their handler are dropped", func(t *testing.T) {
		inside := make(chan string, 16)
		release := make(chan struct{})
		opts := &ServerOptions{HandleText: func(_ int, p []byte) {
			inside <- string(p)
			<-release
		}}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		now := rawRelease(t, release)
		c := s.connect(t)
		c.text("first")
		require.Equal(t, "first", rawGet(t, inside))
		c.text("second")
		c.send(NewFramePing(true, nil))
		c.expect(OpcodePong, "") // it has been read
		s.ClientRemove(s.Clients.All()[0])
		now()
		rawGet(t, removed)
		require.Empty(t, inside)
	})
	t.Run("so are those that came in the same read as the one that removes", func(t *testing.T) {
		handled := make(chan string, 64)
		remove := make(chan func(int), 1)
		opts := &ServerOptions{HandleText: func(conn int, p []byte) {
			handled <- string(p)
			if string(p) == "3" {
				(<-remove)(conn)
			}
		}}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		remove <- s.ClientRemove
		c := s.connect(t)
		var all []byte
		for i := range 20 {
			all = append(all, NewFrameText(true, fmt.Append(nil, i))...)
		}
		c.send(all)
		c.expectClose(StatusNormal)
		rawGet(t, removed)
		close(handled)
		var got []string
		for p := range handled {
			got = append(got, p)
		}
		require.Equal(t, []string{"0", "1", "2", "3"}, got)
	})
}

func TestCloseFromProgram(t *testing.T) {
	t.Run("data after its Close frame fails, and the client's answer ends the connection without a second one", func(t *testing.T) {
		opts := new(ServerOptions)
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		require.NoError(t, Send(conn, NewFrameText(false, []byte("last"))))
		require.NoError(t, Send(conn, NewFrameClose(false, 4002, []byte("enough"))))
		require.ErrorIs(t, Send(conn, NewFrameText(false, []byte("more"))), ErrConnClosed)
		require.ErrorIs(t, Send(conn, NewFrameClose(false, StatusNormal, nil)), ErrConnClosed)
		sent, failed := s.Clients.SendAll(NewFrameText(false, []byte("more")))
		require.Zero(t, sent)
		for _, err := range failed {
			require.ErrorIs(t, err, ErrConnClosed)
		}
		c.expectText("last")
		c.expect(OpcodeClose, rawCloseBody(4002, "enough"))
		c.send(NewFramePing(true, []byte("x"))) // not answered any more
		c.send(NewFrameClose(true, 4002, nil))
		c.expectEOF()
		require.Equal(t, conn, rawGet(t, removed))
	})
	t.Run("a client that does not answer is disconnected after the write time-out", func(t *testing.T) {
		opts := &ServerOptions{WriteTimeout: 50 * time.Millisecond}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		require.NoError(t, Send(conn, NewFrameClose(false, 4002, nil)))
		c.expect(OpcodeClose, rawCloseBody(4002, ""))
		c.expectEOF()
		require.Equal(t, conn, rawGet(t, removed))
	})
	t.Run("a Close frame from a handler goes out behind its answers", func(t *testing.T) {
		s := startServer(t, &ServerOptions{HandleText: func(conn int, p []byte) {
			rawEcho(conn, p)
			if string(p) == "9" {
				Send(conn, NewFrameClose(false, 4003, nil))
			}
		}})
		c := s.connect(t)
		var all []byte
		for i := range 20 {
			all = append(all, NewFrameText(true, fmt.Append(nil, i))...)
		}
		c.send(all)
		for i := range 10 {
			c.expectText(fmt.Sprint(i))
		}
		c.expect(OpcodeClose, rawCloseBody(4003, ""))
		c.send(NewFrameClose(true, 4003, nil))
		c.expectEOF()
	})
}

func TestPings(t *testing.T) {
	const interval = 30 * time.Millisecond
	t.Run("an idle client is sent Pings, and one that answers is kept", func(t *testing.T) {
		opts := &ServerOptions{PingInterval: interval, SilenceTimeout: time.Hour, HandleText: rawEcho}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		for range 5 {
			op, payload, err := c.rawFrame()
			require.NoError(t, err)
			require.Equal(t, OpcodePing, op)
			c.send(NewFramePong(true, payload))
		}
		require.Empty(t, removed)
	})
	t.Run("anything that a client sends is an answer", func(t *testing.T) {
		opts := &ServerOptions{PingInterval: interval, SilenceTimeout: time.Hour}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		for range 5 {
			c.expect(OpcodePing, "")
			c.send(NewFrameBin(true, nil))
		}
		require.Empty(t, removed)
	})
	t.Run("a client that stays silent is removed after its Ping", func(t *testing.T) {
		opts := &ServerOptions{PingInterval: interval, SilenceTimeout: interval}
		added, removed := rawAdded(opts), rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		c.expect(OpcodePing, "")
		c.expectEOF()
		require.Equal(t, conn, rawGet(t, removed))
		require.Zero(t, s.Clients.Len())
	})
	t.Run("a silent client whose handler blocks is answered no more, and removed once", func(t *testing.T) {
		inside := make(chan struct{}, 1)
		release := make(chan struct{})
		opts := &ServerOptions{PingInterval: interval, SilenceTimeout: interval, HandleText: func(int, []byte) {
			inside <- struct{}{}
			<-release
		}}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		now := rawRelease(t, release)
		c := s.connect(t)
		c.text("x")
		rawGet(t, inside)
		require.True(t, eventually(func() bool { return s.Clients.Len() == 0 }))
		now()
		rawGet(t, removed)
		require.Empty(t, removed)
	})
	t.Run("a client that is busy with a long message is not silent", func(t *testing.T) {
		const parts = 24
		packet := NewFrameText(false, rawPattern(parts<<20, 0)) // it takes a while, in which nobody would answer Pings
		got := make([]byte, len(packet))
		opts := &ServerOptions{PingInterval: interval, SilenceTimeout: 500 * time.Millisecond}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		// Little room in the system: what a Ping has to wait for is in the queue.
		require.NoError(t, c.Conn.(*net.TCPConn).SetReadBuffer(64<<10))
		require.NoError(t, unix.SetsockoptInt(conn, unix.SOL_SOCKET, unix.SO_SNDBUF, 64<<10))
		require.NoError(t, Send(conn, packet))
		for _, err := io.ReadFull(c.r, got[:2]); got[0] == 0x89; _, err = io.ReadFull(c.r, got[:2]) { // a Ping before it
			require.NoError(t, err)
		}
		for part := range slices.Chunk(got[2:], 1<<20) {
			<-time.After(50 * time.Millisecond)
			_, err := io.ReadFull(c.r, part)
			require.NoError(t, err)
		}
		require.True(t, bytes.Equal(packet, got))
	})
	t.Run("below zero, no Pings are sent and silent clients are kept", func(t *testing.T) {
		opts := &ServerOptions{PingInterval: -1, SilenceTimeout: time.Millisecond, HandleText: rawEcho}
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		<-time.After(5 * interval)
		c.text("x")
		c.expectText("x") // no Ping before it
		require.Empty(t, removed)
	})
	t.Run("clients that were opened together are not pinged together", func(t *testing.T) {
		const peers, long = 32, time.Second
		s := startServer(t, &ServerOptions{PingInterval: long})
		conns := make([]*rawConn, peers)
		for i := range conns {
			conns[i] = s.connect(t)
		}
		first, last := time.Time{}, time.Time{}
		var mu sync.Mutex
		rawAll(t, peers, func(i int) error {
			err := conns[i].rawExpect(OpcodePing, "")
			mu.Lock()
			defer mu.Unlock()
			if last = time.Now(); first.IsZero() {
				first = last
			}
			return err
		})
		require.Greater(t, last.Sub(first), long/4, "they are spread over three quarters of the interval")
	})
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
