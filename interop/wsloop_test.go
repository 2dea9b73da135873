package interop

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// TestWsloopByItself runs the tests of wsloop.js that need no network, and looks at its size and its types.
func TestWsloopByItself(t *testing.T) {
	t.Parallel()
	needNodeModules(t)
	if _, err := os.Stat("node/node_modules/esbuild"); err != nil {
		missing(t, "interop/node/node_modules is not the latest: npm ci")
	}
	cmd := exec.Command("node", "--test", "wsloop.test.mjs", "wsloop_package.test.mjs")
	cmd.Dir = "node"
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

var loopScenarios = map[string]func(t *testing.T, s *loopServer, p *loopPage){
	"requests, broadcasts and raw messages":        loopTalks,
	"a key in the subprotocol":                     loopShowsKey,
	"a dead network is noticed within ten seconds": loopNoticesDeadNetwork,
	"what came in a gap is fetched":                loopResumes,
	"a network that stalls for a moment is kept":   loopKeepsStalled,
	"a line that is slow":                          loopKeepsSlow,
	"a server that was started anew":               loopFindsServerAgain,
	"a refusal that is final":                      loopIsRefused,
	"a close code that is final":                   loopIsClosedForGood,
	"a refusal for now":                            loopIsPutOff,
	"a handshake that hangs":                       loopEndsHandshake,
	"an end while the network is dead":             loopEndsOnDeadNetwork,
}

// loopBrowserScenarios are for browsers alone: Node has no pages, and hears of no network.
var loopBrowserScenarios = map[string]func(t *testing.T, s *loopServer, p *loopPage){
	"a network that is back":           loopHearsOfNetwork,
	"a page that was frozen":           loopComesBackFromFreezing,
	"the example of the documentation": loopShowsExample,
}

// TestWsloop has wsloop.js talk to the server, in Node and in a browser, over a network that is not always there.
func TestWsloop(t *testing.T) {
	t.Parallel()
	places := map[string]func(t *testing.T) func(t *testing.T, url string) *loopPage{"node": openNode, "chromium": openChromium}
	atOnce(t, slices.Collect(maps.Keys(places)), func(t *testing.T, place string) {
		open := places[place](t)
		scenarios := maps.Clone(loopScenarios)
		if place == "chromium" {
			maps.Copy(scenarios, loopBrowserScenarios)
		}
		atOnce(t, slices.Collect(maps.Keys(scenarios)), func(t *testing.T, name string) {
			s := startLoopServer(t)
			scenarios[name](t, s, open(t, s.url))
		})
	})
}

// TestWsloopIsBusy lets the sign of life come while the program is too busy to hear it, for longer than that may take. Node then has the
// timer fire before it looks at what has come.
func TestWsloopIsBusy(t *testing.T) {
	t.Parallel()
	p := openNode(t)(t, startLoopServer(t).url)
	p.start(t, `heartbeat: 300, heartbeatTimeout: 300`)
	p.expect(t, `page.client.state.name`, "connected")
	p.run(t, `page.client.retry(); // which asks for it
		const end = performance.now() + 1500;
		while (performance.now() < end);`)
	p.run(t, `await new Promise((resolve) => setTimeout(resolve, 500))`)
	p.expect(t, `page.states`, []string{"connecting", "connected"})
}

// atOnce runs a subtest for each name, all at the same time: they do little but wait, and parallel ones would wait for each other.
func atOnce(t *testing.T, names []string, run func(t *testing.T, name string)) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, name := range names {
		all.Go(func() { t.Run(name, func(t *testing.T) { run(t, name) }) })
	}
}

