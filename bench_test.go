package websocket

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// benchSizes are payload sizes, and the numbers of bytes that are masked or checked.
var benchSizes = []int{16, 128, 1 << 10, 16 << 10, 64 << 10, 1 << 20}

// benchSize names a size.
func benchSize(n int) string {
	switch {
	case n >= 1<<20:
		return strconv.Itoa(n>>20) + "MiB"
	case n >= 1<<10:
		return strconv.Itoa(n>>10) + "KiB"
	}
	return strconv.Itoa(n) + "B"
}

// benchRun measures step, which takes n bytes.
func benchRun(b *testing.B, name string, n int, step func()) {
	b.Run(name, func(b *testing.B) {
		b.SetBytes(int64(n))
		b.ReportAllocs()
		for b.Loop() {
			step()
		}
	})
}

func BenchmarkHeader(b *testing.B) {
	for _, n := range benchSizes {
		h := header{first: bitFin | byte(OpcodeText), masked: true, key: 0x04030201, length: uint64(n)}
		packet := appendHeader(nil, h)
		benchRun(b, "parse/"+benchSize(n), len(packet), func() { parseHeader(packet) })
		benchRun(b, "append/"+benchSize(n), len(packet), func() { packet = appendHeader(packet[:0], h) })
	}
}

func BenchmarkNewFrame(b *testing.B) {
	for _, n := range benchSizes {
		payload := corePayload(n)
		benchRun(b, "server/"+benchSize(n), n, func() { NewFrame(OpcodeText, false, payload) })
		benchRun(b, "client/"+benchSize(n), n, func() { NewFrame(OpcodeText, true, payload) })
	}
}

func BenchmarkUnpack(b *testing.B) {
	for _, n := range benchSizes {
		packet := NewFrame(OpcodeText, true, corePayload(n))
		benchRun(b, benchSize(n), n, func() { Unpack(packet) })
	}
	small := bytes.Repeat(NewFrame(OpcodeText, true, corePayload(128)), 64)
	benchRun(b, "64of128B", 64*128, func() { Unpack(small) })
}

func BenchmarkMask(b *testing.B) {
	const key = 0x3d21fa37
	for _, n := range benchSizes {
		source, dst := corePayload(n+8), make([]byte, n)
		for align := range 8 {
			src := source[align : align+n]
			benchRun(b, fmt.Sprintf("%s/align%d", benchSize(n), align), n, func() { mask(dst, src, key, 0) })
		}
		for pos := range 8 {
			benchRun(b, fmt.Sprintf("%s/position%d", benchSize(n), pos), n, func() { mask(dst, source[:n], key, pos) })
		}
		benchRun(b, benchSize(n)+"/inplace", n, func() { mask(dst, dst, key, 0) })
		benchRun(b, benchSize(n)+"/copy", n, func() { copyMasked(source[:n], key) })
	}
}

// benchRequest is what a browser sends for a page of the same site.
var benchRequest = strings.ReplaceAll(`GET /chat?room=lobby HTTP/1.1
Host: chat.example.com
Connection: Upgrade
Pragma: no-cache
Cache-Control: no-cache
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36
Upgrade: websocket
Origin: https://chat.example.com
Sec-WebSocket-Version: 13
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-US,en;q=0.9
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits

`, "\n", "\r\n")

func BenchmarkHandshake(b *testing.B) {
	for _, c := range []struct{ name, request string }{
		{"browser", benchRequest},
		{"minimal", handshakeRequest(handshakeLine)},
	} {
		in := []byte(c.request)
		benchRun(b, c.name+"/whole", len(in), func() {
			var s headerScanner
			n, err := s.scan(in, defaultMaxHeaderSize, defaultMaxHeaderFields)
			if err != nil || n != len(in) {
				b.Fatal(n, err)
			}
			req, err := parseRequest(in)
			if err == nil {
				err = req.check()
			}
			if err != nil {
				b.Fatal(err)
			}
			appendAccept(nil, req)
		})
		benchRun(b, c.name+"/scan", len(in), func() {
			var s headerScanner
			s.scan(in, defaultMaxHeaderSize, defaultMaxHeaderFields)
		})
		benchRun(b, c.name+"/parse", len(in), func() { parseRequest(in) })
		req, err := parseRequest(in)
		if err != nil {
			b.Fatal(err)
		}
		benchRun(b, c.name+"/check", len(in), func() { req.check() })
		benchRun(b, c.name+"/accept", len(in), func() { appendAccept(nil, req) })
	}
}

