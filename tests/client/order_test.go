package client_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// orderRounds is how often in a row an order must be right.
const orderRounds = 1000

func orderEcho(cl *websocket.Client, f *websocket.Frame) error { return cl.SendText(f.Payload()) }

func TestClientConn_order(t *testing.T) {
	t.Run("ten Pings in a row get ten Pongs, in order", func(t *testing.T) {
		peer.CheckGoroutines(t)
		c := peer.Open(t, new(websocket.Client))
		for round := range orderRounds {
			var pings []byte
			for i := range 10 {
				pings = append(pings, websocket.NewFramePing(false, []byte{byte(i)})...)
			}
			c.Send(pings)
			for i := range 10 {
				f := c.Read()
				require.Equal(t, websocket.OpcodePong, f.Opcode, "round %d", round)
				require.Equal(t, []byte{byte(i)}, f.Payload, "round %d", round)
			}
		}
	})
	t.Run("each Ping is answered in front of the messages behind it, and messages are answered in order", func(t *testing.T) {
		peer.CheckGoroutines(t)
		c := peer.Open(t, &websocket.Client{HandleText: orderEcho})
		for round := range orderRounds {
			const count = 10
			var in []byte
			for i := range count {
				in = append(in, websocket.NewFramePing(false, []byte{byte(i)})...)
				in = append(in, websocket.NewFrameText(false, []byte{byte(i)})...)
			}
			c.Send(in)
			for pongs, echoes := 0, 0; pongs < count || echoes < count; {
				f := c.Read()
				require.Len(t, f.Payload, 1)
				if f.Opcode == websocket.OpcodePong {
					require.EqualValues(t, pongs, f.Payload[0], "round %d", round)
					pongs++
				} else {
					require.EqualValues(t, echoes, f.Payload[0], "round %d", round)
					echoes++
				}
				require.GreaterOrEqual(t, pongs, echoes, "round %d: an echo is in front of the Pong for the Ping before it", round)
			}
		}
	})
	t.Run("a Ping inside a message is answered in front of it", func(t *testing.T) {
		peer.CheckGoroutines(t)
		c := peer.Open(t, &websocket.Client{HandleText: orderEcho})
		for range orderRounds {
			c.Send(slices.Concat([]byte{0x01, 1, 'a'}, websocket.NewFramePing(false, []byte("p")), []byte{0x80, 1, 'b'}))
			require.Equal(t, websocket.OpcodePong, c.Read().Opcode)
			require.Equal(t, "ab", string(c.Read().Payload))
		}
	})
	t.Run("as many Pings as the server likes are answered while it reads", func(t *testing.T) {
		peer.CheckGoroutines(t)
		const count = 50_000
		c := peer.Open(t, new(websocket.Client))
		go func() {
			var pings []byte
			for i := range count {
				pings = append(pings, websocket.NewFramePing(false, binary.BigEndian.AppendUint32(nil, uint32(i)))...)
			}
			c.Conn.Write(pings)
		}()
		for i := range count {
			f := c.Read()
			require.Equal(t, websocket.OpcodePong, f.Opcode)
			require.EqualValues(t, i, binary.BigEndian.Uint32(f.Payload))
		}
	})
}

// endings are what ends a connection behind messages, and the Close frame that answers it.
var endings = map[string]struct {
	frame  []byte
	code   websocket.CloseCode
	reason string
}{
	"a masked frame":    {websocket.NewFrameText(true, []byte("x")), websocket.StatusBadRequest, "frame from server is masked"},
	"a reserved opcode": {[]byte{0x83, 0}, websocket.StatusBadRequest, "reserved opcode"},
	"a reserved bit":    {[]byte{0xC1, 0}, websocket.StatusBadRequest, "reserved bit is set"},
	"invalid text":      {[]byte{0x81, 1, 0xFF}, websocket.StatusInvalidData, "text is not UTF-8"},
	"a Close frame":     {websocket.NewFrameClose(false, 4000, []byte("bye")), 4000, "bye"},
}

