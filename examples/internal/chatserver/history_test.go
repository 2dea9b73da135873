package chatserver

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/wsloop/websocket/examples/internal/chat"
)

func TestHistoryOfNoLengthSaysWhatIsMissing(t *testing.T) {
	addr := start(t, "-history", "0")
	alice, welcome := join(t, addr, "alice")
	_, back := comeBack(t, addr, "bob", welcome.LastID)
	assert.False(t, back.Missed)
	alice.say("gone with the wind")
	_, back = comeBack(t, addr, "bob", welcome.LastID)
	assert.True(t, back.Missed)
	assert.Empty(t, back.History)
}

func TestHistoryHasLimitsAndKnowsWhatIsMissing(t *testing.T) {
	short := chat.Message{Room: chat.Lobby, From: "alice"}
	private := chat.Message{From: "alice", To: "bob"}
	long := chat.Message{Room: chat.Lobby, From: "alice", Text: strings.Repeat("x", maxHistoryBytes/8)}
	lobby := View{User: "carol", Rooms: []string{chat.Lobby}}
	for name, test := range map[string]struct {
		count  int
		of     chat.Message
		since  int64
		view   View
		kept   int
		missed bool
	}{
		"all of them":                     {10, short, 0, lobby, 10, false},
		"one too many":                    {11, short, 0, lobby, 10, true},
		"the one too many was seen":       {11, short, 1, lobby, 10, false},
		"those of another room":           {11, short, 0, View{User: "carol", Rooms: []string{"den"}}, 0, false},
		"eight of the greatest length":    {8, long, 0, lobby, 8, false},
		"nine of them":                    {9, long, 0, lobby, 8, true},
		"private ones, for their sender":  {11, private, 0, View{User: "alice"}, 10, true},
		"private ones, for who got them":  {11, private, 0, View{User: "bob"}, 10, true},
		"private ones, for somebody else": {11, private, 0, lobby, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(10)
			for i := range test.count {
				m := test.of
				m.ID = int64(i + 1)
				h.add(m)
			}
			count, missed := 0, false
			for page, id := []chat.Message{{}}, test.since; len(page) > 0; count += len(page) {
				var holes bool
				page, holes = h.since(test.view, id)
				missed = missed || holes
				if len(page) > 0 {
					id = page[len(page)-1].ID
				}
			}
			assert.Equal(t, test.kept, count)
			assert.Equal(t, test.missed, missed)
		})
	}
}

func TestHistoryComesInPages(t *testing.T) {
	h := newHistory(maxHistory)
	const count = 2*chat.MaxPage + 1
	for i := range count {
		h.add(chat.Message{ID: int64(2 * (i + 1)), Room: chat.Lobby, Text: fmt.Sprint(i)})
	}
	v := View{Rooms: []string{chat.Lobby}}
	for since, want := range map[int64][2]int{0: {0, chat.MaxPage}, 1: {0, chat.MaxPage}, 2: {1, chat.MaxPage}, 2*count - 2: {count - 1, 1}, 2 * count: {0, 0}} {
		page, _ := h.since(v, since)
		assert.NotNil(t, page)
		if assert.Len(t, page, want[1]); want[1] > 0 {
			assert.Equal(t, fmt.Sprint(want[0]), page[0].Text)
		}
	}
	for before, want := range map[int64]string{0: "399 400", 2 * count: "398 399", 3: "0", 5: "0 1", 2: "", 1: ""} {
		assert.Equal(t, want, texts(h.before(v, before, 2)), before)
	}
	assert.Len(t, h.before(v, 0, count), chat.MaxPage)
}

func TestWhoComesBackGetsHistoryOfAnyLength(t *testing.T) {
	addr := start(t, "-users", manyUsers(t, 30))
	first, welcome := joinWith(t, addr, "key-of-user-00", "")
	said := 0
	for i := range 30 {
		d, _ := joinWith(t, addr, fmt.Sprintf("key-of-user-%02d", i), "")
		for range talking.burst {
			d.say(fmt.Sprint(said))
			said++
		}
	}
	_ = first
	back, page := joinWith(t, addr, "key-of-user-00", fmt.Sprintf("&since=%d", welcome.LastID))
	assert.True(t, page.More)
	assert.False(t, page.Missed)
	got := page.History
	assert.Equal(t, got[len(got)-1].ID, page.LastID)
	for {
		more := get[[]chat.Message](back, http.StatusOK, http.MethodGet, fmt.Sprintf("/history?since=%d", got[len(got)-1].ID), "")
		if len(more) == 0 {
			break
		}
		got = append(got, more...)
	}
	want := []string{}
	for i := range said {
		want = append(want, fmt.Sprint(i))
	}
	assert.Equal(t, strings.Join(want, " "), texts(got))
}

func TestPrivateMessagesAreInTheHistoryOfTheirTwoPeopleAlone(t *testing.T) {
	addr := start(t)
	alice, _ := join(t, addr, "alice")
	sent := get[chat.Sent](alice, http.StatusCreated, http.MethodPost, "/users/bob/messages", "for later")
	assert.Zero(t, sent.Reached, "bob is not here")
	alice.say("to all")
	bob, welcome := join(t, addr, "bob")
	assert.Equal(t, "for later to all", texts(welcome.History))
	carol, welcome := join(t, addr, "carol")
	assert.Equal(t, "to all", texts(welcome.History))
	assert.Equal(t, "for later", texts(get[[]chat.Message](bob, http.StatusOK, http.MethodGet, "/history?with=alice", "")))
	assert.Equal(t, "for later", texts(get[[]chat.Message](alice, http.StatusOK, http.MethodGet, "/history?with=bob", "")))
	for _, query := range []string{"with=alice", "with=bob", "since=0", "last=99"} {
		assert.NotContains(t, carol.ask(http.MethodGet, "/history?"+query, "").Body, "for later", query)
	}
	again := get[chat.Sent](alice, http.StatusCreated, http.MethodPost, "/users/bob/messages", "now")
	assert.Equal(t, 1, again.Reached)
	join(t, addr, "bob")
	assert.Equal(t, 2, get[chat.Sent](alice, http.StatusCreated, http.MethodPost, "/users/bob/messages", "now").Reached)
}
