package cluster

import (
	"fmt"
	"os/exec"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// kept has three replicas of a topic's messages.
var kept = History{Messages: 10_000, Replicas: 3, Topics: []string{"kept"}}

// sequence returns the bodies that came with numbers, in the order of those, and checks that none came twice or too early.
func (g *guest) sequence(t *testing.T) (bodies []string, last uint64) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, res := range g.got {
		if res.Seq != 0 {
			require.Greater(t, res.Seq, last, "in order, and once")
			last = res.Seq
			bodies = append(bodies, res.Body)
		}
	}
	return bodies, last
}

// missed returns the number behind which a client has missed something: ok is false if it has not.
func (g *guest) missed() (after uint64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	last := uint64(0)
	for _, res := range g.got {
		if res.Seq == 0 {
			continue
		}
		if last != 0 && res.Prev != last {
			return last, true
		}
		last = res.Seq
	}
	return 0, false
}

func TestKilledNode(t *testing.T) {
	opts := Options{History: kept}
	nodes := startNodes(t, 3, opts)
	storing(t, nodes...)
	a, b, victim := nodes[0], nodes[1], nodes[2]
	onA, onVictim := guestOf(t, a, 1, b), guestOf(t, victim, 3, a, b)
	onA.subscribe(t, "kept")
	onA.subscribe(t, "plain")
	onVictim.subscribe(t, "plain")
	attended(t, "plain", 2, nodes...)
	attended(t, "kept", 1, nodes...)
	first := b.stores(t, "kept", "before")
	onA.has(t, "before")

	victim.kill()
	t.Run("its users and subscribers are gone for the others", func(t *testing.T) {
		eventually(t, "its user is gone", func() bool { return !a.do(order{Do: "online", UID: 3}).Online })
		eventually(t, "its subscriber is gone", func() bool {
			r := b.do(order{Do: "presence", Topic: "plain"})
			return r.Err == "" && len(r.Members) == 1
		})
		assert.Zero(t, b.do(order{Do: "user", UID: 3, Body: "nobody"}).Reached)
	})
	t.Run("the others go on", func(t *testing.T) {
		assert.Equal(t, 1, b.do(order{Do: "user", UID: 1, Body: "user"}).Reached)
		assert.Empty(t, b.do(order{Do: "publish", Topic: "plain", Body: "plain"}).Err)
		b.stores(t, "kept", "after")
		onA.has(t, "after")
		onA.sequence(t)
		r := a.since(t, "kept", first.Seq-1)
		assert.GreaterOrEqual(t, len(r.Messages), 2)
	})
	t.Run("it comes back under its name", func(t *testing.T) {
		opts.Peers = []string{a.Routes, b.Routes, victim.Routes}
		again := startNode(t, victim.Routes, opts)
		known(t, a, b, again)
		storing(t, again)
		guestOf(t, again, 3, a, b)
		assert.Equal(t, 1, a.do(order{Do: "user", UID: 3, Body: "again"}).Reached)
		r := again.since(t, "kept", first.Seq-1)
		assert.Equal(t, broadcast("before"), r.Messages[0].Packet)
	})
}

// TestTwoNodes shows how a single store serves two nodes, and what each of them can do without the other.
func TestTwoNodes(t *testing.T) {
	cluster := startLinked(t, 2, Options{History: History{Messages: 1000, Dir: "files", Topics: []string{"kept"}}})
	storing(t, cluster.nodes...)
	store := 0
	eventually(t, "one has the store", func() bool {
		leader := cluster.node(0).do(order{Do: "leader"}).Leader
		store = slices.Index([]string{"node-0", "node-1"}, leader)
		return store >= 0
	})
	other := 1 - store
	unavailable := func(node int, what order) {
		t.Helper()
		assert.Equal(t, ErrHistoryUnavailable.Error(), cluster.node(node).do(what).Sentinel)
	}
	first := cluster.node(other).stores(t, "kept", "first")
	cluster.node(store).stores(t, "kept", "second")

	t.Run("the one with the store goes on without the other", func(t *testing.T) {
		cluster.node(other).kill()
		cluster.node(store).stores(t, "kept", "third")
		r := cluster.node(store).since(t, "kept", first.Seq)
		assert.True(t, r.Complete)
		assert.GreaterOrEqual(t, len(r.Messages), 2)
		cluster.restart(other)
		known(t, cluster.nodes...)
		cluster.node(other).stores(t, "kept", "fourth")
	})
	t.Run("the one without the store has no history, and all else", func(t *testing.T) {
		cluster.node(store).kill()
		g := guestOf(t, cluster.node(other), 1)
		g.subscribe(t, "plain")
		require.Empty(t, cluster.node(other).do(order{Do: "publish", Topic: "plain", Body: "plain"}).Err)
		g.hears(t, "plain")
		unavailable(other, order{Do: "publish", Topic: "kept", Body: "nobody"})
		unavailable(other, order{Do: "since", Topic: "kept"})
		cluster.restart(store)
		known(t, cluster.nodes...)
		cluster.node(other).stores(t, "kept", "fifth")
		r := cluster.node(other).since(t, "kept", first.Seq-1)
		assert.True(t, r.Complete)
		assert.Equal(t, broadcast("first"), r.Messages[0].Packet)
	})
	t.Run("after both have stopped, the store needs to see the other once", func(t *testing.T) {
		cluster.node(0).kill()
		cluster.node(1).kill()
		cluster.restart(store)
		unavailable(store, order{Do: "publish", Topic: "kept", Body: "nobody"})
		cluster.restart(other)
		cluster.node(store).stores(t, "kept", "sixth")
		r := cluster.node(store).since(t, "kept", first.Seq-1)
		assert.Equal(t, broadcast("first"), r.Messages[0].Packet)
	})
}

