package websocket

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// defaultMinWait and defaultMaxWait are the defaults of Reconnect.Min and Reconnect.Max.
	defaultMinWait = 500 * time.Millisecond
	defaultMaxWait = 30 * time.Second

	// maxRetryAfter is the longest wait that a server may ask for.
	maxRetryAfter = time.Hour
)

// backoff says when a client tries to connect again. It knows no clock and no dice.
type backoff struct {
	// Immutable.
	min, max time.Duration
	attempts int // 0: for ever

	failed int           // tries since the last connection
	window time.Duration // the next wait is anywhere in it; 0: min
}

// newBackoff returns what a program asks for.
func newBackoff(r *Reconnect) backoff {
	least := min(orDefault(r.Min, defaultMinWait), maxTimeout)
	return backoff{min: least, max: max(least, min(orDefault(r.Max, defaultMaxWait), maxTimeout)), attempts: r.Attempts}
}

// opened is told that a try has succeeded.
func (b *backoff) opened() { b.failed = 0 }

// lasted is told how long a connection has lasted. After a short one the waits go on growing: a server that lets a client in and throws
// it out again is not asked more often than one that refuses it.
func (b *backoff) lasted(d time.Duration) {
	if d >= b.max {
		b.window = 0
	}
}

// next returns how long to wait before the next try. cause is why the connection, or the last try, has ended. ok is false if there is to
// be no further try. random returns a duration from zero up to, but not including, its argument.
func (b *backoff) next(cause error, at time.Time, random func(time.Duration) time.Duration) (wait time.Duration, ok bool) {
	if isFinal(cause) || b.attempts > 0 && b.failed >= b.attempts {
		return 0, false
	}
	b.failed++
	b.window = max(b.window, b.min)
	least := time.Duration(0)
	refused := refusalIn(cause)
	var closed *CloseError
	switch {
	case refused != nil:
		least = retryAfter(refused.Header, at)
	case !errors.As(cause, &closed):
	case closed.Code == StatusGone || closed.Code == statusServiceRestart: // all clients are told to go
		b.window = b.max
	case closed.Code == statusTryAgainLater:
		b.window, least = b.max, b.max
	}
	wait = least + random(b.window)
	b.window = min(2*b.window, b.max)
	return wait, true
}

// Close codes that are registered besides those of RFC 6455, and say when to come again.
const (
	statusServiceRestart CloseCode = 1012
	statusTryAgainLater  CloseCode = 1013
	statusUnauthorized   CloseCode = 3000
	statusNotAllowed     CloseCode = 3003
)

// isFinal reports whether another try would end as the last one did: the rule is in the documentation of Reconnect.
func isFinal(cause error) bool {
	refused := refusalIn(cause)
	var closed *CloseError
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	switch {
	case refused != nil:
		return isFinalStatus(refused.Status)
	case errors.As(cause, &closed):
		return isFinalClose(closed)
	case errors.As(cause, &certificate), errors.As(cause, &noTLS):
		return true
	}
	for _, wrong := range []error{
		errEndpoint,
		ErrInvalidHeaderUpgrade, ErrInvalidHeaderConn, ErrInvalidHeaderWSExtensions, ErrInvalidHeaderWSProtocol,
	} {
		if errors.Is(cause, wrong) {
			return true
		}
	}
	return false
}

// refusalIn returns the answer of a server, or of a proxy, in an error. It is nil if there is none.
func refusalIn(cause error) *HandshakeError {
	var ofServer *HandshakeError
	var ofProxy *ProxyError
	if errors.As(cause, &ofServer) {
		return ofServer
	}
	errors.As(cause, &ofProxy)
	return (*HandshakeError)(ofProxy)
}

func isFinalStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status < 500
}

func isFinalClose(closed *CloseError) bool {
	switch closed.Code {
	case StatusForbidden:
		return closed.Reason != silentReason // this client has slept, or its network was gone
	case StatusNormal, StatusBadRequest, StatusUnsupportedType, StatusInvalidData, StatusRequestEntityTooLarge, StatusBadGateway,
		statusUnauthorized, statusNotAllowed:
		return true
	}
	return false
}

// retryAfter returns how long a server wants to be left alone, maxRetryAfter at most: in seconds, or until a date (RFC 9110, section
// 10.2.3). A date is compared with that of the server, if it says one, and with ours if it does not.
func retryAfter(header http.Header, at time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseUint(value, 10, 64)
		if err != nil || seconds > uint64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(header.Get("Date")); err == nil {
		at = date
	}
	return min(max(until.Sub(at), 0), maxRetryAfter)
}

// jitter returns a random duration from zero up to, but not including, n.
func jitter(n time.Duration) time.Duration {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(max(n, 1)))
}
