//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package figures

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wsloop/websocket"
)

// shutdownClients is in the environment of a process that has the clients of a server: its address.
const shutdownClients = "WEBSOCKET_SHUTDOWN_CLIENTS"

// shutdownSeen is what the clients have seen.
type shutdownSeen struct {
	Answers int64         // to their messages
	Closes  []int         // Close frames with StatusGone, by the second after the first
	Lost    int           // connections that ended in another way
	Before  time.Duration // which 98 of 100 answers took at most, before the first was closed
	During  time.Duration // and from then on
}

// A server with 10,000 connections is shut down, while each sends a message every four seconds and one of a hundred handlers takes 200
// ms. How many are closed each second, how long do answers take meanwhile, and is there one for each message that was handled? Then the
// same with two seconds of time, and a hundred handlers that do not return.
func BenchmarkShutdown(b *testing.B) {
	b.Run("paced", func(b *testing.B) { shutdownFigures(b, 30*time.Second, 0) })
	b.Run("cut", func(b *testing.B) { shutdownFigures(b, 2*time.Second, 100) })
}

const shutdownConns = 10000

func shutdownFigures(b *testing.B, limit time.Duration, stuck int64) {
	var handled, slow atomic.Int64
	release := make(chan struct{})
	serv, address := server(b, &websocket.ServerOptions{HandleText: func(conn int, payload []byte) {
		n := handled.Add(1)
		switch {
		case n <= stuck:
			<-release
		case n%100 == 0:
			slow.Add(1)
			time.Sleep(200 * time.Millisecond)
		}
		websocket.SendText(conn, payload)
	}})
	child := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkShutdownClients$", "-test.benchtime=1x")
	child.Env, child.Stderr = append(os.Environ(), shutdownClients+"="+address), os.Stderr
	out, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	for serv.Clients.Len() < shutdownConns {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(4 * time.Second) // each sends
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	start := time.Now()
	err := serv.Shutdown(ctx)
	b.ReportMetric(time.Since(start).Seconds(), "s-shutdown")
	close(release)
	var seen shutdownSeen
	if err := json.NewDecoder(out).Decode(&seen); err != nil {
		b.Fatal(err)
	}
	go io.Copy(io.Discard, out)
	child.Wait()
	var cut *websocket.ShutdownError
	errors.As(err, &cut)
	if cut != nil {
		b.ReportMetric(float64(cut.Connections), "cut")
	}
	b.Logf("%v; closes in each second: %v; handled %d (%d slow), answered %d", err, seen.Closes, handled.Load(), slow.Load(), seen.Answers)
	b.ReportMetric(float64(slices.Max(append(seen.Closes, 0))), "closes/s-most")
	b.ReportMetric(float64(handled.Load()-seen.Answers), "unanswered")
	b.ReportMetric(float64(seen.Lost), "lost")
	b.ReportMetric(milliseconds(seen.Before), "ms-p98-before")
	b.ReportMetric(milliseconds(seen.During), "ms-p98-during")
}

// BenchmarkShutdownClients is the process of the clients.
func BenchmarkShutdownClients(b *testing.B) {
	address := os.Getenv(shutdownClients)
	if address == "" {
		b.Skip("it is a part of BenchmarkShutdown")
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var seen shutdownSeen
	var first time.Time
	var took []shutdownAnswer
	for range shutdownConns {
		c, err := dial(address)
		if err != nil {
			b.Fatal(err)
		}
		all.Go(func() {
			defer c.Close()
			answers, times, gone := c.untilGone()
			mu.Lock()
			defer mu.Unlock()
			seen.Answers += int64(answers)
			took = append(took, times...)
			if !gone {
				seen.Lost++
				return
			}
			if first.IsZero() {
				first = time.Now()
			}
			second := int(time.Since(first) / time.Second)
			seen.Closes = append(seen.Closes, make([]int, max(0, second+1-len(seen.Closes)))...)
			seen.Closes[second]++
		})
	}
	all.Wait()
	seen.Before = answersP98(took, func(at time.Time) bool { return at.Before(first) })
	seen.During = answersP98(took, func(at time.Time) bool { return !at.Before(first) })
	text, _ := json.Marshal(seen)
	fmt.Printf("%s\n", text)
}

// shutdownAnswer is when a message was sent, and how long its answer took.
type shutdownAnswer struct {
	at   time.Time
	took time.Duration
}

// answersP98 returns what 98 of 100 answers to some messages took at most: one of a hundred handlers is slow itself.
func answersP98(all []shutdownAnswer, of func(at time.Time) bool) time.Duration {
	var took []time.Duration
	for _, a := range all {
		if of(a.at) {
			took = append(took, a.took)
		}
	}
	slices.Sort(took)
	return append(took, 0)[len(took)*98/100]
}

// goneFrame is a Close frame with StatusGone.
const goneFrame = "\x88\x02\x03\xE9"

// untilGone sends a message now and then, until the server closes the connection.
func (c *figureClient) untilGone() (answers int, took []shutdownAnswer, gone bool) {
	const text = "hello"
	frames := make(chan []byte, 1)
	go func() {
		defer close(frames)
		for {
			if head, _ := c.in.Peek(4); string(head) == goneFrame {
				frames <- head
				c.in.Discard(len(head))
			}
			payload, err := c.readMessage()
			if err != nil {
				return
			}
			frames <- payload
		}
	}()
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(4 * time.Second))))
	defer timer.Stop()
	var sent time.Time
	for {
		select {
		case payload, ok := <-frames:
			switch {
			case !ok:
				return answers, took, gone
			case string(payload) == text:
				answers++
				took = append(took, shutdownAnswer{sent, time.Since(sent)})
				timer.Reset(4 * time.Second)
			case string(payload) == goneFrame:
				gone = true
				c.Write(websocket.NewFrameClose(true, websocket.StatusGone, nil))
			}
		case <-timer.C:
			sent = time.Now()
			c.Write(websocket.NewFrameText(true, []byte(text)))
		}
	}
}
