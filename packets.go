package websocket

// send sends a packet of whole frames.
func (c *conn) send(packet []byte, wait bool) error {
	if d := c.deflation(); d != nil {
		if opcode, payload, ok := messageIn(packet); ok && d.takes(payload) {
			return c.sendPacked(d, opcode, payload, wait)
		}
	}
	return c.write(asItIs(packet), wait)
}

// sendMessage sends a message of one frame.
func (c *conn) sendMessage(opcode Opcode, payload []byte) error {
	if d := c.deflation(); d.takes(payload) {
		return c.sendPacked(d, opcode, payload, true)
	}
	var head [maxHeader]byte
	return c.write(outgoing{head: appendHeader(head[:0], finished(opcode, len(payload))), body: payload}, true)
}

// asItIs returns what sends a packet of whole frames, up to the end of a Close frame.
func asItIs(packet []byte) outgoing {
	out := outgoing{body: packet}
	for end := 0; end < len(packet) && !out.closes; {
		h, n := parseHeader(packet[end:])
		if n == 0 || h.length > uint64(len(packet)-end-n) {
			break
		}
		if n+int(h.length) == len(packet) && h.opcode() != OpcodeCont {
			out.lone, out.front = uint8(kindOf(h.opcode()))+1, uint8(n)
		}
		end += n + int(h.length)
		if h.rsv()&bitRsv1 != 0 {
			out.packed = new(packedText)
		}
		if out.closes = h.opcode() == OpcodeClose; out.closes {
			out.body = packet[:end]
		}
	}
	return out
}

// messageIn returns the message that a packet is, if it is one finished text or binary frame as NewFrame makes it. Only such a packet
// is compressed: in any other the program has its own idea of frames.
func messageIn(packet []byte) (opcode Opcode, payload []byte, ok bool) {
	h, n := parseHeader(packet)
	if n == 0 || h.masked || h.length != uint64(len(packet)-n) || n != 1+lengthFieldSize(h.length) {
		return 0, nil, false
	}
	switch h.first {
	case bitFin | byte(OpcodeText), bitFin | byte(OpcodeBin):
		return h.opcode(), packet[n:], true
	}
	return 0, nil, false
}

// broadcast is a packet for several connections: compressed once for all that may get the same, without a context. It is owned by the
// goroutine that sends.
type broadcast struct {
	plain  outgoing
	packed []packedFor
	sent   traffic // what connections have taken, which is counted at the end: see sendEach

	// The message that the plain packet is, if it is one.
	opcode  Opcode
	payload []byte
}

// packedFor is a message compressed for connections whose peers keep a window of so many bits.
type packedFor struct {
	bits uint8
	out  outgoing
}

func newBroadcast(packet []byte) broadcast {
	b := broadcast{plain: asItIs(packet)}
	b.plain.uncounted = true
	b.opcode, b.payload, _ = messageIn(packet)
	return b
}

// sendTo sends the packet to one of the connections, without waiting.
func (b *broadcast) sendTo(c *conn) error {
	out := b.plain
	if d := c.deflation(); b.payload != nil && d.takes(b.payload) {
		out = b.packedFor(d)
	}
	err := c.write(out, false)
	if err == nil {
		b.sent.addSent(&out)
	}
	return err
}

// packedFor returns the packet for a connection that compresses: plain if that is shorter.
func (b *broadcast) packedFor(d *deflation) outgoing {
	bits := d.terms.sends.bits
	for i := range b.packed {
		if b.packed[i].bits == bits {
			return b.packed[i].out
		}
	}
	out := b.plain
	if packed, ok := d.pack(b.payload); ok {
		out = outgoing{head: appendHeader(nil, packedHead(b.opcode, packed)), body: packed, packed: &packedText{b.payload}, text: len(b.payload), uncounted: true}
	}
	b.packed = append(b.packed, packedFor{bits, out})
	return out
}
