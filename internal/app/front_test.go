package app

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/apitest"
	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/servertest"
)

// certificate writes a certificate of changeover.example.com and its key into files.
func certificate(t *testing.T, notAfter time.Time) (cert, key string, roots *x509.CertPool) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"changeover.example.com"}, NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(cert, text, 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	roots = x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(text))
	return cert, key, roots
}

// A desktop and an operator work over TLS, each with HTTP/1.1 and with HTTP/2: streams begin, hear of a shift, and end well when the
// process stops. Behind them a browser's rules are kept: the origin that is configured may read, also the stream that was taken
// over; another may not.
func TestFrontDoorOverTLS(t *testing.T) {
	t.Parallel()
	const desktopOrigin = "https://desktop.example.com"
	floor := newFloor(t, connectsim.Config{Agents: 1})
	agent := floor.agent(0)
	c := configuration(floor, postgrestest.NewDatabase(t))
	issuer := servertest.NewIssuer(t)
	c.Auth.Mode, c.Auth.Issuer, c.Auth.JWKSFile = config.AuthJWT, "https://idp.example/", issuer.File
	cert, key, roots := certificate(t, time.Now().Add(time.Hour))
	c.HTTP.TLSCert, c.HTTP.TLSKey = cert, key
	c.CORS.AllowedOrigins = []string{desktopOrigin}
	var table bytes.Buffer
	require.NoError(t, Check(t.Context(), c, "", Options{Log: logtest.New(nil)}, &table))
	require.Regexp(t, `TLS certificate +ok +valid until `, table.String())
	s := start(t, c)
	token := issuer.Token(t, agent, time.Hour, "viewer")

	base := "https://changeover.example.com"
	client := func(http2 bool) *http.Client {
		tr := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr())
			},
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2: http2,
		}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: apitest.NewTransport(t, tr)}
	}
	ask := func(c *http.Client, method, path string, header ...string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
		require.NoError(t, err)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := c.Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}

	var streams []chan frame
	for proto, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		browser := client(http2)
		require.Eventually(t, func() bool {
			return ask(browser, http.MethodGet, "/v1/agents/"+agent, "Authorization", "Bearer "+token).StatusCode == http.StatusOK
		}, patience, 50*time.Millisecond)
		resp := ask(browser, http.MethodGet, "/v1/agents/"+agent, "Authorization", "Bearer "+token, "Origin", desktopOrigin)
		require.Equal(t, proto, resp.Proto)
		require.Equal(t, desktopOrigin, resp.Header.Get("Access-Control-Allow-Origin"))
		require.Equal(t, "max-age=31536000", resp.Header.Get("Strict-Transport-Security"))
		require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
		require.Equal(t, "default-src 'none'; frame-ancestors 'none'", resp.Header.Get("Content-Security-Policy"))
		require.Equal(t, http.StatusUnauthorized, ask(browser, http.MethodGet, "/v1/agents").StatusCode)

		foreign := ask(browser, http.MethodGet, "/v1/agents/"+agent, "Authorization", "Bearer "+token, "Origin", "https://evil.example")
		require.Empty(t, foreign.Header.Get("Access-Control-Allow-Origin"))

		stream := ask(browser, http.MethodGet, "/v1/agents/"+agent+"/events", "Authorization", "Bearer "+token, "Accept", "text/event-stream", "Origin", desktopOrigin)
		require.Equal(t, proto, stream.Proto)
		require.Equal(t, http.StatusOK, stream.StatusCode)
		require.Equal(t, desktopOrigin, stream.Header.Get("Access-Control-Allow-Origin"), "of a stream that was taken over too")
		require.Equal(t, "true", stream.Header.Get("Access-Control-Allow-Credentials"))
		require.Contains(t, stream.Header.Values("Vary"), "Origin")
		require.NotEmpty(t, stream.Header.Get("X-Request-Id"))
		require.Equal(t, "no-cache, no-transform", stream.Header.Get("Cache-Control"))
		frames := make(chan frame, 100)
		go func() {
			defer close(frames)
			readFrames(stream.Body, func(f frame) bool { frames <- f; return true })
		}()
		streams = append(streams, frames)
	}
	preflight, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, base+"/v1/failovers/force", nil)
	require.NoError(t, err)
	preflight.Header.Set("Origin", desktopOrigin)
	preflight.Header.Set("Access-Control-Request-Method", "POST")
	preflight.Header.Set("Access-Control-Request-Headers", "authorization,content-type,idempotency-key")
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr())
		},
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(preflight)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	require.Equal(t, "7200", resp.Header.Get("Access-Control-Max-Age"))

	floor.shift(t, west)
	for _, frames := range streams {
		d := &desktop{frames: frames}
		d.opened(t)
		d.next(t, "failoverDetected")
		d.next(t, "failoverCompleted")
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.WithoutCancel(t.Context())) }()
	for _, frames := range streams {
		d := &desktop{frames: frames}
		d.next(t, "draining")
		_, open := <-frames
		require.False(t, open)
	}
	require.NoError(t, <-stopped)
}

