package interop

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// badLine is the chat behind a frontend, and somebody on the other side of it.
type badLine struct {
	*frontend
	program string
	server  *chatServer
	alice   *chatTab
}

// badLine runs the chat behind a frontend and opens a window.
func (c *chatTests) badLine(t *testing.T, delay time.Duration) *badLine {
	t.Helper()
	l := &badLine{frontend: startFrontend(t, nil), program: c.program}
	l.run(t, delay)
	l.alice = c.tab(t, "alice")
	return l
}

// run starts the server, or another one in its place.
func (l *badLine) run(t *testing.T, delay time.Duration, args ...string) {
	t.Helper()
	l.server = runChat(t, l.program, append(args, "-public-url", l.url)...)
	l.leadTo(hostOf(t, l.server.page), hostOf(t, l.server.ws), delay)
}

// chatOverASlowLine has two people type faster than any answer comes, over a line that is slow, is lost, and stalls.
func chatOverASlowLine(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	bob := c.tab(t, "bob")
	l.alice.join(t, l.url)
	bob.join(t, l.url)
	l.leadTo(hostOf(t, l.server.page), hostOf(t, l.server.ws), 500*time.Millisecond)
	l.cut()
	l.alice.isLost(t)
	l.alice.isConnected(t)
	bob.isConnected(t)

	typed := func(text string) chromedp.Action[chromedp.Void] { return chromedp.KeyEvent(text) }
	l.alice.run(t, typed("hi"), pressEnter, typed("how are you"), pressEnter, typed("still typing"))
	l.alice.shows(t, "hi", "how are you")
	l.alice.expect(t, `() => document.querySelectorAll("#log .pending").length`, 2)
	bob.waitFor(t, "#typing", "alice is writing")
	bob.shows(t, "hi", "how are you")
	bob.enter(t, "well")
	l.alice.shows(t, "hi", "how are you", "well")
	l.alice.holdsBack(t, ".pending")
	l.alice.expect(t, `() => document.querySelector("#text").value`, "still typing")
	l.alice.expect(t, `() => document.querySelectorAll("#log .mine").length`, 2)

	l.down.shut() // it stalls
	l.alice.run(t, pressEnter)
	l.alice.waitFor(t, ".pending", "still typing")
	bob.enter(t, "what?")
	bob.waitFor(t, ".pending", "what?")
	l.down.open()
	for _, tab := range []*chatTab{l.alice, bob} {
		tab.waitFor(t, "#log .text", "still typing")
		tab.waitFor(t, "#log .text", "what?")
		tab.holdsBack(t, ".pending")
		tab.expect(t, `() => document.querySelectorAll("#log .message").length`, 5)
	}
}

func chatShowsBeforeAnswer(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	bob := l.server.join(t, "bob")
	l.alice.join(t, l.url)

	l.down.shut()
	l.alice.enter(t, "one")
	l.alice.enter(t, "two")
	bob.hears(t, "one")
	bob.say(t, "between")
	l.alice.waitFor(t, ".pending", "Sending…")
	l.alice.shows(t, "one", "two")
	l.down.open()
	bob.hears(t, "between", "two")
	l.alice.shows(t, "one", "between", "two")
	l.alice.holdsBack(t, ".pending")
	l.alice.waitFor(t, "#log .mine", "✓ Delivered")
}

func chatNoticesDeadNetwork(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	l.alice.join(t, l.url)
	l.alice.evaluate(t, `
		globalThis.died = performance.now();
		globalThis.late = 0; // by how much a timer was: a machine that is busy proves nothing
		let before = died;
		setInterval(() => { late = Math.max(late, performance.now() - before - 100); before = performance.now(); }, 100);
		new MutationObserver(() => { if (document.body.dataset.state !== "connected") globalThis.noticed ??= performance.now(); })
			.observe(document.body, { attributes: true })`)
	l.die()
	l.alice.isLost(t)
	l.alice.expect(t, `() => noticed - died < 10000 || late > 500`, true)
	l.alice.waitFor(t, "#why", "does not answer")
	l.cut() // tries end at once from here on
	l.alice.poll(t, `() => /^Next try in [0-9]+ s$/.test(document.querySelector("#countdown").textContent)`)
	l.revive()
	l.alice.poll(t, `() => {
		const retry = document.querySelector("#retry");
		if (!retry.hidden) retry.click(); // and not at the time of the countdown
		return document.body.dataset.state === "connected";
	}`)
	l.alice.isConnected(t)
	l.alice.expect(t, `() => document.querySelector("#why").textContent + document.querySelector("#countdown").textContent`, "")
}

