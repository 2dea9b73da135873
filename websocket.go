package websocket

import (
	"context"
	"errors"
	"time"
)

// ContextKey is the type of the keys under which a program's HandleAuth stores what it knows about a connection.
type ContextKey byte

// Keys for the context that HandleAuth returns. The server itself reads CtxKeyUID: the id of the user that the connection
// belongs to, an integer of any type above zero, by which ClientManager.Conns finds it. The others are for the program alone.
const (
	CtxKeyExternalJWT ContextKey = 1 << iota
	CtxKeyInternalJWT
	CtxKeyUID
)

// HandlerAuthFn decides about an opening handshake. If it returns an error, the handshake is refused: the text of the error is
// the reason in the status line of the answer, with status 400. Otherwise the context becomes that of the connection; nil
// stands for context.Background(). See Handshake for what may be added to the answer.
type HandlerAuthFn func(req *Handshake) (ctx context.Context, err error)

// HandlerClientFn is told of a connection that was opened, or that is about to be closed.
type HandlerClientFn func(ctx context.Context, conn int)

// HandlerFrameFn is given a single frame of a connection. It may keep the frame.
type HandlerFrameFn func(conn int, frame *Frame)

// HandlerPayloadFn is given a whole message of a connection. The payload belongs to it; see PutBuffer for giving it back.
type HandlerPayloadFn func(conn int, payload []byte)

// HandlerStatusFn returns what a GET to ServerOptions.StatusPath is answered with.
type HandlerStatusFn func() (contentType string, data []byte)

// Defaults of ServerOptions and Client.
const (
	defaultAddress     = ":80"
	defaultConnectPath = "/"
	statusSegment      = "/status"

	defaultMaxMessageSize   = 16 << 20
	defaultMaxFragments     = 1 << 17
	defaultMaxHeaderSize    = 16 << 10
	defaultMaxHeaderFields  = 100
	defaultSendQueueSize    = 1 << 20
	defaultRequestsAtOnce   = 16
	defaultHandshakeTimeout = 10 * time.Second
	defaultWriteTimeout     = 10 * time.Second
	defaultPingInterval     = 16 * time.Second
	defaultSilenceTimeout   = 16 * time.Second
	defaultAddTimeout       = time.Second
)

// maxRecv is how much Recv returns at most, in bytes.
const maxRecv = 16 << 20

// Recv reads what has arrived on a connected stream socket, blocking or not. If nothing has, it waits, without a limit. At the
// end of the stream it returns an empty packet and no error. It returns at most 16 MiB; what is left comes with the next call.
// It may be called from any goroutine; concurrent calls share the bytes between them.
//
// The packet belongs to the caller, who may give it back with PutBuffer. Unpack reads the frames in it.
//
// The connections of a Server are read by the server: for them Recv returns ErrManaged and reads nothing, and for one that was
// closed ErrConnClosed.
func Recv(fd int) (packet []byte, err error) {
	if c := descriptors.get(fd); c == tombstone {
		return nil, ErrConnClosed
	} else if c != nil {
		return nil, ErrManaged
	}
	packet = newBuffer(recvSize)[:recvSize]
	n, err := recvSome(fd, packet)
	if err != nil {
		PutBuffer(packet)
		return nil, err
	}
	for n == len(packet) && n < maxRecv {
		packet = append(packet, make([]byte, n)...)
		m, err := readSocket(fd, packet[n:])
		if err != nil {
			break // what came before it counts; the next call meets it again
		}
		n += m
	}
	return packet[:n], nil
}

// recvSome waits until there is something to read.
func recvSome(fd int, b []byte) (n int, err error) {
	for {
		if n, err = readSocket(fd, b); !errors.Is(err, errWouldBlock) {
			return n, err
		}
		if err = waitSocket(fd, false, 0); err != nil {
			return 0, err
		}
	}
}
