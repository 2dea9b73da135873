//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package abuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
	"golang.org/x/sys/unix"
)

func TestAbuseIdentity(t *testing.T) {
	runRows(t, []attackRow{
		{name: "10,000 connections come and go, and no byte for one of them reaches another", attack: churn},
		{name: "large packets that several goroutines send to one connection are never mixed", attack: mixing},
	})
}

const (
	// keep is for how long goroutines go on sending to the number of a connection that has gone. It is half of the second
	// for which a number is held back at least, since a goroutine may be asleep between its look at the clock and its Send.
	keep = time.Second / 2

	// descriptors is how many descriptors the process has at most in the test. Numbers are held back beyond that second
	// while they are less than a quarter of them, so that with few of them numbers are used again.
	descriptors = 20_000
)

// keptConn is what goroutines of a program keep of a connection: its number, its id, its secret.
type keptConn struct {
	conn    int
	id      uint64
	packet  []byte       // of the secret
	removed atomic.Int64 // when HandleClientRemove was called
}

// churner is a program that keeps ints and ids for too long.
type churner struct {
	a *abuse

	mu     sync.Mutex
	kept   []*keptConn       // all that there were; guarded by mu
	open   map[int]*keptConn // by number, the latest; guarded by mu
	reused int               // numbers that were another's before; guarded by mu

	sends, late, dead, audits atomic.Int64
}

// secretOf is what only the n-th connection may ever see.
func secretOf(n int) string { return fmt.Sprintf("<secret %06d %s>", n, peer.Pattern(40+n%100, n)) }

type secretKey struct{}

func churn(a *abuse) {
	const workers = 20
	each := min(10_000, limitDescriptors(a.t)/2) / workers // with fewer descriptors, numbers would be given back early
	ch := &churner{a: a, open: make(map[int]*keptConn)}
	a.start(&websocket.ServerOptions{
		HandleAuth: func(req *websocket.Handshake) (context.Context, error) {
			return context.WithValue(context.Background(), secretKey{}, req.URL.RawQuery), nil
		},
		HandleClientAdd:    ch.add,
		HandleClientRemove: ch.remove,
		HandleText: func(conn int, p []byte) {
			if !calmEcho(conn, p) {
				ch.text(conn, p)
			}
		},
	})
	stop := make(chan struct{})
	errs := make(chan error, 8)
	background := []func() error{ch.sendToNumbers, ch.sendToNumbers, ch.sendToIDs, ch.audit}
	for _, f := range background {
		go func() {
			for {
				if err := f(); err != nil {
					errs <- err
					return
				}
				select {
				case <-stop:
					errs <- f() // once more, with all of them gone
					return
				case <-time.After(10 * time.Millisecond): // leaves the processors to the connections
				}
			}
		}()
	}
	clients := make(chan error, workers)
	var visits atomic.Int64
	for w := range workers {
		go func() {
			var err error
			for i := 0; err == nil && (i < each || ch.isNew() && i < 10*each); i++ { // numbers are held for a second
				visits.Add(1)
				err = a.visit(w + workers*i)
			}
			clients <- err
		}()
	}
	for range workers {
		require.NoError(a.t, getWithin(a.t, clients, 3*wait))
	}
	require.True(a.t, peer.Eventually(func() bool { return a.Clients.Len() == 1 }))
	close(stop)
	for range background {
		require.NoError(a.t, peer.Get(a.t, errs))
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	require.Len(a.t, ch.kept, int(visits.Load()))
	assert.NotZero(a.t, ch.reused, "no number was used again: nothing was tested")
	for name, count := range map[string]*atomic.Int64{"sends": &ch.sends, "late": &ch.late, "dead": &ch.dead, "audits": &ch.audits} {
		if name == "audits" && runtime.GOOS != "linux" {
			continue
		}
		assert.NotZero(a.t, count.Load(), name)
	}
	a.t.Logf("%d connections, %d on a number of another before; %d packets sent to numbers, %d of them after the removal; %d to ids that had gone; %d looks at numbers held back",
		len(ch.kept), ch.reused, ch.sends.Load(), ch.late.Load(), ch.dead.Load(), ch.audits.Load())
}

// getWithin returns what arrives on a channel.
func getWithin[T any](t *testing.T, ch <-chan T, limit time.Duration) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(limit):
		require.FailNow(t, "nothing arrives on the channel")
	}
	return v
}

// limitDescriptors lowers the limit of descriptors until the end of the test, and returns it.
func limitDescriptors(t *testing.T) int {
	t.Helper()
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	lower := limit
	lower.Cur = min(limit.Cur, descriptors)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &lower))
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) })
	return int(lower.Cur)
}

