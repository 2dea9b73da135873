package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/wsloop/websocket"
)

const (
	defaultMost = 1000
	readBytes   = 4 << 20 // of messages in one answer of the store, or two messages
	readRoom    = 8 << 10 // for what is around one
	readPause   = 20 * time.Millisecond
)

// Message is a message of a topic with history.
type Message struct {
	Topic  string
	Seq    uint64
	Time   time.Time // when it was stored, by the clock of the leader
	Packet []byte    // as it was published; it belongs to the caller
}

// Since returns the messages of a topic with numbers above seq, in order: at most so many, 1000 if most is 0. If it returns as many, there
// may be more, which Since with the last one's number returns. seq 0 asks for all that is kept.
//
// complete says that no message between seq and the first of these is missing, as far as can be told: if it is false, some are too old to be
// kept, or were in a store that is lost, or may be. A subscriber whose last message is still kept always gets a complete answer. One that
// begins, and asks with 0, need not look at it.
//
// What was published before is among them: with a history on several nodes their leader is asked what that is. Since waits for one
// while ctx lasts, but no longer than five seconds, and returns ErrHistoryUnavailable then. It
// returns ErrNoHistory for a topic without history, and websocket.ErrTopicName for what is no name.
func (n *Node) Since(ctx context.Context, topic string, seq uint64, most int) (messages []Message, complete bool, err error) {
	if err = n.left(); err != nil {
		return nil, false, err
	}
	switch {
	case topic == "" || len(topic) > maxTopic:
		return nil, false, websocket.ErrTopicName
	case n.history == nil || !n.opts.History.keeps(topic):
		return nil, false, ErrNoHistory
	}
	if most <= 0 {
		most = defaultMost
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r := reading{h: n.history, topic: topic, subject: n.subjects.kept(topic)}
	if messages, complete, err = r.since(ctx, seq, most); err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrHistoryUnavailable, err)
	}
	return messages, complete, nil
}

// reading reads a topic of the store.
type reading struct {
	h       *history
	topic   string
	subject string
}

