package chatserver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// manyUsers writes a file of users.
func manyUsers(t *testing.T, count int) (file string) {
	t.Helper()
	lines := []string{}
	for i := range count {
		lines = append(lines, fmt.Sprintf("user-%02d:key-of-user-%02d", i, i))
	}
	return writeUsers(t, strings.Join(lines, "\n"))
}

// joinWith connects a device by a key, and waits for its welcome.
func joinWith(t *testing.T, addr, key, query string) (d *device, welcome chat.Welcome) {
	t.Helper()
	d = newDevice(t, addr, "?key="+key+query, nil)
	require.NoError(t, d.client.Connect())
	return d, d.welcomed()
}

func TestRooms(t *testing.T) {
	addr := start(t)
	alice, welcome := join(t, addr, "alice")
	assert.Equal(t, []chat.Room{{Name: chat.Lobby}}, welcome.Rooms)
	assert.Equal(t, []string{chat.Lobby}, welcome.Hears)
	bob, _ := join(t, addr, "bob")
	expect[chat.User](alice, chat.NoticeJoin)

	den := chat.Room{Name: "den"}
	assert.Equal(t, den, get[chat.Room](bob, http.StatusCreated, http.MethodPut, "/rooms/den", ""))
	assert.Equal(t, den, expect[chat.Room](alice, chat.NoticeRoom))
	assert.Equal(t, den, expect[chat.Room](bob, chat.NoticeRoom))
	said := get[chat.Sent](bob, http.StatusCreated, http.MethodPost, "/rooms/den/messages", "in the den")
	assert.Equal(t, "den", said.Room)
	assert.Equal(t, said.Message, expect[chat.Message](bob, chat.NoticeMessage))

	assert.Equal(t, den, get[chat.Room](alice, http.StatusOK, http.MethodPut, "/rooms/den", ""), "it is there already")
	assert.Equal(t, "in the den", texts(get[[]chat.Message](alice, http.StatusOK, http.MethodGet, "/history?room=den", "")))
	assert.Empty(t, get[[]chat.Message](alice, http.StatusOK, http.MethodGet, "/history", ""), "not in the lobby")
	said = get[chat.Sent](bob, http.StatusCreated, http.MethodPost, "/rooms/den/messages", "again")
	assert.Equal(t, said.Message, expect[chat.Message](alice, chat.NoticeMessage), "what came before she heard the room did not come")

	get[chat.Room](alice, http.StatusOK, http.MethodDelete, "/rooms/den", "")
	get[chat.Sent](bob, http.StatusCreated, http.MethodPost, "/rooms/den/messages", "and again")
	bob.say("dinner")
	assert.Equal(t, "dinner", expect[chat.Message](alice, chat.NoticeMessage).Text)
	assert.Equal(t, []chat.Room{{Name: chat.Lobby}, den}, get[[]chat.Room](alice, http.StatusOK, http.MethodGet, "/rooms", ""))

	d, welcome := joinWith(t, addr, keyOf(t, "alice"), fmt.Sprintf("&rooms=den,none&since=%d", said.ID))
	assert.Equal(t, []string{chat.Lobby, "den"}, welcome.Hears)
	assert.Equal(t, "and again dinner", texts(welcome.History))
	get[chat.Sent](bob, http.StatusCreated, http.MethodPost, "/rooms/den/messages", "who is here?")
	assert.Equal(t, "who is here?", expect[chat.Message](d, chat.NoticeMessage).Text)
}

func TestRoomsHaveALimit(t *testing.T) {
	addr := start(t, "-users", manyUsers(t, 3))
	devices := []*device{}
	for i := range 3 {
		d, _ := joinWith(t, addr, fmt.Sprintf("key-of-user-%02d", i), "")
		devices = append(devices, d)
	}
	for i := range MaxRooms - 1 {
		get[chat.Room](devices[i%3], http.StatusCreated, http.MethodPut, fmt.Sprintf("/rooms/room-%d", i), "")
	}
	res := devices[0].ask(http.MethodPut, "/rooms/one-more", "")
	assert.EqualValues(t, http.StatusConflict, res.Code)
	assert.EqualValues(t, http.StatusOK, devices[0].ask(http.MethodPut, "/rooms/room-1", "").Code)
}

// busy is a Spread where others talk while a newcomer is shown what was said: in the lobby when that has been read, and then in the den.
type busy struct {
	*alone
	views int
}

