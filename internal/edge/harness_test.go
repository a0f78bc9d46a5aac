package edge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/logtest"
)

func TestMain(m *testing.M) { logtest.Main(m) }

// Each attack is named in the comment of its test. Those that take time are made in virtual time, over connections that are
// pipes; those that need a kernel, on the loopback address.

// pipes is a listener whose connections are pipes, so that a test's clock can be synctest's.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return address4("192.0.2.1:443") }

// dial connects from an address.
func (p *pipes) dial(t testing.TB, from string) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	select {
	case p.conns <- remote{server, address4(from)}:
	case <-p.done:
		require.Fail(t, "the listener is closed")
	}
	return client
}

// remote is a connection from an address.
type remote struct {
	net.Conn
	from net.Addr
}

func (r remote) RemoteAddr() net.Addr { return r.from }

func address4(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }

// started is a running Server.
type started struct {
	*Server
	pipes *pipes
	log   *logtest.Buffer
	done  chan error
}

// start serves on pipes until the test ends.
func start(t testing.TB, o Options) *started {
	t.Helper()
	p := newPipes()
	s := serve(t, o, p)
	s.pipes = p
	return s
}

// serve serves on a listener until the test ends.
func serve(t testing.TB, o Options, l net.Listener) *started {
	t.Helper()
	s := &started{log: &logtest.Buffer{}, done: make(chan error, 1)}
	o.Log = logtest.New(s.log)
	if o.Handler == nil {
		o.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") })
	}
	s.Server = NewServer(o)
	go func() { s.done <- s.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.NoError(t, <-s.done)
	})
	return s
}

// open is how many connections count.
func (s *started) open() int {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.open
}

// client makes requests over a new connection each.
func (s *started) client(t testing.TB, from string, change ...func(*http.Transport)) *http.Client {
	tr := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return s.pipes.dial(t, from), nil },
		DisableKeepAlives: true,
	}
	for _, f := range change {
		f(tr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// get makes a request that has to succeed, and returns the answer with its body read.
func get(t testing.TB, c *http.Client, url string, header ...string) *http.Response {
	t.Helper()
	return do(t, c, http.MethodGet, url, header...)
}

func do(t testing.TB, c *http.Client, method, url string, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp
}

// readAnswer reads one response of HTTP/1.
func readAnswer(t testing.TB, c net.Conn) (status int, body string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// closedAfter reads until the connection ends and returns how long that took.
func closedAfter(c net.Conn) time.Duration {
	began := time.Now()
	_, _ = io.Copy(io.Discard, c)
	return time.Since(began)
}

// authority signs the certificates of tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

var ca = sync.OnceValue(func() *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	cert, err := x509.ParseCertificate(der)
	must(err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pool}
})

var discard = logtest.New(nil)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// issue makes a certificate of desktop.example.com with a serial number, and its key, both PEM.
func (a *authority) issue(serial int64, notAfter time.Time) (cert, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"desktop.example.com"}, NotBefore: time.Unix(0, 0), NotAfter: notAfter,
	}, a.cert, private.Public(), a.key)
	must(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// pair writes a certificate and its key into files.
type pair struct{ cert, key string }

func newPair(t testing.TB, serial int64, notAfter time.Time) pair {
	dir := t.TempDir()
	p := pair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
	p.write(t, serial, notAfter)
	return p
}

func (p pair) write(t testing.TB, serial int64, notAfter time.Time) {
	cert, key := ca().issue(serial, notAfter)
	require.NoError(t, os.WriteFile(p.cert, cert, 0o600))
	require.NoError(t, os.WriteFile(p.key, key, 0o600))
}

var farAway = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)

// certificates are good ones, for tests about something else.
func certificates(t testing.TB) *Certificates {
	p := newPair(t, 2, farAway)
	c, err := LoadCertificates(p.cert, p.key, discard, nil)
	require.NoError(t, err)
	return c
}

// overTLS makes a client speak TLS, with HTTP/2 if the server does.
func overTLS(tr *http.Transport) {
	tr.TLSClientConfig = &tls.Config{RootCAs: ca().pool, ServerName: "desktop.example.com"}
	tr.ForceAttemptHTTP2 = true
}
