package websocket

import (
	"compress/flate"
	"errors"
	"fmt"
	"io"
)

// deflateEnd follows a message when it is inflated: its tail, and one more empty block that says of itself that it is the last.
const deflateEnd = deflateTail + "\x01\x00\x00\xff\xff"

const (
	// shortMessage is how many bytes, compressed or not, any number of messages may have that are inflated at the same time.
	shortMessage = 64 << 10

	// bombRatio is how many times its compressed bytes a message may need in memory before it is known that it is not too large.
	bombRatio = 8

	// freeFinals is how many blocks with BFINAL set a message may have, beside one for each KiB of it: each makes the window be
	// copied, and needs only two bytes.
	freeFinals = 256
)

var errTooManyFinals = errors.New("too many final blocks")

func (c *standardCodec) Inflate(dst, compressed, dict []byte, limit int) ([]byte, error) {
	if len(compressed) == 0 {
		return dst, nil // what zlib makes of an empty message after another one, less the tail that it has written before
	}
	if len(compressed) <= shortMessage {
		out, err := c.inflateShort(dst, compressed, dict, limit)
		if err != errLongMessage {
			return out, err
		}
	}
	c.long <- struct{}{}
	defer func() { <-c.long }()
	f := c.inflaters.Get().(*inflater)
	defer c.put(f)
	f.begin(compressed, dict)
	return f.long(dst, limit)
}

// put gives an inflater back, without what it was given.
func (c *standardCodec) put(f *inflater) {
	f.source, f.dict = deflateSource{}, nil
	c.inflaters.Put(f)
}

// errLongMessage tells of a message that is not short.
var errLongMessage = errors.New("websocket: message is long")

func (c *standardCodec) inflateShort(dst, compressed, dict []byte, limit int) ([]byte, error) {
	f := c.inflaters.Get().(*inflater)
	defer c.put(f)
	f.begin(compressed, dict)
	out, err := f.fill(f.scratch[:0], min(limit, shortMessage))
	switch {
	case err == io.EOF:
		if cap(dst) == 0 {
			dst = newBuffer(len(out))
		}
		return append(dst, out...), nil
	case err == ErrMessageTooLarge && limit > shortMessage:
		return dst, errLongMessage
	}
	return dst, err
}

// inflater inflates one message.
type inflater struct {
	source  deflateSource
	reader  io.Reader // of compress/flate
	dict    []byte
	finals  int    // blocks with BFINAL set
	scratch []byte // has room for a short message and one byte
}

func newInflater() *inflater {
	f := &inflater{scratch: make([]byte, 0, shortMessage+1)}
	f.reader = flate.NewReader(&f.source)
	return f
}

// begin prepares for a message, and forgets the one before.
func (f *inflater) begin(compressed, dict []byte) {
	f.source = deflateSource{message: compressed}
	f.dict, f.finals = dict, 0
	f.restart(dict)
}

// restart has the next bytes be the beginning of DEFLATE data.
func (f *inflater) restart(dict []byte) {
	_ = f.reader.(flate.Resetter).Reset(&f.source, dict) // it never fails
}

// more inflates into the room behind out. Of what was inflated so far out has all, or the last 32 KiB at least. The error is io.EOF
// at the end of the message.
func (f *inflater) more(out []byte) ([]byte, error) {
	n, err := f.reader.Read(out[len(out):cap(out)])
	out = out[:len(out)+n]
	switch {
	case err == nil:
		return out, nil
	case err != io.EOF:
		return out, invalidDeflate(err)
	case f.source.ended():
		return out, io.EOF
	}
	// That was a block with BFINAL set, and others follow (RFC 7692, section 7.2.3.4).
	f.finals++
	if f.finals > freeFinals+f.source.taken>>10 {
		return out, invalidDeflate(errTooManyFinals)
	}
	before := out
	if len(out) < maxWindow && len(f.dict) > 0 {
		before = append(append([]byte(nil), lastBytes(f.dict, maxWindow-len(out))...), out...)
	}
	f.restart(lastBytes(before, maxWindow))
	return out, nil
}

