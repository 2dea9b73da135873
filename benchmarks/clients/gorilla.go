package main

import (
	"sync"

	"github.com/gorilla/websocket"
)

// gorillaConn is a connection as that library's own documentation has it. One goroutine may write at a time, which is the program's
// business.
type gorillaConn struct {
	*websocket.Conn
	writes sync.Mutex
}

func dialGorilla(url string, answered func(payload []byte) bool) (conn, error) {
	dialed, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		return nil, err
	}
	c := &gorillaConn{Conn: dialed}
	go func() {
		for {
			_, payload, err := c.ReadMessage()
			if err != nil || answered(payload) && c.send(payload) != nil {
				return
			}
		}
	}()
	return c, nil
}

func (c *gorillaConn) send(payload []byte) error {
	c.writes.Lock()
	defer c.writes.Unlock()
	return c.WriteMessage(websocket.BinaryMessage, payload)
}

func (c *gorillaConn) end() { c.Close() }
