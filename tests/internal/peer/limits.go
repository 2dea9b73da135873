package peer

import (
	"crypto/sha1"
	"encoding/base64"
	"time"
)

// Bits of the first two bytes of a frame (RFC 6455, section 5.2).
const (
	BitFin    = 0x80
	BitRsv1   = 0x40
	BitRsv2   = 0x20
	BitRsv3   = 0x10
	BitsRsv   = BitRsv1 | BitRsv2 | BitRsv3
	BitMasked = 0x80
)

// Lengths of a payload: the two that stand for a field behind them (section 5.2), the most that a control frame may have
// (section 5.5), and the longest header.
const (
	Length16   = 126
	Length64   = 127
	MaxControl = 125
	MaxHeader  = 14
)

// The defaults that the documentation of ServerOptions and Client names.
const (
	HandshakeTimeout = 10 * time.Second
	WriteTimeout     = 10 * time.Second
	PingInterval     = 16 * time.Second
	SilenceTimeout   = 16 * time.Second
	AddTimeout       = time.Second
	MinPingInterval  = 10 * time.Second // of a Client
	MaxMessageSize   = 16 << 20
	MaxFragments     = 1 << 17
	MaxHeaderSize    = 16 << 10
	MaxHeaderFields  = 100
	SendQueueSize    = 1 << 20
	RequestsAtOnce   = 16
)

const (
	// DrainTime is how long a connection may stay half closed, in which the server reads what the peer still sends.
	DrainTime = time.Second

	// AnswerTime is how long the peer of a connection that ends may wait for an answer while handlers run.
	AnswerTime = time.Second
)

// AcceptKey is the Sec-WebSocket-Accept field for a key (RFC 6455, section 4.2.2).
func AcceptKey(key []byte) string {
	sum := sha1.Sum(append(key[:len(key):len(key)], "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return base64.StdEncoding.EncodeToString(sum[:])
}
