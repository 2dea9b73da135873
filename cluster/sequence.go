package cluster

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/wsloop/websocket"
)

// sequenceOf returns the number of a message that the store has sent on, and that of the one before it in the topic: 0 if none is kept.
func sequenceOf(msg *nats.Msg) (seq, prev uint64, kept bool) {
	if len(msg.Header) == 0 {
		return 0, 0, false
	}
	seq, err := strconv.ParseUint(first(msg.Header, "Nats-Sequence"), 10, 64)
	prev, _ = strconv.ParseUint(first(msg.Header, "Nats-Last-Sequence"), 10, 64)
	return seq, prev, err == nil
}

// first is Header.Get for a name that is written as it is on the wire.
func first(header nats.Header, name string) string {
	if values := header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// Every Response that package websocket writes begins with this and ends with a brace.
var beginningOfResponse = []byte(`{"message":`)

// withSequence returns the packet with the numbers as members of the Response that it carries: the same packet, if it carries none.
func withSequence(packet []byte, seq, prev uint64) []byte {
	text, ok := textIn(packet)
	if !ok || !bytes.HasPrefix(text, beginningOfResponse) || text[len(text)-1] != '}' {
		return packet
	}
	const room = len(`,"seq":18446744073709551615,"prev":18446744073709551615`)
	res := append(make([]byte, 0, len(text)+room), text[:len(text)-1]...)
	res = strconv.AppendUint(append(res, `,"seq":`...), seq, 10)
	if prev != 0 {
		res = strconv.AppendUint(append(res, `,"prev":`...), prev, 10)
	}
	return websocket.NewFrameText(false, append(res, '}'))
}

// The header of an unmasked text frame that is a whole message (RFC 6455, section 5.2).
const (
	finText  = 0x81
	length16 = 126
	length64 = 127
)

// textIn returns the text message that a packet is, if it is one of a single frame.
func textIn(packet []byte) (text []byte, ok bool) {
	if len(packet) < 2 || packet[0] != finText {
		return nil, false
	}
	length, head := uint64(packet[1]), 2
	switch {
	case length == length16 && len(packet) >= 4:
		length, head = uint64(binary.BigEndian.Uint16(packet[2:])), 4
	case length == length64 && len(packet) >= 10:
		length, head = binary.BigEndian.Uint64(packet[2:]), 10
	case length >= length16: // masked, or not whole
		return nil, false
	}
	text = packet[head:]
	return text, length > 0 && length == uint64(len(text))
}
