package stream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// A desktop's network goes away without a word: no FIN, no RST, nothing is acknowledged any more. Its stream ends after TCP_USER_TIMEOUT, some
// twenty seconds after the first heartbeat that it missed, not after the kernel's quarter of an hour. The network is one of its own, with a
// loopback interface that can be switched off; that takes root.
func TestDesktopWhoseNetworkGoesAway(t *testing.T) {
	t.Parallel()
	s := newFakeStore()
	h := liveHub(t, s, func(o *Options) { o.Heartbeat = time.Second; o.WriteTimeout = time.Second })
	l, client, lo, err := ownNetwork(t)
	if errors.Is(err, syscall.EPERM) {
		t.Skip("a network of its own takes root: ", err)
	}
	require.NoError(t, err)
	server := &http.Server{Handler: handler(h.hub)}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	_, err = client.Write([]byte("GET /agents/agent-1 HTTP/1.1\r\nHost: x\r\n\r\n"))
	require.NoError(t, err)
	readUntil(t, client, ": heartbeat")
	require.NoError(t, lo(false))
	began := time.Now()
	require.Eventually(t, func() bool { return h.hub.Connections("agent-1") == 0 }, time.Minute, 10*time.Millisecond)
	took := time.Since(began)
	t.Logf("given up after %v", took)
	require.Less(t, took, 2*userTimeout(time.Second))
	require.Greater(t, took, userTimeout(time.Second)/2)
}

// ownNetwork returns a listener and a connection to it in a network namespace of their own, and what switches its loopback interface.
func ownNetwork(t *testing.T) (l net.Listener, client net.Conn, lo func(up bool) error, err error) {
	made := make(chan struct{})
	go func() { // on a thread of its own, which ends with it
		defer close(made)
		runtime.LockOSThread()
		if err = syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			return
		}
		var control int
		if control, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		t.Cleanup(func() { _ = syscall.Close(control) })
		lo = func(up bool) error {
			request := struct {
				name  [syscall.IFNAMSIZ]byte
				flags uint16
				_     [22]byte
			}{name: [syscall.IFNAMSIZ]byte{'l', 'o'}}
			if up {
				request.flags = syscall.IFF_UP | syscall.IFF_RUNNING
			}
			if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(control), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); e != 0 {
				return e
			}
			return nil
		}
		if err = lo(true); err != nil {
			return
		}
		if l, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0"); err != nil {
			return
		}
		// Dialed by hand: net might do it on another thread.
		var fd int
		if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		if err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return
		}
		f := os.NewFile(uintptr(fd), "client")
		defer f.Close()
		client, err = net.FileConn(f)
	}()
	<-made
	if client != nil {
		t.Cleanup(func() { _ = client.Close() })
	}
	return l, client, lo, err
}
