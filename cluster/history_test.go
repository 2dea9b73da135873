package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// awaitHistory waits until nodes can store.
func awaitHistory(t testing.TB, sites ...*site) {
	t.Helper()
	for _, s := range sites {
		eventually(t, s.Name()+" has a store", func() bool { return s.Stats().History })
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		nodes int
		opts  Options
	}{
		{"in memory", 1, Options{History: History{Messages: 10}}},
		{"in files", 1, Options{History: History{Messages: 10, Dir: "files"}}},
		{"on one of three nodes", 3, Options{History: History{Messages: 10}}},
		{"on three nodes", 3, Options{History: History{Messages: 10, Replicas: 3}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.opts.History.Dir != "" {
				test.opts.History.Dir = t.TempDir()
			}
			var sites []*site
			if test.nodes == 1 {
				sites = []*site{join(t, test.opts)}
			} else {
				sites = gather(t, test.nodes, test.opts)
			}
			awaitHistory(t, sites...)
			keepsHistory(t, sites)
		})
	}
}

// keepsHistory shows that nodes number, deliver and keep what is published.
func keepsHistory(t *testing.T, sites []*site) {
	here, there := sites[0], sites[len(sites)-1]
	g := visit(t, there, 1)
	g.subscribe(t, "topic")
	settle(t, sites)
	var seqs []uint64
	var want []string
	for i := range 12 {
		seq, err := sites[i%len(sites)].Publish(within(t), "topic", broadcast(fmt.Sprint(i)))
		require.NoError(t, err)
		seqs = append(seqs, seq)
		want = append(want, fmt.Sprint(i))
		_, err = here.Publish(within(t), "other", broadcast("other"))
		require.NoError(t, err)
	}
	assert.Less(t, seqs[11], uint64(1)<<53)
	g.hears(t, want...)
	for i, res := range g.got {
		assert.Equal(t, seqs[i], res.Seq)
		if i > 0 {
			assert.Equal(t, seqs[i-1], res.Prev)
		}
	}
	for _, s := range sites {
		messages, complete := s.behind(t, "topic", seqs[4], 0)
		assert.True(t, complete)
		require.Len(t, messages, 7)
		for i, m := range messages {
			assert.Equal(t, seqs[5+i], m.Seq)
			assert.Equal(t, "topic", m.Topic)
			assert.Equal(t, broadcast(want[5+i]), m.Packet)
			assert.WithinDuration(t, time.Now(), m.Time, time.Minute)
		}
		leader := reading{h: s.history, topic: "topic", subject: s.subjects.kept("topic"), enough: math.MaxInt, leader: true}
		same, complete, err := leader.since(within(t), seqs[4], 1000)
		require.NoError(t, err)
		assert.True(t, complete)
		assert.Equal(t, messages, same, "the leader has the same")
		messages, complete = s.behind(t, "topic", seqs[4], 3)
		assert.True(t, complete)
		assert.Len(t, messages, 3)
		messages, complete = s.behind(t, "topic", seqs[0], 0)
		if complete { // from a replica that had not dropped the second one yet
			assert.Len(t, messages, 11)
		} else {
			assert.Len(t, messages, 10)
		}
		messages, complete = s.behind(t, "topic", seqs[2]-1, 0)
		assert.True(t, complete, "there is nothing between that and the oldest")
		assert.Len(t, messages, 10)
		messages, complete = s.behind(t, "topic", seqs[11], 0)
		assert.True(t, complete)
		assert.Empty(t, messages)
		messages, complete = s.behind(t, "new", 0, 0)
		assert.False(t, complete, "other topics have dropped some, perhaps this one's")
		assert.Empty(t, messages)
		_, complete = s.behind(t, "topic", seqs[11]+1000, 0)
		assert.False(t, complete, "a number that was never given")
	}
}

// behind is Since, once there is a store: there may be an election, or much else to do.
func (s *site) behind(t testing.TB, topic string, seq uint64, most int) (messages []Message, complete bool) {
	t.Helper()
	var err error
	eventually(t, "history can be read", func() bool {
		messages, complete, err = s.Since(within(t), topic, seq, most)
		return !errors.Is(err, ErrHistoryUnavailable)
	})
	require.NoError(t, err)
	return messages, complete
}