func chatLosesNothing(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	bob := l.server.join(t, "bob")
	l.alice.join(t, l.url)
	l.alice.enter(t, "all is well")
	bob.hears(t, "all is well")
	l.alice.holdsBack(t, ".pending")

	// The server gets the message, and alice's page does not learn it.
	l.down.shut()
	l.alice.enter(t, "has this arrived?")
	bob.hears(t, "has this arrived?")
	l.up.shut()
	l.alice.isLost(t)
	l.alice.waitFor(t, ".pending", "Not known yet whether it arrived")
	l.alice.enter(t, "this has not")
	l.alice.waitFor(t, ".pending", "Waiting for the connection")
	bob.say(t, "where is alice?")

	l.revive()
	l.alice.isConnected(t)
	bob.hears(t, "where is alice?", "this has not")
	l.alice.holdsBack(t, ".pending")
	l.alice.holdsBack(t, ".failed")
	l.alice.shows(t, "all is well", "has this arrived?", "where is alice?", "this has not")
	bob.say(t, "the end")
	bob.hears(t, "the end") // and nothing twice
}

func chatSendsOnce(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	bob := l.server.join(t, "bob")
	l.alice.join(t, l.url)
	l.up.shut()
	l.alice.enter(t, "held back")
	l.alice.waitFor(t, ".pending", "Not known yet whether it arrived")
	l.up.open() // now it arrives, over the connection that the page has given up, and over the next one
	l.alice.waitFor(t, "#log .mine", "Delivered")
	l.alice.shows(t, "held back")
	bob.say(t, "the end")
	bob.hears(t, "held back", "the end")
}

func chatSendsPrivateOnce(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	bob := l.server.join(t, "bob")
	l.alice.join(t, l.url)
	l.alice.open(t, "@bob")

	l.down.shut()
	l.alice.enter(t, "between us")
	bob.hears(t, "between us")
	l.cut()
	l.alice.waitFor(t, ".pending", "Not known yet whether it arrived")
	l.down.open()
	l.alice.isConnected(t)
	l.alice.waitFor(t, "#log .private.mine", "✓✓ Delivered to bob")
	l.alice.shows(t, "between us")
	bob.say(t, "the end")
	bob.hears(t, "the end")
}

func chatShowsGap(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	bob, carol := l.server.join(t, "bob"), l.server.join(t, "carol")
	l.alice.join(t, l.url) // and sees nothing: it is the id of the welcome that counts
	l.alice.enter(t, "back in a moment")
	l.alice.waitFor(t, "#log .mine", "Delivered")
	bob.hears(t, "back in a moment")
	gap := func(count int, text string) (said []string) {
		l.die()
		l.cut()
		l.alice.isLost(t)
		for i := range count {
			said = append(said, fmt.Sprint(i, text))
			[]*chatUser{bob, carol}[i%2].say(t, said[i])
		}
		bob.whisper(t, "alice", "in private")
		l.revive()
		l.alice.isConnected(t)
		return said
	}
	l.alice.shows(t, append([]string{"back in a moment"}, gap(30, "")...)...)
	l.alice.expect(t, `() => document.querySelector("#log .new").nextElementSibling.querySelector(".text").textContent`, "0")
	l.alice.expect(t, `() => document.querySelectorAll("#log .new").length`, 1)
	l.alice.expect(t, `() => document.querySelector("#log").textContent.includes("missing")`, false)
	l.alice.evaluate(t, readAxe(t)+`; document.querySelector("#log").scrollTop = 0`)
	l.alice.waitFor(t, "#pill:not([hidden])", "Latest messages")
	l.alice.lookAt(t, "gap", "light", 1280, 700)
	l.alice.lookAt(t, "gap", "dark", 390, 700)
	l.alice.resize(t, 1280, 700)
	l.alice.expect(t, `() => document.querySelector("#side").inert`, false) // it is beside the messages again
	l.alice.waitFor(t, `[data-key="@bob"] .badge`, "1")
	l.alice.open(t, "@bob")
	l.alice.shows(t, "in private")
	l.alice.waitFor(t, "#log .new", "New since you left")
}

