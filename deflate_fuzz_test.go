package websocket

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// An encoder of compress/flate has a megabyte, which makes each try slow: -fuzzminimizetime 1x keeps the fuzzer from spending a minute
// on making an input shorter.

func FuzzDeflateWithin(f *testing.F) {
	f.Fuzz(func(t *testing.T, payload, dict []byte, bits uint8, more uint16) {
		window := minWindow << (bits % 8)
		payload = append(bytes.Repeat(dict, 1+int(more)/(len(dict)+1)), payload...)
		dict = lastBytes(dict, maxWindow)
		for _, codec := range []DeflateCodec{StandardDeflate(), dictDeflate{}} {
			out, err := deflateWithin(codec, nil, payload, dict, window)
			require.NoError(t, err)
			plain, err := windowInflate(out, lastBytes(dict, window), window)
			require.NoError(t, err)
			require.True(t, bytes.Equal(payload, plain))
			plain, err = StandardDeflate().Inflate(nil, out, lastBytes(dict, window), len(payload))
			require.NoError(t, err)
			require.True(t, bytes.Equal(payload, plain))
		}
	})
}

func FuzzInflate(f *testing.F) {
	f.Fuzz(func(t *testing.T, compressed, dict []byte, limit int) {
		dict = lastBytes(dict, maxWindow)
		limit &= 1<<22 - 1
		out, err := StandardDeflate().Inflate([]byte("before"), compressed, dict, limit)
		require.True(t, bytes.HasPrefix(out, []byte("before")))
		want, wantErr := windowInflate(compressed, dict, maxWindow)
		switch {
		case err == nil:
			require.LessOrEqual(t, len(out)-len("before"), limit)
			require.NoError(t, wantErr)
			require.True(t, bytes.Equal(want, out[len("before"):]))
		case errors.Is(err, ErrMessageTooLarge):
			require.True(t, len(want) > limit || wantErr != nil) // what is cut off may be so long with what is read behind it
		case !errors.Is(err, errTooManyFinals):
			require.Error(t, wantErr)
		}
	})
}

func FuzzHistory(f *testing.F) {
	f.Fuzz(func(t *testing.T, content []byte, bits uint8, steps []byte) {
		size := minWindow << (bits % 8)
		h, at := newHistory(size), 0
		for _, step := range steps {
			next := min(at+int(step)*int(step), len(content))
			h.add(content[at:next])
			at = next
			require.True(t, bytes.Equal(lastBytes(content[:at], size), h.appendTo(nil)))
			require.LessOrEqual(t, cap(h.ring), size)
		}
	})
}