func BenchmarkHandshakeClient(b *testing.B) {
	header := http.Header{"Origin": {"https://chat.example.com"}, "Authorization": {"Bearer 0123456789abcdef"}}
	benchRun(b, "request", 0, func() { appendRequest(nil, "/chat?room=lobby", "chat.example.com", header) })
	answer := appendAccept(nil, &Handshake{Key: []byte(handshakeKey)})
	benchRun(b, "answer", len(answer), func() {
		if _, err := checkAccept(answer, handshakeKey, header); err != nil {
			b.Fatal(err)
		}
	})
}

// benchPad makes a request n bytes long.
func benchPad(n int, format string) []byte {
	return fmt.Appendf(nil, format, strings.Repeat("x", max(0, n-len(format)+len("%s"))))
}

// BenchmarkRouter measures what a request costs between its payload and the packet of its answer, which repeats its body.
func BenchmarkRouter(b *testing.B) {
	r := new(routes)
	echo := func(_ context.Context, req *Request) Response { return Response{Code: http.StatusOK, Body: req.Body} }
	for _, target := range []string{"/", "/echo", "/users", "/users/:id", "/users/:id/posts/:post", "/rooms/:room/members"} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			if err := r.add(method, target, echo); err != nil {
				b.Fatal(err)
			}
		}
	}
	ctx := context.Background()
	for _, c := range []struct {
		name    string
		code    int32
		request []byte
	}{
		{"literal/128B", 200, benchPad(128, `{"id":1512459721269,"method":"POST","target":"/echo","body":"%s"}`)},
		{"literal/16KiB", 200, benchPad(16<<10, `{"id":1512459721269,"method":"POST","target":"/echo","body":"%s"}`)},
		{"lowercase/128B", 200, benchPad(128, `{"id":1512459721269,"method":"post","target":"/echo","body":"%s"}`)},
		{"params/128B", 200, benchPad(128, `{"id":1512459721269,"method":"GET","target":"/users/7/posts/12","body":"%s"}`)},
		{"query/128B", 200, benchPad(128, `{"id":1512459721269,"method":"GET","target":"/users/7?full=1&page=2","body":"%s"}`)},
		{"404/128B", 404, benchPad(128, `{"id":1512459721269,"method":"GET","target":"/nowhere","body":"%s"}`)},
		{"400/128B", 400, benchPad(128, `{"id":-1,"method":"GET","target":"/users/7","body":"%s"}`)},
		{"escapes/128B", 200, benchPad(128, `{"id":1512459721269,"method":"POST","target":"/echo","body":"<\"\\\u00e9>%s"}`)},
	} {
		if res := r.answer(ctx, 1, c.request); res.Code != c.code {
			b.Fatal(c.name, res)
		}
		var packet []byte
		benchRun(b, c.name, len(c.request), func() {
			res := r.answer(ctx, 1, c.request)
			packet = res.appendJSON(packet[:0])
		})
	}
}

