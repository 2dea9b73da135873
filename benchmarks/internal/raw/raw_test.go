package raw

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestUnmask(t *testing.T) {
	key := []byte{1, 20, 77, 200}
	for size := range 200 {
		payload, want := make([]byte, size), make([]byte, size)
		for i := range payload {
			payload[i] = byte(i * 7)
			want[i] = payload[i] ^ key[i%4]
		}
		Unmask(payload, payload, binary.LittleEndian.Uint32(key))
		assert.Equal(t, want, payload, size)
	}
}
