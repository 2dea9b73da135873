package websocket

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestResponseJSON(t *testing.T) {
	t.Run("it has all fields", func(t *testing.T) {
		res := Response{ID: 18446744073709551615, Code: -1, Message: "a\"b", Body: "é\x00"}
		assert.Equal(t, `{"message":"a\"b","body":"é\u0000","id":18446744073709551615,"code":-1}`, string(res.appendJSON(nil)))
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
	t.Run("it goes behind what is there, in the room that it asks for", func(t *testing.T) {
		res := Response{ID: math.MaxUint64, Code: math.MinInt32, Message: "message", Body: "body"}
		assert.Equal(t, "before"+string(res.appendJSON(nil)), string(res.appendJSON([]byte("before"))))
		assert.Len(t, res.appendJSON(nil), res.leastSize())
	})
	t.Run("text that is not UTF-8 is made so", func(t *testing.T) {
		res := Response{Body: "a\xff\xfeb"}
		assert.Contains(t, string(res.appendJSON(nil)), `a\ufffd\ufffdb`)
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
