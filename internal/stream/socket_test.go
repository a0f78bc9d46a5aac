package stream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/r3labs/sse/v2"
	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/logtest"
)

// The tests of this file use real sockets, and so real time. What they wait for comes within milliseconds.

// liveHub runs a hub until the test ends. The returned harness serves metric alone.
func liveHub(t *testing.T, s Store, change ...func(*Options)) *harness {
	o := testOptions(s)
	for _, f := range change {
		f(&o)
	}
	reg := prometheus.NewRegistry()
	o.Metrics = NewMetrics(reg)
	h := &harness{t: t, hub: New(o), reg: reg, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go func() {
		defer close(h.done)
		if err := h.hub.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(h.stop)
	eventually(t, h.hub.Ready)
	return h
}

func eventually(t testing.TB, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, time.Millisecond)
}

// serve serves a hub on a real socket until the test ends.
func serveLive(t *testing.T, hub *Hub, change ...func(*httptest.Server)) *httptest.Server {
	server := httptest.NewUnstartedServer(handler(hub))
	server.Config.ErrorLog = slog.NewLogLogger(logtest.New(nil).Handler(), slog.LevelError)
	for _, f := range change {
		f(server)
	}
	if server.URL == "" {
		server.Start()
	}
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server
}

// reading is a stream that is read in the background.
type reading struct {
	response *http.Response
	cancel   context.CancelFunc
	frames   chan string // closed at the end
}

func read(t *testing.T, client *http.Client, url, last string) *reading {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := client.Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	r := &reading{response: resp, cancel: cancel, frames: make(chan string, 1000)}
	go func() {
		defer close(r.frames)
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		var frame strings.Builder
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if line != "\n" {
				frame.WriteString(line)
				continue
			}
			if strings.Contains(frame.String(), "data: ") {
				r.frames <- frame.String()
			}
			frame.Reset()
		}
	}()
	t.Cleanup(cancel)
	return r
}

// next returns the name and the id of the next event; empty at the end.
func (r *reading) next(t *testing.T) (name, id string) {
	t.Helper()
	select {
	case f := <-r.frames:
		for _, line := range strings.Split(f, "\n") {
			if v, ok := strings.CutPrefix(line, "event: "); ok {
				name = v
			}
			if v, ok := strings.CutPrefix(line, "id: "); ok {
				id = v
			}
		}
		return name, id
	case <-time.After(10 * time.Second):
		require.Fail(t, "nothing came")
		return "", ""
	}
}

func (r *reading) expect(t *testing.T, names ...string) (last string) {
	t.Helper()
	for _, want := range names {
		var name string
		name, last = r.next(t)
		require.Equal(t, want, name)
	}
	return last
}

// How HTTP carries a stream must not make a difference.
func TestTransports(t *testing.T) {
	h2c := func(s *httptest.Server) {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Config.Protocols.SetHTTP1(true)
	}
	for name, test := range map[string]struct {
		server func(*httptest.Server)
		client func(*http.Transport)
		proto  string
	}{
		"HTTP/1.1":          {func(*httptest.Server) {}, func(*http.Transport) {}, "HTTP/1.1"},
		"HTTP/1.1 over TLS": {func(s *httptest.Server) { s.StartTLS() }, func(tr *http.Transport) {}, "HTTP/1.1"},
		"HTTP/2":            {func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() }, func(tr *http.Transport) { tr.ForceAttemptHTTP2 = true }, "HTTP/2.0"},
		"HTTP/2 in the clear": {h2c, func(tr *http.Transport) {
			tr.Protocols = new(http.Protocols)
			tr.Protocols.SetUnencryptedHTTP2(true)
		}, "HTTP/2.0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newFakeStore()
			s.know(activeIn(east, "agent-1")...)
			h := liveHub(t, s, func(o *Options) { o.Drain = 50 * time.Millisecond; o.Heartbeat = 100 * time.Millisecond })
			server := serveLive(t, h.hub, test.server)
			transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			test.client(transport)
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}

			one, two := read(t, client, server.URL+"/agents/agent-1", ""), read(t, client, server.URL+"/agents/agent-2", "")
			require.Equal(t, test.proto, one.response.Proto)
			require.Equal(t, "text/event-stream", one.response.Header.Get("Content-Type"))
			require.Equal(t, "no-cache, no-transform", one.response.Header.Get("Cache-Control"))
			one.expect(t, "snapshot")
			two.expect(t, "snapshot")
			s.commit(detected("agent-1", "f1"))
			last := one.expect(t, "failoverDetected")
			require.Equal(t, 1, h.hub.Connections("agent-1"))
			one.cancel()
			eventually(t, func() bool { return h.hub.Connections("agent-1") == 0 })
			s.commit(completed("agent-1", "f1"), detected("agent-2", "f2"))
			two.expect(t, "failoverDetected")
			again := read(t, client, server.URL+"/agents/agent-1", last)
			again.expect(t, "failoverCompleted")

			// The process stops: the hub drains, and then nothing keeps the server from shutting down.
			h.hub.Drain(t.Context())
			again.expect(t, "draining", "")
			two.expect(t, "draining", "")
			refused := read(t, client, server.URL+"/agents/agent-1", last)
			refused.expect(t, "")
			transport.CloseIdleConnections()
			require.NoError(t, server.Config.Shutdown(t.Context()))
		})
	}
}