func (b *busy) Before(ctx context.Context, v View, id int64, most int) (page []chat.Message, err error) {
	if b.views++; b.views == 2 { // the private messages were read
		b.alone.Say(ctx, chat.Message{From: "bob", Room: chat.Lobby, Text: "seen"})
	}
	page, err = b.alone.Before(ctx, v, id, most)
	if b.views == 2 {
		b.alone.Say(ctx, chat.Message{From: "bob", Room: chat.Lobby, Text: "behind"})
		b.alone.Say(ctx, chat.Message{From: "bob", Room: "den", Text: "den"})
	}
	return page, err
}

func TestNewcomersMissNothingThatIsSaidMeanwhile(t *testing.T) {
	p := program(io.Discard, "-addr", local+":0")
	p.Start = func(ctx context.Context, ws *websocket.Server, keep int) (Spread, func(), error) {
		b := &busy{alone: newAlone(ws.Clients, keep)}
		_, err := b.OpenRoom(ctx, "den")
		return b, func() {}, err
	}
	addr, stop := launchProgram(t, p)
	t.Cleanup(stop)
	d := newDevice(t, addr, "?rooms=den&key="+keyOf(t, "alice"), nil)
	require.NoError(t, d.client.Connect())
	told := map[string]bool{}
	for len(told) < 3 {
		switch notice := receive(t, d.notices); notice.Message {
		case chat.NoticeWelcome:
			var welcome chat.Welcome
			require.NoError(t, json.Unmarshal([]byte(notice.Body), &welcome))
			for _, m := range welcome.History {
				told[m.Text] = true
			}
		case chat.NoticeMessage:
			var m chat.Message
			require.NoError(t, json.Unmarshal([]byte(notice.Body), &m))
			told[m.Text] = true
		}
	}
	assert.Equal(t, map[string]bool{"seen": true, "behind": true, "den": true}, told)
}

