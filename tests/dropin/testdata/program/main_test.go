//go:build unix

package main

import (
	"testing"

	"github.com/shuLhan/share/lib/websocket"
)

// The tests of a program import the package too.
func TestHello(t *testing.T) {
	packet := websocket.NewFrameText(true, []byte("hello"))
	if text := string(websocket.Unpack(packet).Payload()); text != "hello" {
		t.Errorf("got %q", text)
	}
}
