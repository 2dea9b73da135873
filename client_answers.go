package websocket

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
)

// calls are those that wait for an answer on a connection.
type calls struct {
	open    atomic.Int64 // waiting and late ones: without any, nothing that comes is looked at
	waiting atomic.Int64

	// Guarded by mu.
	mu   sync.Mutex
	byID map[uint64]chan callEnd
	late int // that were given up with an id of the client's own, and whose answers may still come
}

// callEnd is what ends a call.
type callEnd struct {
	res *Response
	err error
}

// mayCome reports whether an answer may come.
func (cs *calls) mayCome() bool { return cs.open.Load() > 0 }

// add adds a call.
func (cs *calls) add(id uint64) (<-chan callEnd, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.byID == nil {
		cs.byID = make(map[uint64]chan callEnd)
	}
	if cs.byID[id] != nil {
		return nil, fmt.Errorf("websocket: call: the answer with id %d is being awaited", id)
	}
	ch := make(chan callEnd, 1)
	cs.byID[id] = ch
	cs.open.Add(1)
	cs.waiting.Add(1)
	return ch, nil
}

// remove removes a call. It returns nil if that has been done: then there is an answer, or one was given up.
func (cs *calls) remove(id uint64) chan callEnd {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.removeLocked(id)
}

func (cs *calls) removeLocked(id uint64) chan callEnd {
	ch := cs.byID[id]
	if ch != nil {
		delete(cs.byID, id)
		cs.open.Add(-1)
		cs.waiting.Add(-1)
	}
	return ch
}

// giveUp removes a call whose answer may still come. It returns nil if the answer is there.
func (cs *calls) giveUp(id uint64) chan callEnd {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.giveUpLocked(id)
}

func (cs *calls) giveUpLocked(id uint64) chan callEnd {
	ch := cs.removeLocked(id)
	if ch != nil && id >= firstCallID {
		cs.late++
		cs.open.Add(1)
	}
	return ch
}

// isAwaited reports whether a call waits for the answer with an id.
func (cs *calls) isAwaited(id uint64) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.byID[id] != nil
}

// cameLate is told that an answer came whose call is over.
func (cs *calls) cameLate(id uint64) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.late > 0 && id >= firstCallID {
		cs.late--
		cs.open.Add(-1)
	}
}

// failAll ends all calls.
func (cs *calls) failAll(err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for id := range cs.byID {
		cs.giveUpLocked(id) <- callEnd{nil, &CallError{InDoubt: true, Err: err}}
	}
}

// takeAnswer takes a message that answers a call, or would have. Others are left to their handler.
func (c *clientConn) takeAnswer(f *Frame) bool {
	if !c.calls.mayCome() || f.Opcode() != OpcodeText {
		return false
	}
	id, ok := answerID(f.payload)
	if !ok {
		return false
	}
	if !c.calls.isAwaited(id) {
		isOurs := id-firstCallID < c.client.lastCall.Load()
		if isOurs {
			c.calls.cameLate(id)
		}
		return isOurs
	}
	res := new(Response)
	err := json.Unmarshal(f.payload, res)
	var wrongType *json.UnmarshalTypeError
	isType := errors.As(err, &wrongType)
	switch {
	case err != nil && !isType, res.ID != id: // no JSON, or another id behind that one
		return false
	case isType:
		res, err = nil, fmt.Errorf("websocket: call: answer: %w", err)
	}
	if ch := c.calls.remove(id); ch != nil {
		ch <- callEnd{res, err}
	} else { // it was given up meanwhile
		c.calls.cameLate(id)
	}
	return true
}

// answerID returns the id of a text that may be a Response. Only what it has to read in front of the id is looked at.
func answerID(text []byte) (id uint64, ok bool) {
	b, ok := plainToken(text, '{')
	for ok {
		var name []byte
		if name, b, ok = plainQuoted(b); !ok {
			break
		}
		if b, ok = plainToken(b, ':'); !ok {
			break
		}
		if string(name) == `"id"` {
			digits, _ := plainDigits(b)
			id, err := strconv.ParseUint(string(digits), 10, 64)
			return id, err == nil && id != 0
		}
		if b, ok = skipPlain(b); !ok {
			return slowAnswerID(text)
		}
		b, ok = plainToken(b, ',')
	}
	return 0, false
}

// skipPlain skips a string, or a number without a sign, fraction or exponent.
func skipPlain(b []byte) (rest []byte, ok bool) {
	if _, rest, ok = plainQuoted(b); ok {
		return rest, true
	}
	digits, rest := plainDigits(b)
	return rest, len(digits) > 0
}

// slowAnswerID is answerID for what other servers may write.
func slowAnswerID(text []byte) (id uint64, ok bool) {
	var has struct {
		ID uint64 `json:"id"`
	}
	json.Unmarshal(text, &has) // an id that was read before an error is no lie
	return has.ID, has.ID != 0
}
