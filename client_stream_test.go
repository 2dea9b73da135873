package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestIntake(t *testing.T) {
	all := slices.Concat(
		NewFrameText(false, []byte("short")),
		NewFrameBin(false, make([]byte, clientReadSize)),
		NewFramePing(false, []byte("p")),
		NewFrameBin(false, make([]byte, 300<<10)),
		NewFrameText(false, nil),
		bytes.Repeat(NewFrameText(false, []byte("many")), 5_000),
		NewFrameClose(false, StatusNormal, nil),
	)
	for _, size := range []int{1, 2, 7, clientReadSize - 1, clientReadSize, clientReadSize + 1, clientBusySize, len(all)} {
		t.Run(fmt.Sprintf("what comes in pieces of %d bytes are the same events", size), func(t *testing.T) {
			var in intake
			r := &rules{maxMessage: 1 << 20, maxFragments: 1}
			from := &pieces{left: all, size: size}
			var got []eventKind
			for {
				ev, broken, err := in.next(r, from, func() int { return 0 })
				require.Nil(t, broken)
				if err != nil {
					require.Equal(t, io.EOF, err)
					break
				}
				if ev.kind != eventNone { // nothing is complete yet
					got = append(got, ev.kind)
				}
			}
			want := slices.Concat([]eventKind{eventMessage, eventMessage, eventPing, eventMessage, eventMessage},
				slices.Repeat([]eventKind{eventMessage}, 5_000), []eventKind{eventClose})
			assert.Equal(t, want, got)
		})
	}
	t.Run("the large buffer is given back when little comes", func(t *testing.T) {
		var in intake
		r := &rules{maxMessage: 1 << 20, maxFragments: 1}
		next := func(b []byte) {
			for from, kind := bytes.NewReader(b), eventNone; kind == eventNone; {
				ev, _, err := in.next(r, from, func() int { return 0 })
				require.NoError(t, err)
				kind = ev.kind
			}
		}
		next(NewFrameText(false, make([]byte, clientReadSize-4)))
		assert.NotNil(t, in.large, "one read has filled the small one")
		next(NewFrameText(false, make([]byte, clientReadSize)))
		assert.NotNil(t, in.large)
		next(NewFrameText(false, []byte("little")))
		assert.Nil(t, in.large)
		assert.Len(t, in.small, clientReadSize)
	})
}

// pieces is read in pieces of a size.
type pieces struct {
	left []byte
	size int
}

func (p *pieces) Read(b []byte) (n int, err error) {
	n = copy(b[:min(len(b), p.size)], p.left)
	if p.left = p.left[n:]; n == 0 {
		err = io.EOF
	}
	return n, err
}

