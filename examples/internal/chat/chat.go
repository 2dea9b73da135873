// Package chat is what the server and the client of the example chat have in common: the names and the bodies of the packets,
// and the users of the demonstration.
//
// A client asks with a websocket.Request and is answered with a websocket.Response:
//
//	GET  /users                 200, names of those who are here: []string
//	GET  /history?last=N        200, the last N messages to all: []Message
//	POST /messages              201, the Message; the body of the request is its text
//	POST /users/:name/messages  201, the Message, to that user only
//
// The answer's Body is JSON; where the code is 400 or above, its Message says what is wrong. Everything else that the server
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

	// NoticeJoin and NoticeLeave tell of a user's first and last device, with a User.
	NoticeJoin  = "user.join"
	NoticeLeave = "user.leave"

	// NoticeMessage is a Message to all, its sender included.
	NoticeMessage = "message"

	// NoticePrivate is a Message to one user. All devices of both users get it, except for the one that sent it: that has the
	// answer to its request.
	NoticePrivate = "message.private"
)

// MaxText is the length of a message in characters.
const MaxText = 2000

// Message is something that a user says.
type Message struct {
	Time time.Time `json:"time"`
	From string    `json:"from"`
	To   string    `json:"to,omitempty"` // empty: to all
	Text string    `json:"text"`
	ID   int64     `json:"id"` // rises, also when the server is started anew
}

// User is a user who comes or goes.
type User struct {
	Name string `json:"name"`
}

// Welcome is what a client is told when it joins.
type Welcome struct {
	Name    string    `json:"name"`    // its user
	Users   []string  `json:"users"`   // who is here
	History []Message `json:"history"` // the last messages to all, oldest first
}

// IsPlain reports whether a character is safe to show on a line of its own making: one that neither controls a terminal nor
// changes the direction or order of the text around it.
func IsPlain(r rune) bool {
	const zeroWidthJoiner = '\u200d' // holds emoji together
	return r != utf8.RuneError && unicode.IsPrint(r) || r == zeroWidthJoiner
}
