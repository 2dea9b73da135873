package websocket

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// agendaConn returns a connection without a socket.
func agendaConn(id uint64) *conn { return &conn{stream: stream{id}} }

// agendaRest serves all of a round.
func agendaRest(a *agenda) (served []*conn) {
	for c := a.next(); c != nil; c = a.next() {
		served = append(served, c)
	}
	return served
}

func TestAgenda(t *testing.T) {
	one, two, three := agendaConn(1), agendaConn(2), agendaConn(3)
	for _, row := range []struct {
		name   string
		do     func(a *agenda)
		served []*conn
	}{
		{"nothing is an end", func(*agenda) {}, nil},
		{"connections in the order in which they came", func(a *agenda) { a.add(two); a.add(one) }, []*conn{two, one}},
		{"each once, however often it came", func(a *agenda) { a.add(one); a.add(two); a.add(one); a.add(one) }, []*conn{one, two}},
		{"again in the next round", func(a *agenda) { a.requeue(one); a.begin(); a.add(two) }, []*conn{one, two}},
		{"not in this one", func(a *agenda) { a.requeue(one) }, nil},
		{"once in the next, for all that was wanted", func(a *agenda) { a.requeue(one); a.requeue(one); a.putOff(one); a.begin(); a.add(one) }, []*conn{one}},
		{"what was put off first", func(a *agenda) { a.requeue(one); a.putOff(two); a.begin(); a.add(three) }, []*conn{two, one, three}},
		{"as they were opened, from one on", func(a *agenda) { a.add(three); a.add(two); a.add(one); a.sort(1) }, []*conn{three, one, two}},
	} {
		t.Run(row.name, func(t *testing.T) {
			one.seat, two.seat, three.seat = seatNone, seatNone, seatNone
			a := new(agenda)
			row.do(a)
			assert.Equal(t, row.served, agendaRest(a))
			assert.True(t, a.isOver())
		})
	}
	t.Run("a connection that is served may come again in the same round, and in the next", func(t *testing.T) {
		a, c := new(agenda), agendaConn(1)
		a.add(c)
		assert.Equal(t, c, a.next())
		a.requeue(c)
		a.requeue(c)
		assert.True(t, a.isOver())
		a.begin()
		assert.Equal(t, []*conn{c}, agendaRest(a))
		a.begin()
		assert.Empty(t, agendaRest(a))
		assert.Equal(t, seatNone, c.seat)
	})
	t.Run("it keeps no connection that was served", func(t *testing.T) {
		a := new(agenda)
		for i := range uint64(10) {
			a.requeue(agendaConn(i))
			a.putOff(agendaConn(i + 10))
		}
		a.begin()
		agendaRest(a)
		a.begin()
		for _, list := range [][]*conn{a.round, a.ready, a.deferred} {
			for _, c := range list[:cap(list)] {
				assert.Nil(t, c)
			}
		}
	})
}

func TestMailbox(t *testing.T) {
	t.Run("a connection is in it once, however often it is put", func(t *testing.T) {
		m, a, c := new(mailbox), new(agenda), agendaConn(1)
		assert.False(t, m.isFull())
		for range 3 {
			m.put(c)
		}
		assert.True(t, m.isFull())
		m.take(a)
		assert.False(t, m.isFull())
		assert.True(t, c.look)
		assert.Equal(t, []*conn{c}, agendaRest(a))
		m.put(c)
		assert.True(t, m.isFull(), "and again once it was taken")
	})
	t.Run("a loop that has ended gets no more", func(t *testing.T) {
		m, a := new(mailbox), new(agenda)
		m.put(agendaConn(1))
		m.close()
		m.put(agendaConn(2))
		m.take(a)
		assert.Empty(t, agendaRest(a))
	})
}
