package interop

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// screenshotsVariable names a folder for screenshots of what TestChat looks at.
const screenshotsVariable = "CHAT_SCREENSHOTS"

// chatLooks looks at the page on screens of all sizes, in both colour schemes: nothing sticks out, what matters is in view, and axe finds
// nothing serious.
func chatLooks(t *testing.T, c *chatTests) {
	axe := readAxe(t)
	server := runChat(t, c.program)
	alice := c.tab(t, "alice")
	alice.run(t, chromedp.Navigate(server.page), chromedp.WaitVisible(chromedp.CSS("#demo-users button")))
	alice.evaluate(t, axe)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 390} {
			alice.lookAt(t, "login", scheme, width, 800)
		}
	}
	alice.join(t, server.page)
	alice.evaluate(t, axe)
	bob, carol := server.join(t, "bob"), server.join(t, "carol")
	carol.say(t, "Good morning! Has anybody seen https://example.com/a/rather/long/address?with=parameters&that=go-on-and-on-and-on yet?")
	bob.say(t, "Not yet.")
	bob.say(t, "I will have a look at it after lunch, when there is more time to read all of it.")
	alice.enter(t, "It is worth it")
	alice.waitFor(t, "#log .mine", "Delivered")
	bob.whisper(t, "alice", "just between us")
	bob.ask(t, "PUT", "/rooms/book-club", "")
	carol.ask(t, "POST", "/rooms/lobby/typing", "")
	for i := range 4 {
		carol.say(t, fmt.Sprintf("Line %d of a longer conversation\nthat goes on for a while", i))
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 390, 320, 640, 2560} { // 640 is what 1280 become at a zoom of 200 %
			alice.lookAt(t, "chat", scheme, width, 700)
			alice.keepsLastInView(t)
		}
	}
	alice.resize(t, 390, 700)
	alice.openMenu(t)
	alice.lookAt(t, "menu", "dark", 390, 700)
	alice.lookAt(t, "menu", "light", 390, 700)
	alice.open(t, "@bob")
	alice.enter(t, "I will keep it to myself")
	alice.waitFor(t, "#log .mine", "Delivered")
	for _, scheme := range []string{"light", "dark"} {
		alice.lookAt(t, "private", scheme, 390, 700)
		alice.lookAt(t, "private", scheme, 1280, 700)
	}
	server.stop()
	alice.isLost(t)
	alice.enter(t, "are you still there?")
	alice.waitFor(t, "#log .pending", "Waiting")
	for _, scheme := range []string{"light", "dark"} {
		alice.lookAt(t, "lost", scheme, 1280, 700)
		alice.lookAt(t, "lost", scheme, 390, 700)
	}
}

func readAxe(t *testing.T) (script string) {
	t.Helper()
	needNodeModules(t)
	b, err := os.ReadFile("node/node_modules/axe-core/axe.min.js")
	require.NoError(t, err)
	return string(b)
}

// lookAt shows the page in a size and a colour scheme, and checks it. Motion is reduced: a picture has none.
func (tab *chatTab) lookAt(t *testing.T, what, scheme string, width, height int64) {
	t.Helper()
	tab.resize(t, width, height)
	_, err := chromedp.Call(tab.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme},
		{Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	require.NoError(t, err)
	tab.expect(t, `() => innerWidth`, width)
	tab.expect(t, `() => document.documentElement.scrollWidth <= innerWidth`, true)
	name := fmt.Sprintf("%s-%s-%d", what, scheme, width)
	if folder := os.Getenv(screenshotsVariable); folder != "" {
		require.NoError(t, tab.screenshot(filepath.Join(folder, name+".png")))
	}
	found, err := chromedp.Run(tab.ctx, chromedp.Evaluate[string](`axe.run({ resultTypes: ["violations"] }).then(({ violations }) => JSON.stringify(violations
		.filter(({ impact }) => impact === "serious" || impact === "critical")
		.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => html + " " + failureSummary)])))`, chromedp.EvalAwaitPromise))
	require.NoError(t, err)
	var serious []any
	require.NoError(t, json.Unmarshal([]byte(found), &serious))
	assert.Empty(t, serious, name)
}

// keepsLastInView requires that the last message is in view, also when the field grows.
func (tab *chatTab) keepsLastInView(t *testing.T) {
	t.Helper()
	const inView = `() => {
		const log = document.querySelector("#log").getBoundingClientRect();
		const last = [...document.querySelectorAll("#log .text")].at(-1).getBoundingClientRect();
		return last.bottom <= log.bottom + 1 && last.top >= log.top;
	}`
	field := func(value, condition string) {
		tab.evaluate(t, `const text = document.querySelector("#text"); text.value = "`+value+`"; text.dispatchEvent(new Event("input"))`)
		tab.expect(t, `() => document.querySelector("#text").clientHeight `+condition, true)
		tab.expect(t, inView, true)
	}
	field(`a\na\na\na\na\na\na\na\na`, "> 150")
	field("", "< 60")
}
