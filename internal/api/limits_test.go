package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api"
	"changeover/internal/api/auth"
	"changeover/internal/api/contract"
)

// full is a limiter that lets nothing through.
type full struct{ asked atomic.Int64 }

func (f *full) Wait(*http.Request) time.Duration {
	f.asked.Add(1)
	return 1500 * time.Millisecond
}

// untouched is an authenticator that nobody may ask.
type untouched struct{ t *testing.T }

func (u untouched) Authenticate(*http.Request) (auth.Identity, error) {
	u.t.Error("a refused request was authenticated")
	return auth.Identity{}, auth.ErrUnauthenticated
}

// A flood of requests: refused before it costs the check of a token, with 429 and the time to wait. A stream gets 200 and a long retry,
// because a browser's EventSource gives up for good on anything else; and probes are never refused, because then
// the flood would have the process killed.
func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	limiter := &full{}
	s := newService(t, func(o *api.Options) { o.Limiter, o.Auth = limiter, untouched{t} })
	for _, d := range operations(t, "none") {
		if d.id == "livez" || d.id == "readyz" {
			before := limiter.asked.Load()
			require.Equal(t, http.StatusOK, d.request(s).status, d.id)
			require.Equal(t, before, limiter.asked.Load())
			continue
		}
		a := d.request(s, "Authorization", "Bearer x")
		p := read[contract.Problem](t, a, http.StatusTooManyRequests)
		require.Equal(t, "urn:changeover:problem:too-many-requests", p.Type)
		require.Equal(t, "2", a.header.Get("Retry-After"))
	}
	for _, path := range []string{"/v1/events", "/v1/agents/" + jane + "/events"} {
		a := s.get(path, "Accept", "text/event-stream")
		require.Equal(t, http.StatusOK, a.status)
		require.Equal(t, "text/event-stream", a.header.Get("Content-Type"))
		_, after, _ := strings.Cut(a.body, "retry: ")
		retry, err := strconv.Atoi(strings.TrimSpace(after))
		require.NoError(t, err, a.body)
		require.GreaterOrEqual(t, retry, 15_000)
		require.LessOrEqual(t, retry, 60_000)
	}
	// What is not there at all costs a flood no less.
	resp, err := http.Get(s.url + "/nothing")
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusTooManyRequests, resp.StatusCode)
	http.DefaultClient.CloseIdleConnections()
}

// The connection of a caller who is known is told so, and no other.
func TestIdentified(t *testing.T) {
	t.Parallel()
	var heard atomic.Int64
	s := newService(t, withRoles, func(o *api.Options) {
		o.Identified = func(context.Context) { heard.Add(1) }
	})
	for _, path := range []string{"/livez", "/v1/agents", "/nothing"} {
		s.get(path)
		require.Zero(t, heard.Load(), path)
	}
	s.get("/v1/agents", "X-Test-As", "nobody")
	require.EqualValues(t, 1, heard.Load(), "known, with no role")
	s.get("/v1/agents", "X-Test-As", "viewer")
	require.EqualValues(t, 2, heard.Load())
}

// DNS rebinding: a web page lets a name of its own point to 127.0.0.1 and is then of one origin with a service that runs there without
// tokens.
func TestForeignHostWithoutTokens(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ask := func(host string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/agents", nil)
		require.NoError(t, err)
		r.Host = host
		resp, err := s.client.Do(r)
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, host := range []string{
		"evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "evillocalhost", "10.0.0.1", "192.0.2.1:8080",
		"0.0.0.0", "[::]", "[2001:db8::1]:80", "2130706433", "0x7f.1", "127.1", "localhost.",
	} {
		require.Equal(t, http.StatusForbidden, ask(host), host)
	}
	for _, host := range []string{"localhost", "LOCALHOST:8080", "changeover.localhost:80", "127.0.0.1", "127.8.9.1:1", "[::1]", "[::1]:8080"} {
		require.Equal(t, http.StatusOK, ask(host), host)
	}
}

// Cross-site request forgery without tokens: whoever runs the service on their own machine has other pages open too, and a page may post to
// 127.0.0.1 without asking. Programs, which name no origin, and configured pages may.
func TestForeignPagesWithoutTokens(t *testing.T) {
	t.Parallel()
	origins, err := auth.NewOrigins([]string{"http://localhost:5173"})
	require.NoError(t, err)
	s := newService(t, func(o *api.Options) { o.Auth = auth.None{Origins: origins} })
	s.leader.floor()
	path, good := "/v1/agents/"+jane+"/reports", map[string]any{"activeRegion": east}
	for name, c := range map[string]struct {
		headers []string
		want    int
	}{
		"a program":                         {nil, http.StatusAccepted},
		"the configured page":               {[]string{"Origin", "http://localhost:5173", "Sec-Fetch-Site", "same-site"}, http.StatusAccepted},
		"our own page":                      {[]string{"Origin", s.url, "Sec-Fetch-Site", "same-origin"}, http.StatusAccepted},
		"our own page, old browser":         {[]string{"Origin", s.url}, http.StatusAccepted},
		"a foreign page":                    {[]string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		"a foreign page, old browser":       {[]string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"a sandboxed frame":                 {[]string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, http.StatusForbidden},
		"a sandboxed frame, old browser":    {[]string{"Origin", "null"}, http.StatusForbidden},
		"another program of this machine's": {[]string{"Origin", "http://localhost:8081", "Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
	} {
		require.Equal(t, c.want, s.post(path, good, c.headers...).status, name)
		if c.want == http.StatusForbidden {
			require.Equal(t, http.StatusForbidden, s.request(http.MethodPost, "/v1/session", nil, c.headers...).status, name)
			require.Equal(t, http.StatusForbidden, s.request(http.MethodDelete, "/v1/session", nil, c.headers...).status, name)
		}
		require.Equal(t, http.StatusOK, s.get("/v1/agents/"+jane, c.headers...).status, "reading is CORS' affair")
	}
}

// dripping is a body whose time is up.
type dripping struct{ sent bool }

func (d *dripping) Read(p []byte) (int, error) {
	if d.sent {
		return 0, fmt.Errorf("read tcp: %w", os.ErrDeadlineExceeded)
	}
	d.sent = true
	return copy(p, `{"rea`), nil
}

func (*dripping) Close() error { return nil }

var _ io.ReadCloser = (*dripping)(nil)

// Slow-drip body: when the server's deadline has cut it off, the caller is told what happened and nothing was done. (The deadline itself is
// tested in internal/edge.)
func TestBodyThatDidNotComeInTime(t *testing.T) {
	t.Parallel()
	s := newService(t)
	r := httptest.NewRequest(http.MethodPost, "http://localhost/v1/failovers/x/force", &dripping{})
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.server.ServeHTTP(w, r)
	require.Equal(t, http.StatusRequestTimeout, w.Code)
	var p contract.Problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, "urn:changeover:problem:request-timeout", p.Type)
	require.Empty(t, read[contract.AuditList](t, s.get("/v1/audit"), http.StatusOK).Items)
}
