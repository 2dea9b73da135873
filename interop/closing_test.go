package interop

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// TestCloseWhileAHandlerRuns expects that the Close frame of a client is answered long before a handler of its message returns,
// and before any client gives up waiting.
func TestCloseWhileAHandlerRuns(t *testing.T) {
	t.Parallel()
	const promised = time.Second
	release := make(chan struct{})
	entered := make(chan struct{}, 1)
	url, accepted := startOurs(t, &websocket.ServerOptions{HandleText: func(int, []byte) {
		entered <- struct{}{}
		select {
		case <-release:
		case <-time.After(30 * time.Second):
		}
	}})
	t.Cleanup(func() { close(release) })
	for _, c := range []struct {
		peer
		code int
	}{{pyWebsockets, 4321}, {aiohttp, 4321}, {gorilla, 4321}, {ours, 1000}} {
		t.Run(c.name, func(t *testing.T) {
			client, err := c.client(t, plain)(url, nil)
			require.NoError(t, err)
			defer client.drop()
			accept(t, accepted)
			require.NoError(t, client.send(text, []byte("keeps its handler busy")))
			within(t, entered)
			began := time.Now()
			require.NoError(t, client.close(c.code, "")) // our client waits for the answer here
			assert.Less(t, time.Since(began), promised+slack)
			got := next(t, client)
			assert.Equal(t, closed, got.kind)
			if c.name != ours.name {
				assert.Equal(t, c.code, got.code, "what the client was shown")
			}
			assert.Less(t, time.Since(began), promised+slack)
		})
	}
}
