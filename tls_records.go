package websocket

// Sizes of TLS records in bytes (RFC 8446, section 5.1): of a header, of the plain text that one carries at most, and of what may be
// behind a header: encryption may add up to 2 KiB (RFC 5246, section 6.2.3).
const (
	recordHeader   = 5
	maxRecordPlain = 16 << 10
	maxRecordBody  = maxRecordPlain + 2<<10
)

// Types of records, as far as they matter here.
const (
	recordLeast       = 20 // change_cipher_spec
	recordAlert       = 21
	recordHandshake   = 22
	recordApplication = 23
)

// maxHelloRecord is the size of the records in which crypto/tls gets a ClientHello: it keeps a buffer of the size of the first record
// for as long as the connection lives.
const maxHelloRecord = 550

// parseRecord returns the size of the record at the front of b, with its header; 0 if the header has not arrived. ok is false if it is no
// record's header.
func parseRecord(b []byte) (size int, ok bool) {
	if len(b) < recordHeader {
		return 0, true
	}
	body := int(b[3])<<8 | int(b[4])
	return recordHeader + body, b[0] >= recordLeast && b[0] <= recordApplication && body <= maxRecordBody
}

// wholeRecords returns how many bytes at the front of b are whole records. From one with a wrong header on all is whole: crypto/tls is to
// see it, and answers with the alert that belongs to it.
func wholeRecords(b []byte) (n int) {
	for n < len(b) {
		size, ok := parseRecord(b[n:])
		switch {
		case !ok:
			return len(b)
		case size == 0 || size > len(b)-n:
			return n
		}
		n += size
	}
	return n
}

// appendHello appends whole records, with the plain handshake records in front in pieces of at most maxHelloRecord bytes, all of one size
// and a power of two of them: crypto/tls puts them together again in a buffer that doubles. The headers of records are in no transcript, and
// a message may be in many (RFC 8446, section 5.1).
func appendHello(dst, records []byte) []byte {
	for len(records) > 0 && records[0] == recordHandshake {
		size, ok := parseRecord(records)
		if !ok || size == 0 || size > len(records) {
			break
		}
		dst = appendPieces(dst, records[:recordHeader], records[recordHeader:size])
		records = records[size:]
	}
	return append(dst, records...)
}

// appendPieces appends the body of a record as records of its own.
func appendPieces(dst, header, body []byte) []byte {
	piece := len(body)
	for n := 2; piece > maxHelloRecord; n *= 2 {
		piece = (len(body) + n - 1) / n
	}
	for {
		part := body[:min(len(body), piece)]
		dst = append(dst, header[0], header[1], header[2], byte(len(part)>>8), byte(len(part)))
		dst = append(dst, part...)
		if body = body[len(part):]; len(body) == 0 {
			return dst
		}
	}
}

// beginsPlain reports whether a client begins with a request in plain text.
func beginsPlain(b []byte) bool { return len(b) > 0 && b[0] >= 'A' && b[0] <= 'Z' }

// appendAlert appends a fatal alert in plain text, which a client understands that has begun no handshake, or is about to (RFC 8446,
// section 6.2).
func appendAlert(dst []byte, alert byte) []byte {
	const fatal = 2
	return append(dst, recordAlert, 3, 1, 0, 2, fatal, alert)
}

// alertInternal is why a server has no handshake with anybody now.
const alertInternal = 80
