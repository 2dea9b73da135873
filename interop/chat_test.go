package interop

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// artefacts is where screenshots of failed tests are kept.
const artefacts = "artefacts"

// TestChatInABrowser is what two people do with the demonstration in examples/server.
func TestChatInABrowser(t *testing.T) {
	t.Parallel()
	allocator := startBrowser(t)
	url := startChat(t)
	first := openTab(t, allocator)
	alice := &chatTab{ctx: first, name: "alice"}
	bob := &chatTab{ctx: openTab(t, first), name: "bob"}
	t.Cleanup(func() { keepScreenshots(t, alice, bob) })

	alice.join(t, url)
	bob.join(t, url)
	alice.waitFor(t, "#log", "bob is here")
	alice.waitFor(t, "#users", "bob")
	bob.waitFor(t, "#users", "alice")

	const greeting = "Grüße an alle 😀 <b>not bold</b>"
	alice.say(t, greeting)
	bob.waitFor(t, "#log .message", greeting)
	alice.waitFor(t, "#log .mine", greeting)

	bob.address(t, "alice")
	bob.say(t, "only for you")
	alice.waitFor(t, "#log .private", "only for you")
	bob.waitFor(t, "#log .private.mine", "only for you")

	alice.say(t, "back to everybody")
	bob.waitFor(t, "#log .message:not(.private)", "back to everybody")

	bob.run(t, chromedp.Click(chromedp.CSS("#leave")), chromedp.WaitVisible(chromedp.CSS("#login")))
	alice.waitFor(t, "#log", "bob has left")

	alice.run(t, chromedp.Reload())
	alice.waitFor(t, "#status", "Connected as alice")
	alice.waitFor(t, "#log", greeting)
}

func TestChatRefusesAnUnknownKeyInABrowser(t *testing.T) {
	t.Parallel()
	allocator := startBrowser(t)
	eve := &chatTab{ctx: openTab(t, allocator), name: "eve"}
	t.Cleanup(func() { keepScreenshots(t, eve) })
	eve.run(t,
		chromedp.Navigate(startChat(t)),
		chromedp.SendKeys(chromedp.CSS("#key"), "not a key"+kb.Enter),
	)
	eve.waitFor(t, "#login-error", "unknown")
}

// startChat builds and runs examples/server, and returns the URL of its page. At the end of the test it is interrupted, and
// must exit with 0.
func startChat(t *testing.T) (url string) {
	t.Helper()
	return runChat(t, buildChat(t)).page
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
}

// runChat runs the server of the chat, with a port for WebSocket clients and one for the page. It is stopped at the end of the test, if
// it was not before, and must exit with 0.
func runChat(t *testing.T, program string, args ...string) *chatServer {
	t.Helper()
	return runChatAs(t, exec.Command(program, append([]string{"-addr", "127.0.0.1:0", "-web", "127.0.0.1:0"}, args...)...))
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
	return &chatServer{ws: within(t, found), page: within(t, found), stop: stop}
}

// chatTab is a tab with the page of the chat.
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

// join opens the page and logs in as one of the demonstration's users.
func (tab *chatTab) join(t *testing.T, url string) {
	t.Helper()
	tab.run(t,
		chromedp.Navigate(url),
		chromedp.Click(fmt.Sprintf(`//*[@id="demo-users"]/button[.=%q]`, tab.name)),
	)
	tab.waitFor(t, "#status", "Connected as "+tab.name)
}

// say writes a message as a person does.
func (tab *chatTab) say(t *testing.T, message string) {
	t.Helper()
	tab.run(t,
		chromedp.SendKeys(chromedp.CSS("#text"), message),
		chromedp.WaitEnabled(chromedp.CSS("#compose [type=submit]")),
		chromedp.Click(chromedp.CSS("#compose [type=submit]")),
	)
	tab.poll(t, `() => document.querySelector("#text").value === ""`)
}

// address makes the next messages go to one user.
func (tab *chatTab) address(t *testing.T, name string) {
	t.Helper()
	tab.run(t, chromedp.Click(fmt.Sprintf(`//*[@id="users"]//button[.=%q]`, name)))
	tab.waitFor(t, "#recipient-text", name)
}

// waitFor waits until an element that the selector names shows the text.
func (tab *chatTab) waitFor(t *testing.T, selector, text string) {
	t.Helper()
	tab.poll(t, `(selector, text) => [...document.querySelectorAll(selector)].some((e) => e.innerText.includes(text))`, selector, text)
}

// poll waits until a function is true.
func (tab *chatTab) poll(t *testing.T, function string, args ...any) {
	t.Helper()
	tab.run(t, chromedp.PollFunction[chromedp.Void](function,
		chromedp.WithPollingArgs(args...), chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(deadline)))
}

// keepScreenshots keeps what the tabs of a failed test show.
func keepScreenshots(t *testing.T, tabs ...*chatTab) {
	if !t.Failed() {
		return
	}
	if err := os.MkdirAll(artefacts, 0o755); err != nil {
		t.Log(err)
		return
	}
	for _, tab := range tabs {
		ctx, cancel := context.WithTimeout(tab.ctx, deadline)
		defer cancel()
		png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		if err == nil {
			name := filepath.Join(artefacts, strings.ReplaceAll(t.Name(), "/", "-")+"-"+tab.name+".png")
			err = os.WriteFile(name, png, 0o644)
			t.Log("screenshot:", name)
		}
		if err != nil {
			t.Log("no screenshot:", err)
		}
	}
}
