package chatserver

import (
	"context"
	"hash/maphash"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/examples/internal/chat"
)

// maxNamed is for how many messages of one user the server knows the names that the user gave them: so far back it sees that one
// is sent again.
const maxNamed = 1000

// validRef holds the names that senders give to messages to characters that need no escaping.
var validRef = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// sender is what is known of what a user has sent.
type sender struct {
	mu      sync.Mutex // held while a message is sent, so that one that is sent twice at the same time is seen
	talks   quota      // messages; guarded by mu
	signals quota      // everything else that others are told; guarded by mu
	inDoubt bool       // the Spread has failed: it may have taken a message all the same; guarded by mu
	named   []named    // the latest, oldest first; guarded by mu
}

// named is what is known of a message that its sender has given a name.
type named struct {
	ref      string
	id       int64
	time     time.Time
	room, to string
	text     uint64 // its hash
	reached  int
}

// textSeed is for the hashes of texts.
var textSeed = maphash.MakeSeed()

func (s *server) postMessage(ctx context.Context, req *websocket.Request) websocket.Response {
	return s.post(ctx, req, chat.Message{Room: chat.Lobby}, nil)
}

func (s *server) postToRoom(ctx context.Context, req *websocket.Request) websocket.Response {
	room := req.Params["room"]
	if !s.isRoom(room) {
		return refusal(http.StatusNotFound, "there is no such room")
	}
	return s.post(ctx, req, chat.Message{Room: room}, nil)
}

func (s *server) postPrivate(ctx context.Context, req *websocket.Request) websocket.Response {
	to, wrong := s.otherUser(ctx, req)
	if wrong != nil {
		return *wrong
	}
	return s.post(ctx, req, chat.Message{To: to.name}, to)
}

// otherUser returns the user whom the target of a request names.
func (s *server) otherUser(ctx context.Context, req *websocket.Request) (to *user, wrong *websocket.Response) {
	var res websocket.Response
	to = s.users.Load().byName[req.Params["name"]]
	switch {
	case to == nil:
		res = refusal(http.StatusNotFound, "there is no such user")
	case to.id == visitOf(ctx).user.id:
		res = refusal(http.StatusBadRequest, "that is you")
	default:
		return to, nil
	}
	return nil, &res
}

// post sends a message, unless it was sent before. m has where it goes to, and to is its user if that is one.
func (s *server) post(ctx context.Context, req *websocket.Request, m chat.Message, to *user) websocket.Response {
	text, ref, wrong := checkMessage(req)
	if wrong != nil {
		return *wrong
	}
	me := visitOf(ctx).user
	m.From, m.Text, m.Ref, m.Time = me.name, text, ref, time.Now().UTC()
	from := me.sender
	from.mu.Lock()
	defer from.mu.Unlock()
	if n := from.namedLocked(ref); n != nil {
		return n.answer(m, from.talks.left(talking))
	}
	if wait := from.talks.take(talking, time.Now()); wait > 0 {
		return tooEarly("too many messages", wait)
	}
	sent, err := s.sendLocked(from, visitOf(ctx), m, to, req.Conn)
	if err != nil {
		from.inDoubt = true
		s.log.Warn("cannot send", "user", me.name, "address", visitOf(ctx).address, "error", err)
		return refusal(http.StatusServiceUnavailable, "it cannot be kept at the moment")
	}
	from.noteLocked(sent)
	sent.Left = from.talks.left(talking)
	return answer(http.StatusCreated, sent)
}

// sendLocked has the Spread take a message, unless it has taken it before: by another server, from which the client has come here, or
// without saying so.
func (s *server) sendLocked(from *sender, v *visit, m chat.Message, to *user, conn int) (sent chat.Sent, err error) {
	ctx, cancel := brief()
	defer cancel()
	if m.Ref != "" && (v.isBack || from.inDoubt) {
		var ok bool
		if sent.Message, ok, err = s.spread.Find(ctx, m); ok || err != nil {
			return sent, err
		}
	}
	if to == nil {
		sent.Message, err = s.spread.Say(ctx, m)
	} else {
		sent.Message, sent.Reached, err = s.spread.Whisper(ctx, m, v.user.id, to.id, conn)
	}
	return sent, err
}

// namedLocked returns the message that was sent before under a name, or nil if there is none.
func (from *sender) namedLocked(ref string) *named {
	i := slices.IndexFunc(from.named, func(n named) bool { return n.ref == ref })
	if i < 0 {
		return nil
	}
	return &from.named[i]
}

// answer is that to a message with the name of this one, which is the same one.
func (n *named) answer(m chat.Message, left int) websocket.Response {
	if n.room != m.Room || n.to != m.To || n.text != maphash.String(textSeed, m.Text) {
		return refusal(http.StatusConflict, "another message has this ref")
	}
	m.ID, m.Time = n.id, n.time
	return answer(http.StatusOK, chat.Sent{Message: m, Reached: n.reached, Left: left})
}

func (from *sender) noteLocked(sent chat.Sent) {
	if sent.Ref == "" {
		return
	}
	if len(from.named) == maxNamed {
		from.named = slices.Delete(from.named, 0, maxNamed/2)
	}
	from.named = append(from.named, named{sent.Ref, sent.ID, sent.Time, sent.Room, sent.To, maphash.String(textSeed, sent.Text), sent.Reached})
}

// checkMessage returns the text of a message as it is sent on and its sender's name for it, or what is wrong with them.
func checkMessage(req *websocket.Request) (text, ref string, wrong *websocket.Response) {
	var res websocket.Response
	text, ref = strings.TrimSpace(strings.ReplaceAll(req.Body, "\r\n", "\n")), req.Query.Get("ref")
	switch {
	case ref != "" && !validRef.MatchString(ref):
		res = refusal(http.StatusBadRequest, "ref is not 1 to 64 letters, digits, - and _")
	case text == "":
		res = refusal(http.StatusBadRequest, "the message is empty")
	case utf8.RuneCountInString(text) > chat.MaxText:
		res = refusal(http.StatusRequestEntityTooLarge, chat.TooLong)
	case strings.ContainsFunc(text, isForbidden):
		res = refusal(http.StatusBadRequest, "the message has control characters")
	default:
		return text, ref, nil
	}
	return "", "", &res
}

// isForbidden reports whether a character has no place in a message. Those who show it must not rely on that.
func isForbidden(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 }
