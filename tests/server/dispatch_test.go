//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

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
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestIsolation(t *testing.T) {
	t.Run("64 handlers that block for ever do not hold up another connection", func(t *testing.T) {
		inside := make(chan struct{}, 64)
		release := make(chan struct{})
		s := peer.Start(t, &websocket.ServerOptions{HandleText: func(conn int, p []byte) {
			if string(p) == "block" {
				inside <- struct{}{}
				<-release
			}
			peer.Echo(conn, p)
		}})
		peer.Release(t, release)
		for range 64 {
			s.Connect(t).Text("block")
		}
		for range 64 {
			peer.Get(t, inside)
		}
		for range 4 {
			c := s.Connect(t)
			for i := range 100 {
				c.Text(fmt.Sprint(i))
				c.ExpectText(fmt.Sprint(i))
			}
		}
	})
	t.Run("a handler whose Send waits for a peer that does not read holds up nobody else", func(t *testing.T) {
		const size = 8 << 10
		var slow atomic.Int64
		errs := make(chan error, 1)
		opts := &websocket.ServerOptions{SendQueueSize: 64 << 10, WriteTimeout: time.Hour, HandleText: func(conn int, p []byte) {
			if string(p) == "fill" {
				errs <- websocket.Send(int(slow.Load()), websocket.NewFrameText(false, peer.Pattern(size, 1)))
			}
			peer.Echo(conn, p)
		}}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		lazy := s.Connect(t)
		slow.Store(int64(peer.Get(t, added)))
		sent := peer.Fill(t, int(slow.Load()), websocket.NewFrameText(false, peer.Pattern(size, 0)))
		c := s.Connect(t)
		c.Text("fill")
		for range 4 {
			other := s.Connect(t)
			other.Text("x")
			other.ExpectText("x")
		}
		require.Empty(t, errs)
		for range sent {
			lazy.ExpectText(string(peer.Pattern(size, 0)))
		}
		lazy.ExpectText(string(peer.Pattern(size, 1)))
		require.NoError(t, peer.Get(t, errs))
		c.ExpectText("fill")
	})
	t.Run("200 handlers of as many connections run side by side", func(t *testing.T) {
		const peers = 200
		var inside atomic.Int32
		all := make(chan struct{})
		s := peer.Start(t, &websocket.ServerOptions{HandleText: func(conn int, p []byte) {
			if inside.Add(1) == peers {
				close(all)
			}
			<-all
			peer.Echo(conn, p)
		}})
		conns := make([]*peer.Conn, peers)
		for i := range conns {
			conns[i] = s.Connect(t)
		}
		for i, c := range conns {
			c.Text(fmt.Sprint(i))
		}
		for i, c := range conns {
			c.ExpectText(fmt.Sprint(i))
		}
	})
	t.Run("a client with many short requests does not hold up the others of its loop", func(t *testing.T) {
		// Each request is shorter than what the monitor notices, thousands of them are not.
		const requests = 1200
		var handled atomic.Int32
		begun := make(chan struct{})
		s := peer.Start(t, nil)
		require.NoError(t, s.RegisterTextHandler("GET", "/", func(context.Context, *websocket.Request) websocket.Response {
			if handled.Add(1) == 1 {
				close(begun)
			}
			<-time.After(300 * time.Microsecond)
			return websocket.Response{}
		}))
		others := make([]*peer.Conn, 2*runtime.GOMAXPROCS(0)) // on every loop
		for i := range others {
			others[i] = s.Connect(t)
		}
		busy := s.Connect(t)
		var all []byte
		for i := range requests {
			all = append(all, websocket.NewFrameText(true, fmt.Appendf(nil, `{"id":%d,"method":"GET","target":"/"}`, i))...)
		}
		busy.Send(all[:50_000]) // in one read
		peer.Done(t, begun)
		for _, c := range others {
			c.Send(websocket.NewFramePing(true, []byte("x")))
		}
		for _, c := range others {
			c.Expect(websocket.OpcodePong, "x")
		}
		require.Less(t, int(handled.Load()), requests/2, "requests were handled before the others had their answers")
		busy.Send(all[50_000:])
		seen := make(map[uint64]bool)
		for range requests {
			var res websocket.Response
			op, payload, err := busy.Frame()
			require.NoError(t, err)
			require.Equal(t, websocket.OpcodeText, op)
			require.NoError(t, json.Unmarshal(payload, &res))
			require.False(t, seen[res.ID])
			seen[res.ID] = true
		}
	})
}

