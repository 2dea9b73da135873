package cluster

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

func TestJoin(t *testing.T) {
	tests := []struct {
		name string
		opts Options
		want error
	}{
		{"a listener for everyone needs a secret", Options{Listen: "0.0.0.0:0"}, ErrNoSecret},
		{"a listener on all interfaces needs a secret", Options{Listen: ":0"}, ErrNoSecret},
		{"a listener by a name needs a secret", Options{Listen: "example.com:0"}, ErrNoSecret},
		{"a listener on IPv6 needs a secret", Options{Listen: "[::]:0"}, ErrNoSecret},
		{"a name may not be too long", Options{Name: strings.Repeat("n", 65)}, ErrOptions},
		{"a node's name may not be too long", Options{Node: strings.Repeat("n", 65)}, ErrOptions},
		{"peers need a listener", Options{Peers: []string{"127.0.0.1:1"}}, ErrOptions},
		{"peers have ports", Options{Listen: "127.0.0.1:0", Peers: []string{"127.0.0.1"}}, ErrOptions},
		{"an external broker has its own peers", Options{URL: "nats://127.0.0.1:1", Listen: "127.0.0.1:0"}, ErrOptions},
		{"a listener has a port", Options{Listen: "127.0.0.1"}, ErrOptions},
		{"a history has no negative limit", Options{History: History{Messages: -1}}, ErrOptions},
		{"a history has an odd number of replicas", Options{History: History{Messages: 1, Replicas: 2}}, ErrOptions},
		{"a history is not shorter than NATS measures", Options{History: History{Messages: 1, Age: 1}}, ErrOptions},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Join(within(t), newServer(), test.opts)
			require.ErrorIs(t, err, test.want)
			assert.True(t, strings.HasPrefix(err.Error(), "websocket: cluster: "), err)
		})
	}
	t.Run("a listener with a secret may be open", func(t *testing.T) {
		s := join(t, Options{Listen: "0.0.0.0:0", Secret: "secret"})
		assert.NotContains(t, s.Name(), "0.0.0.0")
	})
	t.Run("a context that has ended joins nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := Join(ctx, newServer(), Options{})
		assert.ErrorIs(t, err, context.Canceled)
	})
	t.Run("an external broker that cannot be reached does not keep a node from joining", func(t *testing.T) {
		s := join(t, Options{URL: "nats://127.0.0.1:1"})
		g := visit(t, s, 7)
		reached, err := s.SendUser(within(t), 7, broadcast("local"))
		assert.ErrorIs(t, err, ErrDisconnected)
		assert.Equal(t, 1, reached)
		g.hears(t, "local")
	})
}

func TestAlone(t *testing.T) {
	s := join(t, Options{})
	one, two := visit(t, s, 1), visit(t, s, 2)
	one.subscribe(t, "topic")

	reached, err := s.SendUser(within(t), 1, broadcast("user"))
	require.NoError(t, err)
	assert.Equal(t, 1, reached)
	require.NoError(t, s.SendAll(within(t), broadcast("all")))
	seq, err := s.Publish(within(t), "topic", broadcast("topic"))
	require.NoError(t, err)
	assert.Zero(t, seq)
	one.hears(t, "user", "all", "topic")
	two.hears(t, "all")

	members, err := s.Presence(within(t), "topic")
	require.NoError(t, err)
	assert.Equal(t, []Member{{1, 1, s.Name()}}, members)
	online, err := s.Online(within(t), 2)
	require.NoError(t, err)
	assert.True(t, online)
	online, err = s.Online(within(t), 3)
	require.NoError(t, err)
	assert.False(t, online)
	assert.Zero(t, s.Stats().Received, "nothing came from the broker")

	_, _, err = s.Since(within(t), "topic", 0, 0)
	assert.ErrorIs(t, err, ErrNoHistory)
	_, err = s.Publish(within(t), "", nil)
	assert.ErrorIs(t, err, websocket.ErrTopicName)
	_, err = s.Publish(within(t), strings.Repeat("x", 256), nil)
	assert.ErrorIs(t, err, websocket.ErrTopicName)
}

