package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const (
	// loginTime is how long a person may take at the identity provider.
	loginTime = 10 * time.Minute
	// maxLogins is how many sign-ins one browser may have begun: one for each tab that comes back after a night.
	maxLogins       = 8
	loginCookie     = CookieName + "-login-"
	exchangeTimeout = 10 * time.Second
)

// LoginOptions say how people sign in with a browser. All are required but ClientSecret, Scopes, StateSecret and Transport.
type LoginOptions struct {
	// Issuer is asked for its endpoints; the same as the Verifier's.
	Issuer string
	// ClientID is how the identity provider knows this service; ClientSecret is empty for a public client. PKCE is used with both.
	ClientID, ClientSecret string
	// RedirectURL is the address of the callback as people's browsers see it and as the identity provider has it registered,
	// such as https://changeover.example.com/console/auth/callback. Its folder is where a Login answers.
	RedirectURL string
	// Scopes are asked for beside openid; nil: profile and email.
	Scopes []string
	// Home is the path of the console, /console/: people are sent there, to a page below it, and nowhere else.
	Home string
	// StateSecret encrypts what a browser keeps while its user is at the identity provider. All replicas need the same one; empty:
	// derived from ClientSecret, and without that random, so that a sign-in has to end at the replica where it began.
	StateSecret string
	Verifier    *Verifier
	Origins     *Origins
	Cookies     Cookies
	Transport   http.RoundTripper // nil: http.DefaultTransport
	Log         *slog.Logger
}

// Login signs people in with their browser: OpenID Connect's authorization code flow with PKCE, this service being the client,
// so that no token is in the hands of a script. Below the folder of RedirectURL it answers:
//
//	GET  login?return=/console/…   to the identity provider
//	GET  callback                  back from it: sets the session cookie
//	POST logout                    drops the session cookie, and signs out at the identity provider if it can
//
// Everything that it has to remember between login and callback is encrypted in a cookie of the browser: state, nonce, PKCE
// verifier and the page to return to. Any replica with the same secret takes the callback.
type Login struct {
	folder     string // with a slash at the end
	home       string
	client     *http.Client
	config     oauth2.Config
	idTokens   expected // for the client
	endSession *url.URL // nil: the provider has none
	iss        bool     // the provider says in its answers who it is
	homeURL    string
	sealer     cipher.AEAD
	verifier   *Verifier
	origins    *Origins
	cookies    Cookies
	log        *slog.Logger
}

