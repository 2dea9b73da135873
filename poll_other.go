//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package websocket

// poller is missing on this system.
type poller struct{}

func newPoller() (*poller, error) { return nil, ErrUnsupported }

func (*poller) add(int, uint32) error         { return ErrUnsupported }
func (*poller) wantWrite(int, uint32)         {}
func (*poller) remove(int)                    {}
func (*poller) wait(int64) (n int, err error) { return 0, ErrUnsupported }
func (*poller) at(int) readiness              { return readiness{} }
func (*poller) wake()                         {}
func (*poller) close()                        {}
