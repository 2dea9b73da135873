//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSendOnServerConnection(t *testing.T) {
	t.Run("a queue that is never empty keeps to its size", func(t *testing.T) {
		const queue, packets = 64 << 10, 4000
		opts := &ServerOptions{SendQueueSize: queue}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		sent := rawFill(t, conn, NewFrameText(false, rawPattern(8<<10, 0)))
		errs, most := make(chan error, 1), 0
		go func() {
			packet := NewFrameText(false, rawPattern(8<<10, 0))
			mc := descriptors.get(conn)
			for range packets {
				if err := Send(conn, packet); err != nil {
					errs <- err
					return
				}
				mc.mu.Lock()
				if mc.out != nil {
					most = max(most, cap(mc.out.buf))
				}
				mc.mu.Unlock()
			}
			errs <- nil
		}()
		for range sent + packets {
			c.expectText(string(rawPattern(8<<10, 0)))
		}
		require.NoError(t, rawGet(t, errs))
		require.LessOrEqual(t, most, 4*queue)
	})
}

func TestSendToSlowPeer(t *testing.T) {

	t.Run("Pongs for a peer that does not read are coalesced to the latest", func(t *testing.T) {
		opts := &ServerOptions{SendQueueSize: 64 << 10}
		added := rawAdded(opts)
		s := startServer(t, opts)
		c := s.connect(t)
		conn := rawGet(t, added)
		require.NoError(t, unix.SetsockoptInt(conn, unix.SOL_SOCKET, unix.SO_SNDBUF, 32<<10))
		sent := rawFill(t, conn, NewFrameText(false, rawPattern(8<<10, 0)))
		queued := func() int {
			mc := descriptors.get(conn)
			mc.mu.Lock()
			defer mc.mu.Unlock()
			return cap(mc.out.buf) + cap(mc.out.pong)
		}
		before := queued()
		const pings = 20_000
		var packet []byte
		for i := range pings {
			packet = NewFramePing(true, fmt.Appendf(nil, "%0120d", i))
			c.send(packet)
		}
		require.True(t, eventually(func() bool {
			mc := descriptors.get(conn)
			mc.mu.Lock()
			defer mc.mu.Unlock()
			return mc.out.hasPong && string(mc.out.pong) == fmt.Sprintf("%0120d", pings-1)
		}))
		require.LessOrEqual(t, queued(), before+maxControl+1<<10)
		for range sent {
			c.expectText(string(rawPattern(8<<10, 0)))
		}
		pongs, last := 0, ""
		for last != fmt.Sprintf("%0120d", pings-1) { // the system takes a little more later, without the peer
			op, payload, err := c.rawFrame()
			require.NoError(t, err)
			require.Equal(t, OpcodePong, op)
			require.Greater(t, string(payload), last)
			pongs, last = pongs+1, string(payload)
		}
		require.Less(t, pongs, pings/10)
		c.text(`{"id":1}`)
		op, _, err := c.rawFrame()
		require.NoError(t, err)
		require.Equal(t, OpcodeText, op, "the latest Pong is the last")
	})
}

// TestSendThatWaitedTooLong has a queue in front of a socket that has taken nothing for a while.
func TestSendThatWaitedTooLong(t *testing.T) {
	for _, row := range []struct {
		name  string
		taken time.Duration // before now
		err   error
		phase phase
	}{
		{"a peer that took something is kept", defaultWriteTimeout / 4, ErrSendQueueFull, phaseOpen},
		{"one that has taken nothing for half of the time is not", defaultWriteTimeout / 2, ErrWriteTimeout, phaseEnding},
	} {
		t.Run(row.name, func(t *testing.T) {
			l, _ := serveLoop(t, nil)
			c, _ := serveConn(t, l)
			for err := error(nil); err == nil; {
				_, err = writeSocket(c.fd(), make([]byte, readSize), false)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.queue(&outgoing{body: []byte("x")})
			c.watchForRoom()
			c.out.since = now() - int64(row.taken)
			require.Equal(t, row.err, c.tooSlowLocked())
			require.Equal(t, row.phase, c.phase)
		})
	}
}

func TestQueueDoesNotGrowWithWhatPasses(t *testing.T) {
	l, _ := serveLoop(t, nil)
	c, _ := serveConn(t, l)
	piece := rawPattern(1000, 0)
	for range 1000 {
		c.queue(&outgoing{body: piece})
		if c.out.len() == 2*len(piece) {
			require.Equal(t, piece, c.out.buf[c.out.sent:][:len(piece)])
			c.out.sent += len(piece) // as if the socket had taken it
		}
	}
	require.LessOrEqual(t, cap(c.out.buf), 8*len(piece))
}

// streamPair returns the streams at both ends of a socket.
func streamPair(t *testing.T) (a, b *stream) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		unix.Close(pair[0])
		unix.Close(pair[1])
	})
	for _, fd := range pair {
		require.NoError(t, unix.SetNonblock(fd, true))
	}
	return &stream{nextID(pair[0])}, &stream{nextID(pair[1])}
}

