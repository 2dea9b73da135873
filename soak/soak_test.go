package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// TestMain lets the test's binary be the server's process as well, as the program's binary is.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(command(os.Args[1:], role, os.Stdout))
	}
	os.Exit(m.Run())
}

func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("runs for seconds")
	}
	if runtime.GOOS != "linux" {
		t.Skip("descriptors and memory are measured on Linux")
	}
	var out bytes.Buffer
	// The race detector's own memory is no matter here.
	code := command([]string{"-for", "3s", "-net", netNone, "-conns", "60", "-growth", "1024", "-every", "1s"}, "", &out)
	assert.Zero(t, code, out.String())
	assert.Contains(t, out.String(), "soak: passed")
	assert.Contains(t, out.String(), "messages lost ")
}

func TestFlags(t *testing.T) {
	t.Run("a seed is chosen if none is given", func(t *testing.T) {
		cfg, err := parseFlags(nil)
		require.NoError(t, err)
		assert.NotZero(t, cfg.seed)
	})
	t.Run("a network that is not known is refused", func(t *testing.T) {
		stderr := os.Stderr
		defer func() { os.Stderr = stderr }()
		os.Stderr, _ = os.Open(os.DevNull)
		assert.Equal(t, exitUsage, command([]string{"-net", "carrier pigeons"}, "", io.Discard))
	})
}

func TestMessage(t *testing.T) {
	m := message{kindEcho, 7, 1 << 31, []byte("body")}
	packet := appendMessage(nil, m)

	t.Run("what is appended is parsed", func(t *testing.T) {
		got, ok := parseMessage(packet)
		assert.True(t, ok)
		assert.Equal(t, m, got)
	})
	t.Run("a message without all of its head is none", func(t *testing.T) {
		_, ok := parseMessage(packet[:headSize-1])
		assert.False(t, ok)
	})
	t.Run("a changed body is noticed", func(t *testing.T) {
		changed := bytes.Clone(packet)
		changed[len(changed)-1] ^= 1
		_, ok := parseMessage(changed)
		assert.False(t, ok)
	})
}

func TestFiller(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	fill := newFiller(rng)
	for _, size := range append([]int{maxBody - 1, maxBody}, boundaries...) {
		text := fill.cut(rng, websocket.OpcodeText, size)
		assert.Len(t, text, size)
		assert.True(t, utf8.Valid(text), "%d bytes of text", size)
		assert.Len(t, fill.cut(rng, websocket.OpcodeBin, size), size)
	}
}

// newTestSession returns a session of a driver that notes problems in the builder.
func newTestSession(out *strings.Builder) *session {
	d := &driver{tally: new(tally), out: lockedWriter{w: out}, started: time.Now()}
	return &session{
		device: device{user: 3}, d: d, id: 7, changed: make(chan struct{}, 1), lastPushes: make(map[byte]lastPush), wire: deadWire{},
	}
}

// deadWire takes everything and does nothing with it.
type deadWire struct{ wire }

func (deadWire) send(websocket.Opcode, []byte) error { return nil }
func (deadWire) ended() <-chan struct{}              { return nil }

func TestSession(t *testing.T) {
	const text = websocket.OpcodeText
	push := func(kind byte, owner, seq uint32) []byte {
		return appendMessage(nil, message{kind: kind, owner: owner, seq: seq})
	}
	echo := func(seq uint32) []byte { return push(kindEcho, 7, seq) }
	for name, test := range map[string]struct {
		got                                          [][]byte
		disordered, misdelivered, corrupted, missing int
		waiting                                      int
	}{
		"both messages back in order":     {got: [][]byte{echo(1), echo(2)}},
		"one message does not come":       {got: [][]byte{echo(1)}, waiting: 1},
		"the second message comes first":  {got: [][]byte{echo(2), echo(1)}, disordered: 1},
		"a message comes twice":           {got: [][]byte{echo(1), echo(1), echo(2)}, corrupted: 1},
		"another session's message":       {got: [][]byte{push(kindEcho, 8, 1)}, misdelivered: 1, waiting: 2},
		"a message with a changed byte":   {got: [][]byte{append(echo(1), 'x')}, corrupted: 1, waiting: 2},
		"another user's message":          {got: [][]byte{push(kindUser, 4, 1)}, misdelivered: 1, waiting: 2},
		"a message for one that has gone": {got: [][]byte{push(kindStale, 8, 0)}, misdelivered: 1, waiting: 2},
		"broadcasts from any number on":   {got: [][]byte{push(kindBroadcast, 0, 5), push(kindBroadcast, 0, 6)}, waiting: 2},
		"a gap in a user's messages":      {got: [][]byte{push(kindUser, 3, 5), push(kindUser, 3, 8)}, missing: 2, waiting: 2},
		"a broadcast out of order": {got: [][]byte{push(kindBroadcast, 0, 2), push(kindBroadcast, 0, 1)},
			disordered: 1, waiting: 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestSession(new(strings.Builder))
			require.True(t, s.send(text, echo(1), false))
			require.True(t, s.send(text, echo(2), false))
			for _, payload := range test.got {
				s.got(text, payload)
			}
			tally := s.d.tally
			assert.EqualValues(t, test.disordered, tally.disordered.Load(), "out of order")
			assert.EqualValues(t, test.misdelivered, tally.misdelivered.Load(), "misdelivered")
			assert.EqualValues(t, test.corrupted, tally.corrupted.Load(), "corrupted")
			assert.Len(t, tally.missing.without(nil), test.missing, "missing")
			assert.Equal(t, test.waiting, s.countWaiting(), "waiting")
		})
	}
}

func TestMissingPushes(t *testing.T) {
	var missing missingPushes
	missing.add(7, kindUser, 2, 5)
	lost := missing.without([]push{{7, kindUser, 2}, {7, kindUser, 4}, {8, kindUser, 3}})
	assert.Equal(t, []push{{7, kindUser, 3}}, lost)
}

func TestLatencies(t *testing.T) {
	var l latencies
	for range 90 {
		l.note(time.Millisecond)
	}
	for range 10 {
		l.note(time.Second)
	}
	assert.InDelta(t, time.Millisecond, l.quantile(0.5), float64(time.Millisecond)/2)
	assert.InDelta(t, time.Second, l.quantile(0.99), float64(time.Second)/2)
}
