//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// userAuth takes the user id from the query of the request.
func userAuth(req *websocket.Handshake) (context.Context, error) {
	uid, err := strconv.ParseUint(req.URL.RawQuery, 10, 64)
	if err != nil {
		return nil, nil
	}
	return context.WithValue(context.Background(), websocket.CtxKeyUID, uid), nil
}

// as connects as a user. It may be called from any goroutine.
func as(s *peer.Server, uid uint64) (*peer.Conn, error) {
	c, err := s.Open()
	if err != nil {
		return nil, err
	}
	answer := make([]byte, len(peer.Accepted))
	_, err = c.Write([]byte(strings.Replace(peer.Request, "GET /", fmt.Sprintf("GET /?%d", uid), 1)))
	if err == nil {
		_, err = c.Reader.Read(answer[:1]) // the answer has come
	}
	if err == nil {
		_, err = c.Reader.Discard(len(peer.Accepted) - 1)
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
			opts := &websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) {
				return context.WithValue(context.Background(), websocket.CtxKeyUID, tc.value), nil
			}}
			added := peer.Added(opts)
			s := peer.Start(t, opts)
			s.Connect(t)
			conn := peer.Get(t, added)
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
			require.Equal(t, tc.value, ctx.Value(websocket.CtxKeyUID))
		})
	}
}

func TestClientsManyConnections(t *testing.T) {
	opts := &websocket.ServerOptions{HandleAuth: userAuth, HandleText: peer.Echo}
	added, removed := peer.Added(opts), peer.Removed(opts)
	s := peer.Start(t, opts)
	const users, each = 5, 4
	peers := make(map[int]*peer.Conn)
	for uid := uint64(1); uid <= users; uid++ {
		for range each {
			c, err := as(s, uid)
			require.NoError(t, err)
			t.Cleanup(func() { c.Close() })
			peers[peer.Get(t, added)] = c
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
		sent, failed := s.Clients.SendUser(2, websocket.NewFrameText(false, []byte("for 2")))
		require.Equal(t, each, sent)
		require.Nil(t, failed)
		of := s.Clients.Conns(2)
		for conn, c := range peers {
			if slices.Contains(of, conn) {
				c.ExpectText("for 2")
			}
			c.Text("probe")
			c.ExpectText("probe")
		}
		sent, failed = s.Clients.SendUser(99, []byte("x"))
		require.Zero(t, sent)
		require.Nil(t, failed)
		sent, _ = s.Clients.SendUser(0, []byte("x"))
		require.Zero(t, sent)
	})
	t.Run("SendAll reaches everyone", func(t *testing.T) {
		sent, failed := s.Clients.SendAll(websocket.NewFrameText(false, []byte("for all")))
		require.Equal(t, users*each, sent)
		require.Nil(t, failed)
		for _, c := range peers {
			c.ExpectText("for all")
		}
	})
	t.Run("connections go one by one, from the front, the middle and the end of a user's list", func(t *testing.T) {
		of := s.Clients.Conns(3)
		for i, at := range []int{1, 0, 1, 0} {
			peers[of[at]].Close()
			require.Equal(t, of[at], peer.Get(t, removed))
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
		other := peer.Start(t, nil)
		_, ok := other.Clients.Context(s.Clients.All()[0])
		require.False(t, ok, "of another server")
	})
}

func TestClientsSendAllBesideSlowPeer(t *testing.T) {
	opts := &websocket.ServerOptions{HandleText: peer.Echo, SendQueueSize: 32 << 10}
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	s.Connect(t)
	slow := peer.Get(t, added)
	packet := websocket.NewFrameText(false, peer.Pattern(8<<10, 0))
	peer.Fill(t, slow, packet)
	const others = 6
	peers := make([]*peer.Conn, others)
	for i := range peers {
		peers[i] = s.Connect(t)
		peer.Get(t, added)
	}
	for range 20 {
		sent, failed := s.Clients.SendAll(packet)
		require.Equal(t, others, sent)
		require.Len(t, failed, 1)
		require.ErrorIs(t, failed[slow], websocket.ErrSendQueueFull)
		for _, c := range peers {
			c.ExpectText(string(peer.Pattern(8<<10, 0)))
		}
	}
}

func TestClientsChurn(t *testing.T) {
	opts := &websocket.ServerOptions{HandleAuth: userAuth, HandleText: peer.Echo}
	added, removed := peer.Added(opts), peer.Removed(opts)
	s := peer.Start(t, opts)
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
				websocket.ID(conn)
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
	peer.All(t, peers, func(i int) error {
		for n := range each {
			uid := uint64(i+n) % 4
			c, err := as(s, uid)
			if err != nil {
				return err
			}
			switch n % 3 {
			case 0:
				c.Reset()
				continue
			case 1:
				c.Write(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
			default:
				for _, conn := range s.Clients.Conns(uid) {
					s.ClientRemove(conn) // perhaps of another peer
				}
				c.Write(websocket.NewFrameText(true, []byte("too late")))
			}
			c.Close()
		}
		return nil
	})
	close(quit)
	peer.Done(t, watched)
	require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 0 }))
	s.StopAndWait(t)
	require.Equal(t, len(added), len(removed), "one Remove for each Add")
	require.NotEmpty(t, added)
	require.Zero(t, s.Clients.Users())
	require.Empty(t, s.Clients.All())
}
