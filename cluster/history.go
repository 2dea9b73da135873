package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

const (
	storeTimeout = 5 * time.Second        // for a packet to be stored
	storeAttempt = time.Second            // until it is sent again
	storePause   = 100 * time.Millisecond // before it is, if nobody stores

	lookTime   = time.Second // between two looks at a store that works
	lookSooner = 100 * time.Millisecond
	lookLater  = 10 // looks until what the store is, is looked at as well

	// repeatTime is for how long a packet that is sent twice, because its acknowledgement was lost, is stored once.
	repeatTime = time.Minute

	// Numbers begin with the time at which a store is made, so that those of one that was lost do not come again. They stay below 2^53, up to
	// which every JSON parser is exact, until the year 2242, with up to a million messages for each second that the store is there.
	sequenceShift = 20
)

// history is the store of the topics that have one: a stream of NATS, of which any node may be the leader.
type history struct {
	n    *Node // immutable
	js   jetstream.JetStream
	name string

	ready atomic.Bool // the store has answered when it was last asked

	made time.Time // when the store was made that was there at the last look; owned by look
}

func newHistory(n *Node) (*history, error) {
	js, err := jetstream.New(n.conn, jetstream.WithDefaultTimeout(answerTimeout))
	return &history{n: n, js: js, name: n.subjects.stream(n.opts.Name)}, err
}

// config says what the store keeps.
func (h *history) config() jetstream.StreamConfig {
	opts := &h.n.opts.History
	cfg := jetstream.StreamConfig{
		Name:              h.name,
		Subjects:          []string{h.n.subjects.keptSubjects()},
		MaxMsgsPerSubject: int64(opts.Messages),
		MaxAge:            opts.Age,
		MaxBytes:          opts.Bytes,
		Replicas:          opts.Replicas,
		Storage:           jetstream.FileStorage,
		AllowDirect:       true,
		Duplicates:        repeatTime,
		FirstSeq:          uint64(time.Now().Unix()) << sequenceShift,
		RePublish:         &jetstream.RePublish{Source: h.n.subjects.keptSubjects(), Destination: h.n.subjects.topicSubjects()},
	}
	if opts.Dir == "" {
		cfg.Storage = jetstream.MemoryStorage
	}
	if opts.Age > 0 {
		cfg.Duplicates = min(repeatTime, opts.Age)
	}
	return cfg
}

// look sees to it that there is a store, and whether it works, until the node leaves.
func (h *history) look() {
	made := false // since this node is there, with what it is to keep
	for looks := 0; ; looks++ {
		works := h.answers()
		if !works || !made {
			made = h.make() == nil
			works = works || made && h.answers()
		}
		if was := h.ready.Swap(works); was != works || looks%lookLater == 0 {
			h.note(was, works)
		}
		pause := lookTime
		if !works {
			pause = lookSooner
		}
		select {
		case <-time.After(pause):
		case <-h.n.ctx.Done():
			return
		}
	}
}

// note tells of a store that works again or no longer, and finds out if it is another one: then its numbers may have begun anew.
func (h *history) note(was, works bool) {
	if was != works {
		h.n.log.Info("websocket: cluster: history", "available", works, "node", h.n.opts.Node)
	}
	if !works {
		return
	}
	ctx, cancel := context.WithTimeout(h.n.ctx, answerTimeout)
	defer cancel()
	stream, err := h.js.Stream(ctx, h.name)
	if err != nil {
		return
	}
	made := stream.CachedInfo().Created
	if !h.made.IsZero() && !made.Equal(h.made) {
		h.n.interest.forgetNumbers()
	}
	h.made = made
}

// answers reports whether there is a leader: it refuses a message that is for another store.
func (h *history) answers() bool {
	ctx, cancel := context.WithTimeout(h.n.ctx, storeAttempt)
	defer cancel()
	msg := &nats.Msg{Subject: h.n.subjects.kept(""), Header: nats.Header{"Nats-Expected-Stream": {"-"}}}
	answer, err := h.request(ctx, msg)
	return err == nil && !isNobody(answer)
}

