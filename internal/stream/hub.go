package stream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"changeover/internal/store"
)

// Store is what the streams need of the database; *store.Store is one.
type Store interface {
	// LogState tells where the log is and which epochs it had.
	LogState(ctx context.Context) (store.LogState, error)
	// EventsAfter returns at most limit events after seq, ascending without gaps, or store.ErrPruned.
	EventsAfter(ctx context.Context, seq int64, limit int) ([]store.LogEvent, error)
	// AgentEventsAfter returns at most limit events of the agents (nil: of all) in (afterSeq, uptoSeq], ascending; of the
	// types alone, if there are any. It returns store.ErrPruned where retention has dropped what follows afterSeq.
	AgentEventsAfter(ctx context.Context, agentIDs []string, afterSeq, uptoSeq int64, types []string, limit int) ([]store.LogEvent, error)
	// AgentViews returns what is known of every agent after all events up to the position, and no later one.
	AgentViews(ctx context.Context) ([]store.AgentView, store.Position, error)
	// Listen calls wake whenever a channel is notified, until ctx ends.
	Listen(ctx context.Context, channels []string, wake func(channel string)) error
	// SyncConnections brings the registry of open streams up to date, and says that this replica is alive.
	SyncConnections(ctx context.Context, replica string, opened []store.Connection, closed []string) error
}

// Options of a Hub. Durations and limits must be positive; see docs/configuration.md for their meaning and defaults.
type Options struct {
	Store          Store
	Heartbeat      time.Duration // between comments on an idle stream
	Retry          time.Duration // after which a client reconnects; each connection is told 1 to 3 times that
	MaxConnections int
	MaxPerAgent    int
	WriteTimeout   time.Duration // of one write, to a client that does not read
	Drain          time.Duration // over which the streams are closed when the replica stops
	Metrics        *Metrics      // nil: counted, but not exported
	Log            *slog.Logger
	// Fresh are the events that follow a number, at most limit, if they need not be asked of the Store because this program has just committed them,
	// else nil; nil: they are always asked for.
	Fresh func(seq int64, limit int) []store.LogEvent
	// CCPURL is the address of a failover group's Contact Control Panel in a Region, for snapshots; empty: not configured.
	CCPURL  func(group, region string) string
	Replica string       // of the registry
	Tracer  trace.Tracer // of the deliveries that [Hub.Expect] tells of; nil: none
}

// Hub serves event streams from the store's log. It tails the log, keeps its recent part and every agent's view in
// memory, and feeds the open connections from there. See the package's documentation.
//
// All methods may be called by many goroutines at once.
type Hub struct {
	o        Options
	log      *slog.Logger
	metrics  *Metrics
	encoder  *encoder
	wheel    wheel
	replays  *replayer
	registry *registry
	bell     chan struct{} // rung when the log may have grown; one is enough
	prefix   string        // of the ids of connections: no two processes share it
	running  atomic.Bool

	tracing tracing

	wg sync.WaitGroup // of open connections and their writers

	mu       sync.Mutex
	mem      *memory // nil before the first load
	load     int     // counts loads; 0: none
	changed  chan struct{}
	polled   chan struct{}    // closed after every complete poll
	begun    int64            // polls begun
	complete int64            // the last poll that read to the end of the log
	doubted  int64            // polls begun when somebody last came who knows more than has been read
	conns    map[uint64]*conn // by their number
	agents   map[string]*conn // first of a chain of the same agent's
	lastConn uint64
	draining bool
	stopped  bool
}

// New makes a Hub. It serves from its first load on, which [Hub.Run] does; streams that come earlier wait for it.
func New(o Options) *Hub {
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.CCPURL == nil {
		o.CCPURL = func(string, string) string { return "" }
	}
	var random [6]byte
	_, _ = rand.Read(random[:]) // it never fails
	h := &Hub{
		o: o, log: o.Log, metrics: o.Metrics,
		encoder: newEncoder(),
		replays: newReplayer(o.Store),
		bell:    make(chan struct{}, 1),
		prefix:  hex.EncodeToString(random[:]) + ".",
		changed: make(chan struct{}),
		polled:  make(chan struct{}),
		conns:   make(map[uint64]*conn),
		agents:  make(map[string]*conn),

		tracing: tracing{tracer: o.Tracer},
	}
	h.registry = newRegistry(o.Store, o.Replica, h.connections, o.Log)
	return h
}

// Run tails the log and serves until ctx ends; then it breaks what is still open and returns when all is gone. To end
// streams well, call [Hub.Drain] first. Run may be called once. An error is one that trying again does not mend: of the
// database's address.
func (h *Hub) Run(ctx context.Context) error {
	if h.running.Swap(true) {
		panic("stream: Hub.Run called twice")
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := h.o.Store.Listen(ctx, []string{store.ChannelLog}, func(string) { h.Ring() }); err != nil {
			return fmt.Errorf("listen for the event log: %w", err)
		}
		return nil
	})
	g.Go(func() error { h.tail(ctx); return nil })
	g.Go(func() error { h.forget(ctx); return nil })
	g.Go(func() error { h.turn(ctx); return nil })
	g.Go(func() error { h.replays.run(ctx); return nil })
	g.Go(func() error { h.registry.run(ctx); return nil })
	err := g.Wait()

	h.mu.Lock()
	h.draining, h.stopped = true, true
	h.mu.Unlock()
	h.abortAll(closedStopped)
	h.wg.Wait()
	h.tracing.stop()
	h.encoder.close()
	h.registry.flush(context.WithoutCancel(ctx))
	return err
}

