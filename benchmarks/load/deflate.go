package main

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/wsloop/websocket/benchmarks/internal/plan"
)

const (
	extensionsField = "Sec-WebSocket-Extensions"
	extension       = "permessage-deflate"

	reserved = 0x70 // bits of a frame's first byte
	rsv1     = 0x40

	// inflated is how many messages of a connection are inflated and compared. Of all others nothing but RSV1 and their number
	// is checked: inflating them would make the generator the limit.
	inflated = 20

	maxWindow = 1 << 15

	// mostCompressed is how much of the messages have to be compressed: some servers leave those plain that would grow, as the
	// first one of a connection may.
	mostCompressed = 0.9
)

// tail is what a sender cuts off (RFC 7692, section 7.2.1), and an empty block that ends the stream.
var tail = []byte{0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF}

// offer is what Chromium offers.
func offer(s *plan.Scenario) string {
	if !s.Offers {
		return ""
	}
	return extension + "; client_max_window_bits"
}

// deflate compresses messages each by itself, which is allowed whatever is negotiated, for any window of 256 bytes or more.
func deflate(messages [][]byte) (compressed [][]byte) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is one of flate's own
	}
	for _, message := range messages {
		b.Reset()
		w.Reset(&b)
		w.Write(message) // a bytes.Buffer takes everything
		w.Flush()
		compressed = append(compressed, bytes.Clone(b.Bytes()[:b.Len()-4]))
	}
	return compressed
}

// frameSize is how long the frame is in which a server sends so many bytes.
func frameSize(payload int) int {
	switch {
	case payload < 126:
		return 2 + payload
	case payload < 1<<16:
		return 4 + payload
	}
	return 10 + payload
}

// negotiated takes what the answer to the handshake says of permessage-deflate: it has to be there if it was offered, else not.
func (l *load) negotiated(c *conn, answer []byte) (err error) {
	terms := extensions(answer)
	if !l.scenario.Offers {
		if terms != "" {
			return fmt.Errorf("%w to the handshake: %s was not offered", errWrong, terms)
		}
		return nil
	}
	if l.Deflate == "" {
		l.Deflate = terms
	}
	if terms != l.Deflate {
		return fmt.Errorf("%w to the handshake: %s after %s", errWrong, terms, l.Deflate)
	}
	c.inflation, err = newInflation(terms)
	return err
}

func extensions(answer []byte) string {
	for line := range strings.Lines(string(answer)) {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, extensionsField) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// insist fails if the server has hardly made use of what it negotiated.
func (l *load) insist() error {
	if l.scenario.Offers && float64(l.compressed) < mostCompressed*float64(l.messages) {
		return fmt.Errorf("%w: %d of %d messages were compressed", errWrong, l.compressed, l.messages)
	}
	return nil
}

// inflation is what is known of the compressed messages that a connection gets. Others are no part of the history.
type inflation struct {
	window     int    // bytes that the server may refer to
	history    []byte // as long as they are
	checked    int    // messages so far
	compressed []byte // of one message
}

func newInflation(terms string) (*inflation, error) {
	name, parameters, _ := strings.Cut(terms, ";")
	if strings.TrimSpace(name) != extension {
		return nil, fmt.Errorf("%w to the handshake: %q instead of %s", errWrong, terms, extension)
	}
	d := &inflation{window: maxWindow}
	for parameter := range strings.SplitSeq(parameters, ";") {
		switch key, value, _ := strings.Cut(strings.TrimSpace(parameter), "="); key {
		case "server_no_context_takeover":
			d.window = 0
		case "server_max_window_bits":
			bits, err := strconv.Atoi(value)
			if err != nil || bits < 8 || bits > 15 {
				return nil, fmt.Errorf("%w to the handshake: %q", errWrong, terms)
			}
			d.window = min(d.window, 1<<bits)
		}
	}
	return d, nil
}

func (d *inflation) take(b []byte) {
	if d.checked < inflated {
		d.compressed = append(d.compressed, b...)
	}
}

func (d *inflation) advance(message []byte) {
	d.compressed = d.compressed[:0]
	if d.checked++; d.checked == inflated {
		d.compressed, d.history = nil, nil
		return
	}
	d.history = append(d.history, message...)
	d.history = d.history[max(0, len(d.history)-d.window):]
}

// inflater is for all connections.
type inflater struct {
	source bytes.Reader
	reader io.ReadCloser
	out    bytes.Buffer
}

func newInflater() *inflater { return &inflater{reader: flate.NewReader(nil)} }

// check compares the message that has come with the one that it should be, unless enough of the connection's were.
func (f *inflater) check(d *inflation, want []byte) error {
	if d.checked == inflated {
		return nil
	}
	f.out.Reset()
	f.source.Reset(append(d.compressed, tail...))
	if err := f.reader.(flate.Resetter).Reset(&f.source, d.history); err != nil {
		return err
	}
	if _, err := f.out.ReadFrom(f.reader); err != nil {
		return fmt.Errorf("%w: inflating: %w", errWrong, err)
	}
	if !bytes.Equal(f.out.Bytes(), want) {
		return fmt.Errorf("%w: %q inflated instead of %q", errWrong, f.out.Bytes(), want)
	}
	d.advance(want)
	return nil
}
