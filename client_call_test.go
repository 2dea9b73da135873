package websocket

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCalls(t *testing.T) {
	text := func(id uint64) *Frame {
		payload := fmt.Appendf(nil, `{"id":%d}`, id)
		return &Frame{payload: payload, head: finished(OpcodeText, len(payload)), complete: true}
	}
	t.Run("without a call no text is looked at", func(t *testing.T) {
		cl := new(Client)
		c := newClientConn(cl)
		f := text(firstCallID)
		assert.Zero(t, testing.AllocsPerRun(100, func() { c.takeAnswer(f) }))
		assert.False(t, c.takeAnswer(f))
	})
	t.Run("nor once all answers have come, the late ones too, whatever else came", func(t *testing.T) {
		cl := new(Client)
		c := newClientConn(cl)
		ids := []uint64{7}
		for range 3 {
			ids = append(ids, firstCallID-1+cl.lastCall.Add(1))
		}
		for _, id := range ids {
			_, err := c.calls.add(id)
			require.NoError(t, err)
		}
		_, err := c.calls.add(ids[0])
		require.Error(t, err)
		assert.EqualValues(t, 4, c.calls.open.Load())
		require.NotNil(t, c.calls.giveUp(ids[0]), "its answer will be a text like any other")
		require.NotNil(t, c.calls.giveUp(ids[1]))
		require.Nil(t, c.calls.giveUp(ids[1]))
		require.NotNil(t, c.calls.remove(ids[2]), "it was not sent")
		assert.EqualValues(t, 2, c.calls.open.Load())
		assert.EqualValues(t, 1, c.calls.waiting.Load())
		for range 3 {
			assert.False(t, c.takeAnswer(text(ids[0])))
			assert.True(t, c.takeAnswer(text(ids[1])), "late, and again")
			assert.True(t, c.takeAnswer(text(ids[2])))
		}
		assert.EqualValues(t, 1, c.calls.open.Load())
		assert.True(t, c.takeAnswer(text(ids[3])))
		assert.Zero(t, c.calls.open.Load())
		assert.Zero(t, c.calls.waiting.Load())
		assert.Empty(t, c.calls.byID)
	})
	t.Run("nor if a call is given up while its answer is read", func(t *testing.T) {
		cl := new(Client)
		c := newClientConn(cl)
		body := strings.Repeat("x", 100_000)
		for range 100 {
			id := firstCallID - 1 + cl.lastCall.Add(1)
			_, err := c.calls.add(id)
			require.NoError(t, err)
			payload := fmt.Appendf(nil, `{"id":%d,"body":%q}`, id, body)
			f := &Frame{payload: payload, head: finished(OpcodeText, len(payload)), complete: true}
			taken := make(chan bool)
			go func() { taken <- c.takeAnswer(f) }()
			runtime.Gosched()
			c.calls.giveUp(id)
			require.True(t, <-taken)
			require.Zero(t, c.calls.open.Load())
		}
	})
}

// FuzzAnswerID holds answerID to what encoding/json reads.
func FuzzAnswerID(f *testing.F) {
	for _, text := range []string{`{"id":7}`, `{"message":"","body":"{\"id\":3}","id":18446744073709551615,"code":200}`, `{"a":[1,{}],"id":5}`, `{"id":1,"id":2}`, `{"id":"1"}`, "", "{}", `{"id":01}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, ok := answerID([]byte(text))
		assert.Equal(t, ok, id != 0)
		var members map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &members) != nil || strings.Count(text, `"id"`) != 1 || strings.Contains(text, `\`) {
			return // what is taken for an answer is read as a whole, and then has to be one
		}
		var want uint64
		if raw, there := members["id"]; there && json.Unmarshal(raw, &want) == nil {
			assert.Equal(t, want, id)
		}
	})
}

// BenchmarkCall is a call to a server of this package in the same process, one after the other.
func BenchmarkCall(b *testing.B) {
	serv := NewServer(rawQuiet(nil))
	serv.RegisterTextHandler("GET", "/", func(context.Context, *Request) Response { return Response{Code: 200} })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	go serv.Serve(ln)
	defer serv.Stop()
	cl := &Client{Endpoint: "ws://" + ln.Addr().String()}
	require.NoError(b, cl.Connect())
	defer cl.Quit()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	req := &Request{Method: "GET", Target: "/"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cl.Call(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}
