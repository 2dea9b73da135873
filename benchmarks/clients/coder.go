package main

import (
	"context"

	"github.com/coder/websocket"
)

// coderConn is a connection as that library's own documentation has it.
type coderConn struct{ *websocket.Conn }

func dialCoder(url string, answered func(payload []byte) bool) (conn, error) {
	ctx := context.Background()
	c, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	c.SetReadLimit(-1)
	go func() {
		for {
			kind, payload, err := c.Read(ctx)
			if err != nil || answered(payload) && c.Write(ctx, kind, payload) != nil {
				return
			}
		}
	}()
	return coderConn{c}, nil
}

func (c coderConn) send(payload []byte) error {
	return c.Write(context.Background(), websocket.MessageBinary, payload)
}
func (c coderConn) end() { c.CloseNow() }
