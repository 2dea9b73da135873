package websocket

import (
	"fmt"
	"runtime/debug"
)

// ClientState is what Client.HandleState is told.
type ClientState uint8

const (
	// StateConnecting says that an attempt to connect begins: Connect was called, or a wait is over.
	StateConnecting ClientState = iota + 1

	// StateConnected says that the connection is open. HandleState may send and Call; messages of the server wait until it has returned.
	// Connect does not wait for it.
	StateConnected

	// StateWaiting says that a connection was lost, or an attempt has failed, and the next one begins at Client.NextAttempt.
	StateWaiting

	// StateEnded says that nothing follows by itself. The cause is nil if the program wanted that, by Close, CloseWith or Quit.
	StateEnded
)

// String returns a word for logs, such as "waiting".
func (state ClientState) String() string {
	switch state {
	case StateConnecting:
		return "connecting"
	case StateConnected:
		return "connected"
	case StateWaiting:
		return "waiting"
	case StateEnded:
		return "ended"
	}
	return fmt.Sprintf("ClientState(%d)", uint8(state))
}

// news is a state that HandleState has still to be told.
type news struct {
	session *session
	state   ClientState
	cause   error
	told    chan bool // has an element when HandleState is done: whether it has returned, and not ended its goroutine
}

// noteLocked notes a state, which is told by whoever calls tellStates first. It returns what has an element then, nil if there is nobody
// to tell.
func (cl *Client) noteLocked(s *session, state ClientState, cause error) (told <-chan bool) {
	if s == nil || s.handleState == nil {
		return nil
	}
	n := news{s, state, cause, make(chan bool, 1)}
	cl.news = append(cl.news, n)
	return n.told
}

// tellStates tells the states that have been noted, in order, unless that is being done: also by a HandleState that has called us.
func (cl *Client) tellStates() {
	for cl.beginTelling() {
		done := make(chan struct{})
		go cl.tell(done)
		<-done
	}
}

// beginTelling reports whether there is a state that the caller has to tell.
func (cl *Client) beginTelling() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.isTelling || len(cl.news) == 0 {
		return false
	}
	cl.isTelling = true
	return true
}

// awaitTold returns when a state has been told, and whether HandleState has returned. HandleState must not call it.
func (cl *Client) awaitTold(told <-chan bool) (returned bool) {
	cl.tellStates()
	return told == nil || <-told
}

// tell calls HandleState, which may end the goroutine. A panic is logged.
func (cl *Client) tell(done chan<- struct{}) {
	cl.mu.Lock()
	n := cl.news[0]
	cl.news = cl.news[1:]
	cl.mu.Unlock()
	returned := false
	defer func() {
		if r := recover(); r != nil {
			n.session.log.Error("websocket: client handler panicked", "panic", r, "stack", string(debug.Stack()))
			returned = true
		}
		cl.mu.Lock()
		cl.isTelling = false
		cl.mu.Unlock()
		n.told <- returned
		close(done)
	}()
	n.session.handleState(cl, n.state, n.cause)
	returned = true
}
