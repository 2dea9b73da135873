package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/wsloop/websocket"
)

// wireTimeout is how long a client waits for a network that takes nothing, and to connect.
const wireTimeout = 60 * time.Second

// errUnanswered is what closing a wire returns if the server did not answer in the client's own time, which cannot be set.
var errUnanswered = errors.New("no answer to the Close frame")

// wire is a connection to the server.
type wire interface {
	send(opcode websocket.Opcode, payload []byte) error
	close() error           // with the closing handshake
	abort()                 // without
	ended() <-chan struct{} // closed when it has ended and the last message has been handed over
	err() error             // why it ended
}

// receiver is given the messages that come over a wire, one after the other.
type receiver func(opcode websocket.Opcode, payload []byte)

// clientWire is the package's own client.
type clientWire struct {
	client *websocket.Client
	quit   chan struct{}
}

func dialClient(at door, query string, got receiver) (wire, error) {
	w := &clientWire{quit: make(chan struct{})}
	handle := func(_ *websocket.Client, frame *websocket.Frame) error {
		got(frame.Opcode(), frame.Payload())
		return nil
	}
	w.client = &websocket.Client{
		Endpoint:         at.url(query),
		TLSConfig:        clientTLS(query),
		HandleText:       handle,
		HandleBin:        handle,
		HandleQuit:       func() { close(w.quit) },
		HandshakeTimeout: wireTimeout,
		WriteTimeout:     wireTimeout,
		SilenceTimeout:   wireTimeout,
		Logger:           slog.New(slog.DiscardHandler),
	}
	return w, w.client.Connect()
}

func (w *clientWire) send(opcode websocket.Opcode, payload []byte) error {
	if opcode == websocket.OpcodeText {
		return w.client.SendText(payload)
	}
	return w.client.SendBin(payload)
}

func (w *clientWire) close() error {
	err := w.client.Close()
	<-w.quit
	if err != nil {
		return fmt.Errorf("%w: %w", errUnanswered, err)
	}
	return nil
}

func (w *clientWire) abort() {
	w.client.Quit()
	<-w.quit
}

func (w *clientWire) ended() <-chan struct{} { return w.quit }
func (w *clientWire) err() error             { return w.client.Err() }

// rawWire is a client of this program's own, that sends fragments with Pings between them.
type rawWire struct {
	raw  *rawConn
	rng  *rand.Rand // owned by the sender
	done chan struct{}
	why  error // set before done is closed
}

func dialFragments(at door, query string, rng *rand.Rand, got receiver) (wire, error) {
	raw, err := dialRaw(at, query)
	if err != nil {
		return nil, err
	}
	return startFragments(raw, rng, got), nil
}

// dialLagging is dialFragments with so little room in its socket that the server has to wait for the receiver.
func dialLagging(at door, query string, rng *rand.Rand, got receiver) (wire, error) {
	raw, err := dialRaw(at, query)
	if err != nil {
		return nil, err
	}
	raw.narrow()
	return startFragments(raw, rng, got), nil
}

func startFragments(raw *rawConn, rng *rand.Rand, got receiver) wire {
	w := &rawWire{raw: raw, rng: rng, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		defer raw.Close()
		w.why = raw.readMessages(got)
	}()
	return w
}

func (w *rawWire) send(opcode websocket.Opcode, payload []byte) error {
	for parts := 1 + w.rng.IntN(4); parts > 0; parts-- {
		n := len(payload)
		if parts > 1 {
			n = w.rng.IntN(len(payload) + 1)
		}
		frame := websocket.NewFrame(opcode, true, payload[:n])
		if parts > 1 {
			frame[0] &^= finBit
		}
		if w.rng.IntN(4) == 0 {
			frame = append(frame, websocket.NewFramePing(true, payload[:min(n, 8)])...)
		}
		if err := w.raw.write(frame); err != nil {
			return err
		}
		opcode, payload = websocket.OpcodeCont, payload[n:]
	}
	return nil
}

func (w *rawWire) close() error {
	if err := w.raw.write(websocket.NewFrameClose(true, websocket.StatusNormal, nil)); err != nil {
		return err
	}
	select {
	case <-w.done:
	case <-time.After(wireTimeout):
		w.abort()
		return errors.New("no answer to the Close frame")
	}
	var closed *websocket.CloseError
	if !errors.As(w.why, &closed) || closed.Code != websocket.StatusNormal {
		return fmt.Errorf("answer to the Close frame: %w", w.why)
	}
	return nil
}

func (w *rawWire) abort() {
	w.raw.reset()
	<-w.done
}

func (w *rawWire) ended() <-chan struct{} { return w.done }

func (w *rawWire) err() error {
	if w.why == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return w.why
}