func TestNewHistory(t *testing.T) {
	begin := uint64(time.Now().Unix())
	s := join(t, Options{History: History{Messages: 2}})
	awaitHistory(t, s)
	for range 2 {
		_, complete, err := s.Since(within(t), "topic", 0, 0)
		require.NoError(t, err)
		assert.True(t, complete, "nothing has ever been dropped")
		_, err = s.Publish(within(t), "another", broadcast("x"))
		require.NoError(t, err)
	}
	var seqs []uint64
	for range 3 {
		seq, err := s.Publish(within(t), "topic", broadcast("x"))
		require.NoError(t, err)
		seqs = append(seqs, seq)
	}
	assert.GreaterOrEqual(t, seqs[0], begin<<20, "not those of a store before")
	messages, complete, err := s.Since(within(t), "topic", 0, 0)
	require.NoError(t, err)
	assert.False(t, complete, "one was dropped")
	assert.Len(t, messages, 2)
	_, complete, err = s.Since(within(t), "topic", seqs[0], 0)
	require.NoError(t, err)
	assert.True(t, complete, "none behind it was")
}

func TestHistoryLimits(t *testing.T) {
	t.Run("what is too old goes", func(t *testing.T) {
		s := join(t, Options{History: History{Messages: 10, Age: minHistoryAge}})
		awaitHistory(t, s)
		seq, err := s.Publish(within(t), "topic", broadcast("x"))
		require.NoError(t, err)
		eventually(t, "it goes", func() bool {
			messages, complete, err := s.Since(within(t), "topic", seq-1, 0)
			return err == nil && len(messages) == 0 && !complete
		})
	})
	t.Run("the oldest go when there are too many bytes", func(t *testing.T) {
		s := join(t, Options{History: History{Messages: 1000, Bytes: 10_000}})
		awaitHistory(t, s)
		first, err := s.Publish(within(t), "topic", broadcast("x"))
		require.NoError(t, err)
		for range 20 {
			_, err = s.Publish(within(t), "another", broadcast(strings.Repeat("x", 1000)))
			require.NoError(t, err)
		}
		messages, complete, err := s.Since(within(t), "topic", first-1, 0)
		require.NoError(t, err)
		assert.Empty(t, messages)
		assert.False(t, complete)
	})
	t.Run("what is larger than all the history is refused", func(t *testing.T) {
		s := join(t, Options{History: History{Messages: 1000, Bytes: 10_000}})
		awaitHistory(t, s)
		_, err := s.Publish(within(t), "topic", broadcast(strings.Repeat("x", 10_000)))
		assert.ErrorIs(t, err, ErrTooLarge)
	})
	t.Run("what is larger than a message may be is refused", func(t *testing.T) {
		s := join(t, Options{History: History{Messages: 1000}})
		awaitHistory(t, s)
		_, err := s.Publish(within(t), "topic", make([]byte, s.conn.MaxPayload()))
		assert.ErrorIs(t, err, ErrTooLarge)
	})
	t.Run("a large message is kept and read", func(t *testing.T) {
		s := join(t, Options{History: History{Messages: 1000}})
		awaitHistory(t, s)
		large := websocket.NewFrameBin(false, make([]byte, readBytes+1))
		for range 3 {
			_, err := s.Publish(within(t), "topic", large)
			require.NoError(t, err)
		}
		messages, complete := s.behind(t, "topic", 0, 0)
		assert.True(t, complete)
		require.Len(t, messages, 3)
		assert.Equal(t, large, messages[2].Packet)
	})
	t.Run("topics that are not listed have no history", func(t *testing.T) {
		s := join(t, Options{History: History{Messages: 10, Topics: []string{"news", "chat/*"}}})
		awaitHistory(t, s)
		for topic, kept := range map[string]bool{"news": true, "newspaper": false, "chat/1": true, "chat": false, "*": false} {
			seq, err := s.Publish(within(t), topic, broadcast("x"))
			require.NoError(t, err)
			assert.Equal(t, kept, seq > 0, topic)
		}
	})
}