func TestIntake_parts(t *testing.T) {
	const text = "a grün ☃ and 𝄞, long enough"
	in := slices.Concat([]byte{0x01, byte(len(text[:9]))}, []byte(text[:9]), NewFramePing(false, nil), []byte{0x80, byte(len(text[9:]))}, []byte(text[9:]),
		NewFrameBin(false, []byte("next")))
	for size := 1; size <= len(in); size++ {
		var intake intake
		r := &rules{maxMessage: 5, maxFragments: 1, streamsText: true}
		from := &pieces{left: in, size: size}
		var got strings.Builder
		for isNext := false; !isNext; {
			ev, broken, err := intake.next(r, from, nil)
			require.NoError(t, err)
			require.Nil(t, broken)
			switch ev.kind {
			case eventPart, eventLastPart, eventMessage:
				if isNext = ev.head.opcode() == OpcodeBin; isNext {
					require.Equal(t, eventMessage, ev.kind)
					break
				}
				require.Equal(t, OpcodeText, ev.head.opcode())
				require.True(t, strings.ToValidUTF8(string(ev.payload), "?") == string(ev.payload), "%q ends in a character", ev.payload)
				got.Write(ev.payload)
			}
		}
		require.Equal(t, text, got.String(), "pieces of %d bytes", size)
	}
	for name, row := range map[string]struct {
		in  []byte
		err *protocolError
	}{
		"a text that ends in a character":  {slices.Concat([]byte{0x01, 2}, []byte("☃"[:2]), []byte{0x80, 0}), errNotUTF8},
		"a text that is broken later":      {slices.Concat([]byte{0x01, 2}, []byte("☃"[:2]), []byte{0x80, 1, 'x'}), errNotUTF8},
		"a message of another kind":        {[]byte{0x82, 6}, errMessageTooLarge},
		"another message in the middle":    {[]byte{0x01, 1, 'a', 0x81, 0}, errInterleaved},
		"a length that nothing could have": {append([]byte{0x81, length64}, bytes.Repeat([]byte{0xFF}, 8)...), errLengthRange},
	} {
		t.Run(name+" is a breach in whatever pieces it comes", func(t *testing.T) {
			for size := 1; size <= len(row.in); size++ {
				var intake intake
				r := &rules{maxMessage: 5, maxFragments: 1, streamsText: true}
				from := &pieces{left: row.in, size: size}
				var broken *protocolError
				for broken == nil {
					var err error
					_, broken, err = intake.next(r, from, func() int { return 0 })
					require.NoError(t, err)
				}
				require.Same(t, row.err, broken)
			}
		})
	}
}

// TestClientConn_takeover has handlers that are called by the goroutine that reads.
func TestClientConn_takeover(t *testing.T) {
	t.Run("handlers that are fast one by one, but not together, do not hold a Pong up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			quit := make(chan bool, 1)
			cl := &Client{HandleQuit: func() { quit <- true }, HandleText: func(*Client, *Frame) error { <-time.After(handlerTime - time.Millisecond); return nil }}
			c := inMemory(t, cl)
			start := time.Now()
			c.send(append(bytes.Repeat(NewFrameText(false, nil), 200), NewFramePing(false, nil)...))
			assert.Equal(t, OpcodePong, c.read().opcode)
			assert.Equal(t, maxPongDelay, time.Since(start))
			cl.Quit()
			<-quit
		})
	})
	t.Run("a handler that waits for the next message does not wait for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			released := make(chan bool)
			cl := &Client{HandleText: func(*Client, *Frame) error { <-released; return nil }}
			c := inMemory(t, cl)
			start := time.Now()
			c.send(NewFrameText(false, nil))
			c.send(NewFramePing(false, nil)) // a pipe takes it when it is read
			assert.LessOrEqual(t, time.Since(start), 2*handlerTime)
			close(released)
			assert.Equal(t, OpcodePong, c.read().opcode)
			cl.Quit()
			synctest.Wait()
		})
	})
	t.Run("reading is taken over at once if Close is called in a handler", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			closed := make(chan error, 1)
			c := inMemory(t, &Client{HandleText: func(cl *Client, _ *Frame) error { closed <- cl.Close(); return nil }})
			start := time.Now()
			c.send(NewFrameText(false, nil))
			c.readClose()
			c.send(NewFrameClose(false, StatusNormal, nil))
			c.conn.Close()
			assert.NoError(t, <-closed)
			assert.Equal(t, time.Duration(0), time.Since(start))
		})
	})
	t.Run("once handlers are fast again, nobody but the one that reads is left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			pause := make(chan time.Duration, 2)
			var conn *clientConn
			cl := &Client{HandleText: func(*Client, *Frame) error { <-time.After(<-pause); return nil }}
			c := inMemory(t, cl, func(c *clientConn) { conn = c })
			isInline := func() bool {
				conn.mu.Lock()
				defer conn.mu.Unlock()
				return conn.handling && conn.inline
			}
			pause <- time.Second
			c.send(NewFrameText(false, nil))
			synctest.Wait()
			assert.True(t, isInline())
			<-time.After(2 * handlerTime)
			synctest.Wait()
			assert.False(t, isInline())
			<-time.After(time.Second)
			pause <- time.Millisecond
			c.send(NewFrameText(false, nil))
			synctest.Wait()
			assert.True(t, isInline())
			cl.Quit()
			<-time.After(time.Second)
		})
	})
}