func TestStream(t *testing.T) {
	buf := make([]byte, 100)
	t.Run("bytes arrive one by one, in their order", func(t *testing.T) {
		a, b := streamPair(t)
		for _, sent := range rawPattern(1000, 0) {
			n, err := a.write([]byte{sent}, false)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			n, err = b.read(buf)
			require.NoError(t, err)
			require.Equal(t, []byte{sent}, buf[:n])
		}
	})
	t.Run("if nothing has arrived there is no end", func(t *testing.T) {
		a, _ := streamPair(t)
		_, err := a.read(buf)
		require.ErrorIs(t, err, errWouldBlock)
	})
	t.Run("both parts are written as one", func(t *testing.T) {
		a, b := streamPair(t)
		n, more, err := a.writeParts([]byte("head "), []byte("body"))
		require.NoError(t, err)
		require.True(t, more)
		require.Equal(t, 9, n)
		n, err = b.read(buf)
		require.NoError(t, err)
		require.Equal(t, "head body", string(buf[:n]))
	})
	t.Run("a full socket takes what it takes, and more when there is room", func(t *testing.T) {
		a, b := streamPair(t)
		sent := rawPattern(8<<20, 0)
		left := sent
		n, err := a.write(left, false)
		require.NoError(t, err)
		require.NotZero(t, n)
		require.Less(t, n, len(left))
		left = left[n:]
		n, more, err := a.writeParts(left[:10], left[10:])
		require.NoError(t, err)
		require.Zero(t, n)
		require.False(t, more)
		var got []byte
		large := make([]byte, 64<<10)
		for len(got) < len(sent) {
			n, err := b.read(large)
			require.NoError(t, err)
			got = append(got, large[:n]...)
			n, err = a.write(left, false)
			require.NoError(t, err)
			left = left[n:]
		}
		require.Equal(t, sent, got)
	})
	t.Run("after the half-close the peer reads the end, and can still send", func(t *testing.T) {
		a, b := streamPair(t)
		_, err := a.write([]byte("last"), true)
		require.NoError(t, err)
		a.halfClose()
		n, err := b.read(buf)
		require.NoError(t, err)
		require.Equal(t, "last", string(buf[:n]))
		n, err = b.read(buf)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = b.write([]byte("answer"), false)
		require.NoError(t, err)
		n, err = a.read(buf)
		require.NoError(t, err)
		require.Equal(t, "answer", string(buf[:n]))
	})
	t.Run("a peer that is gone is an error, and costs no signal", func(t *testing.T) {
		a, b := streamPair(t)
		b.cover(-1, false)
		_, err := a.write([]byte("x"), false)
		require.Error(t, err)
		_, _, err = a.writeParts([]byte("x"), []byte("y"))
		require.Error(t, err)
	})
	t.Run("a covered number is the placeholder", func(t *testing.T) {
		placeholder, err := newPlaceholder()
		require.NoError(t, err)
		defer unix.Close(placeholder)
		a, b := streamPair(t)
		require.NoError(t, a.cover(placeholder, false))
		n, err := b.read(buf)
		require.NoError(t, err)
		assert.Zero(t, n, "the peer reads the end")
		_, err = a.write([]byte("x"), false)
		assert.Error(t, err, "and nothing written to the number reaches it")
	})
}

