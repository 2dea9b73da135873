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
func unsentBytes(int) int                               { return 0 }
func acceptSocket(int) (int, error)                     { return -1, ErrUnsupported }
func listenerDescriptor(net.Listener) (int, error)      { return -1, ErrUnsupported }
func unblockListener(int)                               {}
func socketOf(net.Conn) (int, bool, error)              { return -1, true, ErrUnsupported }
func connOf(int) (net.Conn, error)                      { return nil, ErrUnsupported }
func newPair() (int, *net.UnixConn, error)              { return -1, nil, ErrUnsupported }
func isOutOfDescriptors(error) bool                     { return false }
func waitSocket(int, bool, time.Duration) error         { return ErrUnsupported }
func newPlaceholder() (int, error)                      { return -1, ErrUnsupported }
func coverSocket(int, int) error                        { return ErrUnsupported }
func halfCloseSocket(int)                               {}
func shutSocket(int)                                    {}
func closeDescriptor(int)                               {}
func carriedBytes(int) (received, sent uint64, ok bool) { return 0, 0, false }
func maxDescriptors() int                               { return 0 }
func peerAddress(int) net.Addr                          { return nil }
func localAddress(int) net.Addr                         { return nil }

// poller is missing on this system.
type poller struct{ rests func(at int64) }

func newPoller() (*poller, error) { return nil, ErrUnsupported }

func (*poller) add(int, uint32) error         { return ErrUnsupported }
func (*poller) wantWrite(int, uint32)         {}
func (*poller) remove(int)                    {}
func (*poller) wait(int64) (n int, err error) { return 0, ErrUnsupported }
func (*poller) at(int) readiness              { return readiness{} }
func (*poller) wake()                         {}
func (*poller) close()                        {}
