package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/wsloop/websocket"
)

// Requests: how many one client has under way, how large a body is, and the pause between two.
const (
	maxRequests    = 8
	maxRequestBody = 4096
	maxSlowRequest = 300 // milliseconds
	requestPause   = 100 * time.Millisecond
)

// registerRoutes registers what the server answers requests with.
func registerRoutes(serv *websocket.Server) error {
	echo := func(_ context.Context, req *websocket.Request) websocket.Response {
		return websocket.Response{Code: http.StatusOK, Message: req.Params["session"] + " " + req.Query.Get("n"), Body: req.Body}
	}
	slow := func(ctx context.Context, req *websocket.Request) websocket.Response {
		ms, _ := time.ParseDuration(req.Params["time"])
		time.Sleep(ms)
		return echo(ctx, req)
	}
	if err := serv.RegisterTextHandler(http.MethodGet, "/echo/:session", echo); err != nil {
		return err
	}
	return serv.RegisterTextHandler(http.MethodPost, "/slow/:session/:time", slow)
}

// requester is a client that sends requests, each of which is answered once, in any order.
type requester struct {
	d       *driver
	id      uint32
	wire    wire
	changed chan struct{}

	mu      sync.Mutex
	waiting map[uint64]websocket.Response // by id, what the answer is to be; guarded by mu
}

// requests is a client of the JSON router.
func (d *driver) requests(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		r := d.openRequester(rng)
		if r == nil {
			pause(ctx, rng, time.Second)
			continue
		}
		until := time.Now().Add(time.Duration((0.2 + rng.ExpFloat64()) * float64(sessionTime)))
		for n := uint64(1); time.Now().Before(until) && pause(ctx, rng, requestPause) && r.ask(rng, n); n++ {
		}
		r.finish()
	}
}

func (d *driver) openRequester(rng *rand.Rand) *requester {
	r := &requester{
		d: d, id: d.ids.Add(1), changed: make(chan struct{}, 1), waiting: make(map[uint64]websocket.Response),
	}
	query := fmt.Sprintf("id=%d&checked=1", r.id)
	var err error
	at := d.entrance(rng).Router
	if rng.IntN(2) == 0 {
		r.wire, err = dialClient(at, query, r.got)
	} else {
		r.wire, err = dialFragments(at, query, rng, r.got)
	}
	if err != nil {
		d.connectFailed(r.id, err)
		return nil
	}
	d.tally.connects.Add(1)
	d.tally.open.Add(1)
	return r
}

// ask sends a request, once there is room for it. It returns false if the connection has ended or nothing comes
// back.
func (r *requester) ask(rng *rand.Rand, n uint64) bool {
	body := string(r.d.fill.cut(rng, websocket.OpcodeText, rng.IntN(maxRequestBody)))
	req := websocket.Request{ID: n, Body: body}
	want := websocket.Response{ID: n, Code: http.StatusOK, Message: fmt.Sprintf("%d %d", r.id, n), Body: body}
	switch k := rng.IntN(10); k {
	case 0:
		req.Method, req.Target = http.MethodGet, fmt.Sprintf("/nowhere/%d", r.id)
		want.Code, want.Message, want.Body = http.StatusNotFound, req.Method+" "+req.Target, ""
	case 1, 2:
		req.Method, req.Target = http.MethodPost, fmt.Sprintf("/slow/%d/%dms?n=%d", r.id, rng.IntN(maxSlowRequest), n)
	default:
		req.Method, req.Target = http.MethodGet, fmt.Sprintf("/echo/%d?n=%d", r.id, n)
	}
	limit := time.After(graceTime)
	for r.countWaiting() >= maxRequests {
		if !r.await(limit) {
			return false
		}
	}
	r.mu.Lock()
	r.waiting[n] = want
	r.mu.Unlock()
	payload, err := json.Marshal(req)
	return err == nil && r.wire.send(websocket.OpcodeText, payload) == nil
}

// got is the requester's receiver.
func (r *requester) got(_ websocket.Opcode, payload []byte) {
	t := r.d.tally
	var res websocket.Response
	err := json.Unmarshal(payload, &res)
	r.mu.Lock()
	want, ok := r.waiting[res.ID]
	delete(r.waiting, res.ID)
	r.mu.Unlock()
	var session uint32
	fmt.Sscanf(res.Message, "%d", &session)
	switch {
	case err == nil && ok && res == want:
		t.answered.Add(1)
	case err == nil && res.Code == http.StatusOK && session != r.id:
		t.misdelivered.Add(1)
		r.d.problem("session %d got an answer for session %d", r.id, session)
	default:
		t.corrupted.Add(1)
		r.d.problem("session %d got answer %.60q instead of %.60q (error: %v)", r.id, payload, want.Message, err)
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *requester) await(limit <-chan time.Time) bool {
	select {
	case <-r.changed:
		return true
	case <-r.wire.ended():
		return false
	case <-limit:
		return false
	}
}

func (r *requester) countWaiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting)
}

// finish waits for the answers that are still to come, and closes the connection.
func (r *requester) finish() {
	defer r.d.tally.open.Add(-1)
	limit := time.After(graceTime)
	for r.countWaiting() > 0 && r.await(limit) {
	}
	var err error
	select {
	case <-r.wire.ended():
		err = fmt.Errorf("%w: %w", websocket.ErrConnClosed, r.wire.err())
	default:
		err = r.wire.close()
	}
	if r.d.cuts.has(r.id) {
		r.d.tally.cut.Add(1)
		return
	}
	r.d.noteEnd(r.id, err)
	if n := r.countWaiting(); n > 0 {
		r.d.tally.lost.Add(int64(n))
		r.d.problem("session %d: %d requests were not answered", r.id, n)
	}
}
