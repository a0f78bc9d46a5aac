package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"changeover/internal/logtest"
)

// serial is that of the certificate which a new connection gets.
func serial(t *testing.T, s *started) int64 {
	t.Helper()
	c := tls.Client(s.pipes.dial(t, "192.0.2.1:1"), &tls.Config{RootCAs: ca().pool, ServerName: "desktop.example.com"})
	require.NoError(t, c.Handshake())
	defer c.NetConn().Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// watched are certificates that are looked after until the test ends, in a bubble.
func watched(t *testing.T, p pair, log io.Writer, m *Metrics) *Certificates {
	t.Helper()
	c, err := LoadCertificates(p.cert, p.key, logtest.New(log), m)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() { stop(); <-done })
	return c
}

// A certificate is replaced while desktops have streams open, over HTTP/1.1 and over HTTP/2: the streams go on, and who connects from now
// on gets the new one.
func TestCertificateIsReplacedUnderOpenStreams(t *testing.T) {
	t.Parallel()
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := &logtest.Buffer{}
				m := NewMetrics(nil)
				p := newPair(t, 10, farAway)
				tick := make(chan struct{})
				s := start(t, Options{Certificates: watched(t, p, log, m), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					controller := http.NewResponseController(w)
					if r.ProtoMajor == 2 {
						_ = controller.SetWriteDeadline(time.Time{})
						_ = controller.Flush()
						for {
							select {
							case _, more := <-tick:
								if !more {
									return
								}
								_, _ = io.WriteString(w, "x")
								_ = controller.Flush()
							case <-r.Context().Done():
								return
							}
						}
					}
					c, _, err := controller.Hijack()
					must(err)
					defer c.Close()
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
					for range tick {
						_, _ = io.WriteString(c, "x")
					}
				})})
				client := s.client(t, "192.0.2.2:1", overTLS, func(tr *http.Transport) { tr.ForceAttemptHTTP2 = http2 })
				resp, err := client.Get("https://desktop.example.com/v1/events")
				require.NoError(t, err)
				stream := bufio.NewReader(resp.Body)
				hear := func() {
					tick <- struct{}{}
					b, err := stream.ReadByte()
					require.NoError(t, err)
					require.Equal(t, byte('x'), b)
				}
				hear()
				require.Equal(t, int64(10), serial(t, s))

				p.write(t, 11, farAway.AddDate(0, 1, 0))
				time.Sleep(reloadInterval + time.Second)
				require.Equal(t, int64(11), serial(t, s))
				require.InDelta(t, farAway.AddDate(0, 1, 0).Unix(), testutil.ToFloat64(m.expiry), 0)
				require.Contains(t, log.String(), "TLS certificate replaced")
				hear()
				require.Equal(t, int64(10), resp.TLS.PeerCertificates[0].SerialNumber.Int64())
				close(tick)
				_, err = stream.ReadByte()
				require.ErrorIs(t, err, io.EOF)
				resp.Body.Close()
				client.CloseIdleConnections()
			})
		})
	}
}

// Whatever is wrong with new files, the old certificate stays in use, the log says so once, and the next good one is taken.
func TestBrokenCertificatesAreNotTaken(t *testing.T) {
	t.Parallel()
	write := func(path, content string) {
		must(os.WriteFile(path, []byte(content), 0o600))
	}
	for name, test := range map[string]struct {
		harm func(p pair)
		want string
	}{
		"no certificate":           {func(p pair) { write(p.cert, "") }, "failed to find any PEM data in certificate input"},
		"no key":                   {func(p pair) { write(p.key, "") }, "failed to find any PEM data in key input"},
		"a file is gone":           {func(p pair) { must(os.Remove(p.key)) }, "no such file"},
		"nonsense":                 {func(p pair) { write(p.cert, "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n") }, "x509"},
		"half written":             {func(p pair) { b, _ := os.ReadFile(p.cert); write(p.cert, string(b[:len(b)/2])) }, "PEM"},
		"the key of another":       {func(p pair) { _, key := ca().issue(12, farAway); write(p.key, string(key)) }, "private key does not match"},
		"the certificate is newer": {func(p pair) { cert, _ := ca().issue(12, farAway); write(p.cert, string(cert)) }, "private key does not match"},
		"expired": {func(p pair) {
			cert, key := ca().issue(12, time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC))
			write(p.cert, string(cert))
			write(p.key, string(key))
		}, "it expired at 1999-01-01T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := &logtest.Buffer{}
				p := newPair(t, 10, farAway)
				s := start(t, Options{Certificates: watched(t, p, log, nil)})
				test.harm(p)
				time.Sleep(10*reloadInterval + time.Second)
				require.Equal(t, int64(10), serial(t, s))
				require.Equal(t, 1, strings.Count(log.String(), "level=ERROR"), log.String())
				require.Contains(t, log.String(), test.want)
				p.write(t, 11, farAway)
				time.Sleep(2*reloadInterval + time.Second)
				require.Equal(t, int64(11), serial(t, s))
				test.harm(p)
				time.Sleep(2*reloadInterval + time.Second)
				require.Equal(t, 2, strings.Count(log.String(), "level=ERROR"), "the same trouble again is told again")
				require.NotContains(t, log.String(), "PRIVATE")
			})
		})
	}
}

