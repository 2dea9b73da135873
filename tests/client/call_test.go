package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/tests/internal/peer"
)

// callServer is a Server whose routes answer what is asked for.
func callServer(t *testing.T, opts *websocket.ServerOptions) *peer.Server {
	t.Helper()
	s := peer.Start(t, opts)
	for target, handle := range map[string]func(req *websocket.Request) websocket.Response{
		"/echo": func(req *websocket.Request) websocket.Response {
			return websocket.Response{Code: 200, Message: "echo", Body: req.Body}
		},
		"/silent": func(*websocket.Request) websocket.Response { return websocket.Response{Code: 204} },
		"/broken": func(*websocket.Request) websocket.Response { return websocket.Response{Code: 200, Body: "{"} },
		"/failed": func(*websocket.Request) websocket.Response {
			return websocket.Response{Code: 409, Message: "taken", Body: "by you"}
		},
	} {
		require.NoError(t, s.RegisterTextHandler("POST", target, func(_ context.Context, req *websocket.Request) websocket.Response {
			return handle(req)
		}))
	}
	return s
}

// callClient connects a Client to it.
func callClient(t *testing.T, s *peer.Server, cl *websocket.Client) *websocket.Client {
	t.Helper()
	cl.Endpoint = "ws://" + s.Address + "/"
	require.NoError(t, cl.Connect())
	t.Cleanup(cl.Quit)
	return cl
}

func callContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), peer.Deadline)
	t.Cleanup(cancel)
	return ctx
}

func TestCall_server(t *testing.T) {
	for name, options := range map[string]*websocket.Compression{"plain": nil, "compressed": {MinSize: 1}} {
		t.Run("each call gets its own answer from a Server, "+name, func(t *testing.T) {
			cl := callClient(t, callServer(t, &websocket.ServerOptions{Compression: options}), &websocket.Client{Compression: options})
			peer.All(t, 200, func(i int) error {
				body := fmt.Sprintf("%d %s", i, strings.Repeat("é\"\\<", i))
				res, err := cl.Call(callContext(t), &websocket.Request{Method: "POST", Target: "/echo", Body: body})
				if err == nil && (res.Body != body || res.Code != 200) {
					err = fmt.Errorf("%d: wrong answer %+v", i, res)
				}
				return err
			})
		})
	}
}

func TestCallJSON(t *testing.T) {
	type point struct{ X, Y int }
	cl := callClient(t, callServer(t, nil), new(websocket.Client))
	t.Run("values go both ways", func(t *testing.T) {
		got, err := websocket.CallJSON[[]point](callContext(t), cl, "POST", "/echo", []point{{1, 2}, {3, 4}})
		require.NoError(t, err)
		assert.Equal(t, []point{{1, 2}, {3, 4}}, got)
	})
	t.Run("without a body there is none, and the answer is the zero value", func(t *testing.T) {
		got, err := websocket.CallJSON[point](callContext(t), cl, "POST", "/echo", nil)
		require.NoError(t, err)
		assert.Zero(t, got)
		got, err = websocket.CallJSON[point](callContext(t), cl, "POST", "/silent", nil)
		require.NoError(t, err)
		assert.Zero(t, got)
	})
	t.Run("an answer without success is an error with its code, message and body", func(t *testing.T) {
		_, err := websocket.CallJSON[point](callContext(t), cl, "POST", "/failed", nil)
		var failed *websocket.ResponseError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, websocket.ResponseError{Code: 409, Message: "taken", Body: "by you"}, *failed)
		_, err = websocket.CallJSON[point](callContext(t), cl, "GET", "/nowhere", nil)
		require.ErrorAs(t, err, &failed)
		assert.EqualValues(t, 404, failed.Code)
	})
	t.Run("what is no JSON is an error, in either direction", func(t *testing.T) {
		_, err := websocket.CallJSON[point](callContext(t), cl, "POST", "/broken", nil)
		require.ErrorContains(t, err, "websocket: call: answer:")
		_, err = websocket.CallJSON[point](callContext(t), cl, "POST", "/echo", "text")
		require.Error(t, err)
		_, err = websocket.CallJSON[point](callContext(t), cl, "POST", "/echo", make(chan int))
		require.ErrorContains(t, err, "websocket: call:")
	})
	t.Run("what Call returns is returned", func(t *testing.T) {
		_, err := websocket.CallJSON[point](callContext(t), new(websocket.Client), "POST", "/echo", nil)
		var failed *websocket.CallError
		require.ErrorAs(t, err, &failed)
		require.ErrorIs(t, err, websocket.ErrConnClosed)
	})
}

