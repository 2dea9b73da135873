package client_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"hash"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// streamSize is the length of the long messages.
var streamSize = flag.Int64("stream.size", 32<<20, "bytes of the messages that are streamed")

// streamPiece is how many bytes of a long message the server has in a frame.
const streamPiece = 1 << 20

// streamMemory is how far the heap may grow while a long message is streamed, with the garbage of the test's own server.
const streamMemory = 16 << 20

// noise is bytes that do not repeat, the same ones each time.
func noise(size int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), size) }

func noiseSum(size int64) []byte {
	sum := sha256.New()
	io.Copy(sum, noise(size))
	return sum.Sum(nil)
}

// heapMeter says how far the heap has grown at most.
type heapMeter struct{ begun, most, since uint64 }

func newHeapMeter() *heapMeter {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return &heapMeter{begun: m.HeapInuse, most: m.HeapInuse}
}

// Write looks at the heap now and then.
func (h *heapMeter) Write(b []byte) (int, error) {
	if h.since += uint64(len(b)); h.since >= 4<<20 {
		h.since = 0
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		h.most = max(h.most, m.HeapInuse)
	}
	return len(b), nil
}

func (h *heapMeter) grown() uint64 { return h.most - h.begun }

// streamed is what a handler has read.
type streamed struct {
	opcode websocket.Opcode
	text   string
	err    error
}

// readsAll sets a HandleReader that reads each message.
func readsAll(cl *websocket.Client) <-chan streamed {
	got := make(chan streamed, 100)
	cl.HandleReader = func(_ *websocket.Client, opcode websocket.Opcode, r io.Reader) error {
		all, err := io.ReadAll(r)
		got <- streamed{opcode, string(all), err}
		return nil
	}
	return got
}

// begin is a frame that begins a message of a kind, which goes on.
func begin(opcode websocket.Opcode, payload string) []byte {
	return frame(byte(opcode), []byte(payload))
}

func goesOn(payload string) []byte { return frame(0, []byte(payload)) }
func ends(payload string) []byte   { return frame(0x80, []byte(payload)) }

