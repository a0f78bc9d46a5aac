package auth

import (
	"errors"
	"net/http"
	"time"
)

// CookieName is the session cookie's. The prefix makes browsers refuse it unless it is Secure, of this host alone and for all
// of its paths, so that no other host of the domain can plant one (RFC 6265bis §4.1.3.2).
const CookieName = "__Host-changeover"

// maxCookie is the longest name and value that browsers keep (RFC 6265bis §5.6); a longer cookie is dropped in silence.
const maxCookie = 4096

// ErrTokenTooLong is the error of a good token that no cookie can hold.
var ErrTokenTooLong = errors.New("the token is too long for a cookie: have the identity provider leave out of it what the service does not need, above all groups; about 4,000 characters fit")

// Cookies makes the session cookie.
//
// It holds the caller's token, as it is. So every replica, and a second stack that trusts the same issuer, accepts a session,
// with the database away as well; there is no secret to share between them, whose loss would let its finder be anybody; and a
// session is checked like every token, each time: it ends when the token does, or when the issuer withdraws the key. The token
// is out of the reach of scripts (HttpOnly), and is never sent without TLS (Secure) or to another host. What it costs: a token
// has to fit into 4096 bytes, and signing out at the service does not end the token itself.
type Cookies struct {
	// SameSite says with which requests of other sites' pages browsers send the cookie. Strict, unless desktops are pages of
	// another site than the service: those need None, and then each site that embeds one has a session of its own (Partitioned).
	SameSite http.SameSite
}

// Session returns the cookie of a verified token that expires then.
func (c Cookies) Session(token string, expires time.Time) (*http.Cookie, error) {
	if len(CookieName)+len(token) > maxCookie {
		return nil, ErrTokenTooLong
	}
	cookie := c.cookie(CookieName, token)
	cookie.Expires = expires
	cookie.MaxAge = max(1, int(time.Until(expires)/time.Second))
	return cookie, nil
}

// Clear returns the cookie that ends a session in the browser.
func (c Cookies) Clear() *http.Cookie {
	cookie := c.cookie(CookieName, "")
	cookie.MaxAge = -1
	return cookie
}

func (c Cookies) cookie(name, value string) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true,
		SameSite: c.SameSite, Partitioned: c.SameSite == http.SameSiteNoneMode,
	}
}
