//go:build unix

// The program is written for github.com/shuLhan/share/lib/websocket v0.41.3 and knows nothing of another package; nor does its
// go.mod, until one of the ways to switch in MIGRATING.md has put another in the place of that. It uses every exported declaration of
// the documented API, checks what comes of it, and prints "ok".
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"syscall"
	"time"

	"github.com/shuLhan/share/lib/websocket"
)

// deadline is how long the program waits for anything.
const deadline = 20 * time.Second

func main() {
	log.SetFlags(log.Lshortfile)
	checkCodes()
	checkErrors()
	checkFrames()
	checkSockets()
	checkRoutes()

	events := make(chan string, 100)
	serv := newServer(events)
	stopped := make(chan error, 1)
	go func() { stopped <- serv.Start() }()
	checkHTTP(serv)
	checkClients(serv, events)
	serv.Stop()
	must(await(stopped))
	fmt.Println("ok")
}

// must ends the program if something failed.
func must(err error) {
	if err != nil {
		log.Output(2, err.Error())
		log.Fatal("failed")
	}
}

// same ends the program if two values differ.
func same[T comparable](got, want T) {
	if got != want {
		log.Output(2, fmt.Sprintf("got %v, want %v", got, want))
		log.Fatal("failed")
	}
}

// await receives what should come.
func await[T any](ch <-chan T) (value T) {
	select {
	case value = <-ch:
	case <-time.After(deadline):
		log.Output(2, "nothing came")
		log.Fatal("failed")
	}
	return value
}

// checkCodes checks the values of the constants, and their kinds: StatusNormal has the type CloseCode, the other codes are
// untyped.
func checkCodes() {
	normal, gone := websocket.StatusNormal, websocket.StatusGone
	var code *websocket.CloseCode = &normal
	var number *int = &gone
	same(*code, 1000)
	same(*number, 1001)
	for want, got := range map[int]int{
		1002: websocket.StatusBadRequest,
		1003: websocket.StatusUnsupportedType,
		1007: websocket.StatusInvalidData,
		1008: websocket.StatusForbidden,
		1009: websocket.StatusRequestEntityTooLarge,
		1010: websocket.StatusBadGateway,
		1011: websocket.StatusInternalError,
	} {
		same(got, want)
	}
	for i, opcode := range []websocket.Opcode{
		websocket.OpcodeCont, websocket.OpcodeText, websocket.OpcodeBin, websocket.OpcodeDataRsv3,
		websocket.OpcodeDataRsv4, websocket.OpcodeDataRsv5, websocket.OpcodeDataRsv6, websocket.OpcodeDataRsv7,
		websocket.OpcodeClose, websocket.OpcodePing, websocket.OpcodePong, websocket.OpcodeControlRsvB,
		websocket.OpcodeControlRsvC, websocket.OpcodeControlRsvD, websocket.OpcodeControlRsvE, websocket.OpcodeControlRsvF,
	} {
		same(int(opcode), i)
	}
	for i, key := range []websocket.ContextKey{
		websocket.CtxKeyExternalJWT, websocket.CtxKeyInternalJWT, websocket.CtxKeyUID,
	} {
		same(int(key), 1<<i)
	}
}

// checkErrors checks the texts of the errors, which clients read in the status line.
func checkErrors() {
	for text, err := range map[string]error{
		"bad request": websocket.ErrBadRequest,
		"bad request: length is less than minimum":        websocket.ErrRequestLength,
		"bad request: header length is less than minimum": websocket.ErrRequestHeaderLength,
		"invalid HTTP method":                             websocket.ErrInvalidHTTPMethod,
		"invalid HTTP version":                            websocket.ErrInvalidHTTPVersion,
		"invalid Upgrade header":                          websocket.ErrInvalidHeaderUpgrade,
		"invalid Header format":                           websocket.ErrInvalidHeaderFormat,
		"invalid Host header":                             websocket.ErrInvalidHeaderHost,
		"invalid Sec-Websocket-Key header":                websocket.ErrInvalidHeaderWSKey,
		"invalid Sec-Websocket-Version header":            websocket.ErrInvalidHeaderWSVersion,
		"invalid Sec-Websocket-Extensions header":         websocket.ErrInvalidHeaderWSExtensions,
		"invalid Sec-Websocket-Protocol header":           websocket.ErrInvalidHeaderWSProtocol,
		"invalid Connection header":                       websocket.ErrInvalidHeaderConn,
		"missing required headers":                        websocket.ErrMissingRequiredHeader,
		"unsupported Sec-WebSocket-Version":               websocket.ErrUnsupportedWSVersion,
		"invalid method":                                  websocket.ErrRouteInvMethod,
		"invalid target":                                  websocket.ErrRouteInvTarget,
		"duplicate parameter on route":                    websocket.ErrRouteDupParam,
		"websocket: client is not connected":              websocket.ErrConnClosed,
	} {
		same(err.Error(), text)
	}
}

