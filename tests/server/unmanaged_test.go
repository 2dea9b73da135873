//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
	"golang.org/x/sys/unix"
)

// recvSize is what Recv reads at most.
const recvSize = 16 << 10

// streamPair returns the two ends of a stream that no server owns, until the end of the test.
type streamPair func(t *testing.T) (a, b int)

func socketpair(nonblock bool) streamPair {
	return func(t *testing.T) (a, b int) {
		t.Helper()
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		for _, fd := range pair {
			require.NoError(t, unix.SetNonblock(fd, nonblock))
		}
		t.Cleanup(func() {
			unix.Close(pair[0])
			unix.Close(pair[1])
		})
		return pair[0], pair[1]
	}
}

// tCPPair returns descriptors of the program's own for both ends of a TCP connection.
func tCPPair(t *testing.T) (a, b int) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	server, err := ln.Accept()
	require.NoError(t, err)
	numbers := make([]int, 2)
	for i, conn := range []net.Conn{client, server} {
		file, err := conn.(*net.TCPConn).File()
		require.NoError(t, err)
		conn.Close()
		numbers[i] = int(file.Fd())
		t.Cleanup(func() { file.Close() })
	}
	return numbers[0], numbers[1]
}

var pairs = []struct {
	name string
	pair streamPair
}{
	{"a blocking socketpair", socketpair(false)},
	{"a socketpair that does not block", socketpair(true)},
	{"a TCP connection of the program", tCPPair},
}

// readFrames reads whole frames with Recv until it has n of them.
func readFrames(fd, n int) ([]*websocket.Frame, error) {
	var all []byte
	for {
		packet, err := websocket.Recv(fd)
		if err != nil {
			return nil, err
		}
		if len(packet) == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		all = append(all, packet...)
		websocket.PutBuffer(packet)
		var list []*websocket.Frame
		for _, f := range websocket.Unpack(all).All() {
			if f.IsComplete() {
				list = append(list, f)
			}
		}
		if len(list) == n {
			return list, nil
		}
	}
}

