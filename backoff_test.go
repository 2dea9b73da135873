package websocket

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// refusedWith is a refusal of an opening handshake.
func refusedWith(status int, fields ...string) error {
	header := make(http.Header)
	for i := 0; i < len(fields); i += 2 {
		header.Set(fields[i], fields[i+1])
	}
	return fmt.Errorf("wrapped: %w", &HandshakeError{Status: status, Header: header})
}

func closedWith(code CloseCode) error {
	return &LostError{Unsent: 1, Err: &CloseError{Code: code}}
}

func TestBackoff(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	almost := func(n time.Duration) time.Duration { return n - 1 }
	zero := func(time.Duration) time.Duration { return 0 }
	second := time.Second

	// Each row is a cause and the wait after it, with the shortest and the longest that chance gives.
	type step struct {
		cause       error
		least, most time.Duration
	}
	for name, row := range map[string]struct {
		reconnect Reconnect
		steps     []step
	}{
		"the defaults are 500 ms and 30 s, and the window doubles": {Reconnect{}, []step{
			{io.EOF, 0, second / 2}, {io.EOF, 0, second}, {io.EOF, 0, 2 * second}, {io.EOF, 0, 4 * second}, {io.EOF, 0, 8 * second},
			{io.EOF, 0, 16 * second}, {io.EOF, 0, 30 * second}, {io.EOF, 0, 30 * second},
		}},
		"a Max below Min is Min": {Reconnect{Min: 5 * second, Max: second}, []step{{io.EOF, 0, 5 * second}, {io.EOF, 0, 5 * second}}},
		"going away spreads over Max, and so do the tries that follow": {Reconnect{}, []step{
			{closedWith(StatusGone), 0, 30 * second}, {io.EOF, 0, 30 * second},
		}},
		"so does a restart":                      {Reconnect{Max: 10 * second}, []step{{closedWith(1012), 0, 10 * second}}},
		"try again later waits longer than that": {Reconnect{}, []step{{closedWith(1013), 30 * second, 60 * second}, {io.EOF, 0, 30 * second}}},
		"Retry-After comes first, in seconds": {Reconnect{}, []step{
			{refusedWith(503, "Retry-After", "10"), 10 * second, 10*second + second/2},
			{refusedWith(429, "Retry-After", " 3 "), 3 * second, 4 * second},
			{refusedWith(503), 0, 2 * second},
		}},
		"and as a date, by the server's clock": {Reconnect{}, []step{
			{refusedWith(503, "Retry-After", at.Add(time.Minute).Format(http.TimeFormat)), time.Minute, time.Minute + second/2},
			{refusedWith(503, "Date", "Tue, 01 Jan 2030 00:00:00 GMT", "Retry-After", "Tue, 01 Jan 2030 00:00:07 GMT"), 7 * second, 8 * second},
			{refusedWith(503, "Retry-After", at.Add(-time.Minute).Format(http.TimeFormat)), 0, 2 * second},
		}},
		"also that of a proxy": {Reconnect{}, []step{
			{&ProxyError{Status: 503, Header: http.Header{"Retry-After": {"9"}}}, 9 * second, 9*second + second/2},
		}},
		"for an hour at most": {Reconnect{}, []step{
			{refusedWith(503, "Retry-After", "3600"), time.Hour, time.Hour + second/2},
			{refusedWith(503, "Retry-After", "3601"), time.Hour, time.Hour + second},
			{refusedWith(503, "Retry-After", "99999999999999999999999"), time.Hour, time.Hour + 2*second},
			{refusedWith(503, "Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"), time.Hour, time.Hour + 4*second},
		}},
		"one that is neither is nothing": {Reconnect{}, []step{
			{refusedWith(503, "Retry-After", "-1"), 0, second / 2}, {refusedWith(503, "Retry-After", "soon"), 0, second},
			{refusedWith(503, "Retry-After", "1.5"), 0, 2 * second}, {refusedWith(503, "Retry-After", ""), 0, 4 * second},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			short, long := newBackoff(&row.reconnect), newBackoff(&row.reconnect)
			for _, step := range row.steps {
				wait, ok := short.next(step.cause, at, zero)
				require.True(t, ok)
				assert.Equal(t, step.least, wait)
				wait, ok = long.next(step.cause, at, almost)
				require.True(t, ok)
				assert.Equal(t, step.most-1, wait)
			}
		})
	}
	t.Run("it starts anew once a connection has lasted for Max, and not before", func(t *testing.T) {
		b := newBackoff(&Reconnect{})
		for range 3 {
			b.next(io.EOF, at, almost)
		}
		b.opened()
		b.lasted(30*second - 1)
		wait, _ := b.next(io.EOF, at, almost)
		assert.Equal(t, 4*second-1, wait)
		b.opened()
		b.lasted(30 * second)
		wait, _ = b.next(io.EOF, at, almost)
		assert.Equal(t, second/2-1, wait)
	})
	t.Run("so many tries in a row may fail", func(t *testing.T) {
		b := newBackoff(&Reconnect{Attempts: 3})
		for range 2 {
			for range 3 {
				_, ok := b.next(io.EOF, at, zero)
				assert.True(t, ok)
			}
			_, ok := b.next(io.EOF, at, zero)
			assert.False(t, ok)
			b.opened()
		}
	})
}

