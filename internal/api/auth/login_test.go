package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	console      = host + "/console/"
	clientSecret = "client-secret-of-the-tests"
)

// identityProvider answers the token endpoint of an issuer as a provider does that checks what the protocol has it check.
type identityProvider struct {
	*issuer
	t         *testing.T
	challenge string         // of the authorization request
	nonce     string         // of the authorization request
	access    string         // the access token it gives; empty: an opaque one
	claims    map[string]any // of the ID token, over those of the protocol
	answer    func() (int, string)
	asked     int
}

func newIdentityProvider(t *testing.T) *identityProvider {
	p := &identityProvider{issuer: newIssuer("rsa1"), t: t, claims: map[string]any{}}
	p.token = p.exchange
	return p
}

func (p *identityProvider) exchange(r *http.Request) (int, string) {
	p.asked++
	if p.answer != nil {
		return p.answer()
	}
	if err := r.ParseForm(); err != nil {
		return http.StatusBadRequest, `{"error":"invalid_request"}`
	}
	user, password, _ := r.BasicAuth()
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	switch {
	case user != "console" || password != clientSecret:
		return http.StatusUnauthorized, `{"error":"invalid_client"}`
	case r.PostForm.Get("code") != "the-code-of-the-tests", r.PostForm.Get("redirect_uri") != console+"auth/callback",
		base64.RawURLEncoding.EncodeToString(sum[:]) != p.challenge:
		return http.StatusBadRequest, `{"error":"invalid_grant","error_description":"the code the-code-of-the-tests was used"}`
	}
	secret(r.PostForm.Get("code_verifier"))
	claims := good(map[string]any{"aud": "console", "nonce": p.nonce, "connect_user_id": nil, "roles": nil}, p.claims)
	answer := map[string]any{"token_type": "Bearer", "expires_in": 3600, "access_token": p.access, "id_token": sign("rsa1", claims)}
	if p.access == "" {
		answer["access_token"] = "opaque"
	}
	data, err := json.Marshal(answer)
	require.NoError(p.t, err)
	return http.StatusOK, string(data)
}

func (p *identityProvider) login(change ...func(*LoginOptions)) *Login {
	p.t.Helper()
	origins, err := NewOrigins(nil)
	require.NoError(p.t, err)
	o := LoginOptions{
		Issuer: testIssuer, ClientID: "console", ClientSecret: secret(clientSecret), RedirectURL: console + "auth/callback", Home: "/console/",
		Verifier: p.verifier(p.t), Origins: origins, Cookies: Cookies{SameSite: http.SameSiteStrictMode}, Transport: p, Log: testLog,
	}
	for _, c := range change {
		c(&o)
	}
	l, err := NewLogin(p.t.Context(), o)
	require.NoError(p.t, err)
	return l
}

// browser keeps cookies by name.
type browser struct {
	t       *testing.T
	l       http.Handler
	cookies map[string]string
}

func (b *browser) do(method, path string, headers ...string) *http.Response {
	b.t.Helper()
	r := request(method, path, headers...)
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.l.ServeHTTP(w, r)
	resp := w.Result()
	for _, c := range resp.Cookies() {
		require.NoError(b.t, c.Valid())
		require.True(b.t, c.Secure && c.HttpOnly && c.Path == "/" && c.Domain == "" && strings.HasPrefix(c.Name, "__Host-"), "%s", c)
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = secret(c.Value)
		}
	}
	require.Equal(b.t, "no-store", resp.Header.Get("Cache-Control"))
	require.Equal(b.t, "no-referrer", resp.Header.Get("Referrer-Policy"))
	require.Contains(b.t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'")
	return resp
}

