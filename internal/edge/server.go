package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// The limits of one request. They are no options: an honest client stays far below them, and a wrong value lets streams or
// long polls break.
const (
	maxHeaderBytes    = 32 << 10         // a token and a cookie take a few KiB
	readHeaderTimeout = 10 * time.Second // also for a TLS handshake
	readTimeout       = 20 * time.Second // header and body; a stream, which has no body, is not touched
	writeTimeout      = time.Minute      // after the header was read; more than the longest long poll. Streams set their own
	idleTimeout       = 2 * time.Minute  // longer than load balancers keep idle connections
	pingAfter         = 15 * time.Second // HTTP/2: a peer that was silent so long is asked whether it is there
	stalledAfter      = 15 * time.Second // HTTP/2: a connection that takes no byte so long is closed
)

// Options of a Server.
type Options struct {
	Handler http.Handler
	// TrustedProxies are the networks whose X-Forwarded-* headers count.
	TrustedProxies []netip.Prefix
	// AllowedOrigins may call from a browser: exact origins, in lower case.
	AllowedOrigins []string
	// FrameAncestors are the origins that may show pages below /console/ in a frame.
	FrameAncestors []string
	// MaxConnections and MaxConnectionsPerAddress limit open connections; 0: no limit but that of open files.
	MaxConnections, MaxConnectionsPerAddress int
	// Certificates make it HTTPS; nil: plain HTTP.
	Certificates *Certificates
	Log          *slog.Logger
	Metrics      *Metrics // nil: counted, but not exported
}

// Server is an HTTP server for an open network. See the package's documentation.
type Server struct {
	http *http.Server
	gate *gate
	tls  bool
}

// NewServer makes a Server, which serves nothing yet.
func NewServer(o Options) *Server {
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	trusted := proxies(o.TrustedProxies)
	s := &Server{gate: newGate(o, trusted), tls: o.Certificates != nil}
	s.http = &http.Server{
		Handler:        newFront(o, trusted),
		MaxHeaderBytes: maxHeaderBytes, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		HTTP2:       &http.HTTP2Config{SendPingTimeout: pingAfter, WriteByteTimeout: stalledAfter},
		ConnContext: withConn,
		ErrorLog:    log.New(errorLog{o.Log}, "", 0),
	}
	if s.tls {
		s.http.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: o.Certificates.get,
		}
	}
	// Browsers connect ahead of need. Shutdown would wait for these connections, on which nothing was ever asked.
	s.http.RegisterOnShutdown(s.gate.closeUnused)
	return s
}

// errorLog takes what net/http logs: mostly of clients that break off and of those who attack, which anybody can make as much of as
// they like; and panics.
type errorLog struct{ log *slog.Logger }

// Write implements io.Writer.
func (l errorLog) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.Contains(line, []byte("panic")) {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "http server", "error", strings.TrimSpace(string(line)))
	return len(line), nil
}

// Serve accepts connections from l, over TLS if there are certificates, until Shutdown or Close; it then returns nil.
func (s *Server) Serve(l net.Listener) error {
	l = &listener{Listener: l, gate: s.gate}
	serve := s.http.Serve
	if s.tls {
		serve = func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
	}
	if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops accepting and waits until no request is under way, or ctx ends. It does not wait for connections that a handler
// has taken over.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

// Close breaks all connections but those that a handler has taken over.
func (s *Server) Close() error { return s.http.Close() }
