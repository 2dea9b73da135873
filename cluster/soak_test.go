package cluster

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// soakFor is how long TestSoak makes trouble: make cluster-soak sets it.
var soakFor = flag.Duration("soak", 0, "how long TestSoak makes trouble")

// repairTime is how long it may take until interest and presence are right again.
const repairTime = 10 * time.Second

const (
	soakGuests = 8 // on each node
	soakTopics = 3
	maxTold    = 10                    // problems are told of
	soakPause  = 20 * time.Millisecond // between two messages of a publisher
)

func soakTopic(i int) string { return fmt.Sprintf("kept/%d", i) }

// soak is the traffic over a cluster that has trouble.
type soak struct {
	t       *testing.T
	cluster *linked
	broker  *process // external; nil: embedded ones
	ended   atomic.Bool
	running sync.WaitGroup
	guests  []*regular

	mu     sync.Mutex
	stored map[string]map[uint64]string // what was acknowledged, by topic and number; guarded by mu

	refused, lost, tooOld, resumed, duplicated, disordered, plain, plainLost, connects atomic.Int64
}

func TestSoak(t *testing.T) {
	if *soakFor == 0 {
		t.Skip("make cluster-soak runs it")
	}
	t.Run("embedded brokers", func(t *testing.T) {
		opts := Options{Secret: "soak", History: History{Messages: 1_000_000, Bytes: 1 << 30, Replicas: 3, Dir: "files", Topics: []string{"kept/*"}}}
		s := &soak{t: t, cluster: startLinked(t, 3, opts), stored: make(map[string]map[uint64]string)}
		s.run(s.kill, s.isolate, s.stop)
	})
	t.Run("an external broker", func(t *testing.T) {
		broker := settings{Port: port(t), Dir: t.TempDir()}
		running := start(t, roleBroker, broker)
		history := History{Messages: 1_000_000, Bytes: 1 << 30, Dir: "of the broker", Topics: []string{"kept/*"}}
		through := newLink(t, fmt.Sprintf("127.0.0.1:%d", broker.Port))
		s := &soak{t: t, cluster: &linked{t: t, links: map[[2]int]*link{{2, 0}: through}}, stored: make(map[string]map[uint64]string)}
		for i := range 3 {
			url := fmt.Sprintf("nats://127.0.0.1:%d", broker.Port)
			if i == 2 {
				url = "nats://" + through.ln.Addr().String()
			}
			set := settings{Options: Options{URL: url, Node: fmt.Sprint("node-", i), History: history}}
			s.cluster.settings = append(s.cluster.settings, set)
			s.cluster.nodes = append(s.cluster.nodes, start(t, roleNode, set))
		}
		known(t, s.cluster.nodes...)
		s.run(s.kill, s.stop, func(int) string {
			s.cluster.isolate(2, true)
			time.Sleep(troubleTime())
			s.cluster.isolate(2, false)
			return "node-2 has no way to the broker"
		}, func(int) string {
			running.kill()
			time.Sleep(time.Second)
			running = start(t, roleBroker, broker)
			return "the broker is killed and started again"
		})
	})
}

// troubleTime is how long a trouble lasts: up to 30 s, if there is so much time.
func troubleTime() time.Duration {
	return time.Duration(rand.Int64N(int64(min(30*time.Second, *soakFor/10))))
}

func (s *soak) kill(i int) string {
	s.cluster.node(i).kill()
	time.Sleep(troubleTime() / 4)
	s.cluster.restart(i)
	return "is killed and started again"
}

func (s *soak) isolate(i int) string {
	s.cluster.isolate(i, true)
	time.Sleep(troubleTime())
	s.cluster.isolate(i, false)
	return "is cut off"
}

func (s *soak) stop(i int) string {
	s.cluster.node(i).pause(s.t)
	time.Sleep(troubleTime() / 4)
	s.cluster.node(i).resume(s.t)
	return "stands still"
}

// run has traffic and trouble, and then counts.
func (s *soak) run(troubles ...func(node int) string) {
	storing(s.t, s.cluster.nodes...)
	idle := s.cluster.node(0).do(order{}).Subscriptions
	for i := range 3 * soakGuests {
		g := &regular{s: s, node: i % 3, uid: uint64(i + 1), topics: make(map[string]*shelf)}
		s.guests = append(s.guests, g)
		s.running.Go(g.live)
	}
	s.awaitPresence("at the start")
	var publishers sync.WaitGroup
	for i := range 3 {
		publishers.Go(func() { s.publish(i) })
	}
	for begin, n := time.Now(), 0; time.Since(begin) < *soakFor; n++ {
		node := rand.IntN(3)
		what := troubles[n%len(troubles)](node)
		s.awaitPresence(what)
		s.t.Logf("%6s node-%d %s: resumed %d, refused %d, plain lost %d of %d", time.Since(begin).Round(time.Second), node, what,
			s.resumed.Load(), s.refused.Load(), s.plainLost.Load(), s.plain.Load())
	}
	s.ended.Store(true)
	publishers.Wait()
	for i := range 3 {
		r, _ := s.cluster.node(i).try(order{Do: "leader"})
		s.t.Logf("node-%d: leader %q, the store has %s", i, r.Leader, r.Store)
	}
	s.settle(idle)
}