// begin goes to the identity provider and returns what the browser brings there.
func (b *browser) begin(p *identityProvider, returnTo string) url.Values {
	b.t.Helper()
	resp := b.do("GET", "/console/auth/login?return="+url.QueryEscape(returnTo))
	require.Equal(b.t, http.StatusSeeOther, resp.StatusCode)
	to, err := resp.Location()
	require.NoError(b.t, err)
	require.Equal(b.t, testIssuer+"/auth", strings.Split(to.String(), "?")[0])
	q := to.Query()
	require.Equal(b.t, "code", q.Get("response_type"))
	require.Equal(b.t, "console", q.Get("client_id"))
	require.Equal(b.t, console+"auth/callback", q.Get("redirect_uri"))
	require.Equal(b.t, "S256", q.Get("code_challenge_method"))
	require.Equal(b.t, "openid profile email", q.Get("scope"))
	p.challenge, p.nonce = q.Get("code_challenge"), q.Get("nonce")
	secret(q.Get("state"))
	secret(q.Get("nonce"))
	secret("the-code-of-the-tests")
	return q
}

func (b *browser) back(state string, more ...string) *http.Response {
	b.t.Helper()
	return b.do("GET", "/console/auth/callback?code=the-code-of-the-tests&state="+url.QueryEscape(state)+strings.Join(more, ""))
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	page, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(page)
}

func newBrowser(t *testing.T, l http.Handler) *browser {
	return &browser{t: t, l: l, cookies: map[string]string{}}
}

// The whole way, with the access token as session where it is one for this service, and with the ID token where the client is the
// audience.
func TestLogin(t *testing.T) {
	t.Parallel()
	access := sign("rsa1", good(map[string]any{"roles": []string{"operator"}, "connect_user_id": nil}))
	for name, c := range map[string]struct {
		access string
		claims map[string]any
		want   []Role
	}{
		"access token": {access, nil, []Role{Operator}},
		"ID token":     {"", map[string]any{"aud": []string{"console", testAudience}, "azp": "console", "roles": "viewer operator"}, []Role{Viewer, Operator}},
		"ID token, the access token has no roles": {sign("rsa1", good(map[string]any{"roles": nil, "connect_user_id": nil})), map[string]any{"aud": []string{"console", testAudience}, "roles": "viewer"}, []Role{Viewer}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newIdentityProvider(t)
			p.access = c.access
			if c.claims != nil {
				p.claims = c.claims
			}
			l := p.login()
			require.Equal(t, "/console/auth/", l.Folder())
			b := newBrowser(t, l)
			q := b.begin(p, "/console/failovers?status=pending#top")
			require.Len(t, b.cookies, 1)
			resp := b.back(q.Get("state"))
			require.Equal(t, http.StatusSeeOther, resp.StatusCode)
			require.Equal(t, "/console/failovers?status=pending#top", resp.Header.Get("Location"))
			require.Len(t, b.cookies, 1, "the session, and no sign-in any more")

			tokens := NewTokens(l.verifier, nil, l.origins, l.cookies)
			id, err := tokens.Authenticate(request("GET", "/v1/agents", "Cookie", CookieName+"="+b.cookies[CookieName]))
			require.NoError(t, err)
			require.Equal(t, c.want, id.Roles)

			// The back button: the same callback again.
			require.Equal(t, http.StatusBadRequest, b.back(q.Get("state")).StatusCode)
			require.Equal(t, 1, p.asked)
		})
	}
}