// callRead reads a request of the client.
func callRead(c *peer.Script) (req websocket.Request) {
	c.T.Helper()
	f := c.Read()
	require.Equal(c.T, websocket.OpcodeText, f.Opcode)
	require.NoError(c.T, json.Unmarshal(f.Payload, &req), "%s", f.Payload)
	return req
}

// callResult is what Call returns.
type callResult struct {
	res *websocket.Response
	err error
}

// body returns the body of an answer that has come.
func (r callResult) body(t *testing.T) string {
	t.Helper()
	require.NoError(t, r.err)
	return r.res.Body
}

// failed returns the CallError of a call without an answer.
func (r callResult) failed(t *testing.T) *websocket.CallError {
	t.Helper()
	require.Nil(t, r.res)
	var failed *websocket.CallError
	require.ErrorAs(t, r.err, &failed)
	return failed
}

// callGo calls on a goroutine of its own.
func callGo(ctx context.Context, cl *websocket.Client, req *websocket.Request) <-chan callResult {
	done := make(chan callResult, 1)
	go func() {
		res, err := cl.Call(ctx, req)
		done <- callResult{res, err}
	}()
	return done
}

var callGet = &websocket.Request{Method: "GET", Target: "/"}

func callText(format string, args ...any) []byte {
	return websocket.NewFrameText(false, fmt.Appendf(nil, format, args...))
}

func callAnswer(id uint64, body string) []byte {
	return callText(`{"message":"","body":%q,"id":%d,"code":200}`, body, id)
}

// callTexts has HandleText send what it gets to a channel.
func callTexts(cl *websocket.Client) <-chan string {
	texts := make(chan string, 1000)
	cl.HandleText = func(_ *websocket.Client, f *websocket.Frame) error {
		texts <- string(f.Payload())
		return nil
	}
	return texts
}

func TestCall_ids(t *testing.T) {
	t.Run("the client chooses ids that differ, and leaves the request as it is", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		seen := make(map[uint64]bool)
		req := &websocket.Request{Method: "PUT", Target: "/a?b=c", Body: "\"<é>\n"}
		for range 100 {
			done := callGo(context.Background(), cl, req)
			got := callRead(c)
			assert.False(t, seen[got.ID])
			assert.Less(t, got.ID, uint64(1)<<53)
			seen[got.ID] = true
			c.Send(callAnswer(got.ID, "x"))
			require.Equal(t, "x", peer.Receive(t, done).body(t))
			got.ID = 0
			assert.Equal(t, *req, got)
		}
	})
	t.Run("an id of the program's own is used, and may be in flight once", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		for _, id := range []uint64{7, 1<<64 - 1, 7} {
			done := callGo(context.Background(), cl, &websocket.Request{ID: id})
			require.Equal(t, id, callRead(c).ID)
			_, err := cl.Call(context.Background(), &websocket.Request{ID: id})
			require.ErrorContains(t, err, "is being awaited")
			c.Send(callAnswer(id, "mine"))
			require.Equal(t, "mine", peer.Receive(t, done).body(t))
		}
	})
	t.Run("answers come in any order, between fragments of others", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		done := make(map[string]<-chan callResult)
		var asked []websocket.Request
		for i := range 50 {
			done[strconv.Itoa(i)] = callGo(context.Background(), cl, &websocket.Request{Body: strconv.Itoa(i)})
			asked = append(asked, callRead(c))
		}
		rand.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
		for _, req := range asked {
			c.Send(callAnswer(req.ID, req.Body))
		}
		for body, done := range done {
			require.Equal(t, body, peer.Receive(t, done).body(t))
		}
	})
	t.Run("no request is an error", func(t *testing.T) {
		_, err := new(websocket.Client).Call(context.Background(), nil)
		require.Error(t, err)
	})
}