func TestClientConn_messagesBeforeTheEnd(t *testing.T) {
	for name, end := range endings {
		t.Run("five messages and "+name+" right behind them: five answers, then the Close frame", func(t *testing.T) {
			peer.CheckGoroutines(t)
			s := peer.Listen(t)
			in := slices.Concat(slices.Repeat(websocket.NewFrameText(false, []byte("hello")), 5), end.frame)
			for round := range orderRounds / len(endings) {
				quit := make(chan bool, 1)
				cl := &websocket.Client{Endpoint: s.Endpoint(), HandleText: orderEcho, HandleQuit: func() { quit <- true }}
				var c *peer.Script
				if round%2 == 0 {
					c = s.Open(cl, in...)
				} else {
					c = s.Open(cl)
					c.Send(in)
				}
				for range 5 {
					require.Equal(t, "hello", string(c.Read().Payload), "round %d", round)
				}
				code, reason := c.ReadClose()
				require.Equal(t, end.code, code, "round %d", round)
				require.Equal(t, end.reason, reason)
				c.Conn.Close()
				peer.Receive(t, quit)
				require.Equal(t, &websocket.CloseError{Code: end.code, Reason: end.reason}, cl.Err())
			}
		})
	}
	t.Run("Pings before the end are answered before the Close frame", func(t *testing.T) {
		peer.CheckGoroutines(t)
		c := peer.Open(t, new(websocket.Client))
		c.Send(slices.Concat(websocket.NewFramePing(false, []byte("1")), websocket.NewFramePing(false, []byte("2")), websocket.NewFrameClose(false, websocket.StatusGone, nil)))
		for i := range 2 {
			assert.Equal(t, fmt.Sprint(i+1), string(c.Read().Payload))
		}
		c.ReadClose()
	})
	t.Run("Close in a handler drops what waits, and sends the answer to the server's Close frame immediately", func(t *testing.T) {
		peer.CheckGoroutines(t)
		calls, closed := 0, make(chan error, 1)
		c := peer.Open(t, &websocket.Client{HandleText: func(cl *websocket.Client, _ *websocket.Frame) error {
			calls++
			closed <- cl.Close()
			return nil
		}}, slices.Concat(websocket.NewFrameText(false, nil), websocket.NewFrameText(false, nil), websocket.NewFrameClose(false, 4000, nil))...)
		c.ReadClose()
		c.Conn.Close()
		assert.NoError(t, peer.Receive(t, closed))
		assert.Equal(t, 1, calls)
	})
	t.Run("an error of a handler ends the connection, whatever waits", func(t *testing.T) {
		peer.CheckGoroutines(t)
		quit := make(chan bool, 1)
		cl := &websocket.Client{HandleQuit: func() { quit <- true }, HandleText: func(*websocket.Client, *websocket.Frame) error { return errors.New("no") }}
		c := peer.Open(t, cl, slices.Concat(websocket.NewFrameText(false, nil), websocket.NewFrameText(false, nil))...)
		code, reason := c.ReadClose()
		assert.EqualValues(t, websocket.StatusBadRequest, code)
		assert.Equal(t, "no", reason)
		c.Conn.Close()
		peer.Receive(t, quit)
	})
	t.Run("what the server sent before it was gone is handled, though it takes no more", func(t *testing.T) {
		peer.CheckGoroutines(t)
		s := peer.Listen(t)
		for range orderRounds / 10 {
			got, quit := make(chan bool, 10), make(chan bool, 1)
			cl := &websocket.Client{Endpoint: s.Endpoint(), HandleText: func(*websocket.Client, *websocket.Frame) error { got <- true; return nil }, HandleQuit: func() { quit <- true }}
			c := s.Open(cl)
			sent := make(chan bool)
			go func() {
				for cl.SendBin(make([]byte, 1000)) == nil {
				}
				close(sent)
			}()
			_, err := c.Conn.Read(make([]byte, 2000))
			require.NoError(t, err)
			c.Send(slices.Concat(websocket.NewFrameText(false, []byte("last")), websocket.NewFrameClose(false, 4001, []byte("kicked"))))
			c.Conn.Close() // with data that it has not read: a reset
			<-sent
			peer.Receive(t, quit)
			require.Len(t, got, 1)
			require.Equal(t, &websocket.CloseError{Code: 4001, Reason: "kicked"}, cl.Err())
		}
	})
	t.Run("a handler's error that is not UTF-8 is told in UTF-8", func(t *testing.T) {
		peer.CheckGoroutines(t)
		quit := make(chan bool, 1)
		cl := &websocket.Client{HandleQuit: func() { quit <- true }, HandleText: func(*websocket.Client, *websocket.Frame) error { return errors.New("bad \xff") }}
		c := peer.Open(t, cl, websocket.NewFrameText(false, nil)...)
		_, reason := c.ReadClose()
		assert.Equal(t, "bad \uFFFD", reason)
		c.Conn.Close()
		peer.Receive(t, quit)
	})
}
