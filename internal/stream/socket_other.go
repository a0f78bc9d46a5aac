//go:build !linux

package stream

import (
	"net"
	"syscall"
	"time"
)

// maxInFlight: see socket_linux.go.
const maxInFlight = 256 << 10

// limitSocket bounds what the kernel holds for a client that does not read. Giving up on one that does not acknowledge
// is left to the kernel's own timeout here.
func limitSocket(c *net.TCPConn, _ time.Duration) { _ = c.SetWriteBuffer(maxInFlight) }

// writeNow writes nothing: what a socket takes without waiting is left to the deadline of a write here.
func writeNow(syscall.RawConn, []byte) (int, error) { return 0, nil }
