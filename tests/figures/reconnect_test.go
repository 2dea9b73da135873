//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package figures

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wsloop/websocket"
)

// reconnectRole is in the environment of a process that plays a part in BenchmarkReconnect: what it is, an address, and the clients' Min.
const reconnectRole = "WEBSOCKET_RECONNECT"

const reconnectClients = 10_000

// reconnectSeen is what the clients have seen, by the second since the first has lost its connection.
type reconnectSeen struct {
	Tries    []int
	Connects []int
}

// A server with 10,000 clients is replaced by another on the same port. How many connect in each second, and how long does it take? The
// first shuts down, and clients that come meanwhile are refused with Retry-After; or it is killed, which all of them notice at once, and
// is away for five seconds.
func BenchmarkReconnect(b *testing.B) {
	b.Run("shutdown", func(b *testing.B) { reconnectFigures(b, syscall.SIGTERM, 0, 0) })
	b.Run("killed", func(b *testing.B) { reconnectFigures(b, syscall.SIGKILL, 5*time.Second, 0) })
	b.Run("killed-min-10s", func(b *testing.B) { reconnectFigures(b, syscall.SIGKILL, 5*time.Second, 10*time.Second) })
}

func reconnectFigures(b *testing.B, end syscall.Signal, away, least time.Duration) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := ln.Addr().String()
	ln.Close()
	first, said := reconnectProcess(b, "server", address, "0")
	said.ReadString('\n')
	clients, seen := reconnectProcess(b, "clients", address, least.String())
	if line, err := seen.ReadString('\n'); err != nil {
		b.Fatal(line, err)
	}
	first.Process.Signal(end)
	first.Wait()
	time.Sleep(away)
	_, said = reconnectProcess(b, "server", address, "0")
	said.ReadString('\n')
	var got reconnectSeen
	if err := json.NewDecoder(seen).Decode(&got); err != nil {
		b.Fatal(err)
	}
	go io.Copy(io.Discard, seen)
	clients.Wait()
	b.Logf("connects in each second: %v; tries: %v", got.Connects, got.Tries)
	b.ReportMetric(float64(slices.Max(got.Connects)), "connects/s-most")
	b.ReportMetric(float64(slices.Max(got.Tries)), "tries/s-most")
	b.ReportMetric(float64(len(got.Connects)), "s-until-all")
}

// reconnectProcess starts a process with a role, and returns what it says.
func reconnectProcess(b *testing.B, role ...string) (*exec.Cmd, *bufio.Reader) {
	process := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkReconnectRole$", "-test.benchtime=1x")
	process.Env, process.Stderr = append(os.Environ(), reconnectRole+"="+strings.Join(role, " ")), os.Stderr
	out, err := process.StdoutPipe()
	if err == nil {
		err = process.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
	})
	said := bufio.NewReader(out)
	return process, said
}

// BenchmarkReconnectRole is one of the processes.
func BenchmarkReconnectRole(b *testing.B) {
	role := strings.Fields(os.Getenv(reconnectRole))
	switch {
	case len(role) == 0:
		b.Skip("it is a part of BenchmarkReconnect")
	case role[0] == "server":
		reconnectServer(b, role[1])
	default:
		least, _ := time.ParseDuration(role[2])
		reconnectAll(b, "ws://"+role[1]+"/", least)
	}
}

// reconnectServer serves until it is killed, or told to shut down.
func reconnectServer(b *testing.B, address string) {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	ln, err := net.Listen("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	serv := websocket.NewServer(nil)
	go serv.Serve(ln)
	fmt.Println()
	<-end
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := serv.Shutdown(ctx); err != nil {
		b.Error(err)
	}
}

// reconnectAll connects all clients, says so, and tells when all have connected again.
func reconnectAll(b *testing.B, endpoint string, least time.Duration) {
	var mu sync.Mutex
	var begin time.Time
	var seen reconnectSeen
	isReady, back, all := false, 0, make(chan struct{})
	count := func(seconds *[]int) {
		second := int(time.Since(begin) / time.Second)
		*seconds = append(*seconds, make([]int, max(0, second+1-len(*seconds)))...)
		(*seconds)[second]++
	}
	told := func(_ *websocket.Client, state websocket.ClientState, _ error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case !isReady:
		case state == websocket.StateWaiting && begin.IsZero():
			begin = time.Now()
		case state == websocket.StateConnecting:
			count(&seen.Tries)
		case state == websocket.StateConnected:
			count(&seen.Connects)
			if back++; back == reconnectClients {
				close(all)
			}
		}
	}
	reconnect := &websocket.Reconnect{Min: least}
	silent := slog.New(slog.DiscardHandler)
	for range reconnectClients {
		cl := &websocket.Client{Endpoint: endpoint, Reconnect: reconnect, Logger: silent}
		connected := make(chan struct{})
		cl.HandleState = func(cl *websocket.Client, state websocket.ClientState, cause error) {
			if told(cl, state, cause); state == websocket.StateConnected && connected != nil {
				close(connected)
				connected = nil
			}
		}
		ready := connected
		if err := cl.Connect(); err != nil {
			b.Fatal(err)
		}
		<-ready
		defer cl.Quit()
	}
	mu.Lock()
	isReady = true
	mu.Unlock()
	fmt.Println("ready")
	<-all
	mu.Lock()
	defer mu.Unlock()
	text, _ := json.Marshal(seen)
	fmt.Printf("%s\n", text)
}