// NewLogin asks the issuer for its endpoints. Its errors are for whoever configures the service.
func NewLogin(ctx context.Context, o LoginOptions) (*Login, error) {
	redirect, err := url.Parse(o.RedirectURL)
	if err != nil || redirect.Host == "" || redirect.RawQuery != "" || redirect.Fragment != "" || path.Clean(redirect.Path) != redirect.Path || path.Dir(redirect.Path) == "/" {
		return nil, fmt.Errorf("the redirect URL %q is not one such as https://changeover.example.com%sauth/callback", o.RedirectURL, o.Home)
	}
	if o.ClientID == "" || !strings.HasPrefix(o.Home, "/") || !strings.HasSuffix(o.Home, "/") {
		return nil, errors.New("a sign-in needs the client id and the console's path")
	}
	client := newClient(o.Transport)
	provider, document, err := discover(ctx, client, o.Issuer)
	if err != nil {
		return nil, err
	}
	if o.Scopes == nil {
		o.Scopes = []string{oidc.ScopeProfile, oidc.ScopeEmail}
	}
	l := &Login{
		folder: path.Dir(redirect.Path) + "/", home: o.Home, client: client,
		homeURL:  redirect.Scheme + "://" + redirect.Host + o.Home,
		idTokens: expect(o.Issuer, o.ClientID, o.Verifier.keys), iss: document.ResponsesNameIss, verifier: o.Verifier, origins: o.Origins, cookies: o.Cookies, log: o.Log,
		config: oauth2.Config{
			ClientID: o.ClientID, ClientSecret: o.ClientSecret, RedirectURL: o.RedirectURL, Endpoint: provider.Endpoint(),
			Scopes: append([]string{oidc.ScopeOpenID}, o.Scopes...),
		},
	}
	if document.EndSessionEndpoint != "" {
		if l.endSession, err = url.Parse(document.EndSessionEndpoint); err != nil {
			return nil, fmt.Errorf("the end_session_endpoint of %s: %w", o.Issuer, err)
		}
	}
	if l.config.Endpoint.AuthURL == "" || l.config.Endpoint.TokenURL == "" {
		return nil, fmt.Errorf("the issuer %s has no authorization_endpoint or no token_endpoint: people cannot sign in with it", o.Issuer)
	}
	l.config.Endpoint.AuthStyle = oauth2.AuthStyleInHeader // what a provider that names no method takes (RFC 8414 §2)
	if o.ClientSecret == "" || (len(document.TokenAuthMethods) > 0 && !slices.Contains(document.TokenAuthMethods, "client_secret_basic")) {
		l.config.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	secret := o.StateSecret
	if secret == "" {
		secret = o.ClientSecret
	}
	if secret == "" {
		secret = rand.Text()
		o.Log.WarnContext(ctx, "no secret to share between replicas, a sign-in has to end at the replica where it began")
	}
	if l.sealer, err = newSealer(secret); err != nil {
		return nil, err
	}
	return l, nil
}

// newSealer makes AES-256-GCM with random nonces from a secret that may serve other purposes too.
func newSealer(secret string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "changeover: state of a sign-in, 1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Folder is the path below which a Login answers, with a slash at the end.
func (l *Login) Folder() string { return l.folder }

// ServeHTTP implements http.Handler.
func (l *Login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer") // the callback's address holds the code
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")

	handlers := map[string]struct {
		method string
		handle http.HandlerFunc
	}{
		"login":                         {http.MethodGet, l.login},
		path.Base(l.config.RedirectURL): {http.MethodGet, l.callback},
		"logout":                        {http.MethodPost, l.logout},
	}
	name, below := strings.CutPrefix(r.URL.Path, l.folder)
	handler, ok := handlers[name]
	switch {
	case !below || !ok:
		l.page(w, http.StatusNotFound, "There is nothing here.")
	case r.Method != handler.method:
		h.Set("Allow", handler.method)
		l.page(w, http.StatusMethodNotAllowed, "This address takes "+handler.method+".")
	default:
		handler.handle(w, r)
	}
}

// signIn is what a browser keeps, encrypted, while its user is at the identity provider.
type signIn struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"` // PKCE
	Return   string    `json:"return"`
	Expires  time.Time `json:"expires"`
}

func (l *Login) login(w http.ResponseWriter, r *http.Request) {
	var begun []*http.Cookie
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, loginCookie) {
			begun = append(begun, c)
		}
	}
	if len(begun) >= maxLogins { // never so many that the header becomes too long for a server
		for _, c := range begun {
			http.SetCookie(w, l.forget(c.Name))
		}
	}
	s := signIn{
		State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(),
		Return: l.returnTo(r.URL.Query().Get("return")), Expires: time.Now().Add(loginTime),
	}
	http.SetCookie(w, l.keep(s))
	http.Redirect(w, r, l.config.AuthCodeURL(s.State, oidc.Nonce(s.Nonce), oauth2.S256ChallengeOption(s.Verifier)), http.StatusSeeOther)
}