// settle lets every guest have what it missed, and compares with what was stored.
func (s *soak) settle(idle int) {
	total, forgotten := 0, 0
	newcomer := &regular{s: s, uid: 1000, topics: make(map[string]*shelf)} // who has to have all of it from the store
	s.running.Go(newcomer.live)
	for topic, stored := range s.stored {
		total += len(stored)
		eventually(s.t, "a newcomer resumes", func() bool { return newcomer.resume(topic) })
		for seq, body := range stored {
			if newcomer.has(topic, seq) != body {
				if forgotten++; forgotten < maxTold {
					s.t.Logf("the store has no longer %d of %s: %q is %q", seq, topic, body, newcomer.has(topic, seq))
				}
			}
		}
		for _, g := range s.guests {
			eventually(s.t, "a guest resumes", func() bool { return g.resume(topic) })
			for seq, body := range stored {
				if g.has(topic, seq) != body {
					s.lost.Add(1)
				}
			}
		}
	}
	s.t.Logf("stored %d, to %d guests each: lost %d, too old %d, duplicated %d, out of order %d; resumed %d times; refused %d; connected %d times",
		total, len(s.guests), s.lost.Load(), s.tooOld.Load(), s.duplicated.Load(), s.disordered.Load(), s.resumed.Load(), s.refused.Load(), s.connects.Load())
	s.t.Logf("of what was acknowledged the store has lost %d", forgotten)
	s.t.Logf("without history: %d expected, %d lost", s.plain.Load(), s.plainLost.Load())
	assert.NotZero(s.t, total)
	assert.Zero(s.t, s.lost.Load(), "lost")
	assert.Zero(s.t, forgotten, "lost by the store")
	assert.Zero(s.t, s.tooOld.Load(), "too old")
	assert.Zero(s.t, s.duplicated.Load(), "duplicated")
	assert.Zero(s.t, s.disordered.Load(), "out of order")
	for _, g := range append(s.guests, newcomer) {
		g.quit()
	}
	s.running.Wait()
	for i := range 3 {
		eventually(s.t, "interest has gone with the guests", func() bool {
			r := s.cluster.node(i).do(order{})
			return r.Stats.Users == 0 && r.Stats.Topics == 0 && r.Subscriptions <= idle+8 // what JetStream has for itself differs
		})
	}
}

// awaitPresence waits until every node knows of every guest.
func (s *soak) awaitPresence(what string) {
	s.t.Helper()
	begin := time.Now()
	for i := range 3 {
		eventually(s.t, "presence after "+what, func() bool {
			r, err := s.cluster.node(i).try(order{Do: "presence", Topic: soakTopic(0)})
			conns := 0
			for _, m := range r.Members {
				conns += m.Conns
			}
			return err == nil && r.Err == "" && conns == len(s.guests) && len(r.Stats.Nodes) == 2
		})
	}
	assert.Less(s.t, time.Since(begin), repairTime, what)
}

// publish publishes at a node: to topics with history, and without.
func (s *soak) publish(node int) {
	sent := 0
	for n := 1; !s.ended.Load(); n++ {
		time.Sleep(soakPause)
		sent++
		if r, err := s.cluster.node(node).try(order{Do: "publish", Topic: "plain", Body: fmt.Sprint(node, " ", sent)}); err != nil || r.Err != "" {
			sent-- // those here have it all the same, and take the next one for the same
		}
		topic := soakTopic(n % soakTopics)
		body := fmt.Sprintf("%d %d %d", node, n, time.Now().UnixNano())
		r, err := s.cluster.node(node).try(order{Do: "publish", Topic: topic, Body: body})
		if err != nil || r.Err != "" {
			s.refused.Add(1)
			continue
		}
		s.mu.Lock()
		if s.stored[topic] == nil {
			s.stored[topic] = make(map[uint64]string)
		}
		if before, twice := s.stored[topic][r.Seq]; twice {
			s.t.Errorf("number %d of %s was given to %q and %q", r.Seq, topic, before, body)
		}
		s.stored[topic][r.Seq] = body
		s.mu.Unlock()
	}
}

// regular is a guest who comes back.
type regular struct {
	s    *soak
	node int
	uid  uint64

	mu     sync.Mutex
	conn   *guest            // guarded by mu
	gone   bool              // guarded by mu
	topics map[string]*shelf // guarded by mu
	plain  [3]int            // number of the last message of a publisher on this connection; guarded by mu
}

