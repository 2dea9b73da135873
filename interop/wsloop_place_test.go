package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	lifecycle "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

const (
	wsloopFile = "../examples/server/web/wsloop.js"

	// loopAnswer is how many messages of a topic a server of these tests has in one answer, and loopStep is between their numbers.
	loopAnswer = 5
	loopStep   = 3

	loopLarge = 200_000 // bytes of a large answer
)

// loopServer is a server behind a frontend, for wsloop.js: with a topic that has numbers, as the module cluster gives them, and a page.
type loopServer struct {
	*frontend
	offers chan string   // Sec-WebSocket-Protocol of each handshake that had one
	never  chan struct{} // requests that are not answered
	goOn   chan struct{} // closed by the request "go"
	going  sync.Once

	mu      sync.Mutex
	server  *websocket.Server // that runs now, or was the last one; guarded by mu
	ended   chan error        // of its Serve; nil: it does not run; guarded by mu
	refusal int               // status for handshakes; 0: all are welcome; guarded by mu
	kept    []loopMessage     // of the topic; guarded by mu
	last    uint64            // its last number; guarded by mu
	dropped uint64            // the last number that is not kept; guarded by mu
}

// loopMessage has the form of cluster.ResumedMessage.
type loopMessage struct {
	Seq  uint64 `json:"seq"`
	Text string `json:"text"`
}

func startLoopServer(t *testing.T) *loopServer {
	t.Helper()
	s := &loopServer{frontend: startFrontend(t, nil), offers: make(chan string, inboxSize), never: make(chan struct{}, inboxSize), goOn: make(chan struct{})}
	s.serve(t)
	t.Cleanup(func() { s.stop(t) })
	return s
}

// serve starts a server, on a port of its own.
func (s *loopServer) serve(t *testing.T) {
	t.Helper()
	server := websocket.NewServer(&websocket.ServerOptions{
		ConnectPath: "/ws",
		Logger:      slog.New(slog.DiscardHandler),
		HandleAuth:  s.admit,
		HandleBin:   func(conn int, payload []byte) { websocket.SendBin(conn, payload) },
		Handler:     s.page(),
	})
	for target, handler := range map[string]websocket.RouteHandler{
		"POST /echo": func(_ context.Context, req *websocket.Request) websocket.Response { return done(req.Body) },
		"GET /large": func(context.Context, *websocket.Request) websocket.Response {
			return done(strings.Repeat("x", loopLarge))
		},
		"GET /never":               s.answerNever,
		"GET /wait":                s.answerWait,
		"GET /go":                  s.answerGo,
		"POST /topics/:topic":      s.subscribe,
		"GET /topics/:topic/since": s.since,
	} {
		method, path, _ := strings.Cut(target, " ")
		require.NoError(t, server.RegisterTextHandler(method, path, handler))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	s.mu.Lock()
	s.server, s.ended = server, ended
	s.mu.Unlock()
	s.leadTo(ln.Addr().String(), ln.Addr().String(), 0)
}

// stop stops the server, if it runs. A Stop that comes before Serve has begun does nothing.
func (s *loopServer) stop(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	server, ended := s.server, s.ended
	s.ended = nil
	s.mu.Unlock()
	for limit := time.Now().Add(deadline); ended != nil; {
		server.Stop()
		select {
		case err := <-ended:
			assert.NoError(t, err)
			return
		case <-time.After(10 * time.Millisecond):
			require.True(t, time.Now().Before(limit), "the server does not stop")
		}
	}
}

func (s *loopServer) restart(t *testing.T) {
	t.Helper()
	s.stop(t)
	s.serve(t)
}

func (s *loopServer) current() *websocket.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// page has the files of a page that loads wsloop.js, and says whether a handshake would be accepted.
func (s *loopServer) page() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>wsloop</title><script type="module">
			import * as wsloop from "/wsloop.js";
			globalThis.wsloop = wsloop;
			globalThis.page = {};
		</script>`)
	})
	mux.HandleFunc("GET /example", func(w http.ResponseWriter, _ *http.Request) {
		text, err := os.ReadFile("../BROWSERS.md")
		_, example, _ := strings.Cut(string(text), "```html\n")
		if example, _, ok := strings.Cut(example, "```\n"); err == nil && ok {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, example)
			return
		}
		http.Error(w, "BROWSERS.md has no example", http.StatusInternalServerError)
	})
	mux.HandleFunc("GET /wsloop.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, wsloopFile) })
	mux.HandleFunc("GET /admission", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		refusal := s.refusal
		s.mu.Unlock()
		if refusal == 0 {
			return
		}
		w.Header().Set("Retry-After", "60")
		http.Error(w, "refused", refusal)
	})
	return mux
}