func loopTalks(t *testing.T, s *loopServer, p *loopPage) {
	p.start(t, `heartbeat: 0`)
	p.expect(t, `page.client.state.name`, "connected")
	p.expect(t, `(async () => {
		const order = [];
		const note = (name) => (answer) => order.push(name + answer.code);
		await Promise.all([
			page.client.request("GET", "/wait").then(note("wait")),
			page.client.request("GET", "/go").then(note("go")),
		]);
		return order;
	})()`, []string{"go200", "wait200"})
	p.expect(t, `page.client.request("POST", "/echo", { body: { text: "Grüße <&> 😀" } }).then((answer) => answer.json().text)`, "Grüße <&> 😀")
	p.expect(t, `page.client.request("GET", "/nowhere?a=b").catch((e) => [e.kind, e.code, e.message])`, []any{"answer", 404, "GET /nowhere?a=b"})
	p.expect(t, `page.client.request("GET", "/never", { timeout: 20 }).catch((e) => [e.kind, e.sent])`, []any{"timeout", true})

	p.run(t, `page.heard = []; page.client.on("news", (message) => page.heard.push(message.body))`)
	p.expect(t, `page.client.request("POST", "/topics/news").then((answer) => answer.code)`, 200)
	s.publish(t, "one")
	s.publish(t, "two")
	p.expect(t, `page.heard`, []string{"one", "two"})

	p.run(t, `page.raw = []; page.client.onRaw((data) => page.raw.push(typeof data === "string" ? data : [...new Uint8Array(data)]));
		page.client.send(new Uint8Array([1, 2, 3]))`)
	p.expect(t, `page.raw`, [][]int{{1, 2, 3}})
	p.run(t, `page.client.send("no JSON")`)
	p.expect(t, `page.errors.map((e) => [e.kind, e.code])`, [][]any{{"answer", 400}})
	for _, text := range []string{"{", `{"id":"7"}`, "null", strings.Repeat("[", 1<<17)} {
		for _, conn := range s.current().Clients.All() {
			require.NoError(t, websocket.SendText(conn, []byte(text)))
		}
	}
	p.expect(t, `page.raw.slice(1).map((text) => text.length)`, []int{1, 10, 4, 1 << 17})
	p.expect(t, `page.client.state.name`, "connected")
}

func loopShowsKey(t *testing.T, s *loopServer, p *loopPage) {
	p.run(t, `let tries = 0; page.options = { protocols: async () => ["chat", "key." + ++tries] }`)
	p.start(t, ``)
	p.expect(t, `page.client.state.name`, "connected")
	assert.Equal(t, "chat, key.1", within(t, s.offers))
	s.cut()
	assert.Equal(t, "chat, key.2", within(t, s.offers))
	p.expect(t, `page.client.state.name`, "connected")
}

// loopNoticesDeadNetwork takes the default times. On a machine where timers are late the client is more patient, so that is measured too.
func loopNoticesDeadNetwork(t *testing.T, s *loopServer, p *loopPage) {
	p.start(t, ``)
	p.run(t, `page.client.on("news", () => (page.last = performance.now()));
		page.client.onState(({ name }) => name === "waiting" && (page.noticed ??= performance.now()))`)
	p.expect(t, `page.client.request("POST", "/topics/news").then((answer) => answer.code)`, 200)
	s.publish(t, "the last word")
	p.expect(t, `page.last > 0`, true)
	s.die()
	p.run(t, `page.lag = 0;
		let before = performance.now();
		page.ticking = setInterval(() => {
			page.lag = Math.max(page.lag, performance.now() - before - 50);
			before = performance.now();
		}, 50);
		page.answer = page.client.request("POST", "/echo", { timeout: Infinity }).catch((e) => [e.kind, e.sent, e.cause.kind])`)
	p.expect(t, `page.noticed > 0`, true)
	p.expect(t, `page.answer`, []any{"lost", true, "silent"})
	took, lag := p.number(t, `page.noticed - page.last`), p.number(t, `page.lag`)
	t.Logf("noticed after %.1f s, timers up to %.0f ms late", took/1000, lag)
	if lag < 500 {
		assert.Less(t, took, 10_000.)
	}
	p.run(t, `clearInterval(page.ticking)`)
	s.revive()
	p.expect(t, `page.client.request("POST", "/echo", { body: "back" }).then((answer) => answer.body)`, "back")
}

// loopResumption is a script that has the client fetch what it has missed.
const loopResumption = `page.complete = []; page.options = {
	track: (message) => message.message,
	resume: async ({ request, since }) => {
		await request("POST", "/topics/news");
		page.complete.push(await since("/topics/news/since", "news"));
	},
}`