// Login CSRF and session fixation: a callback that another browser began, that nobody began, or whose cookie was made elsewhere.
func TestForgedCallback(t *testing.T) {
	t.Parallel()
	p := newIdentityProvider(t)
	p.claims = map[string]any{"aud": []string{"console", testAudience}, "roles": "admin"}
	l := p.login()
	attacker, victim := newBrowser(t, l), newBrowser(t, l)
	q := attacker.begin(p, "")
	mine := victim.begin(p, "")
	victimsCookie := victim.cookies[loginCookieName(mine.Get("state"))]
	for name, b := range map[string]*browser{
		"another browser's state": {t: t, l: l, cookies: victim.cookies},
		"no cookie":               {t: t, l: l, cookies: map[string]string{}},
		"an unsealed cookie":      {t: t, l: l, cookies: map[string]string{loginCookieName(q.Get("state")): base64.RawURLEncoding.EncodeToString([]byte(`{"state":"` + q.Get("state") + `"}`))}},
		"a cookie of another sign-in under this name": {t: t, l: l, cookies: map[string]string{loginCookieName(q.Get("state")): victimsCookie}},
		"a cookie of another deployment": {t: t, l: l, cookies: func() map[string]string {
			other := newBrowser(t, p.login(func(o *LoginOptions) { o.StateSecret = "another secret of another deployment" }))
			other.begin(p, "")
			for _, v := range other.cookies {
				return map[string]string{loginCookieName(q.Get("state")): v}
			}
			return nil
		}()},
	} {
		resp := b.back(q.Get("state"))
		require.Equal(t, http.StatusBadRequest, resp.StatusCode, name)
		require.NotContains(t, b.cookies, CookieName)
	}
	for _, state := range []string{"", "x", strings.Repeat("x", 10000), "../", "\x00"} {
		require.Equal(t, http.StatusBadRequest, victim.back(state).StatusCode)
	}
	require.Zero(t, p.asked, "no code was spent")
	p.nonce, p.challenge = mine.Get("nonce"), mine.Get("code_challenge")
	require.Equal(t, http.StatusSeeOther, victim.back(mine.Get("state")).StatusCode, "and the victim's own sign-in goes on")
}

// A sign-in that lay around: ten minutes are enough for a password and a second factor.
func TestLoginTooLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newIdentityProvider(t)
		b := newBrowser(t, p.login())
		q := b.begin(p, "")
		time.Sleep(loginTime)
		require.Equal(t, http.StatusBadRequest, b.back(q.Get("state")).StatusCode)
		require.Zero(t, p.asked)
	})
}

// Token substitution: an ID token of another sign-in (nonce), for another client (aud, azp), of another person than the access token,
// with another access token (at_hash), expired, or forged.
func TestIDTokenTricks(t *testing.T) {
	t.Parallel()
	for name, claims := range map[string]map[string]any{
		"another nonce":                    {"nonce": "of another sign-in"},
		"no nonce":                         {"nonce": nil},
		"another client":                   {"aud": "payroll"},
		"this service's, not the client's": {"aud": testAudience},
		"made for another":                 {"aud": []string{"console", "payroll"}, "azp": "payroll"},
		"azp is a list":                    {"azp": []string{"console"}},
		"another issuer":                   {"iss": "https://idp.example.com/realms/guests"},
		"expired":                          {"exp": time.Now().Add(-time.Minute).Unix()},
		"another access token":             {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
		"no subject":                       {"sub": nil},
		"another person":                   {"sub": "somebody else"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newIdentityProvider(t)
			p.access = sign("rsa1", good(map[string]any{"roles": []string{"admin"}}))
			p.claims = claims
			b := newBrowser(t, p.login())
			resp := b.back(b.begin(p, "").Get("state"))
			require.Equal(t, http.StatusBadGateway, resp.StatusCode)
			require.NotContains(t, b.cookies, CookieName)
			require.Equal(t, 1, p.asked)
		})
	}
	for name, answer := range map[string]string{
		"no ID token":                  `{"access_token":"a","token_type":"Bearer"}`,
		"an unsigned one":              `{"access_token":"a","token_type":"Bearer","id_token":"` + assemble(`{"alg":"none"}`, `{}`, []byte("x")) + `"}`,
		"not JSON":                     `<html>`,
		"an error":                     `{"error":"server_error"}`,
		"an ID token that is a number": `{"access_token":"a","token_type":"Bearer","id_token":1}`,
	} {
		p := newIdentityProvider(t)
		p.answer = func() (int, string) { return http.StatusOK, answer }
		b := newBrowser(t, p.login())
		require.Equal(t, http.StatusBadGateway, b.back(b.begin(p, "").Get("state")).StatusCode, name)
		require.NotContains(t, b.cookies, CookieName)
	}
}