func (s *loopServer) admit(req *websocket.Handshake) (context.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal != 0 {
		return nil, &websocket.HandshakeError{Status: s.refusal}
	}
	if len(req.Protocol) > 0 {
		s.offers <- string(req.Protocol)
		req.ResponseHeader.Set("Sec-WebSocket-Protocol", "chat")
	}
	return context.Background(), nil
}

// refuse has all handshakes refused with a status; 0: none.
func (s *loopServer) refuse(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = status
}

func done(body string) websocket.Response {
	return websocket.Response{Code: http.StatusOK, Message: http.StatusText(http.StatusOK), Body: body}
}

func refused(status int32) websocket.Response {
	return websocket.Response{Code: status, Message: http.StatusText(int(status))}
}

func (s *loopServer) answerNever(_ context.Context, req *websocket.Request) websocket.Response {
	s.never <- struct{}{}
	<-websocket.Done(req.Conn)
	return done("")
}

// awaitNever waits for requests that are not answered.
func (s *loopServer) awaitNever(t *testing.T, count int) {
	t.Helper()
	for range count {
		within(t, s.never)
	}
}

func (s *loopServer) answerWait(context.Context, *websocket.Request) websocket.Response {
	<-s.goOn
	return done("")
}

func (s *loopServer) answerGo(context.Context, *websocket.Request) websocket.Response {
	time.AfterFunc(50*time.Millisecond, func() { s.going.Do(func() { close(s.goOn) }) }) // after this answer
	return done("")
}

func (s *loopServer) subscribe(_ context.Context, req *websocket.Request) websocket.Response {
	if err := s.current().Clients.Subscribe(req.Conn, req.Params["topic"]); err != nil {
		return refused(http.StatusBadRequest)
	}
	return done("")
}

// publish sends a message to the subscribers, and keeps it.
func (s *loopServer) publish(t *testing.T, body string) {
	t.Helper()
	res := s.keep(t, body)
	packet, err := json.Marshal(&res)
	require.NoError(t, err)
	s.current().Clients.Publish("news", websocket.NewFrameText(false, packet))
}

// lose keeps a message that subscribers do not get.
func (s *loopServer) lose(t *testing.T, body string) {
	t.Helper()
	s.keep(t, body)
}

func (s *loopServer) keep(t *testing.T, body string) websocket.Response {
	t.Helper()
	res := websocket.Response{Message: "news", Body: body}
	text, err := json.Marshal(&res)
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	res.Prev, res.Seq = s.last, s.last+loopStep
	s.last = res.Seq
	s.kept = append(s.kept, loopMessage{res.Seq, string(text)})
	return res
}

// forget keeps nothing any more of what was published.
func (s *loopServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept, s.dropped = nil, s.last
}

// since answers as the route of cluster's Node.RegisterResume does.
func (s *loopServer) since(_ context.Context, req *websocket.Request) websocket.Response {
	if !slices.Contains(s.current().Clients.Subscribers(req.Params["topic"]), req.Conn) {
		return refused(http.StatusForbidden)
	}
	seq, err := strconv.ParseUint(req.Query.Get("seq"), 10, 64)
	if err != nil {
		return refused(http.StatusBadRequest)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := []loopMessage{} // and not null
	for _, m := range s.kept {
		if m.Seq > seq {
			rest = append(rest, m)
		}
	}
	body, err := json.Marshal(map[string]any{
		"complete": seq == 0 || seq >= s.dropped,
		"more":     len(rest) >= loopAnswer,
		"messages": rest[:min(len(rest), loopAnswer)],
	})
	if err != nil {
		return refused(http.StatusInternalServerError)
	}
	return done(string(body))
}

// loopPage is a place where scripts use wsloop.js: a tab, or a part of Node. They keep what they need in the object "page".
type loopPage struct {
	eval func(script string) (value json.RawMessage, err error) // of the body of an async function
	tab  *loopTab                                               // nil in Node
}

// open makes the page ready for scripts. It ends with its client.
func (p *loopPage) open(t *testing.T, url string) *loopPage {
	t.Helper()
	p.run(t, fmt.Sprintf(`page.url = %q + "/"`, url))
	t.Cleanup(func() { p.run(t, `if (typeof page !== "undefined") page.client?.close()`) }) // another page has none
	return p
}

// start starts a client, with the options, and those that the page has.
func (p *loopPage) start(t *testing.T, options string) {
	t.Helper()
	p.run(t, `page.errors = [];
		page.states = [];
		page.client = new wsloop.Client(new URL("ws", page.url), { onerror: (error) => page.errors.push(error), ...page.options, `+options+` });
		page.client.onState(({ name }) => page.states.push(name));`)
}

func (p *loopPage) run(t *testing.T, script string) {
	t.Helper()
	_, err := p.eval(script)
	require.NoError(t, err, script)
}

// expect waits until an expression, or what it promises, has a value.
func (p *loopPage) expect(t *testing.T, expression string, want any) {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	require.NoError(t, encoder.Encode(want))
	got, err := p.eval(fmt.Sprintf(`
		const end = performance.now() + %d;
		for (;;) {
			const value = JSON.stringify(await (%s)) ?? "undefined";
			if (value === %q || performance.now() > end) return value;
			await new Promise((resolve) => setTimeout(resolve, 20));
		}`, deadline.Milliseconds(), expression, strings.TrimSpace(text.String())))
	require.NoError(t, err, expression)
	var value string
	require.NoError(t, json.Unmarshal(got, &value))
	require.Equal(t, strings.TrimSpace(text.String()), value, expression)
}

func (p *loopPage) number(t *testing.T, expression string) (value float64) {
	t.Helper()
	got, err := p.eval("return " + expression)
	require.NoError(t, err, expression)
	require.NoError(t, json.Unmarshal(got, &value), expression)
	return value
}

// openChromium starts a browser, and returns what opens a tab with the page at an address.
func openChromium(t *testing.T) func(t *testing.T, url string) *loopPage {
	first := openTab(t, startBrowser(t))
	return func(t *testing.T, url string) *loopPage {
		t.Helper()
		tab := &loopTab{openTab(t, first)}
		tab.open(t, url+"/")
		return (&loopPage{eval: tab.eval, tab: tab}).open(t, url)
	}
}

// loopTab is a tab with a page.
type loopTab struct{ ctx context.Context }

// open opens a page, and waits for it. Its script has run then.
func (tab *loopTab) open(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, deadline)
	defer cancel()
	require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(url)))
}