func TestClientStream_silence(t *testing.T) {
	t.Run("a message that is read slowly, or goes on late, is no silence", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			got := make(chan error, 1)
			cl := &Client{HandleReader: func(_ *Client, _ Opcode, r io.Reader) error {
				b := make([]byte, 1)
				for range maxBacklog + 1 {
					if _, err := io.ReadFull(r, b); err != nil {
						got <- err
						return err
					}
					<-time.After(10 * time.Millisecond)
				}
				_, err := r.Read(b)
				got <- err
				return err
			}}
			c := inMemory(t, cl)
			c.send(slices.Concat([]byte{0x02, length16, 0xFF, 0xFF}, make([]byte, maxBacklog-1)))
			c.send([]byte{0x00, 2, 0, 0}) // for which there is no room
			go answerPings(c, &slowReader{conn: c.conn, size: 1 << 30})
			<-time.After(time.Hour)
			assert.NoError(t, cl.Err())
			assert.Empty(t, got)
			c.conn.Close()
			assert.ErrorIs(t, <-got, io.ErrUnexpectedEOF)
		})
	})
}

func TestClientWriter_leftAlone(t *testing.T) {
	// open begins a message, of which one fragment has been sent.
	open := func(t *testing.T, cl *Client) (c *scriptedConn, w io.WriteCloser) {
		cl.FragmentSize = 10
		c = inMemory(t, cl)
		w, err := cl.NewWriter(OpcodeText)
		require.NoError(t, err)
		go w.Write([]byte("0123456789a"))
		assert.False(t, c.readFragment().fin)
		synctest.Wait()
		return c, w
	}
	t.Run("for an hour is no harm if nobody waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := new(Client)
			c, w := open(t, cl)
			go answerPings(c, &slowReader{conn: c.conn, size: 1 << 30})
			<-time.After(time.Hour)
			assert.NoError(t, w.Close())
			assert.NoError(t, cl.SendText(nil))
			cl.Quit()
		})
	})
	t.Run("for a minute ends the connection if a message waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl, quit := new(Client), make(chan bool, 1)
			cl.HandleQuit = func() { quit <- true }
			c, w := open(t, cl)
			go answerPings(c, &slowReader{conn: c.conn, size: 1 << 30})
			<-time.After(10 * time.Second)
			start := time.Now()
			assert.ErrorIs(t, cl.SendText(nil), ErrConnClosed)
			assert.GreaterOrEqual(t, time.Since(start), maxWriterPause-10*time.Second)
			assert.LessOrEqual(t, time.Since(start), maxWriterPause+2*time.Second)
			<-quit
			var closed *CloseError
			require.True(t, errors.As(cl.Err(), &closed))
			assert.EqualValues(t, StatusInternalError, closed.Code)
			assert.ErrorIs(t, w.Close(), ErrConnClosed)
		})
	})
	t.Run("is not what happens to one that writes on, or that a slow server holds up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cl := &Client{WriteTimeout: time.Hour, PingInterval: 24 * time.Hour}
			c, w := open(t, cl)
			received := make(chan int, 1)
			go func() { received <- answerPings(c, &slowReader{conn: c.conn, size: 5, pause: maxWriterPause / 2}) }()
			sent := make(chan error, 1)
			go func() { sent <- cl.SendText([]byte("next")) }()
			for range 5 {
				<-time.After(maxWriterPause - time.Second)
				_, err := w.Write(make([]byte, 50)) // which takes minutes
				require.NoError(t, cl.Err())
				require.NoError(t, err)
			}
			require.NoError(t, w.Close())
			assert.NoError(t, <-sent)
			<-time.After(time.Hour)
			cl.Quit()
			assert.Equal(t, 5*50+1+len("next"), <-received)
		})
	})
}
