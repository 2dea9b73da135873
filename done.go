package websocket

import "sync"

// Done returns a channel that is closed when a connection of a Server begins to end: the client has closed it or is gone, it was
// removed, the server stops. From then on nothing is read from it, and what is sent to it soon fails. A handler that waits for
// something else, such as a writer in HandleClientAdd, waits for this too.
//
// It returns the same channel for as long as the connection is open, a closed one once it has ended (and its number is held back),
// and nil, from which nothing is ever received, where conn is not a connection of a Server. It may be called from any goroutine.
func Done(conn int) <-chan struct{} {
	c := descriptors.get(conn)
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hasEnded() {
		ended := make(chan struct{})
		close(ended)
		return ended
	} else if c.isShaking() { // the program does not know it yet
		return nil
	}
	c.awaited = true
	return c.loop.ends.of(c)
}

// ends has the channels that Done has made. They are here, and not in the connections, since few have one.
type ends struct {
	mu       sync.Mutex
	channels map[*conn]chan struct{} // of open connections; guarded by mu
}

// of returns the channel of an open connection. It is called with the connection's mu held, as tell is.
func (e *ends) of(c *conn) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	ch := e.channels[c]
	if ch == nil {
		if e.channels == nil {
			e.channels = make(map[*conn]chan struct{})
		}
		ch = make(chan struct{})
		e.channels[c] = ch
	}
	return ch
}

// tell closes the channel of a connection that has one.
func (e *ends) tell(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.channels[c])
	delete(e.channels, c)
}
