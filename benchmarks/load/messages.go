package main

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
	"github.com/wsloop/websocket/benchmarks/internal/raw"
)

const (
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

// ring holds the masked frames of messages one behind the other, with the answers that are expected, so that sending costs the
// generator nothing but the system call.
type ring struct {
	frames []byte
	at     []int // where each frame begins
	want   [][]byte
	each   int // how many answers a frame has
	opcode byte
}

// ringBytes is how much the frames of a ring take at most; they stay in a cache.
const ringBytes = 1 << 20

// newRing makes messages of the kind, as the scenario has them. Up to burst frames can be sent in one go.
func newRing(s *plan.Scenario, kind plan.Kind, burst int, random *rand.Rand) *ring {
	r := &ring{each: 1, opcode: opBinary}
	if kind.Text() {
		r.opcode = opText
	}
	var payloads [][]byte
	if s.Set != "" {
		payloads = r.take(s.Set, kind)
	} else {
		payloads = r.invent(kind, s.Size, random)
	}
	first := r.opcode
	if s.Offers && kind != plan.Feed { // a request is too short to gain by it
		first |= rsv1
		payloads = deflate(payloads)
	}
	for i := range len(payloads) + burst {
		r.at = append(r.at, len(r.frames))
		r.frames = appendMasked(r.frames, first, payloads[i%len(payloads)], random.Uint32())
	}
	r.at = append(r.at, len(r.frames))
	return r
}

// take makes messages from a set.
func (r *ring) take(set plan.Set, kind plan.Kind) (payloads [][]byte) {
	r.want = set.Messages()
	switch kind {
	case plan.Feed:
		r.each = plan.Burst
		for i := 0; i < len(r.want); i += r.each {
			payloads = append(payloads, fmt.Appendf(nil, "send %d %d", i, i+r.each))
		}
		return payloads
	case plan.Broadcast:
		for i, message := range r.want {
			r.want[i] = append([]byte("broadcast "), message...)
		}
	}
	return r.want
}

// invent makes messages of that size.
func (r *ring) invent(kind plan.Kind, size int, random *rand.Rand) (payloads [][]byte) {
	for i := range max(3, min(ringBytes/size, 509)) {
		send, want := newMessage(kind, size, i, random)
		payloads, r.want = append(payloads, send), append(r.want, want)
	}
	return payloads
}

func newMessage(kind plan.Kind, size, i int, random *rand.Rand) (send, want []byte) {
	if !kind.Text() {
		b := make([]byte, size)
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		return b, b
	}
	prefix := ""
	switch kind {
	case plan.Sleep:
		prefix = "sleep 10 "
	case plan.Broadcast:
		prefix = "broadcast "
	case plan.Router:
		return newRequest(size, i, random)
	}
	b := append([]byte(prefix), letters(size-len(prefix), random)...)
	return b, b
}

func letters(n int, random *rand.Rand) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = ' ' + byte(random.IntN(95))
		if b[i] == '"' || b[i] == '\\' || b[i] == '<' || b[i] == '>' || b[i] == '&' {
			b[i] = '.'
		}
	}
	return b
}

// newRequest returns a JSON request of that size and the answer that repeats its body.
func newRequest(size, i int, random *rand.Rand) (send, want []byte) {
	id := uint64(1_000_000_000 + i)
	request := func(body []byte) []byte {
		return fmt.Appendf(nil, `{"id":%d,"method":"POST","target":"/echo/%06d","body":"%s"}`, id, i, body)
	}
	body := letters(size-len(request(nil)), random)
	want, err := json.Marshal(struct {
		Message string `json:"message"`
		Body    string `json:"body"`
		ID      uint64 `json:"id"`
		Code    int    `json:"code"`
	}{Body: string(body), ID: id, Code: 200})
	if err != nil {
		panic(err) // a string and two numbers
	}
	return request(body), want
}

func appendMasked(dst []byte, opcode byte, payload []byte, key uint32) []byte {
	dst = append(dst, 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	dst = binary.LittleEndian.AppendUint32(dst, key)
	start := len(dst)
	dst = append(dst, payload...)
	raw.Unmask(dst[start:], payload, key)
	return dst
}

// handshakes are requests with the Sec-WebSocket-Accept that answers each.
type handshakes struct {
	requests, accepts [][]byte
	next              int
}

func newHandshakes(addr, offer string, random *rand.Rand) *handshakes {
	h := new(handshakes)
	if offer != "" {
		offer = extensionsField + ": " + offer + "\r\n"
	}
	for range 256 {
		nonce := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, random.Uint64()), random.Uint64())
		key := base64.StdEncoding.EncodeToString(nonce)
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		h.accepts = append(h.accepts, []byte(base64.StdEncoding.EncodeToString(sum[:])))
		h.requests = append(h.requests, fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n%s\r\n", addr, key, offer))
	}
	return h
}
