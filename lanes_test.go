package websocket

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// laneText returns a message with a text.
func laneText(text string) message {
	return message{payload: []byte(text), head: finished(OpcodeText, len(text))}
}

// laneRun drives the lanes of a connection by words, and returns what is called:
//
//	text            a message of laneOrdered comes; request and a digit: of laneRequests
//	next            the next job is taken; its words are appended, "nothing" if there is none
//	done            the oldest job that runs has returned; done! the latest
//	starts, goes on, ends, discards, sealed   what befalls HandleClientAdd and the connection
type laneRun struct {
	lanes   lanes
	at      life
	atOnce  [laneCount]int
	running []job
	called  []string
}

func (r *laneRun) do(t *testing.T, word string) {
	switch word {
	case "next":
		r.next()
	case "done", "done!":
		i := 0
		if word == "done!" {
			i = len(r.running) - 1
		}
		j := r.running[i]
		r.running = append(r.running[:i:i], r.running[i+1:]...)
		clear(j.messages)
		r.lanes.done(&j)
		j.release()
	case "starts":
		r.lanes.addStarts()
	case "goes on":
		require.True(t, r.lanes.goOn())
	case "accepted":
		r.at = life{phaseOpen}
		r.lanes.open(true, true, false)
	case "accepted with OnClose":
		r.at = life{phaseOpen}
		r.lanes.open(true, true, true)
	case "sealed":
		r.at = life{phaseFlushing}
	case "ends":
		r.at = life{phaseEnding}
	case "discards":
		r.lanes.discard()
	default:
		l := laneOrdered
		if _, err := fmt.Sscanf(word, "request%d", new(int)); err == nil {
			l = laneRequests
		}
		b := newBacklog()
		b.add(l, laneText(word))
		empty, pongs := r.lanes.enqueue(b)
		require.True(t, empty.isEmpty())
		require.Empty(t, pongs)
	}
}

func (r *laneRun) next() {
	j, ok := r.lanes.next(r.at, &r.atOnce)
	if !ok {
		r.called = append(r.called, "nothing")
		return
	}
	r.running = append(r.running, j)
	switch j.kind {
	case jobAuth:
		r.called = append(r.called, "Auth")
	case jobAdd:
		r.called = append(r.called, "Add")
	case jobRemove:
		r.called = append(r.called, "Remove")
	case jobClose:
		r.called = append(r.called, "Close")
	}
	for _, m := range j.messages {
		r.called = append(r.called, string(m.payload))
	}
}

func TestLanes(t *testing.T) {
	for _, row := range []struct {
		name   string
		phase  phase
		atOnce [laneCount]int
		do     []string
		called []string
	}{
		{"nothing while the handshake is read", phaseOpening, [laneCount]int{1, 1, 1}, []string{"a", "next"}, []string{"nothing"}},
		{"HandleAuth once, and messages not before it has decided", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"next", "next", "a", "next"}, []string{"Auth", "nothing", "nothing"}},
		{"HandleClientAdd before the first message", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"next", "done", "accepted", "a", "next", "next", "starts", "next", "done", "next"},
			[]string{"Auth", "Add", "nothing", "nothing", "a"}},
		{"messages while HandleClientAdd is a writer", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"next", "done", "accepted", "a", "next", "starts", "goes on", "next"},
			[]string{"Auth", "Add", "a"}},
		{"messages in their order, all that wait in one go", phaseOpen, [laneCount]int{1, 1, 1},
			[]string{"a", "b", "next", "c", "next", "done", "next", "done", "next"}, []string{"a", "b", "nothing", "c", "nothing"}},
		{"as many as may run at the same time", phaseOpen, [laneCount]int{2, 1, 1},
			[]string{"a", "b", "c", "next", "next", "next", "done", "next"}, []string{"a", "b", "nothing", "c"}},
		{"requests beside messages", phaseOpen, [laneCount]int{1, 2, 1},
			[]string{"a", "request1", "request2", "request3", "next", "next", "next", "next", "done", "next", "done", "next"},
			[]string{"a", "request1", "request2", "nothing", "nothing", "request3"}},
		{"HandleClientRemove behind the last message", phaseAuth, [laneCount]int{1, 2, 1},
			[]string{"accepted", "next", "done", "a", "request1", "next", "next", "ends", "next", "done", "next", "done", "next", "next", "done", "next"},
			[]string{"Add", "a", "request1", "nothing", "nothing", "Remove", "nothing", "nothing"}},
		{"HandleClientRemove beside a writer, not beside a HandleClientAdd that is waited for", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"accepted", "next", "starts", "ends", "next", "goes on", "next"}, []string{"Add", "nothing", "Remove"}},
		{"not before the connection ends", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"accepted", "next", "done", "next"}, []string{"Add", "nothing"}},
		{"no message that was discarded", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"accepted", "next", "done", "a", "ends", "discards", "next"}, []string{"Add", "Remove"}},
		{"neither Add nor Remove for a connection that the program has not seen", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"accepted", "ends", "discards", "next"}, []string{"nothing"}},
		{"messages that came before the end", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"accepted", "next", "done", "a", "ends", "next", "next", "done", "next"}, []string{"Add", "a", "nothing", "Remove"}},
		{"OnClose last, behind the Close frame", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"accepted with OnClose", "next", "done", "ends", "next", "done", "next", "sealed", "next", "done", "next"},
			[]string{"Add", "Remove", "nothing", "Close", "nothing"}},
		{"OnClose once a handler that held nothing up has returned", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"accepted with OnClose", "next", "done", "a", "next", "sealed", "next", "done", "next", "next", "done", "next"},
			[]string{"Add", "a", "nothing", "Remove", "nothing", "Close"}},
		{"OnClose not beside a writer", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"accepted with OnClose", "next", "starts", "goes on", "sealed", "next", "done!", "next", "done", "next"},
			[]string{"Add", "Remove", "nothing", "Close"}},
		{"OnClose also for a connection that HandleClientAdd has not seen", phaseAuth, [laneCount]int{1, 1, 1},
			[]string{"accepted with OnClose", "ends", "discards", "next", "sealed", "next"}, []string{"nothing", "Close"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := laneRun{at: life{row.phase}, atOnce: row.atOnce}
			for _, word := range row.do {
				r.do(t, word)
			}
			assert.Equal(t, row.called, r.called)
		})
	}
}

