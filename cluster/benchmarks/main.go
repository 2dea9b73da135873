// Command benchmarks measures fan-out: three nodes, in processes of their own, with a thousand subscribers each, and one of them publishes.
// It compares this package, with its embedded broker and with a NATS server, with centrifuge and the same NATS server.
//
//	go run . -rounds 3
//
// There are two loads: up to 16 messages on their way at a time, and one at a time. What is published next waits for that, so that nobody
// loses any. CPU is that of the nodes and of
// the broker, not that of the subscribers, which are in this process.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	nodes       = 3
	subscribers = 1000 // of each node
	topic       = "topic"

	// mark is the byte that each message has once, by which subscribers count: it is in no header either, such as 126 would be.
	mark = 'Q'

	roleVariable = "FANOUT_ROLE"
)

// body is what is published: 128 bytes.
var body = func() string {
	b := make([]byte, 128)
	for i := range b {
		b[i] = 'x'
	}
	b[0] = mark
	return string(b)
}()

// settings of a process.
type settings struct {
	URL    string
	Listen string
	Peers  []string
	Port   int
}

// hello is the first line that a process writes, order one that it reads, and spent what it answers.
type hello struct{ Addr string }
type order struct{ Publish int }
type spent struct{ CPU time.Duration }

// contestant is what is measured.
type contestant struct {
	name  string
	role  string
	nats  bool
	greet []byte // what a subscriber sends after the handshake
	path  string
}

