//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// news is a packet.
func news(text string) []byte { return websocket.NewFrameText(false, []byte(text)) }

func TestTopicNames(t *testing.T) {
	opts := new(websocket.ServerOptions)
	added := peer.Added(opts)
	s := peer.Start(t, opts)
	c := s.Connect(t)
	conn := peer.Get(t, added)
	for _, row := range []struct {
		what, name string
		ok         bool
	}{
		{"no byte", "", false},
		{"one byte", "a", true},
		{"a zero byte", "\x00", true},
		{"bytes that are no text", "\xff\xfe", true},
		{"what is special elsewhere", "a.*.> b/c", true},
		{"254 bytes", strings.Repeat("n", 254), true},
		{"255 bytes", strings.Repeat("n", 255), true},
		{"256 bytes", strings.Repeat("n", 256), false},
		{"a megabyte", strings.Repeat("n", 1<<20), false},
	} {
		t.Run("a name may be or may not be "+row.what, func(t *testing.T) {
			if !row.ok {
				require.ErrorIs(t, s.Clients.Subscribe(conn, row.name), websocket.ErrTopicName)
				require.ErrorIs(t, s.Clients.Unsubscribe(conn, row.name), websocket.ErrTopicName)
				require.ErrorIs(t, s.Clients.Subscribe(-1, row.name), websocket.ErrTopicName)
				require.Empty(t, s.Clients.Subscribers(row.name))
				sent, failed := s.Clients.Publish(row.name, news("nobody"))
				require.Zero(t, sent)
				require.Nil(t, failed)
				return
			}
			require.NoError(t, s.Clients.Subscribe(conn, row.name))
			require.Equal(t, []int{conn}, s.Clients.Subscribers(row.name))
			sent, failed := s.Clients.Publish(row.name, news(row.what))
			require.Equal(t, 1, sent)
			require.Nil(t, failed)
			c.ExpectText(row.what)
			require.NoError(t, s.Clients.Unsubscribe(conn, row.name))
			require.Empty(t, s.Clients.Subscribers(row.name))
		})
	}
	t.Run("names are the same if their bytes are", func(t *testing.T) {
		for _, name := range []string{"Room", "room", "room ", "r\u00f6om", "ro\u0308om"} {
			require.Empty(t, s.Clients.Subscribers(name))
			require.NoError(t, s.Clients.Subscribe(conn, name))
		}
		require.Equal(t, 5, s.Clients.Topics())
	})
}

func TestTopicsOfConnections(t *testing.T) {
	for _, row := range []struct{ option, most int }{{0, 128}, {-1, 128}, {1, 1}, {2, 2}, {300, 300}} {
		t.Run(fmt.Sprintf("with a MaxTopics of %d a connection has at most %d", row.option, row.most), func(t *testing.T) {
			opts := &websocket.ServerOptions{MaxTopics: row.option}
			added := peer.Added(opts)
			s := peer.Start(t, opts)
			s.Connect(t)
			first := peer.Get(t, added)
			s.Connect(t)
			second := peer.Get(t, added)
			for i := range row.most {
				require.NoError(t, s.Clients.Subscribe(first, fmt.Sprint(i)))
			}
			require.ErrorIs(t, s.Clients.Subscribe(first, "more"), websocket.ErrTooManyTopics)
			require.Empty(t, s.Clients.Subscribers("more"))
			require.Equal(t, row.most, s.Clients.Topics())
			require.NoError(t, s.Clients.Subscribe(first, "0"), "it has that one")
			require.NoError(t, s.Clients.Subscribe(second, "more"), "another one has room")
			require.ErrorIs(t, s.Clients.Subscribe(first, "more"), websocket.ErrTooManyTopics, "a topic that is there counts as well")
			require.NoError(t, s.Clients.Unsubscribe(first, "more"), "it has not got that one")
			require.NoError(t, s.Clients.Unsubscribe(first, "0"))
			require.NoError(t, s.Clients.Subscribe(first, "more"))
			require.ErrorIs(t, s.Clients.Subscribe(first, "0"), websocket.ErrTooManyTopics)
		})
	}
	t.Run("to subscribe twice is to subscribe once", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		c := s.Connect(t)
		conn := peer.Get(t, added)
		for range 3 {
			require.NoError(t, s.Clients.Subscribe(conn, "a"))
		}
		s.Clients.Publish("a", news("once"))
		s.Clients.SendAll(news("next"))
		c.ExpectText("once")
		c.ExpectText("next")
		require.NoError(t, s.Clients.Unsubscribe(conn, "a"))
		require.Zero(t, s.Clients.Topics())
	})
	t.Run("a number that is no connection of this server has none", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s, other := peer.Start(t, opts), websocket.NewServer(nil)
		s.Connect(t)
		for _, conn := range []int{-1, 0, 1 << 22, 1 << 30, peer.Get(t, added)} {
			require.ErrorIs(t, other.Clients.Subscribe(conn, "a"), websocket.ErrConnClosed)
			require.ErrorIs(t, other.Clients.Unsubscribe(conn, "a"), websocket.ErrConnClosed)
		}
		require.Zero(t, other.Clients.Topics())
	})
}