// fill inflates into the room that out has, at most limit bytes in all. The error is io.EOF at the end of the message, nil if there
// is no room left.
func (f *inflater) fill(out []byte, limit int) ([]byte, error) {
	limit = max(limit, 0)
	if cap(out) > limit {
		out = out[: len(out) : limit+1] // a byte that tells that there is more
	}
	var err error
	for err == nil && len(out) < cap(out) {
		out, err = f.more(out)
	}
	if len(out) > limit {
		return out, ErrMessageTooLarge
	}
	return out, err
}

func invalidDeflate(err error) error {
	if err == io.ErrUnexpectedEOF {
		err = errors.New("incomplete")
	}
	return fmt.Errorf("websocket: compressed message is invalid (RFC 7692, section 7.2.2): %w", err)
}

// long is fill for a message that may need more than the scratch. It takes memory as that turns out to be needed, up to a few times what
// it was sent; a message that would need more is first inflated into nothing, to learn its size.
func (f *inflater) long(dst []byte, limit int) ([]byte, error) {
	var grown []byte
	out, err := f.fill(f.scratch[:0], limit)
	for err == nil {
		if len(out)/bombRatio > f.source.taken {
			size, err := f.count(out, limit)
			PutBuffer(grown)
			if err != nil {
				return dst, err
			}
			return f.exact(dst, size)
		}
		larger := append(newBuffer(f.guess(len(out), limit)), out...)
		PutBuffer(grown)
		grown = larger
		out, err = f.fill(grown, limit)
	}
	if err == io.EOF && grown != nil && cap(dst) == 0 {
		return out, nil
	}
	if err == io.EOF {
		dst, err = append(dst, out...), nil
	}
	PutBuffer(grown)
	return dst, err
}

// guess returns the size of a buffer for the whole message, as its beginning of size bytes was compressed.
func (f *inflater) guess(size, limit int) int {
	rest := max(len(f.source.message)-f.source.taken, 0)
	whole := float64(size) + float64(rest)*float64(size)/float64(f.source.taken)
	return int(min(max(whole*17/16, float64(size)*5/4), float64(limit)+1))
}

// count inflates the rest of a message into nothing, and returns the size of the whole.
func (f *inflater) count(out []byte, limit int) (size int, err error) {
	size = len(out)
	out = append(f.scratch[:0], lastBytes(out, maxWindow)...)
	for err == nil && size <= limit {
		if len(out) == cap(out) {
			out = append(out[:0], lastBytes(out, maxWindow)...)
		}
		before := len(out)
		out, err = f.more(out)
		size += len(out) - before
	}
	switch {
	case size > limit:
		return size, ErrMessageTooLarge
	case err != io.EOF:
		return size, err
	}
	return size, nil
}

// exact inflates the message, of which it is known that it has size bytes, from its beginning.
func (f *inflater) exact(dst []byte, size int) (_ []byte, err error) {
	f.begin(f.source.message, f.dict)
	before := len(dst)
	if cap(dst)-before < size {
		dst = append(make([]byte, 0, before+size), dst...)
	}
	out := dst[before : before : before+size]
	for err == nil && len(out) < size {
		out, err = f.more(out)
	}
	if err != nil && err != io.EOF {
		return dst, err
	}
	return dst[:before+len(out)], nil
}

// deflateSource is what compress/flate reads: a message and deflateEnd behind it. As an io.ByteReader it is not read ahead of what is
// used.
type deflateSource struct {
	message []byte
	taken   int
}

func (s *deflateSource) ReadByte() (b byte, err error) {
	end := s.taken - len(s.message)
	switch {
	case end < 0:
		b = s.message[s.taken]
	case end < len(deflateEnd):
		b = deflateEnd[end]
	default:
		return 0, io.EOF
	}
	s.taken++
	return b, nil
}

func (s *deflateSource) Read(p []byte) (n int, err error) {
	if s.taken < len(s.message) {
		n = copy(p, s.message[s.taken:])
	} else if n = copy(p, deflateEnd[s.taken-len(s.message):]); n == 0 {
		return 0, io.EOF
	}
	s.taken += n
	return n, nil
}

// ended tells whether a block with BFINAL set was the last of the message: that of deflateEnd, or one that the message itself ends
// with.
func (s *deflateSource) ended() bool {
	return s.taken == len(s.message) || s.taken == len(s.message)+len(deflateEnd)
}
