package websocket

import "encoding/json"

// Response is what a client gets for a Request, with its ID and with Code and Message as in HTTP. Without a request it is a
// broadcast: ID and Code are 0, and Message names what it is about.
type Response struct {
	Message string `json:"message"`
	Body    string `json:"body"`
	ID      uint64 `json:"id"`
	Code    int32  `json:"code"`
}

// packet returns the response as a text frame of the server.
func (res *Response) packet() (packet []byte, err error) {
	payload, err := json.Marshal(res)
	if err != nil {
		return nil, err
	}
	return NewFrameText(false, payload), nil
}

// NewBroadcast returns a text frame of the server with a Response that answers no request: Message and Body are given, ID and
// Code are 0. The packet may be sent to any number of connections, such as with ClientManager.SendAll.
func NewBroadcast(message, body string) (packet []byte, err error) {
	res := Response{Message: message, Body: body}
	return res.packet()
}
