package websocket

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestResponsePacket(t *testing.T) {
	t.Run("it is a text frame of the server with all fields", func(t *testing.T) {
		res := Response{ID: 18446744073709551615, Code: -1, Message: "a\"b", Body: "é\x00"}
		packet := res.appendPacket(nil)
		frames := Unpack(packet)
		require.Equal(t, 1, frames.Len())
		f := frames.list[0]
		assert.True(t, f.IsComplete() && f.IsFinal() && !f.IsMasked())
		assert.Equal(t, OpcodeText, f.Opcode())
		assert.Equal(t, `{"message":"a\"b","body":"é\u0000","id":18446744073709551615,"code":-1}`, string(f.Payload()))
	})
	t.Run("it is what json.Marshal makes, for every character and every place of it", func(t *testing.T) {
		texts := []string{"", "plain", "a\u2028b", "é", "世界", "\U0001F642", "\xff", "a\xc3", "\xed\xa0\x80", strings.Repeat("x", 1000) + "<"}
		for c := range 256 {
			texts = append(texts, string([]byte{byte(c)}), "ab"+string([]byte{byte(c)})+"yz")
		}
		for _, text := range texts {
			for _, res := range []Response{{Message: text}, {Body: text, ID: math.MaxUint64, Code: math.MinInt32}, {Message: text, Body: text, ID: 1, Code: math.MaxInt32}} {
				want, err := json.Marshal(res)
				require.NoError(t, err)
				require.Equal(t, string(want), string(res.appendJSON(nil)))
			}
		}
	})
	t.Run("it goes behind what is there, at every size of its header", func(t *testing.T) {
		empty := Response{Code: 200}
		least := len(empty.appendJSON(nil))
		for _, size := range []int{least, 124, 125, 126, 127, 65534, 65535, 65536, 65537} {
			res := Response{Code: 200, Body: strings.Repeat("x", size-least)}
			packet := res.appendPacket([]byte("before"))
			require.Equal(t, "before", string(packet[:6]))
			require.Equal(t, NewFrameText(false, res.appendJSON(nil)), packet[6:], size)
			require.Len(t, res.appendJSON(nil), size)
		}
	})
	t.Run("text that is not UTF-8 is made so", func(t *testing.T) {
		res := Response{Body: "a\xff\xfeb"}
		packet := res.appendPacket(nil)
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
