package websocket

import "slices"

// permessage-deflate on a connection of a Server (RFC 7692). What comes is inflated by a job of its own, jobInflate, in the order of the
// wire, and waits for its handlers from then on as if it had just been read. What is sent is compressed on the goroutine that sends it.

// deflation returns how the connection compresses, nil if it does not. It needs no lock: markDeflates is set last.
func (c *conn) deflation() *deflation {
	if c.marks.Load()&markDeflates == 0 {
		return nil
	}
	return c.about.deflation
}

// agreeLocked takes the client's offer of permessage-deflate, if there is one that can be met, unless HandleAuth has answered what the
// client offers.
func (c *conn) agreeLocked(req *Handshake) {
	options := c.loop.deflates
	if options == nil || len(req.Extensions) == 0 {
		return
	}
	if _, ok := req.answers("Sec-WebSocket-Extensions"); ok { // they are the program's own
		return
	}
	answer, terms := agreeDeflate([]string{string(req.Extensions)}, options.Window, options.Codec.TakesDict())
	if !terms.on() {
		return
	}
	req.extension = answer
	c.aboutLocked().deflation = c.loop.deflationFor(terms)
	c.marks.Or(markDeflates)
}

// deflationFor returns what a connection with these terms needs. Those without a context share it.
func (e *engine) deflationFor(terms deflateTerms) *deflation {
	if terms.sends.takeover || terms.receives.takeover {
		return newDeflation(e.deflates, terms)
	}
	return e.forgetful[terms.sends.bits-minBits]
}

// inflate does a jobInflate, and returns what its messages amount to. It stops when that is as much as may wait for handlers.
func (c *conn) inflate(j *job) (got *reading) {
	d := c.deflation()
	got = newReading()
	received := &c.loop.tally.received
	for i := range j.messages {
		if c.isDiscarding() {
			break
		}
		ev := j.messages[i].unpacked()
		packed := len(ev.payload)
		err := d.unpack(&ev)
		if err == nil && j.messages[i].isPacked() {
			received.plain.Add(uint64(len(ev.payload)))
			received.packed.Add(uint64(packed))
		}
		got.take(c.loop.engine, &ev, err)
		if got.ends {
			break
		}
		if got.inbox.bytes >= maxBacklog {
			got.rest = slices.Clone(j.messages[i+1:]) // the job's own are cleared
			break
		}
	}
	return got
}

// inflatedLocked gives the connection what a jobInflate has made of its messages.
func (c *conn) inflatedLocked(j *job) {
	got := j.inflated
	if got == nil { // the codec panicked: what follows may refer to what it has not inflated
		c.lanes.dropPacked()
		return
	}
	if c.isDiscarding() {
		return
	}
	c.pongLocked(got.pongs)
	empty, pongs := c.lanes.enqueue(got.inbox)
	c.pongLocked(pongs)
	got.inbox = empty
	c.lanes.putBack(got.rest)
	if got.ends {
		c.lanes.dropPacked()
		c.endLocked(got.end)
	}
	putReading(got)
}

// rememberLocked is told of a compressed message that is sent next, and has the history of what is sent follow.
func (c *conn) rememberLocked(packed *packedText) {
	switch d := c.deflation(); {
	case d == nil:
	case packed.text == nil: // a shorter history than the peer's window is none that is wrong
		d.sent.forget()
	default:
		d.sent.add(packed.text)
	}
}

// sendPacked sends a message compressed, or plain if that is shorter.
func (c *conn) sendPacked(d *deflation, opcode Opcode, payload []byte, wait bool) error {
	if d.needsOrder(len(payload)) {
		return c.sendInContext(d, opcode, payload, wait)
	}
	if err := c.refusal(min(len(payload), maxInContext), wait); err != nil { // it would most likely be compressed in vain
		return err
	}
	var head [maxHeader]byte
	packed, ok := d.pack(payload)
	if !ok {
		return c.write(outgoing{head: appendHeader(head[:0], finished(opcode, len(payload))), body: payload}, wait)
	}
	out := outgoing{head: appendHeader(head[:0], packedHead(opcode, packed)), body: packed, packed: &packedText{payload}, text: len(payload)}
	err := c.write(out, wait)
	PutBuffer(packed)
	return err
}

// sendInContext sends a message compressed behind those that were sent before.
func (c *conn) sendInContext(d *deflation, opcode Opcode, payload []byte, wait bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.readyLocked(maxHeader+len(payload), wait); err != nil {
		return err
	}
	var head [maxHeader]byte
	packed, ok := d.packInContext(payload)
	if !ok {
		return c.writeLocked(&outgoing{head: appendHeader(head[:0], finished(opcode, len(payload))), body: payload})
	}
	err := c.writeLocked(&outgoing{head: appendHeader(head[:0], packedHead(opcode, packed)), body: packed, text: len(payload)})
	PutBuffer(packed)
	return err
}
