package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// These make the test's binary another process.
const (
	roleVariable     = "CLUSTER_TEST_ROLE"
	settingsVariable = "CLUSTER_TEST_SETTINGS"

	roleNode   = "node"
	roleBroker = "broker"
)

// settings are those of another process.
type settings struct {
	Options  Options // of a node
	Secluded bool    // nobody is told its address

	Port int    // of a broker
	Dir  string // of its files

	Addr  string // of a server that is to be drained
	Count int    // by so many connections
}

// order is what a node in another process is told to do, and report what came of it.
type order struct {
	ID    uint64
	Do    string
	UID   uint64
	Topic string
	Body  string
	Seq   uint64
}

type report struct {
	ID         uint64
	WS, Routes string // addresses, in the first one
	Node       string
	Reached    int
	Seq        uint64
	Online     bool
	Members    []Member
	Messages   []Message
	Complete   bool
	Leader     string
	Store      string // what is in it
	Interested int    // nodes that the broker knows of; with an external one, 1 if this node is
	Stats      Stats

	Subscriptions int // that the embedded broker has, of all nodes

	Err      string
	Sentinel string
}

// play is another process: it lasts as long as its standard input.
func play(role string) int {
	var s settings
	if err := json.Unmarshal([]byte(os.Getenv(settingsVariable)), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	switch role {
	case roleBroker:
		return playBroker(s)
	case roleDrain:
		return playDrain(s)
	}
	return playNode(s)
}

// playBroker is a NATS server as there may be one already.
func playBroker(s settings) int {
	broker, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: s.Port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: s.Dir, MaxPayload: 32 << 20,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go broker.Start()
	if !broker.ReadyForConnections(patience) {
		return 1
	}
	return ready()
}

// ready says that a process is ready, and waits until it is to end.
func ready() int {
	json.NewEncoder(os.Stdout).Encode(report{})
	io.Copy(io.Discard, os.Stdin)
	return 0
}

func playNode(s settings) int {
	if s.Secluded {
		s.Options.advertise = "127.0.0.1:1"
	}
	srv := newServer()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1
	}
	go srv.Serve(ln)
	node, err := Join(context.Background(), srv, s.Options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	node.RegisterResume("/topics/:topic/since")
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	out.Encode(report{WS: ln.Addr().String(), Routes: node.Addr(), Node: node.Name()})
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var o order
		if in.Decode(&o) != nil {
			break
		}
		go func() {
			r := node.obey(o)
			r.ID = o.ID
			mu.Lock()
			defer mu.Unlock()
			out.Encode(r)
		}()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	node.Close(ctx)
	srv.Stop()
	return 0
}

// obey does what a node is told to do.
func (n *Node) obey(o order) (r report) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	switch o.Do {
	case "user":
		r.Reached, err = n.SendUser(ctx, o.UID, broadcast(o.Body))
	case "all":
		err = n.SendAll(ctx, broadcast(o.Body))
	case "publish":
		r.Seq, err = n.Publish(ctx, o.Topic, broadcast(o.Body))
	case "online":
		r.Online, err = n.Online(ctx, o.UID)
	case "presence":
		r.Members, err = n.Presence(ctx, o.Topic)
	case "leader":
		if stream, failed := n.history.js.Stream(ctx, n.history.name); failed == nil {
			info := stream.CachedInfo()
			r.Store = fmt.Sprintf("%d to %d, %d messages, made %v", info.State.FirstSeq, info.State.LastSeq, info.State.Msgs, info.Created)
			if info.Cluster != nil {
				r.Leader = info.Cluster.Leader
			}
		} else {
			r.Store = failed.Error()
		}
	case "interest":
		r.Interested = n.interested(o.Topic)
	case "since":
		r.Messages, r.Complete, err = n.Since(ctx, o.Topic, o.Seq, 0)
	}
	r.Stats = n.Stats()
	if n.broker != nil {
		r.Subscriptions = int(n.broker.server.NumSubscriptions())
	}
	if err != nil {
		r.Err = err.Error()
		for _, sentinel := range []error{ErrDisconnected, ErrHistoryUnavailable, ErrPartial, ErrTooLarge} {
			if errors.Is(err, sentinel) {
				r.Sentinel = sentinel.Error()
			}
		}
	}
	return r
}