func TestIsFinal(t *testing.T) {
	for _, row := range []struct {
		cause error
		final bool
	}{
		{refusedWith(200), true},
		{refusedWith(302), true},
		{refusedWith(400), true},
		{refusedWith(401), true},
		{refusedWith(403), true},
		{refusedWith(404), true},
		{refusedWith(408), false},
		{refusedWith(410), true},
		{refusedWith(421), true},
		{refusedWith(425), false},
		{refusedWith(429), false},
		{refusedWith(499), true},
		{refusedWith(500), false},
		{refusedWith(502), false},
		{refusedWith(503), false},
		{refusedWith(504), false},
		{fmt.Errorf("wrapped: %w", &ProxyError{Status: 407}), true},
		{fmt.Errorf("wrapped: %w", &ProxyError{Status: 502}), false},
		{closedWith(0), false},
		{closedWith(1000), true},
		{closedWith(1001), false},
		{closedWith(1002), true},
		{closedWith(1003), true},
		{closedWith(1007), true},
		{closedWith(1008), true},
		{&CloseError{Code: 1008, Reason: silentReason}, false},
		{closedWith(1009), true},
		{closedWith(1010), true},
		{closedWith(1011), false},
		{closedWith(1012), false},
		{closedWith(1013), false},
		{closedWith(1014), false},
		{closedWith(3000), true},
		{closedWith(3003), true},
		{closedWith(3008), false},
		{closedWith(4000), false},
		{fmt.Errorf("x: %w", &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), true},
		{fmt.Errorf("x: %w", tls.RecordHeaderError{Msg: "no TLS"}), true},
		{fmt.Errorf("x: %w", errEndpoint), true},
		{fmt.Errorf("x: %w", ErrInvalidHeaderUpgrade), true},
		{fmt.Errorf("x: %w", ErrInvalidHeaderConn), true},
		{fmt.Errorf("x: %w", ErrInvalidHeaderWSExtensions), true},
		{fmt.Errorf("x: %w", ErrInvalidHeaderWSProtocol), true},
		{errSilent, false},
		{ErrWriteTimeout, false},
		{io.ErrUnexpectedEOF, false},
		{errors.New("connection refused"), false},
		{nil, false},
	} {
		assert.Equal(t, row.final, isFinal(row.cause), "%v", row.cause)
	}
}

func TestJitter(t *testing.T) {
	low, high := 0, 0
	for range 1000 {
		d := jitter(time.Second)
		require.True(t, 0 <= d && d < time.Second)
		if d < time.Second/10 {
			low++
		} else if d >= time.Second*9/10 {
			high++
		}
	}
	assert.Greater(t, low, 30)
	assert.Greater(t, high, 30)
	assert.Zero(t, jitter(0))
	assert.Zero(t, jitter(1))
}

// herd is many clients and a server that is away for a time, in virtual time: who has connected in each second, and who has tried.
type herd struct {
	connected, tried []int // by the second
}

// newHerd simulates clients. lost says when each loses its connection, and why; a try before the server is back ends with the error of refuse.
func newHerd(n int, r *Reconnect, lost func(i int) (time.Duration, error), refuse func(at time.Duration) error) (h herd) {
	chance := rand.New(rand.NewPCG(1, 2))
	random := func(n time.Duration) time.Duration { return time.Duration(chance.Int64N(int64(n))) }
	count := func(seconds *[]int, at time.Duration) {
		second := int(at / time.Second)
		*seconds = append(*seconds, make([]int, max(0, second+1-len(*seconds)))...)
		(*seconds)[second]++
	}
	for i := range n {
		b := newBackoff(r)
		at, cause := lost(i)
		for cause != nil {
			wait, ok := b.next(cause, time.Time{}, random)
			if !ok {
				panic("given up")
			}
			at += wait
			count(&h.tried, at)
			cause = refuse(at)
		}
		count(&h.connected, at)
	}
	return h
}

// The arithmetic in the documentation of Reconnect.
func TestBackoffHerd(t *testing.T) {
	const n = 10_000
	gone := &CloseError{Code: StatusGone}
	for name, row := range map[string]struct {
		reconnect Reconnect
		lost      func(i int) (time.Duration, error)
		refuse    func(at time.Duration) error
		tries     int // in a second
		back      time.Duration
	}{
		"a paced Shutdown of 20 s whose server refuses meanwhile, and the next at once": {
			lost: func(i int) (time.Duration, error) { return time.Duration(i) * 2 * time.Millisecond, gone },
			refuse: func(at time.Duration) error {
				if at < 20*time.Second {
					return refusedWith(503, "Retry-After", "10")
				}
				return nil
			},
			tries: 500, back: 61 * time.Second,
		},
		"a Stop, and the next server 2 s later": {
			lost: func(int) (time.Duration, error) { return 0, gone },
			refuse: func(at time.Duration) error {
				if at < 2*time.Second {
					return io.EOF
				}
				return nil
			},
			tries: n/30 + n/30/4, back: 33 * time.Second,
		},
		"a server that dies, and the next 10 s later, with Min of 10 s": {
			reconnect: Reconnect{Min: 10 * time.Second},
			lost:      func(int) (time.Duration, error) { return 0, io.EOF },
			refuse: func(at time.Duration) error {
				if at < 10*time.Second {
					return io.EOF
				}
				return nil
			},
			tries: n / 10 * 165 / 100 * 11 / 10, back: 40 * time.Second, // the root of e is 1.65
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHerd(n, &row.reconnect, row.lost, row.refuse)
			t.Logf("connected in each second: %v", h.connected)
			t.Logf("tried in each second: %v", h.tried)
			assert.LessOrEqual(t, slices.Max(h.tried), row.tries)
			assert.LessOrEqual(t, time.Duration(len(h.connected))*time.Second, row.back+time.Second)
		})
	}
}
