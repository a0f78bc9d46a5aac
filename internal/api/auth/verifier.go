package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// leeway for clocks that go before ours, in nbf and iat. exp has none.
	leeway = time.Minute
	// maxToken is the longest token that is looked at, in bytes. Entra ID's with two hundred groups are under 10,000.
	maxToken = 16 << 10
	// discoveryTimeout bounds the first contact with the issuer.
	discoveryTimeout = 10 * time.Second
)

// VerifierOptions say which tokens are good. Issuer is required unless JWKSURL or JWKSFile is set; Audience, AgentClaim,
// RolesClaim and Log always.
type VerifierOptions struct {
	// Issuer is what iss has to be, and where the keys are found by OpenID Connect discovery unless JWKSURL or JWKSFile is set.
	// Empty: any iss is good, since the keys alone say whose tokens these are.
	Issuer string
	// JWKSURL or JWKSFile (not both) is where the keys are.
	JWKSURL, JWKSFile string
	// Audience has to be in aud.
	Audience string
	// AgentClaim holds an Amazon Connect user id or an agent's ARN, RolesClaim the roles; see [claims] for nested ones.
	AgentClaim, RolesClaim string
	// InstanceIDs are the Amazon Connect instances whose agents an ARN may name; empty: any.
	InstanceIDs []string
	// Transport reaches the issuer; nil: http.DefaultTransport, with the proxy and the certificates of the environment.
	Transport http.RoundTripper
	Log       *slog.Logger
}

// Verifier tells good tokens from all others. Run keeps its keys fresh.
type Verifier struct {
	tokens   expected
	mapping  mapping
	keys     *keyring
	cache    *cache
	noted    sync.Map // of notes that are in the log already
	refusals refusals
	log      *slog.Logger
}

// NewVerifier reads the keys. Its errors are for whoever configures the service: they name what was asked and what to do.
func NewVerifier(ctx context.Context, o VerifierOptions) (*Verifier, error) {
	if o.JWKSURL != "" && o.JWKSFile != "" {
		return nil, errors.New("auth.jwksUrl and auth.jwksFile are both set; keep the one that holds the issuer's keys")
	}
	if o.Issuer == "" && o.JWKSURL == "" && o.JWKSFile == "" {
		return nil, errors.New("auth.mode jwt needs auth.issuer, auth.jwksUrl or auth.jwksFile")
	}
	if o.Audience == "" || o.AgentClaim == "" || o.RolesClaim == "" {
		return nil, errors.New("auth.audience, auth.agentClaim and auth.rolesClaim must not be empty")
	}
	v := &Verifier{
		cache: newCache(cacheSize), log: o.Log,
		mapping: mapping{agent: o.AgentClaim, roles: o.RolesClaim, instances: slices.Clone(o.InstanceIDs)},
	}
	var err error
	switch client := newClient(o.Transport); {
	case o.JWKSFile != "":
		v.keys, err = newKeyring(ctx, o.JWKSFile, fromFile(o.JWKSFile), filePeriod, fileGap, o.Log)
		if err != nil {
			return nil, fmt.Errorf("%w: auth.jwksFile has to be a file with the issuer's JSON Web Key Set that the service may read", err)
		}
	case o.JWKSURL != "":
		v.keys, err = newKeyring(ctx, o.JWKSURL, fromURL(client, o.JWKSURL), urlPeriod, urlGap, o.Log)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, unreachable("auth.jwksUrl"))
		}
	default:
		var document discovery
		if _, document, err = discover(ctx, client, o.Issuer); err != nil {
			return nil, err
		}
		v.keys, err = newKeyring(ctx, document.JWKSURI, fromURL(client, document.JWKSURI), urlPeriod, urlGap, o.Log)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, unreachable("auth.issuer"))
		}
	}
	v.tokens = expect(o.Issuer, o.Audience, v.keys)
	if o.Issuer == "" {
		o.Log.WarnContext(ctx, "auth.issuer is empty, tokens of any issuer with these keys are good; set it where the keys are shared with others", "source", v.keys.where)
	}
	if plain, _ := url.Parse(v.keys.where); plain != nil && plain.Scheme == "http" && !loopback(plain.Hostname()) {
		o.Log.WarnContext(ctx, "signing keys come over plain http, whoever is on the way can replace them and be anybody; use https", "source", v.keys.where)
	}
	return v, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// unreachable says what to do about an issuer that does not answer.
