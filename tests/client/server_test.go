package client_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

func TestClient_realServer(t *testing.T) {
	// ServeOn runs a server until the end of the test.
	serve := func(t *testing.T, opts *websocket.ServerOptions) *websocket.Server {
		t.Helper()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		opts.Address = ln.Addr().String()
		serv, served := websocket.NewServer(opts), make(chan error, 1)
		go func() { served <- serv.Serve(ln) }()
		t.Cleanup(func() {
			serv.Stop()
			if err := peer.Receive(t, served); !errors.Is(err, websocket.ErrUnsupported) {
				assert.NoError(t, err)
			}
		})
		for serv.Addr() == nil {
			select {
			case err := <-served:
				served <- err
				if errors.Is(err, websocket.ErrUnsupported) {
					t.Skip(err)
				}
				require.FailNow(t, "the server has ended", "%v", err)
			case <-time.After(peer.LeakPoll):
			}
		}
		return serv
	}
	t.Run("messages of every size come back", func(t *testing.T) {
		peer.CheckGoroutines(t)
		peer.CheckDescriptors(t)
		serv := serve(t, &websocket.ServerOptions{
			HandleText: func(conn int, payload []byte) { websocket.Send(conn, websocket.NewFrameText(false, payload)) },
			HandleBin:  func(conn int, payload []byte) { websocket.Send(conn, websocket.NewFrameBin(false, payload)) },
		})
		got, quit := make(chan *websocket.Frame, 1), make(chan bool, 1)
		handle := func(_ *websocket.Client, f *websocket.Frame) error {
			got <- f
			return nil
		}
		cl := &websocket.Client{Endpoint: "ws://" + serv.Options.Address, HandleText: handle, HandleBin: handle,
			HandleQuit: func() { quit <- true }}
		require.NoError(t, cl.Connect())
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 1 << 20} {
			payload := []byte(strings.Repeat("x", size))
			require.NoError(t, cl.SendText(payload))
			f := peer.Receive(t, got)
			assert.Equal(t, websocket.OpcodeText, f.Opcode())
			assert.Equal(t, payload, f.Payload())
			require.NoError(t, cl.SendBin(payload))
			f = peer.Receive(t, got)
			assert.Equal(t, websocket.OpcodeBin, f.Opcode())
			assert.Equal(t, payload, f.Payload())
		}
		assert.NoError(t, cl.Close())
		peer.Receive(t, quit)
		assert.NoError(t, cl.Err())
	})
	t.Run("the reason of HandleAuth is in the error", func(t *testing.T) {
		peer.CheckGoroutines(t)
		serv := serve(t, &websocket.ServerOptions{HandleAuth: func(*websocket.Handshake) (context.Context, error) {
			return nil, errors.New("Missing authorization")
		}})
		cl := &websocket.Client{Endpoint: "ws://" + serv.Options.Address}
		assert.ErrorContains(t, cl.Connect(), "400 Missing authorization")
	})
	for name, test := range map[string]struct {
		end  func(serv *websocket.Server)
		code websocket.CloseCode
	}{
		"a server that stops says so":           {(*websocket.Server).Stop, websocket.StatusGone},
		"a server that removes us says goodbye": {func(serv *websocket.Server) { serv.ClientRemove(serv.Clients.All()[0]) }, websocket.StatusNormal},
	} {
		t.Run(name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			added, quit := make(chan bool, 1), make(chan bool, 1)
			serv := serve(t, &websocket.ServerOptions{HandleClientAdd: func(context.Context, int) { added <- true }})
			cl := &websocket.Client{Endpoint: "ws://" + serv.Options.Address, HandleQuit: func() { quit <- true }}
			require.NoError(t, cl.Connect())
			peer.Receive(t, added)
			test.end(serv)
			peer.Receive(t, quit)
			var closeErr *websocket.CloseError
			require.ErrorAs(t, cl.Err(), &closeErr)
			assert.Equal(t, test.code, closeErr.Code)
			assert.ErrorIs(t, cl.SendText(nil), websocket.ErrConnClosed)
		})
	}
}
