package websocket

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLink_close(t *testing.T) {
	t.Run("Close behind a write that the server does not take is told", func(t *testing.T) {
		checkGoroutines(t)
		sent, closed := make(chan error, 1), make(chan error, 1)
		cl := &Client{WriteTimeout: 200 * time.Millisecond}
		c := scriptedOpen(t, cl)
		go func() { sent <- cl.SendBin(make([]byte, 64<<20)) }()
		_, err := c.in.Peek(1) // the write has begun
		require.NoError(t, err)
		go func() { closed <- cl.Close() }()
		assert.ErrorIs(t, scriptedWait(t, sent), ErrConnClosed)
		err = scriptedWait(t, closed)
		if err != nil { // nil where the write was given up before Close was called
			assert.ErrorIs(t, err, errNoAnswer)
		}
	})
}
