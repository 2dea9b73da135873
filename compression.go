package websocket

import (
	"errors"
	"math/bits"
)

// defaultMinSize is how many bytes a message has at least for the time that compressing takes to be worth it.
const defaultMinSize = 128

// ErrMessageTooLarge is returned by DeflateCodec.Inflate if the message is longer than the limit.
var ErrMessageTooLarge = errors.New("websocket: message is too large")

// Compression switches on permessage-deflate (RFC 7692), which compresses each message by itself or, with context takeover, by what
// was sent before it in the same direction. The zero value has the defaults. It is not changed, so that servers and clients may share
// one; it must not be changed while they run.
//
// Compressed are messages of MinSize and more, however they are sent: by SendText, SendBin and a Client's methods of these names, as the
// response to a request, and as a packet of one finished frame of text or binary data with its reserved bits clear, which Send, its
// variants, SendAll and SendUser are given. All other packets go as they are, and so does what would not get shorter. A server compresses a
// message of up to 16 KiB with those before it as its context, if codec and client have one; a longer one by itself, and so a packet for
// several connections, once for all of them. Where there is no room for the message as it is, Send waits and TrySend fails.
//
// Data that cannot be inflated closes the connection with StatusInvalidData, and so does text that is not UTF-8 then; what is longer than
// MaxMessageSize once inflated closes it with StatusRequestEntityTooLarge before it takes that much memory. A connection of a server
// costs 64 bytes more, or with a context some 180 and its two windows.
//
// Compressing costs far more time than sending, and hides no lengths: where one message has a secret beside text that an attacker
// chooses, its compressed length tells, over many tries, what the secret is. With context takeover the two may be in different
// messages.
type Compression struct {
	// Codec compresses and inflates. The default, nil, is StandardDeflate, which compresses each message by itself, although it
	// inflates what a peer has compressed with context takeover. Codecs for more are in modules of their own, such as
	// github.com/wsloop/websocket/deflate.
	Codec DeflateCodec

	// MinSize is the size in bytes from which messages are compressed. Shorter ones are sent as they are, and leave the peer's window
	// alone. The default, for 0, is 128 bytes; below zero messages of any size are compressed.
	MinSize int

	// Window is how many bytes of the messages before are kept for each direction of each connection, for context takeover. Memory is
	// taken as bytes come, and never more than this. A peer that compresses is asked for a window of that size, or for no context
	// takeover if it cannot change its window (RFC 7692, section 7.1.2.2). Windows are negotiated by their power of two, so other
	// sizes are rounded down to one; the least is 256 bytes, the most 32 KiB. Below 512 nothing is
	// kept of what comes: many a peer cannot have so small a window. The default, for 0, is 4 KiB; below zero there is no
	// context takeover, and nothing is kept.
	Window int
}

// filled returns it with its defaults filled in: a Window from minWindow to maxWindow that is a power of two, or -1 for no context
// takeover.
func (c Compression) filled() Compression {
	if c.Codec == nil {
		c.Codec = StandardDeflate()
	}
	if c.MinSize == 0 {
		c.MinSize = defaultMinSize
	}
	c.MinSize = max(c.MinSize, -1)
	switch {
	case c.Window < 0:
		c.Window = -1
	case c.Window == 0:
		c.Window = defaultWindow
	default:
		c.Window = 1 << windowBits(min(max(c.Window, minWindow), maxWindow))
	}
	return c
}

// windowBits returns the power of two of a window, or of the next smaller one that has a power.
func windowBits(window int) int { return bits.Len(uint(window)) - 1 }

// DeflateCodec compresses and inflates the payloads of messages (RFC 7692, section 7.2).
//
// Its methods are called from any number of goroutines at the same time, for any connection: a codec keeps no state between messages.
// Deflate and TakesDict may be called with the lock of a connection held: they must neither block nor call this package about a connection.
// A panic ends the connection that a message came by; one of Deflate is that of the Send that called it.
// They append to dst, whose bytes they leave alone, and return it as append does; dst overlaps neither of the other slices. They keep
// none of the slices and change none but dst.
//
// dict is what was sent before in the same direction, as it was before it was compressed: at most 32 KiB, the latest byte last. It is
// empty without context takeover, and for the first message.
type DeflateCodec interface {
	// Deflate appends the compressed payload: any number of DEFLATE blocks (RFC 1951), and at the end an empty one that is not
	// compressed, without its last four bytes 00 00 ff ff (RFC 7692, section 7.2.1). No payload is compressed to no bytes: an empty one
	// is to be the single byte 00 (section 7.2.3.6). Back references may reach into dict, but not beyond its beginning. A codec whose
	// TakesDict is false leaves dict alone. After an error, the message is sent as it is.
	Deflate(dst, payload, dict []byte) ([]byte, error)

	// Inflate appends what was compressed (section 7.2.2), at most limit bytes. Blocks with the BFINAL bit set may be anywhere, and others
	// follow at the next whole byte (section 7.2.3.4). If there is more than limit, the error is, or wraps, ErrMessageTooLarge, and the
	// connection is closed with StatusRequestEntityTooLarge; by then no more memory may have been used than the limit allows. Any other
	// error says that the data is invalid or incomplete. What is returned beside an error is not used.
	Inflate(dst, compressed, dict []byte, limit int) ([]byte, error)

	// TakesDict reports whether Deflate uses dict. It always returns the same. If it is false, no history of what is sent is kept, and
	// the peer is told that there is no context takeover, so that it need not keep one either (section 7.1.1).
	TakesDict() bool
}

// deflateTail is what each compressed message lacks at its end: all but the first bits of an empty block that is not compressed
// (RFC 7692, section 7.2.1).
const deflateTail = "\x00\x00\xff\xff"

// deflateWithin is codec.Deflate for a peer that keeps no more than window bytes: no back reference reaches farther. A codec knows
// of no windows, but reaches no farther than its dict: so it is given pieces, each short enough to have room in the window beside
// what it may refer to.
func deflateWithin(codec DeflateCodec, dst, payload, dict []byte, window int) ([]byte, error) {
	if window >= maxWindow {
		return codec.Deflate(dst, payload, dict)
	}
	if !codec.TakesDict() {
		return deflatePieces(codec, dst, payload, window)
	}
	piece := min(len(payload), window/2)
	dst, err := codec.Deflate(dst, payload[:piece], lastBytes(dict, window-piece))
	for at := piece; at < len(payload) && err == nil; at += piece {
		dst = append(dst, deflateTail...)
		piece = min(len(payload)-at, window/2)
		dst, err = codec.Deflate(dst, payload[at:at+piece], lastBytes(payload[:at], window-piece))
	}
	return dst, err
}

// deflatePieces is deflateWithin for a codec that takes no dict.
func deflatePieces(codec DeflateCodec, dst, payload []byte, window int) (_ []byte, err error) {
	for len(payload) > window && err == nil {
		dst, err = codec.Deflate(dst, payload[:window], nil)
		dst = append(dst, deflateTail...)
		payload = payload[window:]
	}
	if err != nil {
		return dst, err
	}
	return codec.Deflate(dst, payload, nil)
}
