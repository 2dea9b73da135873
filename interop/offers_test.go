package interop

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// validOffers returns every combination of the four parameters.
func validOffers() (offers []string) {
	windows := func(name string, bare bool) []string {
		values := []string{""}
		if bare {
			values = append(values, "; "+name)
		}
		for bits := 8; bits <= 15; bits++ {
			values = append(values, fmt.Sprintf("; %s=%d", name, bits))
		}
		return values
	}
	for _, serverForgets := range []string{"", "; " + serverNoTakeover} {
		for _, clientForgets := range []string{"", "; " + clientNoTakeover} {
			for _, serverBits := range windows(serverWindowBits, false) {
				for _, clientBits := range windows(clientWindowBits, true) {
					offers = append(offers, deflateName+clientBits+serverForgets+serverBits+clientForgets)
				}
			}
		}
	}
	return offers
}

// invalidOffers are declined, or passed over for a later one (RFC 7692, section 7.1).
var invalidOffers = []string{
	"permessage-deflate; server_max_window_bits",
	"permessage-deflate; server_max_window_bits=7",
	"permessage-deflate; server_max_window_bits=16",
	"permessage-deflate; server_max_window_bits=09",
	"permessage-deflate; client_max_window_bits=0",
	"permessage-deflate; client_max_window_bits=x",
	"permessage-deflate; server_no_context_takeover=1",
	"permessage-deflate; client_no_context_takeover; client_no_context_takeover",
	"permessage-deflate; unknown",
	"x-webkit-deflate-frame",
	"permessage-bzip2",
}

// answerTo returns the extensions that a server answers an offer with.
func answerTo(t *testing.T, address, offer string) (answer string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(deadline)))
	_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s: %s\r\n\r\n", extensionsField, offer)
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	assert.Equal(t, http.StatusSwitchingProtocols, response.StatusCode, offer)
	return response.Header.Get(extensionsField)
}

func TestOffers(t *testing.T) {
	for _, s := range settings {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			url, _ := s.serve(t)
			for _, offer := range validOffers() {
				answer := answerTo(t, host(url), offer)
				a, err := agree(offer, answer)
				assert.NoError(t, err)
				assert.Truef(t, a.compressed, "%q is accepted", offer)
				if a.client.takeover {
					assert.LessOrEqualf(t, 1<<a.client.bits, s.kept(), "%q to %q: the client's window, and what our side keeps", answer, offer)
				}
				if !s.takesDict() || s.kept() == 0 {
					assert.Falsef(t, a.server.takeover, "%q to %q: our side has no context", answer, offer)
				}
			}
			for _, offer := range invalidOffers {
				assert.Emptyf(t, answerTo(t, host(url), offer), "answer to %q", offer)
				const good = "permessage-deflate; server_no_context_takeover"
				_, err := agree(good, answerTo(t, host(url), offer+", "+good))
				assert.NoErrorf(t, err, "a good offer behind %q", offer)
			}
		})
	}
}
