package stream

import (
	"net"
	"sync"
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

// writeNow writes as much of p as the kernel takes without waiting.
func writeNow(c syscall.RawConn, p []byte) (int, error) {
	a := attempts.Get().(*attempt)
	defer attempts.Put(a)
	a.p = p
	err := c.Write(a.do)
	a.p = nil
	switch {
	case err != nil:
		return 0, err
	case a.err == syscall.EAGAIN: //nolint:errorlint // an Errno, as it comes
		return 0, nil
	}
	return a.n, a.err
}

// attempt is a write that does not wait. It is used again, because what net calls back would be made anew each time.
type attempt struct {
	p   []byte
	n   int
	err error
	do  func(fd uintptr) bool
}

var attempts = sync.Pool{New: func() any {
	a := &attempt{}
	a.do = a.write
	return a
}}

func (a *attempt) write(fd uintptr) bool {
	for {
		a.n, a.err = syscall.Write(int(fd), a.p)
		if a.err != syscall.EINTR { //nolint:errorlint // an Errno, as it comes
			return true // whatever came of it: the poller is not to wait
		}
	}
}
