package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/wsloop/websocket"
)

// Limits of one answer to a client that resumes.
const (
	maxResume      = 1000
	maxResumeBytes = 512 << 10
)

// Resumed is the body, in JSON, of the answer to a client that resumes a topic (see RegisterResume).
type Resumed struct {
	Complete bool             `json:"complete"` // as Since says
	More     bool             `json:"more"`     // there may be more: ask again with the last number
	Messages []ResumedMessage `json:"messages"`
}

// ResumedMessage is a message of a topic, in JSON: Text of a text message, else Data, in base64.
type ResumedMessage struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Text string    `json:"text,omitempty"`
	Data []byte    `json:"data,omitempty"`
}

// RegisterResume registers a route of the server by which clients get what they have missed of a topic with history. target has a parameter
// "topic", which a client sends percent-encoded: "/topics/:topic/since". A request is
//
//	{"id": 1, "method": "GET", "target": "/topics/news/since?seq=1835008001&most=100"}
//
// with the number of the last message that the client has, 0 or none if it has none, and how many it wants at most. The answer has code 200 and
// a Resumed as body, with at most 1000 messages and about 512 KiB. A client subscribes first, and then resumes: what comes while it waits for
// the answer may be in both, with the same number.
//
// It is answered only for connections that have subscribed to the topic on this node: others get 403, so whoever decides about
// subscriptions has decided about this as well. 400 is for a bad number, 404 for a topic without history, 503 while there is no store.
func (n *Node) RegisterResume(target string) error {
	return n.srv.RegisterTextHandler(http.MethodGet, target, n.resume)
}

func (n *Node) resume(ctx context.Context, req *websocket.Request) websocket.Response {
	topic, err := url.PathUnescape(req.Params["topic"])
	seq, seqErr := parseNumber(req.Query.Get("seq"))
	most, mostErr := parseNumber(req.Query.Get("most"))
	switch {
	case errors.Join(err, seqErr, mostErr) != nil:
		return refuse(http.StatusBadRequest)
	case !slices.Contains(n.srv.Clients.Subscribers(topic), req.Conn):
		return refuse(http.StatusForbidden)
	}
	if most == 0 || most > maxResume {
		most = maxResume
	}
	messages, complete, err := n.since(ctx, topic, seq, int(most), maxResumeBytes+1) // more than there is room for
	switch {
	case errors.Is(err, ErrNoHistory):
		return refuse(http.StatusNotFound)
	case err != nil:
		return refuse(http.StatusServiceUnavailable)
	}
	body, _ := json.Marshal(resumed(messages, complete, int(most))) // never fails for such values
	return websocket.Response{Code: http.StatusOK, Message: http.StatusText(http.StatusOK), Body: string(body)}
}

// resumed is what a client is told of messages: as many as one answer has room for.
func resumed(messages []Message, complete bool, most int) Resumed {
	res := Resumed{Complete: complete, More: len(messages) >= most, Messages: make([]ResumedMessage, 0, len(messages))}
	for size, m := 0, 0; m < len(messages); m++ {
		if size += len(messages[m].Packet); size > maxResumeBytes {
			if res.More = true; m > 0 {
				break
			}
		}
		res.Messages = append(res.Messages, resumedMessage(messages[m]))
	}
	return res
}

func resumedMessage(m Message) ResumedMessage {
	res := ResumedMessage{Seq: m.Seq, Time: m.Time}
	if frames := websocket.Unpack(m.Packet); frames.Opcode() == websocket.OpcodeText {
		res.Text = string(frames.Payload())
	} else {
		res.Data = frames.Payload()
	}
	return res
}

func parseNumber(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

func refuse(code int32) websocket.Response {
	return websocket.Response{Code: code, Message: http.StatusText(int(code))}
}
