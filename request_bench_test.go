package websocket

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

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
