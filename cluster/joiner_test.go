package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
)

func TestCrowd(t *testing.T) {
	sites := gather(t, 2, Options{})
	here, there := sites[0], sites[1]
	var guests []*guest
	for range crowdSize + 8 {
		g := visit(t, here, 0)
		g.subscribe(t, "topic")
		guests = append(guests, g)
	}
	far := visit(t, there, 0)
	far.subscribe(t, "topic")
	guests = append(guests, far)
	settle(t, sites)
	eventually(t, "the subscription is known", func() bool { return here.othersTopic("topic") == 1 })

	var want []string
	for i := range 3 * aheadSize {
		body := fmt.Sprint(i)
		_, err := here.Publish(within(t), "topic", broadcast(body))
		require.NoError(t, err)
		want = append(want, body)
	}
	t.Run("each message comes once, in order, on both nodes", func(t *testing.T) {
		for _, g := range guests {
			g.hears(t, want...)
		}
	})
	t.Run("so does what is for all", func(t *testing.T) {
		for i := range aheadSize {
			body := fmt.Sprint("all ", i)
			require.NoError(t, here.SendAll(within(t), broadcast(body)))
			want = append(want, body)
		}
		for _, g := range guests {
			g.hears(t, want...)
		}
	})
	t.Run("a large packet keeps its place, and belongs to the caller again", func(t *testing.T) {
		for i := range 3 {
			body := strings.Repeat(fmt.Sprint(i), joinSize)
			want = append(want, "before "+body[:1], body, "behind "+body[:1])
			require.NoError(t, here.SendAll(within(t), broadcast(want[len(want)-3])))
			packet := broadcast(body)
			require.NoError(t, here.SendAll(within(t), packet))
			clear(packet)
			require.NoError(t, here.SendAll(within(t), broadcast(want[len(want)-1])))
		}
		for _, g := range guests {
			g.hears(t, want...)
		}
	})
	t.Run("a crowd that has gone is served directly again", func(t *testing.T) {
		for _, g := range guests[1:] {
			g.unsubscribe(t, "topic")
		}
		f := &here.interest.topic("topic").fan
		for f.reach.Load() >= crowdSize || f.queued.Load() > 0 {
			_, err := here.Publish(within(t), "topic", broadcast("few"))
			require.NoError(t, err)
		}
		eventually(t, "it comes", func() bool { return guests[0].lastBody() == "few" })
	})
	t.Run("what waits when the node leaves is delivered", func(t *testing.T) {
		before := far.count()
		for range aheadSize {
			require.NoError(t, there.SendAll(within(t), broadcast("last")))
		}
		require.NoError(t, there.Node.Close(within(t)))
		eventually(t, "all come", func() bool { return far.count() == before+aheadSize })
	})
}

func TestJoiner(t *testing.T) {
	s := join(t, Options{})
	g := visit(t, s, 0)
	g.subscribe(t, "a")
	g.subscribe(t, "b")
	onlyB := visit(t, s, 0)
	onlyB.subscribe(t, "b")
	large := func(letter byte) string {
		body := make([]byte, joinSize)
		for i := range body {
			body[i] = letter
		}
		return string(body)
	}
	t.Run("packets keep their order, whatever is joined", func(t *testing.T) {
		j := newJoiner(s.srv)
		want := []string{"1", "2", "3", "4", large('x'), "5"}
		j.add(target{topic: "a"}, broadcast("1"), nil)
		j.add(target{topic: "a"}, broadcast("2"), nil)
		j.add(target{topic: "b"}, broadcast("3"), nil)
		j.add(target{all: true}, broadcast("4"), nil)
		j.add(target{all: true}, broadcast(want[4]), nil)
		assert.Empty(t, j.packets, "a large one does not wait")
		j.add(target{topic: "a"}, broadcast("5"), nil)
		assert.NotEmpty(t, j.packets)
		j.flush()
		g.hears(t, want...)
		onlyB.hears(t, "3", "4", large('x'))
	})
	t.Run("no more than joinSize is joined", func(t *testing.T) {
		j := newJoiner(s.srv)
		packet := make([]byte, joinSize/2)
		j.add(target{topic: "nobody"}, packet, nil)
		j.add(target{topic: "nobody"}, packet, nil)
		assert.Len(t, j.packets, joinSize)
		j.add(target{topic: "nobody"}, packet[:1], nil)
		assert.Len(t, j.packets, 1)
	})
	t.Run("nothing is joined where messages are compressed", func(t *testing.T) {
		j := newJoiner(websocket.NewServer(&websocket.ServerOptions{Compression: &websocket.Compression{}}))
		j.add(target{topic: "a"}, broadcast("1"), nil)
		assert.Empty(t, j.packets)
	})
}
