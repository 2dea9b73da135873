// Package chat is what the server and the client of the example chat have in common: the names and the bodies of the packets,
// and the users of the demonstration.
//
// A client asks with a websocket.Request and is answered with a websocket.Response:
//
//	GET  /users                 200, names of those who are here: []string
//	GET  /history?last=N        200, the last N messages to all: []Message
//	GET  /history?since=ID      200, those to all and to or from the user after that one: []Message; 206 if some are not kept
//	POST /messages              201, the Message; the body of the request is its text
//	POST /users/:name/messages  201, the Message, to that user only
//
// A message may be given a name by its sender, POST /messages?ref=NAME: 1 to 64 letters, digits, - and _, such as a random
// number. One that repeats a name which this user has given before is not sent again, but answered with 200 and the first one. So
// a client that got no answer may ask again, over another connection, too.
//
// A client that comes back adds ?since=ID to the URL of its opening handshake: then the Welcome has what it missed.
//
// The answer's Body is JSON; if the code is 400 or above, its Message says what is wrong. Everything else that the server
// sends is a notice: a websocket.Response with the ID 0 whose Message is one of the names below and whose Body is JSON.
package chat

import (
	"time"
	"unicode"
	"unicode/utf8"
)

// Notices.
const (
	// NoticeWelcome is sent once to each connection, with a Welcome. Messages to all and comings and goings that arrive before
	// it are part of what it tells, so a client may ignore them.
	NoticeWelcome = "welcome"

	// NoticeJoin and NoticeLeave announce a user's first and last device, with a User.
	NoticeJoin  = "user.join"
	NoticeLeave = "user.leave"

	// NoticeMessage is a Message to all, its sender included.
	NoticeMessage = "message"

	// NoticePrivate is a Message to one user. All devices of both users get it, except for the one that sent it: that has the
	// answer to its request.
	NoticePrivate = "message.private"
)

// MaxText is the length of a message in characters, and TooLong what is said of a longer one.
const (
	MaxText = 2000
	TooLong = "the message has more than 2000 characters"
)

// Message is something that a user says.
type Message struct {
	Time time.Time `json:"time"`
	From string    `json:"from"`
	To   string    `json:"to,omitempty"` // empty: to all
	Text string    `json:"text"`
	Ref  string    `json:"ref,omitempty"` // the sender's own name for it
	ID   int64     `json:"id"`            // rises, even when the server is restarted
}

// User is a user who comes or goes.
type User struct {
	Name string `json:"name"`
}

// Welcome is what a client is told when it joins.
type Welcome struct {
	Name    string    `json:"name"`    // its user
	Users   []string  `json:"users"`   // who is here
	History []Message `json:"history"` // oldest first: the last messages to all, or what came since the handshake's ?since=ID
	Missed  bool      `json:"missed"`  // there were more since that ID, but they are not kept
	Began   int64     `json:"began"`   // messages up to this ID were said before the server started: it knows nothing of them
	LastID  int64     `json:"lastId"`  // the ID to come back with, as long as no message has come
}

// IsPlain reports whether a character is safe to show on a line of its own making: one that neither controls a terminal nor
// changes the direction or order of the text around it.
func IsPlain(r rune) bool {
	const zeroWidthJoiner = '\u200d' // holds emoji together
	return r != utf8.RuneError && unicode.IsPrint(r) || r == zeroWidthJoiner
}