// keep seals a sign-in into its cookie. The cookie has to come along when the identity provider sends the browser back, which
// is a navigation from another site: SameSite=Lax.
func (l *Login) keep(s signIn) *http.Cookie {
	name := loginCookieName(s.State)
	plain, _ := json.Marshal(s) // strings and a time
	sealed := l.sealer.Seal(nil, nil, plain, []byte(name))
	return &http.Cookie{
		Name: name, Value: base64.RawURLEncoding.EncodeToString(sealed), Path: "/", MaxAge: int(loginTime / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// loginCookieName gives each sign-in a cookie of its own, so that tabs do not end each other's.
func loginCookieName(state string) string {
	sum := sha256.Sum256([]byte(state))
	return loginCookie + base64.RawURLEncoding.EncodeToString(sum[:9])
}

func (l *Login) forget(name string) *http.Cookie {
	return &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// kept opens the sign-in that a callback with this state ends.
func (l *Login) kept(r *http.Request, state string) (signIn, bool) {
	name := loginCookieName(state)
	cookies := r.CookiesNamed(name)
	if len(cookies) != 1 {
		return signIn{}, false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cookies[0].Value)
	if err != nil {
		return signIn{}, false
	}
	plain, err := l.sealer.Open(nil, nil, sealed, []byte(name))
	if err != nil {
		return signIn{}, false
	}
	var s signIn
	if json.Unmarshal(plain, &s) != nil || subtle.ConstantTimeCompare([]byte(s.State), []byte(state)) != 1 || !time.Now().Before(s.Expires) {
		return signIn{}, false
	}
	return s, true
}

func (l *Login) callback(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	s, ok := l.kept(r, query.Get("state"))
	if !ok {
		// Too late, the back button, another replica's secret, or somebody else's callback: a forged one ends here.
		l.refuse(w, r, http.StatusBadRequest, "This sign-in has ended or was begun elsewhere.", "state_unknown", nil)
		return
	}
	http.SetCookie(w, l.forget(loginCookieName(s.State))) // once
	if iss := query.Get("iss"); iss != l.idTokens.issuer && (l.iss || iss != "") {
		// RFC 9207: another provider answers in the name of ours.
		l.refuse(w, r, http.StatusBadRequest, "This sign-in was answered by another identity provider.", "issuer_mixed_up", nil)
		return
	}
	if code := query.Get("error"); code != "" {
		l.refuse(w, r, http.StatusForbidden, "The identity provider did not sign you in.", "provider_refused", errors.New(errorCode(code)))
		return
	}
	cookie, failed := l.exchange(r.Context(), query.Get("code"), s)
	if failed != nil {
		l.refuse(w, r, failed.status, failed.text, failed.reason, failed.err)
		return
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, r, s.Return, http.StatusSeeOther)
}

// failure of a sign-in: what its user sees, and what the log says.
type failure struct {
	status       int
	text, reason string
	err          error // holds nothing that the identity provider sent but an error code
}

// exchange gets the tokens for a code and makes a session of them.
func (l *Login) exchange(ctx context.Context, code string, s signIn) (*http.Cookie, *failure) {
	if code == "" {
		return nil, &failure{http.StatusBadRequest, "The identity provider sent no code.", "no_code", nil}
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, l.client), exchangeTimeout)
	defer cancel()
	tokens, err := l.config.Exchange(ctx, code, oauth2.VerifierOption(s.Verifier))
	if err != nil {
		return nil, &failure{http.StatusBadGateway, "The identity provider did not accept this sign-in.", "code_not_exchanged", exchangeError(err)}
	}
	raw, _ := tokens.Extra("id_token").(string)
	person, err := l.idToken(ctx, raw, tokens.AccessToken, s.Nonce)
	if err != nil {
		return nil, &failure{http.StatusBadGateway, "The identity provider's answer does not prove who you are.", "id_token_refused", err}
	}
	return l.session(ctx, person, tokens.AccessToken, raw)
}

// idToken verifies the ID token (OpenID Connect Core 1.0 §3.1.3.7) and returns its subject.
func (l *Login) idToken(ctx context.Context, raw, accessToken, nonce string) (string, error) {
	if err := compact(raw); err != nil {
		return "", err
	}
	good, err := l.idTokens.verify(ctx, raw)
	if err != nil {
		return "", err
	}
	if subtle.ConstantTimeCompare([]byte(good.Nonce), []byte(nonce)) != 1 {
		return "", refuse("the ID token is of another sign-in")
	}
	if azp, there := good.claims["azp"]; there && azp != l.config.ClientID {
		return "", refuse("the ID token was made for another client")
	}
	if good.AccessTokenHash != "" && good.VerifyAccessToken(accessToken) != nil {
		return "", refuse("the access token is not the one that the ID token speaks of")
	}
	return good.Subject, nil
}

// session makes the cookie of the first token that is good for auth.audience and says what its bearer may do: the access token,
// where it is a JWT for this service, else the ID token, where the client id is the audience.
func (l *Login) session(ctx context.Context, person string, tokens ...string) (*http.Cookie, *failure) {
	failed := &failure{http.StatusBadGateway, "The identity provider's tokens are not for this service.", "no_token_for_audience",
		fmt.Errorf("neither the access token nor the ID token is good for auth.audience %q: let the identity provider issue access tokens for it, or use it as client id", l.verifier.tokens.audience)}
	for _, token := range tokens {
		id, err := l.verifier.Verify(ctx, token)
		if errors.Is(err, ErrUnavailable) {
			return nil, &failure{http.StatusServiceUnavailable, "The identity provider does not answer at the moment.", "keys_unavailable", err}
		}
		if err != nil || id.Subject != person {
			continue
		}
		if len(id.Roles) == 0 {
			failed = &failure{http.StatusForbidden, "You are signed in, but your account has no role in Changeover. Ask whoever looks after its access.", "no_role",
				fmt.Errorf("the claim %q of the tokens names none", l.verifier.mapping.roles)}
			continue
		}
		cookie, err := l.cookies.Session(token, id.Expires)
		if err != nil {
			failed = &failure{http.StatusBadGateway, "Your account's token is too long for a browser's cookie. Ask whoever looks after its access.", "token_too_long", err}
			continue
		}
		return cookie, nil
	}
	return nil, failed
}

func (l *Login) logout(w http.ResponseWriter, r *http.Request) {
	if err := l.origins.Check(r); err != nil {
		l.refuse(w, r, http.StatusForbidden, "This page may not sign you out.", "foreign_origin", err)
		return
	}
	http.SetCookie(w, l.cookies.Clear())
	if l.endSession == nil {
		http.Redirect(w, r, l.home, http.StatusSeeOther)
		return
	}
	// OpenID Connect RP-Initiated Logout 1.0. Without id_token_hint, which would be a token in a URL; for that some providers ask
	// their user to confirm. Not a redirect: the console's form-action would have to allow the provider's address.
	u := *l.endSession
	q := u.Query()
	q.Set("client_id", l.config.ClientID)
	q.Set("post_logout_redirect_uri", l.homeURL)
	u.RawQuery = q.Encode()
	l.page(w, http.StatusOK, "You are signed out here.", `<meta http-equiv="refresh" content="0; url=`+html.EscapeString(u.String())+`">`)
}

// returnTo returns where a browser may be sent after its sign-in: the path, query and fragment of a page of the console. Anything
// else, and above all what a browser might take for another host, becomes the console's first page.
func (l *Login) returnTo(wanted string) string {
	if len(wanted) > 1024 || !strings.HasPrefix(wanted, l.home) || strings.ContainsFunc(wanted, func(r rune) bool { return r <= ' ' || r == '\\' || r >= 0x7f }) {
		return l.home
	}
	u, err := url.Parse(wanted)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return l.home
	}
	clean := path.Clean(u.Path)
	if strings.HasSuffix(u.Path, "/") && clean != "/" {
		clean += "/"
	}
	if clean != u.Path || strings.ContainsAny(u.Path, "\\\r\n") || !strings.HasPrefix(u.Path, l.home) {
		return l.home
	}
	if _, err := cleanURL(u); err != nil || hasJWT(u.Fragment) {
		return l.home
	}
	return u.String()
}

// errorCode returns the error code of RFC 6749 §4.1.2.1 or §5.2 if it has the shape of one.
func errorCode(code string) string {
	if len(code) > 64 || strings.ContainsFunc(code, func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' }) {
		return "an error code that is none"
	}
	return code
}

// exchangeError is what may be said of a failed exchange: oauth2's own errors hold the whole answer.
func exchangeError(err error) error {
	var answer *oauth2.RetrieveError
	var network *url.Error
	switch {
	case errors.As(err, &answer) && answer.ErrorCode != "":
		return fmt.Errorf("the token endpoint answers %s: %s", answer.Response.Status, errorCode(answer.ErrorCode))
	case errors.As(err, &answer):
		return fmt.Errorf("the token endpoint answers %s", answer.Response.Status)
	case errors.As(err, &network):
		return network
	}
	return errors.New("the token endpoint's answer is not one of RFC 6749")
}

// refuse ends a sign-in. It is the user's business and the operator's: both get a reason.
func (l *Login) refuse(w http.ResponseWriter, r *http.Request, status int, text, reason string, err error) {
	level := slog.LevelInfo // anybody can call with nonsense
	if status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("reason", reason), slog.Int("status", status)}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	l.log.LogAttrs(r.Context(), level, "sign-in failed", attrs...)
	l.page(w, status, text)
}

// page answers with constant text and nothing of the request.
func (l *Login) page(w http.ResponseWriter, status int, text string, head ...string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Changeover</title>%s\n<p>%s</p>\n<p><a href=\"%slogin\">Sign in again</a></p>\n</html>\n", strings.Join(head, ""), text, l.folder)
}
