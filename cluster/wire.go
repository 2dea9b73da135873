package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/wsloop/websocket"
)

// kind is what a message between nodes is, in its first byte.
type kind byte

const (
	kindPacket   kind = 'p' // deliver the packet; for a user, answer to how many
	kindOnline   kind = 'o' // answer how many connections the user has
	kindDevices  kind = 'd' // answer with the user's connections
	kindKick     kind = 'k' // close the user's connections, and answer how many
	kindClose    kind = 'c' // close the connection of this node, and answer if it was there
	kindPresence kind = 'm' // answer with the members of the topic
	kindHere     kind = 'h' // the node is there
	kindGone     kind = 'g' // the node leaves
)

// appendPacket writes the message that carries a packet.
func appendPacket(dst, packet []byte) []byte {
	return append(append(dst, byte(kindPacket)), packet...)
}

// farewell is why a connection is closed.
type farewell struct {
	code   websocket.CloseCode
	reason string
}

// appendFarewell writes a farewell at the end of a message.
func appendFarewell(dst []byte, f farewell) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(f.code)), f.reason...)
}

func parseFarewell(b []byte) (f farewell, ok bool) {
	if len(b) < 2 {
		return f, false
	}
	return farewell{websocket.CloseCode(binary.BigEndian.Uint16(b)), string(b[2:])}, true
}

// device is one connection of a user, wherever it is. How long it is open its own node says, so that clocks need not agree.
type device struct {
	id   uint64
	age  time.Duration
	node string
}

func appendDevice(dst []byte, d device) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, d.id), uint64(d.age))
}

// parseDevices reads the devices in an answer of a node.
func parseDevices(node string, b []byte) (devices []device, ok bool) {
	for len(b) > 0 {
		var id, age uint64
		if id, b, ok = parseUvarint(b); !ok {
			return nil, false
		}
		if age, b, ok = parseUvarint(b); !ok {
			return nil, false
		}
		devices = append(devices, device{id, time.Duration(min(age, math.MaxInt64)), node})
	}
	return devices, true
}

// appendMember writes a member of a topic, for an answer of its node.
func appendMember(dst []byte, m Member) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, m.UID), uint64(m.Conns))
}

func parseMembers(node string, b []byte) (members []Member, ok bool) {
	for len(b) > 0 {
		var uid, conns uint64
		if uid, b, ok = parseUvarint(b); !ok {
			return nil, false
		}
		if conns, b, ok = parseUvarint(b); !ok {
			return nil, false
		}
		members = append(members, Member{UID: uid, Conns: countOf(conns), Node: node})
	}
	return members, true
}

func parseUvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// answer is what a node says to a request: in one message, or in several of which all but the last have more set.
type answer struct {
	node string
	more bool
	body []byte
}

func appendAnswer(dst []byte, a answer) []byte {
	more := byte(0)
	if a.more {
		more = 1
	}
	return append(append(append(dst, more, byte(len(a.node))), a.node...), a.body...)
}

func parseAnswer(b []byte) (a answer, ok bool) {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return a, false
	}
	end := 2 + int(b[1])
	return answer{node: string(b[2:end]), more: b[0] != 0, body: b[end:]}, true
}

// count is the body of an answer that is a number.
func (a answer) count() int {
	v, _, _ := parseUvarint(a.body)
	return countOf(v)
}

// countOf keeps what another node has counted below what would overflow, whatever that says.
func countOf(v uint64) int { return int(min(v, math.MaxInt32)) }

// checkFarewell refuses what cannot be in a Close frame, before any node is told of it. Code 0 stands for StatusNormal.
func checkFarewell(f *farewell) error {
	if f.code == 0 {
		f.code = websocket.StatusNormal
	}
	packet := websocket.NewFrameClose(false, f.code, nil) // has another code, if this one must not be on the wire
	if sent, _ := parseFarewell(packet[len(packet)-2:]); sent.code != f.code {
		return fmt.Errorf("websocket: cluster: close code %d must not be on the wire", f.code) // RFC 6455, section 7.4.2
	}
	if !utf8.ValidString(f.reason) {
		return errors.New("websocket: cluster: close reason is not UTF-8") // RFC 6455, section 5.5.1
	}
	return nil
}
