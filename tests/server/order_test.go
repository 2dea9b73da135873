//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// TestServerAnswersInTurn has what a client sends in one piece answered in the order in which it was sent.
func TestServerAnswersInTurn(t *testing.T) {
	t.Run("ten Pings in a row get ten Pongs", func(t *testing.T) {
		s := peer.Start(t, nil)
		c := s.Connect(t)
		var in []byte
		for i := range 10 {
			in = append(in, websocket.NewFramePing(true, fmt.Append(nil, i))...)
		}
		c.Send(in)
		for i := range 10 {
			c.Expect(websocket.OpcodePong, fmt.Sprint(i))
		}
	})
	t.Run("a Ping does not wait for a slow handler", func(t *testing.T) {
		release := make(chan struct{})
		s := peer.Start(t, &websocket.ServerOptions{HandleText: func(conn int, p []byte) {
			<-release
			peer.Echo(conn, p)
		}})
		now := peer.Release(t, release)
		c := s.Connect(t)
		for i := range 3 { // at first the loop calls it, then a worker
			c.Send(append(websocket.NewFrameText(true, fmt.Append(nil, i)), websocket.NewFramePing(true, fmt.Append(nil, i))...))
			c.Expect(websocket.OpcodePong, fmt.Sprint(i))
		}
		now()
		for i := range 3 {
			c.ExpectText(fmt.Sprint(i))
		}
	})
	t.Run("messages before a breach are answered before the Close frame", func(t *testing.T) {
		s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo})
		var in []byte
		for i := range 5 {
			in = append(in, websocket.NewFrameText(true, fmt.Append(nil, i))...)
		}
		in = append(in, websocket.NewFrameText(false, nil)...)
		times := 1000
		if testing.Short() {
			times = 50
		}
		for range times {
			c, err := s.Open()
			require.NoError(t, err)
			c.T = t
			require.NoError(t, c.Shake())
			c.Send(in)
			for i := range 5 {
				c.ExpectText(fmt.Sprint(i))
			}
			c.ExpectClose(websocket.StatusBadRequest)
		}
	})
}

// TestCloseIsAnswered has a handler run when the client closes, with the default time-outs.
func TestCloseIsAnswered(t *testing.T) {
	for _, row := range []struct {
		name string
		send []byte
		code websocket.CloseCode
	}{
		{"a Close frame is answered while a handler blocks", websocket.NewFrameClose(true, 4000, nil), 4000},
		{"a breach too", websocket.NewFrameText(false, nil), websocket.StatusBadRequest},
	} {
		t.Run(row.name, func(t *testing.T) {
			inside, release, late := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			opts := &websocket.ServerOptions{HandleText: func(conn int, p []byte) {
				close(inside)
				<-release
				late <- websocket.SendText(conn, p)
			}}
			removed := peer.Removed(opts)
			s := peer.Start(t, opts)
			now := peer.Release(t, release)
			c := s.Connect(t)
			c.Text("x")
			peer.Done(t, inside)
			conn := s.Clients.All()[0]
			c.Send(row.send)
			require.NoError(t, c.SetReadDeadline(time.Now().Add(peer.WriteTimeout/2)))
			c.ExpectClose(row.code)
			now()
			require.ErrorIs(t, peer.Get(t, late), websocket.ErrConnClosed)
			require.Equal(t, conn, peer.Get(t, removed), "HandleClientRemove follows the handler")
		})
	}
}
