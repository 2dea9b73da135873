package websocket

import (
	"errors"
	"unicode/utf8"
)

// maxInContext is the size in bytes up to which a message is compressed with those before it as its context. That is done with a lock
// held, since the order of the wire is the order of contexts; a longer message is compressed before the lock is taken, without a context,
// and hardly gets longer by that.
const maxInContext = 16 << 10

// deflation is permessage-deflate on one connection, or on all that have the same terms and no context (RFC 7692, section 7.2).
type deflation struct {
	options *deflateOptions // immutable, as are the terms
	terms   deflateTerms

	sent     history // guarded by whatever guards the order of what is sent
	received history // owned by whoever inflates, one message after the other
}

// deflateOptions are those of all connections of a Server, or of one of a Client.
type deflateOptions struct {
	Compression     // filled in
	limit       int // bytes of a message that comes
}

// newDeflation returns the compression of a connection.
func newDeflation(options *deflateOptions, terms deflateTerms) *deflation {
	d := &deflation{options: options, terms: terms}
	if terms.sends.takeover {
		d.sent = newHistory(min(options.Window, 1<<terms.sends.bits))
	}
	if terms.receives.takeover {
		d.received = newHistory(1 << terms.receives.bits)
	}
	return d
}

// takes reports whether a message may be compressed.
func (d *deflation) takes(payload []byte) bool { return d != nil && len(payload) >= d.options.MinSize }

// needsOrder reports whether a message of that size is compressed in the order of the wire.
func (d *deflation) needsOrder(size int) bool { return d.terms.sends.takeover && size <= maxInContext }

// pack compresses a message without a context, into a buffer of the pool. ok is false if it is to be sent plain, since that is shorter.
func (d *deflation) pack(payload []byte) (packed []byte, ok bool) { return d.packBehind(nil, payload) }

// packInContext is pack with the messages before as the context. It adds the message to them.
func (d *deflation) packInContext(payload []byte) (packed []byte, ok bool) {
	dict := d.sent.appendTo(newBuffer(len(d.sent.ring)))
	if packed, ok = d.packBehind(dict, payload); ok {
		d.sent.add(payload)
	}
	PutBuffer(dict)
	return packed, ok
}

func (d *deflation) packBehind(dict, payload []byte) (packed []byte, ok bool) {
	packed, err := deflateWithin(d.options.Codec, newBuffer(len(payload)), payload, dict, 1<<d.terms.sends.bits)
	if err != nil || len(packed) >= len(payload) {
		PutBuffer(packed)
		return nil, false
	}
	return packed, true
}

// packedHead returns the header of a message that pack has compressed.
func packedHead(opcode Opcode, packed []byte) header {
	h := finished(opcode, len(packed))
	h.first |= bitRsv1 // RFC 7692, section 6
	return h
}

// unpack makes a message what it was before it was compressed, if it was.
func (d *deflation) unpack(ev *event) *protocolError {
	if ev.kind != eventMessage || ev.head.rsv()&bitRsv1 == 0 {
		return nil
	}
	dict := d.received.appendTo(newBuffer(len(d.received.ring)))
	plain, err := d.options.Codec.Inflate(nil, ev.payload, dict, d.options.limit)
	PutBuffer(dict)
	PutBuffer(ev.payload)
	switch {
	case errors.Is(err, ErrMessageTooLarge), err == nil && len(plain) > d.options.limit:
		return errMessageTooLarge
	case err != nil:
		return errNotDeflate
	case ev.head.opcode() == OpcodeText && !utf8.Valid(plain):
		return errNotUTF8
	}
	d.received.add(plain)
	ev.head.first &^= bitRsv1
	ev.setMessage(ev.head, plain)
	return nil
}
