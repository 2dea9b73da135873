package interop

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// badLine is a page of the chat behind a frontend, and the server behind that.
type badLine struct {
	*frontend
	program string
	server  *chatServer
	alice   *chatTab
}

// startBadLine runs the chat behind a frontend and opens a tab.
func startBadLine(t *testing.T, delay time.Duration) *badLine {
	t.Helper()
	l := &badLine{frontend: startFrontend(t, nil), program: buildChat(t)}
	l.run(t, delay)
	l.alice = &chatTab{ctx: openTab(t, startBrowser(t)), name: "alice"}
	t.Cleanup(func() { keepScreenshots(t, l.alice) })
	return l
}

// run starts the server, or another one in its place.
func (l *badLine) run(t *testing.T, delay time.Duration, args ...string) {
	t.Helper()
	l.server = runChat(t, l.program, append(args, "-public-url", l.url)...)
	l.leadTo(hostOf(t, l.server.page), hostOf(t, l.server.ws), delay)
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Host
}

// chatUser is somebody whose program has a good line.
type chatUser struct {
	client  *websocket.Client
	answers chan websocket.Response
	heard   chan string // texts of messages
	lastID  uint64
}

func (l *badLine) user(t *testing.T, name string) *chatUser {
	t.Helper()
	u := &chatUser{answers: make(chan websocket.Response, inboxSize), heard: make(chan string, inboxSize)}
	u.client = &websocket.Client{
		Endpoint: l.server.ws,
		Headers:  http.Header{"Authorization": {"Bearer " + name + "-demo-key"}},
		HandleText: func(_ *websocket.Client, frame *websocket.Frame) error {
			var res websocket.Response
			if err := json.Unmarshal(frame.Payload(), &res); err != nil {
				return err
			}
			if res.ID != 0 {
				u.answers <- res
			} else if strings.HasPrefix(res.Message, "message") {
				var message struct{ Text string }
				if err := json.Unmarshal([]byte(res.Body), &message); err != nil {
					return err
				}
				u.heard <- message.Text
			}
			return nil
		},
	}
	require.NoError(t, u.client.Connect())
	t.Cleanup(u.client.Quit)
	return u
}

// say sends a message, as soon as the server thinks it is no flood.
func (u *chatUser) say(t *testing.T, text string) {
	t.Helper()
	for code := int32(0); code != http.StatusCreated; {
		u.lastID++
		request, err := json.Marshal(&websocket.Request{ID: u.lastID, Method: http.MethodPost, Target: "/messages", Body: text})
		require.NoError(t, err)
		require.NoError(t, u.client.SendText(request))
		code = within(t, u.answers).Code
		require.Contains(t, []int32{http.StatusCreated, http.StatusTooManyRequests}, code)
	}
}

// hears expects the next messages.
func (u *chatUser) hears(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		require.Equal(t, text, within(t, u.heard))
	}
}

// enter types a message and sends it: it is shown immediately.
func (tab *chatTab) enter(t *testing.T, message string) {
	t.Helper()
	tab.run(t, chromedp.SendKeys(chromedp.CSS("#text"), message), pressEnter)
	tab.expect(t, `() => document.querySelector("#text").value`, "")
}

// pressEnter presses the key as a keyboard does, with its text: chromedp sends that as an event of its own, which a page that has
// handled the key still gets.
var pressEnter chromedp.Action[chromedp.Void] = chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
	key := input.DispatchKeyEventParams{Key: "Enter", Code: "Enter", WindowsVirtualKeyCode: 13}
	down, up := key, key
	down.Type, down.Text = input.DispatchKeyEventTypeKeyDown, "\r"
	up.Type = input.DispatchKeyEventTypeKeyUp
	_, err := chromedp.Call(ctx, input.DispatchKeyEvent, down)
	if err == nil {
		_, err = chromedp.Call(ctx, input.DispatchKeyEvent, up)
	}
	return err
})

// expect compares what a function returns.
func (tab *chatTab) expect(t *testing.T, function string, want any) {
	t.Helper()
	b, err := json.Marshal(want)
	require.NoError(t, err)
	tab.poll(t, `(want) => JSON.stringify((`+function+`)()) === want`, string(b))
}

// shows expects exactly these messages in the log, in that order.
func (tab *chatTab) shows(t *testing.T, texts ...string) {
	t.Helper()
	tab.expect(t, `() => [...document.querySelectorAll("#log .message .text")].map((e) => e.textContent)`, texts)
}

func (tab *chatTab) holdsBack(t *testing.T, selector string) {
	t.Helper()
	tab.poll(t, `(selector) => document.querySelector(selector) === null`, selector)
}

func TestChatOverASlowLine(t *testing.T) {
	t.Parallel()
	l := startBadLine(t, 500*time.Millisecond)
	bob := l.user(t, "bob")
	l.alice.join(t, l.url)

	typed := func(text string) chromedp.Action[chromedp.Void] { return chromedp.KeyEvent(text) }
	// Typed without a pause, faster than any answer comes.
	l.alice.run(t, typed("hi"), pressEnter, typed("how are you"), pressEnter, typed("still typing"))
	bob.hears(t, "hi", "how are you")
	l.alice.shows(t, "hi", "how are you")
	l.alice.holdsBack(t, ".pending")
	l.alice.expect(t, `() => document.querySelector("#text").value`, "still typing")
	l.alice.expect(t, `() => document.querySelectorAll("#log .mine").length`, 2)
}

