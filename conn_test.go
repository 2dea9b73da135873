package websocket

import (
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// TestSizeOfConn holds down what an idle connection costs: the allocator has a class of 192 bytes.
func TestSizeOfConn(t *testing.T) {
	if strconv.IntSize < 64 {
		t.Skip("pointers are shorter")
	}
	assert.LessOrEqual(t, unsafe.Sizeof(conn{}), uintptr(192))
}
