package chatserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
)

func TestJoinAndLeaveAreToldOncePerUser(t *testing.T) {
	addr := start(t)
	alice, welcome := join(t, addr, "alice")
	assert.Equal(t, []string{"alice"}, welcome.Users)
	assert.Empty(t, welcome.History)

	phone, welcome := join(t, addr, "bob")
	assert.Equal(t, []string{"alice", "bob"}, welcome.Users)
	laptop, _ := join(t, addr, "bob")
	require.NoError(t, phone.client.Close())
	require.NoError(t, laptop.client.Close())

	// One of each. The next join comes after all that the two devices may have caused.
	assert.Equal(t, chat.User{Name: "bob"}, expect[chat.User](alice, chat.NoticeJoin))
	assert.Equal(t, chat.User{Name: "bob"}, expect[chat.User](alice, chat.NoticeLeave))
	assert.Equal(t, []string{"alice"}, get[[]string](alice, http.StatusOK, http.MethodGet, "/users", ""))
	join(t, addr, "bob")
	assert.Equal(t, chat.User{Name: "bob"}, expect[chat.User](alice, chat.NoticeJoin))
	assert.Equal(t, []string{"alice", "bob"}, get[[]string](alice, http.StatusOK, http.MethodGet, "/users", ""))
}

func TestMessageReachesAll(t *testing.T) {
	addr := start(t)
	alice, _ := join(t, addr, "alice")
	bob, _ := join(t, addr, "bob")
	expect[chat.User](alice, chat.NoticeJoin)

	answer := bob.say("  Hello <b>all</b> \"☺\"\r\nsecond line ")
	assert.Equal(t, "bob", answer.From)
	assert.Empty(t, answer.To)
	assert.Equal(t, "Hello <b>all</b> \"☺\"\nsecond line", answer.Text)
	assert.WithinDuration(t, time.Now(), answer.Time, time.Minute)
	assert.Equal(t, answer, expect[chat.Message](alice, chat.NoticeMessage))
	assert.Equal(t, answer, expect[chat.Message](bob, chat.NoticeMessage))
	assert.Greater(t, alice.say("Hello bob").ID, answer.ID)
}

func TestPrivateMessageReachesAllDevicesOfBothUsersAndNobodyElse(t *testing.T) {
	addr := start(t)
	sender, _ := join(t, addr, "alice")
	others := []*device{}
	for _, name := range []string{"alice", "bob", "bob"} {
		d, _ := join(t, addr, name)
		others = append(others, d)
	}
	carol, _ := join(t, addr, "carol")

	message := get[chat.Message](sender, http.StatusCreated, http.MethodPost, "/users/bob/messages", "psst")
	assert.Equal(t, "alice", message.From)
	assert.Equal(t, "bob", message.To)
	assert.Equal(t, "psst", message.Text)
	last := carol.say("anything new?")

	// What comes before carol's message is all there was.
	private := func(d *device) (got []chat.Message) {
		t.Helper()
		for {
			switch notice := receive(t, d.notices); notice.Message {
			case chat.NoticePrivate:
				got = append(got, message)
				assert.JSONEq(t, encode(message), notice.Body)
			case chat.NoticeMessage:
				assert.JSONEq(t, encode(last), notice.Body)
				return got
			}
		}
	}
	for _, d := range others {
		assert.Len(t, private(d), 1)
	}
	assert.Empty(t, private(sender), "the answer is enough")
	assert.Empty(t, private(carol))
	history := get[[]chat.Message](carol, http.StatusOK, http.MethodGet, "/history", "")
	assert.Equal(t, "anything new?", texts(history))
}

func TestHistory(t *testing.T) {
	addr := start(t, "-history", "3")
	alice, _ := join(t, addr, "alice")
	for i := range 5 {
		alice.say(fmt.Sprint(i))
	}
	bob, welcome := join(t, addr, "bob")
	assert.Equal(t, "2 3 4", texts(welcome.History))
	for last, want := range map[string]string{"": "2 3 4", "?last=2": "3 4", "?last=0": "", "?last=99": "0 1 2 3 4", "?last=2&room=lobby": "3 4", "?last=2&room=none": "", fmt.Sprintf("?last=2&before=%d", welcome.History[1].ID): "1 2"} {
		got := get[[]chat.Message](bob, http.StatusOK, http.MethodGet, "/history"+last, "")
		assert.NotNil(t, got)
		assert.Equal(t, want, texts(got), "history%s", last)
	}
}

func TestHistoryOfNoLengthKeepsNothing(t *testing.T) {
	addr := start(t, "-history", "0")
	alice, _ := join(t, addr, "alice")
	alice.say("gone with the wind")
	_, welcome := join(t, addr, "bob")
	assert.Empty(t, welcome.History)
}