// TestServerAnswersInTurn has what a client sends in one piece answered in the order in which it was sent.
func TestServerAnswersInTurn(t *testing.T) {
	t.Run("Pings and messages, by a loop that calls the handlers itself", func(t *testing.T) {
		l, lease := serveLoop(t, func(conn int, p []byte) { SendBin(conn, p) })
		c, peer := serveConn(t, l)
		var in, want []byte
		for i := range 10 {
			ping, message := fmt.Appendf(nil, "ping %d", i), fmt.Appendf(nil, "message %d", i)
			in = append(append(in, NewFramePing(true, ping)...), NewFrameBin(true, message)...)
			want = append(append(want, NewFramePong(false, ping)...), NewFrameBin(false, message)...)
		}
		in, want = append(in, NewFramePing(true, nil)...), append(want, NewFramePong(false, nil)...)
		for range 3 { // what is kept from one read to the next does not show
			_, err := writeSocket(peer, in, false)
			require.NoError(t, err)
			c.readable = true
			l.serve(lease, c)
			got := make([]byte, len(want)+1)
			n, err := readSocket(peer, got)
			require.NoError(t, err)
			require.Equal(t, want, got[:n])
			require.Nil(t, c.lanes.backlog)
		}
	})
}

func TestPongsThatWait(t *testing.T) {
	b := new(backlog)
	b.addPong([]byte("0"))
	b.addPong([]byte("1"))
	require.Len(t, b.pongs, 1, "those behind the same message are one write")
	b.add(laneOrdered, message{})
	b.addPong([]byte("2"))
	require.Len(t, b.pongs, 2)
	require.False(t, b.isEmpty())
	b.clear()
	require.True(t, b.isEmpty(), "the next connection that has it gets no Pong of this one")

	t.Run("they end with the messages in front of them", func(t *testing.T) {
		l, lease := serveLoop(t, nil)
		l.opts.HandleBin = func(conn int, _ []byte) { panic("a handler of the test") }
		c, peer := serveConn(t, l)
		in := append(NewFrameBin(true, nil), NewFramePing(true, nil)...)
		_, err := writeSocket(peer, in, false)
		require.NoError(t, err)
		c.readable = true
		l.serve(lease, c)
		require.Nil(t, c.lanes.backlog)
	})
}

func TestHowLongAnEndWaitsForHandlers(t *testing.T) {
	opts := &ServerOptions{WriteTimeout: 10 * time.Second}
	for _, row := range []struct {
		name string
		why  endReason
		want time.Duration
	}{
		{"a client's Close frame waits for a second", endReason{code: StatusNormal}, maxAnswerTime},
		{"one that is removed may get a goodbye", endReason{code: StatusNormal, farewell: true}, opts.WriteTimeout},
		{"one that has ended its side gets answers", endReason{}, opts.WriteTimeout},
	} {
		t.Run(row.name, func(t *testing.T) {
			require.EqualValues(t, 1000+row.want, row.why.waitsUntil(1000, int64(opts.WriteTimeout)))
		})
	}
	opts.WriteTimeout = time.Millisecond
	require.EqualValues(t, 1000+time.Millisecond, (&endReason{code: StatusNormal}).waitsUntil(1000, int64(opts.WriteTimeout)))
}

func TestDone(t *testing.T) {
	t.Run("it keeps nothing of connections that have ended", func(t *testing.T) {
		opts := &ServerOptions{}
		opts.HandleClientAdd = func(_ context.Context, conn int) { Done(conn) }
		removed := rawRemoved(opts)
		s := startServer(t, opts)
		for range 10 {
			s.connect(t).Close()
			rawGet(t, removed)
		}
		s.mu.Lock()
		e := s.runningLocked()
		s.mu.Unlock()
		e.ends.mu.Lock()
		defer e.ends.mu.Unlock()
		assert.Empty(t, e.ends.channels)
	})
}