// What does not go through a socket of its own still is a stream: behind a wrapper that hides what net/http can do.
func TestWriterThatCannotBeTakenOver(t *testing.T) {
	s := newFakeStore()
	h := liveHub(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	w := &plainWriter{header: make(http.Header), wrote: make(chan struct{}, 100)}
	served := make(chan struct{})
	go func() {
		h.hub.ServeAgent(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil), "agent-1")
		close(served)
	}()
	<-w.wrote
	<-w.wrote
	s.commit(detected("agent-1", "f1"))
	<-w.wrote
	cancel()
	<-served
	require.Contains(t, w.String(), "failoverDetected")
	require.Equal(t, "text/event-stream", w.header.Get("Content-Type"))
}

type plainWriter struct {
	mu     sync.Mutex
	b      bytes.Buffer
	header http.Header
	wrote  chan struct{}
}

func (w *plainWriter) Header() http.Header { return w.header }
func (w *plainWriter) WriteHeader(int)     {}
func (w *plainWriter) Flush()              { w.wrote <- struct{}{} }
func (w *plainWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *plainWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// dial opens a connection with a small receive buffer and sends a request.
func dial(t *testing.T, server *httptest.Server, request string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	tcp := conn.(*net.TCPConn)
	require.NoError(t, tcp.SetReadBuffer(4096))
	_, err = io.WriteString(conn, request)
	require.NoError(t, err)
	return tcp
}

// Attack: a client opens streams and does not read. It is cut off after the deadline of a write, its memory in the kernel is
// bounded, and nobody else hears anything later for it.
func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	s := newFakeStore()
	h := liveHub(t, s, func(o *Options) { o.WriteTimeout = time.Second })
	server := serveLive(t, h.hub)
	dial(t, server, "GET /all HTTP/1.1\r\nHost: x\r\n\r\n")
	dial(t, server, "GET /agents/agent-1 HTTP/1.1\r\nHost: x\r\n\r\n")
	good := read(t, server.Client(), server.URL+"/agents/agent-1", "")
	good.expect(t, "snapshot")
	eventually(t, func() bool { return h.metric("stream_connections") == 3 })
	sent := 0
	for long := strings.Repeat("x", 4096); h.metric("stream_closed_total", "reason=slow") < 2; {
		s.commit(event("agent-1", failover.EventConfigureError, failover.Event{Code: "TDG_NOT_FOUND", Message: long}))
		began := time.Now()
		good.expect(t, "configureError")
		require.Less(t, time.Since(began), 900*time.Millisecond, "nobody waits for the deadline of another's write")
		sent += len(long)
		require.Less(t, sent, 64<<20)
	}
	require.Equal(t, 1, h.hub.Connections("agent-1"))
}

