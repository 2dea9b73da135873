package websocket

import "slices"

// Sizes of a window, which is what a back reference may reach: 2 to the power of 8 to 15 bytes (RFC 7692, section 7.1.2).
const (
	minWindow     = 256
	maxWindow     = 32 << 10
	defaultWindow = 4 << 10
)

// history is the last bytes of what was sent in one direction, for context takeover (RFC 7692, section 7.1.1). It grows with what it is
// given, up to its size. The zero value keeps nothing.
type history struct {
	ring []byte
	at   uint16 // where the oldest byte is, and the next one goes once the ring is full
	size uint16 // at most maxWindow
}

// newHistory returns one of a size that Compression.Window may have.
func newHistory(size int) history { return history{size: uint16(max(size, 0))} }

// add adds what was sent, whose last bytes push out the oldest ones.
func (h *history) add(payload []byte) {
	if h.size == 0 {
		return
	}
	payload = lastBytes(payload, int(h.size))
	if room := min(int(h.size)-len(h.ring), len(payload)); room > 0 {
		h.grow(len(h.ring) + room)
		h.ring = append(h.ring, payload[:room]...)
		payload = payload[room:]
	}
	wrapped := payload[copy(h.ring[h.at:], payload):]
	copy(h.ring, wrapped)
	h.at = uint16((int(h.at) + len(payload)) % int(h.size))
}

// forget makes it empty.
func (h *history) forget() {
	if h.size > 0 { // else many connections share it
		h.ring, h.at = h.ring[:0], 0
	}
}

// grow makes room for n bytes, by powers of two: those are what the allocator has without a remainder.
func (h *history) grow(n int) {
	if n <= cap(h.ring) {
		return
	}
	room := minWindow
	for room < n {
		room *= 2
	}
	ring := make([]byte, len(h.ring), min(room, int(h.size)))
	copy(ring, h.ring)
	h.ring = ring
}

// appendTo appends what it keeps, the oldest byte first.
func (h *history) appendTo(dst []byte) []byte {
	dst = slices.Grow(dst, len(h.ring))
	dst = append(dst, h.ring[h.at:]...)
	return append(dst, h.ring[:h.at]...)
}

// lastBytes returns the last n bytes of b, or all if there are no more.
func lastBytes(b []byte, n int) []byte { return b[max(len(b)-n, 0):] }