func unreachable(setting string) string {
	return "check " + setting + ", that this machine reaches it (DNS, firewall, HTTPS_PROXY), and that it trusts the certificate (SSL_CERT_FILE); " +
		"without a way there, put the issuer's keys into a file and set auth.jwksFile"
}

// discovery is what is used of an issuer's document (OpenID Connect Discovery 1.0 §3).
type discovery struct {
	JWKSURI            string   `json:"jwks_uri"`
	EndSessionEndpoint string   `json:"end_session_endpoint"`
	TokenAuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	ResponsesNameIss   bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207
}

// discover reads the document of an issuer. Keys and codes that an https issuer is asked for never go over plain http.
func discover(ctx context.Context, client *http.Client, issuer string) (*oidc.Provider, discovery, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, client), discoveryTimeout)
	defer cancel()
	var d discovery
	document := strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
	provider, err := oidc.NewProvider(ctx, issuer)
	var mismatch *oidc.IssuerMismatchError
	switch {
	case errors.As(err, &mismatch):
		return nil, d, fmt.Errorf("%s names the issuer %q: auth.issuer is %q and has to be exactly that, a slash at the end included", document, mismatch.Discovered, issuer)
	case err != nil:
		return nil, d, fmt.Errorf("read %s: %s: %s", document, brief(err), unreachable("auth.issuer"))
	}
	if err := provider.Claims(&d); err != nil {
		return nil, d, fmt.Errorf("read %s: %w", document, err)
	}
	endpoint := provider.Endpoint()
	for name, address := range map[string]string{"jwks_uri": d.JWKSURI, "authorization_endpoint": endpoint.AuthURL, "token_endpoint": endpoint.TokenURL, "end_session_endpoint": d.EndSessionEndpoint} {
		u, err := url.Parse(address)
		if address == "" && name != "jwks_uri" {
			continue
		}
		if err != nil || u.Host == "" || (u.Scheme != "https" && (u.Scheme != "http" || strings.HasPrefix(issuer, "https:"))) {
			return nil, d, fmt.Errorf("%s: %s is not an https URL", document, name)
		}
	}
	return provider, d, nil
}

// brief is the text of an error that may hold a whole page of HTML.
func brief(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}

// expected is what a token has to be to be good for something.
type expected struct {
	issuer   string // empty: any
	audience string
	verifier *oidc.IDTokenVerifier
}

func expect(issuer, audience string, keys *keyring) expected {
	config := &oidc.Config{ClientID: audience, SkipIssuerCheck: issuer == ""}
	for _, a := range algorithms {
		config.SupportedSigningAlgs = append(config.SupportedSigningAlgs, string(a))
	}
	return expected{issuer: issuer, audience: audience, verifier: oidc.NewVerifier(issuer, keys, config)}
}

// Run keeps the keys fresh until ctx ends. While it does not run, keys are those of the start, and tokens with other ones get
// ErrUnavailable.
func (v *Verifier) Run(ctx context.Context) error {
	v.keys.run(ctx)
	return nil
}

// Verify returns who a token is about, without saying how it came (Identity.Via). Errors are ErrUnauthenticated, or
// ErrUnavailable while the token's key is unknown and the issuer cannot be asked; neither repeats any of the token.
//
// A good token without a role is no error: its bearer is known, and may do nothing.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	id, err := v.remembered(ctx, token)
	if errors.Is(err, ErrUnauthenticated) {
		v.refusals.count(ctx, v.log, err.Error(), time.Now())
	}
	return id, err
}

func (v *Verifier) remembered(ctx context.Context, token string) (Identity, error) {
	if len(token) > maxToken {
		return Identity{}, errTooLong
	}
	hash := tokenHash(sha256.Sum256([]byte(token)))
	if id, ok := v.cache.get(hash, time.Now(), v.keys.current.Load()); ok {
		return id, nil
	}
	if err := compact(token); err != nil {
		return Identity{}, err
	}
	good, err := v.tokens.verify(ctx, token)
	if err != nil {
		return Identity{}, err
	}
	id := v.mapping.identity(good.claims, v.note)
	if len(id.Roles) == 0 {
		v.note(v.mapping.roles, "it names no role, and "+v.mapping.agent+" no agent")
	}
	id.Expires = good.expires
	v.cache.put(hash, remembered{identity: id, signedBy: good.key.print})
	return id, nil
}

