package websocket

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// outboxDrain writes all of an outbox in pieces of a size, and returns what came.
func outboxDrain(o *outbox, piece int) (wire []byte) {
	for front := o.front(); len(front) > 0; front = o.front() {
		n := min(piece, len(front))
		wire = append(wire, front[:n]...)
		o.took(n, len(front), 0)
	}
	return wire
}

func TestOutboxOrder(t *testing.T) {
	ping := func(payload string) *outgoing { return &outgoing{body: NewFrame(OpcodePing, false, []byte(payload))} }
	pong := func(payload string) []byte { return NewFrame(OpcodePong, false, []byte(payload)) }
	for _, row := range []struct {
		name string
		do   func(o *outbox)
		wire []byte
	}{
		{"nothing", func(*outbox) {}, nil},
		{"packets in their order", func(o *outbox) { o.add(ping("1")); o.add(ping("2")) }, append(ping("1").body, ping("2").body...)},
		{"both parts of a packet", func(o *outbox) { o.add(&outgoing{head: []byte("head "), body: []byte("body")}) }, []byte("head body")},
		{"a Pong behind packets that came later than its Ping", func(o *outbox) { o.add(ping("1")); o.answer([]byte("a")); o.add(ping("2")) },
			append(append(ping("1").body, ping("2").body...), pong("a")...)},
		{"of the Pongs the latest", func(o *outbox) { o.add(ping("1")); o.answer([]byte("a")); o.answer([]byte("bc")) },
			append(ping("1").body, pong("bc")...)},
		{"a large packet as it is", func(o *outbox) { o.addLarge([]byte("large")) }, []byte("large")},
	} {
		for _, piece := range []int{1, 2, 3, 1 << 20} {
			t.Run(row.name, func(t *testing.T) {
				o := new(outbox)
				row.do(o)
				assert.Equal(t, row.wire, outboxDrain(o, piece))
				assert.Zero(t, o.len())
			})
		}
	}

	t.Run("packets that come while the socket takes some", func(t *testing.T) {
		o := new(outbox)
		var want, got []byte
		for i := range 1000 {
			packet := bytes.Repeat([]byte{byte(i)}, i%7)
			o.add(&outgoing{body: packet})
			want = append(want, packet...)
			front := o.front()
			n := min(i%5, len(front))
			got = append(got, front[:n]...)
			o.took(n, len(front), 0)
		}
		assert.Equal(t, want, append(got, outboxDrain(o, 11)...))
	})
	t.Run("at most largeSize in one go", func(t *testing.T) {
		o := new(outbox)
		o.addLarge(make([]byte, largeSize+1))
		require.Len(t, o.front(), largeSize)
		require.True(t, o.took(largeSize, largeSize, 0))
		require.True(t, o.more, "the socket may have room")
		require.Len(t, o.front(), 1)
	})
}

func TestOutboxRoom(t *testing.T) {
	const limit = 1000
	for _, row := range []struct {
		name      string
		has, size int
		room      bool
	}{
		{"an empty one takes a packet of any size", 0, limit + 1, true},
		{"and a large one", 0, largeSize, true},
		{"below the limit", 1, limit - 2, true},
		{"at the limit", 1, limit - 1, true},
		{"above the limit", 1, limit, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := new(outbox)
			o.add(&outgoing{body: make([]byte, row.has)})
			assert.Equal(t, row.room, o.hasRoom(row.size, limit))
		})
	}
	t.Run("a large packet waits for an empty one, whatever the limit", func(t *testing.T) {
		o := new(outbox)
		o.add(&outgoing{body: []byte("x")})
		assert.True(t, o.hasRoom(largeSize-1, 2*largeSize))
		assert.False(t, o.hasRoom(largeSize, 2*largeSize))
	})
	t.Run("what was taken is room again", func(t *testing.T) {
		o := new(outbox)
		o.add(&outgoing{body: make([]byte, limit)})
		assert.False(t, o.hasRoom(1, limit))
		o.took(1, len(o.front()), 0)
		assert.True(t, o.hasRoom(1, limit))
		assert.False(t, o.hasRoom(2, limit))
	})
	t.Run("none at all is an empty one", func(t *testing.T) {
		var o *outbox
		assert.True(t, o.hasRoom(largeSize, 1))
		assert.Zero(t, o.len())
		assert.False(t, o.isStalled())
		o.releaseWaiters()
	})
}

func TestOutboxStall(t *testing.T) {
	o := new(outbox)
	o.add(&outgoing{body: []byte("abc")})
	require.True(t, o.took(1, 3, 10))
	require.False(t, o.more)
	require.True(t, o.stall(10))
	require.Equal(t, int64(10), o.since)
	require.False(t, o.stall(20), "it is stalled already, since then")
	require.Equal(t, int64(10), o.since)
	require.True(t, o.took(0, 2, 30))
	require.Equal(t, int64(10), o.since, "nothing was taken")
	require.True(t, o.took(1, 2, 40))
	require.Equal(t, int64(40), o.since)
	require.True(t, o.isStalled())
	require.NotZero(t, o.len(), "stalled means that bytes are left")
	require.False(t, o.took(1, 1, 50))
	o.reset()
	require.False(t, o.isStalled())

	o = &outbox{stalled: true, since: 1}
	for _, row := range []struct {
		name      string
		held      int
		at, since int64
	}{
		{"the first look says nothing", 100, 2, 1},
		{"nor does one that finds as much", 100, 3, 1},
		{"less is a sign of life", 99, 4, 4},
		{"as much as then is none", 99, 5, 4},
	} {
		o.moves(row.held, row.at)
		require.Equal(t, row.since, o.since, row.name)
	}
}

func TestOutboxWaiters(t *testing.T) {
	isFreed := func(room <-chan struct{}) bool {
		select {
		case <-room:
			return true
		default:
			return false
		}
	}
	for _, row := range []struct {
		name  string
		do    func(o *outbox)
		freed bool
	}{
		{"wait while the socket takes nothing", func(o *outbox) { o.took(0, 3, 1) }, false},
		{"are freed when it takes something", func(o *outbox) { o.took(1, 3, 1) }, true},
		{"and when nothing is taken any more", func(o *outbox) { o.releaseWaiters() }, true},
		{"and when the outbox goes", func(o *outbox) { o.reset() }, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := new(outbox)
			o.add(&outgoing{body: []byte("abc")})
			o.stall(0)
			first, second := o.awaitRoom(), o.awaitRoom()
			row.do(o)
			assert.Equal(t, row.freed, isFreed(first))
			assert.Equal(t, row.freed, isFreed(second), "all that wait")
			o.reset() // once: a second close would panic
			assert.True(t, isFreed(first))
		})
	}
}

func TestOutboxKeepsNoLargeBuffer(t *testing.T) {
	o := new(outbox)
	o.add(&outgoing{body: make([]byte, 2*corkSize)})
	o.reset()
	assert.LessOrEqual(t, cap(o.buf), 4*corkSize)
	o.addLarge(make([]byte, 2*corkSize+1))
	o.reset()
	assert.Nil(t, o.buf)
}
