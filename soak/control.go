package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// Commands of the driver to the server: one a line. Each is answered with a report, in JSON on one line.
const (
	cmdStats  = "stats"  // report the state of the server
	cmdPush   = "push"   // begin to send to users and to all
	cmdQuiet  = "quiet"  // stop that
	cmdSettle = "settle" // wait until all clients have gone, and free what is free
	cmdStop   = "stop"   // stop the servers
)

// answerTimeout is how long the server may take to answer a command.
const answerTimeout = 2 * time.Minute

// report is what the server says about itself. The first one comes without being asked for.
type report struct {
	Entrances []entrances `json:",omitempty"`

	StoppedGoroutines  int `json:",omitempty"` // before the servers were started
	StoppedDescriptors int `json:",omitempty"`

	Goroutines  int
	Descriptors int // without those held back
	Held        int // numbers of closed connections
	Resident    int // bytes
	Heap        int // bytes in use
	Conns       int
	Panics      int           // on command
	Delay       time.Duration // the longest for which the process was held up since the last report
	Failures    int           // to send an answer to a client that behaves

	LastBroadcast uint32            `json:",omitempty"`
	LastUser      map[uint32]uint32 `json:",omitempty"`
	Skipped       []push            `json:",omitempty"`
	Stacks        string            `json:",omitempty"` // if goroutines are left
}

// push names one message of the server for one session.
type push struct {
	Session uint32
	Kind    byte
	Seq     uint32
}

// serverProcess is the driver's end of the server.
type serverProcess struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan []byte // closed at the end of the process's output
}

// startServer starts this program once more, as the server, and returns its first report.
func startServer(log io.Writer) (p *serverProcess, first report, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, first, err
	}
	p = &serverProcess{cmd: exec.Command(self), lines: make(chan []byte, 1)}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+roleServer)
	p.cmd.Stderr = log
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, first, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, first, err
	}
	if err = p.cmd.Start(); err != nil {
		return nil, first, err
	}
	go func() {
		defer close(p.lines)
		for r := bufio.NewReader(stdout); ; {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			p.lines <- line
		}
	}()
	if first, err = p.read(); err != nil {
		p.end()
	}
	return p, first, err
}

// ask sends a command and returns the answer. One goroutine at a time may call it.
func (p *serverProcess) ask(command string) (report, error) {
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return report{}, fmt.Errorf("server: %w", err)
	}
	return p.read()
}

func (p *serverProcess) read() (r report, err error) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			return r, fmt.Errorf("server: %w", io.ErrUnexpectedEOF)
		}
		return r, json.Unmarshal(line, &r)
	case <-time.After(answerTimeout):
		return r, fmt.Errorf("server: %w", os.ErrDeadlineExceeded)
	}
}

// end closes the server's input, which ends it, and waits for that.
func (p *serverProcess) end() error {
	p.in.Close()
	timer := time.AfterFunc(answerTimeout, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	for range p.lines { // until all has been read
	}
	return p.cmd.Wait()
}
