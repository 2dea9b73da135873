package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
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
		main()
	}
	os.Exit(m.Run())
}

// start runs the program on free ports until the test has ended.
func start(t *testing.T, args ...string) addresses {
	t.Helper()
	addrs, stop := launch(t, args...)
	t.Cleanup(stop)
	return addrs
}

// launch runs the program on free ports. stop ends it and checks its exit code.
func launch(t *testing.T, args ...string) (addrs addresses, stop func()) {
	t.Helper()
	args = append([]string{"-addr", "127.0.0.1:0", "-web", "127.0.0.1:0"}, args...)
	return begin(t, func(ctx context.Context, ready func(addresses)) int {
		return run(ctx, args, io.Discard, io.Discard, ready)
	})
}

// begin runs what is the program until stop, which checks its exit code.
func begin(t *testing.T, program func(ctx context.Context, ready func(addresses)) (code int)) (addrs addresses, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	listening, exited := make(chan addresses, 1), make(chan int, 1)
	go func() { exited <- program(ctx, func(addrs addresses) { listening <- addrs }) }()
	addrs = receive(t, listening)
	return addrs, func() {
		t.Helper()
		cancel()
		require.Zero(t, receive(t, exited), "exit code")
	}
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
	answers chan websocket.Response
	lastID  uint64
}

// newDevice makes a device that is not yet connected.
func newDevice(t *testing.T, addrs addresses, query string, headers http.Header) *device {
	d := &device{t: t, notices: make(chan websocket.Response, 1000), answers: make(chan websocket.Response, 1000)}
	d.client = &websocket.Client{
		Endpoint: "ws://" + addrs.ws.String() + "/" + query,
		Headers:  headers,
		HandleText: func(_ *websocket.Client, frame *websocket.Frame) error {
			var res websocket.Response
			if err := json.Unmarshal(frame.Payload(), &res); err != nil {
				return err
			}
			if res.ID == 0 {
				d.notices <- res
			} else {
				d.answers <- res
			}
			return nil
		},
	}
	t.Cleanup(d.client.Quit)
	return d
}

// join connects a device of a demo user and waits for its welcome.
func join(t *testing.T, addrs addresses, name string) (d *device, welcome chat.Welcome) {
	t.Helper()
	d = newDevice(t, addrs, "", http.Header{"Authorization": {"Bearer " + keyOf(t, name)}})
	require.NoError(t, d.client.Connect())
	return d, d.welcomed()
}

// welcomed waits for the welcome. Comings and goings may be told before.
func (d *device) welcomed() (welcome chat.Welcome) {
	d.t.Helper()
	notice := receive(d.t, d.notices)
	for notice.Message == chat.NoticeJoin || notice.Message == chat.NoticeLeave {
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
	d.lastID++
	request, err := json.Marshal(map[string]any{"id": d.lastID, "method": method, "target": target, "body": body})
	require.NoError(d.t, err)
	require.NoError(d.t, d.client.SendText(request))
	res := receive(d.t, d.answers)
	require.Equal(d.t, d.lastID, res.ID)
	return res
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
