package websocket

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The seeds are in testdata/fuzz, with what once failed.

func FuzzFrameRoundTrip(f *testing.F) {
	f.Fuzz(func(t *testing.T, opcode byte, masked bool, payload []byte) {
		op := Opcode(opcode & 0xF)
		before := bytes.Clone(payload)
		packet := NewFrame(op, masked, payload)
		require.Equal(t, before, payload)

		frames := Unpack(append(packet, packet...))
		require.Equal(t, 2, frames.Len())
		for _, frame := range frames.All() {
			require.True(t, frame.IsComplete() && frame.IsFinal())
			require.Equal(t, masked, frame.IsMasked())
			require.Equal(t, op, frame.Opcode())
			require.True(t, bytes.Equal(payload, frame.Payload()))
		}
		require.Equal(t, op, frames.Opcode())

		for _, control := range [][]byte{NewFramePing(masked, payload), NewFramePong(masked, payload)} {
			require.True(t, bytes.Equal(payload[:min(len(payload), maxControl)], Unpack(control).Payload()))
		}
		closing := Unpack(NewFrameClose(masked, StatusNormal, payload)).list[0]
		require.LessOrEqual(t, len(closing.Payload()), maxControl)
		require.True(t, bytes.HasPrefix(payload, closing.CloseReason()))
		require.Equal(t, StatusNormal, closing.CloseCode())
	})
}

func FuzzUnpack(f *testing.F) {
	f.Fuzz(func(t *testing.T, packet []byte) {
		before := bytes.Clone(packet)
		frames := Unpack(packet)
		require.Equal(t, before, packet)
		if len(packet) == 0 {
			require.Nil(t, frames)
			return
		}
		rest := packet
		for i, frame := range frames.All() {
			last := i == frames.Len()-1
			require.True(t, frame.IsComplete() || last, "an incomplete frame is the last")
			require.Equal(t, len(frame.Payload()), cap(frame.Payload()))
			require.Equal(t, Opcode(rest[0]&0xF), frame.Opcode())
			h, n := parseHeader(rest)
			if n == 0 {
				require.True(t, last && !frame.IsComplete() && len(frame.Payload()) == 0)
				rest = nil
				continue
			}
			require.Equal(t, h, frame.head)
			// Masked again, the payload is what the packet has at its place.
			masked := coreMask(frame.Payload(), coreBytes(h.key), 0)
			require.True(t, bytes.HasPrefix(rest[n:], masked))
			rest = rest[n+len(masked):]
		}
		require.Empty(t, rest, "the frames cover the packet")
	})
}

func FuzzReceiver(f *testing.F) {
	f.Fuzz(func(t *testing.T, in []byte, cut uint16, flags byte) {
		if len(in) > 4<<10 {
			return
		}
		limits := []uint64{1, 16, 126, 4 << 10}
		p := &rules{
			maxMessage:      limits[flags&3],
			maxFragments:    1 << (flags >> 2 & 3),
			fromClient:      flags&0x10 != 0,
			reservedControl: flags&0x20 != 0,
			allowedRsv:      flags & bitRsv1,
			deflates:        flags&0x80 != 0,
		}
		at := int(cut) % (len(in) + 1)
		whole := rfcRead(t, p, in)
		for _, pieces := range [][][]byte{rfcEach(in, 1), rfcEach(in, int(cut)%31+2), {in[:at], in[at:]}} {
			r := rfcRead(t, p, pieces...)
			require.Equal(t, whole.events, r.events)
			require.Same(t, whole.err, r.err)
			require.Equal(t, whole.rc.hasEnded(), r.rc.hasEnded())
			require.Equal(t, whole.rc.held() == nil, r.rc.held() == nil)
		}
		fuzzCheckEvents(t, p, whole, in)
	})
}