// Ring says that the log may have grown. Any goroutine may call it, at any time.
func (h *Hub) Ring() {
	select {
	case h.bell <- struct{}{}:
	default:
	}
}

// ServeOption changes one connection.
type ServeOption func(*serveOptions)

type serveOptions struct{ until time.Time }

// Until is when the caller's right to the stream ends (a token's expiry). Some seconds before, the client is told to come
// back (`draining`, reason token_expiring); at that time the connection is closed, whatever the client does.
func Until(t time.Time) ServeOption { return func(o *serveOptions) { o.until = t } }

// ServeAgent answers with the event stream of one agent, whether it is known yet or not. The caller has authorised it.
//
// On HTTP/1 the connection is taken over and ServeAgent returns once the stream has begun; w and r must not be used any more.
// On HTTP/2 it returns when the stream is over.
func (h *Hub) ServeAgent(w http.ResponseWriter, r *http.Request, agentID string, options ...ServeOption) {
	if agentID == "" { // a missing claim must never open everybody's events
		http.NotFound(w, r)
		return
	}
	h.serve(w, r, agentID, options)
}

// ServeAll answers with the events of all agents, as [Hub.ServeAgent] does with one's. Whoever does not resume gets a
// snapshot of every known agent first.
func (h *Hub) ServeAll(w http.ResponseWriter, r *http.Request, options ...ServeOption) {
	h.serve(w, r, "", options)
}

func (h *Hub) serve(w http.ResponseWriter, r *http.Request, agentID string, options []ServeOption) {
	var o serveOptions
	for _, set := range options {
		set(&o)
	}
	setHeaders(w.Header())

	last := lastEventID(r)
	c, refusal := h.admit(agentID, last, r.RemoteAddr)
	if refusal != "" {
		h.refuse(w, r, refusal)
		return
	}
	out, inHandler := newTransport(w, r, h.o.WriteTimeout)
	h.attach(c, out, o)
	if err := out.open(w.Header(), newPiece(retryFrame(spread(h.o.Retry, 3*h.o.Retry)))); err != nil {
		out.abort()
		h.drop(c)
		return
	}
	h.wg.Add(1)
	go h.write(c)
	if !inHandler {
		go c.watch() // on a new stack: the handler's has grown
		return
	}
	c.watch()
	c.rest() // w is not ours any more once this returns
}

// lastEventID is what the client resumes from. The header wins: a browser's EventSource sets it when it reconnects to an
// address that still has the parameter of the first time.
func lastEventID(r *http.Request) string {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		return id
	}
	return r.URL.Query().Get("lastEventId")
}

// setHeaders sets what every stream's response has.
func setHeaders(header http.Header) {
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-cache, no-transform")
	header.Set("X-Accel-Buffering", "no")
}

// Refuse answers a request for a stream that cannot be served now, for a reason that the hub does not know of: as overload
// does, because a browser's EventSource gives up for ever on any status but 200.
func (h *Hub) Refuse(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	h.refuse(w, r, refusedFront)
}

// retryFrame is the first frame of every response.
func retryFrame(after time.Duration) []byte {
	return append(strconv.AppendInt([]byte("retry: "), after.Milliseconds(), 10), "\n\n"...)
}

// spread returns a random duration between two: what many clients do at once must not come back at once.
func spread(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + mathrand.N(to-from+1)
}

// refuse answers what a browser's EventSource survives: 200, a long retry, and the end.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, reason string) {
	h.metrics.closed.WithLabelValues(reason).Inc()
	after := spread(15*time.Second, 60*time.Second)
	if reason == refusedDrain {
		after = spread(time.Second, 5*time.Second)
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // so that the next attempt can reach another replica
		}
	}
	w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(w, ": "+reason+"\n"+string(retryFrame(after)))
}

// admit registers a connection, or says why it is refused. Only an admitted one counts and is known to others.
func (h *Hub) admit(agentID, last, remote string) (*conn, string) {
	// What is kept is cloned: otherwise each of them would keep the buffer of the request's header.
	c := &conn{
		hub: h, agent: strings.Clone(agentID), remote: strings.Clone(remote), since: time.Now(), measureFrom: math.MaxInt64, writing: true, // it will be, once the response is open
	}
	if last != "" {
		c.resume = &resumption{}
		if cursor, err := ParseCursor(last); err != nil {
			c.resume.reset = resetMalformed
		} else {
			c.resume.cursor, c.last = cursor, cursor.String()
		}
	}

	h.mu.Lock()
	switch {
	case h.draining:
		h.mu.Unlock()
		return nil, refusedDrain
	case len(h.conns) >= h.o.MaxConnections:
		h.mu.Unlock()
		return nil, refusedLimit
	case agentID != "" && h.openOf(agentID) >= h.o.MaxPerAgent:
		h.mu.Unlock()
		return nil, refusedAgent
	}
	h.lastConn++
	c.number = h.lastConn
	h.conns[c.number] = c
	if c.agent != "" {
		c.nextConn = h.agents[c.agent]
		h.agents[c.agent] = c
	}
	h.wg.Add(1) // until drop
	h.mu.Unlock()

	h.metrics.connections.Inc()
	h.registry.opened(c.entry())
	return c, ""
}