// interested returns how many nodes the embedded broker knows of that have subscribers of a topic; with an external one, 1 if this one has.
func (n *Node) interested(topic string) int {
	switch {
	case n.broker != nil:
		return n.broker.account.Interest(n.subjects.topic(topic))
	case n.interest.topic(topic) != nil:
		return 1
	}
	return 0
}

// process is another process that a test has started.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	in     io.WriteCloser
	report               // the first one
	ended  chan struct{} // no report comes any more

	mu      sync.Mutex
	last    uint64                 // id of an order; guarded by mu
	waiting map[uint64]chan report // by the order's id; guarded by mu
}

// start starts a process, which ends when the test does.
func start(t testing.TB, role string, s settings) *process {
	t.Helper()
	p := &process{t: t, ended: make(chan struct{}), waiting: make(map[uint64]chan report)}
	body, err := json.Marshal(s)
	require.NoError(t, err)
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role, settingsVariable+"="+string(body))
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	first := make(chan report, 1)
	p.waiting[0] = first
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	go p.read(json.NewDecoder(out))
	select {
	case p.report = <-first:
	case <-p.ended:
		require.Fail(t, "the process has not started")
	case <-time.After(2 * patience):
		require.Fail(t, "the process does not start")
	}
	return p
}

func (p *process) read(reports *json.Decoder) {
	defer close(p.ended)
	for {
		var r report
		if reports.Decode(&r) != nil {
			return
		}
		p.mu.Lock()
		answer := p.waiting[r.ID]
		delete(p.waiting, r.ID)
		p.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
}

// try has a node do something.
func (p *process) try(o order) (r report, err error) {
	answer := make(chan report, 1)
	p.mu.Lock()
	p.last++
	o.ID = p.last
	p.waiting[o.ID] = answer
	err = json.NewEncoder(p.in).Encode(o)
	p.mu.Unlock()
	if err != nil {
		return r, err
	}
	select {
	case r = <-answer:
		return r, nil
	case <-p.ended:
		return r, io.ErrUnexpectedEOF
	case <-time.After(3 * patience):
		return r, os.ErrDeadlineExceeded
	}
}

// do is try for what cannot fail.
func (p *process) do(o order) report {
	p.t.Helper()
	r, err := p.try(o)
	require.NoError(p.t, err)
	return r
}

// kill ends the process with SIGKILL, and waits for that.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
	p.cmd.Wait()
}

// pause stops the process. It runs on for a moment after the signal, so pause waits until it stands still.
func (p *process) pause(t testing.TB) {
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	var status syscall.WaitStatus
	_, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, status.Stopped())
}

func (p *process) resume(t testing.TB) { require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT)) }

// startNodes starts a cluster of several processes, each with files of its own, and waits until they know each other.
func startNodes(t testing.TB, count int, opts Options) (nodes []*process) {
	for range count {
		opts.Peers = append(opts.Peers, freeAddress(t))
	}
	for _, listen := range opts.Peers {
		nodes = append(nodes, startNode(t, listen, opts))
	}
	known(t, nodes...)
	return nodes
}

func startNode(t testing.TB, listen string, opts Options) *process {
	opts.Listen = listen
	if opts.History.Dir != "" {
		opts.History.Dir = t.TempDir()
	}
	return start(t, roleNode, settings{Options: opts})
}

// known waits until nodes know each other.
func known(t testing.TB, nodes ...*process) {
	t.Helper()
	for _, p := range nodes {
		eventually(t, "the nodes know each other", func() bool { return len(p.do(order{}).Stats.Nodes) == len(nodes)-1 })
	}
}

// storing waits until nodes can store.
func storing(t testing.TB, nodes ...*process) {
	t.Helper()
	for _, p := range nodes {
		eventually(t, "there is a store", func() bool { return p.do(order{}).Stats.History })
	}
}