// refusals tell in the log why tokens are refused, once a minute for each reason: often enough for who connects an identity
// provider, and no more under a flood of bad tokens.
type refusals struct {
	mu      sync.Mutex
	reasons map[string]*refusal // a reason is one of a few constants
}

type refusal struct {
	said  time.Time
	count int // since then
}

func (f *refusals) count(ctx context.Context, log *slog.Logger, reason string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.reasons[reason]
	if r == nil {
		r = &refusal{}
		if f.reasons == nil {
			f.reasons = make(map[string]*refusal)
		}
		f.reasons[reason] = r
	}
	r.count++
	if now.Sub(r.said) >= time.Minute {
		log.InfoContext(ctx, "tokens refused", "reason", reason, "count", r.count)
		r.said, r.count = now, 0
	}
}

// note logs once what is wrong with the claims of good tokens: nobody with such a token gets what they expect.
func (v *Verifier) note(claim, why string) {
	if _, noted := v.noted.LoadOrStore(claim+" "+why, true); !noted {
		v.log.Warn("claim of a good token is not used", "claim", claim, "reason", why)
	}
}

// verified is a token that is what was expected.
type verified struct {
	*oidc.IDToken
	claims  claims
	expires time.Time
	key     *key
}

// verify checks everything of a token but its size and shape.
func (e expected) verify(ctx context.Context, token string) (*verified, error) {
	a := &attempt{worth: func(payload []byte) bool {
		c, err := decodeObject(payload)
		return err == nil && e.reason(c, time.Now()) == ""
	}}
	idToken, err := e.verifier.Verify(context.WithValue(ctx, attemptKey{}, a), token)
	if a.err != nil {
		return nil, a.err
	}
	if a.key == nil {
		return nil, refuse("the token is not a signed JWT of an allowed algorithm")
	}
	c, strictErr := decodeObject(a.payload)
	if strictErr != nil {
		return nil, refuse("the token's claims: " + strictErr.Error())
	}
	if why := e.reason(c, time.Now()); why != "" {
		return nil, refuse(why)
	}
	if err != nil {
		return nil, refuse("the token's claims are not those of OpenID Connect")
	}
	expires, _ := claims(c).time("exp")
	return &verified{IDToken: idToken, claims: c, expires: expires, key: a.key}, nil
}

// reason says what is wrong with claims, as go-oidc does without repeating them, and with the times that it lets pass; empty:
// nothing.
func (e expected) reason(c claims, now time.Time) string {
	if iss, _ := c["iss"].(string); e.issuer != "" && iss != e.issuer {
		return "the token is of another issuer"
	}
	one, _ := c["aud"].(string)
	several, _ := c["aud"].([]any)
	if one != e.audience && !slices.Contains(several, any(e.audience)) {
		return "the token is for another audience"
	}
	exp, ok := c.time("exp")
	switch {
	case !ok || exp.IsZero():
		return "the token does not say when it expires"
	case !now.Before(exp):
		return "the token has expired"
	}
	for _, name := range []string{"nbf", "iat"} {
		switch t, ok := c.time(name); {
		case !ok:
			return "the token's " + name + " is not a time"
		case t.After(now.Add(leeway)):
			return "the token's " + name + " is in the future"
		}
	}
	if c.text("sub") == "" {
		return "the token has no subject"
	}
	return ""
}

var errTooLong = refuse("the token is too long")

// compact refuses everything that is not shaped like a JWT before anything is spent on it: JSON serialisations, encrypted
// tokens, white space, endless ones.
func compact(token string) error {
	if len(token) > maxToken {
		return errTooLong
	}
	dots := 0
	for i := range len(token) {
		switch c := token[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		case c == '.' && i > 0 && token[i-1] != '.':
			dots++
		default:
			return refuse("the token is not a JWT")
		}
	}
	if dots != 2 || strings.HasSuffix(token, ".") {
		return refuse("the token is not a JWT")
	}
	return nil
}