// clockStart is the moment that now counts from.
var clockStart = time.Now()

// now is a moment in nanoseconds, of a clock that nobody sets.
func now() int64 { return int64(time.Since(clockStart)) }

// isNew reports whether no number was used again yet.
func (ch *churner) isNew() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.reused == 0
}

func (ch *churner) add(ctx context.Context, conn int) {
	secret := ctx.Value(secretKey{}).(string)
	if secret == "" {
		return // the well-behaved client's
	}
	k := &keptConn{conn: conn, id: websocket.ID(conn), packet: websocket.NewFrameText(false, []byte(secret))}
	ch.mu.Lock()
	if ch.open[conn] != nil {
		ch.reused++
	}
	ch.kept = append(ch.kept, k)
	ch.open[conn] = k
	ch.mu.Unlock()
	websocket.Send(conn, k.packet)
}

func (ch *churner) remove(ctx context.Context, conn int) {
	secret := ctx.Value(secretKey{}).(string)
	ch.mu.Lock()
	k := ch.open[conn]
	ch.mu.Unlock()
	if k == nil || secret == "" {
		return
	}
	k.removed.Store(now())
	websocket.Send(conn, k.packet)
}

// text answers with the secret, by its number and its id, immediately and from another goroutine.
func (ch *churner) text(conn int, p []byte) {
	ctx, _ := ch.a.Clients.Context(conn)
	secret := websocket.NewFrameText(false, []byte(ctx.Value(secretKey{}).(string)))
	id := websocket.ID(conn)
	websocket.Send(conn, secret)
	go websocket.SendID(id, secret)
	if strings.HasPrefix(string(p), "remove") {
		ch.a.ClientRemove(conn)
		websocket.TrySend(conn, secret)
	}
}

// recent returns what is kept of the latest connections.
func (ch *churner) recent(n int) []*keptConn {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return append([]*keptConn(nil), ch.kept[max(0, len(ch.kept)-n):]...)
}

// sendToNumbers sends each secret to the number that its connection has or had.
func (ch *churner) sendToNumbers() error {
	for _, k := range ch.recent(1500) {
		removed := k.removed.Load()
		if removed != 0 && now() > removed+int64(keep) {
			continue
		}
		if err := websocket.TrySend(k.conn, k.packet); err != nil && !errors.Is(err, websocket.ErrConnClosed) && !errors.Is(err, websocket.ErrSendQueueFull) {
			return fmt.Errorf("send to a number: %w", err)
		}
		ch.sends.Add(1)
		if removed != 0 {
			ch.late.Add(1)
		}
	}
	return nil
}

// sendToIDs sends secrets to ids, whatever their age. Those that have been gone for long must be refused.
func (ch *churner) sendToIDs() error {
	all := ch.recent(1 << 30)
	for range min(len(all), 1000) {
		k := all[rand.IntN(len(all))]
		removed := k.removed.Load()
		err := websocket.SendID(k.id, k.packet)
		if removed != 0 && now() > removed+int64(2*peer.WriteTimeout) && err == nil {
			return fmt.Errorf("an id that has gone takes a packet")
		}
		if errors.Is(err, websocket.ErrConnClosed) {
			ch.dead.Add(1)
		}
	}
	return nil
}

// audit sends something to each number of which it can be seen that it is held back, within the time for which that is certain.
func (ch *churner) audit() error {
	for conn, k := range heldBack(ch.recent(1500)) {
		if now() > k.removed.Load()+int64(keep) {
			continue
		}
		ch.audits.Add(1)
		if err := websocket.Send(conn, websocket.NewFramePing(false, nil)); !errors.Is(err, websocket.ErrConnClosed) {
			return fmt.Errorf("a number that is held back takes a packet: %w", err)
		}
		if _, err := unix.Write(conn, websocket.NewFramePing(false, nil)); err == nil {
			return errors.New("a number that is held back has a socket that takes data")
		}
		if n, err := unix.Read(conn, make([]byte, 1)); n > 0 || err == unix.EAGAIN {
			return fmt.Errorf("a number that is held back has a socket that can be read: %w", err)
		}
		if _, err := websocket.Recv(conn); !errors.Is(err, websocket.ErrConnClosed) {
			return fmt.Errorf("a number that is held back can be received from: %w", err)
		}
		if websocket.ID(conn) != 0 {
			return errors.New("a number that is held back has an id")
		}
	}
	return nil
}