func TestRestartedBroker(t *testing.T) {
	broker := settings{Port: port(t), Dir: t.TempDir()}
	running := start(t, roleBroker, broker)
	opts := Options{URL: fmt.Sprintf("nats://127.0.0.1:%d", broker.Port), History: History{Messages: 1000, Dir: "of the broker", Topics: []string{"kept"}}}
	var nodes []*process
	for range 3 {
		nodes = append(nodes, start(t, roleNode, settings{Options: opts}))
	}
	known(t, nodes...)
	storing(t, nodes...)
	a, b := nodes[0], nodes[1]
	onA, onB := guestOf(t, a, 1, b), guestOf(t, b, 2, a)
	for _, g := range []*guest{onA, onB} {
		g.subscribe(t, "kept")
		g.subscribe(t, "plain")
	}
	attended(t, "kept", 1, a, b)
	attended(t, "plain", 1, a, b)
	first := a.stores(t, "kept", "before")
	onA.has(t, "before")
	onB.has(t, "before")
	assert.Equal(t, 1, a.do(order{Do: "user", UID: 2, Body: "to b"}).Reached)
	onB.hears(t, "before", "to b")

	running.kill()
	t.Run("local work goes on, and what is for others fails", func(t *testing.T) {
		eventually(t, "the node notices", func() bool { return !a.do(order{}).Stats.Connected })
		r := a.do(order{Do: "publish", Topic: "plain", Body: "plain"})
		assert.Equal(t, ErrDisconnected.Error(), r.Sentinel)
		r = a.do(order{Do: "user", UID: 1, Body: "user"})
		assert.Equal(t, 1, r.Reached)
		assert.Equal(t, ErrDisconnected.Error(), r.Sentinel)
		onA.hears(t, "before", "plain", "user")
		assert.Equal(t, ErrDisconnected.Error(), a.do(order{Do: "publish", Topic: "kept", Body: "x"}).Sentinel)
		assert.Equal(t, ErrDisconnected.Error(), a.do(order{Do: "all", Body: "all"}).Sentinel)
		assert.Equal(t, ErrDisconnected.Error(), a.do(order{Do: "presence", Topic: "kept"}).Sentinel)
		assert.NotEmpty(t, a.do(order{Do: "since", Topic: "kept"}).Err)
	})
	arrival := guestOf(t, b, 9)

	start(t, roleBroker, broker)
	t.Run("interest and presence are right again", func(t *testing.T) {
		eventually(t, "the user who came meanwhile is reached", func() bool { return a.do(order{Do: "user", UID: 9, Body: "hello"}).Reached == 1 })
		eventually(t, "the subscribers are known", func() bool {
			r := nodes[2].do(order{Do: "presence", Topic: "kept"})
			return r.Err == "" && len(r.Members) == 2
		})
		arrival.has(t, "hello")
	})
	t.Run("history goes on where it was", func(t *testing.T) {
		eventually(t, "it is there", func() bool { return a.do(order{Do: "publish", Topic: "kept", Body: "after"}).Err == "" })
		onB.has(t, "after")
		_, missed := onB.missed()
		assert.False(t, missed)
		onB.sequence(t)
		r := b.since(t, "kept", first.Seq)
		assert.True(t, r.Complete)
		assert.NotEmpty(t, r.Messages)
	})
}

func port(t testing.TB) (port int) {
	_, err := fmt.Sscanf(freeAddress(t), "127.0.0.1:%d", &port)
	require.NoError(t, err)
	return port
}

