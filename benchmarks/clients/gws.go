package main

import "github.com/lxzan/gws"

type gwsConn struct{ *gws.Conn }

type gwsHandler struct {
	gws.BuiltinEventHandler
	answered func(payload []byte) bool
}

func dialGws(url string, answered func(payload []byte) bool) (conn, error) {
	c, _, err := gws.NewClient(&gwsHandler{answered: answered}, &gws.ClientOption{Addr: url, CheckUtf8Enabled: true})
	if err != nil {
		return nil, err
	}
	go c.ReadLoop()
	return gwsConn{c}, nil
}

func (h *gwsHandler) OnMessage(c *gws.Conn, message *gws.Message) {
	defer message.Close()
	if h.answered(message.Bytes()) {
		c.WriteMessage(message.Opcode, message.Bytes())
	}
}

func (c gwsConn) send(payload []byte) error { return c.WriteMessage(gws.OpcodeBinary, payload) }
func (c gwsConn) end()                      { c.NetConn().Close() }