func BenchmarkRoutesFind(b *testing.B) {
	r := new(routes)
	for i := range 100 {
		for _, target := range []string{"/area%d/literal/target", "/area%d/:one/:two"} {
			if err := r.add("GET", fmt.Sprintf(target, i), routesNamed("")); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, c := range []struct{ name, path string }{
		{"literal", "/area50/literal/target"}, {"params", "/area50/1/2"}, {"nothing", "/area50/nothing/to/find"},
	} {
		benchRun(b, c.name, len(c.path), func() { r.find("GET", c.path) })
	}
}

func BenchmarkResponse(b *testing.B) {
	for _, n := range benchSizes {
		res := Response{ID: 1512459721269, Code: http.StatusOK, Body: string(corePayload(n))}
		var packet []byte
		benchRun(b, benchSize(n), n, func() { packet = res.appendJSON(packet[:0]) })
	}
}

// benchClients are connections without sockets in a ClientManager, four for each user, and some that are not in it yet.
type benchClients struct {
	*ClientManager
	conns []conn
	spare []conn
	users uint64
}

// Numbers that no descriptor of this process has.
const benchDescriptors = 1 << 20

func newBenchClients(b testing.TB, n int) *benchClients {
	const perUser, spare = 4, 1 << 10
	cls := &benchClients{ClientManager: new(ClientManager), users: uint64(max(n/perUser, 1))}
	loop := &loop{engine: &engine{clients: cls.ClientManager}, tally: new(tally)}
	all := make([]conn, n+spare)
	cls.conns, cls.spare = all[:n], all[n:]
	for i := range all {
		c := &all[i]
		c.id, c.loop, c.uid = nextID(benchDescriptors+i), loop, uint64(i)%cls.users+1
		c.ctx, c.phase = b.Context(), phaseOpen
		descriptors.set(c.fd(), c)
	}
	for i := range cls.conns {
		cls.add(&cls.conns[i])
	}
	b.Cleanup(func() {
		for i := range all {
			descriptors.set(all[i].fd(), nil)
		}
	})
	return cls
}

// change adds and removes a connection.
func (cls *benchClients) change(i int) {
	c := &cls.spare[i%len(cls.spare)]
	cls.add(c)
	cls.remove(c)
}

// BenchmarkClients measures the ClientManager: alone, from as many goroutines as there are processors, and so while another one
// adds and removes connections all the time.
func BenchmarkClients(b *testing.B) {
	for _, n := range []int{10, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			cls := newBenchClients(b, n)
			for _, c := range []struct {
				name string
				step func(i int)
			}{
				{"Conns", func(i int) { cls.Conns(uint64(i)%cls.users + 1) }},
				{"Context", func(i int) { cls.Context(benchDescriptors + i%n) }},
				{"SendUser", func(i int) { cls.SendUser(uint64(i)%cls.users+1, nil) }},
				{"Len", func(int) { cls.Len() }},
				{"Users", func(int) { cls.Users() }},
				{"All", func(int) { cls.All() }},
			} {
				cls.measure(b, c.name, c.step)
			}
			b.Run("AddRemove/alone", func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					cls.change(i)
				}
			})
			b.Run("AddRemove/Conns", func(b *testing.B) {
				defer benchBeside(func(i int) { cls.Conns(uint64(i)%cls.users + 1) })()
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					cls.change(i)
				}
			})
			b.Run("AddRemove/All", func(b *testing.B) {
				defer benchBeside(func(int) { cls.All() })()
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					cls.change(i)
				}
			})
			b.Run("AddRemove/each", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					for i := range cls.conns {
						cls.remove(&cls.conns[i])
					}
					for i := range cls.conns {
						cls.add(&cls.conns[i])
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/conn")
			})
		})
	}
}

func (cls *benchClients) measure(b *testing.B, name string, step func(i int)) {
	b.Run(name+"/alone", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			step(i)
		}
	})
	parallel := func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				step(i)
			}
		})
	}
	b.Run(name+"/parallel", parallel)
	b.Run(name+"/changing", func(b *testing.B) {
		defer benchBeside(cls.change)()
		parallel(b)
	})
}

// benchBeside does step on a goroutine of its own until the function that it returns is called.
func benchBeside(step func(i int)) (end func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			default:
				step(i)
			}
			if i%1024 == 0 {
				runtime.Gosched()
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
