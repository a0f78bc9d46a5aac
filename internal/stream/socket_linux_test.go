package stream

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// counted is a connection as a listener that counts them wraps it.
type counted struct{ net.Conn }

func (c counted) NetConn() net.Conn { return c.Conn }

// A desktop whose network goes away must not keep its connection until the kernel's own timeout, a quarter of an hour; whatever is
// wrapped around the socket.
func TestUnacknowledgedConnectionsAreGivenUp(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"bare":                func(c net.Conn) net.Conn { return c },
		"wrapped":             func(c net.Conn) net.Conn { return counted{c} },
		"TLS":                 func(c net.Conn) net.Conn { return tls.Server(c, &tls.Config{}) },
		"TLS over a wrapping": func(c net.Conn) net.Conn { return tls.Server(counted{c}, &tls.Config{}) },
	} {
		t.Run(name, func(t *testing.T) { givesUp(t, wrap) })
	}
}

func givesUp(t *testing.T, wrap func(net.Conn) net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()
	newSocket(wrap(server), true, 7*time.Second)
	raw, err := server.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		ms, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
		require.NoError(t, err)
		require.Equal(t, 28_000, ms)
		bytes, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
		require.NoError(t, err)
		require.LessOrEqual(t, bytes, 2*maxInFlight, "the kernel doubles what is set")
	}))
}
