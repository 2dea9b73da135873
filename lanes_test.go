package websocket

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
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
//	text            a message of laneOrdered comes; request and a digit: of laneRequests; packed and a digit: of lanePacked
//	back packed…    those are put back, to be inflated later; drops: nothing more is inflated
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
	case "drops":
		r.lanes.dropPacked()
	default:
		if back, ok := strings.CutPrefix(word, "back "); ok {
			var rest []message
			for text := range strings.FieldsSeq(back) {
				rest = append(rest, laneText(text))
			}
			r.lanes.putBack(rest)
			break
		}
		l := laneOrdered
		if strings.HasPrefix(word, "request") {
			l = laneRequests
		} else if strings.HasPrefix(word, "packed") {
			l = lanePacked
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
	case jobInflate:
		r.called = append(r.called, "inflated:")
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
		{"nothing while the handshake is read", phaseOpening, [laneCount]int{1, 1, 1, 1}, []string{"a", "next"}, []string{"nothing"}},
		{"HandleAuth once, and messages not before it has decided", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"next", "next", "a", "next"}, []string{"Auth", "nothing", "nothing"}},
		{"HandleClientAdd before the first message", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"next", "done", "accepted", "a", "next", "next", "starts", "next", "done", "next"},
			[]string{"Auth", "Add", "nothing", "nothing", "a"}},
		{"messages while HandleClientAdd is a writer", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"next", "done", "accepted", "a", "next", "starts", "goes on", "next"},
			[]string{"Auth", "Add", "a"}},
		{"messages in their order, all that wait in one go", phaseOpen, [laneCount]int{1, 1, 1, 1},
			[]string{"a", "b", "next", "c", "next", "done", "next", "done", "next"}, []string{"a", "b", "nothing", "c", "nothing"}},
		{"as many as may run at the same time", phaseOpen, [laneCount]int{2, 1, 1},
			[]string{"a", "b", "c", "next", "next", "next", "done", "next"}, []string{"a", "b", "nothing", "c"}},
		{"requests beside messages", phaseOpen, [laneCount]int{1, 2, 1},
			[]string{"a", "request1", "request2", "request3", "next", "next", "next", "next", "done", "next", "done", "next"},
			[]string{"a", "request1", "request2", "nothing", "nothing", "request3"}},
		{"HandleClientRemove behind the last message", phaseAuth, [laneCount]int{1, 2, 1},
			[]string{"accepted", "next", "done", "a", "request1", "next", "next", "ends", "next", "done", "next", "done", "next", "next", "done", "next"},
			[]string{"Add", "a", "request1", "nothing", "nothing", "Remove", "nothing", "nothing"}},
		{"HandleClientRemove beside a writer, not beside a HandleClientAdd that is waited for", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted", "next", "starts", "ends", "next", "goes on", "next"}, []string{"Add", "nothing", "Remove"}},
		{"not before the connection ends", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted", "next", "done", "next"}, []string{"Add", "nothing"}},
		{"no message that was discarded", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted", "next", "done", "a", "ends", "discards", "next"}, []string{"Add", "Remove"}},
		{"neither Add nor Remove for a connection that the program has not seen", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted", "ends", "discards", "next"}, []string{"nothing"}},
		{"messages that came before the end", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted", "next", "done", "a", "ends", "next", "next", "done", "next"}, []string{"Add", "a", "nothing", "Remove"}},
		{"OnClose last, behind the Close frame", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted with OnClose", "next", "done", "ends", "next", "done", "next", "sealed", "next", "done", "next"},
			[]string{"Add", "Remove", "nothing", "Close", "nothing"}},
		{"OnClose once a handler that held nothing up has returned", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted with OnClose", "next", "done", "a", "next", "sealed", "next", "done", "next", "next", "done", "next"},
			[]string{"Add", "a", "nothing", "Remove", "nothing", "Close"}},
		{"OnClose not beside a writer", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted with OnClose", "next", "starts", "goes on", "sealed", "next", "done!", "next", "done", "next"},
			[]string{"Add", "Remove", "nothing", "Close"}},
		{"OnClose also for a connection that HandleClientAdd has not seen", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted with OnClose", "ends", "discards", "next", "sealed", "next"}, []string{"nothing", "Close"}},
		{"what is compressed in one go, in its order", phaseOpen, [laneCount]int{4, 4, 1, 1},
			[]string{"packed1", "packed2", "next", "packed3", "packed4", "next", "done", "next", "done", "next"},
			[]string{"inflated:", "packed1", "packed2", "nothing", "inflated:", "packed3", "packed4", "nothing"}},
		{"what is compressed beside the handlers of what came before", phaseOpen, [laneCount]int{1, 1, 1, 1},
			[]string{"a", "request1", "packed1", "next", "next", "next", "next"},
			[]string{"a", "request1", "inflated:", "packed1", "nothing"}},
		{"what is inflated before more is", phaseOpen, [laneCount]int{1, 1, 1, 1},
			[]string{"packed1", "a", "next", "next", "done", "next"}, []string{"a", "inflated:", "packed1", "nothing"}},
		{"what was put back in front of what came meanwhile", phaseOpen, [laneCount]int{1, 1, 1, 1},
			[]string{"packed1", "packed2", "packed3", "next", "packed4", "next", "done", "back packed2 packed3", "next", "done", "next"},
			[]string{"inflated:", "packed1", "packed2", "packed3", "nothing", "inflated:", "packed2", "packed3", "packed4", "nothing"}},
		{"what was put back although nothing else waits", phaseOpen, [laneCount]int{1, 1, 1, 1},
			[]string{"packed1", "packed2", "next", "done", "back packed2", "next", "done", "next"},
			[]string{"inflated:", "packed1", "packed2", "inflated:", "packed2", "nothing"}},
		{"nothing behind a message that cannot be inflated, but what came before it", phaseOpen, [laneCount]int{1, 1, 1, 1},
			[]string{"packed1", "next", "packed2", "a", "done", "drops", "next", "next", "done", "next"},
			[]string{"inflated:", "packed1", "a", "nothing", "nothing"}},
		{"nothing compressed before HandleClientAdd", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted", "packed1", "next", "next", "starts", "next", "done", "next"},
			[]string{"Add", "nothing", "nothing", "inflated:", "packed1"}},
		{"HandleClientRemove behind the last message that is compressed", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted", "next", "done", "packed1", "ends", "next", "next", "done", "a", "next", "next", "done", "next"},
			[]string{"Add", "inflated:", "packed1", "nothing", "a", "nothing", "Remove"}},
		{"HandleClientRemove behind what was put back", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted", "next", "done", "packed1", "packed2", "ends", "next", "done", "back packed2", "next", "done", "next"},
			[]string{"Add", "inflated:", "packed1", "packed2", "inflated:", "packed2", "Remove"}},
		{"HandleClientRemove once nothing more is to be inflated", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted", "next", "done", "packed1", "next", "packed2", "ends", "done", "drops", "next"},
			[]string{"Add", "inflated:", "packed1", "Remove"}},
		{"nothing compressed that was discarded", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted", "next", "done", "packed1", "ends", "discards", "next"}, []string{"Add", "Remove"}},
		{"OnClose behind the last message that is compressed", phaseAuth, [laneCount]int{1, 1, 1, 1},
			[]string{"accepted with OnClose", "next", "done", "packed1", "next", "sealed", "next", "done", "next", "next", "done", "next"},
			[]string{"Add", "inflated:", "packed1", "nothing", "Remove", "nothing", "Close"}},
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
	r := laneRun{at: life{phaseAuth}, atOnce: [laneCount]int{1, 1, 1, 1}}
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
			j, ok := q.next(life{phaseOpen}, &[laneCount]int{1, 1, 1, 1})
			require.Equal(t, len(row.bytes) > 0, ok)
			assert.False(t, q.isFull())
			assert.Equal(t, row.full, j.relief)
		})
	}
}

func TestLanesInflateNoMoreThanMayWait(t *testing.T) {
	for _, row := range []struct {
		name    string
		waits   int // bytes that a message has that is inflated
		packed  int // and one that is not
		inflate bool
	}{
		{"one byte less than may wait", maxBacklog - messageCost - 1, 10, true},
		{"as much as may wait", maxBacklog - messageCost, 10, false},
		{"more", 4 * maxBacklog, 10, false},
		{"what is not inflated does not count", 10, 4 * maxBacklog, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			var q lanes
			q.running[laneOrdered] = 1 // a handler that takes long
			b := newBacklog()
			b.add(laneOrdered, message{payload: make([]byte, row.waits)})
			b.add(lanePacked, message{payload: make([]byte, row.packed)})
			q.enqueue(b)
			j, ok := q.next(life{phaseOpen}, &[laneCount]int{1, 1, 1, 1})
			require.Equal(t, row.inflate, ok)
			if ok {
				require.Equal(t, jobInflate, j.kind)
				require.True(t, j.relief, "the connection can be read again")
				return
			}
			q.running[laneOrdered] = 0
			j, ok = q.next(life{phaseOpen}, &[laneCount]int{1, 1, 1, 1})
			require.True(t, ok)
			require.Equal(t, jobMessages, j.kind)
			require.True(t, j.relief)
			j, ok = q.next(life{phaseOpen}, &[laneCount]int{1, 1, 1, 1})
			require.True(t, ok)
			require.Equal(t, jobInflate, j.kind)
			require.False(t, j.relief)
			require.NotNil(t, j.whole)
		})
	}
}

// TestLanesCount has messages come and go at random, and counts those that wait.
func TestLanesCount(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	var q lanes
	var inflating *job
	someMessage := func() message {
		return message{payload: make([]byte, random.IntN(3*maxBacklog/2)), head: finished(OpcodeText, 0)}
	}
	for range 5000 {
		switch atOnce := [laneCount]int{1, 1, 1, 1}; random.IntN(6) {
		case 0, 1:
			b := newBacklog()
			for range random.IntN(4) {
				b.add([]lane{laneOrdered, laneRequests, lanePacked, lanePacked}[random.IntN(4)], someMessage())
			}
			if b.isEmpty() {
				putBacklog(b)
				break
			}
			empty, _ := q.enqueue(b)
			require.Zero(t, empty.bytes)
			require.Zero(t, empty.packed)
			putBacklog(empty)
		case 2, 3:
			wasFull := q.isFull()
			j, ok := q.next(life{phaseOpen}, &atOnce)
			switch {
			case !ok:
			case j.kind == jobInflate:
				inflating = &j
				fallthrough
			default:
				require.Equal(t, wasFull && !q.isFull(), j.relief)
			}
			if ok && j.kind != jobInflate {
				clear(j.messages)
				q.done(&j)
				j.release()
			}
		case 4:
			if j := inflating; j != nil {
				rest := slices.Clone(j.messages[random.IntN(len(j.messages)):])
				clear(j.messages)
				q.done(j)
				q.putBack(rest)
				j.release()
				inflating = nil
			}
		case 5:
			if random.IntN(10) == 0 {
				q.dropPacked()
				require.True(t, q.backlog == nil || q.backlog.packed == 0)
			}
		}
		bytes, packed, messages := 0, 0, 0
		if b := q.backlog; b != nil {
			for l := range b.waiting {
				for _, m := range b.waiting[l] {
					messages++
					bytes += len(m.payload) + messageCost
					if lane(l) == lanePacked {
						packed += len(m.payload) + messageCost
					}
				}
			}
			require.Equal(t, bytes, b.bytes)
			require.Equal(t, packed, b.packed)
		}
		require.Equal(t, bytes >= maxBacklog, q.isFull())
		require.Equal(t, messages > 0 || inflating != nil, q.hasMessages())
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
		j, ok := q.next(life{phaseOpen}, &[laneCount]int{1, 1, 1, 1})
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
