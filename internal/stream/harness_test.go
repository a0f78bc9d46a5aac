package stream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

func TestMain(m *testing.M) {
	if benchClient() {
		return
	}
	postgrestest.Main(m)
}

const (
	east = "us-east-1"
	west = "us-west-2"
)

// testOptions are the defaults of the configuration.
func testOptions(s Store) Options {
	return Options{
		Store: s, Heartbeat: 15 * time.Second, Retry: 3 * time.Second, MaxConnections: 1000, MaxPerAgent: 8,
		WriteTimeout: 5 * time.Second, Drain: 20 * time.Second, Replica: "replica-1",
		CCPURL: func(group, region string) string {
			if region == "" {
				return ""
			}
			return "https://" + group + "." + region + ".example/ccp-v2/"
		},
	}
}

// harness is a hub behind a real net/http server, on connections in memory so that synctest owns the time.
type harness struct {
	t      testing.TB
	hub    *Hub
	server *http.Server
	reg    *prometheus.Registry
	dial   func(context.Context, string, string) (net.Conn, error)
	cancel context.CancelFunc
	done   chan struct{}

	clients []*client
	until   time.Time // the token's end of the next connections; zero: none

	protocols *http.Protocols // of the next connections; nil: HTTP/1
}

// handler routes as the API does.
func handler(hub *Hub, options ...ServeOption) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /agents/{id}", func(w http.ResponseWriter, r *http.Request) {
		hub.ServeAgent(w, r, r.PathValue("id"), options...)
	})
	mux.HandleFunc("GET /all", func(w http.ResponseWriter, r *http.Request) { hub.ServeAll(w, r, options...) })
	return mux
}

// newHarness starts a hub. Tests call it inside synctest.Test.
func newHarness(t testing.TB, s Store, change ...func(*Options)) *harness {
	o := testOptions(s)
	reg := prometheus.NewRegistry()
	o.Metrics = NewMetrics(reg)
	for _, f := range change {
		f(&o)
	}
	l := newPipeListener()
	h := &harness{t: t, hub: New(o), reg: reg, dial: l.dial, done: make(chan struct{})}
	h.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var options []ServeOption
		if !h.until.IsZero() {
			options = append(options, Until(h.until))
		}
		handler(h.hub, options...).ServeHTTP(w, r)
	}), ErrorLog: slog.NewLogLogger(logtest.New(nil).Handler(), slog.LevelError)}
	go func() { _ = h.server.Serve(l) }()
	h.run()
	t.Cleanup(func() {
		h.stop()
		_ = h.server.Close()
		synctest.Wait()
	})
	return h
}

func (h *harness) run() {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go func() {
		defer close(h.done)
		if err := h.hub.Run(ctx); err != nil {
			h.t.Errorf("Run: %v", err)
		}
	}()
	synctest.Wait()
}

// stop ends the hub as a process does that has no time to drain.
func (h *harness) stop() {
	h.cancel()
	<-h.done
}

// message is a frame as a client reads it.
type message struct {
	id, event, data, retry string
	comments               []string
	at                     time.Time
}

func (m message) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s %v", m.id, m.event, m.data, m.retry, m.comments))
}

// client is an EventSource of the tests: it reads all the time, like a browser, and knows nothing of the server's code.
type client struct {
	t        testing.TB
	response *http.Response
	cancel   context.CancelFunc

	mu       sync.Mutex
	messages []message
	ended    bool
	err      error // io.EOF: the response was complete
}

// connect opens a stream, reads it until it ends, and waits for what it says first.
func (h *harness) connect(path string, header ...string) *client {
	h.t.Helper()
	c := h.open(path, header...)
	h.clients = append(h.clients, c)
	synctest.Wait()
	return c
}