func TestHistoryOfARestartedNode(t *testing.T) {
	opts := Options{Node: "a", History: History{Messages: 10, Dir: t.TempDir()}}
	srv := newServer()
	node, err := Join(within(t), srv, opts)
	require.NoError(t, err)
	eventually(t, "there is a store", func() bool { return node.Stats().History })
	seq, err := node.Publish(within(t), "topic", broadcast("kept"))
	require.NoError(t, err)
	require.NoError(t, node.Close(within(t)))

	opts.History.Messages = 20
	node, err = Join(within(t), srv, opts)
	require.NoError(t, err)
	defer node.Close(within(t))
	eventually(t, "there is a store", func() bool { return node.Stats().History })
	messages, _, err := node.Since(within(t), "topic", seq-1, 0)
	require.NoError(t, err)
	require.Len(t, messages, 1)
	assert.Equal(t, broadcast("kept"), messages[0].Packet)
	next, err := node.Publish(within(t), "topic", broadcast("more"))
	require.NoError(t, err)
	assert.Equal(t, seq+1, next)
	stream, err := node.history.js.Stream(within(t), node.history.name)
	require.NoError(t, err)
	assert.EqualValues(t, 20, stream.CachedInfo().Config.MaxMsgsPerSubject, "what is to be kept may change")
}

func TestResume(t *testing.T) {
	s := join(t, Options{History: History{Messages: 1500}})
	awaitHistory(t, s)
	require.NoError(t, s.RegisterResume("/topics/:topic/since"))
	g := visit(t, s, 1)
	resume := func(query string) (res Resumed) {
		answer, err := g.ask(http.MethodGet, "/topics/a%2Fb/since"+query, "")
		require.NoError(t, err)
		require.EqualValues(t, http.StatusOK, answer.Code, answer.Message)
		require.NoError(t, json.Unmarshal([]byte(answer.Body), &res))
		return res
	}
	t.Run("only a subscriber gets an answer", func(t *testing.T) {
		answer, err := g.ask(http.MethodGet, "/topics/a%2Fb/since", "")
		require.NoError(t, err)
		assert.EqualValues(t, http.StatusForbidden, answer.Code)
	})
	g.subscribe(t, "a/b")
	t.Run("a topic without messages has none", func(t *testing.T) {
		assert.Equal(t, Resumed{Complete: true, Messages: []ResumedMessage{}}, resume(""))
	})
	first, err := s.Publish(within(t), "a/b", broadcast("text"))
	require.NoError(t, err)
	second, err := s.Publish(within(t), "a/b", websocket.NewFrameBin(false, []byte{1, 2}))
	require.NoError(t, err)
	t.Run("messages come with their numbers", func(t *testing.T) {
		res := resume(fmt.Sprintf("?seq=%d", first-1))
		require.Len(t, res.Messages, 2)
		assert.Equal(t, first, res.Messages[0].Seq)
		assert.JSONEq(t, `{"message":"news","body":"text","id":0,"code":0}`, res.Messages[0].Text)
		assert.Equal(t, []byte{1, 2}, res.Messages[1].Data)
		assert.True(t, res.Complete)
		assert.False(t, res.More)
	})
	t.Run("no more than are wanted", func(t *testing.T) {
		res := resume("?most=1")
		assert.Len(t, res.Messages, 1)
		assert.True(t, res.More)
		res = resume(fmt.Sprintf("?most=1&seq=%d", second))
		assert.Empty(t, res.Messages)
		assert.False(t, res.More)
	})
	t.Run("what is too long for one answer comes in several", func(t *testing.T) {
		for range 3 {
			_, err := s.Publish(within(t), "a/b", broadcast(strings.Repeat("x", maxResumeBytes/2)))
			require.NoError(t, err)
		}
		res := resume(fmt.Sprintf("?seq=%d", second))
		assert.Len(t, res.Messages, 1)
		assert.True(t, res.More)
		messages, complete, err := s.since(within(t), "a/b", second, 0, maxResumeBytes+1)
		require.NoError(t, err)
		assert.True(t, complete)
		assert.Len(t, messages, 2, "what there is no room for is not read")
	})
	t.Run("what is too large for any answer comes by itself", func(t *testing.T) {
		third, err := s.Publish(within(t), "a/b", broadcast(strings.Repeat("x", maxResumeBytes)))
		require.NoError(t, err)
		res := resume(fmt.Sprintf("?seq=%d", third-1))
		assert.Len(t, res.Messages, 1)
		assert.True(t, res.More)
		res = resume(fmt.Sprintf("?seq=%d", third))
		assert.Empty(t, res.Messages)
		assert.False(t, res.More)
	})
	t.Run("a bad number is refused", func(t *testing.T) {
		for _, query := range []string{"?seq=-1", "?seq=x", "?most=-1", "?seq=18446744073709551616"} {
			answer, err := g.ask(http.MethodGet, "/topics/a%2Fb/since"+query, "")
			require.NoError(t, err)
			assert.EqualValues(t, http.StatusBadRequest, answer.Code, query)
		}
	})
}

