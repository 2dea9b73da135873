package websocket

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// readFragment reads the client's next frame, which may be one of several.
func (c *scriptedConn) readFragment() scriptedFrame {
	c.t.Helper()
	f, err := scriptedRead(c.in)
	require.NoError(c.t, err)
	require.True(c.t, f.masked)
	return f
}

// TestLink_controlBetweenFragments has a long message on its way, of which the server reads one frame at a time.
func TestLink_controlBetweenFragments(t *testing.T) {
	const fragments = 10
	// open begins the message and reads its first frame; the second is being written.
	open := func(t *testing.T, cl *Client) (c *scriptedConn, sent chan error) {
		c, sent = inMemory(t, cl), make(chan error, 1)
		go func() { sent <- cl.SendBin(make([]byte, fragments*defaultFragmentSize)) }()
		f := c.readFragment()
		assert.Equal(t, OpcodeBin, f.opcode)
		synctest.Wait()
		return c, sent
	}
	for name, test := range map[string]struct {
		cause  func(cl *Client, c *scriptedConn)
		opcode Opcode
	}{
		"the answer to a Ping":     {func(_ *Client, c *scriptedConn) { c.send(NewFramePing(false, nil)) }, OpcodePong},
		"a Ping of the program":    {func(cl *Client, _ *scriptedConn) { go cl.SendPing(nil) }, OpcodePing},
		"a Pong of the program":    {func(cl *Client, _ *scriptedConn) { go cl.SendPong(nil) }, OpcodePong},
		"a Ping of the client":     {func(*Client, *scriptedConn) { <-time.After(minPingInterval) }, OpcodePing},
		"what the program invents": {func(cl *Client, _ *scriptedConn) { go cl.send(OpcodeControlRsvB, nil) }, OpcodeControlRsvB},
	} {
		t.Run(name+" waits for one fragment", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := &Client{WriteTimeout: time.Hour}
				c, sent := open(t, cl)
				test.cause(cl, c)
				synctest.Wait()
				assert.Equal(t, OpcodeCont, c.readFragment().opcode)
				assert.Equal(t, test.opcode, c.readFragment().opcode)
				for i := 2; i < fragments; i++ {
					f := c.readFragment()
					assert.Equal(t, OpcodeCont, f.opcode)
					assert.Equal(t, i == fragments-1, f.fin)
				}
				assert.NoError(t, <-sent)
				cl.Quit()
			})
		})
	}
	closings := map[string]struct {
		cause func(cl *Client, c *scriptedConn)
		code  CloseCode
	}{
		"Close":                    {func(cl *Client, _ *scriptedConn) { go cl.Close() }, StatusNormal},
		"the server's Close frame": {func(_ *Client, c *scriptedConn) { c.send(NewFrameClose(false, 4000, nil)) }, 4000},
		"a breach of the server":   {func(_ *Client, c *scriptedConn) { c.send([]byte{0x83, 0}) }, StatusBadRequest},
	}
	for name, test := range closings {
		t.Run(name+" lets a message be finished within a second", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := new(Client)
				c, sent := open(t, cl)
				test.cause(cl, c)
				synctest.Wait()
				for i := 1; i < fragments; i++ {
					assert.Equal(t, i == fragments-1, c.readFragment().fin)
				}
				assert.NoError(t, <-sent)
				code, _ := c.readClose()
				assert.Equal(t, test.code, code)
				assert.ErrorIs(t, cl.SendText(nil), ErrConnClosed)
				cl.Quit()
			})
		})
		t.Run(name+" cuts it off after that, between two fragments", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := new(Client)
				c, sent := open(t, cl)
				test.cause(cl, c)
				<-time.After(maxAnswerTime)
				synctest.Wait()
				assert.Equal(t, OpcodeCont, c.readFragment().opcode)
				code, _ := c.readClose()
				assert.Equal(t, test.code, code)
				assert.ErrorIs(t, <-sent, ErrConnClosed)
				cl.Quit()
			})
		})
	}
	t.Run("what a handler sends after Close was called is not sent, also while a message is being finished", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := new(Client)
			c, sent := open(t, cl)
			go cl.Close()
			synctest.Wait()
			late := make(chan error, 1)
			go func() { late <- cl.SendText([]byte("late")) }()
			assert.ErrorIs(t, cl.SendPing(nil), ErrConnClosed)
			for i := 1; i < fragments; i++ {
				c.readFragment()
			}
			c.readClose()
			assert.NoError(t, <-sent)
			assert.ErrorIs(t, <-late, ErrConnClosed)
			cl.Quit()
		})
	})
	t.Run("a message in one frame is not cut, and a Close frame waits for it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := &Client{FragmentSize: -1}
			c, sent := inMemory(t, cl), make(chan error, 1)
			go func() { sent <- cl.SendBin(make([]byte, fragments*defaultFragmentSize)) }()
			synctest.Wait()
			go cl.Close()
			<-time.After(2 * maxAnswerTime)
			f := c.readFragment()
			assert.True(t, f.fin)
			assert.Len(t, f.payload, fragments*defaultFragmentSize)
			c.readClose()
			assert.NoError(t, <-sent)
			cl.Quit()
		})
	})
	t.Run("a server that answers Close in the last moment has answered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := new(Client)
			c, closed := inMemory(t, cl), make(chan error, 1)
			go func() { closed <- cl.Close() }()
			c.readClose()
			<-time.After(closeTimeout - time.Millisecond)
			c.send(NewFrameClose(false, StatusNormal, nil))
			assert.NoError(t, <-closed, "it has not ended TCP, though")
		})
	})
}