func TestOrderOfMessages(t *testing.T) {
	const messages = 2000
	for name, slow := range map[string]func(i int) bool{
		"if handlers are fast":                func(int) bool { return false },
		"if some handlers block for a moment": func(i int) bool { return i%150 == 7 },
		"if the first handler blocks":         func(i int) bool { return i == 0 },
	} {
		for _, piece := range []int{1 << 20, 1000, 7} {
			t.Run(fmt.Sprintf("messages of one connection are handled one by one in order %s, in pieces of %d bytes", name, piece), func(t *testing.T) {
				var inside atomic.Int32
				var next int
				wrong := make(chan string, messages)
				s := peer.Start(t, &websocket.ServerOptions{HandleText: func(conn int, p []byte) {
					if inside.Add(1) != 1 {
						wrong <- "two at the same time"
					}
					if string(p) != fmt.Sprint(next) {
						wrong <- fmt.Sprintf("%s instead of %d", p, next)
					}
					if slow(next) {
						<-time.After(5 * time.Millisecond)
					}
					next++
					peer.Echo(conn, p)
					inside.Add(-1)
				}})
				c := s.Connect(t)
				var all []byte
				for i := range messages {
					all = append(all, websocket.NewFrameText(true, fmt.Append(nil, i))...)
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
					c.ExpectText(fmt.Sprint(i))
				}
				require.NoError(t, peer.Get(t, errs))
				require.Empty(t, wrong)
			})
		}
	}
}

func TestMessagesAtOnce(t *testing.T) {
	t.Run("a handler may wait for a later message of its own connection", func(t *testing.T) {
		later := make(chan struct{})
		s := peer.Start(t, &websocket.ServerOptions{MessagesAtOnce: 2, HandleText: func(conn int, p []byte) {
			if string(p) == "later" {
				close(later)
			} else {
				<-later
			}
			peer.Echo(conn, p)
		}})
		c := s.Connect(t)
		c.Text("waits")
		c.Text("later")
		_, one, err := c.Frame()
		require.NoError(t, err)
		_, two, err := c.Frame()
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"waits", "later"}, []string{string(one), string(two)})
	})
	for _, limit := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("%d run at the same time and no more", limit), func(t *testing.T) {
			const messages = 300
			var inside, most atomic.Int32
			full := make(chan struct{})
			s := peer.Start(t, &websocket.ServerOptions{MessagesAtOnce: limit, HandleBin: func(conn int, p []byte) {
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
				websocket.Send(conn, websocket.NewFrameBin(false, p))
			}})
			c := s.Connect(t)
			for range messages {
				c.Send(websocket.NewFrameBin(true, []byte("x")))
			}
			for range messages {
				c.Expect(websocket.OpcodeBin, "x")
			}
			require.Equal(t, limit, int(most.Load()))
		})
	}
}

func TestRequestsAtOnce(t *testing.T) {
	const limit = 4
	var inside, most atomic.Int32
	entered := make(chan uint64, 64)
	s := peer.Start(t, &websocket.ServerOptions{RequestsAtOnce: limit})
	release := make(chan struct{})
	now := peer.Release(t, release)
	require.NoError(t, s.RegisterTextHandler("GET", "/block", func(_ context.Context, req *websocket.Request) websocket.Response {
		n := inside.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		entered <- req.ID
		<-release
		inside.Add(-1)
		return websocket.Response{Code: 200, Body: req.Body}
	}))
	require.NoError(t, s.RegisterTextHandler("GET", "/fast", func(_ context.Context, req *websocket.Request) websocket.Response {
		return websocket.Response{Code: 200, Body: req.Body}
	}))
	request := func(id int, target string) string {
		return fmt.Sprintf(`{"id":%d,"method":"get","target":%q,"body":"b%d"}`, id, target, id)
	}
	c := s.Connect(t)
	for id := 1; id < limit; id++ { // all but one of the places
		c.Text(request(id, "/block"))
		require.Equal(t, uint64(id), peer.Get(t, entered))
	}
	for id := 100; id < 200; id++ {
		c.Text(request(id, "/fast"))
		c.ExpectText(fmt.Sprintf(`{"message":"","body":"b%d","id":%d,"code":200}`, id, id))
	}
	for id := limit; id < 3*limit; id++ {
		c.Text(request(id, "/block"))
	}
	require.Equal(t, uint64(limit), peer.Get(t, entered))
	c.Send(websocket.NewFramePing(true, []byte("all of it was read")))
	c.Expect(websocket.OpcodePong, "all of it was read")
	require.Empty(t, entered, "the limit holds")
	other := s.Connect(t)
	other.Text(request(1, "/fast"))
	other.ExpectText(`{"message":"","body":"b1","id":1,"code":200}`)
	now()
	ids := make(map[string]bool)
	for id := 1; id < 3*limit; id++ {
		_, payload, err := c.Frame()
		require.NoError(t, err)
		ids[string(payload)] = true
	}
	require.Len(t, ids, 3*limit-1)
	require.Equal(t, limit, int(most.Load()))
}

