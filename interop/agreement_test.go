package interop

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The names of RFC 7692, section 7.1.
const (
	deflateName      = "permessage-deflate"
	serverNoTakeover = "server_no_context_takeover"
	clientNoTakeover = "client_no_context_takeover"
	serverWindowBits = "server_max_window_bits"
	clientWindowBits = "client_max_window_bits"
)

// agreement is what a client and a server have agreed on.
type agreement struct {
	compressed     bool
	server, client direction
}

// direction is how a side may compress.
type direction struct {
	takeover bool
	bits     int // of the window
}

// inflater returns one for a direction, nil without compression.
func (a agreement) inflater(of direction) *inflater {
	if !a.compressed {
		return nil
	}
	return &inflater{window: 1 << of.bits, takeover: of.takeover}
}

// agree returns what an answer to offers means. It is an error if the answer must not be given to any of the offers.
func agree(offers, answer string) (a agreement, err error) {
	if answer == "" {
		return agreement{}, nil
	}
	given, err := parseExtension(answer)
	if err != nil {
		return agreement{}, err
	}
	a = agreement{
		compressed: true,
		server:     direction{takeover: !given.has(serverNoTakeover), bits: given.bits(serverWindowBits)},
		client:     direction{takeover: !given.has(clientNoTakeover), bits: given.bits(clientWindowBits)},
	}
	if value, ok := given[clientWindowBits]; ok && value == "" {
		return a, errors.New("no value for " + clientWindowBits)
	}
	var reasons []error
	for offer := range strings.SplitSeq(offers, ",") {
		offered, err := parseExtension(offer)
		if err == nil {
			err = answers(offered, given)
		}
		if err == nil {
			return a, nil
		}
		reasons = append(reasons, err)
	}
	return a, fmt.Errorf("%q is no answer to %q: %w", answer, offers, errors.Join(reasons...))
}

// answers checks an answer against an offer.
func answers(offered, given extension) error {
	if offered.has(serverNoTakeover) && !given.has(serverNoTakeover) {
		return errors.New("without " + serverNoTakeover + " (RFC 7692, section 7.1.1.1)")
	}
	if offered.has(serverWindowBits) && (!given.has(serverWindowBits) || given.bits(serverWindowBits) > offered.bits(serverWindowBits)) {
		return errors.New("without or with more of " + serverWindowBits + " (RFC 7692, section 7.1.2.1)")
	}
	if given.has(clientWindowBits) && (!offered.has(clientWindowBits) || given.bits(clientWindowBits) > offered.bits(clientWindowBits)) {
		return errors.New("with " + clientWindowBits + " that was not offered, or more (RFC 7692, section 7.1.2.2)")
	}
	return nil
}

// extension is an element of Sec-WebSocket-Extensions for permessage-deflate: values by the names of parameters.
type extension map[string]string

func (e extension) has(name string) bool {
	_, ok := e[name]
	return ok
}

// bits returns the size of a window: the largest, unless there is a value.
func (e extension) bits(name string) int {
	if bits, err := strconv.Atoi(e[name]); err == nil {
		return bits
	}
	return 15
}

func parseExtension(s string) (extension, error) {
	if strings.Contains(s, ",") {
		return nil, fmt.Errorf("several extensions: %q", s)
	}
	name, parameters, _ := strings.Cut(s, ";")
	if strings.TrimSpace(name) != deflateName {
		return nil, fmt.Errorf("another extension: %q", s)
	}
	e := extension{}
	if parameters == "" {
		return e, nil
	}
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, hasValue := strings.Cut(strings.TrimSpace(parameter), "=")
		bits, err := strconv.Atoi(value)
		valid := false
		switch name {
		case serverNoTakeover, clientNoTakeover:
			valid = !hasValue
		case serverWindowBits:
			valid = hasValue && err == nil
		case clientWindowBits:
			valid = !hasValue || err == nil
		}
		if hasValue && (bits < 8 || bits > 15 || value != strconv.Itoa(bits)) || e.has(name) {
			valid = false
		}
		if !valid {
			return nil, fmt.Errorf("parameter %q of %q (RFC 7692, section 7.1)", parameter, s)
		}
		e[name] = value
	}
	return e, nil
}
