package main

import "github.com/wsloop/websocket"

// wsloopConn is a connection with this repository's package, at its defaults. Payloads are given back, as gws has it too.
type wsloopConn struct{ *websocket.Client }

func dialWsloop(url string, answered func(payload []byte) bool) (conn, error) {
	cl := &websocket.Client{Endpoint: url, HandleBin: func(cl *websocket.Client, f *websocket.Frame) (err error) {
		if answered(f.Payload()) {
			err = cl.SendBin(f.Payload())
		}
		websocket.PutBuffer(f.Payload())
		return err
	}}
	return wsloopConn{cl}, cl.Connect()
}

func (c wsloopConn) send(payload []byte) error { return c.SendBin(payload) }
func (c wsloopConn) end()                      { c.Quit() }
