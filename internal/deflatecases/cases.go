package deflatecases

import (
	"bytes"
	"math/rand/v2"
	"strings"

	"github.com/wsloop/websocket"
)

// Tail is what each compressed message lacks at its end (RFC 7692, section 7.2.1).
const Tail = "\x00\x00\xff\xff"

// Sample is a payload, or what was sent before one.
type Sample struct {
	Name  string
	Bytes []byte
}

// Payloads are messages of all kinds.
func Payloads() []Sample {
	return []Sample{
		{"nothing", nil},
		{"one byte", []byte("a")},
		{"Hello", []byte("Hello")},
		{"what looks like the tail", []byte(Tail + Tail)},
		{"an order", Orders(1000)[999]},
		{"a line of chat", Chat(1000)[999]},
		{"a block of one byte", bytes.Repeat([]byte("x"), 1000)},
		{"noise", Noise(300)},
		{"65,535 bytes of noise", Noise(65535)},
		{"65,536 bytes of noise", Noise(65536)},
		{"65,537 bytes of one kind", bytes.Repeat([]byte("y"), 65537)},
		{"many orders", bytes.Join(Orders(1000), nil)},
		{"noise, and more of one kind", append(Noise(70000), bytes.Repeat([]byte("z"), 1<<20)...)},
	}
}

// Histories are what was sent before, each at most 32 KiB.
func Histories() []Sample {
	orders := bytes.Join(Orders(998), nil)
	return []Sample{
		{"nothing", nil},
		{"one byte", []byte("a")},
		{"Hello", []byte("Hello")},
		{"4 KiB of orders", orders[len(orders)-4<<10:]},
		{"32 KiB of orders", orders[len(orders)-32<<10:]},
		{"32 KiB of one kind", bytes.Repeat([]byte("z"), 32<<10)},
		{"what the noise begins with", Noise(300)},
	}
}

// eachMessage calls f with each payload after each history, and with what of that the codec may use. The longest one, which takes its
// time, is after none alone.
func eachMessage(codec websocket.DeflateCodec, f func(payload, history Sample, dict []byte)) {
	for _, history := range Histories() {
		for _, payload := range Payloads() {
			switch {
			case len(payload.Bytes) > 1<<20 && len(history.Bytes) > 0:
			case codec.TakesDict():
				f(payload, history, history.Bytes)
			default:
				f(payload, history, nil)
			}
		}
	}
}

// Noise returns n bytes that nothing makes fewer, always the same.
func Noise(n int) []byte {
	noise := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7, 69, 2}).Read(noise)
	return noise
}

// Example is a compressed message, what was sent before it, and what it inflates to.
type Example struct {
	Section, Name             string
	Compressed, Dict, Payload string
}

// Examples are those of RFC 7692, section 7.2.3, and more about where blocks and messages end.
func Examples() []Example {
	return []Example{
		{"7.2.3.1", "one block", "\xf2\x48\xcd\xc9\xc9\x07\x00", "", "Hello"},
		{"7.2.3.2", "the same message without its context", "\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello", "Hello"},
		{"7.2.3.2", "a reference to the message before", "\xf2\x00\x11\x00\x00", "Hello", "Hello"},
		{"7.2.3.3", "a block that is not compressed", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "", "Hello"},
		{"7.2.3.4", "a block with BFINAL set", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "", "Hello"},
		{"7.2.3.5", "two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "", "Hello"},
		{"7.2.3.6", "an empty message", "\x00", "", ""},
		{"7.2.3.6", "an empty message after another one", "\x00", "Hello", ""},

		{"7.2.3.4", "a block with BFINAL set, and another one", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x48\xcd\xc9\xc9\x07\x00", "", "HelloHello"},
		{"7.2.3.4", "a reference over BFINAL", "\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00", "", "HelloHello"},
		{"7.2.3.4", "a reference over BFINAL and into the message before", "\x03\x00\xf2\x00\x11\x00\x00", "Hello", "Hello"},
		{"7.2.3.4", "blocks with BFINAL set, not compressed", "\x01\x03\x00\xfc\xffabc\x01\x02\x00\xfd\xffde\x00", "", "abcde"},
		{"7.2.3.4", "nothing behind BFINAL", "\xf3\x48\xcd\xc9\xc9\x07\x00", "", "Hello"},
		{"7.2.3.4", "the last block, which is cut off, has BFINAL set", "\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff\x01", "", "Hello"},
		{"7.2.2", "what zlib makes of an empty message after another one", "", "Hello", ""},
	}
}

// Invalid are messages that inflate to nothing, and what is wrong with them.
func Invalid() []Example {
	return []Example{
		{Section: "RFC 1951, 3.2.3", Name: "a reserved type of block", Compressed: "\x06\x00"},
		{Section: "RFC 1951, 3.2.4", Name: "a length that differs from its complement", Compressed: "\x00\x05\x00\xfa\xfeHello\x00"},
		{Section: "RFC 1951, 3.2.4", Name: "a block that is shorter than it says", Compressed: "\x00\x7f\x00\x80\xffHello\x00"},
		{Section: "RFC 1951, 3.2.5", Name: "a reference to before the beginning", Compressed: "\xf2\x00\x11\x00\x00"},
		{Section: "RFC 1951, 3.2.5", Name: "a reference to before the history", Compressed: "\xf2\x00\x11\x00\x00", Dict: "llo"},
		{Section: "RFC 1951, 3.2.7", Name: "more codes of lengths than there are", Compressed: "\xfc\xff\xff\xff\xff\xff\xff\xff"},
		{Section: "RFC 7692, 7.2.1", Name: "no empty block at the end", Compressed: "\xf2\x48\xcd\xc9\xc9\x07"},
		{Section: "RFC 7692, 7.2.1", Name: "a tail that was not cut off", Compressed: "\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff"},
		{Section: "RFC 7692, 7.2.1", Name: "noise", Compressed: "\xff\xff\xff\xff"},
		{Section: "RFC 7692, 7.2.3.4", Name: "noise behind BFINAL", Compressed: "\xf3\x48\xcd\xc9\xc9\x07\x00\xff\xff\xff"},
		{Section: "RFC 7692, 7.2.3.4", Name: "BFINAL over and over", Compressed: strings.Repeat("\x03\x00", 4096) + "\x00"},
	}
}
