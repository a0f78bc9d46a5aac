package stream

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
)

// benchStreams is the floor of the benchmarks: so many agents, each with one stream.
const benchStreams = 10_000

// benchClient turns the test binary into the desktops of a benchmark: a process of its own, so that the memory of
// clients does not count as the server's. It opens a stream for each agent and tells each time when all of them have
// received another event; all but the first few, if it is told that those do not read.
func benchClient() bool {
	addr := os.Getenv("CHANGEOVER_BENCH_CLIENT")
	if addr == "" {
		return false
	}
	stalled, _ := strconv.Atoi(os.Getenv("CHANGEOVER_BENCH_STALLED"))
	small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	readers := int64(benchStreams - stalled)
	var unread sync.Map
	var snapshots, events atomic.Int64
	var dialing sync.WaitGroup
	lanes := make(chan struct{}, 64)
	for i := range benchStreams {
		lanes <- struct{}{}
		dialing.Go(func() {
			defer func() { <-lanes }()
			dial := net.Dial
			if i < stalled {
				dial = small.Dial
			}
			conn, err := dial("tcp", addr)
			if err != nil {
				panic(err)
			}
			fmt.Fprintf(conn, "GET /agents/%s HTTP/1.1\r\nHost: changeover\r\nAccept: text/event-stream\r\n"+
				"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n"+
				"Accept-Language: en-US,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nSec-Fetch-Mode: cors\r\n"+
				"Authorization: Bearer %s\r\n\r\n", benchAgent(i), strings.Repeat("x", 900))
			ready := make(chan struct{})
			go func() {
				first := true
				b := make([]byte, 1024)
				for {
					n, err := conn.Read(b)
					if err != nil {
						return
					}
					if k := int64(bytes.Count(b[:n], []byte("data:"))); k > 0 {
						if first {
							first, k = false, k-1
							snapshots.Add(1)
							close(ready)
							if i < stalled {
								unread.Store(i, conn) // else it would be collected, and closed
								return
							}
						}
						if k > 0 && events.Add(k)%readers == 0 { // a round begins when the one before is over
							fmt.Println("round")
						}
					}
				}
			}()
			<-ready
		})
	}
	dialing.Wait()
	fmt.Println("open", snapshots.Load())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return true
}

func benchAgent(i int) string { return fmt.Sprintf("%08d-9b8e-4c57-a2f1-6d3c5b7e9f10", i) }

// desktops are the running client process.
type desktops struct {
	lines *bufio.Scanner
	stdin io.Closer
	cmd   *exec.Cmd
}

func startDesktops(b *testing.B, addr string, stalled int) *desktops {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CHANGEOVER_BENCH_CLIENT="+addr, "CHANGEOVER_BENCH_STALLED="+strconv.Itoa(stalled))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(b, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	d := &desktops{lines: bufio.NewScanner(stdout), stdin: stdin, cmd: cmd}
	d.expect(b, "open "+strconv.Itoa(benchStreams))
	return d
}

// stop closes all connections.
func (d *desktops) stop() { _ = d.stdin.Close(); _ = d.cmd.Wait() }

func (d *desktops) expect(b *testing.B, line string) {
	require.True(b, d.lines.Scan(), "the client ended")
	require.Equal(b, line, d.lines.Text())
}

// benchHub serves a floor of agents on a real socket.
func benchHub(b *testing.B) (hub *Hub, s *fakeStore, addr string, stop func()) {
	s = newFakeStore()
	for i := range benchStreams {
		s.know(activeIn(east, benchAgent(i))...)
	}
	o := testOptions(s)
	o.MaxConnections = benchStreams + 100
	o.WriteTimeout = time.Minute // those who do not read stay for as long as is measured
	hub = New(o)
	addr, stop = serveBench(b, handler(hub), func(ctx context.Context) { _ = hub.Run(ctx) })
	return hub, s, addr, stop
}

func serveBench(b *testing.B, handler http.Handler, run func(context.Context)) (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := &http.Server{Handler: handler}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	wg.Go(func() { run(ctx) })
	return l.Addr().String(), func() { cancel(); _ = server.Close(); wg.Wait() }
}

// BenchmarkIdleStream measures what an idle stream costs: 10,000 of them on loopback, the clients in another process. rss
// is what the kernel counts while the collector does as it likes; rss-min is what is left once it has returned all it can.
func BenchmarkIdleStream(b *testing.B) {
	b.Run("hub", func(b *testing.B) {
		hub, _, addr, stop := benchHub(b)
		defer stop()
		require.Eventually(b, hub.Ready, 5*time.Second, time.Millisecond)
		benchIdle(b, addr)
	})
	b.Run("net/http", func(b *testing.B) {
		addr, stop := serveBench(b, newPlain(), func(ctx context.Context) { <-ctx.Done() })
		defer stop()
		benchIdle(b, addr)
	})
}

func benchIdle(b *testing.B, addr string) {
	for b.Loop() {
		debug.FreeOSMemory()
		before, rssBefore, goroutines := memStats(), rss(b), runtime.NumGoroutine()
		d := startDesktops(b, addr, 0)
		rssAfter := rss(b)
		debug.FreeOSMemory()
		after, rssMin := memStats(), rss(b)
		per := func(n int64) float64 { return float64(n) / benchStreams / 1024 }
		b.ReportMetric(per(rssAfter-rssBefore), "rss-KiB/stream")
		b.ReportMetric(per(rssMin-rssBefore), "rss-min-KiB/stream")
		b.ReportMetric(per(int64(after.HeapAlloc)-int64(before.HeapAlloc)), "heap-KiB/stream")
		b.ReportMetric(per(int64(after.StackInuse)-int64(before.StackInuse)), "stack-KiB/stream")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/benchStreams, "goroutines/stream")
		b.ReportMetric(0, "ns/op")
		d.stop()
	}
}

