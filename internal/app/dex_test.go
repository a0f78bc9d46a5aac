package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"changeover/internal/api/auth/dextest"
	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/servertest"
)

// dexHost is where people's browsers find the service; the test's connections go there whatever the name's address is.
const dexHost = "changeover.example.com"

// withDex configures a service for the people of an identity provider: olga is an operator, jane the floor's first agent.
func withDex(t *testing.T, f *floor) (*config.Config, *dextest.Dex) {
	if testing.Short() {
		t.Skip("builds dex once")
	}
	secret := logtest.Secret("the-console's-secret-at-dex")
	redirect := "https://" + dexHost + "/console/auth/callback"
	dex := dextest.Start(t, dextest.Config{
		Clients: []dextest.Client{
			{ID: "changeover", TrustedPeers: []string{"console", "desktop"}},
			{ID: "console", Secret: secret, RedirectURIs: []string{redirect}},
			{ID: "desktop", Public: true},
		},
		Users: []dextest.User{
			{ID: "u-olga", Email: "olga@acme.example", Password: logtest.Secret("olga's password"), PreferredUsername: "olga@acme.example", Groups: []string{"staff", "changeover-operator"}},
			{ID: "u-jane", Email: "jane@acme.example", Password: logtest.Secret("jane's password"), Groups: []string{"staff"},
				PreferredUsername: "arn:aws:connect:us-east-1:111122223333:instance/" + f.InstanceID() + "/agent/" + f.agent(0)},
		},
		TokenLife: time.Hour,
	})
	c := configuration(f, postgrestest.NewDatabase(t))
	c.Auth = config.Auth{
		Mode: config.AuthJWT, Issuer: dex.Issuer(), Audience: "changeover", AgentClaim: "preferred_username", RolesClaim: "groups", SameSite: "strict",
		Login: config.Login{
			ClientID: "console", ClientSecret: config.Secret(secret), RedirectURL: redirect,
			Scopes: []string{"profile", "email", "groups", "audience:server:client_id:changeover"},
		},
	}
	return c, dex
}

// browser keeps cookies as people's browsers do, and follows no redirect by itself.
type browser struct {
	*http.Client
	t *testing.T
}

// do sends a request with a body that may be nil; the answer's body may be read until the test ends.
func (b *browser) do(method, url string, body any, header ...string) *http.Response {
	b.t.Helper()
	var content bytes.Buffer
	if body != nil {
		require.NoError(b.t, json.NewEncoder(&content).Encode(body))
		header = append(header, "Content-Type", "application/json")
	}
	if strings.HasPrefix(url, "/") {
		url = "https://" + dexHost + url
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, url, &content)
	require.NoError(b.t, err)
	for n := 0; n < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	answer, err := b.Do(r)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { answer.Body.Close() })
	for _, c := range answer.Cookies() {
		if len(c.Value) > 20 {
			logtest.Secret(c.Value)
		}
	}
	return answer
}

// stream opens one, with a header or the jar's cookie for a proof.
func (b *browser) stream(path string, header ...string) *desktop {
	b.t.Helper()
	answer := b.do(http.MethodGet, path, nil, append(header, "Accept", "text/event-stream")...)
	require.Equal(b.t, http.StatusOK, answer.StatusCode)
	frames := make(chan frame, 100)
	go func() {
		defer close(frames)
		readFrames(answer.Body, func(f frame) bool { frames <- f; return true })
	}()
	return &desktop{frames: frames}
}

func text(t *testing.T, answer *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(b)
}

