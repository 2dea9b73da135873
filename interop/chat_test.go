package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// artefacts is where screenshots of failed tests are kept.
const artefacts = "artefacts"

// TestChat is what people do with the page of examples/server: in one browser, each test with a server and windows of its own.
func TestChat(t *testing.T) {
	t.Parallel()
	c := &chatTests{program: buildChat(t), browser: startBrowser(t,
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true))}
	c.first = openTab(t, c.browser)
	for name, run := range map[string]func(t *testing.T, c *chatTests){
		"two people talk, in a room and in private": chatTalks,
		"somebody without a key":                    chatKnowsItsUsers,
		"rooms":                                     chatHasRooms,
		"presence and typing":                       chatKnowsWhoIsThere,
		"what came while nobody looked":             chatCountsUnread,
		"messages are shown well and safely":        chatShowsMessages,
		"keyboard":                                  chatNeedsNoMouse,
		"a message for somebody who is not there":   chatKeepsPrivateMessages,
		"history of any length":                     chatLoadsHistory,
		"a thousand messages at once":               chatShowsThousand,
		"two hundred people":                        chatShowsCrowd,
		"more than the quota":                       chatWaitsForQuota,
		"looks, on all screens":                     chatLooks,
		"a slow line":                               chatOverASlowLine,
		"a message is shown before its answer":      chatShowsBeforeAnswer,
		"a dead network is noticed":                 chatNoticesDeadNetwork,
		"nothing is lost on a dead network":         chatLosesNothing,
		"what a line held back is sent once":        chatSendsOnce,
		"private messages are sent once":            chatSendsPrivateOnce,
		"what came in a gap":                        chatShowsGap,
		"a key that is no longer known":             chatIsTold,
		"somebody who is no longer known":           chatTriesAgain,
		"a restart while somebody types":            chatSurvivesRestart,
		"another origin":                            chatSaysWhy,
		"a proxy with TLS":                          chatBehindTLS,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, c)
		})
	}
}

// chatTests is what the tests of the chat share.
type chatTests struct {
	program        string
	browser, first context.Context // the browser, and its first tab
}

// tab opens a window with a profile of its own.
func (c *chatTests) tab(t *testing.T, name string) *chatTab {
	t.Helper()
	return openChatTab(t, c.first, name)
}

func openChatTab(t *testing.T, browser context.Context, name string) *chatTab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx), "browser")
	tab := &chatTab{ctx: ctx, name: name}
	tab.resize(t, 1280, 800)
	_, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	require.NoError(t, err)
	t.Cleanup(func() { keepScreenshots(t, tab) })
	return tab
}

// buildChat builds examples/server.
func buildChat(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "chat")
	build := exec.Command("go", "build", "-o", program, "./examples/server")
	build.Dir = ".."
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	return program
}

// chatServer is a server of the chat that runs.
type chatServer struct {
	ws, page string // URLs
	stop     func() // as Ctrl+C does
	hangUp   func() // has it read its files again
}

// runChat runs the server of the chat. It is stopped at the end of the test, if it was not before, and must exit with 0.
func runChat(t *testing.T, program string, args ...string) *chatServer {
	t.Helper()
	return runChatAs(t, exec.Command(program, append([]string{"-addr", "127.0.0.1:0"}, args...)...))
}

// runChatAs is runChat with a command that says all.
func runChatAs(t *testing.T, cmd *exec.Cmd) *chatServer {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	found := make(chan string, 10)
	ended := make(chan error, 1)
	go func() {
		url := regexp.MustCompile(`(?:ws|http)s?://\S+`)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if url := url.FindString(lines.Text()); url != "" && len(found) < cap(found) {
				found <- url
			}
		}
		ended <- cmd.Wait()
	}()
	stop := sync.OnceFunc(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case err := <-ended:
			assert.NoError(t, err, "chat server: %s", &stderr)
		case <-time.After(deadline):
			cmd.Process.Kill()
			t.Error("the chat server did not end before the deadline")
		}
	})
	t.Cleanup(stop)
	return &chatServer{ws: within(t, found), page: within(t, found), stop: stop, hangUp: func() { cmd.Process.Signal(syscall.SIGHUP) }}
}

// writeChatUsers writes a file of users, from user-000 with the key key-of-user-000 on.
func writeChatUsers(t *testing.T, count int) (file string) {
	t.Helper()
	var lines strings.Builder
	for i := range count {
		fmt.Fprintf(&lines, "user-%03d:key-of-user-%03d\n", i, i)
	}
	file = filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(file, []byte(lines.String()), 0o600))
	return file
}

