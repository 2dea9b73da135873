//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package websocket

import (
	"net"
	"time"
)

func readSocket(int, []byte) (int, error)               { return 0, ErrUnsupported }
func writeSocket(int, []byte, bool) (int, error)        { return 0, ErrUnsupported }
func writeSocketParts(int, []byte, []byte) (int, error) { return 0, ErrUnsupported }
func waitingBytes(int) int                              { return 0 }
func unackedBytes(int) int                              { return 0 }
func acceptSocket(int) (int, error)                     { return -1, ErrUnsupported }
func listenerDescriptor(net.Listener) (int, error)      { return -1, ErrUnsupported }
func unblockListener(int)                               {}
func waitSocket(int, bool, time.Duration) error         { return ErrUnsupported }
func newPlaceholder() (int, error)                      { return -1, ErrUnsupported }
func coverSocket(int, int) error                        { return ErrUnsupported }
func halfCloseSocket(int)                               {}
func shutSocket(int)                                    {}
func closeDescriptor(int)                               {}
func maxDescriptors() int                               { return 0 }
func peerAddress(int) net.Addr                          { return nil }
