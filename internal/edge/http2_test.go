package edge

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The defences of these tests are net/http's own. The tests show that the server as it is configured here has them.

// attacker speaks HTTP/2 frame by frame.
type attacker struct {
	*http2.Framer
	conn    *tls.Conn
	encoder *hpack.Encoder
	block   bytes.Buffer
	goAway  chan http2.ErrCode // one at most, and closed with the connection
}

func attack(t *testing.T, l net.Listener) *attacker {
	t.Helper()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: ca().pool, ServerName: "desktop.example.com", NextProtos: []string{"h2"}})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	require.NoError(t, err)
	a := &attacker{Framer: http2.NewFramer(conn, conn), conn: conn, goAway: make(chan http2.ErrCode, 1)}
	a.encoder = hpack.NewEncoder(&a.block)
	require.NoError(t, a.WriteSettings())
	go func() {
		defer close(a.goAway)
		for {
			frame, err := a.ReadFrame()
			if err != nil {
				return
			}
			if f, ok := frame.(*http2.GoAwayFrame); ok {
				select {
				case a.goAway <- f.ErrCode:
				default:
				}
			}
		}
	}()
	return a
}

// header is the block of a GET with more fields.
func (a *attacker) header(more ...string) []byte {
	a.block.Reset()
	fields := append([]string{":method", "GET", ":scheme", "https", ":authority", "desktop.example.com", ":path", "/"}, more...)
	for i := 0; i < len(fields); i += 2 {
		_ = a.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return a.block.Bytes()
}

func overHTTP2(t *testing.T, handler http.HandlerFunc) (*started, net.Listener) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return serve(t, Options{Certificates: certificates(t), Handler: handler}, l), l
}

// desktop is somebody else, who must be served all the while.
func desktop(t *testing.T, l net.Listener) {
	t.Helper()
	tr := &http.Transport{}
	overTLS(tr)
	defer tr.CloseIdleConnections()
	resp := get(t, &http.Client{Transport: tr, Timeout: 10 * time.Second}, "https://"+l.Addr().String()+"/healthy")
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "HTTP/2.0", resp.Proto)
}

// HTTP/2 rapid reset (CVE-2023-44487): requests that are cancelled at once do not count as concurrent, so that one connection could start
// any number of handlers. No more run than may be concurrent, and the connection is ended.
func TestRapidReset(t *testing.T) {
	t.Parallel()
	const concurrent = 250 // net/http's default of MaxConcurrentStreams
	var running, most atomic.Int64
	release := make(chan struct{})
	_, l := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthy" {
			return
		}
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release // as a handler that does not look at its context while it asks a database
		running.Add(-1)
	})
	a := attack(t, l)
	var err error
	for id := uint32(1); id < 200_001 && err == nil; id += 2 {
		if err = a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: a.header(), EndStream: true, EndHeaders: true}); err == nil {
			err = a.WriteRSTStream(id, http2.ErrCodeCancel)
		}
	}
	code, ok := <-a.goAway
	require.True(t, ok, "the connection goes on: %v", err)
	require.Equal(t, http2.ErrCodeEnhanceYourCalm, code)
	require.LessOrEqual(t, most.Load(), int64(concurrent))
	desktop(t, l)
	close(release)
}

// HTTP/2 continuation flood (CVE-2024-27316, CVE-2023-45288): a header that never ends, in frame after frame, of which nothing may be
// kept and not much be read.
func TestContinuationFlood(t *testing.T) {
	t.Parallel()
	served := atomic.Bool{}
	_, l := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) { served.Store(r.URL.Path != "/healthy") })
	a := attack(t, l)
	require.NoError(t, a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.header()}))
	sent := 0
	var err error
	for err == nil && sent < 256<<20 {
		a.block.Reset()
		_ = a.encoder.WriteField(hpack.HeaderField{Name: "x-padding", Value: strings.Repeat("a", 8<<10), Sensitive: true})
		err = a.WriteContinuation(1, false, a.block.Bytes())
		sent += a.block.Len()
	}
	require.Error(t, err, "the connection goes on")
	require.Less(t, sent, 64<<20)
	require.False(t, served.Load())
	desktop(t, l)
}

// Huge headers over HTTP/2, and such that the compression makes huge (an HPACK bomb): refused before the handler.
func TestHugeHeadersOverHTTP2(t *testing.T) {
	t.Parallel()
	served := atomic.Bool{}
	_, l := overHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthy" {
			served.Store(true)
		}
	})
	tr := &http.Transport{}
	overTLS(tr)
	defer tr.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodGet, "https://"+l.Addr().String()+"/", nil)
	require.NoError(t, err)
	for range 10 {
		r.Header.Add("X-Padding", strings.Repeat("a", 8<<10))
	}
	if resp, err := tr.RoundTrip(r); err == nil {
		resp.Body.Close()
		require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, resp.StatusCode)
	}

	bomb := attack(t, l)
	fields := []string{"x-bomb", strings.Repeat("a", 3<<10)}
	for range 200 { // a byte each after the first
		fields = append(fields, fields[:2]...)
	}
	block := bomb.header(fields...)
	require.Less(t, len(block), 8<<10)
	require.NoError(t, bomb.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true}))
	desktop(t, l)
	require.False(t, served.Load())
}

// Floods of control frames (CVE-2019-9512 ping, -9514 reset): answers that the attacker does not read must not pile up.
func TestControlFrameFloods(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string]func(a *attacker, id uint32) error{
		"ping": func(a *attacker, _ uint32) error { return a.WritePing(false, [8]byte{}) },
		"reset": func(a *attacker, id uint32) error { // a stream that the server has to reset
			return a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x82}, EndStream: true, EndHeaders: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, l := overHTTP2(t, func(http.ResponseWriter, *http.Request) {})
			conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: ca().pool, ServerName: "desktop.example.com", NextProtos: []string{"h2"}})
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
			_, err = io.WriteString(conn, http2.ClientPreface)
			require.NoError(t, err)
			a := &attacker{Framer: http2.NewFramer(conn, conn)} // it never reads
			for id := uint32(1); err == nil; id += 2 {
				err = frame(a, id)
			}
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection goes on after half a minute")
			desktop(t, l)
		})
	}
}
