package peer

import (
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Raced says that the race detector is at work.
var Raced = sync.OnceValue(func() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
})

// PlainServer sends each byte back, without this package, until the end of the test. It returns its address.
func PlainServer(t *testing.T) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			remote, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer remote.Close()
				b := make([]byte, 1)
				for {
					if _, err := remote.Read(b); err != nil {
						return
					}
					remote.Write(b)
				}
			}()
		}
	}()
	return ln.Addr().String()
}