// checkFrames makes frames and looks at their bytes.
func checkFrames() {
	hello := []byte("hello")
	same(string(websocket.NewFrame(websocket.OpcodeBin, false, hello)), "\x82\x05hello")
	same(string(websocket.NewFrameBin(false, hello)), "\x82\x05hello")
	same(string(websocket.NewFrameText(false, hello)), "\x81\x05hello")
	same(string(websocket.NewFramePing(false, hello)), "\x89\x05hello")
	same(string(websocket.NewFramePong(false, hello)), "\x8A\x05hello")
	same(string(websocket.NewFrameClose(false, 0, hello)), "\x88\x07\x03\xE8hello")
	same(len(websocket.NewFrameText(true, hello)), 11)
	packet, err := websocket.NewBroadcast("news", "today")
	must(err)
	var res websocket.Response
	must(json.Unmarshal(packet[2:], &res))
	same(res, websocket.Response{Message: "news", Body: "today"})

	var frames *websocket.Frames = websocket.Unpack(websocket.NewFrameText(true, hello))
	same(frames.Opcode(), websocket.OpcodeText)
	same(websocket.Unpack(nil), nil)
	var frame websocket.Frame
	same(frame.IsData(), false)
	same(frame.Opcode(), websocket.OpcodeCont)
	same(len(frame.Payload()), 0)
	frames = new(websocket.Frames)
	frames.Append(&frame)
	same(frames.Opcode(), websocket.OpcodeCont)
}

// checkSockets sends and receives on descriptors of the program's own.
func checkSockets() {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	must(err)
	must(websocket.Send(pair[0], websocket.NewFrameText(false, []byte("raw"))))
	packet, err := websocket.Recv(pair[1])
	must(err)
	same(string(packet), "\x81\x03raw")
	must(syscall.Close(pair[0]))
	packet, err = websocket.Recv(pair[1])
	must(err)
	same(len(packet), 0)
	must(syscall.Close(pair[1]))
}

// checkRoutes registers handlers that are refused.
func checkRoutes() {
	serv := websocket.NewServer(nil)
	same(serv.Options.Address, ":80")
	same(serv.Options.ConnectPath, "/")
	same(serv.Options.StatusPath, "/status")
	var handler websocket.RouteHandler = func(context.Context, *websocket.Request) (res websocket.Response) { return res }
	same(errors.Is(serv.RegisterTextHandler("TRACE", "/a", handler), websocket.ErrRouteInvMethod), true)
	same(errors.Is(serv.RegisterTextHandler("GET", "a", handler), websocket.ErrRouteInvTarget), true)
	must(serv.RegisterTextHandler("GET", "/:a", handler))
	same(errors.Is(serv.RegisterTextHandler("GET", "/:b", handler), websocket.ErrRouteDupParam), true)
	serv.ClientRemove(1 << 20)
	serv.Stop()
}

// newServer makes a server that tells of its events, with an address that nobody listens on.
func newServer(events chan string) *websocket.Server {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	must(ln.Close())

	var serv *websocket.Server
	var auth websocket.HandlerAuthFn = func(req *websocket.Handshake) (context.Context, error) {
		var target *url.URL = req.URL
		var header http.Header = req.Header
		same(string(req.Host), ln.Addr().String())
		same(len(req.Key), 24)
		same(string(req.Extensions), "")
		same(string(req.Protocol), "")
		if header.Get("Authorization") == "" {
			return nil, errors.New("Missing authorization")
		}
		ctx := context.WithValue(context.Background(), websocket.CtxKeyUID, uint64(7))
		ctx = context.WithValue(ctx, websocket.CtxKeyExternalJWT, target.Query().Get("device"))
		return context.WithValue(ctx, websocket.CtxKeyInternalJWT, "internal"), nil
	}
	var add websocket.HandlerClientFn = func(ctx context.Context, conn int) {
		events <- fmt.Sprintf("add %v", ctx.Value(websocket.CtxKeyExternalJWT))
	}
	var remove websocket.HandlerClientFn = func(ctx context.Context, conn int) {
		_, ok := serv.Clients.Context(conn)
		events <- fmt.Sprintf("remove %v %v", ctx.Value(websocket.CtxKeyExternalJWT), ok)
	}
	var control websocket.HandlerFrameFn = func(conn int, frame *websocket.Frame) {}
	var bin websocket.HandlerPayloadFn = func(conn int, payload []byte) {
		must(websocket.Send(conn, websocket.NewFrameBin(false, payload)))
	}
	var status websocket.HandlerStatusFn = func() (contentType string, data []byte) {
		return "application/json", []byte(`{"ok":true}`)
	}
	serv = websocket.NewServer(&websocket.ServerOptions{
		Address:            ln.Addr().String(),
		ConnectPath:        "/ws",
		StatusPath:         "/health",
		HandleAuth:         auth,
		HandleClientAdd:    add,
		HandleClientRemove: remove,
		HandleRsvControl:   control,
		HandleText:         nil, // the router
		HandleBin:          bin,
		HandleStatus:       status,
	})
	serv.AllowReservedBits(false, false, false)
	must(serv.RegisterTextHandler(http.MethodPut, "/rooms/:room", func(ctx context.Context, req *websocket.Request) websocket.Response {
		same(req.Method, "PUT")
		same(req.Target, "/rooms/go?full=1")
		same(req.Path, "/rooms/go")
		same(req.Query.Get("full"), "1")
		same(req.ID, 42)
		same(slices.Contains(serv.Clients.All(), req.Conn), true)
		same(ctx.Value(websocket.CtxKeyInternalJWT), any("internal"))
		return websocket.Response{Code: http.StatusOK, Message: req.Params["room"], Body: req.Body, ID: 1}
	}))
	return serv
}