var contestants = []contestant{
	{name: "websocket, embedded broker", role: "ours", greet: masked(`{"id":1,"method":"PUT","target":"/subscription","body":"` + topic + `"}`), path: "/"},
	{name: "websocket, NATS server", role: "ours", nats: true, greet: masked(`{"id":1,"method":"PUT","target":"/subscription","body":"` + topic + `"}`), path: "/"},
	{name: "centrifuge, NATS server", role: "centrifuge", nats: true, greet: masked(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"` + topic + `"}}`), path: "/connection/websocket"},
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		play(role)
		return
	}
	rounds := flag.Int("rounds", 3, "rounds, in each of which all are measured")
	messages := flag.Int("messages", 500, "messages of a measurement")
	flag.Parse()
	fmt.Println("| | on their way | delivered each second | CPU for each delivery, ns |\n|---|--:|--:|--:|")
	for range *rounds {
		for _, window := range []int{16, 1} {
			for _, c := range contestants {
				rate, cpu, err := measure(c, *messages, window)
				if err != nil {
					fmt.Printf("| %s | %d | %v | |\n", c.name, window, err)
					continue
				}
				fmt.Printf("| %s | %d | %.0f | %.0f |\n", c.name, window, rate, cpu)
			}
		}
	}
}

// measure has a contestant publish, and returns deliveries per second and CPU time of each in nanoseconds.
func measure(c contestant, messages, window int) (rate, cpu float64, err error) {
	var all []*process
	defer func() {
		for _, p := range all {
			p.end()
		}
	}()
	s := settings{}
	if c.nats {
		s.Port = freePort()
		broker, err := start("broker", s)
		if err != nil {
			return 0, 0, err
		}
		all = append(all, broker)
		s.URL = fmt.Sprintf("nats://127.0.0.1:%d", s.Port)
	} else {
		for range nodes {
			s.Peers = append(s.Peers, fmt.Sprintf("127.0.0.1:%d", freePort()))
		}
	}
	var crowd crowd
	defer crowd.leave()
	for i := range nodes {
		if !c.nats {
			s.Listen = s.Peers[i]
		}
		p, err := start(c.role, s)
		if err != nil {
			return 0, 0, err
		}
		all = append(all, p)
		for range subscribers {
			if err = crowd.join(p.Addr, c); err != nil {
				return 0, 0, err
			}
		}
	}
	publisher := all[len(all)-1]
	if err = crowd.warm(publisher); err != nil {
		return 0, 0, err
	}
	return crowd.run(publisher, all, messages, window)
}

// crowd are the subscribers.
type crowd struct {
	got   atomic.Int64
	conns []net.Conn
}

func (w *crowd) join(addr string, c contestant) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	w.conns = append(w.conns, conn)
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", c.path)
	in := bufio.NewReaderSize(conn, 4<<10)
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	if _, err = conn.Write(c.greet); err != nil {
		return err
	}
	go w.listen(in)
	return nil
}

// listen counts messages.
func (w *crowd) listen(in io.Reader) {
	buf := make([]byte, 4<<10)
	for {
		n, err := in.Read(buf)
		for _, b := range buf[:n] {
			if b == mark {
				w.got.Add(1)
			}
		}
		if err != nil {
			return
		}
	}
}

func (w *crowd) leave() {
	for _, conn := range w.conns {
		conn.Close()
	}
}

// warm publishes until all get it: until all subscriptions have reached all nodes.
func (w *crowd) warm(publisher *process) error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		w.got.Store(0)
		if _, err := publisher.do(order{Publish: 1}); err != nil {
			return err
		}
		if w.await(nodes*subscribers, time.Second) {
			return nil
		}
	}
	return fmt.Errorf("only %d of %d get messages", w.got.Load(), nodes*subscribers)
}

func (w *crowd) await(count int64, most time.Duration) bool {
	for deadline := time.Now().Add(most); w.got.Load() < count; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

func (w *crowd) run(publisher *process, all []*process, messages, window int) (rate, cpu float64, err error) {
	w.got.Store(0)
	before, err := total(all)
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	step := max(window/2, 1)
	for sent := 0; sent < messages; sent += step {
		if !w.await(int64((sent+step-window)*nodes*subscribers), 30*time.Second) {
			return 0, 0, fmt.Errorf("lost: %d of %d", w.got.Load(), sent*nodes*subscribers)
		}
		if _, err = publisher.do(order{Publish: step}); err != nil {
			return 0, 0, err
		}
	}
	deliveries := int64((messages + step - 1) / step * step * nodes * subscribers)
	if !w.await(deliveries, 30*time.Second) {
		return 0, 0, fmt.Errorf("lost: %d of %d", w.got.Load(), deliveries)
	}
	took := time.Since(begin)
	after, err := total(all)
	return float64(deliveries) / took.Seconds(), float64(after-before) / float64(deliveries), err
}

// total is the CPU time of processes.
func total(all []*process) (sum time.Duration, err error) {
	for _, p := range all {
		s, err := p.do(order{})
		if err != nil {
			return 0, err
		}
		sum += s.CPU
	}
	return sum, nil
}

// process is a node or the broker.
type process struct {
	hello
	cmd *exec.Cmd
	mu  sync.Mutex
	in  *json.Encoder
	out *json.Decoder
}

func start(role string, s settings) (*process, error) {
	text, _ := json.Marshal(s)
	p := &process{cmd: exec.Command(os.Args[0], string(text))}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = json.NewEncoder(in), json.NewDecoder(out)
	if err = p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, p.out.Decode(&p.hello)
}

func (p *process) do(o order) (s spent, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err = p.in.Encode(o); err != nil {
		return s, err
	}
	return s, p.out.Decode(&s)
}

func (p *process) end() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// play is a process: it publishes as it is told to, and answers with the CPU time that it has had.
func play(role string) {
	var s settings
	if err := json.Unmarshal([]byte(os.Args[1]), &s); err != nil {
		panic(err)
	}
	var addr string
	publish := func() {}
	switch role {
	case "broker":
		playBroker(s)
	case "ours":
		addr, publish = playOurs(s)
	case "centrifuge":
		addr, publish = playCentrifuge(s)
	}
	out, in := json.NewEncoder(os.Stdout), json.NewDecoder(os.Stdin)
	out.Encode(hello{addr})
	for {
		var o order
		if in.Decode(&o) != nil {
			return
		}
		for range o.Publish {
			publish()
		}
		var usage syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
		out.Encode(spent{time.Duration(usage.Utime.Nano() + usage.Stime.Nano())})
	}
}

func playBroker(s settings) {
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: s.Port, NoSigs: true, NoLog: true})
	if err != nil {
		panic(err)
	}
	go broker.Start()
	if !broker.ReadyForConnections(10 * time.Second) {
		panic("the broker does not start")
	}
}

func freePort() int {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// masked is a text frame of a client (RFC 6455, section 5.3), with a mask that changes nothing.
func masked(text string) []byte {
	frame := []byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}
	if len(text) > 125 {
		frame = []byte{0x81, 0x80 | 126, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0}
	}
	return append(frame, text...)
}
