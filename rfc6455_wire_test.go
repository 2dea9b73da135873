package websocket

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What rows about frames have in common where they run between two ends of a connection: how the input is cut, what goes out
// for it, and a peer that holds every frame to the rules of whoever sends.

// rfcPatience is how long a peer waits for something that has to happen. Where it was in vain once the test has failed, and
// the rows that follow do not wait for as long.
var rfcPatience atomic.Int64

func init() { rfcPatience.Store(int64(20 * time.Second)) }

// rfcExpired tells when waiting is in vain.
func rfcExpired() <-chan time.Time { return time.After(time.Duration(rfcPatience.Load())) }

func rfcInVain(format string, args ...any) error {
	rfcPatience.Store(int64(time.Second / 2))
	return fmt.Errorf(format, args...)
}

// rfcSent is a frame that goes out.
type rfcSent struct {
	opcode  Opcode
	payload string
}

func (f rfcSent) String() string { return fmt.Sprintf("%X %.40q", byte(f.opcode), f.payload) }

func rfcSentClose(code CloseCode, reason string) rfcSent {
	return rfcSent{OpcodeClose, string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason}
}

// rfcAnswers is what goes out for events, where the protocol leaves no choice: a Pong for each Ping (section 5.5.2), a Close
// with the code and reason of the peer's (5.5.1), and a Close with the code of a breach (7.1.7), after what the handlers send
// back.
func rfcAnswers(side rfcSide, events []rfcEvent, breach *protocolError) (out []rfcSent) {
	inClose := false
	for _, ev := range events {
		switch {
		case ev.kind == eventMessage, ev.kind == eventControl:
			out = append(out, rfcSent{ev.opcode, ev.payload})
		case ev.kind == eventPing:
			out = append(out, rfcSent{OpcodePong, ev.payload})
		case ev.kind == eventClose && breach == nil:
			out = append(out, rfcSentClose(ev.code, ev.payload))
		case ev.kind == eventClose:
			inClose = true
		}
	}
	switch {
	case breach == nil:
	case inClose && side == rfcServer: // whose reason for closing is the peer's
		out = append(out, rfcSentClose(breach.code, ""))
	default:
		out = append(out, rfcSentClose(breach.code, breach.text))
	}
	return out
}

// events is what the input amounts to where it comes in that way.
func (pl *rfcPlan) events(way rfcWay) (events []rfcEvent) {
	if way.before {
		events = append(events, rfcBefore)
	}
	return append(append(events, slices.Repeat(pl.want, way.times)...), pl.then...)
}

// expected is the frames that go out for it.
func (pl *rfcPlan) expected(way rfcWay) (out []rfcSent) {
	switch {
	case pl.out == nil && pl.first == nil:
		return rfcAnswers(pl.side, pl.events(way), pl.fails)
	case pl.first != nil:
		out = append(out, pl.first.sent...)
	case way.before:
		out = append(out, rfcSent{OpcodeText, rfcBefore.payload})
	}
	if pl.out == nil {
		return append(out, rfcAnswers(pl.side, pl.events(way), pl.fails)...)
	}
	return append(out, slices.Repeat(pl.out, way.times)...)
}

// rfcWay is one way in which the input comes.
type rfcWay struct {
	name   string
	behind []byte   // in one piece with the opening handshake
	pieces [][]byte // after it
	times  int      // how often it comes
	before bool     // a message comes before it
	waits  bool     // for the answers to each piece
}

// rfcBefore is the message of ways that begin with one.
var rfcBefore = rfcText("b")

