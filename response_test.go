package websocket

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestResponsePacket(t *testing.T) {
	t.Run("it is a text frame of the server with all fields", func(t *testing.T) {
		res := Response{ID: 18446744073709551615, Code: -1, Message: "a\"b", Body: "é\x00"}
		packet, err := res.packet()
		require.NoError(t, err)
		frames := Unpack(packet)
		require.Equal(t, 1, frames.Len())
		f := frames.list[0]
		assert.True(t, f.IsComplete() && f.IsFinal() && !f.IsMasked())
		assert.Equal(t, OpcodeText, f.Opcode())
		assert.Equal(t, `{"message":"a\"b","body":"é\u0000","id":18446744073709551615,"code":-1}`, string(f.Payload()))
	})
	t.Run("text that is not UTF-8 is made so", func(t *testing.T) {
		res := Response{Body: "a\xff\xfeb"}
		packet, err := res.packet()
		require.NoError(t, err)
		r := rfcRead(t, &protocol{maxMessage: 1000, maxFragments: 1}, packet)
		require.Nil(t, r.err)
		assert.Contains(t, r.events[0].payload, `a\ufffd\ufffdb`)
	})
}

func TestNewBroadcast(t *testing.T) {
	t.Run("it answers no request", func(t *testing.T) {
		packet, err := NewBroadcast("news", "there is some")
		require.NoError(t, err)
		frames := Unpack(packet)
		assert.Equal(t, OpcodeText, frames.Opcode())
		assert.False(t, frames.list[0].IsMasked())
		assert.JSONEq(t, `{"id":0,"code":0,"message":"news","body":"there is some"}`, string(frames.Payload()))
	})
	t.Run("nothing can be said too", func(t *testing.T) {
		packet, err := NewBroadcast("", "")
		require.NoError(t, err)
		assert.JSONEq(t, `{"id":0,"code":0,"message":"","body":""}`, string(Unpack(packet).Payload()))
	})
}
