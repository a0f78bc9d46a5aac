package stream

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"changeover/internal/edge"
	"changeover/internal/logtest"
	"changeover/internal/store"
)

// What an idle stream costs must not grow unseen: heap and stacks of the process, without what the collector has yet to find. The clients
// are bare descriptors, which cost the process nothing.
func TestFootprintOfAnIdleStream(t *testing.T) {
	const streams, most = 1000, 4 << 10 // 3.5 KB were measured
	s := newFakeStore()
	for i := range streams {
		s.know(activeIn(east, benchAgent(i))...)
	}
	h := liveHub(t, forgetful{s})
	server := edge.NewServer(edge.Options{Handler: handler(h.hub), Log: logtest.New(nil)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); require.NoError(t, <-done) })

	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the test collects
	clients := make([]int, 0, streams)
	defer func() {
		for _, fd := range clients {
			_ = syscall.Close(fd)
		}
	}()
	open := func(from, to int) {
		for i := from; i < to; i++ {
			clients = append(clients, openRaw(t, l.Addr().(*net.TCPAddr).Port, benchAgent(i)))
		}
		h.hub.registry.flush(t.Context()) // what is yet to be written would be gone within a second
	}
	open(0, streams/10) // what the first streams bring about is not theirs
	before := footprint()
	open(streams/10, streams)
	require.Equal(t, 1, h.hub.Connections(benchAgent(streams-1)))
	each := float64(footprint()-before) / (streams - streams/10)
	t.Logf("%.0f bytes for each stream", each)
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return // the race detector's stacks are larger
	}
	require.Less(t, each, float64(most))
}

// forgetful does not keep in memory what a database has.
type forgetful struct{ *fakeStore }

func (forgetful) SyncConnections(context.Context, string, []store.Connection, []string) error {
	return nil
}

// openRaw opens a stream and reads its snapshot.
func openRaw(t *testing.T, port int, agent string) (fd int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	_, err = syscall.Write(fd, fmt.Appendf(nil, "GET /agents/%s HTTP/1.1\r\nHost: changeover\r\nAuthorization: Bearer %s\r\n\r\n", agent, strings.Repeat("x", 900)))
	require.NoError(t, err)
	b := make([]byte, 2048)
	for got := 0; !bytes.Contains(b[:got], []byte("event: snapshot")); {
		n, err := syscall.Read(fd, b[got:])
		require.NoError(t, err)
		require.Positive(t, n)
		got += n
	}
	return fd
}

// footprint is what the process holds in live objects and in stacks, in bytes.
func footprint() (bytes int64) {
	for range 3 { // also what finalizers and pools keep for a while
		runtime.GC()
	}
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() + samples[1].Value.Uint64())
}
