// Package chat is what the server and the clients of the example chat have in common: the names and the bodies of the packets,
// and the users of the demonstration.
//
// A client asks with a websocket.Request and is answered with a websocket.Response:
//
//	GET    /users                 200, names of those who are here: []string
//	GET    /people                200, everybody whom the server knows: []Person
//	POST   /presence              200, the Person; the body is "here" or "away", of this connection
//	GET    /rooms                 200, all rooms: []Room
//	PUT    /rooms/:room           200, the Room, or 201 if it is new: from now on this connection hears what is said there
//	DELETE /rooms/:room           200, the Room: it no longer does
//	POST   /rooms/:room/messages  201, Sent; the body of the request is the text
//	POST   /users/:name/messages  201, Sent, to that user only
//	POST   /messages              201, Sent, to Lobby
//	POST   /rooms/:room/typing    200: those who hear the room are told that the user is writing
//	POST   /users/:name/typing    200: so is that user
//
// A message may be given a name by its sender, ?ref=NAME: 1 to 64 letters, digits, - and _, such as a random number. One that repeats
// a name which this user has given before is not sent again, but answered with 200, or with 409 if it is another message. So a client that got no answer may ask again,
// over another connection, too.
//
// What was said is asked for in pages of at most MaxPage messages, the oldest first: []Message.
//
//	GET /history?last=N               200, the last N messages of Lobby
//	GET /history?room=ROOM&last=N     200, of another room
//	GET /history?with=NAME&last=N     200, between the user and that one
//	GET /history?...&before=ID        200, the last of those before that one
//	GET /history?since=ID             200, those after that one: of all rooms that this connection hears, and to and from the user. 206
//	                                  if some are not kept. It is all there is if the answer has none, else there may be more after it
//
// Every connection hears Lobby. One that wants other rooms from the start adds ?rooms=ONE,TWO to the URL of its opening handshake, and one
// that comes back ?since=ID: then the Welcome has the first page of what it missed.
//
// The answer's Body is JSON; if the code is 400 or above, its Message says what is wrong. One of 429 has a Refusal as Body.
// Everything else that the server sends is a notice: a websocket.Response with the ID 0 whose Message is one of the names below and
// whose Body is JSON. Clients ignore notices that they do not know.
package chat

import (
	"time"
	"unicode"
	"unicode/utf8"
)

// Notices.
const (
	// NoticeWelcome is sent once to each connection, with a Welcome. Comings and goings that arrive before it are part of what it tells,
	// so a client may ignore those. A message that is said in the same moment may come in front of it, or twice: its ID tells.
	NoticeWelcome = "welcome"

	// NoticeJoin and NoticeLeave announce a user's first and last device, with a User.
	NoticeJoin  = "user.join"
	NoticeLeave = "user.leave"

	// NoticePresence announces that a user who is here is away, or no longer, with a Person.
	NoticePresence = "user.presence"

	// NoticeTyping tells that somebody is writing, with a Typing.
	NoticeTyping = "user.typing"

	// NoticeRoom announces a new room, with a Room.
	NoticeRoom = "room"

	// NoticeMessage is a Message to a room that the connection hears, its sender included.
	NoticeMessage = "message"

	// NoticePrivate is a Message to one user. All devices of both users get it, except for the one that sent it: that has the
	// answer to its request. (Where several servers are one that gets it too, with the ID of the answer.)
	NoticePrivate = "message.private"
)

// Lobby is the room that everybody hears.
const Lobby = "lobby"

// MaxText is the length of a message in characters, and TooLong what is said of a longer one.
const (
	MaxText = 2000
	TooLong = "the message has more than 2000 characters"
)

// MaxPage is how many messages one answer has at most. It has less if they are long.
const MaxPage = 200

// Message is something that a user says.
type Message struct {
	Time time.Time `json:"time"`
	From string    `json:"from"`
	Room string    `json:"room,omitempty"`
	To   string    `json:"to,omitempty"` // a user, if there is no room
	Text string    `json:"text"`
	Ref  string    `json:"ref,omitempty"` // the sender's own name for it
	ID   int64     `json:"id"`            // rises, even when the server is restarted; if it is 0, it is the Seq of the Response
}

// Sent is a message as its sender is told of it.
type Sent struct {
	Message
	Reached int `json:"reached"` // how many devices of the user it was sent to; 0 for a message to a room
	Left    int `json:"left"`    // how many more the user may send at once
}

// Refusal is what else is told of a request that came too early.
type Refusal struct {
	RetryAfter int64 `json:"retryAfter"` // milliseconds
}

// User is a user who comes or goes.
type User struct {
	Name string `json:"name"`
}

// Presence is whether somebody is there.
type Presence string

// All devices of somebody who is Away are.
const (
	Here Presence = "here"
	Away Presence = "away"
	Gone Presence = "gone"
)

// Person is a user whom others may write to.
type Person struct {
	Name     string   `json:"name"`
	Presence Presence `json:"presence"`
}

// Room is a room.
type Room struct {
	Name string `json:"name"`
}

// Typing says that somebody is writing to a room, or to the user who is told.
type Typing struct {
	Name string `json:"name"`
	Room string `json:"room,omitempty"`
}

// Welcome is what a client is told when it joins.
type Welcome struct {
	Name    string    `json:"name"`    // its user
	Users   []string  `json:"users"`   // who is here
	People  []Person  `json:"people"`  // everybody
	Rooms   []Room    `json:"rooms"`   // all of them
	Hears   []string  `json:"hears"`   // names of those that this connection hears
	History []Message `json:"history"` // oldest first: the last messages, or what came since the handshake's ?since=ID
	More    bool      `json:"more"`    // there is more since that ID: see GET /history?since=ID
	Missed  bool      `json:"missed"`  // there was more since that ID, but it is not kept
	Began   int64     `json:"began"`   // messages up to this ID were said before the server started: it knows nothing of them
	LastID  int64     `json:"lastId"`  // the ID to come back with, as long as no message has come
}

// IsPlain reports whether a character is safe to show on a line of its own making: one that neither controls a terminal nor
// changes the direction or order of the text around it.
func IsPlain(r rune) bool {
	const zeroWidthJoiner = '\u200d' // holds emoji together
	return r != utf8.RuneError && unicode.IsPrint(r) || r == zeroWidthJoiner
}