// The same within one HTTP/2 connection: its other streams go on.
func TestHTTP2StreamThatIsNotReadIsCutOff(t *testing.T) {
	s := newFakeStore()
	h := liveHub(t, s, func(o *Options) { o.WriteTimeout = 300 * time.Millisecond })
	server := serveLive(t, h.hub, func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() })
	client := server.Client()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/agents/agent-1", nil)
	require.NoError(t, err)
	stalled, err := client.Do(req)
	require.NoError(t, err)
	defer stalled.Body.Close()
	good := read(t, client, server.URL+"/agents/agent-2", "")
	good.expect(t, "snapshot")
	require.Equal(t, "HTTP/2.0", good.response.Proto)
	for long := strings.Repeat("x", 64<<10); h.hub.Connections("agent-1") > 0; {
		s.commit(
			event("agent-1", failover.EventConfigureError, failover.Event{Code: "TDG_NOT_FOUND", Message: long}), detected("agent-2", "f"),
		)
		good.expect(t, "failoverDetected")
	}
	require.InDelta(t, 1, h.metric("stream_connections"), 0)
	s.commit(detected("agent-2", "f"))
	good.expect(t, "failoverDetected")
}

// Attack: a client goes on sending after its request. What a sloppy one sends is ignored; one that does not stop is cut off.
func TestClientThatSendsAfterItsRequest(t *testing.T) {
	s := newFakeStore()
	h := liveHub(t, s)
	server := serveLive(t, h.hub)
	sloppy := dial(t, server, "GET /agents/agent-1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"+
		"GET /agents/agent-2 HTTP/1.1\r\nHost: x\r\n\r\n")
	hostile := dial(t, server, "GET /agents/agent-3 HTTP/1.1\r\nHost: x\r\n\r\n")
	eventually(t, func() bool { return h.hub.Connections("agent-3") == 1 })
	var err error
	for err == nil {
		_, err = hostile.Write(bytes.Repeat([]byte("x"), 4096))
	}
	eventually(t, func() bool { return h.hub.Connections("agent-3") == 0 })
	require.Equal(t, 1, h.hub.Connections("agent-1"))
	require.Zero(t, h.hub.Connections("agent-2"), "one stream, one connection")
	s.commit(detected("agent-1", "f1"))
	body := readUntil(t, sloppy, "failoverDetected")
	require.Equal(t, 1, strings.Count(body, "HTTP/1.1 200 OK"))
}

func readUntil(t *testing.T, conn net.Conn, what string) string {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	var body bytes.Buffer
	b := make([]byte, 4096)
	for !strings.Contains(body.String(), what) {
		n, err := conn.Read(b)
		require.NoError(t, err, body.String())
		body.Write(b[:n])
	}
	return body.String()
}

// An old proxy speaks HTTP/1.0, which knows no chunks.
func TestHTTP10(t *testing.T) {
	s := newFakeStore()
	h := liveHub(t, s, func(o *Options) { o.Drain = 10 * time.Millisecond })
	server := serveLive(t, h.hub)
	conn := dial(t, server, "GET /agents/agent-1 HTTP/1.0\r\n\r\n")
	head := readUntil(t, conn, "snapshot")
	require.True(t, strings.HasPrefix(head, "HTTP/1.0 200 OK\r\n"), head)
	require.NotContains(t, head, "Transfer-Encoding")
	h.hub.Drain(t.Context())
	rest, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(rest), "\n\n"), "%q", rest)
}

// A client that others wrote: it goes from one replica to the next when the first stops, and hears everything once.
func TestClientOfOthersGoesOnAtAnotherReplica(t *testing.T) {
	s := newFakeStore()
	s.know(activeIn(east, "agent-1")...)
	first := liveHub(t, s, func(o *Options) { o.Drain = 50 * time.Millisecond })
	second := liveHub(t, s)
	hubs := []*Hub{first.hub, second.hub}
	balancer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hubs[0].Connections("agent-1") == 0 && r.Header.Get("Last-Event-ID") == "" {
			handler(hubs[0]).ServeHTTP(w, r)
			return
		}
		handler(hubs[1]).ServeHTTP(w, r)
	}))
	defer balancer.Close()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := sse.NewClient(balancer.URL + "/agents/agent-1")
	client.ReconnectStrategy = immediately{ctx}
	client.Connection.Transport = &http.Transport{}
	defer client.Connection.CloseIdleConnections()
	heard := make(chan string, 100)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for ctx.Err() == nil { // the end of a response ends the client's subscription, so it subscribes again
			_ = client.SubscribeRawWithContext(ctx, func(e *sse.Event) {
				if len(e.Data) > 0 {
					heard <- string(e.Event)
				}
			})
		}
	}()
	expect := func(names ...string) {
		t.Helper()
		for _, want := range names {
			select {
			case got := <-heard:
				require.Equal(t, want, got)
			case <-time.After(10 * time.Second):
				require.Fail(t, "nothing came", "want %s", want)
			}
		}
	}
	expect("snapshot")
	s.commit(detected("agent-1", "f1"))
	expect("failoverDetected")
	first.hub.Drain(t.Context())
	s.commit(pending("agent-1", "f1", "c1"))
	expect("draining", "failoverPending")
	eventually(t, func() bool { return second.hub.Connections("agent-1") == 1 })
	s.commit(completed("agent-1", "f1"))
	expect("failoverCompleted")
	cancel()
	second.stop()
	<-over
	require.Empty(t, heard)
}