// ways are those in which a row runs between two ends.
func (pl *rfcPlan) ways(cuts ...int) (ways []rfcWay) {
	in, last := pl.in, len(pl.in)-1
	add := func(way rfcWay) {
		way.times = max(way.times, 1)
		ways = append(ways, way)
	}
	if len(in) == 0 {
		return append(ways, rfcWay{name: "without a byte", times: 1})
	}
	add(rfcWay{name: "whole", pieces: [][]byte{in}})
	add(rfcWay{name: "in small pieces", pieces: rfcEach(in, 1+len(in)/1000)})
	if pl.first == nil {
		before := rfcFrame(0x81, rfcBefore.payload)(pl.protocol.fromClient)
		add(rfcWay{name: "in one piece behind a message", pieces: [][]byte{append(before, in...)}, before: true})
		add(rfcWay{name: "in one piece with the handshake", behind: in})
		add(rfcWay{name: "in one piece with the handshake but for its last byte", behind: in[:last], pieces: [][]byte{in[last:]}})
	}
	for _, cut := range cuts {
		if cut > 0 && cut <= last {
			add(rfcWay{name: fmt.Sprintf("cut at %d", cut), pieces: [][]byte{in[:cut], in[cut:]}})
		}
	}
	if pl.first == nil && pl.out == nil {
		add(rfcWay{name: "frame by frame", pieces: pl.pieces, waits: true})
	}
	switch {
	case pl.ends():
		add(rfcWay{name: "with more behind it", pieces: [][]byte{append(bytes.Clone(in), pl.late()...)}})
	case !pl.open:
		add(rfcWay{name: "twice in one piece", pieces: [][]byte{append(bytes.Clone(in), in...)}, times: 2})
	}
	return ways
}

// rfcPeer is the peer of the endpoint under test.
type rfcPeer struct {
	conn   net.Conn
	frames chan rfcSent // what goes out; closed at the end of TCP
	fault  error        // what else ended it; set before frames is closed
	got    []rfcSent
}

// rfcNewPeer reads what the endpoint sends, until the end of TCP. keys is told the masking key of each frame of a client.
func rfcNewPeer(conn net.Conn, r *bufio.Reader, side rfcSide, keys func([4]byte)) *rfcPeer {
	p := &rfcPeer{conn: conn, frames: make(chan rfcSent, 1<<10)}
	go func() {
		defer close(p.frames)
		for {
			f, key, err := rfcReadFrame(r, side == rfcClient)
			if err != nil {
				if err != io.EOF && !errors.Is(err, io.ErrClosedPipe) {
					p.fault = err
				}
				return
			}
			if keys != nil {
				keys(key)
			}
			p.frames <- f
		}
	}()
	return p
}

// rfcReadFrame reads a frame and holds it to the rules of sections 5.1, 5.2 and 5.5 for who sends. Each has to be a whole
// message: nothing here is sent in fragments.
func rfcReadFrame(r io.Reader, masked bool) (f rfcSent, key [4]byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return f, key, err
	}
	var field [8]byte
	size := map[byte]int{length16: 2, length64: 8}[head[1]&^bitMasked]
	if _, err = io.ReadFull(r, field[8-size:]); err != nil {
		return f, key, err
	}
	length := binary.BigEndian.Uint64(field[:])
	if size == 0 {
		length = uint64(head[1] &^ bitMasked)
	}
	f.opcode = Opcode(head[0] & 0xF)
	switch {
	case head[0]&bitFin == 0:
		return f, key, fmt.Errorf("a fragment goes out: % x", head)
	case head[0]&bitsRsv != 0:
		return f, key, fmt.Errorf("reserved bits go out: % x", head)
	case head[1]&bitMasked != 0 != masked:
		return f, key, fmt.Errorf("a frame goes out with the wrong mask bit: % x", head)
	case size == 2 && length < length16 || size == 8 && length < 1<<16 || length > 1<<20:
		return f, key, fmt.Errorf("a frame goes out with a length of %d in %d bytes", length, size)
	case f.opcode.isControl() && length > maxControl:
		return f, key, fmt.Errorf("a control frame of %d bytes goes out", length)
	}
	if masked {
		if _, err = io.ReadFull(r, key[:]); err != nil {
			return f, key, err
		}
	}
	payload := make([]byte, length)
	_, err = io.ReadFull(r, payload)
	f.payload = string(coreMask(payload, key, 0))
	return f, key, err
}

// wait reads frames until the condition holds.
func (p *rfcPeer) wait(done func() bool) error {
	expired := rfcExpired()
	for !done() {
		select {
		case f, ok := <-p.frames:
			if !ok {
				return fmt.Errorf("TCP has ended behind %v: %v", p.got, p.fault)
			}
			p.got = append(p.got, f)
		case <-expired:
			return rfcInVain("nothing more comes behind %v", p.got)
		}
	}
	return nil
}