// chatUser is somebody who uses a program, on a good line.
type chatUser struct {
	client  *websocket.Client
	answers chan websocket.Response
	heard   chan string // texts of messages
	lastID  uint64
}

// join connects a demo user, or one of writeChatUsers.
func (server *chatServer) join(t *testing.T, name string) *chatUser {
	t.Helper()
	key := name + "-demo-key"
	if strings.HasPrefix(name, "user-") {
		key = "key-of-" + name
	}
	u := &chatUser{answers: make(chan websocket.Response, inboxSize), heard: make(chan string, inboxSize)}
	u.client = &websocket.Client{
		Endpoint: server.ws,
		Headers:  http.Header{"Authorization": {"Bearer " + key}},
		HandleText: func(_ *websocket.Client, frame *websocket.Frame) error {
			var res websocket.Response
			if err := json.Unmarshal(frame.Payload(), &res); err != nil {
				return err
			}
			if res.ID != 0 {
				u.answers <- res
			} else if strings.HasPrefix(res.Message, "message") && len(u.heard) < cap(u.heard) {
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

// ask sends a request, as soon as the server thinks it is no flood.
func (u *chatUser) ask(t *testing.T, method, target, body string) {
	t.Helper()
	for code := int32(http.StatusTooManyRequests); code == http.StatusTooManyRequests; {
		u.lastID++
		request, err := json.Marshal(&websocket.Request{ID: u.lastID, Method: method, Target: target, Body: body})
		require.NoError(t, err)
		require.NoError(t, u.client.SendText(request))
		res := within(t, u.answers)
		code = res.Code
		require.True(t, code < 400 || code == http.StatusTooManyRequests, "%d %s", code, res.Message)
	}
}

// say sends a message to the lobby.
func (u *chatUser) say(t *testing.T, text string) {
	t.Helper()
	u.ask(t, http.MethodPost, "/messages", text)
}

// whisper sends a message to one user.
func (u *chatUser) whisper(t *testing.T, to, text string) {
	t.Helper()
	u.ask(t, http.MethodPost, "/users/"+to+"/messages", text)
}

// hears expects the next messages.
func (u *chatUser) hears(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		require.Equal(t, text, within(t, u.heard))
	}
}

// chatTab is a window with the page of the chat.
type chatTab struct {
	ctx  context.Context
	name string
}

// run does something in the tab, within the deadline.
func (tab *chatTab) run(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, deadline)
	defer cancel()
	require.NoError(t, chromedp.Do(ctx, actions...), tab.name)
}

func (tab *chatTab) resize(t *testing.T, width, height int64) {
	t.Helper()
	tab.run(t, chromedp.EmulateViewport(width, height))
}

// evaluate runs a script.
func (tab *chatTab) evaluate(t *testing.T, script string) {
	t.Helper()
	tab.run(t, chromedp.Evaluate[chromedp.Void](`(() => {`+script+`})()`))
}

// join opens the page and logs in as one of the demonstration's users.
func (tab *chatTab) join(t *testing.T, url string) {
	t.Helper()
	tab.run(t, chromedp.Navigate(url), chromedp.Click(chromedp.CSS(fmt.Sprintf("#demo-users [data-name=%q]", tab.name))))
	tab.isConnected(t)
}

// logIn opens the page and logs in with a key.
func (tab *chatTab) logIn(t *testing.T, url, key string) {
	t.Helper()
	tab.run(t, chromedp.Navigate(url), chromedp.SendKeys(chromedp.CSS("#key"), key), pressEnter)
	tab.isConnected(t)
}

func (tab *chatTab) isConnected(t *testing.T) {
	t.Helper()
	tab.expect(t, `() => [document.body.dataset.state, document.querySelector("#status").textContent, document.querySelector("#trouble").hidden]`,
		[]any{"connected", "Connected", true})
}

// isLost waits until the page says that there is no connection.
func (tab *chatTab) isLost(t *testing.T) {
	t.Helper()
	tab.poll(t, `() => document.body.dataset.state !== "connected" && !document.querySelector("#trouble").hidden`)
}

// enter types a message and sends it: it is shown immediately.
func (tab *chatTab) enter(t *testing.T, message string) {
	t.Helper()
	tab.run(t, chromedp.SendKeys(chromedp.CSS("#text"), message), pressEnter)
	tab.expect(t, `() => document.querySelector("#text").value`, "")
}

// press returns an action that presses a key as a keyboard does, with its text: chromedp sends that as an event of its own, which a page
// that has handled the key still gets.
func press(name, text string, code int64) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		key := input.DispatchKeyEventParams{Key: name, Code: name, WindowsVirtualKeyCode: code}
		down, up := key, key
		down.Type, down.Text = input.DispatchKeyEventTypeKeyDown, text
		up.Type = input.DispatchKeyEventTypeKeyUp
		_, err := chromedp.Call(ctx, input.DispatchKeyEvent, down)
		if err == nil {
			_, err = chromedp.Call(ctx, input.DispatchKeyEvent, up)
		}
		return err
	})
}