func chatIsTold(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	l.server.stop()
	users := writeChatUsers(t, 2)
	l.run(t, 0, "-users", users)
	l.alice.logIn(t, l.url, "key-of-user-001")
	l.up.shut()
	l.alice.enter(t, "is anybody there?")
	require.NoError(t, os.Rename(writeChatUsers(t, 1), users))
	l.server.hangUp()
	l.alice.isLost(t)
	l.up.open()

	l.alice.waitFor(t, "#why", "The server refuses: unknown key")
	l.alice.waitFor(t, "#log .failed", "Not known whether it arrived: unknown key")
	l.alice.expect(t, `() => [document.body.dataset.state, document.querySelector("#retry").hidden]`, []any{"ended", true})
	l.alice.evaluate(t, readAxe(t))
	l.alice.lookAt(t, "refused", "light", 390, 700)
	l.alice.lookAt(t, "refused", "dark", 1280, 700)
	l.alice.run(t, chromedp.Click(chromedp.CSS("#log .again")))
	l.alice.waitFor(t, "#log .failed", "Not known whether it arrived: unknown key")
	l.alice.run(t, chromedp.Click(chromedp.CSS("#log .discard")))
	l.alice.holdsBack(t, "#log .failed")
	l.alice.run(t, chromedp.Click(chromedp.CSS("#again")), chromedp.WaitVisible(chromedp.CSS("#login")))
	l.alice.expect(t, `() => sessionStorage.getItem("key")`, nil)
}

func chatTriesAgain(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	l.alice.join(t, l.url)
	l.alice.open(t, "@bob")
	users := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(users, []byte("alice:alice-demo-key\n"), 0o600))
	l.server.stop()
	l.alice.isLost(t)
	l.run(t, 0, "-users", users)
	l.alice.isConnected(t)
	l.alice.enter(t, "are you there?")
	l.alice.waitFor(t, "#log .failed", "Not sent: there is no such user")
	l.server.stop()
	l.alice.isLost(t)
	l.run(t, 0)
	bob := l.server.join(t, "bob")
	l.alice.isConnected(t)
	l.alice.run(t, chromedp.Click(chromedp.CSS("#log .again")))
	bob.hears(t, "are you there?")
	l.alice.waitFor(t, "#log .mine", "✓✓ Delivered to bob")
	l.alice.shows(t, "are you there?")
	l.alice.expect(t, `() => document.querySelector("#heard p:last-child").textContent`, "Connected again")
}

func chatSurvivesRestart(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	l.alice.join(t, l.url)
	l.alice.run(t, chromedp.SendKeys(chromedp.CSS("#room-name"), "Book Club"), pressEnter)
	l.alice.waitFor(t, "#title", "#book-club")
	l.alice.enter(t, "before")
	l.alice.waitFor(t, "#log .mine", "Delivered")
	l.alice.run(t, chromedp.KeyEvent("half a sen"))
	l.server.stop()
	l.alice.isLost(t)
	l.alice.run(t, chromedp.KeyEvent("tence"))
	l.run(t, 0)
	l.alice.isConnected(t)
	l.alice.expect(t, `() => [document.querySelector("#text").value, document.activeElement.id]`, []string{"half a sentence", "text"})
	l.alice.run(t, pressEnter)
	l.alice.holdsBack(t, ".pending")
	l.alice.shows(t, "before", "half a sentence")
	l.alice.expect(t, `() => document.querySelector("#log").textContent.includes("missing")`, false)
	l.alice.waitFor(t, `[data-key="#book-club"][aria-current]`, "book-club") // a room that the new server did not know
}

func chatBehindTLS(t *testing.T, c *chatTests) {
	r := startFrontend(t, &tls.Config{Certificates: []tls.Certificate{issue(t, ecdsaKey)}, NextProtos: []string{"http/1.1"}})
	server := runChat(t, c.program, "-public-url", r.url+"/")
	r.leadTo(hostOf(t, server.page), hostOf(t, server.ws), 0)
	alice := c.tab(t, "alice")
	alice.join(t, r.url)
	alice.expect(t, `() => performance.getEntriesByType("resource").every(({ name }) => name.startsWith("https:"))`, true)
	alice.enter(t, "over TLS")
	alice.waitFor(t, "#log .mine", "Delivered")
}

func chatSaysWhy(t *testing.T, c *chatTests) {
	r := startFrontend(t, nil)
	server := runChat(t, c.program) // without -public-url
	r.leadTo(hostOf(t, server.page), hostOf(t, server.ws), 0)
	alice := c.tab(t, "alice")
	alice.run(t, chromedp.Navigate(strings.Replace(r.url, "127.0.0.1", "localhost", 1)), chromedp.Click(chromedp.CSS(`#demo-users [data-name="alice"]`)))
	alice.waitFor(t, "#login-error", "-public-url")
}
