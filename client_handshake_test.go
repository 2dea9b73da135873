package websocket

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// accepted is the answer that accepts a key, with the fields changed: an empty value leaves one out.
func accepted(key string, changes ...string) string {
	fields := map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": acceptKey([]byte(key))}
	for i := 0; i < len(changes); i += 2 {
		fields[changes[i]] = changes[i+1]
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\n"
	for name, value := range fields {
		if value != "" {
			answer += name + ": " + value + "\r\n"
		}
	}
	return answer + "\r\n"
}

func TestClient_answerWithoutEnd(t *testing.T) {
	for name, piece := range map[string]string{
		"header lines without end are refused": strings.Repeat("X-Filler: y\r\n", 100),
		"a line without end is refused":        strings.Repeat("y", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			checkGoroutines(t)
			checkDescriptors(t)
			s := scriptedListen(t)
			connected := scriptedConnect(&Client{Endpoint: s.endpoint()})
			c := s.accept()
			sent := make(chan error, 1)
			go func() {
				_, err := io.WriteString(c.conn, "HTTP/1.1 101 Switching Protocols\r\nX: ")
				for err == nil {
					_, err = io.WriteString(c.conn, piece)
				}
				sent <- err
			}()
			assert.ErrorContains(t, scriptedWait(t, connected), "too large")
			assert.NotErrorIs(t, scriptedWait(t, sent), errWaitedTooLong)
		})
	}
}

func TestClient_request(t *testing.T) {
	t.Run("the default port is left out of Host", func(t *testing.T) {
		for endpoint, host := range map[string]string{
			"ws://example.com/": "example.com", "http://[::1]:80": "[::1]", "wss://example.com:443": "example.com",
			"https://example.com:80": "example.com:80", "ws://example.com:443": "example.com:443",
		} {
			cl := &Client{Endpoint: endpoint}
			u, _, err := cl.serverURL()
			require.NoError(t, err)
			client, server := net.Pipe()
			l := newClientConn(cl)
			l.conn = client
			done := make(chan error, 1)
			go func() {
				_, err := cl.shakeHands(l, u)
				done <- err
			}()
			request, err := http.ReadRequest(bufio.NewReader(server))
			require.NoError(t, err)
			assert.Equal(t, host, request.Host)
			server.Close()
			assert.Error(t, scriptedWait(t, done))
		}
	})
}

func TestClient_answerBehindOthers(t *testing.T) {
	t.Run("interim answers without end are refused", func(t *testing.T) {
		checkGoroutines(t)
		checkDescriptors(t)
		s := scriptedListen(t)
		connected := scriptedConnect(&Client{Endpoint: s.endpoint()})
		c := s.accept()
		sent := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				_, err = io.WriteString(c.conn, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			sent <- err
		}()
		assert.ErrorContains(t, scriptedWait(t, connected), "100 Continue")
		assert.NotErrorIs(t, scriptedWait(t, sent), errWaitedTooLong)
	})
}