// checkHTTP waits for the server and asks for its status.
func checkHTTP(serv *websocket.Server) {
	var res *http.Response
	var err error
	for end := time.Now().Add(deadline); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if res, err = http.Get("http://" + serv.Options.Address + serv.Options.StatusPath); err == nil {
			break
		}
	}
	must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	must(err)
	same(string(body), `{"ok":true}`)
	same(res.Header.Get("Content-Type"), "application/json")
}

// device is a client and what it was sent.
type device struct {
	*websocket.Client
	got  chan string
	quit chan bool
}

func connect(serv *websocket.Server, name string) device {
	d := device{got: make(chan string, 10), quit: make(chan bool, 1)}
	var handler websocket.ClientHandler = func(cl *websocket.Client, frame *websocket.Frame) error {
		same(frame.IsData(), true)
		d.got <- fmt.Sprintf("%d %s", frame.Opcode(), frame.Payload())
		return nil
	}
	d.Client = &websocket.Client{
		Endpoint:         "ws://" + serv.Options.Address + serv.Options.ConnectPath + "?device=" + name,
		Headers:          http.Header{"Authorization": {"Bearer"}},
		TLSConfig:        nil,
		HandleBin:        handler,
		HandleText:       handler,
		HandleRsvControl: handler,
		HandleQuit:       func() { d.quit <- true },
		PingInterval:     time.Minute,
	}
	must(d.Connect())
	return d
}

// checkClients connects two devices of one user and lets them talk.
func checkClients(serv *websocket.Server, events <-chan string) {
	stranger := websocket.Client{Endpoint: "ws://" + serv.Options.Address + "/ws"}
	err := stranger.Connect()
	same(err != nil, true)
	same(errors.Is(stranger.SendText(nil), websocket.ErrConnClosed), true)

	phone := connect(serv, "phone")
	same(await(events), "add phone")
	tablet := connect(serv, "tablet")
	same(await(events), "add tablet")
	var clients *websocket.ClientManager = serv.Clients
	same(len(clients.All()), 2)
	same(len(clients.Conns(7)), 2)
	same(len(clients.Conns(8)), 0)
	ctx, ok := clients.Context(clients.Conns(7)[0])
	same(ok, true)
	same(ctx.Value(websocket.CtxKeyUID), any(uint64(7)))

	must(phone.SendBin([]byte("echo")))
	same(await(phone.got), "2 echo")
	must(phone.SendPing([]byte("ping")))
	must(phone.SendPong([]byte("pong")))

	request, err := json.Marshal(&websocket.Request{ID: 42, Method: http.MethodPut, Target: "/rooms/go?full=1", Body: "hello"})
	must(err)
	must(phone.SendText(request))
	same(await(phone.got), `1 {"message":"go","body":"hello","id":42,"code":200}`)

	packet, err := websocket.NewBroadcast("news", "today")
	must(err)
	for _, conn := range clients.Conns(7) {
		must(websocket.Send(conn, packet))
	}
	for _, d := range []device{phone, tablet} {
		same(await(d.got), `1 {"message":"news","body":"today","id":0,"code":0}`)
	}

	must(phone.Close())
	await(phone.quit)
	same(await(events), "remove phone true")
	same(errors.Is(phone.SendText(nil), websocket.ErrConnClosed), true)
	must(phone.Close())
	tablet.Quit()
	await(tablet.quit)
	same(await(events), "remove tablet true")

	last := connect(serv, "last")
	same(await(events), "add last")
	serv.ClientRemove(clients.All()[0])
	await(last.quit)
	same(await(events), "remove last true")
	same(binary.BigEndian.Uint16(websocket.NewFrameClose(false, websocket.StatusGone, nil)[2:]), websocket.StatusGone)
}