// Mix-up: another provider that the browser was sent to answers in the name of ours (RFC 9207).
func TestMixUp(t *testing.T) {
	t.Parallel()
	p := newIdentityProvider(t)
	p.document = `,"authorization_response_iss_parameter_supported":true`
	p.claims = map[string]any{"aud": []string{"console", testAudience}, "roles": "admin"}
	b := newBrowser(t, p.login())
	require.Equal(t, http.StatusBadRequest, b.back(b.begin(p, "").Get("state"), "&iss=https://evil.example").StatusCode)
	require.Equal(t, http.StatusBadRequest, b.back(b.begin(p, "").Get("state")).StatusCode, "the provider always names itself, this answer does not")
	require.Zero(t, p.asked)
	require.Equal(t, http.StatusSeeOther, b.back(b.begin(p, "").Get("state"), "&iss="+url.QueryEscape(testIssuer)).StatusCode)
}

// The provider refuses, or is away: the person gets a page that says so, the log a reason, and neither repeats what was sent.
func TestLoginRefused(t *testing.T) {
	t.Parallel()
	p := newIdentityProvider(t)
	b := newBrowser(t, p.login())
	q := b.begin(p, "")
	resp := b.do("GET", "/console/auth/callback?error=access_denied&error_description=<script>alert(1)</script>&state="+q.Get("state"))
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	require.NotContains(t, text(t, resp), "script")
	require.Contains(t, logged.String(), "access_denied")

	b.do("GET", "/console/auth/callback?error="+url.QueryEscape("x\n{\"level\":\"forged\"}")+"&state="+b.begin(p, "").Get("state"))
	require.NotContains(t, logged.String(), "forged")

	require.Equal(t, http.StatusBadRequest, b.do("GET", "/console/auth/callback?state="+b.begin(p, "").Get("state")).StatusCode, "no code")

	q = b.begin(p, "")
	p.challenge = "of another sign-in"
	resp = b.back(q.Get("state"))
	require.Equal(t, http.StatusBadGateway, resp.StatusCode)
	require.Contains(t, logged.String(), "invalid_grant")

	q = b.begin(p, "")
	p.set(func(i *issuer) { i.err = errNoRoute })
	require.Equal(t, http.StatusBadGateway, b.back(q.Get("state")).StatusCode)
	require.NotContains(t, b.cookies, CookieName)
}

// Good people without a role, and tokens that are for nobody here: said, not let in.
func TestLoginWithoutRole(t *testing.T) {
	t.Parallel()
	p := newIdentityProvider(t)
	b := newBrowser(t, p.login())
	require.Equal(t, http.StatusBadGateway, b.back(b.begin(p, "").Get("state")).StatusCode, "no token is for the audience")
	p.claims = map[string]any{"aud": []string{"console", testAudience}}
	require.Equal(t, http.StatusForbidden, b.back(b.begin(p, "").Get("state")).StatusCode)
	p.claims = map[string]any{"aud": []string{"console", testAudience}, "roles": "viewer", "groups": strings.Repeat("g", 5000)}
	resp := b.back(b.begin(p, "").Get("state"))
	require.Equal(t, http.StatusBadGateway, resp.StatusCode)
	require.NotContains(t, b.cookies, CookieName)
}

// Open redirect: the page to return to is one of the console's, whatever a browser would make of what was asked for.
func TestReturnPath(t *testing.T) {
	t.Parallel()
	p := newIdentityProvider(t)
	l := p.login()
	for _, wanted := range []string{"/console/", "/console/agents", "/console/agents/?state=pending&x=%2F%2Fevil", "/console/a%20b#c", "/console/%C3%BC"} {
		require.Equal(t, wanted, l.returnTo(wanted))
	}
	for _, wanted := range []string{
		"", "/", "console/", "https://evil.example/console/", "//evil.example/console/", "/\\evil.example", "\\\\evil.example", "/console/\\evil", "/console/%5cevil", "/console/..//evil.example",
		"/console/../v1/session", "/console/%2e%2e/v1", "/console/./x", "/console//evil.example", "/console/%2f%2fevil.example", "/console", "/consoles/x", "/console/\t", "/console/\r\nSet-Cookie:x",
		"/console/%0d%0aSet-Cookie:x", "javascript:alert(1)", "data:text/html,x", " /console/", "/console/ü", "https:/console/", "https:///console/", "//console/", "/console/" + strings.Repeat("a", 2000),
		"/console/?token=x", "/console/?x=" + sign("rsa1", good()), "/console/#" + sign("rsa1", good()), "/console/%zz", "/console/@evil.example:80/..//x", "http:console/",
	} {
		require.Equal(t, "/console/", l.returnTo(wanted), "%q", wanted)
	}
	b := newBrowser(t, l)
	p.claims = map[string]any{"aud": []string{"console", testAudience}, "roles": "viewer"}
	resp := b.back(b.begin(p, "https://evil.example/").Get("state"))
	require.Equal(t, "/console/", resp.Header.Get("Location"))
}