// heldBack returns those whose numbers are held back, by number. Numbers that are held back have one socket in common, which
// /proc/self/fd shows; if that does not exist there are none.
func heldBack(kept []*keptConn) map[int]*keptConn {
	bySocket := make(map[string]map[int]*keptConn)
	for _, k := range kept {
		socket, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(k.conn))
		if err != nil || k.removed.Load() == 0 {
			continue
		}
		if bySocket[socket] == nil {
			bySocket[socket] = make(map[int]*keptConn)
		}
		bySocket[socket][k.conn] = k // the latest with that number
	}
	for _, held := range bySocket {
		if len(held) > 1 {
			return held
		}
	}
	return nil
}

// visit is the life of one client: it reads its secret some times, and leaves in one of many ways. Each byte that it
// receives is checked.
func (a *abuse) visit(n int) error {
	c, err := a.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	secret := secretOf(n)
	query := strings.NewReplacer("<", "", ">", "", " ", "-").Replace(secret)
	if _, err = io.WriteString(c, strings.Replace(peer.Request, "GET / ", "GET /?"+query+" ", 1)); err != nil {
		return err
	}
	answer := make([]byte, len(peer.Accepted))
	if _, err = io.ReadFull(c.Reader, answer); err != nil || string(answer) != peer.Accepted {
		return fmt.Errorf("client %d: %q, %w", n, answer, err)
	}
	want := websocket.NewFrameText(false, []byte(query))
	got := make([]byte, len(want))
	read := func(times int) error {
		for range times {
			if _, err := io.ReadFull(c.Reader, got); err != nil {
				return fmt.Errorf("client %d: %w", n, err)
			}
			if !bytes.Equal(got, want) {
				return fmt.Errorf("client %d: got %q for %q", n, got, want)
			}
		}
		return nil
	}
	if err = read(1); err != nil {
		return err
	}
	c.Write(websocket.NewFrameText(true, []byte("text")))
	if err = read(2); err != nil {
		return err
	}
	switch n % 5 {
	case 0:
		c.Reset()
		return nil
	case 1:
		c.Write(websocket.NewFrameText(true, []byte("remove")))
	case 2:
		c.Write(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
	case 3:
		c.Write([]byte{0xFF, 0xFF}) // a breach of the protocol
	case 4:
		c.Write(websocket.NewFrameText(true, []byte("remove"))[:3])
		return nil // closed with the secrets unread
	}
	for { // all that comes up to the Close frame and the end of the stream
		op, payload, err := c.Frame()
		switch {
		case err != nil:
			return fmt.Errorf("client %d: no close frame: %w", n, err)
		case op == websocket.OpcodeClose:
			if rest, _ := io.ReadAll(c.Reader); len(rest) > 0 {
				return fmt.Errorf("client %d: %q behind the close frame", n, rest)
			}
			return nil
		case op != websocket.OpcodeText || string(payload) != query:
			return fmt.Errorf("client %d: got %x %q", n, op, payload)
		}
	}
}

// mixing sends packets of one letter each, larger than a socket takes in one go.
func mixing(a *abuse) {
	const senders, packets = 4, 40
	opts := &websocket.ServerOptions{SendQueueSize: 8 << 20}
	added := peer.Added(opts)
	a.start(opts)
	peer.Get(a.t, added)
	c := a.Connect(a.t)
	conn := peer.Get(a.t, added)
	id := websocket.ID(conn)
	sent := make(chan error, senders)
	for s := range senders {
		go func() {
			for i := range packets {
				size := 200_000 + 100_000*((i+s)%10)
				packet := websocket.NewFrameBin(false, bytes.Repeat([]byte{'a' + byte(s)}, size))
				var err error
				if i%2 == 0 {
					err = websocket.Send(conn, packet)
				} else {
					err = websocket.SendID(id, packet)
				}
				if err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
	}
	c.SetDeadline(time.Now().Add(2 * wait))
	var counts [senders]int
	for range senders * packets {
		op, payload, err := c.Frame()
		require.NoError(a.t, err)
		require.Equal(a.t, websocket.OpcodeBin, op)
		s := int(payload[0] - 'a')
		require.Less(a.t, s, senders)
		require.Equal(a.t, 200_000+100_000*((counts[s]+s)%10), len(payload))
		require.Equal(a.t, len(payload), bytes.Count(payload, payload[:1]), "a packet has bytes of another")
		counts[s]++
	}
	for range senders {
		require.NoError(a.t, peer.Get(a.t, sent))
	}
	c.Text("x")
	c.ExpectText("x")
}
