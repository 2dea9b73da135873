package websocket

import (
	"errors"
	"net"
)

// maxKeptPacket is how large the buffer of an answer may be, in bytes, to be kept for the next one.
const maxKeptPacket = 64 << 10

// handleRequest is the default HandleText.
func (serv *Server) handleRequest(conn int, payload []byte) {
	ctx, ok := serv.Clients.Context(conn)
	if !ok {
		ctx = nil
	}
	res := serv.routes.Load().answer(ctx, conn, payload)
	packet := packets.Get().(*[]byte)
	*packet = res.appendPacket((*packet)[:0])
	err := Send(conn, *packet) // keeps no reference
	if cap(*packet) <= maxKeptPacket {
		packets.Put(packet)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		serv.Options.Logger.Error("websocket: cannot answer a request", "conn", conn, "error", err)
	}
}
