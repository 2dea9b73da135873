package websocket

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTraffic(t *testing.T) {
	text, bin, ping := NewFrameText(false, []byte("abc")), NewFrameBin(false, make([]byte, 200)), NewFramePing(false, []byte("x"))
	join := func(packets ...[]byte) (all []byte) {
		for _, packet := range packets {
			all = append(all, packet...)
		}
		return all
	}
	for _, row := range []struct {
		name string
		out  outgoing
		want traffic
	}{
		{"a packet of one frame", outgoing{body: text}, traffic{messages: [kinds]uint64{1}, bytes: [kinds]uint64{3}}},
		{"a packet in two parts", outgoing{head: appendHeader(nil, finished(OpcodeBin, 70_000)), body: make([]byte, 70_000)},
			traffic{messages: [kinds]uint64{0, 1}, bytes: [kinds]uint64{0, 70_000}}},
		{"several frames", outgoing{body: join(text, bin, ping, text)},
			traffic{messages: [kinds]uint64{2, 1, 1}, bytes: [kinds]uint64{6, 200, 1}}},
		{"a message in frames, with a Ping between them", outgoing{body: join([]byte{0x01, 1, 'a'}, ping, []byte{0x80, 2, 'b', 'c'})},
			traffic{messages: [kinds]uint64{1, 0, 1}, bytes: [kinds]uint64{3, 0, 1}}},
		{"a frame that goes on with another packet", outgoing{body: []byte{0x80, 2, 'b', 'c'}}, traffic{bytes: [kinds]uint64{0, 2}}},
		{"a reserved control frame", outgoing{body: []byte{0x8B, 0}}, traffic{messages: [kinds]uint64{0, 0, 1}}},
		{"a frame that is cut off", outgoing{body: append(join(text), 0x81, 5, 'a')}, traffic{messages: [kinds]uint64{1}, bytes: [kinds]uint64{3}}},
		{"a length that is none", outgoing{body: []byte{0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255}}, traffic{}},
		{"nothing", outgoing{}, traffic{}},
		{"a compressed message", outgoing{head: appendHeader(nil, packedHead(OpcodeText, make([]byte, 9))), body: make([]byte, 9), text: 1000},
			traffic{messages: [kinds]uint64{1}, bytes: [kinds]uint64{9}, plain: 1000, packed: 9}},
	} {
		t.Run(row.name+" is counted as it is", func(t *testing.T) {
			var got traffic
			got.addSent(&row.out)
			assert.Equal(t, row.want, got)
			if row.out.head == nil {
				got = traffic{}
				out := asItIs(row.out.body) // which may know more of it
				got.addSent(&out)
				assert.Equal(t, row.want, got)
			}
		})
	}
	t.Run("of the Pongs that wait for a full socket the one that is sent is counted", func(t *testing.T) {
		o := new(outbox)
		for _, payload := range []string{"a", "ab", "abc"} {
			o.answer([]byte(payload))
		}
		assert.Zero(t, o.traffic)
		o.front()
		assert.Equal(t, traffic{messages: [kinds]uint64{0, 0, 1}, bytes: [kinds]uint64{0, 0, 3}}, o.traffic)
	})
	t.Run("the counters take it, and it begins again", func(t *testing.T) {
		var ts traffics
		of := traffic{messages: [kinds]uint64{1, 2, 3}, bytes: [kinds]uint64{4, 5, 6}, plain: 8, packed: 7}
		for range 2 {
			next := of
			ts.take(&next)
			assert.Zero(t, next)
		}
		var sum Traffic
		ts.addTo(&sum)
		assert.Equal(t, Traffic{Volume{2, 8}, Volume{4, 10}, Volume{6, 12}, Compressed{16, 14}}, sum)
	})
}
