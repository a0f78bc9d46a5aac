package stream

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/r3labs/sse/v2"
)

// piece is a part of a stream's body: one frame, or a comment. It is framed as a chunk of HTTP/1.1, so that one copy serves
// every connection, whatever its protocol.
type piece struct{ chunk []byte }

const crlf = "\r\n"

func newPiece(body []byte) piece {
	size := strconv.FormatInt(int64(len(body)), 16)
	chunk := make([]byte, 0, len(size)+len(crlf)+len(body)+len(crlf))
	chunk = append(append(chunk, size...), crlf...)
	return piece{append(append(chunk, body...), crlf...)}
}

// body returns what a client reads. Pieces are shared: it is not to be written to.
func (p piece) body() []byte {
	start := bytes.IndexByte(p.chunk, '\n') + 1
	return p.chunk[start : len(p.chunk)-len(crlf)]
}

// encoder has r3labs/sse write events, each of them once, whoever is going to hear it. The library serves a single stream, to a
// client in memory.
//
// A stream of the library for each connection costs three goroutines, and two changes of goroutine for each event;
// docs/adr has the figures.
type encoder struct {
	server *sse.Server

	mu      sync.Mutex   // one caller at a time
	end     func()       // nil: the library's goroutines do not run
	written chan piece   // in the order of the events
	frame   frameBuilder // of the library's goroutine
}

// encoderBatch is how many events are under way in the library. It may be no more than written holds: nobody reads that
// before all are published.
const encoderBatch = 64

const encoderStream = "events"

func newEncoder() *encoder {
	e := &encoder{server: sse.New(), written: make(chan piece, encoderBatch)}
	e.server.AutoReplay = false // it would renumber and keep everything
	e.server.BufferSize = encoderBatch
	e.frame.done = e.written
	return e
}

// pieces returns what the library makes of events, in their order. Each has data, one line of it: the library takes an event
// without as the end of its stream.
func (e *encoder) pieces(events []*sse.Event) []piece {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.end == nil {
		e.begin()
	}
	pieces := make([]piece, 0, len(events))
	for len(events) > 0 {
		batch := events[:min(encoderBatch, len(events))]
		events = events[len(batch):]
		for _, event := range batch {
			e.server.Publish(encoderStream, event)
		}
		for _, event := range batch {
			p := <-e.written
			if !says(p.body(), event) {
				// It cannot be. If it were, everybody would get somebody else's events from here on.
				panic(fmt.Sprintf("stream: the library wrote %.80q in the place of event %s", p.body(), event.ID))
			}
			pieces = append(pieces, p)
		}
	}
	return pieces
}

// says tells whether a frame is that of an event.
func says(frame []byte, event *sse.Event) bool {
	rest, ok := bytes.CutPrefix(frame, []byte(fieldID))
	if ok {
		rest, ok = bytes.CutPrefix(rest, event.ID)
	}
	if ok {
		rest, ok = bytes.CutPrefix(rest, []byte(fieldData))
	}
	return ok && bytes.HasPrefix(rest, event.Data)
}

func (e *encoder) piece(event *sse.Event) piece { return e.pieces([]*sse.Event{event})[0] }

// begin starts the library's goroutines. The caller holds the mutex.
func (e *encoder) begin() {
	subscribed, unsubscribed, served := make(chan struct{}), make(chan struct{}), make(chan struct{})
	e.server.OnSubscribe = func(string, *sse.Subscriber) { close(subscribed) }
	e.server.OnUnsubscribe = func(string, *sse.Subscriber) { close(unsubscribed) }
	e.server.CreateStream(encoderStream)
	ctx, gone := context.WithCancel(context.Background())
	go func() {
		defer close(served)
		r := &http.Request{URL: &url.URL{RawQuery: "stream=" + encoderStream}}
		e.server.ServeHTTP(&e.frame, r.WithContext(ctx))
	}()
	<-subscribed
	e.end = func() {
		e.server.Publish(encoderStream, endOfStream)
		<-served
		gone()
		<-unsubscribed // which needs the stream's own goroutine
		e.server.RemoveStream(encoderStream)
	}
}

// close ends the library's goroutines, until they are needed again.
func (e *encoder) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.end != nil {
		e.end()
		e.end = nil
	}
}

// frameBuilder is the library's client: what it writes up to a flush is a piece.
type frameBuilder struct {
	buf  []byte
	done chan<- piece
}

// Header implements http.ResponseWriter. Headers are sent by the transport of each connection.
func (b *frameBuilder) Header() http.Header { return make(http.Header) }

// WriteHeader implements http.ResponseWriter.
func (b *frameBuilder) WriteHeader(int) {}

// Write implements http.ResponseWriter.
func (b *frameBuilder) Write(p []byte) (int, error) {
	b.buf = append(b.buf, p...)
	return len(p), nil
}

// Flush implements http.Flusher.
func (b *frameBuilder) Flush() {
	if len(b.buf) == 0 { // of the headers
		return
	}
	b.done <- newPiece(b.buf)
	b.buf = b.buf[:0]
}
