package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Tickets redeems the tickets of streams.
type Tickets interface {
	// Redeem uses up the ticket with this hash and returns who it was made for, with Subject, Name, AgentID and Expires: when the
	// token ends that it was bought with. ErrUnauthenticated: it is unknown, used or older than 30 seconds. ErrUnavailable: that
	// cannot be told now.
	Redeem(ctx context.Context, hash TicketHash) (Identity, error)
}

// TicketHash is all that is stored of a ticket: who reads the table cannot use what is in it.
type TicketHash [sha256.Size]byte

// NewTicket makes a ticket of 256 random bits.
func NewTicket() (ticket string, hash TicketHash) {
	var random [32]byte
	rand.Read(random[:])
	ticket = base64.RawURLEncoding.EncodeToString(random[:])
	return ticket, TicketHash(sha256.Sum256([]byte(ticket)))
}

// ticketShape is what NewTicket makes; nothing else is looked up.
var ticketShape = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// Tokens is auth.mode jwt: callers prove who they are by a JWT in the header, the cookie that holds one, or a ticket that was
// bought with one.
type Tokens struct {
	verifier *Verifier
	tickets  Tickets
	origins  *Origins
	cookies  Cookies
}

// NewTokens makes an Authenticator. Without tickets (nil) none is accepted.
func NewTokens(v *Verifier, tickets Tickets, origins *Origins, cookies Cookies) *Tokens {
	return &Tokens{verifier: v, tickets: tickets, origins: origins, cookies: cookies}
}

// Authenticate implements [Authenticator].
//
// A header decides alone: who sends one means it, and what a browser adds by itself must not take its place. A cookie that
// does not hold any more gives way to a ticket, because a page can neither see nor leave out the cookie.
func (t *Tokens) Authenticate(r *http.Request) (Identity, error) {
	query, err := cleanURL(r.URL)
	if err != nil {
		return Identity{}, err
	}
	if len(r.Header.Values("Authorization")) > 0 {
		return t.byHeader(r)
	}
	cookies := r.CookiesNamed(CookieName)
	if len(cookies) > 1 {
		return Identity{}, refuse("there is more than one session cookie")
	}
	refused := refuse("there is no token")
	if len(cookies) == 1 {
		if err := t.origins.Check(r); err != nil {
			return Identity{}, err
		}
		id, err := t.verifier.Verify(r.Context(), cookies[0].Value)
		if err == nil {
			id.Via = ByCookie
			return id, nil
		}
		refused = err
	}
	if tickets, ok := query["ticket"]; ok {
		return t.byTicket(r, tickets)
	}
	return Identity{}, refused
}

func (t *Tokens) byHeader(r *http.Request) (Identity, error) {
	token, err := bearer(r)
	if err != nil {
		return Identity{}, err
	}
	id, err := t.verifier.Verify(r.Context(), token)
	if err != nil {
		return Identity{}, err
	}
	id.Via = ByHeader
	return id, nil
}

// bearer returns the token of the Authorization header (RFC 6750 §2.1).
func bearer(r *http.Request) (string, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return "", refuse("there is not exactly one Authorization header")
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", refuse("the Authorization header is not of the scheme Bearer")
	}
	return token, nil
}

// byTicket redeems a ticket. It opens a stream of one agent and nothing else: what is read there is the agent's own, whatever
// roles the one had who bought it.
func (t *Tokens) byTicket(r *http.Request, tickets []string) (Identity, error) {
	switch {
	case t.tickets == nil, r.Method != http.MethodGet, !strings.HasSuffix(r.URL.Path, "/events"):
		return Identity{}, refuse("a ticket opens streams only")
	case len(tickets) != 1, !ticketShape.MatchString(tickets[0]):
		return Identity{}, refuse("the ticket is none of this service")
	}
	id, err := t.tickets.Redeem(r.Context(), TicketHash(sha256.Sum256([]byte(tickets[0]))))
	if err != nil {
		return Identity{}, fmt.Errorf("redeem a ticket: %w", err)
	}
	if id.AgentID == "" || !time.Now().Before(id.Expires) {
		return Identity{}, refuse("the token that the ticket was bought with has expired")
	}
	return Identity{Subject: id.Subject, Name: id.Name, AgentID: id.AgentID, Roles: []Role{Agent}, Expires: id.Expires, Via: ByTicket}, nil
}

// NewSession is POST /v1/session: it returns the cookie that stands for the request's Bearer token. A cookie cannot be
// exchanged for another one. Errors are those of Authenticate, and ErrTokenTooLong.
func (t *Tokens) NewSession(r *http.Request) (*http.Cookie, error) {
	if _, err := cleanURL(r.URL); err != nil {
		return nil, err
	}
	token, err := bearer(r)
	if err != nil {
		return nil, err
	}
	id, err := t.verifier.Verify(r.Context(), token)
	if err != nil {
		return nil, err
	}
	return t.cookies.Session(token, id.Expires)
}

// EndSession is DELETE /v1/session: it returns the cookie that makes the browser forget its session.
func (t *Tokens) EndSession() *http.Cookie { return t.cookies.Clear() }

// tokenParameters are the names under which tokens are put into URLs, in lower case: RFC 6750 §2.3 and habits.
var tokenParameters = map[string]bool{
	"access_token": true, "id_token": true, "refresh_token": true, "token": true, "jwt": true, "bearer": true,
	"authorization": true,
}

// jwtShape finds a JWT in a text: the first part is JSON that begins with {".
var jwtShape = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{2,}\.`)

// cleanURL returns the query of a URL without tokens, and ErrTokenInURL for one with a token, also with one that is not good:
// its sender will put good ones there too.
func cleanURL(u *url.URL) (url.Values, error) {
	if hasJWT(u.Path) || hasJWT(u.RawQuery) {
		return nil, ErrTokenInURL
	}
	if u.RawQuery == "" {
		return nil, nil
	}
	query, _ := url.ParseQuery(u.RawQuery) // what is not well formed is refused by who reads it
	for name, values := range query {
		if tokenParameters[strings.ToLower(name)] {
			return nil, ErrTokenInURL
		}
		for _, v := range values {
			if hasJWT(v) || hasJWT(name) {
				return nil, ErrTokenInURL
			}
		}
	}
	return query, nil
}

func hasJWT(s string) bool { return strings.Contains(s, "eyJ") && jwtShape.MatchString(s) }