// make makes the store, or changes what is to be kept.
func (h *history) make() error {
	if !h.n.conn.IsConnected() {
		return ErrDisconnected
	}
	ctx, cancel := context.WithTimeout(h.n.ctx, answerTimeout)
	defer cancel()
	cfg := h.config()
	stream, err := h.js.Stream(ctx, h.name)
	switch {
	case err == nil: // it has begun already; what it is to keep may be something else now
		cfg.FirstSeq = stream.CachedInfo().Config.FirstSeq
		_, err = h.js.UpdateStream(ctx, cfg)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		_, err = h.js.CreateStream(ctx, cfg)
	}
	if err != nil {
		h.n.log.Debug("websocket: cluster: history is not made yet", "node", h.n.opts.Node, "error", err)
	}
	return err
}

// request sends a message and waits for one answer.
func (h *history) request(ctx context.Context, msg *nats.Msg) (*nats.Msg, error) {
	e := h.n.inbox.expect()
	defer h.n.inbox.forget(e)
	msg.Reply = e.subject
	if err := h.n.conn.PublishMsg(msg); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	return e.next(ctx)
}

// next waits for the next answer.
func (e *expectation) next(ctx context.Context) (*nats.Msg, error) {
	select {
	case msg := <-e.answers:
		return msg, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// publish stores a packet.
func (h *history) publish(ctx context.Context, topic string, packet []byte) (seq uint64, err error) {
	const headers = 256 // with what the store adds
	size := 1 + len(packet) + headers
	if err = h.n.check(size); err != nil {
		return 0, err
	}
	if int64(size+maxTopic*3) > h.n.opts.History.Bytes {
		return 0, fmt.Errorf("%w: %d bytes, of a history of %d", ErrTooLarge, len(packet), h.n.opts.History.Bytes)
	}
	if !h.ready.Load() {
		return 0, ErrHistoryUnavailable
	}
	ctx, cancel := h.limit(ctx)
	defer cancel()
	msg := &nats.Msg{Subject: h.n.subjects.kept(topic), Data: carry(packet), Header: nats.Header{"Nats-Msg-Id": {nuid.Next()}}}
	for {
		seq, err = h.store(ctx, msg)
		if !errors.Is(err, errAgain) {
			return seq, err
		}
		if err = pause(ctx, storePause); err != nil {
			h.ready.Store(false) // until the next look: others need not wait
			return 0, h.unavailable(err)
		}
	}
}

// limit is how long the store is waited for.
func (h *history) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	stop := context.AfterFunc(h.n.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// unavailable is the error for a store that was waited for in vain.
func (h *history) unavailable(err error) error {
	if left := h.n.left(); left != nil {
		return left
	}
	return fmt.Errorf("%w: %w", ErrHistoryUnavailable, err)
}

// errAgain says that a packet is to be sent to the store again.
var errAgain = errors.New("websocket: cluster: the store has not answered")

// stored is what the store answers.
type stored struct {
	Seq   uint64
	Error *struct {
		Description string
		Code        int
		Reason      int `json:"err_code"`
	}
}

// store sends a packet to the store, once.
func (h *history) store(ctx context.Context, msg *nats.Msg) (seq uint64, err error) {
	attempt, cancel := context.WithTimeout(ctx, storeAttempt)
	defer cancel()
	h.n.sent.Add(1)
	answer, err := h.request(attempt, msg)
	var s stored
	switch {
	case err != nil, isNobody(answer):
		return 0, errAgain
	case json.Unmarshal(answer.Data, &s) != nil:
		return 0, fmt.Errorf("%w: the store answered %q", ErrHistoryUnavailable, answer.Data)
	case s.Error != nil:
		return 0, fmt.Errorf("%w: %s (%d)", ErrHistoryUnavailable, s.Error.Description, s.Error.Reason)
	}
	return s.Seq, nil
}

// forgetNumbers lets messages with any number be delivered.
func (in *interest) forgetNumbers() {
	in.mu.RLock()
	defer in.mu.RUnlock()
	for _, f := range in.topics {
		f.last.Store(0)
	}
}