func TestClientReader(t *testing.T) {
	t.Run("messages of each kind without a handler are given to the reader, whole or in pieces", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		got := readsAll(cl)
		c := peer.Open(t, cl, websocket.NewFrameText(false, []byte("whole"))...)
		assert.Equal(t, streamed{websocket.OpcodeText, "whole", nil}, peer.Receive(t, got))
		c.Send(begin(websocket.OpcodeBin, "in "))
		c.Send(goesOn("three "))
		c.Send(ends("pieces"))
		assert.Equal(t, streamed{websocket.OpcodeBin, "in three pieces", nil}, peer.Receive(t, got))
		c.Send(websocket.NewFrameBin(false, nil))
		assert.Equal(t, streamed{websocket.OpcodeBin, "", nil}, peer.Receive(t, got))
	})
	t.Run("a kind that has a handler is given to that, as long as the limit allows", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{MaxMessageSize: 100}
		texts, got := make(chan string, 1), readsAll(cl)
		cl.HandleText = func(_ *websocket.Client, f *websocket.Frame) error { texts <- string(f.Payload()); return nil }
		c := peer.Open(t, cl, slices.Concat(begin(websocket.OpcodeText, "a"), ends("b"))...)
		assert.Equal(t, "ab", peer.Receive(t, texts))
		c.Send(websocket.NewFrameBin(false, peer.Pattern(101, 1)))
		assert.Len(t, peer.Receive(t, got).text, 101)
		c.Send(websocket.NewFrameText(false, peer.Pattern(101, 1)))
		code, _ := c.ReadClose()
		assert.EqualValues(t, websocket.StatusRequestEntityTooLarge, code)
	})
	t.Run("messages are given in order, one at a time, and what is left unread is dropped", func(t *testing.T) {
		peer.CheckGoroutines(t)
		const count = 200
		got := make(chan byte, count)
		cl := &websocket.Client{HandleReader: func(_ *websocket.Client, _ websocket.Opcode, r io.Reader) error {
			var first [1]byte
			_, err := io.ReadFull(r, first[:])
			got <- first[0]
			return err
		}}
		c := peer.Open(t, cl)
		for i := range count {
			rest := strings.Repeat("x", i*i)
			c.Send(begin(websocket.OpcodeBin, string(rune(i%100))+rest))
			c.Send(ends(rest))
		}
		for i := range count {
			require.EqualValues(t, i%100, peer.Receive(t, got))
		}
	})
	for name, row := range map[string]struct {
		count int
		err   error
	}{
		"wait for its end":                 {100, nil},
		"do not wait beyond what may wait": {2_000, io.ErrUnexpectedEOF},
	} {
		t.Run("reserved control frames between the pieces "+name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := new(websocket.Client)
			got, controls := readsAll(cl), make(chan bool, row.count)
			cl.HandleRsvControl = func(*websocket.Client, *websocket.Frame) error { controls <- true; return nil }
			c := peer.Open(t, cl, begin(websocket.OpcodeBin, "a")...)
			c.Conn.Write(bytes.Repeat(websocket.NewFrame(websocket.OpcodeControlRsvB, false, make([]byte, 10)), row.count))
			c.Conn.Write(ends("b"))
			message := peer.Receive(t, got)
			require.ErrorIs(t, message.err, row.err)
			if row.err != nil {
				code, _ := c.ReadClose()
				require.EqualValues(t, websocket.StatusForbidden, code)
				return
			}
			require.Equal(t, "ab", message.text)
			for range row.count {
				peer.Receive(t, controls)
			}
		})
	}
	t.Run("Pings between the pieces are answered while the reader waits for more", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		got := readsAll(cl)
		c := peer.Open(t, cl, begin(websocket.OpcodeBin, "a")...)
		for range 3 {
			c.Send(websocket.NewFramePing(false, []byte("p")))
			assert.Equal(t, websocket.OpcodePong, c.Read().Opcode)
			c.Send(goesOn("b"))
		}
		c.Send(ends(""))
		assert.Equal(t, "abbb", peer.Receive(t, got).text)
	})
	t.Run("text is checked as it comes, over the borders of pieces", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		got := readsAll(cl)
		c := peer.Open(t, cl, begin(websocket.OpcodeText, "grün"[:3])...)
		c.Send(goesOn("grün"[3:]))
		c.Send(ends(""))
		assert.Equal(t, streamed{websocket.OpcodeText, "grün", nil}, peer.Receive(t, got))
		c.Send(append(begin(websocket.OpcodeText, "good"), websocket.NewFramePing(false, nil)...))
		c.Read()
		c.Send(goesOn("\xff"))
		code, _ := c.ReadClose()
		assert.EqualValues(t, websocket.StatusInvalidData, code)
		broken := peer.Receive(t, got)
		assert.Equal(t, "good", broken.text)
		assert.ErrorIs(t, broken.err, io.ErrUnexpectedEOF)
	})
	for name, end := range map[string]func(cl *websocket.Client, c *peer.Script){
		"is lost":                            func(_ *websocket.Client, c *peer.Script) { c.Conn.Close() },
		"is dropped by Quit":                 func(cl *websocket.Client, _ *peer.Script) { cl.Quit() },
		"is closed by the server":            func(_ *websocket.Client, c *peer.Script) { c.Send(websocket.NewFrameClose(false, 4000, nil)) },
		"is closed by the program":           func(cl *websocket.Client, _ *peer.Script) { go cl.Close() },
		"is closed for a breach of protocol": func(_ *websocket.Client, c *peer.Script) { c.Send([]byte{0x83, 0}) },
	} {
		t.Run("a message whose connection "+name+" ends with what has come, and an error", func(t *testing.T) {
			peer.CheckGoroutines(t)
			quit, begun := make(chan bool, 1), make(chan bool, 1)
			got := make(chan streamed, 1)
			cl := &websocket.Client{HandleQuit: func() { quit <- true }}
			cl.HandleReader = func(_ *websocket.Client, opcode websocket.Opcode, r io.Reader) error {
				begun <- true
				all, err := io.ReadAll(r)
				got <- streamed{opcode, string(all), err}
				return err
			}
			c := peer.Open(t, cl, begin(websocket.OpcodeBin, "some")...)
			peer.Receive(t, begun)
			end(cl, c)
			broken := peer.Receive(t, got)
			assert.Equal(t, "some", broken.text)
			assert.ErrorIs(t, broken.err, io.ErrUnexpectedEOF)
			assert.ErrorIs(t, broken.err, websocket.ErrConnClosed)
			c.Conn.Close()
			peer.Receive(t, quit)
		})
	}
	for name, handler := range map[string]func() error{
		"fails":              func() error { return errors.New("no more") },
		"panics":             func() error { panic("boom") },
		"ends its goroutine": func() error { runtime.Goexit(); return nil },
	} {
		t.Run("a reader that "+name+" in the middle closes the connection", func(t *testing.T) {
			peer.CheckGoroutines(t)
			quit := make(chan bool, 1)
			cl := &websocket.Client{Logger: slog.New(slog.DiscardHandler), HandleQuit: func() { quit <- true }}
			cl.HandleReader = func(_ *websocket.Client, _ websocket.Opcode, r io.Reader) error {
				r.Read(make([]byte, 1))
				return handler()
			}
			c := peer.Open(t, cl, begin(websocket.OpcodeBin, "some")...)
			code, _ := c.ReadClose()
			assert.EqualValues(t, websocket.StatusBadRequest, code)
			c.Conn.Close()
			peer.Receive(t, quit)
		})
	}
	t.Run("a read after the handler has returned is an error", func(t *testing.T) {
		peer.CheckGoroutines(t)
		kept := make(chan io.Reader, 1)
		c := peer.Open(t, &websocket.Client{HandleReader: func(_ *websocket.Client, _ websocket.Opcode, r io.Reader) error { kept <- r; return nil }},
			begin(websocket.OpcodeBin, "some")...)
		r := peer.Receive(t, kept)
		c.Send(ends("more"))
		c.Send(websocket.NewFramePing(false, nil))
		c.Read()
		_, err := r.Read(make([]byte, 1))
		assert.Error(t, err)
		assert.NotErrorIs(t, err, io.EOF)
	})
	t.Run("a reader that is slow makes the server wait", func(t *testing.T) {
		peer.CheckGoroutines(t)
		release, sum := make(chan bool), make(chan []byte, 1)
		cl := &websocket.Client{HandleReader: func(_ *websocket.Client, _ websocket.Opcode, r io.Reader) error {
			<-release
			h := sha256.New()
			_, err := io.Copy(h, r)
			sum <- h.Sum(nil)
			return err
		}}
		c := peer.Open(t, cl)
		const size = 32 << 20
		meter, sent := newHeapMeter(), make(chan bool)
		go func() {
			c.Conn.Write(binary.BigEndian.AppendUint64([]byte{0x82, peer.Length64}, size))
			io.CopyBuffer(struct{ io.Writer }{c.Conn}, noise(size), make([]byte, 64<<10))
			close(sent)
		}()
		select {
		case <-sent:
			assert.Fail(t, "all of it was taken")
		case release <- true:
		}
		assert.Equal(t, noiseSum(size), peer.Receive(t, sum))
		<-sent
		meter.Write(make([]byte, 4<<20))
		assert.Less(t, meter.grown(), uint64(streamMemory))
	})
	t.Run("a compressed message is inflated whole, and limited", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{Compression: &websocket.Compression{Codec: newDictCodec()}, MaxMessageSize: 1000}
		got := readsAll(cl)
		c := openPacked(t, cl, 0, 0, forgetful, frame(0xC1, packed([]byte(hello), nil))...)
		assert.Equal(t, streamed{websocket.OpcodeText, hello, nil}, peer.Receive(t, got))
		c.Send(frame(0xC1, packed(bytes.Repeat([]byte("x"), 1001), nil)))
		code, _ := c.ReadClose()
		assert.EqualValues(t, websocket.StatusRequestEntityTooLarge, code)
	})
}