func TestRemoveBesideWriter(t *testing.T) {
	t.Run("AddTimeout counts from the call of HandleClientAdd", func(t *testing.T) {
		l, _ := serveLoop(t, nil)
		l.limits.add = int64(time.Hour)
		l.opts.HandleClientAdd = func(context.Context, int) {}
		c, _ := serveConn(t, l)
		c.mu.Lock()
		c.lanes.add = addDue
		_, ok := c.takeLocked()
		require.True(t, ok)
		require.False(t, c.lanes.add == addAwaited, "it has not been called")
		c.mu.Unlock()
		c.addStarts()
		c.mu.Lock()
		defer c.mu.Unlock()
		require.True(t, c.lanes.add == addAwaited)
		began := c.rare.moments.addBegan
		c.endLocked(endReason{})
		s := c.clockStateLocked()
		by, _ := c.clocks.due(began, &s, &l.limits)
		require.LessOrEqual(t, by, began+int64(time.Hour))
		_, do := c.clocks.due(began+int64(time.Hour), &s, &l.limits)
		require.Equal(t, clockGoesOn, do)
	})
	t.Run("a HandleClientRemove that has the time to send a goodbye sends it beside a writer", func(t *testing.T) {
		added, gone, inside, release := make(chan int, 1), make(chan struct{}), make(chan struct{}), make(chan struct{})
		errs := make(chan error, 1)
		opts := &ServerOptions{AddTimeout: time.Millisecond, HandleText: rawEcho}
		opts.HandleClientAdd = func(_ context.Context, conn int) { added <- conn; <-gone }
		opts.HandleClientRemove = func(_ context.Context, conn int) {
			close(inside)
			<-release
			errs <- SendBin(conn, []byte("bye"))
			close(gone)
		}
		s := startServer(t, opts)
		now := rawRelease(t, release)
		c := s.connect(t)
		conn := rawGet(t, added)
		c.text("x")
		c.expectText("x") // the writer is waited for no more
		s.ClientRemove(conn)
		rawDone(t, inside)
		d := descriptors.get(conn)
		d.mu.Lock()
		d.postLocked() // the loop looks at it once more
		d.mu.Unlock()
		now()
		require.NoError(t, rawGet(t, errs))
		c.expect(OpcodeBin, "bye")
	})
	t.Run("nothing keeps a connection whose HandleClientAdd has returned", func(t *testing.T) {
		release := make(chan struct{})
		s := startServer(t, &ServerOptions{AddTimeout: time.Hour, HandleClientAdd: func(context.Context, int) { <-release }})
		now := rawRelease(t, release)
		c := s.connect(t)
		require.True(t, eventually(func() bool { return s.Clients.Len() == 1 }))
		d := descriptors.get(s.Clients.All()[0])
		c.reset()
		s.stop(t)
		d.mu.Lock()
		timer := d.rare.goesOn
		d.mu.Unlock()
		require.NotNil(t, timer)
		now()
		require.True(t, eventually(func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.phase == phaseGone }))
		require.False(t, timer.Stop(), "it was stopped")
	})
}

// Messages without packets, and buffers that are given back.

func TestPutBuffer(t *testing.T) {
	t.Run("a buffer comes back for a message of its size, and shows no more than that", func(t *testing.T) {
		for _, size := range []int{minSpare, 100, 128, 1000, 1 << 10, 16 << 10, 100_000, 1 << 20} {
			b := spareBuffer(size)
			for b == nil { // the collector, or another processor, may have it
				PutBuffer(make([]byte, 3, roundSize(size)))
				b = spareBuffer(size)
			}
			assert.Empty(t, b)
			assert.GreaterOrEqual(t, cap(b), size)
			assert.LessOrEqual(t, cap(b), size+size/8)
		}
	})
	t.Run("sizes that are not kept are taken all the same", func(t *testing.T) {
		for _, size := range []int{0, 1, minSpare - 1, maxSpare + 1} {
			PutBuffer(make([]byte, size))
			assert.Nil(t, spareBuffer(size))
		}
	})
	t.Run("the size of what is kept is bounded", func(t *testing.T) {
		for range 3 * maxSpares / maxSpare {
			PutBuffer(make([]byte, maxSpare))
		}
		s := spares.Get().(*spareBuffers)
		assert.LessOrEqual(t, s.bytes, maxSpares)
		spares.Put(s)
	})
}