func TestConnectionsAreKeptUntilTheyHaveJoined(t *testing.T) {
	users, err := newDirectory(chat.DemoUsers())
	require.NoError(t, err)
	s, err := newServer(users, 1, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	assert.Greater(t, s.ws.Options.AddTimeout, spreadTimeout)
}

func TestPresenceIsThatOfAllDevices(t *testing.T) {
	addr := start(t)
	alice, welcome := join(t, addr, "alice")
	assert.Contains(t, welcome.People, chat.Person{Name: "alice", Presence: chat.Here})
	assert.Contains(t, welcome.People, chat.Person{Name: "bob", Presence: chat.Gone})
	phone, _ := join(t, addr, "bob")
	laptop, _ := join(t, addr, "bob")
	expect[chat.User](alice, chat.NoticeJoin)
	away := func(d *device, state chat.Presence) chat.Presence {
		return get[chat.Person](d, http.StatusOK, http.MethodPost, "/presence", string(state)).Presence
	}
	assert.Equal(t, chat.Here, away(phone, chat.Away), "the laptop is not")
	assert.Equal(t, chat.Away, away(laptop, chat.Away))
	assert.Equal(t, chat.Person{Name: "bob", Presence: chat.Away}, expect[chat.Person](alice, chat.NoticePresence))
	assert.Equal(t, chat.Here, away(phone, chat.Here))
	assert.Equal(t, chat.Person{Name: "bob", Presence: chat.Here}, expect[chat.Person](alice, chat.NoticePresence))
	require.NoError(t, phone.client.Close())
	assert.Equal(t, chat.Person{Name: "bob", Presence: chat.Away}, expect[chat.Person](alice, chat.NoticePresence), "the other one is left")
	tablet, _ := join(t, addr, "bob")
	assert.Equal(t, chat.Person{Name: "bob", Presence: chat.Here}, expect[chat.Person](alice, chat.NoticePresence))
	require.NoError(t, tablet.client.Close())
	require.NoError(t, laptop.client.Close())
	expect[chat.Person](alice, chat.NoticePresence)
	assert.Equal(t, chat.User{Name: "bob"}, expect[chat.User](alice, chat.NoticeLeave))
	assert.Contains(t, get[[]chat.Person](alice, http.StatusOK, http.MethodGet, "/people", ""), chat.Person{Name: "bob", Presence: chat.Gone})
}

func TestTypingIsToldToThoseWhoHearIt(t *testing.T) {
	addr := start(t)
	alice, _ := join(t, addr, "alice")
	bob, _ := join(t, addr, "bob")
	carol, _ := join(t, addr, "carol")
	for _, d := range []*device{alice, bob, carol} {
		d.ask(http.MethodGet, "/", "") // whoever is answered hears the rooms
	}
	get[chat.Typing](bob, http.StatusOK, http.MethodPost, "/users/alice/typing", "")
	get[chat.Typing](bob, http.StatusOK, http.MethodPost, "/rooms/lobby/typing", "")
	expect[chat.User](alice, chat.NoticeJoin)
	expect[chat.User](alice, chat.NoticeJoin)
	assert.Equal(t, chat.Typing{Name: "bob"}, expect[chat.Typing](alice, chat.NoticeTyping))
	assert.Equal(t, chat.Typing{Name: "bob", Room: chat.Lobby}, expect[chat.Typing](alice, chat.NoticeTyping))
	assert.Equal(t, chat.Typing{Name: "bob", Room: chat.Lobby}, expect[chat.Typing](carol, chat.NoticeTyping))
	for range 2 * signalling.burst {
		if res := bob.ask(http.MethodPost, "/rooms/lobby/typing", ""); res.Code == http.StatusTooManyRequests {
			return
		}
	}
	assert.Fail(t, "nobody stops bob")
}

func TestListOfPeopleHasALimit(t *testing.T) {
	addr := start(t, "-users", manyUsers(t, maxPeople+10))
	_, welcome := joinWith(t, addr, "key-of-user-505", "")
	assert.Len(t, welcome.People, maxPeople+1)
	assert.Equal(t, chat.Person{Name: "user-505", Presence: chat.Here}, welcome.People[0], "those who are here come first")
}

func TestLogNamesUserAndAddress(t *testing.T) {
	var log lockedBuffer
	addr, stop := launch(t, &log, "-trust", local)
	d := newDevice(t, addr, "?key="+keyOf(t, "alice"), http.Header{"X-Forwarded-For": {"192.0.2.66, 192.0.2.7"}})
	require.NoError(t, d.client.Connect())
	d.welcomed()
	eve := newDevice(t, addr, "?key=no-such-key", nil)
	require.Error(t, eve.client.Connect())
	stop()
	assert.Contains(t, log.String(), `msg=joined user=alice address=192.0.2.7 `)
	assert.Contains(t, log.String(), `msg=left user=alice address=192.0.2.7 `)
	assert.Contains(t, log.String(), `kind="shut down" code=1001`)
	assert.Regexp(t, `msg=refused address=127\.0\.0\.1:[0-9]+ why="unknown key"`, log.String())
	assert.NotContains(t, log.String(), keyOf(t, "alice"))
}

func TestForwardedAddressIsBelievedOfTrustedProxiesAlone(t *testing.T) {
	trusted, err := parseProxies("10.0.0.0/8, 2001:db8::1")
	require.NoError(t, err)
	for name, test := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"a proxy":                          {"10.1.2.3:4000", []string{"192.0.2.1"}, "192.0.2.1"},
		"a proxy that is mapped":           {"[::ffff:10.1.2.3]:4000", []string{"192.0.2.1"}, "192.0.2.1"},
		"one of IPv6":                      {"[2001:db8::1]:4000", []string{"2001:db8::2"}, "2001:db8::2"},
		"two proxies":                      {"10.1.2.3:4000", []string{"192.0.2.1, 10.9.9.9"}, "192.0.2.1"},
		"two fields":                       {"10.1.2.3:4000", []string{"192.0.2.1", "10.9.9.9"}, "192.0.2.1"},
		"what the client has put in front": {"10.1.2.3:4000", []string{"198.51.100.1, 192.0.2.1"}, "192.0.2.1"},
		"a proxy that says nothing":        {"10.1.2.3:4000", nil, "10.1.2.3:4000"},
		"a proxy that says nonsense":       {"10.1.2.3:4000", []string{"<script>"}, "10.1.2.3:4000"},
		"a client that lies":               {"192.0.2.9:4000", []string{"192.0.2.1"}, "192.0.2.9:4000"},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, test.want, trusted.client(address(test.peer), http.Header{"X-Forwarded-For": test.forwarded}))
		})
	}
	assert.Empty(t, trusted.client(nil, nil))
}

// address is a net.Addr.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

func TestStatusAndMetrics(t *testing.T) {
	addr := start(t)
	join(t, addr, "alice")
	alice, _ := join(t, addr, "alice")
	alice.say("Hello")
	_, body := fetch(t, "http://"+addr+"/status", http.Header{})
	var figures map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &figures))
	assert.EqualValues(t, 1, figures["users"])
	assert.EqualValues(t, 2, figures["connections"])
	assert.EqualValues(t, 1, figures["rooms"])
	res, body := fetch(t, "http://"+addr+"/metrics", http.Header{})
	assert.Contains(t, res.Header.Get("Content-Type"), "text/plain; version=0.0.4")
	assert.Contains(t, body, `websocket_connections{phase="open"} 2`)
}