func TestThree(t *testing.T) {
	sites := gather(t, 3, Options{})
	a, b, c := sites[0], sites[1], sites[2]
	onA, onB, onB2, onC := visit(t, a, 1), visit(t, b, 2), visit(t, b, 2), visit(t, c, 2)
	onA.subscribe(t, "topic")
	onC.subscribe(t, "topic")
	settle(t, sites)

	t.Run("a user is reached on every node", func(t *testing.T) {
		for _, from := range sites {
			reached, err := from.SendUser(within(t), 2, broadcast("user from "+from.Name()))
			require.NoError(t, err)
			assert.Equal(t, 3, reached, from.Name())
		}
		want := []string{"user from " + a.Name(), "user from " + b.Name(), "user from " + c.Name()}
		for _, g := range []*guest{onB, onB2, onC} {
			g.hears(t, want...)
		}
	})
	t.Run("a user who is nowhere is reached by nobody", func(t *testing.T) {
		reached, err := a.SendUser(within(t), 99, broadcast("nobody"))
		require.NoError(t, err)
		assert.Zero(t, reached)
	})
	t.Run("all are reached once", func(t *testing.T) {
		before := onA.count()
		require.NoError(t, b.SendAll(within(t), broadcast("all")))
		for _, g := range []*guest{onA, onB, onC} {
			eventually(t, "it comes", func() bool { return g.lastBody() == "all" })
		}
		assert.Equal(t, before+1, onA.count())
	})
	t.Run("a topic reaches its subscribers alone", func(t *testing.T) {
		before := onB.count()
		_, err := b.Publish(within(t), "topic", broadcast("topic"))
		require.NoError(t, err)
		for _, g := range []*guest{onA, onC} {
			eventually(t, "it comes", func() bool { return g.lastBody() == "topic" })
		}
		assert.Equal(t, before, onB.count())
	})
	t.Run("presence is that of all nodes", func(t *testing.T) {
		for _, from := range sites {
			members, err := from.Presence(within(t), "topic")
			require.NoError(t, err)
			assert.Equal(t, []Member{{1, 1, a.Name()}, {2, 1, c.Name()}}, members)
		}
	})
	t.Run("a user is online from everywhere", func(t *testing.T) {
		for _, from := range sites {
			online, err := from.Online(within(t), 1)
			require.NoError(t, err)
			assert.True(t, online)
		}
	})
	t.Run("a subscriber that leaves is missed", func(t *testing.T) {
		onC.unsubscribe(t, "topic")
		onA.unsubscribe(t, "topic")
		eventually(t, "nobody is interested", func() bool { return b.broker.account.Interest(b.subjects.topic("topic")) == 0 })
		sent := b.Stats().Sent
		_, err := b.Publish(within(t), "topic", broadcast("nobody"))
		require.NoError(t, err)
		assert.Equal(t, sent, b.Stats().Sent, "nobody is interested")
		members, err := b.Presence(within(t), "topic")
		require.NoError(t, err)
		assert.Empty(t, members)
	})
	t.Run("one connection is closed by its id", func(t *testing.T) {
		id := websocket.ID(c.srv.Clients.Conns(2)[0])
		require.NoError(t, a.CloseConn(within(t), c.Name(), id, 4001, "bye"))
		onC.ends(t)
		var closed *websocket.CloseError
		require.ErrorAs(t, onC.Err(), &closed)
		assert.EqualValues(t, 4001, closed.Code)
		assert.Equal(t, "bye", closed.Reason)
		assert.ErrorIs(t, a.CloseConn(within(t), c.Name(), id, 4001, "bye"), websocket.ErrConnClosed)
		assert.ErrorIs(t, a.CloseConn(within(t), "nowhere", id, 4001, "bye"), ErrNoNode)
		assert.Error(t, a.CloseConn(within(t), c.Name(), id, 1005, ""))
	})
	t.Run("a user is kicked everywhere", func(t *testing.T) {
		again := visit(t, c, 2)
		settle(t, sites)
		closed, err := a.Kick(within(t), 2, 4002, "out")
		require.NoError(t, err)
		assert.Equal(t, 3, closed)
		for _, g := range []*guest{onB, onB2, again} {
			g.ends(t)
			var cause *websocket.CloseError
			require.ErrorAs(t, g.Err(), &cause)
			assert.EqualValues(t, 4002, cause.Code)
		}
		_, err = a.Kick(within(t), 2, 1006, "")
		assert.Error(t, err)
		_, err = a.Kick(within(t), 2, 4000, "\xFF")
		assert.Error(t, err)
	})
	t.Run("a node that is late is waited for, though another one has answered and has the user no longer", func(t *testing.T) {
		late, early := visit(t, b, 3), visit(t, c, 3)
		settle(t, sites)
		release := hold(t, a, b)
		sent := a.Stats().Sent
		closed := make(chan int, 1)
		go func() {
			count, err := a.Kick(within(t), 3, 4002, "out")
			assert.NoError(t, err)
			closed <- count
		}()
		early.ends(t)
		eventually(t, "the nodes are asked whether they are past it", func() bool { return a.Stats().Sent == sent+2 || len(closed) > 0 })
		release()
		assert.Equal(t, 2, <-closed)
		late.ends(t)
	})
	t.Run("a user that goes while it is asked for is not waited for", func(t *testing.T) {
		stays, goes := visit(t, b, 4), visit(t, c, 4)
		settle(t, sites)
		require.NoError(t, c.interest.user(4).Unsubscribe()) // it does not get the question, and others do not know yet
		reached, err := a.SendUser(within(t), 4, broadcast("to one"))
		require.NoError(t, err)
		assert.Equal(t, 1, reached)
		stays.hears(t, "to one")
		assert.Zero(t, goes.count())
		for _, g := range []*guest{stays, goes} {
			g.Close()
		}
	})
	t.Run("only the newest connections of a user are kept", func(t *testing.T) {
		var all []*guest
		for i := range 4 {
			all = append(all, visit(t, sites[i%3], 5))
			settle(t, sites)
			devices := sites[i%3].localDevices(5)
			newest := slices.MinFunc(devices, func(a, b device) int { return cmp.Compare(a.age, b.age) })
			eventually(t, "it is older than an answer takes", func() bool {
				age := time.Duration(0)
				for _, d := range sites[i%3].localDevices(5) {
					if d.id == newest.id {
						age = d.age
					}
				}
				return age > 500*time.Millisecond
			})
		}
		closed, err := b.KeepNewest(within(t), 5, 2)
		require.NoError(t, err)
		assert.Equal(t, 2, closed)
		all[0].ends(t)
		all[1].ends(t)
		closed, err = c.KeepNewest(within(t), 5, 2)
		require.NoError(t, err)
		assert.Zero(t, closed)
		for _, g := range all[2:] {
			assert.NoError(t, g.SendPing(nil))
		}
	})
	t.Run("what fits is sent", func(t *testing.T) {
		got := onA.count()
		require.NoError(t, b.SendAll(within(t), websocket.NewFrameText(false, []byte(`{"body":"`+strings.Repeat("x", b.srv.Options.MaxMessageSize-11)+`"}`))))
		eventually(t, "it comes", func() bool { return onA.count() > got })
	})
	t.Run("what is too large is delivered here and sent to nobody", func(t *testing.T) {
		large := websocket.NewFrameBin(false, make([]byte, a.conn.MaxPayload()))
		assert.ErrorIs(t, a.SendAll(within(t), large), ErrTooLarge)
	})
	t.Run("interest ends with the users", func(t *testing.T) {
		onA.Close()
		for _, s := range sites {
			for _, conn := range s.srv.Clients.All() {
				s.srv.ClientRemove(conn)
			}
		}
		settle(t, sites)
		for _, s := range sites {
			stats := s.Stats()
			assert.Zero(t, stats.Users)
			assert.Zero(t, stats.Topics)
			for uid := range uint64(10) {
				eventually(t, "the brokers have forgotten the user", func() bool { return s.broker.account.Interest(s.subjects.user(uid)) == 0 })
			}
		}
	})
}

