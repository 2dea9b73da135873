//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package rfc6455

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// Limits of the server that answers the requests: those of the package's own table.
const (
	maxHeader = 1000
	maxFields = 20
)

// runRequests runs all rows about the opening handshake.
func runRequests(t *testing.T, all []*requestRow, runs *atomic.Int64) {
	s := peer.Start(t, &websocket.ServerOptions{HandleText: peer.Echo, MaxHeaderSize: maxHeader, MaxHeaderFields: maxFields})
	t.Run("rows", func(t *testing.T) {
		for _, row := range all {
			t.Run(row.Name, func(t *testing.T) {
				t.Parallel()
				run := func(how string, pieces ...[]byte) {
					runs.Add(1)
					require.NoError(t, row.run(s, pieces), how)
				}
				in := []byte(row.In)
				run("whole", in)
				if row.Whole || row.In == "" {
					return
				}
				run("byte by byte", each(in, 1)...)
				step := 1 + len(in)/16
				if row.Wire || len(row.Out) > 0 { // nothing else cuts these everywhere
					step = 1
				}
				for cut := step; cut < len(in); cut += step {
					run(fmt.Sprintf("cut at %d", cut), in[:cut], in[cut:])
				}
			})
		}
	})
	require.True(t, peer.Eventually(func() bool { return s.Clients.Len() == 0 }))
}

// run sends a request and compares what comes back, up to the end of TCP.
func (row *requestRow) run(s *peer.Server, pieces [][]byte) error {
	conn, err := s.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, piece := range pieces {
		if _, err = conn.Write(piece); err != nil {
			break // it may be refused before it is complete
		}
	}
	if row.Ends {
		conn.Conn.(*net.TCPConn).CloseWrite()
	}
	answer := make([]byte, len(row.Answer))
	if _, err = io.ReadFull(conn.Reader, answer); err != nil || string(answer) != string(row.Answer) {
		return fmt.Errorf("answer %q: %v", answer, err)
	}
	c := newClient(conn)
	out := slices.Clone(row.Out)
	if row.Open && (len(out) == 0 || out[len(out)-1].opcode != websocket.OpcodeClose) {
		if err = c.wait(func() bool { return len(c.got) == len(out) }); err != nil {
			return err
		}
		if _, err = conn.Write(websocket.NewFrameClose(true, websocket.StatusNormal, nil)); err != nil {
			return err
		}
		out = append(out, sentClose(websocket.StatusNormal, ""))
	}
	if err = c.toEnd(); err != nil {
		return err
	}
	data, pongs, closes := split(c.got)
	wantData, wantPongs, wantCloses := split(out)
	if !slices.Equal(data, wantData) || !slices.Equal(pongs, wantPongs) || !slices.Equal(closes, wantCloses) {
		return fmt.Errorf("went out: %v, want: %v", c.got, out)
	}
	return nil
}