// maxBacklog is how many bytes of messages may wait for handlers before their connection is not read any more, and readSize how
// many are read in one go.
const (
	maxBacklog = 64 << 10
	readSize   = 64 << 10
)

func TestBacklogIsBounded(t *testing.T) {
	inside := make(chan struct{}, 1)
	var blocked sync.Once
	next, wrong := 0, make(chan int, 1)
	const most, size = 64 << 20, 1 << 10
	opts := &websocket.ServerOptions{PingInterval: 100 * time.Millisecond, SilenceTimeout: 400 * time.Millisecond}
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
			websocket.Send(conn, websocket.NewFrameText(false, fmt.Append(nil, next)))
		}
	}
	s := peer.Start(t, opts)
	now := peer.Release(t, release)
	c := s.Connect(t)
	message := func(i int, mark string) []byte {
		p := make([]byte, size)
		copy(p, fmt.Sprintf("%08d%s", i, mark))
		return websocket.NewFrameBin(true, p)
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
	peer.Get(t, inside)
	require.NotNil(t, rest, "the client could send %d bytes to a handler that blocks", most)
	if toServer, _, ok := c.InKernel(s.Clients.All()[0]); ok {
		waiting := sent*len(message(0, "")) - len(rest) - toServer // and the message that the handler has
		require.LessOrEqual(t, waiting, maxBacklog+2*readSize)
	}
	other := s.Connect(t)
	other.Send(websocket.NewFramePing(true, []byte("x")))
	for { // the server's own Pings come too
		op, payload, err := other.Frame()
		require.NoError(t, err)
		if op == websocket.OpcodePong {
			require.Equal(t, "x", string(payload))
			break
		}
	}
	<-time.After(600 * time.Millisecond) // the client would be silent, if it were read
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(3*peer.Wait)))
	now()
	c.Send(rest)
	c.Send(message(sent, "last"))
	for { // the silence of a client that is not read is not its own
		op, payload, err := c.Frame()
		require.NoError(t, err)
		if op == websocket.OpcodeText {
			require.Equal(t, fmt.Sprint(sent+1), string(payload))
			break
		}
		require.Equal(t, websocket.OpcodePing, op)
		c.Send(websocket.NewFramePong(true, payload))
	}
	require.Empty(t, wrong)
}

func TestMemoryOfStrings(t *testing.T) {
	t.Run("a handler may keep what it was given for ever", func(t *testing.T) {
		kept := make(chan []byte, 4096)
		s := peer.Start(t, &websocket.ServerOptions{HandleText: func(conn int, p []byte) { kept <- p; peer.Echo(conn, p) }})
		peer.All(t, 4, func(i int) error {
			c, err := s.Join()
			if err != nil {
				return err
			}
			defer c.Close()
			for n := range 200 {
				want := strings.Repeat(fmt.Sprintf("%d-%d ", i, n), 1+n)
				if _, err = c.Write(websocket.NewFrameText(true, []byte(want))); err != nil {
					return err
				}
				if err = c.Compare(websocket.OpcodeText, want); err != nil {
					return err
				}
			}
			return nil
		})
		seen := make(map[string]bool)
		for range 4 * 200 {
			words := strings.Fields(string(peer.Get(t, kept)))
			for _, word := range words {
				require.Equal(t, words[0], word)
			}
			require.False(t, seen[words[0]])
			seen[words[0]] = true
		}
	})
}