func TestPartition(t *testing.T) {
	cluster := startLinked(t, 3, Options{History: kept})
	storing(t, cluster.nodes...)
	a, b, apart := cluster.node(0), cluster.node(1), cluster.node(2)
	onA, onApart := guestOf(t, a, 1, apart), guestOf(t, apart, 3, a)
	for _, g := range []*guest{onA, onApart} {
		g.subscribe(t, "kept")
		g.subscribe(t, "plain")
	}
	attended(t, "kept", 2, cluster.nodes...)
	a.stores(t, "kept", "before")
	onApart.has(t, "before")

	cluster.isolate(2, true)
	t.Run("each side goes on for its own", func(t *testing.T) {
		b.stores(t, "kept", "meanwhile")
		onA.has(t, "meanwhile")
		eventually(t, "the user on the other side is gone", func() bool {
			r := a.do(order{Do: "online", UID: 3})
			return r.Err == "" && !r.Online
		})
		eventually(t, "presence is that of this side", func() bool {
			r := a.do(order{Do: "presence", Topic: "kept"})
			return r.Err == "" && len(r.Members) == 1
		})
		assert.Empty(t, apart.do(order{Do: "publish", Topic: "plain", Body: "apart"}).Err)
		onApart.has(t, "apart")
		assert.Equal(t, ErrHistoryUnavailable.Error(), apart.do(order{Do: "publish", Topic: "kept", Body: "nobody"}).Sentinel)
	})
	cluster.isolate(2, false)
	t.Run("presence is right again, and what was missed can be had", func(t *testing.T) {
		eventually(t, "the user is reached", func() bool { return a.do(order{Do: "user", UID: 3, Body: "again"}).Reached == 1 })
		eventually(t, "presence is that of both sides", func() bool {
			r := b.do(order{Do: "presence", Topic: "kept"})
			return r.Err == "" && len(r.Members) == 2
		})
		eventually(t, "messages come", func() bool {
			b.do(order{Do: "publish", Topic: "kept", Body: "after"})
			return slices.Contains(onApart.bodies(), "after")
		})
		_, last := onApart.sequence(t)
		require.NotZero(t, last)
		after, missed := onApart.missed()
		if !missed { // the network kept it, and it came late
			assert.Contains(t, onApart.bodies(), "meanwhile")
			return
		}
		r := apart.since(t, "kept", after)
		assert.True(t, r.Complete)
		assert.Equal(t, broadcast("meanwhile"), r.Messages[0].Packet)
	})
}

func TestSlowNode(t *testing.T) {
	nodes := startNodes(t, 2, Options{})
	a, slow := nodes[0], nodes[1]
	onA, onSlow := guestOf(t, a, 1, slow), guestOf(t, slow, 2, a)
	slow.pause(t)
	r := a.do(order{Do: "user", UID: 2, Body: "late"})
	assert.True(t, r.Sentinel == ErrPartial.Error() || r.Err == "" && r.Reached == 0, "it did not answer, or is taken for gone: %+v", r)
	assert.Equal(t, 1, a.do(order{Do: "user", UID: 1, Body: "local"}).Reached)
	onA.hears(t, "local")
	slow.resume(t)
	eventually(t, "it is there again", func() bool { return a.do(order{Do: "user", UID: 2, Body: "again"}).Reached == 1 })
	onSlow.has(t, "again")
}

// TestOverrun shows what happens if messages come faster than a node handles them.
func TestOverrun(t *testing.T) {
	sites := gather(t, 2, Options{})
	from, to := sites[0], sites[1]
	g := visit(t, to, 2)
	settle(t, sites)
	release := hold(t, from, to)
	for range incomingSize + 10 {
		require.NoError(t, from.SendAll(within(t), broadcast("all")))
	}
	eventually(t, "it is noticed", func() bool { return to.overruns.Load() > 0 })
	release()
	eventually(t, "it goes on", func() bool {
		reached, err := from.SendUser(within(t), 2, broadcast("user"))
		return err == nil && reached == 1
	})
	eventually(t, "its user gets messages", func() bool { return g.lastBody() == "user" })
	assert.NotZero(t, to.Stats().Overruns)
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", dir).Run(); err != nil {
		t.Skip("a small file system cannot be mounted: ", err)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	s := join(t, Options{History: History{Messages: 1_000_000, Bytes: 1 << 30, Dir: dir, Topics: []string{"kept"}}})
	awaitHistory(t, s)
	g := visit(t, s, 1)
	g.subscribe(t, "plain")
	var err error
	packet := broadcast(string(make([]byte, 100_000)))
	for range 1000 {
		if _, err = s.Publish(within(t), "kept", packet); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, ErrHistoryUnavailable)
	_, err = s.Publish(within(t), "plain", broadcast("plain"))
	require.NoError(t, err)
	g.hears(t, "plain")
}
