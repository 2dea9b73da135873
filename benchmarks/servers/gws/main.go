// Command gws is an echo server with github.com/lxzan/gws.
package main

import (
	"net"

	"github.com/lxzan/gws"
	"github.com/wsloop/websocket/benchmarks/internal/peer"
)

type handler struct {
	gws.BuiltinEventHandler
	conns peer.Set[*gws.Conn]
}

func main() {
	peer.Serve(func(addr string) error {
		serv := gws.NewServer(new(handler), &gws.ServerOption{
			CheckUtf8Enabled:   true,
			ReadMaxPayloadSize: peer.MaxMessageSize,
			PermessageDeflate:  compression(*peer.Deflate),
		})
		serv.OnError = func(c net.Conn, _ error) { // otherwise it logs, and leaves the connection to the garbage collector
			if c != nil {
				c.Close()
			}
		}
		return serv.RunListener(peer.Listen(addr))
	})
}

// compression returns what is switched on. With context the library's window is 4 KiB unless another one is asked for.
func compression(mode string) gws.PermessageDeflate {
	switch mode {
	case "context":
		return gws.PermessageDeflate{Enabled: true, ServerContextTakeover: true, ClientContextTakeover: true}
	case "context32k":
		return gws.PermessageDeflate{Enabled: true, ServerContextTakeover: true, ClientContextTakeover: true,
			ServerMaxWindowBits: 15, ClientMaxWindowBits: 15}
	}
	return gws.PermessageDeflate{}
}

func (h *handler) OnOpen(c *gws.Conn)           { h.conns.Add(c) }
func (h *handler) OnClose(c *gws.Conn, _ error) { h.conns.Remove(c) }

func (h *handler) OnMessage(c *gws.Conn, message *gws.Message) {
	defer message.Close()
	if message.Opcode == gws.OpcodeText {
		if peer.IsBroadcast(message.Bytes()) {
			h.broadcast(message.Bytes())
			return
		}
		if requested := peer.Requested(message.Bytes()); requested != nil {
			for _, m := range requested {
				c.WriteMessage(gws.OpcodeText, m)
			}
			return
		}
		peer.Sleep(message.Bytes())
	}
	c.WriteMessage(message.Opcode, message.Bytes())
}

func (h *handler) broadcast(payload []byte) {
	b := gws.NewBroadcaster(gws.OpcodeText, payload)
	defer b.Close()
	h.conns.Each(func(c *gws.Conn) { b.Broadcast(c) })
}