// X-Forwarded-For on the whole service: operators see where streams come from, as a trusted proxy says, and as nobody else does.
func TestForwardedAddressesOfStreams(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	for name, test := range map[string]struct {
		trusted []string
		want    string
	}{
		"trusted":     {[]string{"127.0.0.0/8"}, `^192\.0\.2\.7$`},
		"not trusted": {[]string{"10.0.0.0/8"}, `^127\.0\.0\.1:\d+$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := configuration(floor, postgrestest.NewDatabase(t))
			c.HTTP.TrustedProxies = test.trusted
			s := start(t, c)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+"/v1/agents/"+floor.agent(0)+"/events", nil)
			require.NoError(t, err)
			r.Header.Set("Accept", "text/event-stream")
			r.Header.Set("X-Forwarded-For", "127.0.0.1, 192.0.2.7")
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			require.NoError(t, err)
			defer resp.Body.Close()
			list := until(t, s, "/v1/connections", func(l contract.ConnectionList) bool { return len(l.Items) == 1 })
			require.Regexp(t, test.want, list.Items[0].RemoteAddress)
		})
	}
}

// A flood of requests from one address is refused, while streams are told to come later and probes are answered.
func TestFloodOfRequests(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	c := configuration(floor, postgrestest.NewDatabase(t))
	c.HTTP.RequestsPerSecondPerAddress = 0.02 // so slow that no machine is slower
	s := start(t, c)
	refused := 0
	for range 30 {
		if status, _ := s.request(t, http.MethodGet, "/v1/summary", nil); status == http.StatusTooManyRequests {
			refused++
		}
	}
	require.GreaterOrEqual(t, refused, 10)
	status, _ := s.request(t, http.MethodGet, "/livez", nil)
	require.Equal(t, http.StatusOK, status)
	_, metrics := s.request(t, http.MethodGet, "/metrics", nil)
	require.Contains(t, string(metrics), "too-many-requests", "they count as others do")
	d := watch(t, s.Addr(), "/v1/agents/"+floor.agent(0)+"/events", "")
	_, open := <-d.frames
	require.False(t, open, "200, a retry and the end")
}

// Unauthenticated connections that fill the house keep no desktop out and close no stream.
func TestFloodOfConnections(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 2})
	c := configuration(floor, postgrestest.NewDatabase(t))
	c.HTTP.MaxConnections = 20
	s := start(t, c)
	s.untilWorksIn(t, floor.agent(0), east)
	d := watch(t, s.Addr(), "/v1/agents/"+floor.agent(0)+"/events", "")
	d.opened(t)
	for range 200 {
		silent, err := net.Dial("tcp", s.Addr())
		require.NoError(t, err)
		defer silent.Close()
	}
	other := watch(t, s.Addr(), "/v1/agents/"+floor.agent(1)+"/events", "")
	other.opened(t)
	floor.shift(t, west)
	d.next(t, "failoverDetected")
	other.next(t, "failoverDetected")
	_, metrics := s.request(t, http.MethodGet, "/metrics", nil)
	require.Regexp(t, `changeover_http_connections_rejected_total\{reason="evicted"\} 1\d\d`, string(metrics))
}

// Passwords in logs: of a service that runs, whose database is away, that cannot start, that is checked and migrated, with secrets
// in the URL's places for them and from a file, nothing of what it writes or answers holds one.
func TestPasswordsAreNeverWritten(t *testing.T) {
	t.Parallel()
	log := &logtest.Buffer{}
	o := Options{Log: NewLogger(io.MultiWriter(log, logtest.Output()), slog.LevelDebug)}
	floor := newFloor(t, connectsim.Config{Agents: 1})

	with := func(raw, password string) config.Secret {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		query := u.Query()
		query.Set("password", password)
		u.RawQuery = query.Encode()
		return config.Secret(u.String())
	}
	run := func(change func(*config.Config), work func(a *App)) {
		database := postgrestest.NewDatabase(t)
		c := configuration(floor, database)
		c.Database.URL, c.Database.ListenURL, c.Database.MigrateURL = with(database, "hunter2-url"), with(database, "hunter2-listen"), with(database, "hunter2-migrate")
		change(c)
		fmt.Fprintf(log, "%v %+v %#v\n", c, *c, c.Database)
		a, err := New(t.Context(), c, o)
		if err == nil {
			err = a.Start(t.Context())
			if err == nil {
				work(a)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			require.NoError(t, a.Stop(ctx))
		}
		fmt.Fprintln(log, "result:", err)
		fmt.Fprintln(log, Migrate(t.Context(), c, o.Log))
		fmt.Fprintln(log, Check(t.Context(), c, "", o, log))
	}
	ask := func(a *App, path string) {
		resp, err := http.Get("http://" + a.Addr() + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		_, err = io.Copy(log, resp.Body)
		require.NoError(t, err)
		fmt.Fprintln(log, resp.Header)
	}
	run(func(c *config.Config) { c.Database.MigrateURL = "" }, func(a *App) {
		require.Eventually(t, a.Leading, patience, 20*time.Millisecond)
		for _, path := range []string{"/readyz", "/metrics", "/v1/summary", "/v1/agents?ticket=hunter2-ticket", "/openapi.yaml"} {
			ask(a, path)
		}
	})
	away := func(c *config.Config) {
		c.Database.URL = "postgres://service:hunter2-away@127.0.0.1:1/none?sslmode=require&sslpassword=hunter2-ssl"
		c.Database.ListenURL = "postgres://service:hunter2-listen-away@127.0.0.1:1/none"
		c.Database.MigrateURL = "postgres://owner:hunter2-owner@127.0.0.1:1/none"
	}
	run(away, func(a *App) {
		require.Eventually(t, func() bool { return strings.Contains(log.String(), "the database is not ready") }, patience, 20*time.Millisecond)
		ask(a, "/readyz")
		ask(a, "/v1/summary")
	})
	for _, wrong := range []config.Secret{
		"postgres://service:hunter2-port@host:notaport/db", "postgres://service:hunter2%zz@host/db", "postgres://service:hunter2-option@host/db?sslmode=nonsense",
		"postgres://service:hunter2-timeout@host/db?connect_timeout=nonsense", "postgres://service:hunter2@[::1/db", "postgres://host/db?password=hunter2&port=-1",
		"postgres://service:hunter2-pool@host/db?pool_max_conns=many", "postgres://service:hunter2-cert@host/db?sslrootcert=/does/not/exist&sslmode=verify-full",
	} {
		run(func(c *config.Config) { c.Database.URL = wrong }, func(*App) {})
		run(func(c *config.Config) { c.Database.ListenURL = wrong }, func(*App) {})
		run(func(c *config.Config) { c.Database.MigrateURL = wrong }, func(*App) {})
	}
	// From files, also such as the loader refuses.
	secret := filepath.Join(t.TempDir(), "url")
	for _, content := range []string{"postgres://service:hunter2-file@host/db", "hunter2-alone", "user=x password=hunter2-pairs", "hunter2\nhunter2"} {
		require.NoError(t, os.WriteFile(secret, []byte(content), 0o600))
		_, err := config.Load(filepath.Join("..", "..", "deploy", "changeover.example.yaml"), []string{"CHANGEOVER_DATABASE_URL_FILE=" + secret})
		fmt.Fprintln(log, err)
	}

	text := log.String()
	require.Contains(t, text, "127.0.0.1:1", "what is no secret is told")
	require.Contains(t, text, "connection refused")
	if before, after, found := strings.Cut(text, "hunter2"); found {
		line := before[strings.LastIndexByte(before, '\n')+1:]
		t.Errorf("a password was written: %.600s>>>hunter2<<<%.200s", line, after)
	}
}