func TestChatShowsAMessageBeforeItsAnswer(t *testing.T) {
	t.Parallel()
	l := startBadLine(t, 0)
	bob := l.user(t, "bob")
	l.alice.join(t, l.url)

	l.down.shut()
	l.alice.enter(t, "one")
	l.alice.enter(t, "two")
	bob.hears(t, "one")
	bob.say(t, "between")
	l.alice.waitFor(t, ".pending", "Sending…")
	l.alice.shows(t, "one", "two")
	l.alice.run(t, chromedp.Evaluate[chromedp.Void](`var one = [...chat.outbox.values()][0]; void 0`))
	l.down.open()
	bob.hears(t, "between", "two")
	l.alice.shows(t, "one", "between", "two")
	l.alice.holdsBack(t, ".pending")
	l.alice.expect(t, `() => document.querySelectorAll("#log .mine").length`, 2)

	// What "Try again" does, for one that has arrived.
	l.alice.run(t, chromedp.Evaluate[chromedp.Void](`chat.enqueue(one)`))
	l.alice.waitFor(t, "#log .message:last-child", "Delivered")
	l.alice.shows(t, "between", "two", "one")
	bob.say(t, "the end")
	bob.hears(t, "the end") // and not "one" again
}

func TestChatNoticesADeadNetwork(t *testing.T) {
	t.Parallel()
	l := startBadLine(t, 0)
	l.alice.join(t, l.url)
	l.die()
	l.alice.waitFor(t, "#status.lost", "Not connected")
	l.revive()
	l.alice.waitFor(t, "#status", "Connected as alice")
}

func TestChatLosesNothingOnADeadNetwork(t *testing.T) {
	t.Parallel()
	l := startBadLine(t, 0)
	bob := l.user(t, "bob")
	l.alice.join(t, l.url)
	l.alice.enter(t, "all is well")
	bob.hears(t, "all is well")
	l.alice.holdsBack(t, ".pending")

	// The server gets the message, and alice's page does not learn it.
	l.down.shut()
	l.alice.enter(t, "has this arrived?")
	bob.hears(t, "has this arrived?")
	l.up.shut()
	l.alice.waitFor(t, "#status.lost", "Not connected")
	l.alice.waitFor(t, ".pending", "Not known yet whether it arrived")
	l.alice.enter(t, "this has not")
	l.alice.waitFor(t, ".pending", "Waiting for the connection")
	bob.say(t, "where is alice?")

	l.revive()
	l.alice.waitFor(t, "#status", "Connected as alice")
	bob.hears(t, "where is alice?", "this has not")
	l.alice.holdsBack(t, ".pending")
	l.alice.holdsBack(t, ".failed")
	l.alice.shows(t, "all is well", "has this arrived?", "where is alice?", "this has not")
	bob.say(t, "the end")
	bob.hears(t, "the end") // and nothing twice
}

func TestChatSendsOnceWhatALineHeldBack(t *testing.T) {
	t.Parallel()
	l := startBadLine(t, 0)
	bob := l.user(t, "bob")
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

func TestChatSendsPrivateMessagesOnce(t *testing.T) {
	t.Parallel()
	l := startBadLine(t, 0)
	bob := l.user(t, "bob")
	l.alice.join(t, l.url)
	l.alice.address(t, "bob")

	l.down.shut()
	l.alice.enter(t, "between us")
	bob.hears(t, "between us")
	l.cut()
	l.alice.waitFor(t, ".pending.private", "Not known yet whether it arrived")
	l.down.open()
	l.alice.waitFor(t, "#status", "Connected as alice")
	l.alice.waitFor(t, "#log .private.mine", "Delivered")
	l.alice.shows(t, "between us")

	require.NoError(t, bob.client.Close())
	l.alice.waitFor(t, "#log", "bob has left")
	l.alice.enter(t, "are you there?")
	l.alice.waitFor(t, "#log .failed", "Not sent: bob is not here")
	bob = l.user(t, "bob")
	l.alice.run(t, chromedp.Click(chromedp.CSS("#log .failed button")))
	bob.hears(t, "are you there?")
	l.alice.holdsBack(t, ".pending")
	l.alice.shows(t, "between us", "are you there?")
}

func TestChatShowsWhatCameInAGap(t *testing.T) {
	t.Parallel()
	l := startBadLine(t, 0)
	bob, carol := l.user(t, "bob"), l.user(t, "carol")
	l.alice.join(t, l.url) // and sees nothing: it is the id of the welcome that counts
	gap := func(count int, text string) (said []string) {
		l.die()
		l.cut()
		l.alice.waitFor(t, "#status.lost", "Not connected")
		for i := range count {
			said = append(said, fmt.Sprint(i, text))
			[]*chatUser{bob, carol}[i%2].say(t, said[i])
		}
		l.revive()
		l.alice.waitFor(t, "#status", "Connected as alice")
		return said
	}
	l.alice.shows(t, gap(30, "")...)
	l.alice.expect(t, `() => document.querySelector("#log").textContent.includes("missing")`, false)

	gap(36, strings.Repeat("\U0001F642", 1990)) // 8 KB each: the server forgets the first ones
	l.alice.waitFor(t, "#log .note", "Messages are missing here")
}

func TestChatIsToldOfAKeyThatIsNoLongerKnown(t *testing.T) {
	t.Parallel()
	l := startBadLine(t, 0)
	l.alice.join(t, l.url)
	l.server.stop()
	l.alice.waitFor(t, "#status.lost", "Not connected")
	l.alice.enter(t, "is anybody there?")
	users := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(users, []byte("erin:erin-has-a-key\n"), 0o600))
	l.run(t, 0, "-users", users)

	l.alice.waitFor(t, "#status.lost", "unknown key")
	l.alice.waitFor(t, "#log .failed", "Not sent: unknown key")
	l.alice.expect(t, `() => chat.connection.closed && sessionStorage.getItem("key") === null`, true)
	l.alice.run(t, chromedp.Click(chromedp.CSS("#log .failed button")))
	l.alice.waitFor(t, "#log .failed", "Not sent: unknown key")
}

