package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	host    = "https://changeover.example.com"
	desktop = "https://desktop.example.com"
)

// ticketBox is what the store does with tickets.
type ticketBox struct {
	tickets map[TicketHash]Identity
	err     error
	asked   int
}

func (b *ticketBox) Redeem(_ context.Context, hash TicketHash) (Identity, error) {
	b.asked++
	if b.err != nil {
		return Identity{}, b.err
	}
	id, ok := b.tickets[hash]
	if !ok {
		return Identity{}, ErrUnauthenticated
	}
	delete(b.tickets, hash)
	return id, nil
}

func (b *ticketBox) sell(id Identity) string {
	ticket, hash := NewTicket()
	b.tickets[hash] = id
	return secret(ticket)
}

func newTokens(t *testing.T, v *Verifier) (*Tokens, *ticketBox) {
	t.Helper()
	box := &ticketBox{tickets: make(map[TicketHash]Identity)}
	origins, err := NewOrigins([]string{desktop})
	require.NoError(t, err)
	return NewTokens(v, box, origins, Cookies{SameSite: http.SameSiteStrictMode}), box
}

// request makes a request of the service; headers come in pairs.
func request(method, path string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, host+path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func TestSources(t *testing.T) {
	t.Parallel()
	tokens, box := newTokens(t, newIssuer("rsa1").verifier(t))
	viewer, agent := sign("rsa1", good(map[string]any{"sub": "viewer", "connect_user_id": nil})), sign("rsa1", good(map[string]any{"sub": "agent", "roles": nil}))
	stale := sign("rsa1", good(map[string]any{"exp": time.Now().Add(-time.Second).Unix()}))
	stream := "/v1/agents/" + jane + "/events"
	ticket := func() string {
		return "?ticket=" + box.sell(Identity{Subject: "buyer", Name: "Olga", AgentID: jane, Roles: []Role{Admin}, AnyAgent: true, Expires: time.Now().Add(time.Minute)})
	}
	for name, c := range map[string]struct {
		r    *http.Request
		want string // the subject; empty: refused
		via  Proof
	}{
		"header":                               {request("GET", "/v1/agents", "Authorization", "Bearer "+viewer), "viewer", ByHeader},
		"header, another case":                 {request("GET", "/v1/agents", "Authorization", "bearer "+viewer), "viewer", ByHeader},
		"cookie":                               {request("GET", "/v1/agents", "Cookie", CookieName+"="+agent), "agent", ByCookie},
		"ticket":                               {request("GET", stream+ticket()), "buyer", ByTicket},
		"header before cookie":                 {request("GET", stream, "Authorization", "Bearer "+viewer, "Cookie", CookieName+"="+agent), "viewer", ByHeader},
		"cookie before ticket":                 {request("GET", stream+ticket(), "Cookie", CookieName+"="+agent), "agent", ByCookie},
		"a stale cookie gives way to a ticket": {request("GET", stream+ticket(), "Cookie", CookieName+"="+stale), "buyer", ByTicket},
		"a stale header gives way to nothing":  {request("GET", stream+ticket(), "Authorization", "Bearer "+stale, "Cookie", CookieName+"="+agent), "", ""},
		"nothing":                              {request("GET", stream), "", ""},
		"two headers":                          {request("GET", stream, "Authorization", "Bearer "+viewer, "Authorization", "Bearer "+viewer), "", ""},
		"another scheme":                       {request("GET", stream, "Authorization", "Basic dXNlcjpwYXNz", "Cookie", CookieName+"="+agent), "", ""},
		"no scheme":                            {request("GET", stream, "Authorization", viewer), "", ""},
		"a header with nothing":                {request("GET", stream, "Authorization", "", "Cookie", CookieName+"="+agent), "", ""},
		"two spaces":                           {request("GET", stream, "Authorization", "Bearer  "+viewer), "", ""},
		"two tokens":                           {request("GET", stream, "Authorization", "Bearer "+viewer+", Bearer "+viewer), "", ""},
		"two cookies":                          {request("GET", stream, "Cookie", CookieName+"="+agent+"; "+CookieName+"="+viewer), "", ""},
		"another cookie":                       {request("GET", stream, "Cookie", "changeover="+agent+"; Host-changeover="+agent+"; __host-changeover="+agent), "", ""},
		"a ticket and a half":                  {request("GET", stream+ticket()+"&ticket=x"), "", ""},
		"a ticket for a mutation":              {request("POST", "/v1/agents/"+jane+"/reports"+ticket()), "", ""},
		"a ticket for a mutation, same path":   {request("POST", stream+ticket()), "", ""},
		"a ticket for something else to read":  {request("GET", "/v1/agents/"+jane+"/contacts"+ticket()), "", ""},
		"an unknown ticket":                    {request("GET", stream+"?ticket="+strings.Repeat("A", 43)), "", ""},
	} {
		id, err := tokens.Authenticate(c.r)
		if c.want == "" {
			require.ErrorIs(t, err, ErrUnauthenticated, name)
			require.Equal(t, Identity{}, id, name)
			silent(t, err, viewer)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, c.want, id.Subject, name)
		require.Equal(t, c.via, id.Via, name)
		require.False(t, id.Expires.IsZero(), name)
		if c.via == ByTicket { // whatever its buyer may do, it opens one stream
			require.Equal(t, []Role{Agent}, id.Roles)
			require.True(t, id.Is(jane))
			require.False(t, id.AnyAgent)
		}
	}
}

// Replay of a ticket: from a proxy's log, a second later, or at the same time.
func TestTicketTwice(t *testing.T) {
	t.Parallel()
	tokens, box := newTokens(t, newIssuer("rsa1").verifier(t))
	ticket := box.sell(Identity{Subject: "agent", AgentID: jane, Expires: time.Now().Add(time.Minute)})
	path := "/v1/agents/" + jane + "/events?ticket=" + ticket
	_, err := tokens.Authenticate(request("GET", path))
	require.NoError(t, err)
	_, err = tokens.Authenticate(request("GET", path))
	require.ErrorIs(t, err, ErrUnauthenticated)
	require.NotContains(t, err.Error(), ticket)
}

// A stream that outlives its token by being opened with a ticket: the ticket ends with the token that it was bought with.
func TestTicketOfAnExpiredToken(t *testing.T) {
	t.Parallel()
	tokens, box := newTokens(t, newIssuer("rsa1").verifier(t))
	for _, id := range []Identity{{Subject: "agent", AgentID: jane, Expires: time.Now().Add(-time.Second)}, {Subject: "agent", AgentID: jane}, {Subject: "agent", Expires: time.Now().Add(time.Minute)}} {
		_, err := tokens.Authenticate(request("GET", "/v1/agents/"+jane+"/events?ticket="+box.sell(id)))
		require.ErrorIs(t, err, ErrUnauthenticated)
	}
}

// Guessing, and work for the database without a chance: only what has the shape of a ticket is looked up.
func TestTicketShapes(t *testing.T) {
	t.Parallel()
	tokens, box := newTokens(t, newIssuer("rsa1").verifier(t))
	for _, ticket := range []string{"", "x", strings.Repeat("A", 42), strings.Repeat("A", 44), strings.Repeat("A", 42) + "%00", strings.Repeat("A", 42) + "'", strings.Repeat("A", 1<<16)} {
		_, err := tokens.Authenticate(request("GET", "/v1/agents/"+jane+"/events?ticket="+ticket))
		require.ErrorIs(t, err, ErrUnauthenticated)
	}
	require.Zero(t, box.asked)

	seen := map[string]bool{}
	for range 1000 {
		ticket, hash := NewTicket()
		require.Regexp(t, ticketShape, ticket)
		require.Equal(t, TicketHash(sha256.Sum256([]byte(ticket))), hash)
		require.False(t, seen[ticket])
		seen[ticket] = true
	}
}

// The database is away: a ticket is not refused for good.
func TestTicketsUnavailable(t *testing.T) {
	t.Parallel()
	tokens, box := newTokens(t, newIssuer("rsa1").verifier(t))
	box.err = fmt.Errorf("%w: no connection", ErrUnavailable)
	_, err := tokens.Authenticate(request("GET", "/v1/agents/"+jane+"/events?ticket="+strings.Repeat("A", 43)))
	require.ErrorIs(t, err, ErrUnavailable)
	require.NotErrorIs(t, err, ErrUnauthenticated)

	none := NewTokens(tokens.verifier, nil, tokens.origins, tokens.cookies)
	_, err = none.Authenticate(request("GET", "/v1/agents/"+jane+"/events?ticket="+strings.Repeat("A", 43)))
	require.ErrorIs(t, err, ErrUnauthenticated)
}

// A token in the URL, where every proxy and browser history keeps it: refused in every parameter, also beside a good header, and
// as a ticket or a part of the path.
func TestTokenInURL(t *testing.T) {
	t.Parallel()
	tokens, _ := newTokens(t, newIssuer("rsa1").verifier(t))
	token := sign("rsa1", good())
	expired := sign("rsa1", good(map[string]any{"exp": 1}))
	for _, path := range []string{
		"/v1/events?access_token=" + token, "/v1/events?token=" + token, "/v1/events?ticket=" + token, "/v1/events?id_token=x", "/v1/events?Access_Token=x", "/v1/events?jwt=",
		"/v1/events?after=" + token, "/v1/events?after=" + expired, "/v1/events?x=1&y=Bearer%20" + token, "/v1/events?" + token, "/v1/events?" + token + "=1",
		"/v1/agents/" + token + "/events", "/v1/events?after=" + strings.ReplaceAll(token, ".", "%2E"), "/v1/events?after=" + strings.ReplaceAll(token, "e", "%65"),
		"/v1/events?%zz=" + token, "/v1/events?x;y=" + token, "/v1/events?ticket=" + token[:strings.LastIndexByte(token, '.')+1],
	} {
		for _, r := range []*http.Request{request("GET", path), request("GET", path, "Authorization", "Bearer "+token), request("GET", path, "Cookie", CookieName+"="+token)} {
			_, err := tokens.Authenticate(r)
			require.ErrorIs(t, err, ErrTokenInURL)
			silent(t, err, token)
			_, err = tokens.NewSession(r)
			require.ErrorIs(t, err, ErrTokenInURL)
		}
	}
	// Cursors begin like a JWT when they are JSON in base64, and are none.
	for _, path := range []string{"/v1/agents?cursor=eyJhZnRlciI6IjEyMyJ9", "/v1/events?after=0198f6c0-1790000000000-42", "/v1/agents?username=eyJ.x", "/v1/agents?tokens=1"} {
		_, err := tokens.Authenticate(request("GET", path, "Authorization", "Bearer "+token))
		require.NoError(t, err, path)
	}
}

// Cross-site request forgery: a mutation by cookie that a page of a foreign origin makes, or one whose origin nobody vouches for.
func TestForeignOrigin(t *testing.T) {
	t.Parallel()
	tokens, _ := newTokens(t, newIssuer("rsa1").verifier(t))
	token := sign("rsa1", good())
	for name, c := range map[string]struct {
		method  string
		headers []string
		ok      bool
	}{
		"our own page":                          {"POST", []string{"Sec-Fetch-Site", "same-origin", "Origin", host}, true},
		"our own page, no Origin":               {"POST", []string{"Sec-Fetch-Site", "same-origin"}, true},
		"our own page with no-referrer":         {"POST", []string{"Sec-Fetch-Site", "same-origin", "Origin", "null"}, true},
		"our own page in an old browser":        {"POST", []string{"Origin", host}, true},
		"an allowed page":                       {"POST", []string{"Sec-Fetch-Site", "same-site", "Origin", desktop}, true},
		"an allowed page of another site":       {"POST", []string{"Sec-Fetch-Site", "cross-site", "Origin", desktop}, true},
		"an allowed page in an old browser":     {"POST", []string{"Origin", desktop}, true},
		"a foreign page":                        {"POST", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
		"a foreign page, DELETE":                {"DELETE", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
		"a foreign page, PUT":                   {"PUT", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
		"a foreign page in an old browser":      {"POST", []string{"Origin", "https://evil.example"}, false},
		"a page of the same site":               {"POST", []string{"Sec-Fetch-Site", "same-site", "Origin", "https://wiki.example.com"}, false},
		"a page that hides its origin":          {"POST", []string{"Sec-Fetch-Site", "cross-site"}, false},
		"a sandboxed frame":                     {"POST", []string{"Sec-Fetch-Site", "cross-site", "Origin", "null"}, false},
		"a sandboxed frame in an old browser":   {"POST", []string{"Origin", "null"}, false},
		"nobody":                                {"POST", nil, false},
		"an origin that ends like an allowed":   {"POST", []string{"Origin", "https://evil-desktop.example.com"}, false},
		"an origin that begins like an allowed": {"POST", []string{"Origin", desktop + ".evil.example"}, false},
		"an allowed host, another port":         {"POST", []string{"Origin", desktop + ":8443"}, false},
		"an allowed host, without TLS":          {"POST", []string{"Origin", "http://desktop.example.com"}, false},
		"two origins":                           {"POST", []string{"Origin", "https://evil.example", "Origin", host}, false},
		"two origins, ours first":               {"POST", []string{"Origin", host, "Origin", "https://evil.example"}, false},
		"two sites":                             {"POST", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Site", "same-origin"}, false},
		"two sites, ours first":                 {"POST", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site"}, false},
		"a referrer does not count":             {"POST", []string{"Referer", host + "/console/"}, false},

		"reading, our own page":   {"GET", []string{"Sec-Fetch-Site", "same-origin"}, true},
		"reading, a link":         {"GET", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, true},
		"reading, an allowed":     {"GET", []string{"Sec-Fetch-Site", "cross-site", "Origin", desktop}, true},
		"reading, a foreign page": {"GET", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, false},
	} {
		r := request(c.method, "/v1/failovers/f/force", append(c.headers, "Cookie", CookieName+"="+token)...)
		id, err := tokens.Authenticate(r)
		if c.ok {
			require.NoError(t, err, name)
			require.Equal(t, ByCookie, id.Via)
		} else {
			require.ErrorIs(t, err, ErrForeignOrigin, name)
			require.Equal(t, Identity{}, id)
		}
		// A header is not sent by a browser on its own: the origin is no matter then.
		r = request(c.method, "/v1/failovers/f/force", append(c.headers, "Authorization", "Bearer "+token)...)
		_, err = tokens.Authenticate(r)
		require.NoError(t, err, name)
	}
	_, err := NewOrigins([]string{"https://desktop.example.com/path"})
	require.Error(t, err)
	_, err = NewOrigins([]string{"*"})
	require.Error(t, err)
}

func TestSessionCookie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tokens, _ := newTokens(t, newIssuer("rsa1").verifier(t))
		token := sign("rsa1", good(map[string]any{"exp": time.Now().Add(90 * time.Second).Unix()}))
		c, err := tokens.NewSession(request("POST", "/v1/session", "Authorization", "Bearer "+token))
		require.NoError(t, err)
		require.NoError(t, c.Valid())
		require.Equal(t, CookieName+"="+token+"; Path=/; Expires="+time.Now().Add(90*time.Second).UTC().Format(http.TimeFormat)+"; Max-Age=90; HttpOnly; Secure; SameSite=Strict", c.String())

		id, err := tokens.Authenticate(request("GET", "/v1/agents", "Cookie", c.Name+"="+c.Value))
		require.NoError(t, err)
		require.Equal(t, 90*time.Second, time.Until(id.Expires))
		require.Equal(t, ByCookie, id.Via)
		time.Sleep(90 * time.Second)
		_, err = tokens.Authenticate(request("GET", "/v1/agents", "Cookie", c.Name+"="+c.Value))
		require.ErrorIs(t, err, ErrUnauthenticated, "a session lives as long as its token")

		end := tokens.EndSession()
		require.Equal(t, CookieName+"=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict", end.String())
		require.Contains(t, Cookies{SameSite: http.SameSiteNoneMode}.Clear().String(), "SameSite=None; Partitioned")
	})
}

// Session fixation and riding: a session is made of a Bearer token alone, never of another session, a ticket or a bad token.
func TestNewSessionTakesATokenOnly(t *testing.T) {
	t.Parallel()
	tokens, box := newTokens(t, newIssuer("rsa1").verifier(t))
	token := sign("rsa1", good())
	ticket := box.sell(Identity{Subject: "agent", AgentID: jane, Expires: time.Now().Add(time.Minute)})
	for name, r := range map[string]*http.Request{
		"a cookie":    request("POST", "/v1/session", "Cookie", CookieName+"="+token, "Sec-Fetch-Site", "same-origin"),
		"a ticket":    request("POST", "/v1/session?ticket="+ticket),
		"a bad token": request("POST", "/v1/session", "Authorization", "Bearer "+token+"x"),
		"nothing":     request("POST", "/v1/session"),
	} {
		c, err := tokens.NewSession(r)
		require.ErrorIs(t, err, ErrUnauthenticated, name)
		require.Nil(t, c)
	}
}

// Browsers drop a cookie of more than 4096 bytes in silence; its owner is told instead.
func TestSessionOfALongToken(t *testing.T) {
	t.Parallel()
	tokens, _ := newTokens(t, newIssuer("rsa1").verifier(t))
	token := sign("rsa1", good(map[string]any{"groups": strings.Repeat("g", 4000)}))
	c, err := tokens.NewSession(request("POST", "/v1/session", "Authorization", "Bearer "+token))
	require.ErrorIs(t, err, ErrTokenTooLong)
	require.Nil(t, c)
	silent(t, err, token)
}

func TestNone(t *testing.T) {
	t.Parallel()
	id, err := None{}.Authenticate(httptest.NewRequest("GET", "http://127.0.0.1:8080/", nil))
	require.NoError(t, err)
	require.True(t, id.Has(Admin) && id.Is(jane))
	require.False(t, Identity{AgentID: jane}.Is(jane), "an id without the role")
}