// since reads until it has as many messages as are wanted, or all: including what was delivered here before. Each part begins with the last
// message of the one before: if that is still there, nothing behind it was dropped in between.
func (r *reading) since(ctx context.Context, seq uint64, most int) (messages []Message, complete bool, err error) {
	complete = true
	latest, err := r.latest(ctx)
	if err != nil {
		return nil, false, err
	}
	for last := seq; ; {
		more, left, err := r.read(ctx, max(last, 1), most-len(messages)+1)
		if err != nil {
			return nil, false, err
		}
		switch {
		case len(more) > 0 && more[0].Seq == last:
			complete = complete || len(messages) == 0 // a replica that was behind may have said otherwise before
			more = more[1:]
		case len(messages) > 0:
			complete = complete && len(more) == 0 // else it has not come to the replica that answers
			more = more[:min(len(more), most-len(messages))]
		default:
			complete = r.isUntouched(ctx, seq)
			more = more[:min(len(more), most)]
		}
		if messages = append(messages, more...); len(messages) > 0 {
			last = messages[len(messages)-1].Seq
		}
		if len(messages) >= most || left == 0 && last >= latest {
			return messages, complete, nil
		}
		if len(more) > 0 {
			continue
		}
		select { // another node answers, or this one knows more by then
		case <-time.After(readPause):
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

// latest returns the number of the latest message that there is certainly. What is read may come from any node with a replica, which may not
// have it yet: only the leader knows.
func (r *reading) latest(ctx context.Context) (seq uint64, err error) {
	if r.h.n.opts.History.Replicas > 1 {
		if seq, err = r.h.latestOf(ctx, r.subject); err != nil {
			return 0, err
		}
	}
	if f := r.h.n.interest.topic(r.topic); f != nil {
		seq = max(seq, f.last.Load())
	}
	return seq, nil
}

// latestOf asks the leader for the number of the latest message of a subject, 0 if there is none, until there is a leader.
func (h *history) latestOf(ctx context.Context, subject string) (seq uint64, err error) {
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, storeAttempt)
		answer, err := h.request(attempt, &nats.Msg{Subject: "$JS.API.STREAM.MSG.GET." + h.name, Data: fmt.Appendf(nil, `{"last_by_subj":%q}`, subject)})
		cancel()
		var last struct {
			Message *struct{ Seq uint64 }
			Error   *struct{ Code int }
		}
		if err == nil && !isNobody(answer) && json.Unmarshal(answer.Data, &last) == nil {
			switch {
			case last.Message != nil:
				return last.Message.Seq, nil
			case last.Error != nil && last.Error.Code == 404:
				return 0, nil
			}
		}
		select {
		case <-time.After(readPause):
		case <-ctx.Done():
		}
	}
	return 0, ctx.Err()
}

// read asks for messages from a number on. left is how many there are behind them.
func (r *reading) read(ctx context.Context, from uint64, most int) (messages []Message, left uint64, err error) {
	type batch struct {
		Seq      uint64 `json:"seq"`
		Subject  string `json:"next_by_subj"`
		Batch    int    `json:"batch"`
		MaxBytes int    `json:"max_bytes"`
	}
	body, _ := json.Marshal(batch{from, r.subject, most, max(readBytes, int(r.h.n.conn.MaxPayload())+readRoom)}) // numbers and a string
	e := r.h.n.inbox.expect()
	defer r.h.n.inbox.forget(e)
	if err = r.h.n.conn.PublishMsg(&nats.Msg{Subject: "$JS.API.DIRECT.GET." + r.h.name, Reply: e.subject, Data: body}); err != nil {
		return nil, 0, err
	}
	for {
		msg, err := e.next(ctx)
		if err != nil {
			return nil, 0, err
		}
		switch status := first(msg.Header, "Status"); status {
		case "":
			m, err := r.message(msg)
			if err != nil {
				return nil, 0, err
			}
			messages = append(messages, m)
		case "204": // the end
			left, _ = strconv.ParseUint(first(msg.Header, "Nats-Num-Pending"), 10, 64)
			return messages, left, nil
		case "404": // nothing
			return nil, 0, nil
		default:
			return nil, 0, errors.New(status + " " + first(msg.Header, "Description"))
		}
	}
}

func (r *reading) message(msg *nats.Msg) (m Message, err error) {
	m.Topic = r.topic
	if m.Seq, err = strconv.ParseUint(first(msg.Header, "Nats-Sequence"), 10, 64); err != nil {
		return m, err
	}
	if m.Time, err = time.Parse(time.RFC3339Nano, first(msg.Header, "Nats-Time-Stamp")); err != nil {
		return m, err
	}
	if len(msg.Data) > 0 {
		m.Packet = msg.Data[1:]
	}
	return m, nil
}

// isUntouched reports whether nothing of the topic was dropped behind a number that is none of those that are kept.
func (r *reading) isUntouched(ctx context.Context, seq uint64) bool {
	oldest, left, err := r.read(ctx, 1, 1)
	if err != nil {
		return false // nobody knows
	}
	stream, err := r.h.js.Stream(ctx, r.h.name)
	if err != nil {
		return false
	}
	store := stream.CachedInfo()
	if len(oldest) == 0 {
		return isUntouched(store, seq, 0, r.h.n.opts.History.Messages)
	}
	if oldest[0].Seq <= seq+1 {
		return seq <= store.State.LastSeq
	}
	return isUntouched(store, seq, 1+left, r.h.n.opts.History.Messages)
}

// isUntouched reports whether nothing of a topic can have been dropped behind a number, though no message up to it is left: the store, which
// drops its oldest messages for their age and their bytes, has not come so far, and the topic has never had as many as may be kept.
// For had one been dropped for their count, the ones behind it would be as many still, as they are younger.
func isUntouched(store *jetstream.StreamInfo, seq, kept uint64, most int) bool {
	if seq == 0 {
		seq = max(store.Config.FirstSeq, 1) - 1
	}
	return kept < uint64(most) && store.State.FirstSeq <= seq+1 && seq <= store.State.LastSeq
}
