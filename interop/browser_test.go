package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// chromium is the client of a real browser.
var chromium = peer{
	name:      "chromium",
	client:    clientChromium,
	clientCan: standardCan,
	secured:   []security{tls13AES, tls12ChaRSA},

	compressing:  func(compression) peer { return peer{client: clientChromium} }, // it always does
	compressions: []compression{{takeover: true, bits: 15}},
}

// startBrowser starts a browser without a window, with a profile of its own, that trusts the authority of the tests. It ends with the test.
func startBrowser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		missing(t, "chromium is not installed")
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless,
		chromedp.NoSandbox,
		chromedp.NoFirstRun,
		chromedp.DisableGPU,
		chromedp.Env("HOME=" + trustingHome(t)),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.WSURLReadTimeout(deadline),
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	t.Cleanup(cancel)
	return ctx
}

// openTab opens a tab: the first one starts the browser, and a later one belongs to the browser of the context that the first
// one returned.
func openTab(t *testing.T, parent context.Context) context.Context {
	t.Helper()
	tab, cancel := chromedp.NewContext(parent)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(tab), "browser")
	return tab
}

func clientChromium(t *testing.T, _ security) (dial func(url string, offer []string) (conn, error)) {
	return remoteTab(t, openTab(t, startBrowser(t))).dial
}

// remoteTab has a tab take commands, on the page that it shows.
func remoteTab(t *testing.T, tab context.Context) *remote {
	script, err := os.ReadFile("node/standard.js")
	require.NoError(t, err)
	r := newRemote()
	require.NoError(t, chromedp.Listen(tab, func(ev any) {
		if call, ok := ev.(*runtime.EventBindingCalled); ok {
			if err := r.report([]byte(call.Payload)); err != nil {
				t.Error(err)
			}
		}
	}))
	var mu sync.Mutex // held for one command
	run := func(script string) error {
		mu.Lock()
		defer mu.Unlock()
		ctx, cancel := context.WithTimeout(tab, deadline)
		defer cancel()
		return chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void](script))
	}
	r.tell = func(c command) error {
		line, err := json.Marshal(c)
		if err != nil {
			return err
		}
		return run(fmt.Sprintf("void command(%s)", line))
	}
	_, err = chromedp.Call(tab, runtime.AddBinding, runtime.AddBindingParams{Name: "report"})
	require.NoError(t, err)
	require.NoError(t, run(string(script)))
	require.NoError(t, run("void (globalThis.command = standardPeer((event) => report(JSON.stringify(event))))"))
	return r
}
