package stream

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// transport is the way to one client. One goroutine writes; abort may be called by any, any number of times.
type transport interface {
	// open sends the response's header and the first piece of its body.
	open(header http.Header, first piece) error
	// write sends pieces. An error says that the client is gone or did not take them in time; the connection has to be aborted.
	write(pieces []piece) error
	// gone blocks until the client is gone or the connection was aborted.
	gone()
	// abort breaks the connection.
	abort()
	// finish ends the response as HTTP asks for it. Nothing is written afterwards.
	finish()
}

// newTransport takes the way to the client out of a handler's hands.
//
// An HTTP/1 connection is taken over: its handler returns, and with it go the handler's goroutine and stack, both 4 KiB
// buffers and the request, which would stay for as long as the stream does. HTTP/2 shares a connection among streams
// and cannot be taken over; there, and where a wrapper of w does not allow it, the handler stays. inHandler tells which.
func newTransport(w http.ResponseWriter, r *http.Request, writeTimeout time.Duration) (t transport, inHandler bool) {
	controller := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		if c, _, err := controller.Hijack(); err == nil {
			return newSocket(c, r.ProtoMinor > 0, writeTimeout), false
		}
	}
	ctx, cancel := context.WithCancel(r.Context())
	return &response{w: w, controller: controller, ctx: ctx, cancel: cancel, timeout: writeTimeout}, true
}

// socket is an HTTP/1 connection of its own.
type socket struct {
	net.Conn
	raw     syscall.RawConn // of a TCP connection in the clear; else nil
	timeout time.Duration
	chunked bool // HTTP/1.0 knows no chunks; there the end of the connection is the end of the body
	scratch [16]byte
}

// maxIgnored is how many bytes a client may send after its request (a body that nobody asked for) before it is
// taken for hostile and cut off.
const maxIgnored = 16 << 10

var closed = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

func newSocket(c net.Conn, chunked bool, timeout time.Duration) *socket {
	raw := c
	for { // TLS, and whatever the listener wraps around its connections
		outer, ok := raw.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		raw = outer.NetConn()
	}
	s := &socket{Conn: c, timeout: timeout, chunked: chunked}
	if t, ok := raw.(*net.TCPConn); ok {
		limitSocket(t, timeout)
		if _, secret := c.(*tls.Conn); !secret {
			s.raw, _ = t.SyscallConn() // without it, every write has a deadline
		}
	}
	return s
}

// open writes what net/http would have written. Header.Write drops line breaks from values.
func (s *socket) open(h http.Header, first piece) error {
	var b bytes.Buffer
	b.WriteString("HTTP/1.")
	if s.chunked {
		b.WriteByte('1')
		h.Set("Transfer-Encoding", "chunked")
	} else {
		b.WriteByte('0')
	}
	b.WriteString(" 200 OK\r\n")
	h.Del("Content-Length")
	h.Set("Connection", "close")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if err := h.Write(&b); err != nil {
		return err
	}
	b.WriteString("\r\n")
	if s.chunked {
		b.Write(first.chunk)
	} else {
		b.Write(first.body())
	}
	return s.send(b.Bytes())
}

func (s *socket) write(pieces []piece) error {
	if s.chunked && len(pieces) == 1 { // as it is, without a copy
		return s.send(pieces[0].chunk)
	}
	b := gather(pieces, s.chunked)
	defer putBuffer(b)
	return s.send(*b)
}

// send writes p. A deadline, which costs a timer, is set only for what the kernel does not take at once.
func (s *socket) send(p []byte) error {
	if s.raw != nil {
		n, err := writeNow(s.raw, p)
		if err != nil || n == len(p) {
			return err
		}
		p = p[n:]
	}
	if err := s.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return err
	}
	if _, err := s.Conn.Write(p); err != nil || s.raw == nil {
		return err
	}
	return s.SetWriteDeadline(time.Time{}) // one that has passed would refuse the next attempt
}

// gone reads until the client closes its side.
func (s *socket) gone() {
	for ignored := 0; ignored < maxIgnored; {
		n, err := s.Read(s.scratch[:])
		if err != nil {
			break
		}
		ignored += n
	}
	s.abort()
}

// abort never waits: closing a TLS connection in form would, for a client that does not read.
func (s *socket) abort() {
	if t, ok := s.Conn.(*tls.Conn); ok {
		_ = t.NetConn().Close()
		return
	}
	_ = s.Close()
}

func (s *socket) finish() {
	if s.chunked {
		_ = s.send([]byte("0\r\n\r\n")) // the client that is gone does not need it
	}
	_ = s.Close()
}

// response is a stream that lives in its handler: HTTP/2.
type response struct {
	w          http.ResponseWriter
	controller *http.ResponseController
	ctx        context.Context
	cancel     context.CancelFunc
	timeout    time.Duration
}

func (p *response) open(_ http.Header, first piece) error {
	p.w.WriteHeader(http.StatusOK)
	return p.write([]piece{first})
}

func (p *response) write(pieces []piece) error {
	// On HTTP/2 a deadline that passes ends the stream even when nothing is being written, so it is set for each write
	// alone. A writer without deadlines (of a test, or of a wrapper that hides them) is written to without.
	_ = p.controller.SetWriteDeadline(time.Now().Add(p.timeout))
	defer func() { _ = p.controller.SetWriteDeadline(time.Time{}) }()
	for _, part := range pieces {
		if _, err := p.w.Write(part.body()); err != nil {
			return err
		}
	}
	return p.controller.Flush()
}

func (p *response) gone() { <-p.ctx.Done() }

func (p *response) abort() { p.cancel() }

// finish does nothing: the handler returns.
func (p *response) finish() { p.cancel() }

// buffers hold frames while they are put together, so that an idle connection holds none.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// gather copies pieces into a buffer.
func gather(pieces []piece, chunked bool) *[]byte {
	b := buffers.Get().(*[]byte)
	for _, p := range pieces {
		if chunked {
			*b = append(*b, p.chunk...)
		} else {
			*b = append(*b, p.body()...)
		}
	}
	return b
}

// putBuffer keeps buffers of usual size. A frame can be as long as the longest error message or contact list.
func putBuffer(b *[]byte) {
	if cap(*b) <= 2*writeSize {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}
