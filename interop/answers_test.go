package interop

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/deflate"
)

// serveAnswers starts a server that accepts every request, with the extensions that the query of its URL has.
func serveAnswers(t *testing.T) (address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go answer(c)
		}
	}()
	return "ws://" + ln.Addr().String()
}

// answer answers one request, and waits for the end of the connection.
func answer(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(deadline))
	in := bufio.NewReader(c)
	request, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	sum := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), extensionsField, request.URL.Query().Get("answer"))
	in.ReadByte()
}

func TestAnswers(t *testing.T) {
	base := serveAnswers(t)
	for _, tc := range []struct {
		answer   string
		accepted bool
	}{
		{"", true},
		{"permessage-deflate; server_no_context_takeover", true},
		{"permessage-deflate; server_no_context_takeover; client_no_context_takeover", true},
		{"permessage-deflate; client_no_context_takeover;server_max_window_bits=9", true},
		{"permessage-deflate; server_max_window_bits=12", true},
		{"permessage-deflate; server_max_window_bits=12; client_max_window_bits=8", true},
		{"permessage-deflate; server_max_window_bits=\"12\"; client_max_window_bits=\"15\"", true},

		{"permessage-deflate", false}, // more history than our side offered to keep
		{"permessage-deflate; server_max_window_bits=13", false},
		{"permessage-deflate; server_max_window_bits=7", false},
		{"permessage-deflate; server_max_window_bits=12; client_max_window_bits", false},
		{"permessage-deflate; server_max_window_bits=12; client_max_window_bits=16", false},
		{"permessage-deflate; server_max_window_bits=012", false},
		{"permessage-deflate; server_no_context_takeover; server_no_context_takeover", false},
		{"permessage-deflate; server_no_context_takeover=true", false},
		{"permessage-deflate; server_no_context_takeover; unknown", false},
		{"permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover", false},
		{"permessage-bzip2", false},
		{"permessage-deflate; server_no_context_takeover, permessage-bzip2", false},
	} {
		t.Run(fmt.Sprintf("%q is accepted: %v", tc.answer, tc.accepted), func(t *testing.T) {
			client := &websocket.Client{Compression: &websocket.Compression{Codec: deflate.Codec(0)}}
			client.Endpoint = base + "/?" + query("answer", tc.answer)
			c, err := dialOurs(client, nil)
			if tc.accepted {
				require.NoError(t, err)
				c.drop()
			} else {
				assert.Error(t, err)
			}
		})
	}
}

func query(name, value string) string { return url.Values{name: {value}}.Encode() }
