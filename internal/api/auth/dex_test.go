package auth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/auth/dextest"
)

// A real identity provider: dex signs in an operator with a browser and a desktop's agent, rotates its keys under their feet, and
// withdraws one.
func TestWithDex(t *testing.T) {
	if testing.Short() {
		t.Skip("builds dex once")
	}
	t.Parallel()
	s := &dexService{}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	dex := dextest.Start(t, dextest.Config{
		Clients: []dextest.Client{
			{ID: testAudience, TrustedPeers: []string{"console", "desktop"}},
			{ID: "console", Secret: secret("the-console's-secret-in-dex"), RedirectURIs: []string{server.URL + "/console/auth/callback"}},
			{ID: "desktop", Public: true},
		},
		Users: []dextest.User{
			{ID: "u-olga", Email: "olga@acme.example", Password: secret("olga's password"), PreferredUsername: "olga@acme.example", Groups: []string{"staff", "changeover-viewer", "changeover-operator"}},
			{ID: "u-jane", Email: "jane@acme.example", Password: secret("jane's password"), PreferredUsername: janeARN, Groups: []string{"staff", "agents"}},
		},
		TokenLife: time.Hour,
	})
	s.set(t, dex.Issuer(), server.URL)

	olga := newPerson(t, server)
	require.Equal(t, http.StatusUnauthorized, olga.do("GET", "/v1/me").StatusCode)
	olga.signIn(dex, "olga@acme.example", "olga's password")
	me := olga.me()
	require.Equal(t, []Role{Viewer, Operator}, me.Roles)
	require.Equal(t, "olga@acme.example", me.Name)
	require.Equal(t, ByCookie, me.Via)
	require.Empty(t, me.AgentID)
	require.WithinDuration(t, time.Now().Add(time.Hour), me.Expires, time.Minute)
	require.Equal(t, http.StatusOK, olga.do("POST", "/v1/me", "Sec-Fetch-Site", "same-origin").StatusCode)
	require.Equal(t, http.StatusForbidden, olga.do("POST", "/v1/me", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example").StatusCode)

	jane1 := dex.Token("desktop", "jane@acme.example", "jane's password", "audience:server:client_id:"+testAudience)
	me = identityOf(t, s.get().verifier, jane1)
	require.Equal(t, []Role{Agent}, me.Roles)
	require.True(t, me.Is(jane))

	// The desktop takes a cookie for its EventSource.
	desk := newPerson(t, server)
	require.Equal(t, http.StatusNoContent, desk.do("POST", "/v1/session", "Authorization", "Bearer "+jane1).StatusCode)
	me = desk.me()
	require.True(t, me.Is(jane))
	require.Equal(t, ByCookie, me.Via)

	// dex signs with a new key: who is in stays in, and who comes with it is let in at once.
	dex.Rotate()
	jane2 := dex.Token("desktop", "jane@acme.example", "jane's password", "audience:server:client_id:"+testAudience)
	require.NotEqual(t, kidOf(t, jane1), kidOf(t, jane2))
	require.True(t, identityOf(t, s.get().verifier, jane2).Is(jane))
	require.True(t, identityOf(t, s.get().verifier, jane1).Is(jane))
	require.Equal(t, []Role{Viewer, Operator}, olga.me().Roles)

	// The old key is withdrawn: its tokens end, sessions included.
	dex.Forget()
	require.Eventually(t, func() bool {
		_, err := s.get().verifier.Verify(t.Context(), jane1)
		return errors.Is(err, ErrUnauthenticated)
	}, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, http.StatusUnauthorized, olga.do("GET", "/v1/me").StatusCode)
	require.True(t, identityOf(t, s.get().verifier, jane2).Is(jane))

	// Signing in again, and out.
	olga.signIn(dex, "olga@acme.example", "olga's password")
	require.Equal(t, []Role{Viewer, Operator}, olga.me().Roles)
	require.Equal(t, http.StatusSeeOther, olga.do("POST", "/console/auth/logout", "Sec-Fetch-Site", "same-origin").StatusCode)
	require.Equal(t, http.StatusUnauthorized, olga.do("GET", "/v1/me").StatusCode)

	// A token of the same issuer for another of its clients is none for us.
	other := dex.Token("desktop", "jane@acme.example", "jane's password")
	_, err := s.get().verifier.Verify(t.Context(), other)
	require.ErrorContains(t, err, "another audience")
}

// dexService is what of the service has to do with tokens.
type dexService struct{ parts atomic.Pointer[dexParts] }

type dexParts struct {
	verifier *Verifier
	tokens   *Tokens
	login    *Login
}

func (s *dexService) get() *dexParts { return s.parts.Load() }

func (s *dexService) set(t *testing.T, issuer, address string) {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	v, err := NewVerifier(t.Context(), VerifierOptions{
		Issuer: issuer, Audience: testAudience, AgentClaim: "preferred_username", RolesClaim: "groups", InstanceIDs: []string{instance}, Transport: transport, Log: testLog,
	})
	require.NoError(t, err)
	v.keys.gap, v.keys.period = 50*time.Millisecond, 500*time.Millisecond // for who cannot wait for minutes
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = v.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	origins, err := NewOrigins(nil)
	require.NoError(t, err)
	cookies := Cookies{SameSite: http.SameSiteStrictMode}
	l, err := NewLogin(t.Context(), LoginOptions{
		Issuer: issuer, ClientID: "console", ClientSecret: "the-console's-secret-in-dex", RedirectURL: address + "/console/auth/callback", Home: "/console/",
		Scopes: []string{"profile", "email", "groups", "audience:server:client_id:" + testAudience}, Verifier: v, Origins: origins, Cookies: cookies, Transport: transport, Log: testLog,
	})
	require.NoError(t, err)
	s.parts.Store(&dexParts{verifier: v, tokens: NewTokens(v, nil, origins, cookies), login: l})
}

func (s *dexService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := s.get()
	mux := http.NewServeMux()
	mux.Handle(p.login.Folder(), p.login)
	mux.HandleFunc("/console/", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/session", func(w http.ResponseWriter, r *http.Request) {
		c, err := p.tokens.NewSession(r)
		if err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.SetCookie(w, c)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/v1/me", func(w http.ResponseWriter, r *http.Request) {
		id, err := p.tokens.Authenticate(r)
		switch {
		case errors.Is(err, ErrForeignOrigin):
			w.WriteHeader(http.StatusForbidden)
		case err != nil:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			_ = json.NewEncoder(w).Encode(id)
		}
	})
	mux.ServeHTTP(w, r)
}

// person is somebody with a browser.
type person struct {
	t       *testing.T
	service string
	browser *http.Client
}

func newPerson(t *testing.T, server *httptest.Server) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := server.Client().Transport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return &person{t: t, service: server.URL, browser: &http.Client{
		Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (p *person) do(method, path string, headers ...string) *http.Response {
	p.t.Helper()
	address, err := url.Parse(p.service)
	require.NoError(p.t, err)
	address, err = address.Parse(path)
	require.NoError(p.t, err)
	req, err := http.NewRequestWithContext(p.t.Context(), method, address.String(), nil)
	require.NoError(p.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := p.browser.Do(req)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func (p *person) signIn(dex *dextest.Dex, email, password string) {
	p.t.Helper()
	resp := p.do("GET", "/console/auth/login?return=/console/failovers")
	require.Equal(p.t, http.StatusSeeOther, resp.StatusCode)
	back := dex.SignIn(p.browser, resp.Header.Get("Location"), email, password)
	resp = p.do("GET", back.String())
	require.Equal(p.t, http.StatusSeeOther, resp.StatusCode)
	require.Equal(p.t, "/console/failovers", resp.Header.Get("Location"))
	require.Equal(p.t, http.StatusOK, p.do("GET", resp.Header.Get("Location")).StatusCode)
}

func (p *person) me() Identity {
	p.t.Helper()
	resp := p.do("GET", "/v1/me")
	require.Equal(p.t, http.StatusOK, resp.StatusCode)
	var id Identity
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&id))
	return id
}

func identityOf(t *testing.T, v *Verifier, token string) Identity {
	t.Helper()
	id, err := v.Verify(t.Context(), token)
	require.NoError(t, err)
	return id
}