// shelf is what one guest knows of one topic.
type shelf struct {
	bodies map[uint64]string
	upTo   uint64 // it has all up to this
	live   uint64 // the last one that came by itself, on this connection
}

func (g *regular) topic(name string) *shelf {
	h := g.topics[name]
	if h == nil {
		h = &shelf{bodies: make(map[uint64]string)}
		g.topics[name] = h
	}
	return h
}

func (g *regular) has(topic string, seq uint64) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.topic(topic).bodies[seq]
}

func (g *regular) quit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gone = true
	if g.conn != nil {
		g.conn.Quit()
	}
}

// live connects, subscribes, resumes and takes what comes, again and again.
func (g *regular) live() {
	for {
		conn, err := connect(g.s.cluster.node(g.node).WS, g.uid)
		g.mu.Lock()
		g.conn, g.plain = conn, [3]int{}
		for _, h := range g.topics {
			h.live = 0
		}
		gone := g.gone
		g.mu.Unlock()
		switch {
		case gone:
			conn.Quit()
			return
		case err != nil:
			time.Sleep(50 * time.Millisecond)
			continue
		}
		g.s.connects.Add(1)
		g.attend(conn)
	}
}

// attend is one connection.
func (g *regular) attend(conn *guest) {
	defer conn.Quit()
	topics := []string{"plain"}
	for i := range soakTopics {
		topics = append(topics, soakTopic(i))
	}
	for _, topic := range topics {
		if _, err := conn.ask(http.MethodPut, "/subscription", topic); err != nil {
			return
		}
	}
	for _, topic := range topics[1:] {
		g.resumeOn(conn, topic)
	}
	for taken := 0; ; {
		select {
		case <-conn.received:
		case <-conn.left:
			return
		}
		conn.mu.Lock()
		got := conn.got[taken:]
		taken = len(conn.got)
		conn.mu.Unlock()
		for _, res := range got {
			if topic := g.take(res); topic != "" {
				g.resumeOn(conn, topic)
			}
		}
	}
}

// take notes a message. It returns the topic of which the guest has missed something, if it has.
func (g *regular) take(res websocket.Response) (missed string) {
	seq, prev := res.Seq, res.Prev
	g.mu.Lock()
	defer g.mu.Unlock()
	var node, n int
	fmt.Sscanf(res.Body, "%d %d", &node, &n)
	if seq == 0 {
		g.s.plain.Add(1)
		if last := g.plain[node]; last != 0 && n != last+1 {
			if n < last {
				g.s.disordered.Add(1)
			}
			g.s.plainLost.Add(int64(max(n-last-1, 0)))
		}
		g.plain[node] = n
		return ""
	}
	topic := soakTopic(n % soakTopics)
	h := g.topic(topic)
	switch {
	case seq == h.live:
		g.s.duplicated.Add(1)
	case seq < h.live:
		g.s.disordered.Add(1)
	}
	h.live = seq
	h.bodies[seq] = res.Body
	if prev == h.upTo || seq <= h.upTo {
		h.upTo = max(h.upTo, seq)
		return ""
	}
	return topic
}

// resume gets what was missed, and reports whether the guest has all now.
func (g *regular) resume(topic string) bool {
	g.mu.Lock()
	conn := g.conn
	g.mu.Unlock()
	return conn != nil && g.resumeOn(conn, topic)
}

func (g *regular) resumeOn(conn *guest, topic string) bool {
	for {
		g.mu.Lock()
		from := g.topic(topic).upTo
		g.mu.Unlock()
		res, err := conn.ask(http.MethodGet, fmt.Sprintf("/topics/%s/since?seq=%d", strings.ReplaceAll(topic, "/", "%2F"), from), "")
		if err != nil {
			return false
		}
		if res.Code != http.StatusOK { // there is no store at the moment
			time.Sleep(50 * time.Millisecond)
			return false
		}
		var answer Resumed
		require.NoError(g.s.t, json.Unmarshal([]byte(res.Body), &answer))
		g.noteResumed(topic, from, answer)
		if !answer.More {
			return true
		}
	}
}

func (g *regular) noteResumed(topic string, from uint64, answer Resumed) {
	g.s.resumed.Add(1)
	if !answer.Complete && from != 0 {
		if g.s.tooOld.Add(1) < maxTold {
			g.s.t.Logf("not complete: %s behind %d, from %s: %d messages", topic, from, g.s.cluster.node(g.node).Node, len(answer.Messages))
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.topic(topic)
	for _, m := range answer.Messages {
		var body websocket.Response
		require.NoError(g.s.t, json.Unmarshal([]byte(m.Text), &body))
		h.bodies[m.Seq] = body.Body
		h.upTo = max(h.upTo, m.Seq)
	}
}
