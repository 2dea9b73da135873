package cluster

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

func TestMembership(t *testing.T) {
	var m membership
	begin := time.Now()
	assert.True(t, m.here("a", begin), "it is new")
	assert.False(t, m.here("a", begin.Add(beatTime)), "it is known")
	assert.True(t, m.here("b", begin.Add(beatTime)))
	m.expire(begin.Add(beatTime + beatTimeout))
	assert.Equal(t, []string{"a", "b"}, m.names(), "at the limit they are there")
	m.here("b", begin.Add(2*beatTime))
	m.expire(begin.Add(beatTime + beatTimeout + 1))
	assert.Equal(t, []string{"b"}, m.names())
	m.gone("b")
	assert.Zero(t, m.len())
	assert.True(t, m.here("b", begin), "it is new again")
}

func TestFarewell(t *testing.T) {
	tests := []struct {
		name string
		give farewell
		ok   bool
	}{
		{"no code is StatusNormal", farewell{0, "bye"}, true},
		{"a code of the program's own", farewell{4999, ""}, true},
		{"1005 must not be on the wire", farewell{1005, ""}, false},
		{"1006 must not be on the wire", farewell{1006, ""}, false},
		{"1015 must not be on the wire", farewell{1015, ""}, false},
		{"5000 is no code", farewell{5000, ""}, false},
		{"a reason is UTF-8", farewell{1000, "\xff"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := test.give
			err := checkFarewell(&f)
			assert.Equal(t, test.ok, err == nil, err)
			if test.give.code == 0 {
				assert.EqualValues(t, websocket.StatusNormal, f.code)
			}
			if err == nil {
				parsed, ok := parseFarewell(appendFarewell(nil, f))
				assert.True(t, ok)
				assert.Equal(t, f, parsed)
			}
		})
	}
	_, ok := parseFarewell([]byte{1})
	assert.False(t, ok)
}

// FuzzAnswer gives parsers what another node may have sent.
func FuzzAnswer(f *testing.F) {
	f.Add(appendAnswer(nil, answer{node: "node", more: true, body: appendDevice(nil, device{id: 1 << 60, age: time.Hour})}))
	f.Add(appendAnswer(nil, answer{body: appendMember(nil, Member{UID: 1, Conns: 2})}))
	f.Add(appendAnswer(nil, answer{body: binary.AppendUvarint(binary.AppendUvarint(nil, 1), math.MaxUint64)}))
	f.Add(appendAnswer(nil, answer{body: binary.AppendUvarint(nil, math.MaxUint64)}))
	f.Add([]byte{0, 255, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parseAnswer(b)
		if !ok {
			return
		}
		again, ok := parseAnswer(appendAnswer(nil, a))
		assert.True(t, ok)
		assert.Equal(t, a.node, again.node)
		assert.Equal(t, a.more, again.more)
		assert.GreaterOrEqual(t, a.count(), 0)
		if devices, ok := parseDevices(a.node, a.body); ok {
			var body []byte
			for _, d := range devices {
				assert.GreaterOrEqual(t, d.age, time.Duration(0))
				body = appendDevice(body, d)
			}
			same, ok := parseDevices(a.node, body)
			assert.True(t, ok)
			assert.Equal(t, devices, same)
		}
		members, _ := parseMembers(a.node, a.body)
		for _, m := range members {
			assert.GreaterOrEqual(t, m.Conns, 0)
		}
		parseFarewell(a.body)
	})
}

// TestAnswerList shows that a list of any length fits into the broker's messages.
func TestAnswerList(t *testing.T) {
	s := join(t, Options{})
	other, err := s.connect() // as another node
	require.NoError(t, err)
	defer other.Close()
	const count = 100_000
	item := make([]byte, 8)
	question := &nats.Msg{Subject: "question"}
	sub, err := other.SubscribeSync("answers")
	require.NoError(t, err)
	require.NoError(t, other.Flush())
	question.Reply = sub.Subject
	s.answerList(question, count, func(list []byte, _ int) []byte { return append(list, item...) })
	for left := count * len(item); ; {
		msg, err := sub.NextMsg(patience)
		require.NoError(t, err)
		a, ok := parseAnswer(msg.Data)
		require.True(t, ok)
		assert.Equal(t, s.Name(), a.node)
		assert.LessOrEqual(t, len(a.body), listBytes)
		if left -= len(a.body); !a.more {
			assert.Zero(t, left)
			return
		}
	}
}