func TestClientReader_long(t *testing.T) {
	peer.CheckGoroutines(t)
	size, want := *streamSize, noiseSum(*streamSize)
	sum := make(chan []byte, 1)
	meter := newHeapMeter()
	c := peer.Open(t, &websocket.Client{HandleReader: func(_ *websocket.Client, _ websocket.Opcode, r io.Reader) error {
		h := sha256.New()
		_, err := io.Copy(io.MultiWriter(h, meter), r)
		sum <- h.Sum(nil)
		return err
	}})
	pongs := make(chan int, 1)
	go func() {
		count := 0
		for int64(count)*streamPiece < size {
			if f, err := peer.ReadFrame(c.In); err != nil || f.Opcode != websocket.OpcodePong {
				break
			}
			count++
		}
		pongs <- count
	}()
	r, opcode := noise(size), byte(websocket.OpcodeBin)
	for at := int64(0); at < size; at += streamPiece {
		length := min(streamPiece, size-at)
		c.Send(binary.BigEndian.AppendUint64([]byte{opcode, peer.Length64}, uint64(length)))
		_, err := io.CopyN(c.Conn, r, length)
		require.NoError(t, err)
		c.Send(websocket.NewFramePing(false, nil))
		opcode = byte(websocket.OpcodeCont)
	}
	c.Send(ends(""))
	assert.Equal(t, want, peer.Receive(t, sum))
	assert.EqualValues(t, (size+streamPiece-1)/streamPiece, peer.Receive(t, pongs))
	assert.Less(t, meter.grown(), uint64(streamMemory))
	t.Logf("%d MiB, the heap has grown by %d KiB", size>>20, meter.grown()>>10)
}

