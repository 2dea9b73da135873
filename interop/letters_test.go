package interop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// letterSizes are the sizes of messages that the public conformance suite has in its section 12.
var letterSizes = []int{16, 64, 256, 1 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10}

const (
	// manyLetters is how many messages there are of a size, and a batch of the longer ones has no more than batchBytes. With
	// INTEROP_LONG=1 there are that many of all sizes, as the suite has it.
	manyLetters = 1000
	batchBytes  = 64 << 10

	// inFlight is how many bytes of messages are sent before they came back.
	inFlight = 64 << 10
)

// long reports whether the tests of compression are to be complete, which takes long. If not, they try less of what differs little.
func long() bool { return os.Getenv("INTEROP_LONG") == "1" }

// letter is a message.
type letter struct {
	kind    kind
	payload []byte
}

// contents are what messages are cut from.
var contents = sync.OnceValue(func() map[string]letter {
	const size = 256 << 10
	random := rand.New(rand.NewChaCha8([32]byte{'c'}))
	noise := make([]byte, size)
	rand.NewChaCha8([32]byte{'n'}).Read(noise)
	var records, prose bytes.Buffer
	words := []string{"tür", "öffnen", "и", "слово", "世界", "😀", "straße", "größer", "the", "wood", "beyond", "a", "world"}
	for i := 0; records.Len() < size || prose.Len() < size; i++ {
		fmt.Fprintf(&records, `{"id":%d,"symbol":"S%02d","price":%.2f,"size":%d,"side":%q,"time":"2026-01-01T00:00:%02d.%06dZ"},`+"\n",
			i, random.IntN(40), 100*random.Float64(), random.IntN(900), []string{"buy", "sell"}[i&1], i%60, random.IntN(1e6))
		fmt.Fprintf(&prose, "%s %s, ", words[random.IntN(len(words))], words[random.IntN(len(words))])
	}
	return map[string]letter{
		"JSON":   {text, records.Bytes()},
		"random": {binary, noise},
		"zeros":  {binary, make([]byte, size)},
		"prose":  {text, prose.Bytes()},
	}
})

// cut returns the nth message of about that size: the messages follow each other in the content, which repeats. Text is cut
// between characters.
func (l letter) cut(size, n int) letter {
	begin := n * size % (len(l.payload) - size)
	payload := l.payload[begin:][:size]
	if l.kind == text {
		for !utf8.RuneStart(payload[0]) {
			payload = payload[1:]
		}
		for end := len(payload) - 1; end >= len(payload)-utf8.UTFMax && end > 0; end-- {
			if utf8.RuneStart(payload[end]) {
				if !utf8.FullRune(payload[end:]) {
					payload = payload[:end]
				}
				break
			}
		}
	}
	return letter{l.kind, payload}
}

// mixed returns the nth message of a size, from each content in turn.
func mixed(size, n int) letter {
	return contents()[[]string{"JSON", "random", "prose", "zeros"}[n%4]].cut(size, n)
}

// count is how many messages of a size to send.
func count(size int) int {
	if long() {
		return manyLetters
	}
	return min(manyLetters, max(4, batchBytes/size))
}

// correspond sends messages and expects them back.
func correspond(t *testing.T, c conn, letters int, write func(n int) letter, send func(letter) error) {
	t.Helper()
	flight := max(1, inFlight/len(write(0).payload))
	room := make(chan struct{}, min(flight, inboxSize/2))
	failed := make(chan error, 1)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for n := range letters {
			select {
			case room <- struct{}{}:
			case <-stop:
				return
			}
			if err := send(write(n)); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	for n := range letters {
		l := write(n)
		if got := next(t, c); got.kind != l.kind || !bytes.Equal(got.payload, l.payload) {
			require.FailNowf(t, "another message came back", "message %d: got  %v\nwant %v", n, got, event{kind: l.kind, payload: l.payload})
		}
		<-room
	}
	require.NoError(t, within(t, failed))
}
