package websocket

import (
	"errors"
	"net"
)

// handleRequest is the default HandleText. It keeps no reference to the payload, so a program that calls it may go on using it.
func (serv *Server) handleRequest(conn int, payload []byte) {
	ctx, ok := serv.Clients.Context(conn)
	if !ok {
		ctx = nil
	}
	res := serv.routes.Load().answer(ctx, conn, payload)
	answer := res.appendJSON(newBuffer(res.leastSize()))
	err := SendText(conn, answer)
	PutBuffer(answer)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		serv.Options.Logger.Error("websocket: cannot answer a request", "conn", conn, "error", err)
	}
}
