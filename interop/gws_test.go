package interop

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	gwslib "github.com/lxzan/gws"
)

const gwsCan = fragments | choosesPing | showsControl | breaksText | showsEmpty | showsClose | closesWith | closesWithAny

var gws = peer{
	name:      "gws",
	serve:     serveGWS,
	serveCan:  gwsCan,
	client:    clientGWS,
	clientCan: gwsCan,
	secured:   []security{tls12AES, tls13AES},

	compressing:  compressingGWS,
	compressions: []compression{{takeover: true, bits: 15}, {takeover: true, bits: 9}, {bits: 15}},
}

func compressingGWS(c compression) peer {
	settings := gwslib.PermessageDeflate{
		Enabled:               true,
		Threshold:             1,
		ServerContextTakeover: c.takeover,
		ClientContextTakeover: c.takeover,
		ServerMaxWindowBits:   c.bits,
		ClientMaxWindowBits:   c.bits,
	}
	return peer{
		serve: func(t *testing.T, s security) (url string, accepted <-chan conn) {
			return startGWS(t, s, settings)
		},
		client: func(*testing.T, security) (dial func(url string, offer []string) (conn, error)) {
			return func(url string, _ []string) (conn, error) {
				option := gwsOption(url)
				option.PermessageDeflate = settings
				return dialGWS(option)
			}
		},
	}
}

func serveGWS(t *testing.T, s security) (url string, accepted <-chan conn) {
	return startGWS(t, s, gwslib.PermessageDeflate{})
}

func startGWS(t *testing.T, s security, settings gwslib.PermessageDeflate) (url string, accepted <-chan conn) {
	arrivals := make(chan conn, inboxSize)
	url = startHTTP(t, s, func(w http.ResponseWriter, r *http.Request) {
		option := &gwslib.ServerOption{ReadMaxPayloadSize: peerLimit, WriteMaxPayloadSize: 16 * limit, PermessageDeflate: settings}
		if r.Header.Get("Sec-WebSocket-Protocol") != "" {
			option.SubProtocols = []string{chosenProtocol}
		}
		c := &gwsConn{inbox: newInbox()}
		ws, err := gwslib.NewUpgrader(c, option).Upgrade(w, r)
		if err == nil {
			c.ws = ws
			arrivals <- c
			go ws.ReadLoop()
		}
	})
	return url, arrivals
}

func clientGWS(_ *testing.T, s security) (dial func(url string, offer []string) (conn, error)) {
	return func(url string, offer []string) (conn, error) {
		option := gwsOption(url)
		option.TlsConfig = s.client()
		if len(offer) > 0 {
			option.RequestHeader.Set("Sec-WebSocket-Protocol", strings.Join(offer, ", "))
		}
		return dialGWS(option)
	}
}

func dialGWS(option *gwslib.ClientOption) (conn, error) {
	c := &gwsConn{inbox: newInbox()}
	ws, _, err := gwslib.NewClient(c, option)
	return c.start(ws, err)
}

// earlyGWS connects with a packet right behind the request.
func earlyGWS(url string, packet []byte) (conn, error) {
	eager, err := dialEager(url, packet)
	if err != nil {
		return nil, err
	}
	c := &gwsConn{inbox: newInbox()}
	ws, _, err := gwslib.NewClientFromConn(c, gwsOption(url), eager)
	return c.start(ws, err)
}

func gwsOption(url string) *gwslib.ClientOption {
	return &gwslib.ClientOption{
		Addr:                url,
		HandshakeTimeout:    deadline,
		ReadMaxPayloadSize:  peerLimit,
		WriteMaxPayloadSize: 16 * limit,
		RequestHeader:       http.Header{},
	}
}

// gwsConn is a connection, and the handler of its events.
type gwsConn struct {
	inbox
	ws *gwslib.Conn
}

// start goes on with what connecting returned.
func (c *gwsConn) start(ws *gwslib.Conn, err error) (conn, error) {
	if err != nil {
		return nil, err
	}
	c.ws = ws
	go ws.ReadLoop()
	return c, nil
}

func (c *gwsConn) OnOpen(*gwslib.Conn) {}

func (c *gwsConn) OnClose(_ *gwslib.Conn, err error) {
	closeErr := (*gwslib.CloseError)(nil)
	switch {
	case !errors.As(err, &closeErr):
		c.putClosed(dropped, "")
	case closeErr.Code == 0:
		c.putClosed(noStatus, "")
	default:
		c.putClosed(int(closeErr.Code), string(closeErr.Reason))
	}
}

func (c *gwsConn) OnPing(ws *gwslib.Conn, payload []byte) {
	c.put(ping, payload)
	ws.WritePong(payload)
}

func (c *gwsConn) OnPong(_ *gwslib.Conn, payload []byte) { c.put(pong, payload) }

func (c *gwsConn) OnMessage(_ *gwslib.Conn, message *gwslib.Message) {
	defer message.Close()
	if message.Opcode == gwslib.OpcodeText {
		c.put(text, message.Bytes())
	} else {
		c.put(binary, message.Bytes())
	}
}

func gwsType(k kind) gwslib.Opcode {
	if k == text {
		return gwslib.OpcodeText
	}
	return gwslib.OpcodeBinary
}

func (c *gwsConn) subprotocol() string { return c.ws.SubProtocol() }

func (c *gwsConn) send(k kind, payload []byte) error {
	return c.ws.WriteMessage(gwsType(k), payload)
}

// sendParts sends frames of a size that the library chooses.
func (c *gwsConn) sendParts(k kind, parts, pings [][]byte) error {
	if len(pings) > 0 {
		return errUnable
	}
	return c.ws.WriteFile(gwsType(k), bytes.NewReader(bytes.Join(parts, nil)))
}

func (c *gwsConn) ping(payload []byte) error { return c.ws.WritePing(payload) }

func (c *gwsConn) close(code int, reason string) error {
	return c.ws.WriteClose(uint16(code), []byte(reason))
}

func (c *gwsConn) drop() { c.ws.NetConn().Close() }