// Kubernetes exchanges a secret by a symbolic link two folders above the file.
func TestCertificateBehindSymbolicLinks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		publish := func(version string, serial int64) {
			folder := filepath.Join(dir, version)
			must(os.Mkdir(folder, 0o700))
			cert, key := ca().issue(serial, farAway)
			must(os.WriteFile(filepath.Join(folder, "tls.crt"), cert, 0o600))
			must(os.WriteFile(filepath.Join(folder, "tls.key"), key, 0o600))
			must(os.Symlink(version, filepath.Join(dir, "..data_tmp")))
			must(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
		}
		publish("..1", 10)
		p := pair{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
		must(os.Symlink("..data/tls.crt", p.cert))
		must(os.Symlink("..data/tls.key", p.key))
		s := start(t, Options{Certificates: watched(t, p, io.Discard, nil)})
		require.Equal(t, int64(10), serial(t, s))
		publish("..2", 11)
		time.Sleep(reloadInterval + time.Second)
		require.Equal(t, int64(11), serial(t, s))
	})
}

func TestCertificatesThatCannotBeLoaded(t *testing.T) {
	t.Parallel()
	p := newPair(t, 10, farAway)
	_, err := LoadCertificates(filepath.Join(t.TempDir(), "none"), p.key, discard, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = LoadCertificates(p.cert, p.cert, discard, nil)
	require.ErrorContains(t, err, p.cert)
	// An expired one is better than nothing: whoever does not check is served, and the log says why others are not.
	log := &logtest.Buffer{}
	p = newPair(t, 10, time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC))
	c, err := LoadCertificates(p.cert, p.key, logtest.New(log), nil)
	require.NoError(t, err)
	require.Equal(t, 1999, c.NotAfter().Year())
	require.Contains(t, log.String(), "has expired")
}

// Downgrade: TLS 1.0 and 1.1 are refused; HTTP/2 is offered; a client that speaks plain HTTP is told.
func TestTLSVersionsAndProtocols(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, Options{Certificates: certificates(t)})
		handshake := func(change func(*tls.Config)) (tls.ConnectionState, error) {
			config := &tls.Config{RootCAs: ca().pool, ServerName: "desktop.example.com", MinVersion: tls.VersionTLS10}
			change(config)
			raw := s.pipes.dial(t, "192.0.2.1:1")
			defer raw.Close()
			c := tls.Client(raw, config)
			err := c.Handshake()
			return c.ConnectionState(), err
		}
		for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
			_, err := handshake(func(c *tls.Config) { c.MaxVersion = version })
			require.ErrorContains(t, err, "protocol version")
		}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			state, err := handshake(func(c *tls.Config) { c.MaxVersion = version; c.NextProtos = []string{"http/1.1", "h2"} })
			require.NoError(t, err)
			require.Equal(t, "h2", state.NegotiatedProtocol)
		}
		state, err := handshake(func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })
		require.NoError(t, err)
		require.Equal(t, "http/1.1", state.NegotiatedProtocol)
		for _, weak := range []uint16{tls.TLS_RSA_WITH_RC4_128_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA} {
			_, err := handshake(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12; c.CipherSuites = []uint16{weak} })
			require.Error(t, err)
		}

		c := s.pipes.dial(t, "192.0.2.1:1")
		go func(c net.Conn) { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }(c)
		status, body := readAnswer(t, c)
		require.Equal(t, http.StatusBadRequest, status)
		require.Contains(t, body, "HTTPS")
	})
}