func TestUntouched(t *testing.T) {
	info := func(begin, first, last uint64) *jetstream.StreamInfo {
		return &jetstream.StreamInfo{Config: jetstream.StreamConfig{FirstSeq: begin}, State: jetstream.StreamState{FirstSeq: first, LastSeq: last}}
	}
	tests := []struct {
		name  string
		store *jetstream.StreamInfo
		seq   uint64
		kept  uint64
		want  bool
	}{
		{"a new store has dropped nothing", info(100, 100, 99), 0, 0, true},
		{"a store that has all has dropped nothing", info(100, 100, 200), 0, 3, true},
		{"a topic with as many as may be kept may have dropped some", info(100, 100, 200), 0, 10, false},
		{"a store that has dropped its first may have dropped the topic's", info(100, 101, 200), 0, 3, false},
		{"what it dropped in front of the number does not count", info(100, 150, 200), 149, 3, true},
		{"what it dropped behind the number does", info(100, 151, 200), 149, 3, false},
		{"a number that it has not reached is another store's", info(100, 100, 200), 201, 0, false},
		{"its last number is known", info(100, 201, 200), 200, 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			assert.Equal(t, test.want, isUntouched(test.store, test.seq, test.kept, 10))
		})
	}
}

func TestWithSequence(t *testing.T) {
	text := func(s string) []byte { return websocket.NewFrameText(false, []byte(s)) }
	long := strings.Repeat("x", 70000)
	tests := []struct {
		name string
		give []byte
		want []byte
	}{
		{"a response gets numbers", text(`{"message":"m","body":"b","id":0,"code":0}`), text(`{"message":"m","body":"b","id":0,"code":0,"seq":7,"prev":5}`)},
		{"a long one too", text(`{"message":"` + long[:200] + `","body":"","id":0,"code":0}`), text(`{"message":"` + long[:200] + `","body":"","id":0,"code":0,"seq":7,"prev":5}`)},
		{"and a very long one", text(`{"message":"` + long + `","body":"","id":0,"code":0}`), text(`{"message":"` + long + `","body":"","id":0,"code":0,"seq":7,"prev":5}`)},
		{"other text stays", text(`{"body":"b"}`), text(`{"body":"b"}`)},
		{"text that is cut stays", text(`{"message":`), text(`{"message":`)},
		{"binary stays", websocket.NewFrameBin(false, []byte(`{"message":"m"}`)), websocket.NewFrameBin(false, []byte(`{"message":"m"}`))},
		{"two frames stay", append(text(`{"message":"m"}`), text("}")...), append(text(`{"message":"m"}`), text("}")...)},
		{"no bytes stay", nil, nil},
		{"one byte stays", []byte{finText}, []byte{finText}},
		{"an empty frame stays", text(""), text("")},
		{"a header that is cut stays", []byte{finText, 127, 0, 0}, []byte{finText, 127, 0, 0}},
		{"a masked frame stays", []byte{finText, 0x80 | 1, 0, 0, 0, 0, '}'}, []byte{finText, 0x80 | 1, 0, 0, 0, 0, '}'}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { assert.Equal(t, test.want, withSequence(test.give, 7, 5)) })
	}
	t.Run("no number before is left out", func(t *testing.T) {
		assert.Equal(t, text(`{"message":"m","seq":7}`), withSequence(text(`{"message":"m"}`), 7, 0))
	})
}

