package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// command is what a peer outside of this process is told to do. See node/peer.mjs.
type command struct {
	ID     int      `json:"id"`
	Do     string   `json:"do"`
	URL    string   `json:"url,omitempty"`
	Offer  []string `json:"offer,omitempty"`
	Kind   kind     `json:"kind,omitempty"`
	Data   []byte   `json:"data,omitempty"`
	Parts  [][]byte `json:"parts,omitempty"`
	Pings  [][]byte `json:"pings,omitempty"`
	Code   int      `json:"code,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// report is an event of a peer outside of this process.
type report struct {
	ID       int    `json:"id"`
	Kind     kind   `json:"kind"`
	URL      string `json:"url"`
	Protocol string `json:"protocol"`
	Data     []byte `json:"data"`
	Code     int    `json:"code"`
	Reason   string `json:"reason"`
}

const (
	opened    kind = "open"
	listening kind = "listening"
)

// remote is a peer outside of this process, with its connections.
type remote struct {
	tell     func(command) error
	address  chan string // where it listens, if it does
	accepted chan conn   // connections that it has opened without being told

	mu    sync.Mutex
	conns map[int]*remoteConn // guarded by mu
}

func newRemote() *remote {
	return &remote{
		address:  make(chan string, 1),
		accepted: make(chan conn, inboxSize),
		conns:    make(map[int]*remoteConn),
	}
}

// report takes an event in JSON.
func (r *remote) report(line []byte) error {
	var got report
	if err := json.Unmarshal(line, &got); err != nil {
		return fmt.Errorf("%w: %.100q", err, line)
	}
	if got.Kind == listening {
		r.address <- got.URL
		return nil
	}
	r.mu.Lock()
	c, ok := r.conns[got.ID]
	if !ok {
		c = r.addLocked(got.ID)
	}
	r.mu.Unlock()
	switch got.Kind {
	case opened:
		c.protocol = got.Protocol
		close(c.opened)
		if !ok {
			r.accepted <- c
		}
	case closed:
		c.putClosed(got.Code, got.Reason)
	default:
		c.put(got.Kind, got.Data)
	}
	return nil
}

func (r *remote) addLocked(id int) *remoteConn {
	c := &remoteConn{inbox: newInbox(), remote: r, id: id, opened: make(chan struct{})}
	r.conns[id] = c
	return c
}

// dial tells the peer to connect.
func (r *remote) dial(url string, offer []string) (conn, error) {
	r.mu.Lock()
	c := r.addLocked(len(r.conns) + 1)
	r.mu.Unlock()
	if err := c.tell(command{Do: "dial", URL: url, Offer: offer}); err != nil {
		return nil, err
	}
	select {
	case <-c.opened:
		return c, nil
	case ev := <-c.inbox:
		return nil, fmt.Errorf("no connection: %v", ev)
	case <-time.After(deadline):
		return nil, errors.New("no connection before the deadline")
	}
}

type remoteConn struct {
	inbox
	remote   *remote
	id       int
	opened   chan struct{} // closed after protocol was set
	protocol string
}

func (c *remoteConn) tell(cmd command) error {
	cmd.ID = c.id
	return c.remote.tell(cmd)
}

func (c *remoteConn) subprotocol() string { return c.protocol }

func (c *remoteConn) send(k kind, payload []byte) error {
	return c.tell(command{Do: string(k), Data: payload})
}

func (c *remoteConn) sendParts(k kind, parts, pings [][]byte) error {
	return c.tell(command{Do: "parts", Kind: k, Parts: parts, Pings: pings})
}

func (c *remoteConn) ping(payload []byte) error {
	return c.tell(command{Do: "ping", Data: payload})
}

func (c *remoteConn) close(code int, reason string) error {
	return c.tell(command{Do: "close", Code: code, Reason: reason})
}

func (c *remoteConn) drop() {
	c.tell(command{Do: "drop"}) // an error means that the peer has ended already
}
