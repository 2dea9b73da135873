package chatserver

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// patience is how long a test waits for something that should happen immediately.
const patience = 20 * time.Second

// mainVariable in the environment makes the test binary behave as the program, for tests of signals and exit codes.
const mainVariable = "CHAT_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		os.Exit(Main(Alone()))
	}
	os.Exit(m.Run())
}

// start runs the program on a free port until the test has ended.
func start(t *testing.T, args ...string) (addr string) {
	t.Helper()
	addr, stop := launch(t, io.Discard, args...)
	t.Cleanup(stop)
	return addr
}

// launch runs the program on a free port. stop ends it and checks its exit code.
func launch(t *testing.T, output io.Writer, args ...string) (addr string, stop func()) {
	t.Helper()
	return launchProgram(t, program(output, append([]string{"-addr", local + ":0"}, args...)...))
}

func launchProgram(t *testing.T, p *Program) (addr string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	listening, exited := make(chan net.Addr, 1), make(chan int, 1)
	p.Ready = func(on net.Addr) { listening <- on }
	go func() { exited <- p.Run(ctx) }()
	addr = receive(t, listening).String()
	return addr, func() {
		t.Helper()
		cancel()
		require.Zero(t, receive(t, exited), "exit code")
	}
}

// program is one that writes what it has to say, and its log, to one place.
func program(output io.Writer, args ...string) *Program {
	return &Program{Start: Alone(), Args: args, Stdout: output, Stderr: output}
}

func receive[T any](t *testing.T, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(patience):
		require.Fail(t, "nothing came in time")
	}
	return value
}

func keyOf(t *testing.T, name string) string {
	t.Helper()
	key, ok := chat.DemoKey(name)
	require.True(t, ok)
	return key
}

// device is a connection of a user.
type device struct {
	t       *testing.T
	client  *websocket.Client
	notices chan websocket.Response
}

// newDevice makes a device that is not yet connected.
func newDevice(t *testing.T, addr string, query string, headers http.Header) *device {
	d := &device{t: t, notices: make(chan websocket.Response, 1000)}
	d.client = &websocket.Client{
		Endpoint: "ws://" + addr + "/" + query,
		Headers:  headers,
		HandleText: func(_ *websocket.Client, frame *websocket.Frame) error {
			var res websocket.Response
			if err := json.Unmarshal(frame.Payload(), &res); err != nil {
				return err
			}
			d.notices <- res
			return nil
		},
	}
	t.Cleanup(d.client.Quit)
	return d
}

// join connects a device of a demo user and waits for its welcome.
func join(t *testing.T, addr string, name string) (d *device, welcome chat.Welcome) {
	t.Helper()
	d = newDevice(t, addr, "", http.Header{"Authorization": {"Bearer " + keyOf(t, name)}})
	require.NoError(t, d.client.Connect())
	return d, d.welcomed()
}

// welcomed waits for the welcome. Comings and goings may be told before.
func (d *device) welcomed() (welcome chat.Welcome) {
	d.t.Helper()
	notice := receive(d.t, d.notices)
	for slices.Contains([]string{chat.NoticeJoin, chat.NoticeLeave, chat.NoticePresence}, notice.Message) {
		notice = receive(d.t, d.notices)
	}
	require.Equal(d.t, chat.NoticeWelcome, notice.Message)
	require.NoError(d.t, json.Unmarshal([]byte(notice.Body), &welcome))
	return welcome
}

// expect requires the next notice to be of that name, and reads its body.
func expect[T any](d *device, notice string) (body T) {
	d.t.Helper()
	res := receive(d.t, d.notices)
	require.Equal(d.t, notice, res.Message, res.Body)
	require.Zero(d.t, res.Code)
	require.NoError(d.t, json.Unmarshal([]byte(res.Body), &body))
	return body
}

// ask sends a request and returns its answer.
func (d *device) ask(method, target, body string) websocket.Response {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	res, err := d.client.Call(ctx, &websocket.Request{Method: method, Target: target, Body: body})
	require.NoError(d.t, err)
	return *res
}

// get requires a request to be answered with that code, and reads the answer's body.
func get[T any](d *device, code int, method, target, body string) (answer T) {
	d.t.Helper()
	res := d.ask(method, target, body)
	require.EqualValues(d.t, code, res.Code, res.Message)
	require.NoError(d.t, json.Unmarshal([]byte(res.Body), &answer))
	return answer
}

// say sends a message to all.
func (d *device) say(text string) chat.Message {
	d.t.Helper()
	return get[chat.Message](d, http.StatusCreated, http.MethodPost, "/messages", text)
}

func texts(messages []chat.Message) (texts string) {
	for _, m := range messages {
		texts += m.Text + " "
	}
	return strings.TrimSpace(texts)
}

// lockedBuffer keeps what several goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}
