package websocket

import (
	"bytes"
	"strings"
	"testing"
)

// benchReceiver reads a client's messages as a loop does, piece bytes at a time.
func benchReceiver(b *testing.B, p *rules, in []byte, piece, messages int) {
	var ep receiver
	note := func(ev event, err *protocolError) {
		if err != nil {
			b.Fatal(err)
		}
		if ev.kind == eventMessage {
			messages--
		}
	}
	for len(in) > 0 {
		if room := ep.room(func() int { return 0 }); room != nil {
			n := copy(room, in)
			in = in[n:]
			note(ep.filled(n))
			continue
		}
		part := in[:min(piece, len(in))]
		in = in[len(part):]
		for len(part) > 0 {
			ev, n, err := ep.next(p, part)
			part = part[n:]
			note(ev, err)
		}
	}
	if messages != 0 {
		b.Fatal("messages are missing")
	}
}

// BenchmarkReceiver reads messages that came with one read each, many with one, and one with many.
func BenchmarkReceiver(b *testing.B) {
	p := &rules{maxMessage: defaultMaxMessageSize, maxFragments: defaultMaxFragments, fromClient: true}
	for _, kind := range []struct {
		name   string
		opcode Opcode
	}{{"text", OpcodeText}, {"binary", OpcodeBin}} {
		for _, n := range benchSizes {
			packet := NewFrame(kind.opcode, true, corePayload(n))
			benchRun(b, kind.name+"/"+benchSize(n), n, func() { benchReceiver(b, p, packet, len(packet), 1) })
		}
		many := bytes.Repeat(NewFrame(kind.opcode, true, corePayload(128)), 64)
		benchRun(b, kind.name+"/64of128B", 64*128, func() { benchReceiver(b, p, many, len(many), 64) })
		long := NewFrame(kind.opcode, true, corePayload(1<<20))
		benchRun(b, kind.name+"/1MiBin64KiB", 1<<20, func() { benchReceiver(b, p, long, readSize, 1) })
	}
}

func BenchmarkUTF8(b *testing.B) {
	for _, kind := range []struct{ name, letters string }{
		{"ascii", "abcdefgh"}, {"two", "éüßñ"}, {"three", "世界"}, {"four", "🙂🙃"},
	} {
		for _, n := range benchSizes {
			text := []byte(strings.Repeat(kind.letters, n/len(kind.letters)+1))[:n]
			benchRun(b, kind.name+"/"+benchSize(n), n, func() { validPrefix(text) })
		}
	}
}
