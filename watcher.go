package websocket

import (
	"context"
	"sync"
)

// Watcher tells which users have a connection of a server, and which topics a subscriber. It is what joins servers to a cluster: what is
// sent to a user, or published, has to reach those servers only that somebody there waits for. See ClientManager.Watch.
type Watcher struct {
	clients *ClientManager // immutable
	bell    chan struct{}  // rung when there is something to be told, or nothing any more
	mu      sync.Mutex
	changes Changes // that are not told yet; guarded by mu
	closed  bool    // guarded by mu
}

// Changes are users and topics that have come or gone: true for a user that has a connection now and had none, or a topic that has a
// subscriber, false if the last one has gone. What has come and gone again in between is not among them.
type Changes struct {
	Users  map[uint64]bool
	Topics map[string]bool
}

func newChanges() Changes { return Changes{make(map[uint64]bool), make(map[string]bool)} }

// errWatcherClosed matches net.ErrClosed.
const errWatcherClosed closedError = "websocket: watcher is closed"

// Watch returns a Watcher, whose first changes are all users and topics that are there. It goes on when the server stops, and is
// started again, until it is closed. A ClientManager has one at a time: Watch closes the one before. While there is none, nothing is
// counted or kept for one.
//
// What is kept until Next tells it is less than 100 bytes for each user and topic that is there, or was when Next was last called,
// however often they come and go.
func (cls *ClientManager) Watch() *Watcher {
	w := &Watcher{clients: cls, bell: make(chan struct{}, 1), changes: newChanges()}
	cls.watching.mu.Lock()
	defer cls.watching.mu.Unlock()
	cls.watchLocked(w)
	return w
}

// Close ends the watcher. Next returns an error that matches net.ErrClosed, and so does one that waits. It may be called twice.
func (w *Watcher) Close() {
	cls := w.clients
	cls.watching.mu.Lock()
	defer cls.watching.mu.Unlock()
	if cls.watching.watcher == w {
		cls.watchLocked(nil)
	}
}

// watching is the watcher of a ClientManager.
type watching struct {
	mu      sync.Mutex
	watcher *Watcher // guarded by mu, and for each shard by that shard's
}

// watchLocked puts another watcher, or none, in the place of the one that is there. It tells it of each shard with the shard locked,
// and from then on the shard does, so that for each user and topic it is told of what happens, once, in order.
func (cls *ClientManager) watchLocked(w *Watcher) {
	before := cls.watching.watcher
	cls.watching.watcher = w
	for i := range cls.shards {
		cls.shards[i].watchedBy(w)
	}
	for i := range cls.topics {
		cls.topics[i].watchedBy(w)
	}
	if before != nil {
		before.end()
	}
}

func (s *clientShard) watchedBy(w *Watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watcher = w; w == nil {
		return
	}
	for uid := range s.users {
		w.userIs(uid, true)
	}
}

func (s *topicShard) watchedBy(w *Watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watcher = w; w == nil {
		return
	}
	for name := range s.topics {
		w.topicIs(name, true)
	}
}

// Next waits until something has changed since it was called last, and returns all that has. Each change is told once, and before later
// ones of the same user or topic. The maps belong to the caller. Next returns the error of ctx when that ends, and one that matches
// net.ErrClosed once the watcher is closed. One goroutine may call it at a time; no connection waits for it.
func (w *Watcher) Next(ctx context.Context) (changes Changes, err error) {
	for {
		changes, err = w.take()
		if err != nil || len(changes.Users)+len(changes.Topics) > 0 {
			return changes, err
		}
		select {
		case <-w.bell:
		case <-ctx.Done():
			return Changes{}, ctx.Err()
		}
	}
}

func (w *Watcher) take() (changes Changes, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return changes, errWatcherClosed
	case len(w.changes.Users)+len(w.changes.Topics) == 0:
		return changes, nil
	}
	changes, w.changes = w.changes, newChanges()
	return changes, nil
}

// userIs tells that the first connection of a user came or the last one went. It is called with the mu of the user's shard held.
func (w *Watcher) userIs(uid uint64, here bool) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w.changes.Users, uid, here)
	w.ring()
}

// topicIs tells that the first subscriber of a topic came or the last one went. It is called with the mu of the topic's shard held.
func (w *Watcher) topicIs(name string, here bool) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w.changes.Topics, name, here)
	w.ring()
}

// change notes that something came or went, or that this undoes what was noted and not told.
func change[K comparable](changes map[K]bool, of K, here bool) {
	if _, undone := changes[of]; undone {
		delete(changes, of)
		return
	}
	changes[of] = here
}

func (w *Watcher) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed, w.changes = true, Changes{}
	w.ring()
}

func (w *Watcher) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}
