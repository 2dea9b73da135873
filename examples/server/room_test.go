package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

func TestJoinAndLeaveAreToldOncePerUser(t *testing.T) {
	addrs := start(t)
	alice, welcome := join(t, addrs, "alice")
	assert.Equal(t, []string{"alice"}, welcome.Users)
	assert.Empty(t, welcome.History)

	phone, welcome := join(t, addrs, "bob")
	assert.Equal(t, []string{"alice", "bob"}, welcome.Users)
	laptop, _ := join(t, addrs, "bob")
	require.NoError(t, phone.client.Close())
	require.NoError(t, laptop.client.Close())

	// One of each. The next join comes after all that the two devices may have caused.
	assert.Equal(t, chat.User{Name: "bob"}, expect[chat.User](alice, chat.NoticeJoin))
	assert.Equal(t, chat.User{Name: "bob"}, expect[chat.User](alice, chat.NoticeLeave))
	assert.Equal(t, []string{"alice"}, get[[]string](alice, http.StatusOK, http.MethodGet, "/users", ""))
	join(t, addrs, "bob")
	assert.Equal(t, chat.User{Name: "bob"}, expect[chat.User](alice, chat.NoticeJoin))
	assert.Equal(t, []string{"alice", "bob"}, get[[]string](alice, http.StatusOK, http.MethodGet, "/users", ""))
}

func TestMessageReachesAll(t *testing.T) {
	addrs := start(t)
	alice, _ := join(t, addrs, "alice")
	bob, _ := join(t, addrs, "bob")
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
	addrs := start(t)
	sender, _ := join(t, addrs, "alice")
	others := []*device{}
	for _, name := range []string{"alice", "bob", "bob"} {
		d, _ := join(t, addrs, name)
		others = append(others, d)
	}
	carol, _ := join(t, addrs, "carol")

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
	addrs := start(t, "-history", "3")
	alice, _ := join(t, addrs, "alice")
	for i := range 5 {
		alice.say(fmt.Sprint(i))
	}
	bob, welcome := join(t, addrs, "bob")
	assert.Equal(t, "2 3 4", texts(welcome.History))
	for last, want := range map[string]string{"": "2 3 4", "?last=2": "3 4", "?last=0": "", "?last=99": "2 3 4"} {
		got := get[[]chat.Message](bob, http.StatusOK, http.MethodGet, "/history"+last, "")
		assert.NotNil(t, got)
		assert.Equal(t, want, texts(got), "history%s", last)
	}
}

func TestHistoryOfNoLengthKeepsNothing(t *testing.T) {
	addrs := start(t, "-history", "0")
	alice, _ := join(t, addrs, "alice")
	alice.say("gone with the wind")
	_, welcome := join(t, addrs, "bob")
	assert.Empty(t, welcome.History)
}

func TestRequestsAreChecked(t *testing.T) {
	addrs := start(t)
	alice, _ := join(t, addrs, "alice")
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
		"a user who is not here":  {"POST", "/users/bob/messages", "psst", 409, "bob is not here"},
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
	addrs := start(t)
	bob, _ := join(t, addrs, "bob")
	alice := newDevice(t, addrs, "?key="+keyOf(t, "alice"), nil)
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
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.ws.Serve(ln) }()
	t.Cleanup(func() { assert.NoError(t, s.stop(ended)) })

	bob, _ := join(t, addresses{ws: ln.Addr()}, "bob")
	join(t, addresses{ws: ln.Addr()}, "alice")
	expect[chat.User](bob, chat.NoticeJoin)
	connOf := func(name string) int { return s.ws.Clients.Conns(users.byName[name].id)[0] }
	s.dropSlow(map[int]error{connOf("alice"): websocket.ErrSendQueueFull, connOf("bob"): websocket.ErrConnClosed})
	assert.Equal(t, chat.User{Name: "alice"}, expect[chat.User](bob, chat.NoticeLeave))
	bob.say("still here")
}

func TestFloodIsRefused(t *testing.T) {
	addrs := start(t)
	alice, _ := join(t, addrs, "alice")
	bob, _ := join(t, addrs, "bob")
	for range 100 * messagesAtOnce {
		if res := alice.ask(http.MethodPost, "/messages", "buy!"); res.Code == http.StatusTooManyRequests {
			bob.say("at last")
			return
		}
	}
	assert.Fail(t, "nobody stops alice")
}

func TestQuota(t *testing.T) {
	var q quota
	at := time.Now()
	for range messagesAtOnce {
		require.True(t, q.take(at))
	}
	require.False(t, q.take(at))
	require.False(t, q.take(at.Add(messageEvery-1)))
	require.True(t, q.take(at.Add(messageEvery)))
	require.False(t, q.take(at.Add(messageEvery)))
	require.True(t, q.take(at.Add(time.Hour)))
}

