package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// command is what a peer outside of this process is told to do. See node/peer.mjs and python/peer.py.
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
	Part   int      `json:"part,omitempty"`
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
	echoing   kind = "echoing"
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

// startRemote runs a program in a folder, as a peer, with more in its environment. It ends when its standard input does, at the end of the test.
func startRemote(t *testing.T, env []string, folder, program string, args ...string) *remote {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	r := newRemote()
	var mu sync.Mutex // held for one line
	encoder := json.NewEncoder(in)
	r.tell = func(c command) error {
		mu.Lock()
		defer mu.Unlock()
		return encoder.Encode(c)
	}
	ended := make(chan error, 1)
	go func() {
		r.listen(out)
		ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		in.Close()
		select {
		case err := <-ended:
			assert.NoError(t, err, program)
		case <-time.After(deadline):
			cmd.Process.Kill()
			t.Errorf("%s did not end before the deadline", program)
		}
	})
	return r
}

// listen takes events, one in each line.
func (r *remote) listen(out io.Reader) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = r.report(line)
		}
		if err != nil {
			return
		}
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
