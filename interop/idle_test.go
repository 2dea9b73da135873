package interop

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

// idleWay is the variable by which BenchmarkIdleServer knows which server to be.
const idleWay = "WEBSOCKET_IDLE_WAY"

// What an idle connection costs the server process by the way that it came, after one echo: the slope from few to many, of resident
// memory and of its parts that Go knows of. The clients are in this process, the server is in a child: this test binary, run again.
//
//	go test -run '^$' -bench IdleConnection -benchtime 1x .
func BenchmarkIdleConnection(b *testing.B) {
	for _, way := range []string{"own listener", "own listener with a Handler", "mux", "TLS of net/http", "HTTP/2"} {
		b.Run(way, func(b *testing.B) {
			for range b.N {
				measureIdle(b, way)
			}
		})
	}
}

func measureIdle(b *testing.B, way string) {
	const few, many = 1000, 4000
	child := exec.Command(os.Args[0], "-test.run=^TestIdleServer$", "-test.v")
	child.Env = append(os.Environ(), idleWay+"="+way)
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	require.NoError(b, err)
	stdout, err := child.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, child.Start())
	lines := bufio.NewScanner(stdout)
	read := func(name string) string {
		for lines.Scan() {
			if _, value, ok := strings.Cut(lines.Text(), name+"="); ok {
				return value
			}
		}
		b.Fatal("server has gone")
		return ""
	}
	names := []string{"resident", "heap", "stacks", "goroutines", "descriptors"}
	measure := func() (values []float64) {
		fmt.Fprintln(stdin, "measure")
		for _, name := range names {
			value, err := strconv.ParseFloat(read(name), 64)
			require.NoError(b, err)
			values = append(values, value)
		}
		return values
	}
	url := read("url")
	var conns []io.ReadWriteCloser
	open := func(n int) {
		for len(conns) < n {
			c, err := dialIdle(url, way == "HTTP/2")
			require.NoError(b, err)
			conns = append(conns, c)
		}
	}
	open(few)
	before := measure()
	open(many)
	for i, value := range measure() {
		b.ReportMetric((value-before[i])/(many-few), names[i]+"/conn")
	}
	stdin.Close()
	for _, c := range conns {
		c.Close()
	}
	require.NoError(b, child.Wait())
}

// dialIdle connects and has a text echoed.
func dialIdle(url string, http2 bool) (c io.ReadWriteCloser, err error) {
	if http2 {
		c, err = dialIdleStream(url)
	} else {
		c, err = dialIdleConn(url)
	}
	if err != nil {
		return nil, err
	}
	packet := websocket.NewFrameText(true, []byte("hello"))
	if _, err = c.Write(packet); err != nil {
		return nil, err
	}
	want := websocket.NewFrameText(false, []byte("hello"))
	got := make([]byte, len(want))
	if _, err = io.ReadFull(c, got); err == nil && string(got) != string(want) {
		err = fmt.Errorf("got %q", got)
	}
	return c, err
}

func dialIdleConn(target string) (net.Conn, error) {
	c, err := dialEager(target, nil)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	r := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Key":     {"AAAAAAAAAAAAAAAAAAAAAA=="},
		"Sec-Websocket-Version": {"13"},
	}}
	if err = r.Write(c); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(c, 16), r) // nothing comes behind it before the text is sent
	if err == nil && res.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return c, err
}

// dialIdleStream opens a stream of HTTP/2 on a connection of its own.
func dialIdleStream(target string) (io.ReadWriteCloser, error) {
	r, err := http.NewRequest(http.MethodGet, "https"+strings.TrimPrefix(target, "wss"), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Sec-WebSocket-Version", "13")
	res, err := streamTransport{}.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	c, ok := res.Body.(io.ReadWriteCloser)
	if !ok {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	return c, nil
}

// TestIdleServer is the server of BenchmarkIdleConnection.
func TestIdleServer(t *testing.T) {
	name := os.Getenv(idleWay)
	if name == "" {
		t.Skip("is run by BenchmarkIdleConnection")
	}
	for _, w := range ways {
		if w.name == name {
			url, _ := departures.expect(w.start(t))
			fmt.Println("url=" + url)
		}
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("resident=%d\nheap=%d\nstacks=%d\ngoroutines=%d\ndescriptors=%d\n",
			resident(t), m.HeapInuse, m.StackInuse, runtime.NumGoroutine(), descriptors(t))
	}
}

func resident(t *testing.T) int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	require.NoError(t, err)
	return pages * int64(os.Getpagesize())
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}
