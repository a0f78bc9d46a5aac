package stream

import (
	"net"
	"syscall"
	"time"
)

const tcpUserTimeout = 0x12 // TCP_USER_TIMEOUT of tcp(7); package syscall does not name it

// maxInFlight bounds what the kernel holds for a client that does not read. A stalled client of the stream of all
// agents would otherwise take 4 MB before a write blocks and the client is cut off.
const maxInFlight = 256 << 10

// limitSocket makes the kernel give up on a client that does not acknowledge what was sent. Without it, a desktop whose
// network went away keeps its connection for a quarter of an hour, because heartbeats hide it from keep-alive probes,
// and a few of those use up what one agent may hold open.
func limitSocket(c *net.TCPConn, timeout time.Duration) {
	_ = c.SetWriteBuffer(maxInFlight)
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(userTimeout(timeout).Milliseconds()))
	})
}

// userTimeout leaves time for a few retransmissions on a bad line.
func userTimeout(writeTimeout time.Duration) time.Duration {
	return max(4*writeTimeout, 20*time.Second)
}