func TestCall_otherTexts(t *testing.T) {
	t.Run("all texts but the answer reach HandleText, in order", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		texts := callTexts(cl)
		c := peer.Open(t, cl)
		done := callGo(context.Background(), cl, callGet)
		id := callRead(c).ID
		others := []string{
			`{"message":"news","body":"","id":0,"code":0}`, `{"id":1,"code":200,"body":"","message":""}`, `{"id":1.5}`, `{"id":"` + strconv.FormatUint(id, 10) + `"}`,
			fmt.Sprintf(`{"id":%d,`, id), fmt.Sprintf(`{"id":%d}}`, id), fmt.Sprintf(`{"id":-%d}`, id), fmt.Sprintf(`{"id":%d.5}`, id), fmt.Sprintf(`{"id":%de1}`, id), fmt.Sprintf(`[{"id":%d}]`, id), fmt.Sprintf(`{"x":{"id":%d}}`, id),
			fmt.Sprintf(`{"id":%d,"id":1}`, id), `{"id":18446744073709551616}`, "hello", "", "{", `{"id"`, `{"id":`, `{"a"}`, `{"a":1`, `{"a":1,`, `{"a":"b`, "null", `"id"`,
			`{"message":"x","body":[1,{"y":"}"}],"id":5}`,
		}
		for _, text := range others {
			c.Send(websocket.NewFrameText(false, []byte(text)))
		}
		c.Send(callAnswer(id, "it"))
		require.Equal(t, "it", peer.Receive(t, done).body(t))
		for _, text := range others {
			require.Equal(t, text, peer.Receive(t, texts))
		}
		require.Empty(t, texts)
	})
	for name, format := range map[string]string{
		"with white space":           " { \"code\" : 200 ,\n\"id\":\t%d , \"body\":\"it\" } ",
		"with members that are none": `{"x":{"id":3},"y":[-1.5e3,true,null],"id":%d,"body":"it","z":{}}`,
		"with escapes":               `{"message":"\"id\":7\\","id":%d,"body":"\u0069t"}`,
	} {
		t.Run("an answer is known by its id, "+name, func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := new(websocket.Client)
			c := peer.Open(t, cl)
			done := callGo(context.Background(), cl, callGet)
			c.Send(callText(format, callRead(c).ID))
			require.Equal(t, "it", peer.Receive(t, done).body(t))
		})
	}
	t.Run("an answer whose members have the wrong type is an error", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		done := callGo(context.Background(), cl, callGet)
		c.Send(callText(`{"id":%d,"body":{"a":1}}`, callRead(c).ID))
		require.ErrorContains(t, peer.Receive(t, done).err, "websocket: call: answer:")
	})
	t.Run("a second answer to a call is dropped while others wait, and not given to them", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		texts := callTexts(cl)
		c := peer.Open(t, cl)
		one, two := callGo(context.Background(), cl, callGet), (<-chan callResult)(nil)
		id := callRead(c).ID
		two = callGo(context.Background(), cl, callGet)
		other := callRead(c).ID
		for _, body := range []string{"first", "second"} {
			c.Send(callAnswer(id, body))
		}
		c.Send(callAnswer(other, "other"))
		require.Equal(t, "first", peer.Receive(t, one).body(t))
		require.Equal(t, "other", peer.Receive(t, two).body(t))
		c.Send(callText("end"))
		require.Equal(t, "end", peer.Receive(t, texts))
	})
	for name, size := range map[string]int{"in one frame": 64 << 10, "in frames": 2 << 10} {
		t.Run("a long answer "+name+" is none of HandleReader's business", func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := new(websocket.Client)
			read := readsAll(cl)
			c := peer.Open(t, cl)
			body := strings.Repeat("x", 20<<10)
			for range 3 {
				done := callGo(context.Background(), cl, callGet)
				answer := fmt.Sprintf(`{"message":"","body":%q,"id":%d,"code":200}`, body, callRead(c).ID)
				c.Send(begin(websocket.OpcodeText, answer[:min(size, len(answer))]))
				for at := size; at < len(answer); at += size {
					c.Send(goesOn(answer[at:min(at+size, len(answer))]))
				}
				c.Send(ends(""))
				require.Equal(t, body, peer.Receive(t, done).body(t))
			}
			c.Send(callText("end"))
			require.Equal(t, "end", peer.Receive(t, read).text)
		})
	}
	t.Run("a long answer is none of HandleText's business", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		done := callGo(context.Background(), cl, callGet)
		body := strings.Repeat("x", 3<<20)
		c.Send(callAnswer(callRead(c).ID, body))
		require.Equal(t, body, peer.Receive(t, done).body(t))
	})
}