// fuzzCheckEvents holds what a receiver made of an input against what Unpack makes of it.
func fuzzCheckEvents(t *testing.T, p *rules, r *rfcReader, in []byte) {
	var want []rfcEvent
	var message *rfcEvent
	for _, frame := range Unpack(in).All() {
		if len(want) == len(r.events) || !frame.IsComplete() {
			break
		}
		if frame.IsControl() {
			kind := map[Opcode]eventKind{OpcodePing: eventPing, OpcodePong: eventPong, OpcodeClose: eventClose}[frame.Opcode()]
			event := rfcEvent{eventControl, frame.Opcode(), string(frame.Payload()), 0, frame.head.rsv()}
			switch kind {
			case eventPing, eventPong:
				event.kind = kind
			case eventClose:
				event.kind, event.code, event.payload = kind, frame.CloseCode(), string(frame.CloseReason())
			}
			want = append(want, event)
			continue
		}
		if message == nil {
			message = &rfcEvent{eventMessage, frame.Opcode(), "", 0, frame.head.rsv()}
		}
		if message.payload += string(frame.Payload()); frame.IsFinal() {
			want, message = append(want, *message), nil
		}
	}
	got := r.events
	if n := len(got); r.err != nil && n > 0 && got[n-1].kind == eventClose { // a close that breaks a rule has no content
		got, want = got[:n-1], want[:min(n-1, len(want))]
	}
	require.Equal(t, len(want), len(got))
	for i := range want {
		require.Equal(t, want[i], got[i])
		packed := p.deflates && got[i].rsv&bitRsv1 != 0
		require.True(t, !packed || got[i].kind == eventMessage, "only messages are compressed")
		require.True(t, got[i].kind != eventMessage || uint64(len(got[i].payload)) <= p.maxLength(packed))
		require.True(t, packed || got[i].opcode != OpcodeText || strings.ToValidUTF8(got[i].payload, "") == got[i].payload)
	}
}

func FuzzHandshake(f *testing.F) {
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		const maxSize, maxFields = 2 << 10, 20
		fuzzRefusal(t, errors.New(string(in)))
		fuzzRefusal(t, &HandshakeError{Status: 400 + int(cut)%200, Reason: string(in)})
		fuzzOrigin(t, string(in))
		at := int(cut) % (len(in) + 1)
		scan := func(lengths ...int) (n int, err error) {
			var s headerScanner
			for _, length := range lengths {
				if n, err = s.scan(in[:length], maxSize, maxFields); n != 0 || err != nil {
					return n, err
				}
			}
			return n, err
		}
		every := make([]int, 0, len(in)+1)
		for i := range len(in) + 1 {
			every = append(every, i)
		}
		n, err := scan(len(in))
		for _, lengths := range [][]int{every, {at, len(in)}} {
			m, err2 := scan(lengths...)
			require.Equal(t, n, m)
			require.Equal(t, err, err2)
		}
		if n == 0 {
			if err != nil {
				fuzzRefusal(t, err)
			}
			return
		}
		require.True(t, bytes.HasSuffix(in[:n], []byte("\r\n\r\n")))
		checkAccept(in[:n], handshakeKey, nil) // must not panic
		checkTunnel(in[:n])                    // neither must this

		req, err := parseRequest(in[:n])
		if err == nil {
			err = req.check()
		}
		if err != nil {
			fuzzRefusal(t, err)
			return
		}
		fuzzAccepted(t, in[:n], req)
	})
}

// fuzzRefusal holds the answer to a refused request to one status line and the fields of our own.
func fuzzRefusal(t *testing.T, err error) {
	answer := appendRefusal(nil, err, false)
	res, body := handshakeResponse(t, answer)
	require.True(t, isFieldValue(body) && !strings.Contains(body, "\t"))
	for name := range res.Header {
		require.Contains(t, []string{"Content-Type", "Content-Length", "Cache-Control", "Connection", "Upgrade", "Sec-Websocket-Version"}, name)
	}
	head := strings.Split(strings.TrimSuffix(string(answer), body), "\r\n")
	require.Len(t, head, len(res.Header)+3, "the status line, the fields, the empty line and nothing")
	for _, line := range head {
		require.True(t, isFieldValue(line) && !strings.Contains(line, "\t"))
	}
}

// fuzzOrigin holds what is read as an origin to what it means as a URL: a scheme, a host and a port, and nothing else.
func fuzzOrigin(t *testing.T, in string) {
	o, ok := parseOrigin(in)
	if !ok || o == (origin{}) || o.scheme == "file" && o.host == "" {
		return
	}
	u, err := url.Parse(in)
	require.NoError(t, err)
	require.Equal(t, u.Scheme, o.scheme)
	require.Equal(t, in, in[:len(u.Scheme)]+"://"+u.Host, "there is more")
	require.True(t, strings.HasPrefix(o.host, "[") || o.host == strings.ToLower(u.Hostname()))
	back, ok := parseOrigin(o.scheme + "://" + o.host + strings.TrimSuffix(":"+o.port, ":"))
	require.True(t, ok)
	require.Equal(t, o, back)
	allowed, err := parseAllowed(in)
	require.True(t, err != nil || allowed.covers(o))
}

