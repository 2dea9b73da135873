//go:build !linux

package peer

// InKernel knows nothing: these systems do not tell what a socket has not sent yet.
func (c *Conn) InKernel(int) (toServer, toClient int, ok bool) { return 0, 0, false }