func (tab *loopTab) eval(script string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(tab.ctx, 2*deadline)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[string](`(async () => {`+script+`
	})().then((value) => JSON.stringify(value) ?? "null")`, chromedp.EvalAwaitPromise))
	return json.RawMessage(value), err
}

// setOffline has the browser tell the page that the network is away, or back.
func (tab *loopTab) setOffline(t *testing.T, offline bool) {
	t.Helper()
	_, err := chromedp.Call(tab.ctx, network.OverrideNetworkState,
		network.OverrideNetworkStateParams{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1})
	require.NoError(t, err)
}

// setFrozen stops all of the page, its timers and its messages too, or lets it go on.
func (tab *loopTab) setFrozen(t *testing.T, frozen bool) {
	t.Helper()
	state := lifecycle.SetWebLifecycleStateStateActive
	if frozen {
		state = lifecycle.SetWebLifecycleStateStateFrozen
	}
	_, err := chromedp.Call(tab.ctx, lifecycle.SetWebLifecycleState, lifecycle.SetWebLifecycleStateParams{State: state})
	require.NoError(t, err)
}

// scriptNode is a process of Node that runs scripts, see node/script.mjs.
type scriptNode struct {
	mu      sync.Mutex
	in      *json.Encoder               // guarded by mu
	lastID  int                         // guarded by mu
	waiting map[int]chan<- scriptAnswer // by id; guarded by mu
}

type scriptAnswer struct {
	ID    int             `json:"id"`
	Value json.RawMessage `json:"value"`
	Error string          `json:"error"`
}

// openNode starts Node, and returns what makes a place in it. When the test ends it must end too, by itself: whatever a client leaves behind
// would keep it.
func openNode(t *testing.T) func(t *testing.T, url string) *loopPage {
	t.Helper()
	cmd := exec.Command("node", append(builtInFlags(t), "script.mjs")...)
	cmd.Dir = "node"
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	n := &scriptNode{in: json.NewEncoder(in), waiting: make(map[int]chan<- scriptAnswer)}
	ended := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n.take(lines.Bytes())
		}
		ended <- cmd.Wait()
	}()
	t.Cleanup(func() {
		in.Close()
		select {
		case err := <-ended:
			assert.NoError(t, err, "node")
		case <-time.After(deadline):
			cmd.Process.Kill()
			t.Error("node did not end before the deadline")
		}
	})
	return func(t *testing.T, url string) *loopPage {
		t.Helper()
		return (&loopPage{eval: func(script string) (json.RawMessage, error) { return n.eval(t.Name(), script) }}).open(t, url)
	}
}

func (n *scriptNode) take(line []byte) {
	var answer scriptAnswer
	if err := json.Unmarshal(line, &answer); err != nil {
		answer.Error = fmt.Sprintf("%q is no answer", line)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if waiting := n.waiting[answer.ID]; waiting != nil {
		waiting <- answer
	}
}

func (n *scriptNode) eval(place, script string) (json.RawMessage, error) {
	answer := make(chan scriptAnswer, 1)
	n.mu.Lock()
	n.lastID++
	id := n.lastID
	n.waiting[id] = answer
	err := n.in.Encode(map[string]any{"id": id, "place": place, "script": script})
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case got := <-answer:
		if got.Error != "" {
			return nil, errors.New(got.Error)
		}
		return got.Value, nil
	case <-time.After(2 * deadline):
		return nil, errors.New("node does not answer")
	}
}