func memStats() (m runtime.MemStats) { runtime.ReadMemStats(&m); return m }

func rss(b *testing.B) int64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("resident memory is read from /proc: ", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	require.NoError(b, err)
	return pages * int64(os.Getpagesize())
}

// BenchmarkDelivery measures how long 10,000 streams of 10,000 agents take to receive one event each, from the commit to the last
// client, beside a handler of net/http alone that does nothing but write prepared bytes. They take turns, because a process may not open
// as many files as both need. It fails above the promised 1.5 times the plain handler.
func BenchmarkDelivery(b *testing.B) {
	var hubs, plains []time.Duration
	for b.Loop() {
		hubs = append(hubs, deliverByHub(b, 0)...)
		plains = append(plains, deliverPlain(b)...)
	}
	ours, theirs := median(hubs), median(plains)
	b.ReportMetric(float64(ours.Microseconds())/1000, "hub-ms")
	b.ReportMetric(float64(theirs.Microseconds())/1000, "net/http-ms")
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
	b.ReportMetric(0, "ns/op")
	require.LessOrEqual(b, float64(ours)/float64(theirs), 1.5)
}

// deliveries is how often an event is told to everybody on the same connections.
const deliveries = 15

// BenchmarkDeliveryBesideStalled measures the same while one percent of the desktops does not read and what the kernel holds for them is
// full, so that their writers are blocked. It fails when the others hear their events later by more than the promised 20 %.
func BenchmarkDeliveryBesideStalled(b *testing.B) {
	var with, without []time.Duration
	for b.Loop() {
		without = append(without, deliverByHub(b, 0)...)
		with = append(with, deliverByHub(b, benchStreams/100)...)
	}
	stalled, free := median(with), median(without)
	b.ReportMetric(float64(stalled.Microseconds())/1000, "stalled-ms")
	b.ReportMetric(float64(free.Microseconds())/1000, "free-ms")
	b.ReportMetric(float64(stalled)/float64(free), "ratio")
	b.ReportMetric(0, "ns/op")
	require.LessOrEqual(b, float64(stalled)/float64(free), 1.2)
}

// stall fills what the kernel holds for the first agents' desktops, which do not read.
func stall(b *testing.B, hub *Hub, s *fakeStore, stalled int) {
	long := strings.Repeat("x", 64<<10)
	blocked := func() (n int) {
		hub.mu.Lock()
		defer hub.mu.Unlock()
		for _, c := range hub.conns {
			c.mu.Lock()
			if c.writing && len(c.pending) > 0 {
				n++
			}
			c.mu.Unlock()
		}
		return n
	}
	for deadline := time.Now().Add(20 * time.Second); blocked() < stalled; {
		require.True(b, time.Now().Before(deadline), "the buffers are still not full")
		events := make([]failover.Event, stalled)
		for i := range events {
			events[i] = event(benchAgent(i), failover.EventConfigureError, failover.Event{Code: "TDG_NOT_FOUND", Message: long})
		}
		s.commit(events...)
		time.Sleep(20 * time.Millisecond)
	}
}

// deliverByHub returns how long the hub took each time; so many of the desktops do not read.
func deliverByHub(b *testing.B, stalled int) (took []time.Duration) {
	hub, s, addr, stop := benchHub(b)
	defer stop()
	require.Eventually(b, hub.Ready, 5*time.Second, time.Millisecond)
	d := startDesktops(b, addr, stalled)
	defer d.stop()
	stall(b, hub, s, stalled)
	shift := make([]failover.Event, benchStreams)
	for i := range shift {
		shift[i] = detected(benchAgent(i), "019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b")
	}
	for range deliveries {
		rows := rowsOf(shift)
		began := time.Now()
		s.commitRows(rows)
		d.expect(b, "round")
		took = append(took, time.Since(began))
	}
	hub.mu.Lock()
	defer hub.mu.Unlock()
	require.Len(b, hub.conns, benchStreams, "those who do not read are there to the end")
	return took
}

func deliverPlain(b *testing.B) (took []time.Duration) {
	p := newPlain()
	addr, stop := serveBench(b, p, func(ctx context.Context) { <-ctx.Done() })
	defer stop()
	d := startDesktops(b, addr, 0)
	defer d.stop()
	e := detected(benchAgent(0), "019a2b3c-4d5e-7f60-8a9b-0c1d2e3f4a5b")
	e.Time = time.Now()
	frame := fmt.Appendf(nil, "id: 4f3c2b1a0d9e-1770000000000-1\ndata: %s\nevent: %s\n\n", e.AppendData(nil), e.Type)
	for range deliveries {
		began := time.Now()
		p.publish(frame)
		d.expect(b, "round")
		took = append(took, time.Since(began))
	}
	return took
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// plain is the least that a handler of net/http can do: a channel per client.
type plain struct {
	mu      sync.Mutex
	clients map[chan []byte]struct{}
}

func newPlain() *plain { return &plain{clients: make(map[chan []byte]struct{})} }

func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := make(chan []byte, 64)
	p.mu.Lock()
	p.clients[c] = struct{}{}
	p.mu.Unlock()
	defer func() { p.mu.Lock(); delete(p.clients, c); p.mu.Unlock() }()
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, "retry: 3000\n\ndata: {}\n\n")
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case frame := <-c:
			if _, err := w.Write(frame); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func (p *plain) publish(frame []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.clients {
		c <- frame
	}
}