// loopResumes loses connections in three ways while messages are published.
func loopResumes(t *testing.T, s *loopServer, p *loopPage) {
	p.run(t, `page.heard = []; `+loopResumption)
	p.start(t, `heartbeat: 200, heartbeatTimeout: 300, spread: 500, maxDelay: 500`)
	p.run(t, `page.client.on("news", (message) => page.heard.push(message.body))`)
	p.expect(t, `page.client.state.name`, "connected")
	var said []string
	say := func(count int) {
		for range count {
			said = append(said, fmt.Sprint("message ", len(said)))
			s.publish(t, said[len(said)-1])
		}
	}
	say(3)
	p.expect(t, `page.heard`, said)
	for _, lose := range []func(){s.die, s.cut, func() { s.restart(t) }} {
		lose()
		say(7) // more than one answer has
		s.revive()
		p.expect(t, `page.heard`, said)
		say(1)
		p.expect(t, `page.heard`, said)
	}
	s.lose(t, "the client learns of this one by the next one's number")
	said = append(said, "the client learns of this one by the next one's number")
	say(2)
	p.expect(t, `page.heard`, said)
	p.expect(t, `page.complete.every((complete) => complete)`, true)

	s.die()
	p.expect(t, `page.client.state.name === "connected"`, false)
	say(1)
	s.forget()
	s.revive()
	p.expect(t, `page.client.state.name`, "connected")
	p.expect(t, `page.complete.at(-1)`, false)
}

func loopKeepsStalled(t *testing.T, s *loopServer, p *loopPage) {
	p.start(t, `heartbeat: 50, heartbeatTimeout: 20000`)
	p.expect(t, `page.client.state.name`, "connected")
	for _, way := range []*gate{s.up, s.down} {
		way.shut()
		p.run(t, `page.answer = page.client.request("POST", "/echo", { body: "late" })`)
		p.run(t, `await new Promise((resolve) => setTimeout(resolve, 200))`) // so that it has asked for a sign of life
		way.open()
		p.expect(t, `page.answer.then((answer) => answer.body)`, "late")
	}
	p.expect(t, `page.states`, []string{"connecting", "connected"})
}

// loopKeepsSlow sends a message that takes longer than a sign of life may: the client must not lose connection after connection over it.
func loopKeepsSlow(t *testing.T, s *loopServer, p *loopPage) {
	s.mu.Lock()
	address := s.ws
	s.mu.Unlock()
	slow := startRelay(t, address, link{down: 256 << 10})
	s.leadTo(address, slow.address, 0)
	p.start(t, `heartbeat: 100, heartbeatTimeout: 200, maxDelay: 100`)
	p.expect(t, `page.client.request("GET", "/large", { idempotent: true, timeout: Infinity }).then((answer) => answer.body.length)`, loopLarge)
	p.run(t, `page.client.close()`)
}

func loopFindsServerAgain(t *testing.T, s *loopServer, p *loopPage) {
	p.start(t, `spread: 1000`)
	p.expect(t, `page.client.state.name`, "connected")
	p.run(t, `page.once = page.client.request("GET", "/never", { timeout: Infinity }).catch((e) => [e.kind, e.sent, e.code]);
		page.again = page.client.request("GET", "/never", { timeout: Infinity, idempotent: true });
		page.client.onState(({ name, next, error }) => name === "waiting" && (page.told ??= [error.kind, error.code, next > Date.now()]))`)
	s.awaitNever(t, 2)
	s.stop(t)
	p.expect(t, `page.once`, []any{"lost", true, websocket.StatusGone})
	p.expect(t, `page.told`, []any{"lost", websocket.StatusGone, true})
	p.run(t, `page.meanwhile = page.client.request("POST", "/echo", { body: "meanwhile" })`)
	p.expect(t, `page.client.state.failures > 1`, true)
	s.serve(t)
	p.expect(t, `page.meanwhile.then((answer) => answer.body)`, "meanwhile")
	s.awaitNever(t, 1)
	p.run(t, `page.again.catch((e) => (page.end = [e.kind, e.sent])); page.client.close()`)
	p.expect(t, `page.end`, []any{"closed", true})
}

func loopIsRefused(t *testing.T, s *loopServer, p *loopPage) {
	p.run(t, `page.options = { admission: new URL("/admission", page.url) }`)
	p.start(t, ``)
	p.expect(t, `page.client.state.name`, "connected")
	s.refuse(http.StatusUnauthorized)
	s.cut()
	p.expect(t, `[page.client.state.name, page.client.state.error?.kind, page.client.state.error?.code]`, []any{"ended", "refused", 401})
	p.expect(t, `page.client.state.error.admission.text()`, "refused\n")
	p.expect(t, `page.client.request("GET", "/").catch((e) => [e.kind, e.code])`, []any{"closed", 401})
	s.refuse(0)
	p.run(t, `page.client.retry()`)
	p.expect(t, `page.client.state.name`, "connected")
}

