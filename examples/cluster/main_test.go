package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
	"github.com/wsloop/websocket/examples/internal/chatserver"
)

// patience is how long a test waits for something that should happen immediately.
const patience = time.Minute

// retryPause is longer than the quota of messages wants.
const retryPause = 300 * time.Millisecond

// server is one of several.
type server struct {
	addr string
	stop func()
}

// startServers starts two nodes.
func startServers(t *testing.T) (first, second *server) {
	t.Helper()
	peers := []string{freeAddress(t), freeAddress(t)}
	var servers []*server
	for _, listen := range peers {
		servers = append(servers, startServer(t, &options{listen: listen, peers: strings.Join(peers, ","), replicas: 1}))
	}
	return servers[0], servers[1]
}

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func startServer(t *testing.T, o *options) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	listening, exited := make(chan net.Addr, 1), make(chan int, 1)
	p := chatserver.Program{
		Start:  o.start,
		Args:   []string{"-addr", "127.0.0.1:0"},
		Stdout: io.Discard,
		Stderr: io.Discard,
		Ready:  func(on net.Addr) { listening <- on },
	}
	go func() { exited <- p.Run(ctx) }()
	s := &server{addr: receive(t, listening).String()}
	s.stop = func() {
		t.Helper()
		cancel()
		assert.Zero(t, receive(t, exited), "exit code")
		exited <- 0
	}
	t.Cleanup(s.stop)
	return s
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

// device is a connection of a demo user.
type device struct {
	t       *testing.T
	client  *websocket.Client
	notices chan websocket.Response
}

// join connects a user, as soon as there is a history, and waits for the welcome.
func (s *server) join(t *testing.T, name, query string) (d *device, welcome chat.Welcome) {
	t.Helper()
	key, _ := chat.DemoKey(name)
	for {
		d = &device{t: t, notices: make(chan websocket.Response, 1000)}
		d.client = &websocket.Client{
			Endpoint: "ws://" + s.addr + "/?key=" + key + query,
			HandleText: func(_ *websocket.Client, frame *websocket.Frame) error {
				var res websocket.Response
				if err := json.Unmarshal(frame.Payload(), &res); err != nil {
					return err
				}
				d.notices <- res
				return nil
			},
			HandleQuit: func() { close(d.notices) },
		}
		require.NoError(t, d.client.Connect())
		for notice := range d.notices {
			if notice.Message == chat.NoticeWelcome {
				require.NoError(t, json.Unmarshal([]byte(notice.Body), &welcome))
				t.Cleanup(d.client.Quit)
				return d, welcome
			}
		}
	}
}

// expect waits for a notice.
func expect[T any](d *device, notice string) (body T, seq int64) {
	d.t.Helper()
	for {
		res := receive(d.t, d.notices)
		if res.Message == notice {
			require.NoError(d.t, json.Unmarshal([]byte(res.Body), &body))
			return body, int64(res.Seq)
		}
	}
}

// until does something again and again until there is a notice.
func until(d *device, notice string, do func()) websocket.Response {
	d.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		do()
		pause := time.After(retryPause)
	wait:
		for {
			select {
			case res := <-d.notices:
				if res.Message == notice {
					return res
				}
			case <-pause:
				break wait
			}
		}
	}
	require.Fail(d.t, "nothing came in time")
	return websocket.Response{}
}

// get requires a request to be answered with that code, and reads the answer's body.
func get[T any](d *device, code int, method, target, body string) (answer T) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req := &websocket.Request{Method: method, Target: target, Body: body}
	res, err := d.client.Call(ctx, req)
	for err == nil && res.Code == http.StatusServiceUnavailable { // the store is not there yet
		<-time.After(retryPause)
		res, err = d.client.Call(ctx, req)
	}
	require.NoError(d.t, err)
	require.EqualValues(d.t, code, res.Code, res.Message)
	require.NoError(d.t, json.Unmarshal([]byte(res.Body), &answer))
	return answer
}

func (d *device) say(room, text, ref string) chat.Sent {
	d.t.Helper()
	return get[chat.Sent](d, http.StatusCreated, http.MethodPost, "/rooms/"+room+"/messages?ref="+ref, text)
}

func TestHistoryIsNeeded(t *testing.T) {
	var said strings.Builder
	p := chatserver.Program{Start: new(options).start, Args: []string{"-addr", "127.0.0.1:0", "-history", "0"}, Stdout: io.Discard, Stderr: &said}
	assert.Equal(t, 1, p.Run(t.Context()))
	assert.Contains(t, said.String(), errNothingKept.Error())
}