// readMessage reads the frames of a message, and gives their payloads to a hash. Control frames between them are counted.
func readMessage(t *testing.T, c *peer.Script, h hash.Hash, meter io.Writer) (first websocket.Opcode, frames, controls int) {
	t.Helper()
	for {
		c.Conn.SetDeadline(time.Now().Add(peer.Deadline))
		f, err := peer.ReadFrame(c.In)
		require.NoError(t, err)
		if f.Opcode >= websocket.OpcodeClose {
			controls++
			continue
		}
		if frames++; frames == 1 {
			first = f.Opcode
		} else {
			require.Equal(t, websocket.OpcodeCont, f.Opcode)
		}
		h.Write(f.Payload)
		meter.Write(f.Payload)
		if f.Fin {
			return first, frames, controls
		}
	}
}

func TestClientWriter(t *testing.T) {
	t.Run("a message is sent in fragments, whatever it is written in", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{FragmentSize: 100}
		c := peer.Open(t, cl)
		for _, size := range []int{0, 1, 99, 100, 101, 200, 201, 1000} {
			for _, piece := range []int{1, 7, 100, 1000} {
				w, err := cl.NewWriter(websocket.OpcodeBin)
				require.NoError(t, err)
				message := peer.Pattern(size, piece)
				for part := range slices.Chunk(message, piece) {
					n, err := w.Write(part)
					require.NoError(t, err)
					require.Equal(t, len(part), n)
				}
				require.NoError(t, w.Close())
				h, want := sha256.New(), sha256.Sum256(message)
				opcode, frames, _ := readMessage(t, c, h, io.Discard)
				require.Equal(t, websocket.OpcodeBin, opcode)
				require.Equal(t, max((size+99)/100, 1), frames, "%d bytes", size)
				require.Equal(t, want[:], h.Sum(nil))
			}
		}
	})
	t.Run("it takes no more memory than was written, however large fragments may be", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{FragmentSize: math.MaxInt}
		c := peer.Open(t, cl)
		w, err := cl.NewWriter(websocket.OpcodeBin)
		require.NoError(t, err)
		message := peer.Pattern(300_000, 1)
		for part := range slices.Chunk(message, 7_000) {
			_, err = w.Write(part)
			require.NoError(t, err)
		}
		go func() { assert.NoError(t, w.Close()) }()
		f := c.Read()
		assert.True(t, f.Fin)
		assert.Equal(t, message, f.Payload)
	})
	t.Run("a writer that has sent nothing holds nothing up, and its message is one frame", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		w, err := cl.NewWriter(websocket.OpcodeText)
		require.NoError(t, err)
		io.WriteString(w, "written first")
		require.NoError(t, cl.SendText([]byte("sent first")))
		require.NoError(t, w.Close())
		assert.Equal(t, "sent first", string(c.Read().Payload))
		assert.Equal(t, "written first", string(c.Read().Payload))
	})
	t.Run("other messages wait for its end, control frames do not", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{FragmentSize: 10}
		c := peer.Open(t, cl)
		w, err := cl.NewWriter(websocket.OpcodeText)
		require.NoError(t, err)
		io.WriteString(w, "0123456789a")
		f, err := peer.ReadFrame(c.In)
		require.NoError(t, err)
		assert.False(t, f.Fin)
		sent := make(chan error, 1)
		go func() { sent <- cl.SendText([]byte("next")) }()
		require.NoError(t, cl.SendPing(nil))
		assert.Equal(t, websocket.OpcodePing, c.Read().Opcode)
		c.Send(websocket.NewFramePing(false, nil))
		assert.Equal(t, websocket.OpcodePong, c.Read().Opcode)
		assert.Empty(t, sent)
		require.NoError(t, w.Close())
		assert.Equal(t, websocket.OpcodeCont, c.Read().Opcode)
		assert.Equal(t, "next", string(c.Read().Payload))
		require.NoError(t, peer.Receive(t, sent))
	})
	t.Run("Close of the client cuts a message off that does not end, and its writer is told", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{FragmentSize: 10}
		c := peer.Open(t, cl)
		w, err := cl.NewWriter(websocket.OpcodeText)
		require.NoError(t, err)
		io.WriteString(w, "0123456789a")
		peer.ReadFrame(c.In)
		closed := make(chan error, 1)
		go func() { closed <- cl.Close() }()
		code, _ := c.ReadClose()
		assert.EqualValues(t, websocket.StatusNormal, code)
		assert.ErrorIs(t, w.Close(), websocket.ErrConnClosed)
		_, err = w.Write([]byte("more"))
		assert.ErrorIs(t, err, websocket.ErrConnClosed)
		c.Send(websocket.NewFrameClose(false, code, nil))
		c.Conn.Close()
		assert.NoError(t, peer.Receive(t, closed))
	})
	t.Run("a server that is gone is told by an error that stays, and frees the client", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		w, err := cl.NewWriter(websocket.OpcodeBin)
		require.NoError(t, err)
		c.Conn.Close()
		_, err = io.Copy(w, noise(1<<30))
		require.ErrorIs(t, err, websocket.ErrConnClosed)
		require.ErrorIs(t, w.Close(), websocket.ErrConnClosed)
		require.ErrorIs(t, cl.SendText(nil), websocket.ErrConnClosed)
	})
	t.Run("it is refused where it cannot work", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{FragmentSize: -1}
		_, err := cl.NewWriter(websocket.OpcodeBin)
		assert.ErrorIs(t, err, websocket.ErrConnClosed)
		peer.Open(t, cl)
		_, err = cl.NewWriter(websocket.OpcodeBin)
		assert.ErrorContains(t, err, "FragmentSize")
		_, err = cl.NewWriter(websocket.OpcodePing)
		assert.ErrorContains(t, err, "text or binary")
		cl.Quit()
	})
	t.Run("an error of the source is told, and the message is not ended", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := &websocket.Client{FragmentSize: 10}
		c := peer.Open(t, cl)
		w, err := cl.NewWriter(websocket.OpcodeBin)
		require.NoError(t, err)
		bad := errors.New("bad disk")
		n, err := io.Copy(w, io.MultiReader(strings.NewReader("0123456789a"), errorReader{bad}))
		assert.EqualValues(t, 11, n)
		assert.ErrorIs(t, err, bad)
		f, err := peer.ReadFrame(c.In)
		require.NoError(t, err)
		assert.False(t, f.Fin)
		cl.Quit()
		c.ReadEnd()
	})
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

func TestClientWriter_long(t *testing.T) {
	peer.CheckGoroutines(t)
	size, want := *streamSize, noiseSum(*streamSize)
	cl := new(websocket.Client)
	c := peer.Open(t, cl)
	meter, sent := newHeapMeter(), make(chan error, 1)
	go func() {
		w, err := cl.NewWriter(websocket.OpcodeBin)
		if err == nil {
			_, err = io.Copy(w, noise(size))
		}
		if err == nil {
			err = w.Close()
		}
		sent <- err
	}()
	h := sha256.New()
	opcode, frames, _ := readMessage(t, c, h, meter)
	assert.Equal(t, websocket.OpcodeBin, opcode)
	assert.EqualValues(t, (size+(64<<10)-1)/(64<<10), frames)
	require.NoError(t, peer.Receive(t, sent))
	assert.Equal(t, want, h.Sum(nil))
	assert.Less(t, meter.grown(), uint64(streamMemory))
	t.Logf("%d MiB, the heap has grown by %d KiB", size>>20, meter.grown()>>10)
}