// BenchmarkServe is the way of a message through the engine: read, parsed, handled, answered, with the system's part of it.
// One goroutine does it all, so that nothing but the work is measured.
func BenchmarkServe(b *testing.B) {
	for _, way := range []struct {
		name string
		echo HandlerPayloadFn
	}{
		{"a packet for each", servePacket},
		{"buffers given back", serveGivenBack},
	} {
		for _, size := range []int{128, 16 << 10} {
			for _, messages := range []int{1, 64} {
				if size*messages > 1<<17 {
					continue
				}
				b.Run(fmt.Sprintf("%s/%d B/%d in one read", way.name, size, messages), func(b *testing.B) {
					benchServe(b, way.echo, size, messages)
				})
			}
		}
	}
}

func servePacket(conn int, payload []byte) { Send(conn, NewFrameBin(false, payload)) }

func serveGivenBack(conn int, payload []byte) {
	SendBin(conn, payload)
	PutBuffer(payload)
}

func benchServe(b *testing.B, echo HandlerPayloadFn, size, messages int) {
	round := serveRound(b, echo, size, messages)
	b.SetBytes(int64(size * messages))
	b.ReportAllocs()
	for b.Loop() {
		round()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
}

// serveLoop returns a loop that nobody runs, and its lease.
func serveLoop(tb testing.TB, handle HandlerPayloadFn) (l *loop, t *lease) {
	e := &engine{clients: new(ClientManager), log: slog.New(slog.DiscardHandler), tallies: new(tallies)}
	e.reports = newReports(e.log)
	e.opts.HandleBin = handle
	e.opts.fill()
	e.limits = e.opts.limits()
	e.terms, _ = e.opts.terms()
	e.atOnce = [laneCount]int{1, 1, 1, 1}
	e.rules.Store(&rules{maxMessage: 1 << 20, maxFragments: 1, fromClient: true})
	e.packedRules.Store(&rules{maxMessage: 1 << 20, maxFragments: 1, fromClient: true, deflates: true})
	l, err := newLoop(e)
	require.NoError(tb, err)
	tb.Cleanup(l.poll.close)
	e.loops = []*loop{l}
	e.monitor = &monitor{loops: e.loops, bell: make(chan struct{}, 1)}
	return l, l.lease.Load()
}

// serveConn returns an open connection of the loop, and the other end of its socket.
func serveConn(tb testing.TB, l *loop) (c *conn, peer int) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(tb, err)
	c = &conn{stream: stream{nextID(pair[0])}, loop: l, heapIndex: -1, life: life{phaseOpen}, reads: readMessages}
	descriptors.set(pair[0], c)
	tb.Cleanup(func() {
		descriptors.set(pair[0], nil)
		unix.Close(pair[0])
		unix.Close(pair[1])
	})
	return c, pair[1]
}

// serveDeflates has a connection compress, unless d is nil.
func serveDeflates(c *conn, d *deflation) {
	if d == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aboutLocked().deflation = d
	c.marks.Or(markDeflates)
}

// serveRound returns what sends messages over a socket, in one piece, has a loop serve them and reads the answers.
func serveRound(tb testing.TB, echo HandlerPayloadFn, size, messages int) (round func()) {
	in := bytes.Repeat(NewFrame(OpcodeBin, true, make([]byte, size)), messages)
	return serveExchange(tb, echo, nil, in, messages*len(NewFrame(OpcodeBin, false, make([]byte, size))))
}

// serveExchange returns what sends bytes over a socket, has a loop serve them and reads as many bytes as there are in the answer. d is
// the connection's; nil: it does not compress.
func serveExchange(tb testing.TB, echo HandlerPayloadFn, d *deflation, in []byte, answer int) (round func()) {
	l, t := serveLoop(tb, echo)
	c, peer := serveConn(tb, l)
	serveDeflates(c, d)
	out := make([]byte, answer)
	return func() {
		if n, err := writeSocket(peer, in, false); n < len(in) {
			tb.Fatal(n, err)
		}
		for c.readable = true; c.readable; {
			l.serve(t, c)
		}
		if n, err := readSocket(peer, out); n < len(out) {
			tb.Fatal(n, err)
		}
	}
}