func TestPublish(t *testing.T) {
	t.Run("it reaches the subscribers, and nobody else", func(t *testing.T) {
		const conns = 12
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		peers, numbers := make([]*peer.Conn, conns), make([]int, conns)
		for i := range conns {
			peers[i] = s.Connect(t)
			numbers[i] = peer.Get(t, added)
		}
		var third []int
		for i := conns - 1; i >= 0; i-- {
			require.NoError(t, s.Clients.Subscribe(numbers[i], fmt.Sprint("of ", i%3)))
			if i%3 == 0 {
				third = append([]int{numbers[i]}, third...)
			}
		}
		require.Equal(t, third, s.Clients.Subscribers("of 0"), "in the order in which they were opened")
		for k := range 3 {
			sent, failed := s.Clients.Publish(fmt.Sprint("of ", k), news(fmt.Sprint("for ", k)))
			require.Equal(t, conns/3, sent)
			require.Nil(t, failed)
		}
		s.Clients.SendAll(news("end"))
		for i, c := range peers {
			c.ExpectText(fmt.Sprint("for ", i%3))
			c.ExpectText("end")
		}
	})
	t.Run("handlers subscribe and publish, HandleClientAdd the first of them", func(t *testing.T) {
		var s *peer.Server
		started := make(chan struct{})
		opts := &websocket.ServerOptions{
			HandleClientAdd: func(_ context.Context, conn int) {
				<-started
				assert.NoError(t, s.Clients.Subscribe(conn, "a"))
				s.Clients.Publish("a", news("welcome"))
			},
			HandleText: func(conn int, payload []byte) { s.Clients.Publish("a", news(string(payload))) },
		}
		s = peer.Start(t, opts)
		close(started)
		first := s.Connect(t)
		first.ExpectText("welcome")
		second := s.Connect(t)
		second.ExpectText("welcome")
		first.ExpectText("welcome")
		second.Text("hello")
		first.ExpectText("hello")
		second.ExpectText("hello")
	})
	t.Run("what fails is told as SendAll tells it, and the others get theirs", func(t *testing.T) {
		opts := &websocket.ServerOptions{SendQueueSize: 64 << 10}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		s.Connect(t)
		full := peer.Get(t, added)
		s.Connect(t)
		closed := peer.Get(t, added)
		good := s.Connect(t)
		conns := []int{full, closed, peer.Get(t, added)}
		for _, conn := range conns {
			require.NoError(t, s.Clients.Subscribe(conn, "a"))
		}
		peer.Fill(t, full, websocket.NewFrameBin(false, make([]byte, 16<<10)))
		require.NoError(t, websocket.Send(closed, websocket.NewFrameClose(false, websocket.StatusNormal, nil)))
		packet := news(strings.Repeat("x", 32<<10))
		sent, failed := s.Clients.Publish("a", packet)
		sentToAll, failedOfAll := s.Clients.SendAll(packet)
		require.Equal(t, 1, sent)
		require.Equal(t, sentToAll, sent)
		require.Equal(t, failedOfAll, failed)
		require.Len(t, failed, 2)
		require.ErrorIs(t, failed[full], websocket.ErrSendQueueFull)
		require.ErrorIs(t, failed[closed], websocket.ErrConnClosed)
		good.ExpectText(strings.Repeat("x", 32<<10))
		good.ExpectText(strings.Repeat("x", 32<<10))
	})
	t.Run("it compresses once, for those that want it", func(t *testing.T) {
		codec := &countingCodec{DeflateCodec: websocket.StandardDeflate()}
		opts := &websocket.ServerOptions{Compression: &websocket.Compression{Codec: codec}}
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		text := strings.Repeat("to all who listen ", 100)
		plain := s.Connect(t)
		require.NoError(t, s.Clients.Subscribe(peer.Get(t, added), "a"))
		var packed []*peer.Conn
		for range 5 {
			c := s.Dial(t)
			c.Send([]byte(strings.Replace(peer.Request, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1)))
			res, err := http.ReadResponse(c.Reader, nil)
			require.NoError(t, err)
			require.Contains(t, res.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate")
			require.NoError(t, s.Clients.Subscribe(peer.Get(t, added), "a"))
			packed = append(packed, c)
		}
		sent, failed := s.Clients.Publish("a", news(text))
		require.Equal(t, 6, sent)
		require.Nil(t, failed)
		require.EqualValues(t, 1, codec.deflated.Load())
		plain.ExpectText(text)
		for _, c := range packed {
			var head [2]byte
			_, err := io.ReadFull(c.Reader, head[:])
			require.NoError(t, err)
			require.EqualValues(t, 0xC1, head[0], "RSV1 is set (RFC 7692, section 6)")
			payload := make([]byte, head[1])
			_, err = io.ReadFull(c.Reader, payload)
			require.NoError(t, err)
			got := make([]byte, len(text))
			_, err = io.ReadFull(flate.NewReader(bytes.NewReader(append(payload, 0, 0, 0xFF, 0xFF))), got)
			require.NoError(t, err)
			require.Equal(t, text, string(got))
		}
	})
}

// countingCodec counts the messages that it compresses.
type countingCodec struct {
	websocket.DeflateCodec
	deflated atomic.Int32
}

func (c *countingCodec) Deflate(dst, payload, dict []byte) ([]byte, error) {
	c.deflated.Add(1)
	return c.DeflateCodec.Deflate(dst, payload, dict)
}

func TestTopicsEnd(t *testing.T) {
	for _, end := range doneEnds {
		t.Run("before HandleClientRemove is called, when "+end.name, func(t *testing.T) {
			var s *peer.Server
			opts := new(websocket.ServerOptions)
			added, removed := peer.Added(opts), make(chan struct{})
			opts.HandleClientRemove = func(_ context.Context, conn int) {
				assert.Empty(t, s.Clients.Subscribers("a"))
				assert.Zero(t, s.Clients.Topics())
				assert.ErrorIs(t, s.Clients.Subscribe(conn, "a"), websocket.ErrConnClosed)
				assert.ErrorIs(t, s.Clients.Unsubscribe(conn, "a"), websocket.ErrConnClosed)
				sent, failed := s.Clients.Publish("a", news("nobody"))
				assert.Zero(t, sent)
				assert.Nil(t, failed)
				close(removed)
			}
			s = peer.Start(t, opts)
			c := s.Connect(t)
			conn := peer.Get(t, added)
			for i := range 10 {
				require.NoError(t, s.Clients.Subscribe(conn, fmt.Sprint(i)))
			}
			require.NoError(t, s.Clients.Subscribe(conn, "a"))
			end.end(s, c, conn)
			c.Close()
			peer.Done(t, removed)
			s.StopAndWait(t)
		})
	}
	t.Run("a connection that gets the number of another one, or comes after a restart, has no topics", func(t *testing.T) {
		opts := new(websocket.ServerOptions)
		added := peer.Added(opts)
		s := peer.Start(t, opts)
		before := make(map[int]bool)
		watcher := s.Clients.Watch()
		defer watcher.Close()
		reused := 0
		for round := range 5 {
			var peers []*peer.Conn
			for range 10 {
				peers = append(peers, s.Connect(t))
				conn := peer.Get(t, added)
				if before[conn] {
					reused++
				}
				before[conn] = true
				require.NotContains(t, s.Clients.Subscribers("all"), conn)
				require.NoError(t, s.Clients.Subscribe(conn, "all"))
				require.NoError(t, s.Clients.Subscribe(conn, fmt.Sprint(round)))
			}
			require.Len(t, s.Clients.Subscribers("all"), 10)
			changes, err := watcher.Next(t.Context())
			require.NoError(t, err)
			require.Equal(t, map[string]bool{"all": true, fmt.Sprint(round): true}, changes.Topics)
			for _, c := range peers {
				c.Leave()
			}
			s.StopAndWait(t)
			require.Zero(t, s.Clients.Topics())
			changes, err = watcher.Next(t.Context())
			require.NoError(t, err)
			require.Equal(t, map[string]bool{"all": false, fmt.Sprint(round): false}, changes.Topics)
			require.Empty(t, changes.Users)
			s.Restart(t)
		}
		require.NotZero(t, reused, "no number was used twice")
	})
}

func TestTopicsChurn(t *testing.T) {
	t.Run("of thousands of connections that subscribe, publish and end beside each other nothing is left", func(t *testing.T) {
		const workers, each, topics = 16, 125, 12
		var s *peer.Server
		started := make(chan struct{})
		s = peer.Start(t, &websocket.ServerOptions{
			MaxTopics:  4,
			HandleAuth: userAuth,
			HandleClientAdd: func(_ context.Context, conn int) {
				<-started
				for i := range 3 {
					if err := s.Clients.Subscribe(conn, fmt.Sprint((conn+5*i)%topics)); err != nil {
						assert.ErrorIs(t, err, websocket.ErrConnClosed)
					}
				}
			},
			HandleText: func(conn int, payload []byte) {
				name := string(payload)
				if err := s.Clients.Subscribe(conn, name); errors.Is(err, websocket.ErrTooManyTopics) {
					s.Clients.Unsubscribe(conn, fmt.Sprint(conn%topics))
				}
				s.Clients.Publish(name, news(name))
			},
			HandleClientRemove: func(_ context.Context, conn int) {
				for i := range topics {
					assert.NotContains(t, s.Clients.Subscribers(fmt.Sprint(i)), conn)
				}
			},
		})
		watcher := s.Clients.Watch()
		defer watcher.Close()
		close(started)
		peer.All(t, workers, func(worker int) error {
			for i := range each {
				c, err := as(s, uint64(1+(worker+i)%20))
				if err != nil {
					return err
				}
				for k := range i % 4 {
					if _, err = c.Write(websocket.NewFrameText(true, fmt.Append(nil, (i+k)%topics))); err != nil {
						return err
					}
				}
				if i%3 == 0 {
					c.Write(websocket.NewFrameClose(true, websocket.StatusNormal, nil))
				} else if i%3 == 1 {
					c.Reset()
				}
				c.Close()
			}
			return nil
		})
		s.StopAndWait(t)
		require.Zero(t, s.Clients.Topics())
		ended, end := context.WithCancel(t.Context())
		end()
		_, err := watcher.Next(ended) // all that came has gone, and nobody was told of it in between
		require.ErrorIs(t, err, context.Canceled)
	})
}