// end ends TCP at the peer's side.
func (p *rfcPeer) end() {
	if half, ok := p.conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	} else {
		p.conn.Close()
	}
}

var errTCPOpen = errors.New("TCP does not end")

// toEnd reads what is left until the endpoint ends TCP, and ends it likewise.
func (p *rfcPeer) toEnd() error {
	defer p.conn.Close()
	expired := rfcExpired()
	for {
		select {
		case f, ok := <-p.frames:
			if !ok {
				return p.fault
			}
			p.got = append(p.got, f)
		case <-expired:
			return rfcInVain("%w behind %v", errTCPOpen, p.got)
		}
	}
}

// rfcProbe shows that a connection is open.
var rfcProbe = rfcSent{OpcodePong, "still there?"}

// say sends the input, what ends it, and a Ping that shows that the connection is still open where it should be, and waits
// for its Pong.
func (pl *rfcPlan) say(p *rfcPeer, way rfcWay) error {
	had := len(p.got)
	for i, piece := range way.pieces {
		if _, err := p.conn.Write(piece); err != nil && !pl.ends() {
			return err
		}
		if way.waits {
			r := rfcReader{p: &pl.protocol}
			for _, b := range way.pieces[:i+1] {
				r.feed(b)
			}
			want := had + len(rfcAnswers(pl.side, r.events, r.err))
			if err := p.wait(func() bool { return len(p.got) >= want }); err != nil {
				return err
			}
			if r.ep.hasEnded() {
				return nil
			}
		}
	}
	if pl.ends() {
		return nil
	}
	if len(pl.rest) > 0 {
		if _, err := p.conn.Write(pl.rest); err != nil {
			return err
		}
	}
	if pl.open && pl.rest == nil || pl.first != nil && pl.first.closes {
		return nil
	}
	if err := p.wait(func() bool { return pl.complete(p.got, way) }); err != nil {
		return err
	}
	if _, err := p.conn.Write(NewFramePing(pl.protocol.fromClient, []byte(rfcProbe.payload))); err != nil {
		return err
	}
	return p.wait(func() bool { return slices.Contains(p.got, rfcProbe) })
}

// complete reports whether all has gone out that has to, where the connection stays open.
func (pl *rfcPlan) complete(got []rfcSent, way rfcWay) bool {
	data, pongs, _ := rfcSplit(got)
	wantData, wantPongs, _ := rfcSplit(pl.expected(way))
	return len(data) >= len(wantData) && len(pongs) >= len(wantPongs)
}

// rfcSplit tells the frames of data and reserved control frames, Pongs and Close frames apart. Of the first two, each is in
// its own order: Pongs may overtake what handlers send.
func rfcSplit(frames []rfcSent) (data, pongs, closes []rfcSent) {
	for _, f := range frames {
		switch f.opcode {
		case OpcodePong:
			pongs = append(pongs, f)
		case OpcodeClose:
			closes = append(closes, f)
		default:
			data = append(data, f)
		}
	}
	return data, pongs, closes
}

// compare holds the frames that went out against those that had to.
func (pl *rfcPlan) compare(got []rfcSent, way rfcWay) error {
	want := pl.expected(way)
	got = slices.DeleteFunc(slices.Clone(got), func(f rfcSent) bool { return f == rfcProbe })
	data, pongs, closes := rfcSplit(got)
	wantData, wantPongs, wantCloses := rfcSplit(want)
	same := slices.Equal(data, wantData) && slices.Equal(pongs, wantPongs)
	last := len(closes) == 0 || got[len(got)-1].opcode == OpcodeClose
	if !same || !slices.Equal(closes, wantCloses) || !last {
		return fmt.Errorf("went out: %v, want: %v", got, want)
	}
	return nil
}

// rfcKeys collects the masking keys of a client's frames.
type rfcKeys struct {
	mu   sync.Mutex
	keys [][4]byte
}

func (k *rfcKeys) add(key [4]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = append(k.keys, key)
}