// immediately reconnects at once: the test does not wait for jitter.
type immediately struct{ ctx context.Context }

func (i immediately) NextBackOff() time.Duration {
	if i.ctx.Err() != nil {
		return -1 // stop
	}
	return 0
}

func (immediately) Reset() {}

// What an idle stream costs must not grow unseen: one goroutine, which waits for the client to go away. And none is left behind,
// however a stream ends.
func TestAnIdleStreamIsOneGoroutine(t *testing.T) {
	s := newFakeStore()
	h := liveHub(t, s, func(o *Options) { o.MaxConnections = 1000 })
	server := serveLive(t, h.hub)
	before := runtime.NumGoroutine() + 20 // of the hub, the library and this test, some of which have not begun yet
	const n = 300
	var conns []*net.TCPConn
	for i := range n {
		conns = append(conns, dial(t, server, fmt.Sprintf("GET /agents/agent-%d HTTP/1.1\r\nHost: x\r\n\r\n", i)))
	}
	for _, c := range conns {
		readUntil(t, c, "snapshot")
	}
	eventually(t, func() bool { return runtime.NumGoroutine() <= before+n })
	for i, c := range conns {
		if i%2 == 0 {
			require.NoError(t, c.SetLinger(0)) // a reset, as of a crashed desktop
		}
		require.NoError(t, c.Close())
	}
	eventually(t, func() bool {
		return runtime.NumGoroutine() <= before && h.metric("stream_connections") == 0 && h.metric("stream_closed_total", "reason=client") == n
	})
}

// A proxy that speaks HTTP/2 brings a thousand streams over one connection. The server takes as many at a time as net/http lets it (250), the
// others wait in the client and get their turn; all hear their own events, and the end of the connection ends all of them.
func TestThousandStreamsOnOneHTTP2Connection(t *testing.T) {
	const streams, atOnce = 1000, 250
	s := newFakeStore()
	h := liveHub(t, s, func(o *Options) { o.MaxConnections = streams })
	server := serveLive(t, h.hub, func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() })
	before := runtime.NumGoroutine()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: new(http.Protocols),
		HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: true},
	}
	transport.Protocols.SetHTTP2(true)
	proxy, err := transport.NewClientConn(t.Context(), "https", server.Listener.Addr().String())
	require.NoError(t, err)
	heard := make(chan string, streams)
	var reading sync.WaitGroup
	for i := range streams {
		reading.Go(func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/agents/agent-%d", server.URL, i), nil)
			r.RequestURI = ""
			answer, err := proxy.RoundTrip(r)
			if err != nil {
				return // the connection has ended
			}
			defer answer.Body.Close()
			lines := bufio.NewScanner(answer.Body)
			for lines.Scan() {
				if strings.Contains(lines.Text(), "failoverDetected") {
					heard <- answer.Request.URL.Path
					return // and makes room
				}
			}
		})
	}
	all := make([]failover.Event, streams)
	for i := range all {
		all[i] = detected("agent-"+strconv.Itoa(i), "f")
	}
	eventually(t, func() bool { return h.metric("stream_connections") == atOnce })
	told := make(map[string]bool)
	for len(told) < streams/2 { // by then others have taken the places of the first
		s.commit(all...)
		select { // who comes after a commit hears the next one
		case path := <-heard:
			require.False(t, told[path])
			told[path] = true
		case <-time.After(10 * time.Millisecond):
		}
		for range len(heard) {
			path := <-heard
			require.False(t, told[path])
			told[path] = true
		}
	}
	require.LessOrEqual(t, h.metric("stream_connections"), float64(atOnce))
	_ = proxy.Close()
	reading.Wait()
	eventually(t, func() bool { return h.metric("stream_connections") == 0 && runtime.NumGoroutine() <= before+20 })
}