func TestHistoryNeedsAQuorum(t *testing.T) {
	dead := "127.0.0.1:1"
	s := join(t, Options{Listen: "127.0.0.1:0", Peers: []string{dead, "127.0.0.1:2"}, History: History{Messages: 10, Replicas: 3, Topics: []string{"kept"}}})
	g := visit(t, s, 1)
	g.subscribe(t, "kept")
	g.subscribe(t, "plain")
	_, err := s.Publish(within(t), "kept", broadcast("x"))
	assert.ErrorIs(t, err, ErrHistoryUnavailable)
	_, err = s.Publish(within(t), "plain", broadcast("plain"))
	require.NoError(t, err)
	g.hears(t, "plain")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, _, err = s.Since(ctx, "kept", 0, 0)
	assert.ErrorIs(t, err, ErrHistoryUnavailable)
}

// TestCloseWhileHistoryIsAwaited shows that nobody who waits for a store keeps waiting when the node leaves.
func TestCloseWhileHistoryIsAwaited(t *testing.T) {
	s := join(t, Options{Listen: "127.0.0.1:0", Peers: []string{"127.0.0.1:1", "127.0.0.1:2"}, History: History{Messages: 10, Replicas: 3}})
	ended := make(chan error, 1)
	go func() {
		_, _, err := s.Since(within(t), "topic", 0, 0)
		ended <- err
	}()
	looks := 0
	eventually(t, "it waits", func() bool {
		s.inbox.mu.Lock()
		defer s.inbox.mu.Unlock()
		if looks++; len(s.inbox.waiting) == 0 { // the node asks too, but is told at once that nobody is there
			looks = 0
		}
		return looks > 5
	})
	require.NoError(t, s.Node.Close(within(t)))
	assert.ErrorIs(t, <-ended, net.ErrClosed)
}

// TestLate shows what happens to messages that the network has held back, or sent twice.
func TestLate(t *testing.T) {
	sites := gather(t, 2, Options{})
	g := visit(t, sites[1], 1)
	g.subscribe(t, "topic")
	settle(t, sites)
	subject := sites[0].subjects.topic("topic")
	eventually(t, "the subscription is known", func() bool { return sites[0].othersTopic("topic") == 1 })
	send := func(seq uint64) {
		msg := &nats.Msg{Subject: subject, Data: carry(broadcast(fmt.Sprint(seq)))}
		msg.Header = nats.Header{"Nats-Sequence": {fmt.Sprint(seq)}, "Nats-Last-Sequence": {"0"}}
		require.NoError(t, sites[0].conn.PublishMsg(msg))
	}
	for _, seq := range []uint64{5, 3, 5, 7, 6, 8} {
		send(seq)
	}
	g.hears(t, "5", "7", "8")
	sites[1].interest.forgetNumbers() // the store is another one
	send(1)
	g.hears(t, "5", "7", "8", "1")
}

// TestInsist shows that a node which knows of no leader does not keep another one from finding it.
func TestInsist(t *testing.T) {
	s := join(t, Options{History: History{Messages: 1}})
	other, err := s.connect() // as another node
	require.NoError(t, err)
	defer other.Close()
	questions := 0
	_, err = other.Subscribe("question", func(msg *nats.Msg) {
		if questions++; questions == 1 {
			return // lost
		}
		msg.Respond([]byte("nobody knows"))
		if questions > 2 {
			msg.Respond([]byte("answer"))
		}
	})
	require.NoError(t, err)
	require.NoError(t, other.Flush())
	var got []string
	require.NoError(t, s.history.insist(within(t), "question", nil, func(text []byte) bool {
		got = append(got, string(text))
		return string(text) == "answer"
	}))
	assert.Equal(t, []string{"nobody knows", "nobody knows", "answer"}, got)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err = s.history.insist(ctx, "nobody", nil, func([]byte) bool { return true })
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestSinceIsRefused(t *testing.T) {
	s := join(t, Options{History: History{Messages: 1, Topics: []string{"kept"}}})
	_, _, err := s.Since(within(t), "", 0, 0)
	assert.ErrorIs(t, err, websocket.ErrTopicName)
	_, _, err = s.Since(within(t), strings.Repeat("x", maxTopic+1), 0, 0)
	assert.ErrorIs(t, err, websocket.ErrTopicName)
	_, _, err = s.Since(within(t), "other", 0, 0)
	assert.ErrorIs(t, err, ErrNoHistory)
	_, err = s.Presence(within(t), "")
	assert.ErrorIs(t, err, websocket.ErrTopicName)
}