func loopIsClosedForGood(t *testing.T, s *loopServer, p *loopPage) {
	p.start(t, `final: [4001]`)
	for _, step := range []struct {
		code websocket.CloseCode
		want []any
	}{
		{4000, []any{"connected"}}, // again
		{4001, []any{"ended", "lost", 4001, "revoked"}},
	} {
		p.expect(t, `page.client.state.name`, "connected")
		p.expect(t, `page.client.request("POST", "/echo").then((answer) => answer.code)`, 200) // the server has it
		for _, conn := range s.current().Clients.All() {
			require.NoError(t, s.current().Clients.Close(conn, step.code, "revoked"))
		}
		p.expect(t, `page.states.length > 2`, true)
		p.expect(t, `[page.client.state].flatMap(({ name, error }) => (error ? [name, error.kind, error.code, error.reason] : [name]))`, step.want)
	}
}

func loopIsPutOff(t *testing.T, s *loopServer, p *loopPage) {
	s.refuse(http.StatusServiceUnavailable)
	p.run(t, `page.options = { admission: () => fetch(new URL("/admission", page.url)) }`)
	p.start(t, ``)
	p.expect(t, `page.client.state.next - Date.now() > 50000`, true) // the server says a minute
	p.expect(t, `[page.client.state.name, page.client.state.error.code]`, []any{"waiting", 503})
	s.refuse(0)
	p.run(t, `page.client.retry()`)
	p.expect(t, `page.client.state.name`, "connected")
}

func loopEndsHandshake(t *testing.T, s *loopServer, p *loopPage) {
	s.die()
	p.start(t, `connectTimeout: 300`)
	p.expect(t, `page.client.state.error?.kind`, "timeout")
	s.revive()
	p.expect(t, `page.client.state.name`, "connected")
}

// loopHearsOfNetwork has the browser tell the page that the network was away, while a try is far off.
func loopHearsOfNetwork(t *testing.T, s *loopServer, p *loopPage) {
	p.start(t, `spread: 1e9`)
	p.expect(t, `page.client.state.name`, "connected")
	s.stop(t)
	p.expect(t, `page.client.state.next - Date.now() > 30000`, true)
	s.serve(t)
	p.tab.setOffline(t, true)
	p.expect(t, `page.client.state.name`, "waiting")
	p.tab.setOffline(t, false)
	p.expect(t, `page.client.state.name`, "connected")
}

// loopComesBackFromFreezing freezes the page, as browsers do in the background: its connection is lost with that.
func loopComesBackFromFreezing(t *testing.T, s *loopServer, p *loopPage) {
	p.run(t, loopResumption)
	p.start(t, ``)
	p.run(t, `page.heard = []; page.client.on("news", (message) => page.heard.push(message.body))`)
	p.expect(t, `page.client.state.name`, "connected")
	p.tab.setFrozen(t, true)
	s.publish(t, "meanwhile")
	p.tab.setFrozen(t, false)
	p.expect(t, `page.heard`, []string{"meanwhile"})
}

// loopShowsExample uses the page of BROWSERS.md.
func loopShowsExample(t *testing.T, s *loopServer, p *loopPage) {
	p.tab.open(t, s.url+"/example")
	const news, note, state = `[...document.querySelectorAll("li")].map((item) => item.textContent)`, `document.querySelector("#note").textContent`,
		`document.querySelector("#state").textContent`
	p.expect(t, note, "hello")
	s.publish(t, "one")
	p.expect(t, news, []string{"one"})
	s.stop(t)
	p.expect(t, state+`.includes("Next try in")`, true)
	s.publish(t, "two")
	s.serve(t)
	p.run(t, `document.querySelector("#retry").click()`)
	p.expect(t, news, []string{"one", "two"})
	s.publish(t, "three")
	p.expect(t, news, []string{"one", "two", "three"})
	s.refuse(http.StatusForbidden)
	s.cut()
	p.expect(t, state, "ended 403")
}

func loopEndsOnDeadNetwork(t *testing.T, s *loopServer, p *loopPage) {
	p.start(t, ``)
	p.expect(t, `page.client.state.name`, "connected")
	s.die()
	p.run(t, `page.answer = page.client.request("POST", "/echo").catch((e) => [e.kind, e.sent]); page.client.close()`)
	p.expect(t, `page.answer`, []any{"closed", true})
	p.expect(t, `page.client.state.name`, "ended")
	p.start(t, ``) // and never connects
	p.run(t, `page.client.close()`)
	p.expect(t, `page.client.state.name`, "ended")
}