func TestMessageIsSentOnceUnderEachName(t *testing.T) {
	for name, test := range map[string]struct{ target, notice string }{
		"to all":      {"/messages", chat.NoticeMessage},
		"to one user": {"/users/bob/messages", chat.NoticePrivate},
	} {
		t.Run(name, func(t *testing.T) {
			addrs := start(t)
			alice, _ := join(t, addrs, "alice")
			bob, _ := join(t, addrs, "bob")
			carol, _ := join(t, addrs, "carol")
			expect[chat.User](bob, chat.NoticeJoin)
			named := test.target + "?ref=" + strings.Repeat("x", 64)
			first := get[chat.Message](alice, http.StatusCreated, http.MethodPost, named, "Hello")
			assert.Equal(t, strings.Repeat("x", 64), first.Ref)
			again, _ := join(t, addrs, "alice")
			assert.Equal(t, first, get[chat.Message](again, http.StatusOK, http.MethodPost, named, "Hello"), "over another connection")
			other := get[chat.Message](alice, http.StatusCreated, http.MethodPost, test.target+"?ref=y", "Hello")
			assert.Equal(t, first, expect[chat.Message](bob, test.notice))
			assert.Equal(t, other, expect[chat.Message](bob, test.notice), "nothing between")
			assert.Equal(t, named[len(named)-64:], get[chat.Message](carol, http.StatusCreated, http.MethodPost, named, "Hello").Ref, "the name is alice's")
		})
	}
}

func TestRepeatedMessageIsNoFlood(t *testing.T) {
	addrs := start(t)
	alice, _ := join(t, addrs, "alice")
	first := get[chat.Message](alice, http.StatusCreated, http.MethodPost, "/messages?ref=x", "Hello")
	for range 2 * messagesAtOnce {
		require.Equal(t, first, get[chat.Message](alice, http.StatusOK, http.MethodPost, "/messages?ref=x", "Hello"))
	}
	alice.say("and now something else")
}

// comeBack joins with the id of the last message that was seen.
func comeBack(t *testing.T, addrs addresses, name string, since int64) (d *device, welcome chat.Welcome) {
	t.Helper()
	d = newDevice(t, addrs, fmt.Sprintf("?key=%s&since=%d", keyOf(t, name), since), nil)
	require.NoError(t, d.client.Connect())
	return d, d.welcomed()
}

func TestWhoComesBackIsToldAllThatCameSince(t *testing.T) {
	addrs := start(t, "-history", "3")
	alice, _ := join(t, addrs, "alice")
	bob, welcome := join(t, addrs, "bob")
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
			d, welcome := comeBack(t, addrs, test.user, test.since)
			assert.Equal(t, test.want, texts(welcome.History))
			assert.NotNil(t, welcome.History)
			assert.False(t, welcome.Missed)
			assert.Equal(t, seen+11, welcome.LastID)
			history := get[[]chat.Message](d, http.StatusOK, http.MethodGet, fmt.Sprintf("/history?since=%d", test.since), "")
			assert.Equal(t, welcome.History, history)
		})
	}
	t.Run("from before the server was started", func(t *testing.T) {
		_, back := comeBack(t, addrs, "carol", welcome.Began-1)
		assert.Greater(t, back.Began, welcome.Began-1)
		assert.Equal(t, "seen "+strings.Join(want, " "), texts(back.History))
		get[[]chat.Message](bob, http.StatusPartialContent, http.MethodGet, fmt.Sprintf("/history?since=%d", welcome.Began-1), "")
	})
	t.Run("from the future", func(t *testing.T) {
		_, back := comeBack(t, addrs, "carol", seen+1000)
		assert.Equal(t, "seen "+strings.Join(want, " "), texts(back.History))
	})
	t.Run("with an id of no sort", func(t *testing.T) {
		d := newDevice(t, addrs, "?since=x&key="+keyOf(t, "carol"), nil)
		assert.ErrorContains(t, d.client.Connect(), "since")
	})
}

func TestHistoryOfNoLengthSaysWhatIsMissing(t *testing.T) {
	addrs := start(t, "-history", "0")
	alice, welcome := join(t, addrs, "alice")
	_, back := comeBack(t, addrs, "bob", welcome.LastID)
	assert.False(t, back.Missed)
	alice.say("gone with the wind")
	_, back = comeBack(t, addrs, "bob", welcome.LastID)
	assert.True(t, back.Missed)
	assert.Empty(t, back.History)
}

func TestHistoryHasLimitsAndKnowsWhatIsMissing(t *testing.T) {
	add := func(count int, m chat.Message) (h history) {
		h.forgotten = make(map[string]int64)
		for i := range count {
			m.ID = int64(i + 1)
			h.add(m)
		}
		return h
	}
	since := func(h history, id int64, user string) (count int, missed bool) {
		messages, missed := h.since(id, user)
		return len(messages), missed
	}
	short, private := chat.Message{From: "alice"}, chat.Message{From: "alice", To: "bob"}
	long := chat.Message{From: "alice", Text: strings.Repeat("x", maxHistoryBytes/8)}
	for name, test := range map[string]struct {
		history history
		since   int64
		user    string
		count   int
		missed  bool
	}{
		"all of them":                     {add(maxHistory, short), 0, "carol", maxHistory, false},
		"one too many":                    {add(maxHistory+1, short), 0, "carol", maxHistory, true},
		"the one too many was seen":       {add(maxHistory+1, short), 1, "carol", maxHistory, false},
		"eight of the greatest length":    {add(8, long), 0, "carol", 8, false},
		"nine of them":                    {add(9, long), 0, "carol", 8, true},
		"private ones, for their sender":  {add(maxHistory+1, private), 0, "alice", maxHistory, true},
		"private ones, for who got them":  {add(maxHistory+1, private), 0, "bob", maxHistory, true},
		"private ones, for somebody else": {add(maxHistory+1, private), 0, "carol", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			count, missed := since(test.history, test.since, test.user)
			assert.Equal(t, test.count, count)
			assert.Equal(t, test.missed, missed)
		})
	}
}