// settle waits until the nodes' interest is that of their servers, and every broker knows all of it. (An external one knows of interest
// before its node does.)
func settle(t testing.TB, sites []*site) {
	t.Helper()
	counts := make(map[string]int) // of the nodes that are interested, by subject
	for _, s := range sites {
		eventually(t, "interest is what is there", s.isSettled)
		for _, subject := range s.interests() {
			counts[subject]++
		}
	}
	for _, s := range sites {
		for subject, count := range counts {
			eventually(t, "the broker knows of "+subject, func() bool { return s.broker == nil || s.broker.account.Interest(subject) == count })
		}
	}
}

// isSettled reports whether a node's interest is that of its server.
func (s *site) isSettled() bool {
	s.interest.mu.RLock()
	defer s.interest.mu.RUnlock()
	for uid := range s.interest.users {
		if len(s.srv.Clients.Conns(uid)) == 0 {
			return false
		}
	}
	for name := range s.interest.topics {
		if len(s.srv.Clients.Subscribers(name)) == 0 {
			return false
		}
	}
	return len(s.interest.users) == s.srv.Clients.Users() && len(s.interest.topics) == s.srv.Clients.Topics()
}

// interests returns the subjects of a node's interest.
func (s *site) interests() (subjects []string) {
	s.interest.mu.RLock()
	defer s.interest.mu.RUnlock()
	for uid := range s.interest.users {
		subjects = append(subjects, s.subjects.user(uid))
	}
	for name := range s.interest.topics {
		subjects = append(subjects, s.subjects.topic(name))
	}
	return subjects
}

