package main

import "github.com/wsloop/websocket"

// wsloopConn is a connection with this repository's package, at its defaults.
type wsloopConn struct{ *websocket.Client }

// dialWsloop gives payloads back, as gws has it too.
func dialWsloop(url string, answered func(payload []byte) bool) (conn, error) {
	return openWsloop(url, func(payload []byte, again func([]byte) error) (err error) {
		if answered(payload) {
			err = again(payload)
		}
		websocket.PutBuffer(payload)
		return err
	})
}

// dialWsloopKept leaves them to the garbage collector, as most programs do.
func dialWsloopKept(url string, answered func(payload []byte) bool) (conn, error) {
	return openWsloop(url, func(payload []byte, again func([]byte) error) error {
		if answered(payload) {
			return again(payload)
		}
		return nil
	})
}

func openWsloop(url string, handle func(payload []byte, again func([]byte) error) error) (conn, error) {
	cl := &websocket.Client{Endpoint: url}
	again := cl.SendBin
	cl.HandleBin = func(_ *websocket.Client, f *websocket.Frame) error { return handle(f.Payload(), again) }
	return wsloopConn{cl}, cl.Connect()
}

func (c wsloopConn) send(payload []byte) error { return c.SendBin(payload) }
func (c wsloopConn) end()                      { c.Quit() }