// servePacked is a message of that size, all of the same byte, as a client sends it compressed, and the length of the echo.
func servePacked(tb testing.TB, size int) (in []byte, answer int) {
	packed, err := StandardDeflate().Deflate(nil, make([]byte, size), nil)
	require.NoError(tb, err)
	h := packedHead(OpcodeBin, packed)
	answer = len(appendHeader(nil, h)) + len(packed)
	h.masked = true // with a key of zeros
	return append(appendHeader(nil, h), packed...), answer
}

func TestAllocationsOfEcho(t *testing.T) {
	if raced() {
		t.Skip("the race detector has pools forget")
	}
	for _, row := range []struct {
		name  string
		echo  HandlerPayloadFn
		limit float64 // per message
	}{
		{"the payload and the packet", servePacket, 2},
		{"nothing, if buffers are given back", serveGivenBack, 0},
	} {
		for _, messages := range []int{1, 64} {
			t.Run(fmt.Sprintf("%s, %d in one read", row.name, messages), func(t *testing.T) {
				defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector empties pools
				round := serveRound(t, row.echo, 128, messages)
				perRound := testing.AllocsPerRun(1000, round)
				require.LessOrEqual(t, perRound, row.limit*float64(messages))
			})
		}
	}
}

// TestAllocationsOfPackedEcho has what compression adds: the payload as it came, which is too short here to be of a buffer that was given
// back, and what it was inflated to, which the codec makes.
func TestAllocationsOfPackedEcho(t *testing.T) {
	if raced() {
		t.Skip("the race detector has pools forget")
	}
	for _, takeover := range []bool{false, true} {
		for _, messages := range []int{1, 64} {
			t.Run(fmt.Sprintf("both payloads, %d in one read, with the client's context %v", messages, takeover), func(t *testing.T) {
				defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector empties pools
				d := deflationOf(StandardDeflate(), 4096, direction{bits: 15}, direction{12, takeover}, 1000)
				in, answer := servePacked(t, defaultMinSize)
				round := serveExchange(t, serveGivenBack, d, bytes.Repeat(in, messages), messages*answer)
				require.LessOrEqual(t, testing.AllocsPerRun(300, round), 2*float64(messages))
			})
		}
	}
}

// TestLocksOfEcho has a handler take the connection's lock for itself once it has sent its answer: nothing else may want it then. Serving
// takes it once, the answer once, and the end of the handler not at all. If messages are compressed, it is taken once more when they
// have been inflated.
func TestLocksOfEcho(t *testing.T) {
	data := make([]byte, defaultMinSize)
	in, answer := servePacked(t, len(data))
	packed := append(in[:2:2], in[2+keySize:]...)
	packed[1] &^= bitMasked
	require.Len(t, packed, answer)
	for _, row := range []struct {
		name    string
		d       *deflation
		in, out []byte
	}{
		{"plain", nil, NewFrameBin(true, data), NewFrameBin(false, data)},
		{"compressed", deflationOf(StandardDeflate(), -1, direction{bits: 15}, direction{bits: 15}, 1000), in, packed},
	} {
		t.Run(row.name, func(t *testing.T) {
			var c *conn
			l, lease := serveLoop(t, func(conn int, payload []byte) {
				SendBin(conn, payload)
				c.mu.Lock()
			})
			c, peer := serveConn(t, l)
			serveDeflates(c, row.d)
			for range 3 { // what one leaves to the next does not show
				_, err := writeSocket(peer, row.in, false)
				require.NoError(t, err)
				c.readable = true
				require.True(t, l.serve(lease, c))
				require.False(t, c.mu.TryLock(), "it is the handler that has it")
				c.mu.Unlock()
				got := make([]byte, 2*len(data))
				n, err := readSocket(peer, got)
				require.NoError(t, err)
				require.Equal(t, row.out, got[:n])
			}
		})
	}
}