func FuzzReturnPath(f *testing.F) {
	l := &Login{home: "/console/"}
	for _, seed := range []string{"/console/x?y#z", "//evil", "/console/../x", "/console/%2f/evil", "https://evil/", "/console/\\x"} {
		f.Add(seed)
	}
	base, err := url.Parse(host + "/console/auth/callback")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, wanted string) {
		got := l.returnTo(wanted)
		require.True(t, strings.HasPrefix(got, "/console/"), "%q", got)
		u, err := base.Parse(got)
		require.NoError(t, err)
		require.Equal(t, "changeover.example.com", u.Host)
		require.True(t, strings.HasPrefix(u.Path, "/console/"), "%q", got)
		require.NotContains(t, got, "\\")
	})
}

// Every tab that comes back after the weekend signs in by itself; a browser that begins many and ends none does not collect cookies
// until its requests are too long for the server.
func TestManyTabs(t *testing.T) {
	t.Parallel()
	p := newIdentityProvider(t)
	p.claims = map[string]any{"aud": []string{"console", testAudience}, "roles": "viewer"}
	b := newBrowser(t, p.login())
	type tab struct{ state, nonce, challenge string }
	var tabs []tab
	for range 3 {
		q := b.begin(p, "")
		tabs = append(tabs, tab{q.Get("state"), q.Get("nonce"), q.Get("code_challenge")})
	}
	for _, tab := range tabs {
		p.nonce, p.challenge = tab.nonce, tab.challenge
		require.Equal(t, http.StatusSeeOther, b.back(tab.state).StatusCode)
	}
	for range 5 * maxLogins {
		b.begin(p, "")
		require.LessOrEqual(t, len(b.cookies), maxLogins+1)
	}
}

// What is in the browser while its user is away is not readable there, and there is room for it.
func TestLoginCookieIsSealed(t *testing.T) {
	t.Parallel()
	p := newIdentityProvider(t)
	l := p.login()
	b := newBrowser(t, l)
	q := b.begin(p, "/console/"+strings.Repeat("a", 1000))
	for name, value := range b.cookies {
		plain, err := base64.RawURLEncoding.DecodeString(value)
		require.NoError(t, err)
		for _, hidden := range []string{q.Get("state"), q.Get("nonce"), "/console/"} {
			require.NotContains(t, string(plain), hidden)
			require.NotContains(t, name, hidden)
		}
		require.Less(t, len(name)+len(value), maxCookie)
	}
	require.Len(t, q.Get("state"), 26)
	require.NotEqual(t, q.Get("state"), q.Get("nonce"))
	again := b.begin(p, "")
	require.NotEqual(t, q.Get("state"), again.Get("state"))
	require.NotEqual(t, q.Get("nonce"), again.Get("nonce"))
	require.NotEqual(t, q.Get("code_challenge"), again.Get("code_challenge"))
}

// Another replica with the same secret ends a sign-in; without any secret only the same one can.
func TestLoginOnAnotherReplica(t *testing.T) {
	t.Parallel()
	p := newIdentityProvider(t)
	p.claims = map[string]any{"aud": []string{"console", testAudience}, "roles": "viewer"}
	b := newBrowser(t, p.login())
	q := b.begin(p, "")
	b.l = p.login()
	require.Equal(t, http.StatusSeeOther, b.back(q.Get("state")).StatusCode)

	public := func(o *LoginOptions) { o.ClientSecret = "" }
	b = newBrowser(t, p.login(public))
	q = b.begin(p, "")
	b.l = p.login(public)
	require.Equal(t, http.StatusBadRequest, b.back(q.Get("state")).StatusCode)
}

