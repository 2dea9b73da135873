package websocket

import (
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// TestSizeOfConn holds what an idle connection costs down.
func TestSizeOfConn(t *testing.T) {
	if strconv.IntSize < 64 {
		t.Skip("pointers are shorter")
	}
	assert.LessOrEqual(t, unsafe.Sizeof(conn{}), uintptr(208))
}