func TestRequestsAreChecked(t *testing.T) {
	addr := start(t)
	alice, _ := join(t, addr, "alice")
	for name, test := range map[string]struct {
		method, target, body string
		code                 int
		says                 string
	}{
		"an unknown target":       {"GET", "/nowhere", "", 404, "GET /nowhere"},
		"a method without route":  {"DELETE", "/messages", "", 404, "DELETE /messages"},
		"an unknown method":       {"BREW", "/messages", "", 404, "BREW"},
		"an empty message":        {"POST", "/messages", " \n\t", 400, "empty"},
		"a message too long":      {"POST", "/messages", strings.Repeat("é", chat.MaxText+1), 413, "2000"},
		"control characters":      {"POST", "/messages", "\x1b[2J", 400, "control"},
		"C1 control characters":   {"POST", "/messages", "\u009b2J", 400, "control"},
		"a private one too long":  {"POST", "/users/bob/messages", strings.Repeat("é", chat.MaxText+1), 413, "2000"},
		"an unknown user":         {"POST", "/users/nobody/messages", "psst", 404, "no such user"},
		"an unknown room":         {"POST", "/rooms/nowhere/messages", "psst", 404, "no such room"},
		"a room of no such name":  {"PUT", "/rooms/No%20Such", "", 400, "room"},
		"leaving the lobby":       {"DELETE", "/rooms/lobby", "", 400, "lobby"},
		"leaving no room":         {"DELETE", "/rooms/nowhere", "", 404, "no such room"},
		"typing nowhere":          {"POST", "/rooms/nowhere/typing", "", 404, "no such room"},
		"typing to nobody":        {"POST", "/users/nobody/typing", "", 404, "no such user"},
		"a presence of no sort":   {"POST", "/presence", "asleep", 400, "here or away"},
		"a before of no number":   {"GET", "/history?before=x", "", 400, "before"},
		"a message to oneself":    {"POST", "/users/alice/messages", "psst", 400, "that is you"},
		"a history of no number":  {"GET", "/history?last=many", "", 400, "last"},
		"a history of minus one":  {"GET", "/history?last=-1", "", 400, "last"},
		"a since of no number":    {"GET", "/history?since=yesterday", "", 400, "since"},
		"a since below zero":      {"GET", "/history?since=-1", "", 400, "since"},
		"a name of no sort":       {"POST", "/messages?ref=a%20b", "Hello", 400, "ref"},
		"a name too long":         {"POST", "/messages?ref=" + strings.Repeat("x", 65), "Hello", 400, "ref"},
		"a query that is no such": {"GET", "/history?last=%zz", "", 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			alice.t = t
			res := alice.ask(test.method, test.target, test.body)
			assert.EqualValues(t, test.code, res.Code)
			assert.Contains(t, res.Message, test.says)
			assert.Empty(t, res.Body)
		})
	}
	alice.t = t
	longest := strings.Repeat("\U0001F642", chat.MaxText)
	assert.Equal(t, longest, alice.say(longest).Text, "of the greatest length")
	assert.Equal(t, longest, expect[chat.Message](alice, chat.NoticeMessage).Text, "nothing else was said")
}

func TestRequestBeyondAllLimitsEndsTheConnection(t *testing.T) {
	addr := start(t)
	bob, _ := join(t, addr, "bob")
	alice := newDevice(t, addr, "?key="+keyOf(t, "alice"), nil)
	quit := make(chan struct{})
	alice.client.HandleQuit = func() { close(quit) }
	require.NoError(t, alice.client.Connect())
	require.NoError(t, alice.client.SendText([]byte(strings.Repeat(" ", maxRequest+1))))
	receive(t, quit)
	assert.ErrorContains(t, alice.client.Err(), "1009")
	bob.say("still here")
}

func TestSlowDeviceIsDropped(t *testing.T) {
	users, err := loadUsers("")
	require.NoError(t, err)
	s, err := newServer(users, 20, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	all := newAlone(s.ws.Clients, maxHistory)
	s.spread = all
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.ws.Serve(ln) }()
	t.Cleanup(func() { assert.NoError(t, s.stop(ended)) })

	bob, _ := join(t, ln.Addr().String(), "bob")
	join(t, ln.Addr().String(), "alice")
	expect[chat.User](bob, chat.NoticeJoin)
	connOf := func(name string) int { return s.ws.Clients.Conns(users.byName[name].id)[0] }
	all.dropSlow(map[int]error{connOf("alice"): websocket.ErrSendQueueFull, connOf("bob"): websocket.ErrConnClosed})
	assert.Equal(t, chat.User{Name: "alice"}, expect[chat.User](bob, chat.NoticeLeave))
	bob.say("still here")
}