func TestCall_ends(t *testing.T) {
	for name, end := range map[string]struct {
		context func() (context.Context, context.CancelFunc)
		err     error
	}{
		"a cancelled call": {func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) }, context.Canceled},
		"one beyond its deadline": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 50*time.Millisecond)
		}, context.DeadlineExceeded},
	} {
		t.Run(name+" returns at once, and its late answer is dropped", func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := new(websocket.Client)
			texts := callTexts(cl)
			c := peer.Open(t, cl)
			ctx, cancel := end.context()
			defer cancel()
			done := callGo(ctx, cl, callGet)
			id := callRead(c).ID
			if end.err == context.Canceled {
				cancel()
			}
			got := peer.Receive(t, done)
			require.ErrorIs(t, got.err, end.err)
			require.True(t, got.failed(t).InDoubt)
			c.Send(callAnswer(id, "late"))
			c.Send(callText("end"))
			require.Equal(t, "end", peer.Receive(t, texts))
			next := callGo(context.Background(), cl, callGet)
			c.Send(callAnswer(callRead(c).ID, "next"))
			require.Equal(t, "next", peer.Receive(t, next).body(t))
		})
	}
	t.Run("with a context that has ended nothing is sent", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		res, err := cl.Call(ctx, callGet)
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, callResult{res, err}.failed(t).InDoubt)
		require.NoError(t, cl.SendText([]byte("next")))
		require.Equal(t, "next", string(c.Read().Payload))
	})
	t.Run("it ends while the server takes nothing of the request", func(t *testing.T) {
		peer.CheckGoroutines(t)
		cl := new(websocket.Client)
		c := peer.Open(t, cl)
		ctx, cancel := context.WithCancel(context.Background())
		done := callGo(ctx, cl, &websocket.Request{Body: strings.Repeat("x", 16<<20)})
		_, err := c.In.ReadByte()
		require.NoError(t, err)
		cancel()
		got := peer.Receive(t, done)
		require.ErrorIs(t, got.err, context.Canceled)
		require.True(t, got.failed(t).InDoubt)
		cl.Quit()
	})
	for name, end := range map[string]func(cl *websocket.Client, c *peer.Script){
		"the server is gone": func(_ *websocket.Client, c *peer.Script) { c.Conn.Close() },
		"the server closes": func(_ *websocket.Client, c *peer.Script) {
			c.Send(websocket.NewFrameClose(false, 1001, nil))
			c.ReadClose()
			c.Conn.Close()
		},
		"the server breaks the protocol": func(_ *websocket.Client, c *peer.Script) { c.Send([]byte{0xFF, 0}); c.ReadClose(); c.Conn.Close() },
		"the program quits":              func(cl *websocket.Client, _ *peer.Script) { cl.Quit() },
		"the program closes": func(cl *websocket.Client, c *peer.Script) {
			go cl.Close()
			c.ReadClose()
			c.Conn.Close()
		},
	} {
		t.Run("if "+name+" each call in flight returns, and may have been carried out", func(t *testing.T) {
			peer.CheckGoroutines(t)
			cl := new(websocket.Client)
			c := peer.Open(t, cl)
			var all []<-chan callResult
			for range 10 {
				all = append(all, callGo(context.Background(), cl, callGet))
				callRead(c)
			}
			end(cl, c)
			for _, done := range all {
				got := peer.Receive(t, done)
				require.ErrorIs(t, got.err, websocket.ErrConnClosed)
				require.True(t, got.failed(t).InDoubt)
			}
			require.True(t, peer.Eventually(func() bool { return cl.SendText(nil) != nil }))
			res, err := cl.Call(context.Background(), callGet)
			require.ErrorIs(t, err, websocket.ErrConnClosed)
			require.False(t, callResult{res, err}.failed(t).InDoubt)
		})
	}
	t.Run("an answer in front of the end counts", func(t *testing.T) {
		peer.CheckGoroutines(t)
		for range 50 {
			cl := new(websocket.Client)
			c := peer.Open(t, cl)
			done := callGo(context.Background(), cl, callGet)
			c.Send(callAnswer(callRead(c).ID, "it"))
			c.Conn.Close()
			require.Equal(t, "it", peer.Receive(t, done).body(t))
		}
	})
}