func TestTwoServersAreOne(t *testing.T) {
	first, second := startServers(t)
	alice, _ := first.join(t, "alice", "")
	bob, welcome := second.join(t, "bob", "")
	for !slices.Contains(welcome.People, chat.Person{Name: "alice", Presence: chat.Here}) { // the servers do not know each other yet
		require.NoError(t, bob.client.Close())
		bob, welcome = second.join(t, "bob", "")
	}
	who, _ := expect[chat.User](alice, chat.NoticeJoin)
	assert.Equal(t, "bob", who.Name)

	said := alice.say(chat.Lobby, "from the first", "a")
	assert.Positive(t, said.ID)
	heard, seq := expect[chat.Message](bob, chat.NoticeMessage)
	assert.Equal(t, "from the first", heard.Text)
	assert.Equal(t, said.ID, cmp.Or(heard.ID, seq))

	get[chat.Room](bob, http.StatusCreated, http.MethodPut, "/rooms/den", "")
	room, _ := expect[chat.Room](alice, chat.NoticeRoom)
	assert.Equal(t, "den", room.Name)
	get[chat.Room](alice, http.StatusOK, http.MethodPut, "/rooms/den", "")
	// It takes a moment until the other server knows that somebody hears the room here.
	typing := until(alice, chat.NoticeTyping, func() {
		get[chat.Typing](bob, http.StatusOK, http.MethodPost, "/rooms/den/typing", "")
	})
	assert.Contains(t, typing.Body, `"bob"`)
	told := until(alice, chat.NoticeMessage, func() { bob.say("den", "in the den", "") })
	assert.Contains(t, told.Body, "in the den")

	whispered := get[chat.Sent](bob, http.StatusCreated, http.MethodPost, "/users/alice/messages", "psst")
	assert.Equal(t, 1, whispered.Reached)
	heard, _ = expect[chat.Message](alice, chat.NoticePrivate)
	assert.Equal(t, "psst", heard.Text)
	get[chat.Sent](bob, http.StatusCreated, http.MethodPost, "/users/carol/messages", "for later")

	carol, welcome := first.join(t, "carol", "&rooms=den")
	assert.Subset(t, texts(welcome.History), []string{"from the first", "in the den", "for later"})
	assert.Equal(t, []string{"psst"}, texts(get[[]chat.Message](alice, http.StatusOK, http.MethodGet, "/history?with=bob&last=9", "")))
	assert.Equal(t, []string{"for later"}, texts(get[[]chat.Message](carol, http.StatusOK, http.MethodGet, "/history?with=bob&last=9", "")))

	require.NoError(t, bob.client.Close())
	who, _ = expect[chat.User](alice, chat.NoticeLeave)
	assert.Equal(t, "bob", who.Name)
}

func TestWhoComesToAnotherServerMissesNothingAndSaysNothingTwice(t *testing.T) {
	first, second := startServers(t)
	alice, _ := second.join(t, "alice", "")
	bob, _ := first.join(t, "bob", "")
	seen := alice.say(chat.Lobby, "seen", "a")
	mine := alice.say(chat.Lobby, "was that sent?", "b")
	require.NoError(t, alice.client.Close())
	bob.say(chat.Lobby, "meanwhile", "c")

	alice, welcome := first.join(t, "alice", fmt.Sprintf("&since=%d", seen.ID))
	assert.Equal(t, []string{"was that sent?", "meanwhile"}, texts(welcome.History))
	assert.False(t, welcome.Missed)
	assert.False(t, welcome.More)
	again := get[chat.Sent](alice, http.StatusCreated, http.MethodPost, "/messages?ref=b", "was that sent?")
	assert.Equal(t, mine.ID, again.ID)
	require.NoError(t, alice.client.Close())
	alice, _ = second.join(t, "alice", fmt.Sprintf("&since=%d", mine.ID)) // it was seen, though its answer was not
	again = get[chat.Sent](alice, http.StatusOK, http.MethodPost, "/messages?ref=b", "was that sent?")
	assert.Equal(t, mine.ID, again.ID, "this server has taken it itself")
	another := bob.say(chat.Lobby, "to be seen", "e")
	require.NoError(t, bob.client.Close())
	bob, _ = second.join(t, "bob", fmt.Sprintf("&since=%d", another.ID))
	assert.Equal(t, another.ID, bob.say(chat.Lobby, "to be seen", "e").ID, "the other one has")
	alice.say(chat.Lobby, "last", "d")
	got := texts(get[[]chat.Message](bob, http.StatusOK, http.MethodGet, "/history?last=9", ""))
	assert.Equal(t, []string{"seen", "was that sent?", "meanwhile", "to be seen", "last"}, got)
}

func TestHistoryComesInPagesInTheOrderOfAllRooms(t *testing.T) {
	only := startServer(t, &options{replicas: 1})
	alice, _ := only.join(t, "alice", "")
	get[chat.Room](alice, http.StatusCreated, http.MethodPut, "/rooms/den", "")
	want := []string{}
	first := int64(0)
	for i := range 15 {
		want = append(want, fmt.Sprint(i))
		said := alice.say([]string{chat.Lobby, "den"}[i%2], want[i], "")
		if i == 0 {
			first = said.ID
		}
	}
	got := get[[]chat.Message](alice, http.StatusOK, http.MethodGet, fmt.Sprintf("/history?since=%d", first), "")
	assert.Equal(t, want[1:], texts(got))
	got = get[[]chat.Message](alice, http.StatusOK, http.MethodGet, fmt.Sprintf("/history?room=den&last=2&before=%d", got[6].ID), "")
	assert.Equal(t, []string{"3", "5"}, texts(got))
}

func texts(messages []chat.Message) (texts []string) {
	for _, m := range messages {
		texts = append(texts, m.Text)
	}
	return texts
}
