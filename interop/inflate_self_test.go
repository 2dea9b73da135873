package interop

import (
	"bytes"
	"compress/flate"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The reader of the wire must itself be right: what the standard library compresses it inflates, and no more than its window.
func TestInflaterOfTheWire(t *testing.T) {
	for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.BestCompression} {
		f := inflater{window: 32 << 10, takeover: true}
		var wire bytes.Buffer
		w, err := flate.NewWriter(&wire, level)
		require.NoError(t, err)
		for n := range 200 {
			l := mixed(letterSizes[n%len(letterSizes)], n)
			wire.Reset()
			_, err := w.Write(l.payload)
			require.NoError(t, err)
			require.NoError(t, w.Flush())
			got, err := f.message(bytes.TrimSuffix(wire.Bytes(), []byte("\x00\x00\xff\xff")))
			require.NoError(t, err)
			require.True(t, bytes.Equal(l.payload, got))
		}
		assert.Equal(t, level > 0, f.reached)
	}
}

func TestInflaterOfTheWireRefuses(t *testing.T) {
	payload := bytes.Repeat(mixed(300, 1).payload, 2) // noise, again after 300 bytes
	var wire bytes.Buffer
	w, err := flate.NewWriter(&wire, flate.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(payload)
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	compressed := bytes.TrimSuffix(wire.Bytes(), []byte("\x00\x00\xff\xff"))
	_, err = (&inflater{window: 512}).message(compressed)
	assert.NoError(t, err)
	_, err = (&inflater{window: 256}).message(compressed)
	assert.ErrorIs(t, err, errTooFar)
	_, err = (&inflater{window: 512}).message(compressed[:len(compressed)/2])
	assert.Error(t, err)
}