func TestLanesAreBusyUntilTheLastHandlerReturns(t *testing.T) {
	r := laneRun{at: life{phaseAuth}, atOnce: [laneCount]int{1, 1, 1}}
	for _, step := range []struct {
		word              string
		busy, onlyAWriter bool
	}{
		{"accepted", true, false}, {"next", true, false}, {"starts", true, false}, {"goes on", true, false}, {"a", true, false},
		{"next", true, false}, {"done!", true, false}, {"ends", true, false}, {"next", true, true}, {"done!", true, true}, {"done", false, false},
	} {
		r.do(t, step.word)
		assert.Equal(t, step.busy, r.lanes.isBusy(), step.word)
		if step.word == "done!" && len(r.running) == 1 && r.at.hasEnded() {
			assert.Equal(t, step.onlyAWriter, r.lanes.hasWriterOnly(), step.word)
		}
	}
	assert.Equal(t, []string{"Add", "a", "Remove"}, r.called)
	assert.Nil(t, r.lanes.backlog, "an idle connection has none")
}

func TestLanesAreFull(t *testing.T) {
	for _, row := range []struct {
		name  string
		bytes []int // of the payload of each message
		full  bool
	}{
		{"nothing", nil, false},
		{"below the limit", []int{maxBacklog - messageCost - 1}, false},
		{"at the limit", []int{maxBacklog - messageCost}, true},
		{"one message of any size", []int{4 * maxBacklog}, true},
		{"empty messages, which cost something too", make([]int, maxBacklog/messageCost), true},
		{"one less of them", make([]int, maxBacklog/messageCost-1), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBacklog()
			for _, size := range row.bytes {
				b.add(laneOrdered, message{payload: make([]byte, size)})
			}
			var q lanes
			q.enqueue(b)
			require.Equal(t, row.full, q.isFull())
			j, ok := q.next(life{phaseOpen}, &[laneCount]int{1, 1, 1})
			require.Equal(t, len(row.bytes) > 0, ok)
			assert.False(t, q.isFull())
			assert.Equal(t, row.full, j.relief)
		})
	}
}

func TestLanesPongs(t *testing.T) {
	ping := func(b *backlog, payload string) { b.addPong([]byte(payload)) }
	pongs := func(payloads ...string) (frames []byte) {
		for _, payload := range payloads {
			frames = appendFrame(frames, OpcodePong, false, []byte(payload))
		}
		return frames
	}
	t.Run("a Ping is answered behind the messages that came before it", func(t *testing.T) {
		b := newBacklog()
		b.add(laneOrdered, laneText("1"))
		ping(b, "a")
		ping(b, "b")
		b.add(laneOrdered, laneText("2"))
		ping(b, "c")
		var q lanes
		q.enqueue(b)
		j, ok := q.next(life{phaseOpen}, &[laneCount]int{1, 1, 1})
		require.True(t, ok)
		require.True(t, j.pongs)
		require.Empty(t, q.takePongs(0))
		require.Equal(t, pongs("a", "b"), q.takePongs(1))
		require.Equal(t, pongs("c"), q.takePongs(math.MaxInt))
		q.done(&j)
		require.False(t, q.isBusy())
	})
	t.Run("and without waiting if messages wait already, whose handlers may take long", func(t *testing.T) {
		var q lanes
		first, second := newBacklog(), newBacklog()
		first.add(laneOrdered, laneText("1"))
		q.enqueue(first)
		second.add(laneOrdered, laneText("2"))
		ping(second, "a")
		empty, now := q.enqueue(second)
		require.Equal(t, pongs("a"), now)
		require.True(t, empty.isEmpty())
	})
}
