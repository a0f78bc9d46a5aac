package stream

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/r3labs/sse/v2"

	"changeover/internal/store"
)

// conn is one open event stream: one connection of one desktop, or of one reader of all agents.
//
// Its life with the library: CreateStream, then ServeHTTP, which subscribes, starts a goroutine that waits for the
// client to go away, and writes what is published until it sees endOfStream or the subscription ends. Once the client is
// gone (or [conn] closed the connection itself), that goroutine unsubscribes and the library calls back; only then may
// the stream be removed: the unsubscription needs the stream's own goroutine. Nothing but heartbeats, of which there
// can be one, is published after endOfStream: the stream's goroutine would block on the queue that nobody reads.
//
// conn is all that the library's ServeHTTP needs: http.ResponseWriter, http.Flusher and, as [presence], the
// request's context.
type conn struct {
	hub    *Hub
	id     string // of the library's stream, and of the connection in the registry
	agent  string // empty: all agents
	remote string
	last   string // the cursor that it came with, if it was one
	since  time.Time
	out    transport
	buf    *[]byte // the frame that is being written; nil in between
	err    error   // the first failed write; of the writing goroutine

	wheelSlot, wheelPlace int // the wheel's

	measureFrom atomic.Int64 // of events after this seq the way to the socket is measured
	ended       atomic.Bool  // ending is not empty

	// Guarded by the Hub's mutex while live; the feeder's own until then.
	at     store.Position // everything up to here was published to this stream
	told   bool           // at is true: a client may resume from it
	resume *resumption    // what the client came with, until it was answered; nil: it does not resume
	begun  bool           // the snapshot is sent, or the cursor accepted
	load   int            // the load of the log that at belongs to

	// Guarded by the Hub's mutex.
	live     bool          // the tail publishes; else a feeder does, or has not begun
	stop     chan struct{} // of the feeder; closed when the connection ends
	ending   string        // why the connection ends; empty: it does not
	expiry   *time.Timer
	nextConn *conn // the next of the same agent
}

// resumption is the position that a client asked to go on from.
type resumption struct {
	cursor Cursor
	reset  string // it cannot, and why
	asked  int64  // the poll under way when it was found ahead of this replica
}

// Header is called by the library to set headers that the transport has sent already: they go nowhere.
func (c *conn) Header() http.Header { return make(http.Header) }

// WriteHeader does nothing: see Header.
func (c *conn) WriteHeader(int) {}

// Write collects a frame; Flush sends it.
func (c *conn) Write(p []byte) (int, error) {
	if c.buf == nil {
		c.buf = buffers.Get().(*[]byte)
	}
	*c.buf = append(*c.buf, p...)
	return len(p), nil
}

// Flush sends the collected frame. The library does not ask for errors and goes on until the subscription ends, so
// after a failed write the rest is dropped.
func (c *conn) Flush() {
	if c.buf == nil {
		return
	}
	b := c.buf
	c.buf = nil
	if c.err == nil {
		if c.err = c.out.write(*b); c.err == nil {
			c.measure(*b)
		}
	}
	putBuffer(b)
}

// measure observes how long a live event took from its commit to the socket.
func (c *conn) measure(b []byte) {
	rest, ok := bytes.CutPrefix(b, []byte("id: "))
	if !ok {
		return
	}
	id, _, _ := bytes.Cut(rest, []byte{'\n'})
	seq, err := strconv.ParseInt(string(id[bytes.LastIndexByte(id, '-')+1:]), 10, 64)
	from := c.measureFrom.Load()
	if err == nil && seq > from && c.measureFrom.CompareAndSwap(from, seq) { // a draining has its last event's id
		c.hub.commits.observe(seq)
	}
}

// run hands the connection to the library until its end.
func (c *conn) run() {
	r := (&http.Request{URL: &url.URL{RawQuery: "stream=" + c.id}}).WithContext(presence{c})
	c.hub.server.ServeHTTP(c, r)
	if c.err == nil {
		c.out.finish()
	}
	c.out.abort()
	c.hub.drop(c)
}

// entry is the connection as the registry shows it.
func (c *conn) entry() store.Connection {
	return store.Connection{
		ID: c.id, Replica: c.hub.o.Replica, AgentID: c.agent, Since: c.since, LastEventID: c.last, RemoteAddr: c.remote,
	}
}

// closeReason says in the words of the metric why the client's side ended.
func (c *conn) closeReason() string {
	if errors.Is(c.err, os.ErrDeadlineExceeded) {
		return closedSlow
	}
	return closedClient
}

// presence is the context of the request that the library gets: it ends when the client is gone.
type presence struct{ c *conn }

// Done is called once, by the goroutine in which the library does nothing but wait for it. On an HTTP/1 connection
// it reads right there until the client is gone, which saves the goroutine that would otherwise do that: 2.5 KiB per
// stream.
func (p presence) Done() <-chan struct{} { return p.c.out.gone() }

// Deadline of the connection: none here, see [Until].
func (p presence) Deadline() (time.Time, bool) { return time.Time{}, false }

// Err is not asked for by the library.
func (p presence) Err() error { return nil }

// Value has none.
func (p presence) Value(any) any { return nil }

var _ context.Context = presence{}

// publish queues an event and says whether there was room.
func (c *conn) publish(e *sse.Event) bool { return c.hub.server.TryPublish(c.id, e) }
