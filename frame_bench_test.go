package websocket

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
)

// benchSizes are payload sizes, and the numbers of bytes that are masked or checked.
var benchSizes = []int{16, 128, 1 << 10, 16 << 10, 64 << 10, 1 << 20}

// benchSize names a size.
func benchSize(n int) string {
	switch {
	case n >= 1<<20:
		return strconv.Itoa(n>>20) + "MiB"
	case n >= 1<<10:
		return strconv.Itoa(n>>10) + "KiB"
	}
	return strconv.Itoa(n) + "B"
}

// benchRun measures step, which takes n bytes.
func benchRun(b *testing.B, name string, n int, step func()) {
	b.Run(name, func(b *testing.B) {
		b.SetBytes(int64(n))
		b.ReportAllocs()
		for b.Loop() {
			step()
		}
	})
}

func BenchmarkHeader(b *testing.B) {
	for _, n := range benchSizes {
		h := header{first: bitFin | byte(OpcodeText), masked: true, key: 0x04030201, length: uint64(n)}
		packet := appendHeader(nil, h)
		benchRun(b, "parse/"+benchSize(n), len(packet), func() { parseHeader(packet) })
		benchRun(b, "append/"+benchSize(n), len(packet), func() { packet = appendHeader(packet[:0], h) })
	}
}

func BenchmarkNewFrame(b *testing.B) {
	for _, n := range benchSizes {
		payload := corePayload(n)
		benchRun(b, "server/"+benchSize(n), n, func() { NewFrame(OpcodeText, false, payload) })
		benchRun(b, "client/"+benchSize(n), n, func() { NewFrame(OpcodeText, true, payload) })
	}
}

func BenchmarkUnpack(b *testing.B) {
	for _, n := range benchSizes {
		packet := NewFrame(OpcodeText, true, corePayload(n))
		benchRun(b, benchSize(n), n, func() { Unpack(packet) })
	}
	small := bytes.Repeat(NewFrame(OpcodeText, true, corePayload(128)), 64)
	benchRun(b, "64of128B", 64*128, func() { Unpack(small) })
}

func BenchmarkMask(b *testing.B) {
	const key = 0x3d21fa37
	for _, n := range benchSizes {
		source, dst := corePayload(n+8), make([]byte, n)
		for align := range 8 {
			src := source[align : align+n]
			benchRun(b, fmt.Sprintf("%s/align%d", benchSize(n), align), n, func() { mask(dst, src, key, 0) })
		}
		for pos := range 8 {
			benchRun(b, fmt.Sprintf("%s/position%d", benchSize(n), pos), n, func() { mask(dst, source[:n], key, pos) })
		}
		benchRun(b, benchSize(n)+"/inplace", n, func() { mask(dst, dst, key, 0) })
		benchRun(b, benchSize(n)+"/copy", n, func() { copyMasked(source[:n], key) })
	}
}