// hold keeps a node from handling what others send, until it is released.
func hold(t *testing.T, from, node *site) (release func()) {
	held := &nats.Msg{Subject: from.subjects.topic("held by " + node.Name()), Header: nats.Header{"Nats-Sequence": {"1"}}, Data: carry(nil)}
	sub, err := node.conn.ChanSubscribe(held.Subject, node.incoming)
	require.NoError(t, err)
	require.NoError(t, node.conn.Flush())
	eventually(t, "the other one knows", func() bool { return from.broker.account.Interest(held.Subject) == 1 })
	node.interest.mu.Lock() // which the message waits for, and so all behind it
	require.NoError(t, from.conn.PublishMsg(held))
	return func() {
		node.interest.mu.Unlock()
		require.NoError(t, sub.Unsubscribe())
	}
}

func TestClose(t *testing.T) {
	sites := gather(t, 2, Options{})
	a, b := sites[0], sites[1]
	visit(t, b, 2)
	settle(t, sites)
	require.NoError(t, b.Node.Close(within(t)))
	require.NoError(t, b.Node.Close(within(t)))
	_, err := b.SendUser(within(t), 2, nil)
	assert.ErrorIs(t, err, ErrClosed)
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, b.SendAll(within(t), nil), ErrClosed)
	_, err = b.Publish(within(t), "t", nil)
	assert.ErrorIs(t, err, ErrClosed)
	_, err = b.Online(within(t), 2)
	assert.ErrorIs(t, err, ErrClosed)
	_, err = b.Presence(within(t), "t")
	assert.ErrorIs(t, err, ErrClosed)
	_, err = b.Kick(within(t), 2, 0, "")
	assert.ErrorIs(t, err, ErrClosed)
	_, _, err = b.Since(within(t), "t", 0, 0)
	assert.ErrorIs(t, err, ErrClosed)
	assert.Len(t, b.srv.Clients.Conns(2), 1, "the server's connections stay")
	eventually(t, "the others know", func() bool { return len(a.Stats().Nodes) == 0 })
	eventually(t, "its users are gone for the others", func() bool {
		online, err := a.Online(within(t), 2)
		return err == nil && !online
	})
	again, err := Join(within(t), b.srv, Options{})
	require.NoError(t, err, "a server may join again")
	eventually(t, "its interest is there again", func() bool { return again.Stats().Users == 1 })
	require.NoError(t, again.Close(within(t)))
}

func TestSecret(t *testing.T) {
	a := join(t, Options{Listen: "127.0.0.1:0", Secret: "one"})
	join(t, Options{Listen: "127.0.0.1:0", Secret: "another", Peers: []string{a.Addr()}})
	join(t, Options{Listen: "127.0.0.1:0", Peers: []string{a.Addr()}})
	join(t, Options{Listen: "127.0.0.1:0", Name: "other", Secret: "one", Peers: []string{a.Addr()}})
	friend := join(t, Options{Listen: "127.0.0.1:0", Secret: "one", Peers: []string{a.Addr()}})
	together(t, a, friend)
	assert.Equal(t, []string{friend.Name()}, a.Stats().Nodes)
	assert.Equal(t, 1, a.nodes())
}

func TestClusters(t *testing.T) {
	names := []string{"a", "a.b", "a b", "*", ">", "ä", "", "\x00", "=", "a=2Eb"}
	for i, name := range names {
		for _, other := range names[:i] {
			assert.NotEqual(t, subjectsOf(name), subjectsOf(other))
		}
		t.Run(fmt.Sprintf("%q is a name", name), func(t *testing.T) {
			sites := gather(t, 2, Options{Name: name})
			g := visit(t, sites[1], 1)
			for _, topic := range names {
				if topic != "" {
					g.subscribe(t, topic)
				}
			}
			settle(t, sites)
			var want []string
			for _, topic := range names {
				if topic == "" {
					continue
				}
				_, err := sites[0].Publish(within(t), topic, broadcast(topic))
				require.NoError(t, err)
				want = append(want, topic)
			}
			g.hears(t, want...)
		})
	}
}

func TestPartial(t *testing.T) {
	sites := gather(t, 2, Options{})
	g := visit(t, sites[1], 2)
	g.subscribe(t, "topic")
	settle(t, sites)
	defer hold(t, sites[0], sites[1])()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := sites[0].Presence(ctx, "topic")
	require.ErrorIs(t, err, ErrPartial)
	assert.ErrorIs(t, err, context.Canceled)
}