func TestCall_handlers(t *testing.T) {
	for name, client := range map[string]*websocket.Client{
		"":                             {},
		", compressed":                 {Compression: &websocket.Compression{MinSize: 1}},
		", and messages have no limit": {MaxMessageSize: math.MaxInt},
	} {
		t.Run("a handler may call, whatever waits behind its message"+name, func(t *testing.T) {
			results := make(chan callResult, 1)
			var handled atomic.Int64
			const behind = 100
			s := callServer(t, &websocket.ServerOptions{Compression: client.Compression, HandleClientAdd: func(_ context.Context, conn int) {
				for range behind + 1 {
					websocket.SendText(conn, []byte(strconv.Itoa(rand.Int())+strings.Repeat("x", 10_000)))
				}
			}})
			client.HandleText = func(cl *websocket.Client, _ *websocket.Frame) error {
				if handled.Add(1) == 1 {
					res, err := cl.Call(callContext(t), &websocket.Request{Method: "POST", Target: "/echo", Body: "it"})
					results <- callResult{res, err}
				}
				return nil
			}
			callClient(t, s, client)
			require.Equal(t, "it", peer.Receive(t, results).body(t))
			require.True(t, peer.Eventually(func() bool { return handled.Load() == behind+1 }))
		})
	}
	t.Run("what waits has a limit, beyond which the call fails", func(t *testing.T) {
		peer.CheckGoroutines(t)
		errs := make(chan error, 10)
		handled := make(chan int, 1000)
		n := 0
		cl := &websocket.Client{MaxMessageSize: 1 << 20, HandleText: func(cl *websocket.Client, _ *websocket.Frame) error {
			if n++; n == 1 {
				for range 2 {
					_, err := cl.Call(context.Background(), callGet)
					errs <- err
				}
			}
			handled <- n
			return nil
		}}
		c := peer.Open(t, cl)
		const behind = 40
		go func() { // the socket takes less
			packet := websocket.NewFrameText(false, make([]byte, 1<<18))
			c.Conn.Write(callText("begin"))
			for range behind {
				c.Conn.Write(packet)
			}
		}()
		for range 2 {
			callRead(c)
			require.ErrorContains(t, peer.Receive(t, errs), "too many messages")
		}
		for i := range behind + 1 {
			require.Equal(t, i+1, peer.Receive(t, handled))
		}
	})
	t.Run("HandleQuit and HandleState may call: there is no connection", func(t *testing.T) {
		peer.CheckGoroutines(t)
		errs := make(chan error, 10)
		cl := new(websocket.Client)
		call := func() {
			_, err := cl.Call(context.Background(), callGet)
			errs <- err
		}
		cl.HandleQuit = call
		cl.HandleState = func(_ *websocket.Client, state websocket.ClientState, _ error) {
			if state != websocket.StateConnected {
				call()
			}
		}
		c := peer.Open(t, cl)
		c.Conn.Close()
		for range 3 { // connecting, quit, ended
			require.ErrorIs(t, peer.Receive(t, errs), websocket.ErrConnClosed)
		}
	})
}

// 100,000 calls with random cancellations, answers in random order, and broadcasts between them.
func TestCall_many(t *testing.T) {
	const calls, atOnce = 100_000, 500
	var served, broadcasts, answered, cancelled, heard, strange atomic.Int64
	s := peer.Start(t, &websocket.ServerOptions{RequestsAtOnce: 64})
	require.NoError(t, s.RegisterTextHandler("GET", "/:n", func(_ context.Context, req *websocket.Request) websocket.Response {
		if served.Add(1)%100 == 0 {
			packet, _ := websocket.NewBroadcast("news", "")
			broadcasts.Add(1)
			websocket.Send(req.Conn, packet)
		}
		return websocket.Response{Code: 200, Body: req.Params["n"]}
	}))
	cl := &websocket.Client{HandleText: func(_ *websocket.Client, f *websocket.Frame) error {
		if strings.Contains(string(f.Payload()), "news") {
			heard.Add(1)
		} else {
			strange.Add(1)
		}
		return nil
	}}
	callClient(t, s, cl)
	var next atomic.Int64
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for i := next.Add(1); i <= calls; i = next.Add(1) {
				ctx, cancel := context.WithTimeout(context.Background(), peer.Deadline)
				if rand.IntN(3) == 0 {
					go cancel()
				}
				n := strconv.FormatInt(i, 10)
				res, err := cl.Call(ctx, &websocket.Request{Method: "GET", Target: "/" + n})
				cancel()
				switch {
				case err == nil:
					answered.Add(1)
					assert.Equal(t, n, res.Body)
				case assert.ErrorIs(t, err, context.Canceled):
					cancelled.Add(1)
				}
			}
		})
	}
	all.Wait()
	res, err := cl.Call(callContext(t), &websocket.Request{Method: "GET", Target: "/last"})
	require.Equal(t, "last", callResult{res, err}.body(t))
	t.Logf("%d answered, %d cancelled, %d served", answered.Load(), cancelled.Load(), served.Load())
	require.EqualValues(t, calls, answered.Load()+cancelled.Load())
	require.NotZero(t, cancelled.Load())
	require.True(t, peer.Eventually(func() bool { return heard.Load() == broadcasts.Load() }))
	require.Zero(t, strange.Load(), "late answers reach nobody")
}