func TestSendAndRecvOnForeignSocket(t *testing.T) {
	for _, tc := range pairs {
		t.Run("what is sent over "+tc.name+" is received", func(t *testing.T) {
			peer.CheckGoroutines(t)
			peer.CheckDescriptors(t)
			a, b := tc.pair(t)
			for _, size := range []int{0, 1, 125, 126, 127, recvSize - 4, recvSize, recvSize + 1, 65535, 65536} {
				want := peer.Pattern(size, 0)
				require.NoError(t, websocket.Send(a, websocket.NewFrameText(true, want)))
				frames, err := readFrames(b, 1)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, frames[0].Payload()), "%d bytes", size)
			}
		})
		t.Run("Recv waits for data on "+tc.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			a, b := tc.pair(t)
			got := make(chan []byte, 1)
			started := make(chan struct{})
			go func() {
				close(started)
				packet, _ := websocket.Recv(b)
				got <- packet
			}()
			peer.Done(t, started)
			require.NoError(t, websocket.Send(a, []byte("late")))
			require.Equal(t, "late", string(peer.Get(t, got)))
		})
		t.Run("Recv returns an empty packet and no error at the end of "+tc.name, func(t *testing.T) {
			a, b := tc.pair(t)
			require.NoError(t, websocket.Send(a, []byte("last")))
			require.NoError(t, unix.Shutdown(a, unix.SHUT_WR))
			packet, err := websocket.Recv(b)
			require.NoError(t, err)
			require.Equal(t, "last", string(packet))
			for range 2 {
				packet, err = websocket.Recv(b)
				require.NoError(t, err)
				require.Empty(t, packet)
			}
		})
		t.Run("Send writes 8 MiB to a slow reader of "+tc.name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			a, b := tc.pair(t)
			want := peer.Pattern(8<<20, 1)
			errs := make(chan error, 1)
			go func() { errs <- websocket.Send(a, want) }()
			got := make([]byte, 0, len(want))
			small := make([]byte, 1<<12) // a reader of small pieces first
			for len(got) < len(want) {
				if len(got) > 2<<20 {
					packet, err := websocket.Recv(b)
					require.NoError(t, err)
					require.NotEmpty(t, packet)
					got = append(got, packet...)
					websocket.PutBuffer(packet)
					continue
				}
				n, err := unix.Read(b, small)
				if errors.Is(err, unix.EAGAIN) {
					require.NoError(t, peer.WaitSocket(b, false, peer.Wait))
					continue
				}
				require.NoError(t, err)
				got = append(got, small[:n]...)
			}
			require.NoError(t, peer.Get(t, errs))
			require.True(t, bytes.Equal(want, got))
		})
		t.Run("concurrent packets over "+tc.name+" are never mixed", func(t *testing.T) {
			peer.CheckGoroutines(t)
			a, b := tc.pair(t)
			const senders, each, size = 8, 4, 256 << 10
			errs := make(chan error, senders)
			for i := range senders {
				go func() {
					var err error
					packet := websocket.NewFrameBin(false, bytes.Repeat([]byte{byte(i)}, size+i))
					for range each {
						err = errors.Join(err, websocket.Send(a, packet))
					}
					errs <- err
				}()
			}
			counts := make(map[byte]int)
			rest := []byte{}
			for n := 0; n < senders*each; {
				packet, err := websocket.Recv(b)
				require.NoError(t, err)
				require.NotEmpty(t, packet)
				rest = append(rest, packet...)
				websocket.PutBuffer(packet)
				for {
					const head = 10 // of a frame of that size, which has no mask
					if len(rest) < head {
						break
					}
					length := binary.BigEndian.Uint64(rest[2:])
					if length > uint64(len(rest)-head) {
						break
					}
					body := rest[head : head+int(length)]
					require.Equal(t, size+int(body[0]), len(body))
					require.Equal(t, len(body), bytes.Count(body, body[:1]))
					counts[body[0]]++
					n++
					rest = rest[head+len(body):]
				}
			}
			require.Empty(t, rest)
			require.Len(t, counts, senders)
			for range senders {
				require.NoError(t, peer.Get(t, errs))
			}
		})
		t.Run("Send on "+tc.name+" whose peer is gone is net.ErrClosed", func(t *testing.T) {
			a, b := tc.pair(t)
			require.NoError(t, unix.Shutdown(a, unix.SHUT_WR))
			err := websocket.Send(a, []byte("x"))
			require.ErrorIs(t, err, net.ErrClosed)
			require.ErrorIs(t, err, websocket.ErrConnClosed)
			require.ErrorIs(t, err, syscall.EPIPE)
			_ = b
		})
		t.Run("TrySend does not know "+tc.name, func(t *testing.T) {
			a, _ := tc.pair(t)
			require.ErrorIs(t, websocket.TrySend(a, []byte("x")), websocket.ErrConnClosed)
			require.Zero(t, websocket.ID(a))
		})
	}
	t.Run("a socket that is not open gives errors", func(t *testing.T) {
		for _, fd := range []int{-1, 1 << 21, 1 << 22, math.MaxInt32, math.MinInt32} {
			require.Error(t, websocket.Send(fd, []byte("x")), fd)
			require.ErrorIs(t, websocket.TrySend(fd, []byte("x")), websocket.ErrConnClosed, fd)
			_, err := websocket.Recv(fd)
			require.Error(t, err, fd)
			require.Zero(t, websocket.ID(fd), fd)
		}
		for _, id := range []uint64{0, 1, math.MaxUint64} {
			require.ErrorIs(t, websocket.SendID(id, []byte("x")), websocket.ErrConnClosed)
			require.ErrorIs(t, websocket.TrySendID(id, []byte("x")), websocket.ErrConnClosed)
		}
	})
	t.Run("any slice may be given to PutBuffer", func(t *testing.T) {
		for _, b := range [][]byte{nil, {}, make([]byte, 3), make([]byte, 1<<20), make([]byte, 0, recvSize), make([]byte, recvSize)[5:]} {
			websocket.PutBuffer(b)
		}
		a, b := socketpair(false)(t)
		require.NoError(t, websocket.Send(a, []byte("after")))
		packet, err := websocket.Recv(b)
		require.NoError(t, err)
		require.Equal(t, "after", string(packet))
	})
}
