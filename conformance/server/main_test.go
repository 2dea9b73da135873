package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/wsloop/websocket"
	"github.com/wsloop/websocket/conformance/internal/program"
)

const deadline = 10 * time.Second

// start runs the program and returns the URL that it prints. At the end of the test the program is told to stop, and its exit
// code must be 0.
func start(t *testing.T) (url string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	exit := make(chan int, 1)
	go func() {
		code := run(ctx, []string{"-addr", "127.0.0.1:0"}, in, io.Discard)
		in.Close()
		exit <- code
	}()
	t.Cleanup(func() {
		cancel()
		assert.Equal(t, 0, receive(t, exit), "exit code")
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return line[:len(line)-1]
}

func receive[T any](t *testing.T, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(deadline):
		t.Error("nothing came before the deadline")
	}
	return value
}

func TestServerEchoesTextAndBinary(t *testing.T) {
	frames := make(chan *websocket.Frame, 1)
	take := func(_ *websocket.Client, frame *websocket.Frame) error {
		frames <- frame
		return nil
	}
	client := &websocket.Client{Endpoint: start(t), HandleText: take, HandleBin: take, MaxMessageSize: program.MaxMessageSize}
	client.Compression = program.Compression()
	require.NoError(t, client.Connect())
	defer client.Close()
	assert.Contains(t, client.Response().Get("Sec-Websocket-Extensions"), "permessage-deflate")
	for _, tc := range []struct {
		opcode websocket.Opcode
		size   int
	}{
		{websocket.OpcodeText, 0}, {websocket.OpcodeText, 1}, {websocket.OpcodeText, 65536},
		{websocket.OpcodeBin, 0}, {websocket.OpcodeBin, 126}, {websocket.OpcodeBin, 17 << 20},
	} {
		payload := bytes.Repeat([]byte{'*'}, tc.size)
		send := client.SendBin
		if tc.opcode == websocket.OpcodeText {
			send = client.SendText
		}
		require.NoError(t, send(payload))
		frame := receive(t, frames)
		require.NotNil(t, frame)
		assert.Equal(t, tc.opcode, frame.Opcode())
		assert.Truef(t, bytes.Equal(payload, frame.Payload()), "opcode %d, %d bytes", tc.opcode, tc.size)
	}
}

func TestServerExitsWithAnErrorWhere(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		code int
	}{
		"the address is no address":   {[]string{"-addr", "127.0.0.1:none"}, 1},
		"a flag is unknown":           {[]string{"-none"}, 2},
		"there is an argument":        {[]string{"9001"}, 2},
		"help is wanted, it does not": {[]string{"-h"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tc.code, run(t.Context(), tc.args, io.Discard, io.Discard))
		})
	}
}
