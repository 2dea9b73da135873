package interop

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// TestChatByItself runs the tests of the page's modules that need no browser.
func TestChatByItself(t *testing.T) {
	t.Parallel()
	needNodeModules(t)
	cmd := exec.Command("node", "--test", "chat_conversation.test.mjs")
	cmd.Dir = "node"
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

func chatTalks(t *testing.T, c *chatTests) {
	server := runChat(t, c.program)
	alice, bob := c.tab(t, "alice"), c.tab(t, "bob")
	alice.join(t, server.page)
	bob.join(t, server.page)
	alice.waitFor(t, `#people .here [data-key="@bob"]`, "bob")

	const greeting = "Grüße an alle 😀 <b>not bold</b>"
	alice.run(t, chromedp.SendKeys(chromedp.CSS("#text"), greeting), chromedp.Click(chromedp.CSS("#compose .send")))
	bob.shows(t, greeting)
	alice.waitFor(t, "#log .mine", "✓ Delivered")

	bob.open(t, "@alice")
	bob.enter(t, "only for you")
	bob.waitFor(t, "#log .private.mine", "✓✓ Delivered to alice")
	alice.waitFor(t, `[data-key="@bob"] .badge`, "1")
	alice.shows(t, greeting)
	alice.open(t, "@bob")
	alice.shows(t, "only for you")
	alice.expect(t, `() => document.querySelector("[data-key='@bob'] .badge").textContent`, "")
	alice.enter(t, "thanks")
	bob.shows(t, "only for you", "thanks")

	bob.run(t, chromedp.Click(chromedp.CSS("#leave")), chromedp.WaitVisible(chromedp.CSS("#login")))
	bob.expect(t, `() => document.querySelector("#log").childElementCount`, 0) // whoever comes next finds nothing
	alice.waitFor(t, `#people .gone [data-key="@bob"]`, "bob")
	alice.run(t, chromedp.Reload())
	alice.isConnected(t)
	alice.shows(t, greeting)
	alice.open(t, "@bob")
	alice.shows(t, "only for you", "thanks")
}

func chatKnowsItsUsers(t *testing.T, c *chatTests) {
	server := runChat(t, c.program)
	eve := c.tab(t, "eve")
	for _, key := range []string{"not a key", "no-such-key"} {
		eve.run(t, chromedp.Navigate(server.page), chromedp.SendKeys(chromedp.CSS("#key"), key), pressEnter)
		eve.waitFor(t, "#login-error", "The server refuses: unknown key.")
		eve.expect(t, `() => [document.activeElement.id, sessionStorage.getItem("key")]`, []any{"key", nil})
	}
}

func chatHasRooms(t *testing.T, c *chatTests) {
	server := runChat(t, c.program)
	alice, bob := c.tab(t, "alice"), c.tab(t, "bob")
	alice.join(t, server.page)
	bob.join(t, server.page)
	alice.run(t, chromedp.SendKeys(chromedp.CSS("#room-name"), "no/way"), pressEnter)
	alice.waitFor(t, "#room-error", "the name of a room")
	alice.fill(t, "#room-name", "Den")
	alice.run(t, pressEnter)
	alice.waitFor(t, "#title", "#den")
	alice.enter(t, "first!")
	alice.waitFor(t, "#log .mine", "Delivered")
	bob.waitFor(t, `#rooms .other [data-key="#den"]`, "not joined")
	bob.run(t, chromedp.SendKeys(chromedp.CSS("#text"), "a draft"))
	bob.open(t, "#den")
	bob.shows(t, "first!")
	bob.expect(t, `() => document.querySelector("#text").value`, "")
	bob.enter(t, "second")
	alice.shows(t, "first!", "second")
	bob.open(t, "#lobby")
	bob.expect(t, `() => document.querySelector("#text").value`, "a draft")
	alice.enter(t, "third")
	bob.waitFor(t, `[data-key="#den"] .badge`, "1")
	bob.run(t, chromedp.Reload())
	bob.isConnected(t)
	bob.open(t, "#den")
	bob.shows(t, "first!", "second", "third")
	bob.run(t, chromedp.Click(chromedp.CSS("#leave-room")))
	bob.waitFor(t, "#title", "#lobby")
	bob.waitFor(t, `#rooms .other [data-key="#den"]`, "not joined")
}

func chatKnowsWhoIsThere(t *testing.T, c *chatTests) {
	server := runChat(t, c.program)
	alice, bob := c.tab(t, "alice"), c.tab(t, "bob")
	alice.join(t, server.page)
	alice.waitFor(t, `#people .gone [data-key="@bob"]`, "bob")
	bob.join(t, server.page)
	alice.waitFor(t, `#people .here [data-key="@bob"]`, "bob")
	alice.waitFor(t, "#people-count", "1 here")
	hide := func(state string) {
		bob.evaluate(t, `Object.defineProperty(document, "visibilityState", { value: "`+state+`", configurable: true });
			document.dispatchEvent(new Event("visibilitychange"))`)
	}
	hide("hidden")
	alice.waitFor(t, `#people .away [data-key="@bob"]`, "away")
	hide("visible")
	alice.waitFor(t, `#people .here [data-key="@bob"]`, "here")
	bob.run(t, chromedp.SendKeys(chromedp.CSS("#text"), "a"))
	alice.waitFor(t, "#typing", "bob is writing…")
	bob.run(t, pressEnter)
	alice.expect(t, `() => document.querySelector("#typing").textContent`, "")
}

func chatCountsUnread(t *testing.T, c *chatTests) {
	server := runChat(t, c.program)
	alice := c.tab(t, "alice")
	alice.join(t, server.page)
	bob, carol := server.join(t, "bob"), server.join(t, "carol")
	for i := range 15 {
		bob.say(t, fmt.Sprintf("line %d\nand another\nand a third one", i))
	}
	alice.waitFor(t, "#log", "line 14")
	alice.expect(t, `() => [document.title, document.querySelector("#pill").hidden]`, []any{"#lobby · Chat", true})
	alice.evaluate(t, `document.querySelector("#log").scrollTop = 0`)
	alice.waitFor(t, "#pill:not([hidden])", "Latest messages")
	top := `() => Math.round(document.querySelector("#log .message").getBoundingClientRect().top)`
	alice.expect(t, `() => (globalThis.was = (`+top+`)()) < 1000`, true)
	for range 3 {
		carol.say(t, "while you read")
	}
	alice.waitFor(t, "#pill", "3 new messages")
	alice.expect(t, `() => document.title`, "(3) #lobby · Chat")
	alice.expect(t, `() => (`+top+`)() === was`, true) // what is read stays where it is
	alice.expect(t, `() => document.querySelector("#log .new").nextElementSibling.textContent.includes("while you read")`, true)
	bob.whisper(t, "alice", "psst")
	alice.expect(t, `() => document.title`, "(4) #lobby · Chat")
	alice.run(t, chromedp.Click(chromedp.CSS("#pill")))
	alice.expect(t, `() => [document.title, document.querySelector("#pill").hidden]`, []any{"(1) #lobby · Chat", true})
	alice.open(t, "@bob")
	alice.expect(t, `() => document.title`, "bob · Chat")

	alice.evaluate(t, `Object.defineProperty(document, "visibilityState", { value: "hidden" }); document.dispatchEvent(new Event("visibilitychange"))`)
	bob.whisper(t, "alice", "are you there?")
	alice.expect(t, `() => document.title`, "(1) bob · Chat")
	alice.expect(t, `() => document.querySelector("#log .new").nextElementSibling.textContent.includes("are you there?")`, true) // "psst" was read
}

func chatShowsMessages(t *testing.T, c *chatTests) {
	server := runChat(t, c.program)
	alice := c.tab(t, "alice")
	alice.join(t, server.page)
	bob, carol := server.join(t, "bob"), server.join(t, "carol")
	bob.say(t, "one")
	bob.say(t, "two")
	carol.say(t, "see https://example.com/a_(b)?c=d&e#f. Or (http://example.org), javascript:alert(1), data:text/html,x")
	bob.say(t, "<img src=x onerror=alert(1)> \u202e sdrawkcab https://evil.example/\u202egpj.exe \u2066 open")
	bob.say(t, "last")
	carol.say(t, "ראו https://example.net/א/ב/")
	alice.waitFor(t, "#log", "example.net")
	alice.expect(t, `() => [...document.querySelectorAll("#log .message")].map((e) => e.classList.contains("grouped"))`, []bool{false, true, false, false, true, false})
	alice.waitFor(t, "#log .day", "Today")
	alice.expect(t, `() => [...document.querySelectorAll("#log a")].map((a) => [a.href, a.target, a.rel])`, [][]string{
		{"https://example.com/a_(b)?c=d&e#f", "_blank", "noopener noreferrer nofollow"},
		{"http://example.org/", "_blank", "noopener noreferrer nofollow"},
		{"https://evil.example/", "_blank", "noopener noreferrer nofollow"},
		{"https://example.net/%D7%90/%D7%91/", "_blank", "noopener noreferrer nofollow"},
	})
	alice.expect(t, `() => [...document.querySelectorAll("#log a")].every((e) => getComputedStyle(e).direction === "ltr")`, true) // so that its host comes first
	alice.expect(t, `() => document.querySelectorAll("#log img").length`, 0)
	// What turns the direction of text around does so inside of its message alone: nothing else is elsewhere for it.
	alice.expect(t, `() => [...document.querySelectorAll("#log .text")].every((e) => getComputedStyle(e).unicodeBidi === "isolate")`, true)
	alice.expect(t, `() => [...document.querySelectorAll("#log .who, #title, #people .name")].every((e) => e.tagName === "BDI" || e.closest("bdi"))`, true)
	// A screen reader is told of each message once.
	alice.expect(t, `() => [...document.querySelectorAll("#heard p")].map((e) => e.textContent).slice(0, 2)`, []string{"bob in lobby: one", "bob in lobby: two"})
}

func chatNeedsNoMouse(t *testing.T, c *chatTests) {
	server := runChat(t, c.program)
	alice := c.tab(t, "alice")
	alice.join(t, server.page)
	alice.expect(t, `() => document.activeElement.id`, "text")
	alice.run(t, chromedp.Focus(chromedp.CSS(`[data-key="@bob"]`)))
	carol := server.join(t, "carol") // and the list changes
	alice.waitFor(t, `#people .here [data-key="@carol"]`, "carol")
	focused := `() => document.activeElement.dataset.key`
	alice.expect(t, focused, "@bob")
	server.join(t, "bob")
	alice.waitFor(t, `#people .here [data-key="@bob"]`, "bob")
	alice.expect(t, focused, "@bob")
	alice.run(t, pressDown)
	alice.expect(t, focused, "@carol")
	alice.expect(t, `() => document.querySelectorAll("#people [tabindex='0']").length`, 1)
	alice.run(t, pressEnter)
	alice.waitFor(t, "#title", "carol")
	alice.expect(t, `() => document.activeElement.id`, "text")
	alice.run(t, chromedp.KeyEvent("for carol"))
	require.NoError(t, carol.client.Close())
	alice.waitFor(t, `#people .gone [data-key="@carol"]`, "carol")
	alice.expect(t, `() => document.activeElement.id`, "text")
	alice.run(t, pressEscape)
	alice.waitFor(t, "#title", "#lobby")
	alice.expect(t, `() => [document.activeElement.id, document.querySelector("#text").value]`, []string{"text", ""})
	alice.open(t, "@carol")
	alice.expect(t, `() => document.querySelector("#text").value`, "for carol")

	alice.resize(t, 390, 800)
	alice.expect(t, `() => document.querySelector("#side").inert`, true)
	alice.openMenu(t)
	alice.expect(t, focused, "@carol")
	alice.run(t, pressEscape)
	alice.expect(t, `() => [document.activeElement.id, document.querySelector("#side").inert]`, []any{"menu", true})
	alice.run(t, pressEscape)
	alice.waitFor(t, "#title", "#lobby")
}

func chatKeepsPrivateMessages(t *testing.T, c *chatTests) {
	server := runChat(t, c.program)
	alice, bob := c.tab(t, "alice"), c.tab(t, "bob")
	alice.join(t, server.page)
	alice.open(t, "@bob")
	alice.enter(t, "for later")
	alice.waitFor(t, "#log .mine", "Kept: bob is not here, and will see it later")
	bob.join(t, server.page)
	bob.open(t, "@alice")
	bob.shows(t, "for later")
	alice.enter(t, "hello")
	alice.waitFor(t, "#log .mine:last-child", "✓✓ Delivered to bob")
	bob.shows(t, "for later", "hello")
}

func chatLoadsHistory(t *testing.T, c *chatTests) {
	server := runChat(t, c.program, "-users", writeChatUsers(t, 20))
	reader := c.tab(t, "reader")
	reader.logIn(t, server.page, "key-of-user-000")
	reader.expect(t, `() => localStorage.getItem("chat last user-000") > 0`, true)
	reader.run(t, chromedp.Navigate("about:blank"))
	want := 0
	for i := range 20 {
		u := server.join(t, fmt.Sprintf("user-%03d", i))
		for range 20 {
			u.say(t, fmt.Sprint(want))
			want++
		}
	}
	reader.run(t, chromedp.Navigate(server.page))
	reader.isConnected(t)
	texts := `[...document.querySelectorAll("#log .text")].map((e) => Number(e.textContent))`
	reader.expect(t, `() => `+texts+`.length`, want)
	reader.expect(t, `() => `+texts+`.every((n, i) => n === i)`, true)
	reader.expect(t, `() => document.querySelector("#log .new").nextElementSibling.querySelector(".text").textContent`, "20") // the first ones are the user's own

	other := c.tab(t, "other")
	other.logIn(t, server.page, "key-of-user-001")
	other.poll(t, `() => document.querySelectorAll("#log .text").length >= 50`)
	other.expect(t, `() => `+texts+`.at(-1)`, want-1)
	other.poll(t, `() => {
		document.querySelector("#log .line button")?.click();
		return document.querySelectorAll("#log .text").length === `+fmt.Sprint(want)+`;
	}`)
	other.expect(t, `() => `+texts+`.every((n, i) => n === i)`, true)
	other.waitFor(t, "#log .beginning", "This is the beginning of #lobby.")

	stranger := c.tab(t, "stranger") // was at another server, which counts from further up
	stranger.run(t, chromedp.Navigate(server.page))
	stranger.evaluate(t, `localStorage.setItem("chat last user-002", "9000000000000000")`)
	stranger.logIn(t, server.page, "key-of-user-002")
	stranger.expect(t, `() => `+texts+`.length`, want)
}

func chatShowsThousand(t *testing.T, c *chatTests) {
	l := c.badLine(t, 0)
	l.server.stop()
	l.run(t, 0, "-users", writeChatUsers(t, 50))
	l.alice.logIn(t, l.url, "key-of-user-000")
	users := []*chatUser{}
	for i := range 50 {
		users = append(users, l.server.join(t, fmt.Sprintf("user-%03d", i)))
	}
	l.down.shut()
	for i := range 20 {
		for j, u := range users {
			u.say(t, fmt.Sprint(i*len(users)+j))
		}
	}
	l.alice.evaluate(t, `
		globalThis.longest = 0;
		new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) longest = Math.max(longest, duration); }).observe({ type: "longtask" })`)
	l.down.open() // and all come at once
	l.alice.expect(t, `() => document.querySelectorAll("#log .text").length`, 1000)
	l.alice.expect(t, `() => [...document.querySelectorAll("#log .text")].every((e, i) => e.textContent === String(i))`, true)
	l.alice.expect(t, `() => { const log = document.querySelector("#log"); return log.scrollHeight - log.scrollTop - log.clientHeight < 2 }`, true)
	l.alice.enter(t, "that was a lot")
	l.alice.waitFor(t, "#log .mine:last-child", "Delivered")
	l.alice.expect(t, `() => document.querySelectorAll("#log .text").length <= 1000`, true)
	took, err := chromedp.Run(l.alice.ctx, chromedp.Evaluate[float64](`longest`))
	require.NoError(t, err)
	t.Logf("the longest task took %.0f ms", took)
}

func chatShowsCrowd(t *testing.T, c *chatTests) {
	server := runChat(t, c.program, "-users", writeChatUsers(t, 200))
	users := []*chatUser{}
	for i := 1; i < 150; i++ {
		users = append(users, server.join(t, fmt.Sprintf("user-%03d", i)))
	}
	reader := c.tab(t, "reader")
	reader.logIn(t, server.page, "key-of-user-000")
	reader.expect(t, `() => document.querySelectorAll("#people li").length`, 199)
	reader.waitFor(t, "#people-count", "149 here")
	reader.evaluate(t, readAxe(t))
	reader.lookAt(t, "crowd", "dark", 1280, 700)
	for _, width := range []int64{1280, 390} {
		reader.resize(t, width, 700)
		if width == 390 {
			reader.openMenu(t)
			reader.lookAt(t, "crowd", "light", 390, 700)
		}
		reader.fill(t, "#find", "17")
		reader.expect(t, `() => [...document.querySelectorAll("#people .name")].map((e) => e.textContent)`,
			[]string{"user-017", "user-117", "user-170", "user-171", "user-172", "user-173", "user-174", "user-175", "user-176", "user-177", "user-178", "user-179"})
		reader.open(t, "@user-117")
		reader.enter(t, "hello")
		reader.waitFor(t, "#log .mine:last-child", "✓✓ Delivered to user-117")
	}
	reader.openMenu(t)
	users[87].whisper(t, "user-000", "over here")
	reader.expect(t, `() => document.querySelector("#people button").dataset.key`, "@user-088")
	reader.open(t, "@user-170")
	reader.enter(t, "hello")
	reader.waitFor(t, "#log .mine", "user-170 is not here")
}

func chatWaitsForQuota(t *testing.T, c *chatTests) {
	server := runChat(t, c.program)
	alice := c.tab(t, "alice")
	bob := server.join(t, "bob")
	alice.join(t, server.page)
	want := []string{}
	for i := range 26 {
		want = append(want, fmt.Sprint(i))
	}
	alice.evaluate(t, `
		for (let i = 0; i < 26; i++) {
			document.querySelector("#text").value = i;
			document.querySelector("#compose").requestSubmit();
		}`)
	bob.hears(t, want...) // though only 20 may be sent at once
	alice.holdsBack(t, ".pending")
	alice.holdsBack(t, ".failed")
	alice.shows(t, want...)
	bob.ask(t, http.MethodGet, "/users", "")
	alice.evaluate(t, `
		document.querySelector("#text").value = "`+strings.Repeat("x", 2001)+`";
		document.querySelector("#text").dispatchEvent(new Event("input"));
		document.querySelector("#compose").requestSubmit()`)
	alice.waitFor(t, "#send-error", "2000 characters at most: 1 too many")
	alice.expect(t, `() => document.querySelector("#text").value.length`, 2001)
}