func TestFloodIsRefusedAndToldHowLongToWait(t *testing.T) {
	addr := start(t)
	alice, _ := join(t, addr, "alice")
	bob, _ := join(t, addr, "bob")
	for left := talking.burst - 1; ; left = 0 {
		res := alice.ask(http.MethodPost, "/messages", "buy!")
		if res.Code == http.StatusTooManyRequests {
			var refused chat.Refusal
			require.NoError(t, json.Unmarshal([]byte(res.Body), &refused))
			assert.Positive(t, refused.RetryAfter)
			assert.LessOrEqual(t, refused.RetryAfter, talking.every.Milliseconds()+1)
			assert.Contains(t, res.Message, "wait 0.")
			break
		}
		var sent chat.Sent
		require.NoError(t, json.Unmarshal([]byte(res.Body), &sent))
		if left > 0 {
			assert.Equal(t, left, sent.Left)
		}
	}
	bob.say("at last")
}

func TestQuota(t *testing.T) {
	var q quota
	at := time.Now()
	for i := range talking.burst {
		assert.Equal(t, talking.burst-i, q.left(talking))
		require.Zero(t, q.take(talking, at))
	}
	assert.Zero(t, q.left(talking))
	require.Equal(t, talking.every, q.take(talking, at))
	require.EqualValues(t, 1, q.take(talking, at.Add(talking.every-1)))
	require.Zero(t, q.take(talking, at.Add(talking.every)))
	require.Equal(t, talking.every, q.take(talking, at.Add(talking.every)))
	require.Zero(t, q.take(talking, at.Add(time.Hour)))
}

func TestMessageIsSentOnceUnderEachName(t *testing.T) {
	for name, test := range map[string]struct{ target, notice string }{
		"to all":      {"/messages", chat.NoticeMessage},
		"to one user": {"/users/bob/messages", chat.NoticePrivate},
	} {
		t.Run(name, func(t *testing.T) {
			addr := start(t)
			alice, _ := join(t, addr, "alice")
			bob, _ := join(t, addr, "bob")
			carol, _ := join(t, addr, "carol")
			expect[chat.User](bob, chat.NoticeJoin)
			named := test.target + "?ref=" + strings.Repeat("x", 64)
			first := get[chat.Message](alice, http.StatusCreated, http.MethodPost, named, "Hello")
			assert.Equal(t, strings.Repeat("x", 64), first.Ref)
			again, _ := join(t, addr, "alice")
			assert.Equal(t, first, get[chat.Message](again, http.StatusOK, http.MethodPost, named, "Hello"), "over another connection")
			for _, target := range []string{test.target, "/rooms/lobby/messages", "/users/carol/messages"} {
				res := again.ask(http.MethodPost, target+"?ref="+first.Ref, "Hello, too")
				assert.EqualValues(t, http.StatusConflict, res.Code, "another message")
			}
			other := get[chat.Message](alice, http.StatusCreated, http.MethodPost, test.target+"?ref=y", "Hello")
			assert.Equal(t, first, expect[chat.Message](bob, test.notice))
			assert.Equal(t, other, expect[chat.Message](bob, test.notice), "nothing between")
			assert.Equal(t, named[len(named)-64:], get[chat.Message](carol, http.StatusCreated, http.MethodPost, named, "Hello").Ref, "the name is alice's")
		})
	}
}

func TestMessageThatTwoDevicesSendAtTheSameTimeIsSentOnce(t *testing.T) {
	addr := start(t)
	bob, _ := join(t, addr, "bob")
	var devices [2]*device
	for i := range devices {
		devices[i], _ = join(t, addr, "alice")
	}
	answers := make(chan *websocket.Response, len(devices))
	for _, d := range devices {
		go func() {
			res, err := d.client.Call(t.Context(), &websocket.Request{Method: http.MethodPost, Target: "/messages?ref=x", Body: "Hello"})
			assert.NoError(t, err)
			answers <- res
		}()
	}
	first, second := receive(t, answers), receive(t, answers)
	require.False(t, first == nil || second == nil)
	assert.ElementsMatch(t, []int32{http.StatusCreated, http.StatusOK}, []int32{first.Code, second.Code})
	assert.Equal(t, first.Body, second.Body)
	bob.say("the end")
	expect[chat.User](bob, chat.NoticeJoin)
	assert.Equal(t, "Hello", expect[chat.Message](bob, chat.NoticeMessage).Text)
	assert.Equal(t, "the end", expect[chat.Message](bob, chat.NoticeMessage).Text)
}

// doubtful takes its first message and says that it has not.
type doubtful struct {
	*alone
	hasFailed bool
}

func (d *doubtful) Say(ctx context.Context, m chat.Message) (chat.Message, error) {
	m, err := d.alone.Say(ctx, m)
	if !d.hasFailed {
		d.hasFailed, err = true, errors.New("no answer from the store")
	}
	return m, err
}