// attended waits until every node's broker knows that so many nodes have subscribers of a topic: others may publish before.
func attended(t testing.TB, topic string, count int, nodes ...*process) {
	t.Helper()
	for _, p := range nodes {
		eventually(t, "interest in "+topic+" is known", func() bool { return p.do(order{Do: "interest", Topic: topic}).Interested == count })
	}
}

// stores publishes to a topic with history, once there is a store: there may be an election.
func (p *process) stores(t testing.TB, topic, body string) (r report) {
	t.Helper()
	eventually(t, "history is there", func() bool {
		r = p.do(order{Do: "publish", Topic: topic, Body: body})
		return r.Sentinel != ErrHistoryUnavailable.Error()
	})
	require.Empty(t, r.Err)
	return r
}

// since asks for what a topic had behind a number, once there is a store: there may be an election.
func (p *process) since(t testing.TB, topic string, seq uint64) (r report) {
	t.Helper()
	eventually(t, "history can be read", func() bool {
		r = p.do(order{Do: "since", Topic: topic, Seq: seq})
		return r.Sentinel != ErrHistoryUnavailable.Error()
	})
	require.Empty(t, r.Err)
	return r
}

// guestOf connects a client with a node, and waits until another one knows of it.
func guestOf(t testing.TB, p *process, uid uint64, others ...*process) *guest {
	t.Helper()
	g, err := connect(p.WS, uid)
	require.NoError(t, err)
	t.Cleanup(func() { g.Quit() })
	for _, other := range others {
		eventually(t, "the user is online", func() bool { return other.do(order{Do: "online", UID: uid}).Online })
	}
	return g
}

// link is a connection between nodes that a test can cut: as a network does, without telling either side.
type link struct {
	ln     net.Listener
	target string

	mu    sync.Mutex
	whole *sync.Cond
	cut   bool // guarded by mu
}

func newLink(t testing.TB, target string) *link {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &link{ln: ln, target: target}
	l.whole = sync.NewCond(&l.mu)
	t.Cleanup(func() {
		ln.Close()
		l.set(false)
	})
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go l.carry(conn)
		}
	}()
	return l
}

func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	l.whole.Broadcast()
}

func (l *link) await() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.cut {
		l.whole.Wait()
	}
}

func (l *link) carry(conn net.Conn) {
	l.await()
	to, err := net.Dial("tcp", l.target)
	if err != nil {
		conn.Close()
		return
	}
	go l.copy(to, conn)
	l.copy(conn, to)
}

func (l *link) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.await()
		if err != nil {
			return
		}
		if _, err = to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// linked are nodes in other processes with a link for each pair, in each direction.
type linked struct {
	t        testing.TB
	settings []settings
	links    map[[2]int]*link

	mu    sync.Mutex
	nodes []*process // guarded by mu
}

func startLinked(t testing.TB, count int, opts Options) *linked {
	l := &linked{t: t, links: make(map[[2]int]*link)}
	var listens []string
	for range count {
		listens = append(listens, freeAddress(t))
	}
	for a, listen := range listens {
		own := opts
		own.Listen, own.Peers = listen, nil
		own.Node = "node-" + strconv.Itoa(a)
		if opts.History.Dir != "" {
			own.History.Dir = t.TempDir()
		}
		for b, target := range listens {
			if a != b {
				l.links[[2]int{a, b}] = newLink(t, target)
				own.Peers = append(own.Peers, l.links[[2]int{a, b}].ln.Addr().String())
			}
		}
		l.settings = append(l.settings, settings{Options: own, Secluded: true})
		l.nodes = append(l.nodes, start(t, roleNode, l.settings[a]))
	}
	known(t, l.nodes...)
	return l
}

// isolate cuts a node off from all others, or connects it again.
func (l *linked) isolate(node int, cut bool) {
	for pair, link := range l.links {
		if pair[0] == node || pair[1] == node {
			link.set(cut)
		}
	}
}

func (l *linked) node(i int) *process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes[i]
}

// restart starts a node that was killed.
func (l *linked) restart(i int) {
	p := start(l.t, roleNode, l.settings[i])
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes[i] = p
}