func TestLogout(t *testing.T) {
	t.Parallel()
	p := newIdentityProvider(t)
	b := newBrowser(t, p.login())
	b.cookies[CookieName] = sign("rsa1", good())
	// Logout by a foreign page is a nuisance, and refused.
	require.Equal(t, http.StatusForbidden, b.do("POST", "/console/auth/logout", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").StatusCode)
	require.Equal(t, http.StatusForbidden, b.do("POST", "/console/auth/logout").StatusCode)
	require.Equal(t, http.StatusMethodNotAllowed, b.do("GET", "/console/auth/logout", "Sec-Fetch-Site", "same-origin").StatusCode)
	require.Contains(t, b.cookies, CookieName)
	resp := b.do("POST", "/console/auth/logout", "Sec-Fetch-Site", "same-origin", "Origin", host)
	require.Equal(t, http.StatusSeeOther, resp.StatusCode)
	require.Equal(t, "/console/", resp.Header.Get("Location"))
	require.NotContains(t, b.cookies, CookieName)

	p.document = `,"end_session_endpoint":"` + testIssuer + `/logout?x=1"`
	b = newBrowser(t, p.login())
	b.cookies[CookieName] = sign("rsa1", good())
	resp = b.do("POST", "/console/auth/logout", "Sec-Fetch-Site", "same-origin", "Origin", host)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	page := text(t, resp)
	require.Contains(t, page, `<meta http-equiv="refresh" content="0; url=`+testIssuer+`/logout?client_id=console&amp;post_logout_redirect_uri=`+url.QueryEscape(console)+`&amp;x=1">`)
	require.False(t, hasJWT(page), "no token in a URL, as a hint neither")
	require.NotContains(t, b.cookies, CookieName)
}

func TestLoginPaths(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newIdentityProvider(t).login())
	for path, status := range map[string]int{"/console/auth/": 404, "/console/auth/x": 404, "/console/auth/login/": 404, "/login": 404, "/console/auth/callback/": 404, "/console/auth/logout": 405} {
		require.Equal(t, status, b.do("GET", path).StatusCode, path)
	}
	require.Equal(t, http.StatusMethodNotAllowed, b.do("POST", "/console/auth/login").StatusCode)
}

// What is wrong at the start is said.
func TestLoginStartErrors(t *testing.T) {
	t.Parallel()
	p := newIdentityProvider(t)
	v := p.verifier(t)
	for name, c := range map[string]struct {
		change func(*LoginOptions)
		says   string
	}{
		"a redirect URL without a host": {func(o *LoginOptions) { o.RedirectURL = "/console/auth/callback" }, "is not one such as https://"},
		"a redirect URL at the top":     {func(o *LoginOptions) { o.RedirectURL = host + "/callback" }, "is not one such as https://"},
		"a redirect URL with a query":   {func(o *LoginOptions) { o.RedirectURL += "?x" }, "is not one such as https://"},
		"no client":                     {func(o *LoginOptions) { o.ClientID = "" }, "client id"},
		"a home that is not a folder":   {func(o *LoginOptions) { o.Home = "/console" }, "console's path"},
		"an issuer that is none":        {func(o *LoginOptions) { o.Issuer = "https://intranet.example.com" }, "https://intranet.example.com/.well-known/openid-configuration"},
		"an issuer that signs nobody in": {func(o *LoginOptions) {
			o.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
				resp, err := p.RoundTrip(req)
				resp.Body = body(`{"issuer":"` + testIssuer + `","jwks_uri":"` + testIssuer + `/keys"}`)
				return resp, err
			})
		}, "no authorization_endpoint"},
	} {
		o := LoginOptions{Issuer: testIssuer, ClientID: "console", RedirectURL: console + "auth/callback", Home: "/console/", Verifier: v, Transport: p, Log: testLog}
		c.change(&o)
		_, err := NewLogin(t.Context(), o)
		require.ErrorContains(t, err, c.says, name)
	}
}