func TestChatComesBackToAServerThatWasStartedAnew(t *testing.T) {
	t.Parallel()
	l := startBadLine(t, 0)
	l.alice.join(t, l.url)
	l.alice.enter(t, "before")
	l.alice.waitFor(t, "#log .mine", "Delivered")
	l.server.stop()
	l.alice.waitFor(t, "#status.lost", "Not connected")
	l.alice.enter(t, "meanwhile")
	l.run(t, 0)
	l.alice.waitFor(t, "#status", "Connected as alice")
	l.alice.holdsBack(t, ".pending")
	l.alice.shows(t, "before", "meanwhile")
	l.alice.expect(t, `() => document.querySelector("#log").textContent.includes("missing")`, false)
}

func TestChatBehindAProxyWithTLS(t *testing.T) {
	t.Parallel()
	r := startFrontend(t, &tls.Config{Certificates: []tls.Certificate{issue(t, ecdsaKey)}, NextProtos: []string{"http/1.1"}})
	server := runChat(t, buildChat(t), "-public-url", r.url+"/")
	r.leadTo(hostOf(t, server.page), hostOf(t, server.ws), 0)
	alice := &chatTab{ctx: openTab(t, startBrowser(t)), name: "alice"}
	t.Cleanup(func() { keepScreenshots(t, alice) })
	alice.join(t, r.url)
	alice.expect(t, `() => chat.connection.socket.url.startsWith("wss://")`, true)
	alice.enter(t, "over TLS")
	alice.waitFor(t, "#log .mine", "Delivered")
}

func TestChatSaysWhyAPageOfAnotherOriginMayNotConnect(t *testing.T) {
	t.Parallel()
	r := startFrontend(t, nil)
	server := runChat(t, buildChat(t)) // without -public-url
	r.leadTo(hostOf(t, server.page), hostOf(t, server.ws), 0)
	alice := &chatTab{ctx: openTab(t, startBrowser(t)), name: "alice"}
	t.Cleanup(func() { keepScreenshots(t, alice) })
	alice.run(t, chromedp.Navigate(r.url), chromedp.Click(`//*[@id="demo-users"]/button[.="alice"]`))
	alice.waitFor(t, "#login-error", "-public-url")
}

func TestChatKeepsTheLastMessageInView(t *testing.T) {
	t.Parallel()
	l := startBadLine(t, 0)
	bob := l.user(t, "bob")
	l.alice.join(t, l.url)
	for _, width := range []int64{1280, 390} {
		t.Run(fmt.Sprintf("at %d pixels", width), func(t *testing.T) {
			l.alice.run(t, chromedp.EmulateViewport(width, 700))
			for i := range 12 {
				bob.say(t, fmt.Sprintf("line %d at %d\nand another\nand a third one", i, width))
			}
			l.alice.waitFor(t, "#log .message", fmt.Sprintf("line 11 at %d", width))
			inView := `() => {
				const log = document.querySelector("#log").getBoundingClientRect();
				const last = document.querySelector("#log").lastElementChild.getBoundingClientRect();
				return last.bottom <= log.bottom && last.top >= log.top;
			}`
			l.alice.expect(t, inView, true)
			l.alice.run(t, chromedp.Evaluate[chromedp.Void](`document.querySelector("#text").value = ""`))
			l.alice.expect(t, `() => document.querySelector("#text").clientHeight < 60`, true)
			l.alice.run(t, chromedp.Evaluate[chromedp.Void](`document.querySelector("#text").value = "a\n".repeat(9)`))
			l.alice.expect(t, `() => document.querySelector("#text").clientHeight > 150`, true)
			l.alice.expect(t, inView, true)
		})
	}
}