var (
	pressEnter  = press("Enter", "\r", 13)
	pressEscape = press("Escape", "", 27)
	pressDown   = press("ArrowDown", "", 40)
)

// open opens a conversation: "#lobby" or "@bob".
func (tab *chatTab) open(t *testing.T, key string) {
	t.Helper()
	tab.run(t, chromedp.Click(chromedp.CSS(fmt.Sprintf("[data-key=%q]", key))))
	tab.waitFor(t, "#title", strings.TrimPrefix(key, "@"))
}

// openMenu shows the lists, where there is no place for them beside the messages.
func (tab *chatTab) openMenu(t *testing.T) {
	t.Helper()
	tab.expect(t, `() => document.querySelector("#side").inert`, true) // the page knows how wide it is
	tab.run(t, chromedp.Click(chromedp.CSS("#menu")))
	tab.expect(t, `() => document.querySelector("#side").getBoundingClientRect().left`, 0) // it has moved there
}

// fill puts a text into a field, in the place of what is in it.
func (tab *chatTab) fill(t *testing.T, selector, text string) {
	t.Helper()
	tab.evaluate(t, `document.querySelector("`+selector+`").value = ""`)
	tab.run(t, chromedp.SendKeys(chromedp.CSS(selector), text))
}

// waitFor waits until an element that the selector names shows the text.
func (tab *chatTab) waitFor(t *testing.T, selector, text string) {
	t.Helper()
	tab.poll(t, `(selector, text) => [...document.querySelectorAll(selector)].some((e) => e.innerText.includes(text))`, selector, text)
}

// holdsBack waits until there is no such element.
func (tab *chatTab) holdsBack(t *testing.T, selector string) {
	t.Helper()
	tab.poll(t, `(selector) => document.querySelector(selector) === null`, selector)
}

// poll waits until a function is true.
func (tab *chatTab) poll(t *testing.T, function string, args ...any) {
	t.Helper()
	tab.run(t, chromedp.PollFunction[chromedp.Void](function,
		chromedp.WithPollingArgs(args...), chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(deadline)))
}

// expect waits until a function returns that.
func (tab *chatTab) expect(t *testing.T, function string, want any) {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	require.NoError(t, encoder.Encode(want))
	ctx, cancel := context.WithTimeout(tab.ctx, deadline)
	defer cancel()
	err := chromedp.Do(ctx, chromedp.PollFunction[chromedp.Void](`(want) => JSON.stringify((`+function+`)()) === want`,
		chromedp.WithPollingArgs(strings.TrimSpace(b.String())), chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(deadline)))
	if err != nil {
		got, _ := chromedp.Run(tab.ctx, chromedp.Evaluate[string](`JSON.stringify((`+function+`)())`))
		require.NoError(t, err, "%s: it is %s, not %s", tab.name, got, &b)
	}
}

// shows expects exactly these messages in the log, in that order.
func (tab *chatTab) shows(t *testing.T, texts ...string) {
	t.Helper()
	tab.expect(t, `() => [...document.querySelectorAll("#log .message .text")].map((e) => e.textContent)`, texts)
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Host
}

// keepScreenshots keeps what the tabs of a failed test show.
func keepScreenshots(t *testing.T, tabs ...*chatTab) {
	if !t.Failed() {
		return
	}
	for _, tab := range tabs {
		name := filepath.Join(artefacts, strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())+"-"+tab.name+".png")
		if err := tab.screenshot(name); err != nil {
			t.Log("no screenshot:", err)
		} else {
			t.Log("screenshot:", name)
		}
	}
}

func (tab *chatTab) screenshot(name string) error {
	ctx, cancel := context.WithTimeout(tab.ctx, deadline)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, png, 0o644)
}