// connections lists the open streams.
func (h *Hub) connections() []store.Connection {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]store.Connection, 0, len(h.conns))
	for _, c := range h.conns {
		list = append(list, c.entry())
	}
	return list
}

func (h *Hub) openOf(agentID string) int {
	n := 0
	for c := h.agents[agentID]; c != nil; c = c.nextConn {
		n++
	}
	return n
}

// attach gives a connection its way to the client.
func (h *Hub) attach(c *conn, out transport, o serveOptions) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.out, c.until = out, o.until
	c.expire(time.Now(), h.o.Heartbeat)
	h.wheel.add(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.stopped || c.dead { // it was aborted before there was anything to abort
		out.abort()
	}
}

// drop forgets a connection whose client is gone.
func (h *Hub) drop(c *conn) {
	h.mu.Lock()
	delete(h.conns, c.number)
	if c.agent != "" {
		h.unlink(c)
	}
	h.mu.Unlock()

	h.wheel.remove(c)
	reason := c.die(closedClient)
	h.metrics.connections.Dec()
	h.metrics.closed.WithLabelValues(reason).Inc()
	h.registry.closed(c.id())
	h.wg.Done()
}

func (h *Hub) unlink(c *conn) {
	if h.agents[c.agent] == c {
		if c.nextConn == nil {
			delete(h.agents, c.agent)
		} else {
			h.agents[c.agent] = c.nextConn
		}
		return
	}
	for p := h.agents[c.agent]; p != nil; p = p.nextConn {
		if p.nextConn == c {
			p.nextConn = c.nextConn
			return
		}
	}
}

// turn sends the heartbeats, and looks whose token expires before the next.
func (h *Hub) turn(ctx context.Context) {
	ticker := time.NewTicker(max(h.o.Heartbeat/wheelSlots, time.Millisecond))
	defer ticker.Stop()
	var due []*conn
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		due = h.wheel.turn(due[:0])
		for _, c := range due {
			c.heartbeat()
			c.expire(now, h.o.Heartbeat)
		}
		clear(due)
	}
}

// Drain refuses new connections and closes the open ones, spread over Options.Drain (or nine tenths of what ctx leaves,
// if that is less), each with a `draining` event. It returns when all are gone; what is left when ctx ends is broken.
func (h *Hub) Drain(ctx context.Context) {
	h.mu.Lock()
	h.draining = true
	open := make([]*conn, 0, len(h.conns))
	for _, c := range h.conns {
		open = append(open, c)
	}
	h.mu.Unlock()
	mathrand.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })

	over := h.o.Drain
	if deadline, ok := ctx.Deadline(); ok {
		over = min(over, time.Until(deadline)*9/10)
	}
	start := time.Now()
	ticker := time.NewTicker(drainTick)
	defer ticker.Stop()
	for done := 0; done < len(open); {
		due := len(open)
		if elapsed := time.Since(start); elapsed < over {
			due = min(due, 1+int(float64(len(open))*float64(elapsed)/float64(over))) // the first at once
		}
		for ; done < due; done++ {
			open[done].end(closedDraining)
		}
		if done == len(open) {
			break
		}
		select {
		case <-ctx.Done():
			over = 0
		case <-ticker.C:
		}
	}
	gone := make(chan struct{})
	go func() { h.wg.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-ctx.Done():
		h.abortAll(closedDraining) // Run waits for them
	}
}

// drainTick is fine enough that no more than a hundredth of the streams is closed at once.
const drainTick = 50 * time.Millisecond

// abortAll breaks every connection.
func (h *Hub) abortAll(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		c.die(reason)
		if c.out != nil { // else attach does it
			c.out.abort()
		}
	}
}

// View returns what is known of an agent after all events that this replica has read; false: nothing.
func (h *Hub) View(agentID string) (store.AgentView, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mem == nil {
		return store.AgentView{AgentID: agentID}, false
	}
	return h.mem.view(agentID)
}

// Ready says whether the log was loaded.
func (h *Hub) Ready() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mem != nil
}

// Changed returns a channel that is closed when the next events have been read, or the log was loaded.
func (h *Hub) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// Connections says how many streams of an agent are open on this replica.
func (h *Hub) Connections(agentID string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.openOf(agentID)
}

// Cursor returns the wire form of a position in the log that this replica reads; empty before the first load.
func (h *Hub) Cursor(p store.Position) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mem == nil {
		return ""
	}
	return Cursor{LogID: h.mem.logID, Epoch: p.Epoch, Seq: p.Seq}.String()
}