func (d *doubtful) Find(ctx context.Context, m chat.Message) (chat.Message, bool, error) {
	page, _, err := d.Since(ctx, View{Rooms: []string{m.Room}}, 0)
	i := slices.IndexFunc(page, func(other chat.Message) bool { return other.From == m.From && other.Ref == m.Ref })
	if i < 0 {
		return m, false, err
	}
	return page[i], true, err
}

func TestMessageThatMayHaveBeenTakenIsLookedFor(t *testing.T) {
	p := program(io.Discard, "-addr", local+":0")
	p.Start = func(_ context.Context, ws *websocket.Server, keep int) (Spread, func(), error) {
		return &doubtful{alone: newAlone(ws.Clients, keep)}, func() {}, nil
	}
	addr, stop := launchProgram(t, p)
	t.Cleanup(stop)
	alice, _ := join(t, addr, "alice")
	assert.EqualValues(t, http.StatusServiceUnavailable, alice.ask(http.MethodPost, "/messages?ref=x", "Hello").Code)
	taken := expect[chat.Message](alice, chat.NoticeMessage)
	sent := get[chat.Sent](alice, http.StatusCreated, http.MethodPost, "/messages?ref=x", "Hello")
	assert.Equal(t, taken, sent.Message)
	alice.say("and now something else")
	assert.Equal(t, "Hello and now something else", texts(get[[]chat.Message](alice, http.StatusOK, http.MethodGet, "/history", "")))
}

func TestRepeatedMessageIsNoFlood(t *testing.T) {
	addr := start(t)
	alice, _ := join(t, addr, "alice")
	first := get[chat.Message](alice, http.StatusCreated, http.MethodPost, "/messages?ref=x", "Hello")
	for range 2 * talking.burst {
		require.Equal(t, first, get[chat.Message](alice, http.StatusOK, http.MethodPost, "/messages?ref=x", "Hello"))
	}
	alice.say("and now something else")
}

// comeBack joins with the id of the last message that was seen.
func comeBack(t *testing.T, addr string, name string, since int64) (d *device, welcome chat.Welcome) {
	t.Helper()
	d = newDevice(t, addr, fmt.Sprintf("?key=%s&since=%d", keyOf(t, name), since), nil)
	require.NoError(t, d.client.Connect())
	return d, d.welcomed()
}

func TestWhoComesBackIsToldAllThatCameSince(t *testing.T) {
	addr := start(t, "-history", "3")
	alice, _ := join(t, addr, "alice")
	bob, welcome := join(t, addr, "bob")
	assert.Equal(t, welcome.Began, welcome.LastID)
	seen := alice.say("seen").ID
	want := []string{}
	for i := range 10 {
		want = append(want, fmt.Sprint(i))
		alice.say(want[i])
	}
	get[chat.Message](alice, http.StatusCreated, http.MethodPost, "/users/bob/messages", "psst")

	for name, test := range map[string]struct {
		user  string
		since int64
		want  string
	}{
		"a user who had a private message": {"bob", seen, strings.Join(want, " ") + " psst"},
		"its sender":                       {"alice", seen, strings.Join(want, " ") + " psst"},
		"somebody else":                    {"carol", seen, strings.Join(want, " ")},
		"somebody who saw the first word":  {"carol", welcome.LastID, "seen " + strings.Join(want, " ")},
		"somebody who saw the last one":    {"carol", seen + 11, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, welcome := comeBack(t, addr, test.user, test.since)
			assert.Equal(t, test.want, texts(welcome.History))
			assert.NotNil(t, welcome.History)
			assert.False(t, welcome.Missed)
			assert.Equal(t, seen+11, welcome.LastID)
			history := get[[]chat.Message](d, http.StatusOK, http.MethodGet, fmt.Sprintf("/history?since=%d", test.since), "")
			assert.Equal(t, welcome.History, history)
		})
	}
	t.Run("from before the server was started", func(t *testing.T) {
		_, back := comeBack(t, addr, "carol", welcome.Began-1)
		assert.Greater(t, back.Began, welcome.Began-1)
		assert.Equal(t, "seen "+strings.Join(want, " "), texts(back.History))
		get[[]chat.Message](bob, http.StatusPartialContent, http.MethodGet, fmt.Sprintf("/history?since=%d", welcome.Began-1), "")
	})
	t.Run("from the future", func(t *testing.T) {
		_, back := comeBack(t, addr, "carol", seen+1000)
		assert.Equal(t, "seen "+strings.Join(want, " "), texts(back.History))
	})
	t.Run("with an id of no sort", func(t *testing.T) {
		d := newDevice(t, addr, "?since=x&key="+keyOf(t, "carol"), nil)
		assert.ErrorContains(t, d.client.Connect(), "since")
	})
}
