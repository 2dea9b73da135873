//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package websocket

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rawUserAuth takes the user id from the query of the request.
func rawUserAuth(req *Handshake) (context.Context, error) {
	uid, err := strconv.ParseUint(req.URL.RawQuery, 10, 64)
	if err != nil {
		return nil, nil
	}
	return context.WithValue(context.Background(), CtxKeyUID, uid), nil
}

// rawAs connects as a user. It may be called from any goroutine.
func (s *rawServer) rawAs(uid uint64) (*rawConn, error) {
	c, err := s.rawOpen()
	if err != nil {
		return nil, err
	}
	answer := make([]byte, len(rawAccepted))
	_, err = c.Write([]byte(strings.Replace(rawRequest, "GET /", fmt.Sprintf("GET /?%d", uid), 1)))
	if err == nil {
		_, err = c.r.Read(answer[:1]) // the answer has come
	}
	if err == nil {
		_, err = c.r.Discard(len(rawAccepted) - 1)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func TestClientsOfUsers(t *testing.T) {
	type number int16
	type text string
	for name, tc := range map[string]struct {
		value any
		uid   uint64
	}{
		"uint64":                          {uint64(1 << 63), 1 << 63},
		"uint":                            {uint(7), 7},
		"uint8":                           {uint8(255), 255},
		"int":                             {7, 7},
		"int64":                           {int64(1<<63 - 1), 1<<63 - 1},
		"int32":                           {int32(3), 3},
		"a named integer type":            {number(12), 12},
		"zero, which is no user":          {uint64(0), 0},
		"zero as an int, which is none":   {0, 0},
		"a negative one, which is none":   {-5, 0},
		"a string, which is no user":      {"7", 0},
		"a named string, which is none":   {text("7"), 0},
		"nil, which is no user":           {nil, 0},
		"a float, which is no user":       {7.0, 0},
		"a nil pointer, which is no user": {(*int)(nil), 0},
	} {
		t.Run("the user id may be "+name, func(t *testing.T) {
			opts := &ServerOptions{HandleAuth: func(*Handshake) (context.Context, error) {
				return context.WithValue(context.Background(), CtxKeyUID, tc.value), nil
			}}
			added := rawAdded(opts)
			s := startServer(t, opts)
			s.connect(t)
			conn := rawGet(t, added)
			require.Equal(t, []int{conn}, s.Clients.All())
			require.Equal(t, 1, s.Clients.Len())
			require.Empty(t, s.Clients.Conns(0))
			if tc.uid == 0 {
				require.Zero(t, s.Clients.Users())
				return
			}
			require.Equal(t, 1, s.Clients.Users())
			require.Equal(t, []int{conn}, s.Clients.Conns(tc.uid))
			require.Empty(t, s.Clients.Conns(tc.uid+1))
			ctx, ok := s.Clients.Context(conn)
			require.True(t, ok)
			require.Equal(t, tc.value, ctx.Value(CtxKeyUID))
		})
	}
}

func TestClientsManyConnections(t *testing.T) {
	opts := &ServerOptions{HandleAuth: rawUserAuth, HandleText: rawEcho}
	added, removed := rawAdded(opts), rawRemoved(opts)
	s := startServer(t, opts)
	const users, each = 5, 4
	peers := make(map[int]*rawConn)
	for uid := uint64(1); uid <= users; uid++ {
		for range each {
			c, err := s.rawAs(uid)
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
			peers[rawGet(t, added)] = c
		}
	}
	t.Run("All and Conns return copies", func(t *testing.T) {
		all := s.Clients.All()
		require.Len(t, all, users*each)
		clear(all)
		require.NotContains(t, s.Clients.All(), 0)
		of := s.Clients.Conns(1)
		require.Len(t, of, each)
		clear(of)
		require.NotContains(t, s.Clients.Conns(1), 0)
		require.Equal(t, users, s.Clients.Users())
		require.Equal(t, users*each, s.Clients.Len())
	})
	t.Run("SendUser reaches the connections of a user and no other", func(t *testing.T) {
		sent, failed := s.Clients.SendUser(2, NewFrameText(false, []byte("for 2")))
		require.Equal(t, each, sent)
		require.Nil(t, failed)
		of := s.Clients.Conns(2)
		for conn, c := range peers {
			if slices.Contains(of, conn) {
				c.expectText("for 2")
			}
			c.text("probe")
			c.expectText("probe")
		}
		sent, failed = s.Clients.SendUser(99, []byte("x"))
		require.Zero(t, sent)
		require.Nil(t, failed)
		sent, _ = s.Clients.SendUser(0, []byte("x"))
		require.Zero(t, sent)
	})
	t.Run("SendAll reaches everyone", func(t *testing.T) {
		sent, failed := s.Clients.SendAll(NewFrameText(false, []byte("for all")))
		require.Equal(t, users*each, sent)
		require.Nil(t, failed)
		for _, c := range peers {
			c.expectText("for all")
		}
	})
	t.Run("connections go one by one, from the front, the middle and the end of a user's list", func(t *testing.T) {
		of := s.Clients.Conns(3)
		for i, at := range []int{1, 0, 1, 0} {
			peers[of[at]].Close()
			require.Equal(t, of[at], rawGet(t, removed))
			of = slices.Delete(of, at, at+1)
			require.ElementsMatch(t, of, s.Clients.Conns(3))
			require.Equal(t, users*each-i-1, s.Clients.Len())
		}
		require.Equal(t, users-1, s.Clients.Users())
		require.Empty(t, s.Clients.Conns(3))
	})
	t.Run("an unknown connection has no context", func(t *testing.T) {
		for _, conn := range []int{-1, 0, 1, 1 << 20, math.MaxInt} {
			ctx, ok := s.Clients.Context(conn)
			require.False(t, ok)
			require.Nil(t, ctx)
		}
		other := startServer(t, nil)
		_, ok := other.Clients.Context(s.Clients.All()[0])
		require.False(t, ok, "of another server")
	})
}

func TestClientsSendAllBesideSlowPeer(t *testing.T) {
	opts := &ServerOptions{HandleText: rawEcho, SendQueueSize: 32 << 10}
	added := rawAdded(opts)
	s := startServer(t, opts)
	s.connect(t)
	slow := rawGet(t, added)
	packet := NewFrameText(false, rawPattern(8<<10, 0))
	rawFill(t, slow, packet)
	const others = 6
	peers := make([]*rawConn, others)
	for i := range peers {
		peers[i] = s.connect(t)
		rawGet(t, added)
	}
	for range 20 {
		sent, failed := s.Clients.SendAll(packet)
		require.Equal(t, others, sent)
		require.Len(t, failed, 1)
		require.ErrorIs(t, failed[slow], ErrSendQueueFull)
		for _, c := range peers {
			c.expectText(string(rawPattern(8<<10, 0)))
		}
	}
}

func TestClientsChurn(t *testing.T) {
	opts := &ServerOptions{HandleAuth: rawUserAuth, HandleText: rawEcho}
	added, removed := rawAdded(opts), rawRemoved(opts)
	s := startServer(t, opts)
	quit, watched := make(chan struct{}), make(chan struct{})
	go func() { // reads all the while
		defer close(watched)
		for {
			select {
			case <-quit:
				return
			default:
			}
			for _, conn := range s.Clients.All() {
				s.Clients.Context(conn)
				ID(conn)
			}
			for uid := range uint64(4) {
				s.Clients.Conns(uid)
				s.Clients.SendUser(uid, []byte{0x8A, 0}) // a Pong
			}
			assert.GreaterOrEqual(t, s.Clients.Len(), 0)
			assert.LessOrEqual(t, s.Clients.Users(), 3)
			s.Clients.SendAll([]byte{0x8A, 0})
		}
	}()
	const peers, each = 8, 25
	rawAll(t, peers, func(i int) error {
		for n := range each {
			uid := uint64(i+n) % 4
			c, err := s.rawAs(uid)
			if err != nil {
				return err
			}
			switch n % 3 {
			case 0:
				c.reset()
				continue
			case 1:
				c.Write(NewFrameClose(true, StatusNormal, nil))
			default:
				for _, conn := range s.Clients.Conns(uid) {
					s.ClientRemove(conn) // perhaps of another peer
				}
				c.Write(NewFrameText(true, []byte("too late")))
			}
			c.Close()
		}
		return nil
	})
	close(quit)
	rawDone(t, watched)
	require.True(t, eventually(func() bool { return s.Clients.Len() == 0 }))
	s.stop(t)
	require.Equal(t, len(added), len(removed), "one Remove for each Add")
	require.NotEmpty(t, added)
	require.Zero(t, s.Clients.Users())
	require.Empty(t, s.Clients.All())
}

// clientsModel is a ClientManager in the plainest way.
type clientsModel map[*conn]bool

// requireSame compares a manager of connections without sockets with the model.
func (m clientsModel) requireSame(t *testing.T, cls *ClientManager, users uint64) {
	t.Helper()
	var all []int
	ofUser := make(map[uint64][]int)
	for c := range m {
		all = append(all, c.fd())
		if c.uid != 0 {
			ofUser[c.uid] = append(ofUser[c.uid], c.fd())
		}
	}
	require.ElementsMatch(t, all, cls.All())
	require.Equal(t, len(all), cls.Len())
	require.Equal(t, len(ofUser), cls.Users())
	for uid := range users + 1 {
		require.ElementsMatch(t, ofUser[uid], cls.Conns(uid))
	}
}

func TestClientManager(t *testing.T) {
	t.Run("what comes and goes in any order is there, once, and then not any more", func(t *testing.T) {
		for _, size := range []int{1, 2, 10, 3 * clientShards, 1000} {
			cls := newBenchClients(t, size)
			in := make(clientsModel)
			for i := range cls.conns {
				in[&cls.conns[i]] = true
			}
			in.requireSame(t, cls.ClientManager, cls.users)
			random := rand.New(rand.NewPCG(1, uint64(size)))
			for step := range 4 * size {
				c := &cls.conns[random.IntN(size)]
				if in[c] {
					cls.remove(c)
					delete(in, c)
				} else if step%2 == 0 {
					cls.add(c)
					in[c] = true
				} else {
					cls.remove(c) // that is not there
				}
				if step%(size/8+1) == 0 {
					in.requireSame(t, cls.ClientManager, cls.users)
				}
			}
			for i := range cls.conns {
				cls.remove(&cls.conns[i])
			}
			clientsModel{}.requireSame(t, cls.ClientManager, cls.users)
			require.Zero(t, cls.filled.Load())
		}
	})
	t.Run("those without a user are spread too, and found by All only", func(t *testing.T) {
		cls := newBenchClients(t, 0)
		for i := range cls.spare {
			cls.spare[i].uid = 0
			cls.add(&cls.spare[i])
		}
		require.Len(t, cls.All(), len(cls.spare))
		require.Zero(t, cls.Users())
		require.Empty(t, cls.Conns(0))
		for i := range cls.shards {
			require.Less(t, len(cls.shards[i].ids), len(cls.spare)/4)
		}
	})
	t.Run("users whose ids have a pattern are spread", func(t *testing.T) {
		for _, step := range []uint64{1, 2, 10, 64, 1000, 1 << 20, 1 << 32, 1<<32 + 1} {
			used := make(map[int]int)
			for i := range uint64(64 * clientShards) {
				used[shardIndex(i*step)]++
			}
			for index, users := range used {
				require.Less(t, users, 64*clientShards/4, "shard %d of multiples of %d", index, step)
			}
		}
	})
	t.Run("who is there all the time is in every list while others come and go", func(t *testing.T) {
		cls := newBenchClients(t, 200)
		defer benchBeside(cls.change)()
		for range 200 {
			all := cls.All()
			for i := range cls.conns {
				c := &cls.conns[i]
				require.Contains(t, cls.Conns(c.uid), c.fd())
			}
			require.GreaterOrEqual(t, len(all), len(cls.conns))
			slices.Sort(all)
			require.Equal(t, benchDescriptors, all[0])
			require.Equal(t, benchDescriptors+len(cls.conns)-1, all[len(cls.conns)-1])
			require.Equal(t, len(all), len(slices.Compact(all)), "none is there twice")
			require.EqualValues(t, cls.users, cls.Users())
		}
	})
	t.Run("sending to one that has gone meanwhile fails for it alone", func(t *testing.T) {
		cls := newBenchClients(t, 3)
		gone := &cls.conns[1]
		descriptors.set(gone.fd(), tombstone)
		sent, failed := cls.SendAll(nil)
		require.Equal(t, 2, sent)
		require.Equal(t, map[int]error{gone.fd(): ErrConnClosed}, failed)
		descriptors.set(gone.fd(), gone)
	})
}