func (h *harness) open(path string, header ...string) *client {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://changeover"+path, nil)
	require.NoError(h.t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{DialContext: h.dial, DisableKeepAlives: h.protocols == nil, Protocols: h.protocols}
	resp, err := transport.RoundTrip(req)
	require.NoError(h.t, err)
	c := &client{t: h.t, response: resp, cancel: cancel}
	go c.read()
	h.t.Cleanup(func() { c.close(); transport.CloseIdleConnections() })
	return c
}

// stalled opens a stream and reads its first frame alone, the retry.
func (h *harness) stalled(path string) net.Conn {
	h.t.Helper()
	conn, err := h.dial(h.t.Context(), "", "")
	require.NoError(h.t, err)
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: changeover\r\n\r\n", path)
	require.NoError(h.t, err)
	var header []byte
	for b := make([]byte, 1); !bytes.HasSuffix(header, []byte("\n\n\r\n")); header = append(header, b[0]) {
		_, err := conn.Read(b)
		require.NoError(h.t, err)
	}
	synctest.Wait()
	return conn
}

// readFrom goes on reading a stream of which only the first frame was read.
func readFrom(t testing.TB, conn net.Conn) *client {
	c := &client{t: t, cancel: func() {}, response: &http.Response{Body: struct {
		io.Reader
		io.Closer
	}{httputil.NewChunkedReader(conn), conn}}}
	go c.read()
	synctest.Wait()
	return c
}

func (c *client) close() {
	c.cancel()
	_ = c.response.Body.Close()
}

// read parses the stream as the standard says, for LF alone: that is all the server writes.
func (c *client) read() {
	lines := bufio.NewReader(c.response.Body)
	var m message
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			c.mu.Lock()
			c.ended, c.err = true, err
			c.mu.Unlock()
			return
		}
		line = strings.TrimSuffix(line, "\n")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			m.at = time.Now()
			c.mu.Lock()
			c.messages = append(c.messages, m)
			c.mu.Unlock()
			m = message{}
		case field == "":
			m.comments = append(m.comments, value)
		case field == "id":
			m.id = value
		case field == "event":
			m.event = value
		case field == "data":
			m.data += value
		case field == "retry":
			m.retry = value
		default:
			c.t.Errorf("line of the stream: %q", line)
		}
	}
}

// all returns what has come, waiting until nothing moves.
func (c *client) all() []message {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]message(nil), c.messages...)
}

// events returns the frames with data.
func (c *client) events() []message {
	var events []message
	for _, m := range c.all() {
		if m.data != "" {
			events = append(events, m)
		}
	}
	return events
}

// names returns the events' names.
func (c *client) names() []string {
	names := []string{}
	for _, m := range c.events() {
		names = append(names, m.event)
	}
	return names
}

func (c *client) over() bool {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// fields decodes a frame's data.
func (m message) fields(t testing.TB) map[string]any {
	t.Helper()
	var f map[string]any
	require.NoError(t, json.Unmarshal([]byte(m.data), &f), m.data)
	return f
}

// metric returns the value of a counter or gauge, or the number of observations of a histogram; labels are name=value.
func (h *harness) metric(name string, labels ...string) float64 {
	h.t.Helper()
	families, err := h.reg.Gather()
	require.NoError(h.t, err)
	for _, f := range families {
		if f.GetName() != "changeover_"+name {
			continue
		}
	next:
		for _, m := range f.GetMetric() {
			for i, l := range m.GetLabel() {
				if i >= len(labels) || l.GetName()+"="+l.GetValue() != labels[i] {
					continue next
				}
			}
			switch {
			case m.Counter != nil:
				return m.GetCounter().GetValue()
			case m.Gauge != nil:
				return m.GetGauge().GetValue()
			case m.Histogram != nil:
				return float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

func recorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

func request(path string) *http.Request { return httptest.NewRequest(http.MethodGet, path, nil) }

// pipeListener accepts connections in memory.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	gone  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), gone: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.gone:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.gone:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { l.once.Do(func() { close(l.gone) }); return nil }

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// The events of a failover, for tests.
func detected(agentID, failoverID string) failover.Event {
	return event(agentID, failover.EventFailoverDetected, failover.Event{FailoverID: failoverID, NextRegion: west})
}

func pending(agentID, failoverID string, contacts ...string) failover.Event {
	return event(agentID, failover.EventFailoverPending, failover.Event{FailoverID: failoverID, NextRegion: west, ContactIDs: contacts})
}

func completed(agentID, failoverID string) failover.Event {
	return event(agentID, failover.EventFailoverCompleted, failover.Event{
		FailoverID: failoverID, ActiveRegion: west, ActiveCCPURL: "https://main.us-west-2.example/ccp-v2/", PreviousRegion: east,
		Evidence: failover.Inferred,
	})
}

func activeIn(region string, agentIDs ...string) []store.AgentView {
	var views []store.AgentView
	for _, id := range agentIDs {
		views = append(views, store.AgentView{AgentID: id, Group: "main", ActiveRegion: region, State: failover.AgentActive})
	}
	return views
}
