package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

const (
	maxSeen  = 1 << 10 // messages that are known to have been shown, and come again at the seam of two connections
	maxEarly = 256     // messages that wait for the welcome
)

// reporter shows notices, each message once.
type reporter struct {
	// Immutable.
	out  *screen
	more func(since int64) ([]chat.Message, error)

	// Owned by the handlers of the client, of which one runs at a time.
	me       string // known from the first welcome on
	welcomed bool   // on this connection
	early    []chat.Message
	last     int64 // ID of the last message that was a notice, or part of a welcome

	mu   sync.Mutex
	seen []int64 // IDs of messages that were shown, the last maxSeen of them; guarded by mu
}

// interrupted is told that the connection has ended.
func (r *reporter) interrupted() { r.welcomed, r.early = false, nil }

// goOnAt returns the URL for a connection that goes on where the last one has ended.
func (r *reporter) goOnAt(address string) string {
	u, err := url.Parse(address)
	if err != nil || r.me == "" {
		return address
	}
	query := u.Query()
	query.Set("since", strconv.FormatInt(r.last, 10))
	u.RawQuery = query.Encode()
	return u.String()
}

func (r *reporter) notice(res websocket.Response) error {
	body := []byte(res.Body)
	switch res.Message {
	case chat.NoticeWelcome:
		return r.welcome(body)
	case chat.NoticePrivate, chat.NoticeMessage:
		return r.message(body, int64(res.Seq))
	case chat.NoticeJoin:
		return r.comingOrGoing(body, "is here")
	case chat.NoticeLeave:
		return r.comingOrGoing(body, "has left")
	}
	return nil // a newer server may know more
}

func (r *reporter) welcome(body []byte) error {
	var w chat.Welcome
	if err := json.Unmarshal(body, &w); err != nil {
		return err
	}
	isBack := r.me != ""
	r.me, r.welcomed = w.Name, true
	if isBack {
		r.out.print(fmt.Sprintf("* The connection is back. Here: %s.", list(w.Users)))
		if w.Missed || r.last < w.Began {
			r.out.print("* Not all that was said meanwhile is kept.")
		}
	}
	r.pages(w.History, w.More)
	r.show(r.early)
	r.early, r.last = nil, max(r.last, w.LastID)
	if !isBack {
		r.out.print(fmt.Sprintf("* You are here as %s. Here: %s. /help shows the commands.", plain(w.Name), list(w.Users)))
	}
	return nil
}

// pages shows what was said before, page by page.
func (r *reporter) pages(page []chat.Message, more bool) {
	for {
		before := r.last
		r.show(page)
		if !more || r.last <= before {
			return
		}
		var err error
		if page, err = r.more(r.last); err != nil {
			r.out.print("! There is more that was said meanwhile, but: " + plain(err.Error()))
			return
		}
	}
}

func (r *reporter) message(body []byte, seq int64) error {
	var m chat.Message
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	m.ID = cmp.Or(m.ID, seq)
	if !r.welcomed && len(r.early) < maxEarly {
		r.early = append(r.early, m)
		return nil
	}
	r.show([]chat.Message{m})
	return nil
}

// show shows messages that have not been shown.
func (r *reporter) show(messages []chat.Message) {
	for _, m := range messages {
		r.last = max(r.last, m.ID)
		if r.isNew(m.ID) {
			r.out.print(describe(m, r.me))
		}
	}
}

// isNew reports whether a message has not been shown, and notes that it is now.
func (r *reporter) isNew(id int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id == 0 { // of a server that has no IDs
		return true
	}
	if slices.Contains(r.seen, id) {
		return false
	}
	r.seen = append(r.seen, id)
	if len(r.seen) > 2*maxSeen {
		r.seen = slices.Clone(r.seen[maxSeen:])
	}
	return true
}

func (r *reporter) comingOrGoing(body []byte, what string) error {
	var u chat.User
	if err := json.Unmarshal(body, &u); err != nil {
		return err
	}
	if r.welcomed {
		r.out.print("* " + plain(u.Name) + " " + what)
	}
	return nil
}

// describe returns a message as it is shown to a user.
func describe(m chat.Message, me string) string {
	name := func(user string) string {
		if user == me {
			return "you"
		}
		return plain(user)
	}
	who := name(m.From)
	if m.To != "" {
		who += " to " + name(m.To) + " (private)"
	}
	return m.Time.Local().Format("15:04") + " " + who + ": " + plain(m.Text)
}

// describeSent returns a message as it is shown to its sender.
func describeSent(m chat.Sent, me string) string {
	shown := describe(m.Message, me)
	if m.To != "" && m.Reached == 0 {
		shown += " (not here now)"
	}
	return shown
}

func list(names []string) string {
	shown := make([]string, len(names))
	for i, name := range names {
		shown[i] = plain(name)
	}
	return strings.Join(shown, ", ")
}