// The whole service with a real identity provider: dex is found by discovery, a desktop hears its stream with its token, an operator
// forces with one, and another signs in to the console, whose cookie opens a stream and forces too. dex rotates its keys, and
// everybody goes on. Then dex is gone: who is known goes on, who comes with an unknown key is told to come again, and a service that
// starts now says why it cannot.
func TestServiceWithDex(t *testing.T) {
	t.Parallel()
	f := newFloor(t, connectsim.Config{Agents: 2})
	c, dex := withDex(t, f)
	cert, key, roots := certificate(t, time.Now().Add(time.Hour))
	c.HTTP.TLSCert, c.HTTP.TLSKey = cert, key
	s := start(t, c)
	newBrowser := func() *browser {
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == dexHost+":443" {
					address = s.Addr()
				}
				return (&net.Dialer{}).DialContext(ctx, network, address)
			}}
		t.Cleanup(transport.CloseIdleConnections)
		return &browser{t: t, Client: &http.Client{Transport: transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	}
	tokenOf := func(who string) string {
		return dex.Token("desktop", who+"@acme.example", who+"'s password", "audience:server:client_id:changeover")
	}
	me := f.agent(0)
	call := f.call(t, me, "VOICE")
	desk, tool, console := newBrowser(), newBrowser(), newBrowser()
	bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	get := func(path, token string) int { return tool.do(http.MethodGet, path, nil, bearer(token)...).StatusCode }

	jane, olga := tokenOf("jane"), tokenOf("olga")
	calls := func(n int) {
		require.Eventually(t, func() bool {
			var list contract.ContactList
			answer := tool.do(http.MethodGet, "/v1/agents/"+me+"/contacts", nil, bearer(jane)...)
			return json.Unmarshal([]byte(text(t, answer)), &list) == nil && len(list.Items) == n
		}, patience, 50*time.Millisecond)
	}
	calls(1)
	require.Equal(t, http.StatusNotFound, get("/v1/agents/"+f.agent(1), jane))
	require.Equal(t, http.StatusForbidden, get("/v1/agents", jane))
	require.Equal(t, http.StatusOK, get("/v1/agents", olga))
	d := desk.stream("/v1/agents/"+me+"/events", bearer(jane)...)
	d.opened(t)

	// Somebody signs in to the console.
	require.Equal(t, http.StatusUnauthorized, console.do(http.MethodGet, "/v1/agents", nil).StatusCode)
	signIn := func() {
		answer := console.do(http.MethodGet, "/console/auth/login?return=/console/failovers", nil)
		require.Equal(t, http.StatusSeeOther, answer.StatusCode)
		back := dex.SignIn(console.Client, answer.Header.Get("Location"), "olga@acme.example", "olga's password")
		answer = console.do(http.MethodGet, back.String(), nil)
		require.Equal(t, http.StatusSeeOther, answer.StatusCode, text(t, answer))
		require.Equal(t, "/console/failovers", answer.Header.Get("Location"))
		// Attack: the callback is played again, by somebody who found its address in a history.
		require.Equal(t, http.StatusBadRequest, console.do(http.MethodGet, back.String(), nil).StatusCode)
	}
	signIn()
	require.Equal(t, http.StatusOK, console.do(http.MethodGet, "/v1/agents", nil).StatusCode)
	everybody := console.stream("/v1/events")

	// A shift; the agent's call holds it, until an operator lets go with a token.
	force := func(b *browser, id string, header ...string) *http.Response {
		return b.do(http.MethodPost, "/v1/failovers/"+id+"/force", map[string]any{"reason": "the caller is gone"}, header...)
	}
	f.shift(t, west)
	id := d.next(t, "failoverDetected").data["failoverId"].(string)
	d.next(t, "failoverPending")
	require.Equal(t, http.StatusForbidden, force(console, id, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example").StatusCode)
	answer := force(tool, id, bearer(olga)...)
	var forced contract.Failover
	require.NoError(t, json.Unmarshal([]byte(text(t, answer)), &forced))
	require.Equal(t, http.StatusAccepted, answer.StatusCode)
	require.True(t, forced.Forced)
	require.Equal(t, true, d.next(t, "failoverCompleted").data["forced"])
	for _, event := range []string{"failoverDetected", "failoverPending", "failoverCompleted"} {
		require.Eventually(t, func() bool { return everybodyHears(t, everybody, event, me) }, patience, time.Millisecond)
	}

	// dex signs with a new key. Streams, tokens and the session stay; new tokens are good as well.
	dex.Rotate()
	jane2, olga2 := tokenOf("jane"), tokenOf("olga")
	require.NotEqual(t, strings.Split(jane, ".")[0], strings.Split(jane2, ".")[0], "another key")
	for _, token := range []string{jane2, jane} {
		require.Equal(t, http.StatusOK, get("/v1/agents/"+me, token))
	}
	for _, token := range []string{olga2, olga} {
		require.Equal(t, http.StatusOK, get("/v1/agents", token))
	}
	d2 := newBrowser().stream("/v1/agents/"+me+"/events", bearer(jane2)...)
	d2.opened(t)
	require.NoError(t, f.EndContact(call))
	require.NoError(t, f.ClearContact(call))
	calls(0)
	f.call(t, me, "VOICE")
	calls(1)
	f.shift(t, east)
	for _, d := range []*desktop{d, d2} {
		id = d.next(t, "failoverDetected").data["failoverId"].(string)
		d.next(t, "failoverPending")
	}
	require.Equal(t, http.StatusAccepted, force(console, id, "Sec-Fetch-Site", "same-origin").StatusCode)
	for _, d := range []*desktop{d, d2} {
		d.next(t, "failoverCompleted")
	}
	signIn() // with the new key

	// The identity provider is away.
	dex.Stop()
	unknown, err := jwt.Signed(servertest.NewIssuer(t).Signer).Claims(map[string]any{
		"iss": dex.Issuer(), "aud": "changeover", "sub": "x", "groups": []string{"admin"}, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}).Serialize()
	require.NoError(t, err)
	answer = tool.do(http.MethodGet, "/v1/agents", nil, bearer(logtest.Secret(unknown))...)
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	require.NotEmpty(t, answer.Header.Get("Retry-After"))
	require.Equal(t, http.StatusOK, get("/v1/agents/"+me, jane), "the last good keys stay")
	require.Equal(t, http.StatusOK, get("/v1/agents", olga2))
	require.Equal(t, http.StatusOK, console.do(http.MethodGet, "/v1/agents", nil).StatusCode)
	answer = console.do(http.MethodPost, "/console/auth/logout", nil, "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusSeeOther, answer.StatusCode)
	require.Equal(t, http.StatusUnauthorized, console.do(http.MethodGet, "/v1/agents", nil).StatusCode)

	_, err = New(t.Context(), c, Options{Log: logtest.New(nil)})
	require.ErrorContains(t, err, dex.Issuer()+"/.well-known/openid-configuration")
	require.ErrorContains(t, err, "connection refused")
	require.ErrorContains(t, err, "check auth.issuer, that this machine reaches it")
	s.stop(t)
	require.Contains(t, s.log.String(), "signing keys not read, the last ones stay")
}

// everybodyHears reads the next event of a stream of all agents and says whether it is that one.
func everybodyHears(t *testing.T, d *desktop, event, agent string) bool {
	t.Helper()
	select {
	case f, open := <-d.frames:
		require.True(t, open, "the stream ended")
		return f.event == event && fmt.Sprint(f.data["agentId"]) == agent
	default:
		return false
	}
}