// fuzzPath holds the values of a path's parameters to a request that is made of them.
func fuzzPath(t *testing.T, pattern, target string) {
	p, err := parsePattern(pattern)
	if err != nil {
		return
	}
	u, err := parseTarget(target)
	if err != nil {
		return
	}
	params, ok := p.match(u)
	require.Equal(t, !ok || p.params == 0, params == nil)
	if !ok || p.params == 0 {
		return
	}
	made := ""
	for _, segment := range p.segments {
		if value := params[strings.TrimPrefix(segment, ":")]; isParam(segment) {
			require.NotEmpty(t, value)
			segment = value
		}
		made += "/" + url.PathEscape(segment)
	}
	again, err := parseTarget(made)
	require.NoError(t, err)
	same, ok := p.match(again)
	require.True(t, ok)
	require.Equal(t, params, same)
	require.LessOrEqual(t, p.least(), len(target))
}

// fuzzAccepted holds an accepted request to what net/http reads in it, and to itself once it is written anew.
func fuzzAccepted(t *testing.T, head []byte, req *Handshake) {
	head = bytes.TrimPrefix(head, []byte("\r\n"))
	std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	require.NoError(t, err, "net/http refuses what is accepted: %q", head)
	require.Equal(t, std.URL.Path, strings.TrimSuffix(req.URL.Path, strings.Repeat("/", len(req.URL.Path)-len(std.URL.Path))))
	want := req.Header.Clone()
	want.Del("Host")
	got := std.Header.Clone()
	for _, name := range []string{"Content-Length", "Pragma", "Cache-Control", "Trailer", "Connection"} { // net/http changes them
		want.Del(name)
		got.Del(name)
	}
	require.Equal(t, want, got)
	require.Equal(t, std.Host, string(req.Host))

	target := strings.Split(string(head), " ")[1]
	again := appendFields([]byte("GET "+target+" HTTP/1.1\r\n"), req.Header)
	back, err := parseRequest(append(again, "\r\n"...))
	require.NoError(t, err)
	require.NoError(t, back.check())
	back.size, back.fields = req.size, req.fields
	require.Equal(t, req, back)

	require.NoError(t, checkFields(req.Header))
	answer, body := handshakeResponse(t, appendAccept(nil, req))
	require.Equal(t, 101, answer.StatusCode)
	require.Len(t, answer.Header, 3)
	require.Empty(t, body)
	_, err = checkAccept(appendAccept(nil, req), string(req.Key), nil)
	require.NoError(t, err)
}

func FuzzRoutes(f *testing.F) {
	f.Fuzz(func(t *testing.T, targets, path string) {
		if len(targets) > 1<<10 || len(path) > 1<<10 {
			return
		}
		fuzzPath(t, targets, path)
		var r routes
		var known [][]string // the segments of what is registered
		names := make(map[string]string)
		for target := range strings.SplitSeq(targets, "\n") {
			before := r.clone()
			had, _ := routesFound(&r, "GET", path)
			err := r.add("GET", target, routesNamed(target))
			unchanged, _ := routesFound(before, "GET", path)
			require.Equal(t, had, unchanged, "a clone is changed")
			if err != nil {
				now, _ := routesFound(&r, "GET", path)
				require.Equal(t, had, now, "a refused registration changes something")
				continue
			}
			segments := slices.DeleteFunc(strings.Split(target, "/"), func(s string) bool { return s == "" })
			known = append(known, segments)
			names[strings.Join(segments, "/")] = target
		}
		want, wantParams := fuzzFind(known, path)
		got, params := routesFound(&r, "GET", path)
		require.Equal(t, names[want], got)
		if got != "" {
			require.Equal(t, wantParams, params)
		}
		cloned, _ := routesFound(r.clone(), "GET", path)
		require.Equal(t, got, cloned)
		for key, target := range names {
			if !strings.Contains(key, ":") {
				found, params := routesFound(&r, "get", target)
				require.True(t, found == target || strings.Contains(target, "//"), "%q finds %q", target, found)
				require.Empty(t, params)
			}
		}
	})
}

// fuzzFind is what routes.find has to do, in the plainest way: of the targets that fit so far, a literal wins over a parameter.
func fuzzFind(known [][]string, path string) (key string, params targetParam) {
	path, ok := strings.CutPrefix(path, "/")
	if !ok {
		return "none", nil
	}
	params = make(targetParam)
	var segments []string
	if path = strings.TrimSuffix(path, "/"); path != "" {
		segments = strings.Split(path, "/")
	}
	for i, segment := range segments {
		fits := func(want string) (fit [][]string) {
			for _, k := range known {
				if len(k) > i && k[i] == want {
					fit = append(fit, k)
				}
			}
			return fit
		}
		var literal [][]string
		if !strings.HasPrefix(segment, ":") {
			literal = fits(segment)
		}
		if literal != nil {
			known = literal
			continue
		}
		known = slices.DeleteFunc(slices.Clone(known), func(k []string) bool { return len(k) <= i || !strings.HasPrefix(k[i], ":") })
		if len(known) == 0 || segment == "" {
			return "none", nil
		}
		params[known[0][i][1:]] = segment
	}
	for _, k := range known {
		if len(k) == len(segments) {
			return strings.Join(k, "/"), params
		}
	}
	return "none", nil
}

func FuzzRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, payload []byte) {
		var r routes
		called := 0
		handler := func(_ context.Context, req *Request) Response {
			called++
			assert.Equal(t, 3, req.Conn)
			assert.True(t, strings.HasPrefix(req.Target, req.Path))
			assert.NotNil(t, req.Params)
			assert.NotNil(t, req.Query)
			req.ID++
			return Response{Code: 200, Body: req.Body}
		}
		for _, target := range []string{"/", "/a/:b", "/a/c"} {
			require.NoError(t, r.add("GET", target, handler))
		}
		var sent Request
		bad := json.Unmarshal(payload, &sent)
		repeated := fuzzRepeated(payload)
		res := r.answer(context.Background(), 3, payload)
		require.Contains(t, []int32{200, 400, 404}, res.Code)
		require.Equal(t, res.Code == 200, called == 1)
		if !repeated {
			require.Equal(t, sent.ID, res.ID)
		}
		if bad != nil || repeated {
			require.EqualValues(t, 400, res.Code)
		}
		requestPlain(t, payload)
		packet := NewFrameText(false, res.appendJSON(nil))
		marshalled, err := json.Marshal(res)
		require.NoError(t, err)
		require.Equal(t, NewFrameText(false, marshalled), packet)
		reader := rfcRead(t, &rules{maxMessage: uint64(len(packet)), maxFragments: 1}, packet)
		require.Nil(t, reader.err, "the answer is a valid text message")
		require.Len(t, reader.events, 1)
		var back Response
		require.NoError(t, json.Unmarshal([]byte(reader.events[0].payload), &back))
		require.Equal(t, res.ID, back.ID)
		require.Equal(t, res.Code, back.Code)
	})
}

// FuzzProxy has what is true of any header: it does not matter in how many pieces it comes, or what is behind it.
func FuzzProxy(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.1 198.51.100.1 12345 443\r\nGET", "PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "PROXY UNKNOWN x\r\n", "PROXY \n",
		proxyBinary(proxyProxied, proxyTCP4, 12, proxyAddrs4), proxyBinary(proxyProxied, proxyTCP6, 40, proxyAddrs6+"\x04\x00\x01x"),
		proxyBinary(proxyProxied, proxyUnix, 216, proxyUnixPaths("/a", "/b")), proxyBinary(proxyLocal, 0, 3, "abc"), proxyBinary(proxyLocal, 0, 1<<16-1, ""),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		h, n, err := parseProxy(b)
		require.Equal(t, before, b)
		require.LessOrEqual(t, n, min(len(b), maxProxyHeader))
		if n == 0 {
			require.Zero(t, h)
			require.True(t, err != nil || len(b) < maxProxyHeader, "it waits for ever")
		} else {
			require.NoError(t, err)
			require.False(t, h.source.Addr().Is4In6())
			require.Empty(t, h.source.Addr().Zone())
			require.False(t, h.isUnix && h.source.IsValid())
		}
		failed := false
		for i := range min(len(b), 2*maxProxyLine) {
			part, m, partErr := parseProxy(b[:i])
			switch {
			case n > 0 && i >= n:
				require.Equal(t, h, part)
				require.Equal(t, n, m)
			default:
				require.Zero(t, m)
				require.True(t, partErr == nil || err != nil, "a beginning is wrong, and the whole is not")
			}
			require.True(t, partErr != nil || !failed)
			failed = partErr != nil
		}
	})
}

// fuzzRepeated reports whether a request has one of its members twice, null aside.
func fuzzRepeated(payload []byte) bool {
	d := json.NewDecoder(bytes.NewReader(payload))
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return false
	}
	times := make(map[string]int)
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return false
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return false
		}
		for _, name := range []string{"id", "method", "target", "body"} {
			if string(value) != "null" && strings.EqualFold(name, key.(string)) {
				times[name]++
			}
		}
	}
	for _, n := range times {
		if n > 1 {
			return true
		}
	}
	return false
}
