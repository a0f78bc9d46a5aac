package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

const (
	testIssuer   = "https://idp.example.com/realms/agents"
	testAudience = "changeover"
	jane         = "87654321-1111-2222-3333-444455556666"
	instance     = "12345678-1234-1234-1234-123456789012"
	janeARN      = "arn:aws:connect:us-east-1:111122223333:instance/" + instance + "/agent/" + jane
)

// testKeys are made once: RSA keys take long.
var testKeys = sync.OnceValue(func() map[string]crypto.Signer {
	rsa1, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	rsa2, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	must(err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	return map[string]crypto.Signer{"rsa1": rsa1, "rsa2": rsa2, "p256": p256, "p384": p384, "p521": p521, "ed": ed}
})

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// issuer is an identity provider without a network: an http.RoundTripper with a discovery document and a key set. It may be
// changed while it is used.
type issuer struct {
	mu       sync.Mutex
	keys     map[string]crypto.Signer // by kid
	fetches  int                      // of the key set
	requests []string                 // every URL
	err      error                    // of every request, if set
	body     string                   // of the key set, if set
	hold     chan struct{}            // answers wait until it is closed, if set
	document string                   // more of the discovery document
	token    func(*http.Request) (status int, body string)
}

func newIssuer(keys ...string) *issuer {
	i := &issuer{}
	i.rotate(keys...)
	return i
}

// rotate publishes these of testKeys and no others; their names are their kids.
func (i *issuer) rotate(keys ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = make(map[string]crypto.Signer)
	for _, k := range keys {
		i.keys[k] = testKeys()[k]
	}
}

func (i *issuer) set(change func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change(i)
}

func (i *issuer) fetched() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func (i *issuer) jwks() string {
	var set jose.JSONWebKeySet
	for kid, k := range i.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.Public(), KeyID: kid, Use: "sig"})
	}
	data, err := json.Marshal(set)
	must(err)
	return string(data)
}

// RoundTrip implements http.RoundTripper.
func (i *issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.requests = append(i.requests, req.URL.String())
	if strings.HasSuffix(req.URL.Path, "/keys") {
		i.fetches++
	}
	if hold := i.hold; hold != nil {
		i.mu.Unlock()
		select {
		case <-hold:
		case <-req.Context().Done():
		}
		i.mu.Lock()
		if err := req.Context().Err(); err != nil {
			return nil, err
		}
	}
	if i.err != nil {
		return nil, i.err
	}
	status, body := http.StatusOK, ""
	switch {
	case req.URL.String() == testIssuer+"/keys" && i.body != "":
		body = i.body
	case req.URL.String() == testIssuer+"/keys":
		body = i.jwks()
	case req.URL.String() == testIssuer+"/.well-known/openid-configuration":
		body = `{"issuer":"` + testIssuer + `","jwks_uri":"` + testIssuer + `/keys","authorization_endpoint":"` + testIssuer + `/auth","token_endpoint":"` +
			testIssuer + `/token","id_token_signing_alg_values_supported":["HS256","none","RS256"]` + i.document + `}`
	case req.URL.String() == testIssuer+"/token" && i.token != nil:
		status, body = i.token(req)
	default:
		status = http.StatusNotFound
	}
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: req,
	}, nil
}

var errNoRoute = errors.New("dial tcp 192.0.2.1:443: connect: no route to host")

// verifier makes a Verifier of the issuer's tokens.
func (i *issuer) verifier(t testing.TB, change ...func(*VerifierOptions)) *Verifier {
	t.Helper()
	o := VerifierOptions{
		Issuer: testIssuer, Audience: testAudience, AgentClaim: "connect_user_id", RolesClaim: "roles", InstanceIDs: []string{instance}, Transport: i, Log: testLog,
	}
	for _, c := range change {
		c(&o)
	}
	v, err := NewVerifier(t.Context(), o)
	require.NoError(t, err)
	return v
}

// good are the claims of a token that passes; with changes some of them. A nil value takes a claim away.
func good(changes ...map[string]any) map[string]any {
	now := time.Now()
	c := map[string]any{
		"iss": testIssuer, "sub": "00u1", "aud": testAudience, "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nbf": now.Unix(),
		"connect_user_id": jane, "roles": []string{"viewer"},
	}
	for _, change := range changes {
		maps.Copy(c, change)
	}
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// sign makes a token with one of testKeys; its name is the kid.
func sign(kid string, claims map[string]any) string {
	algorithm := map[string]jose.SignatureAlgorithm{"rsa1": jose.RS256, "rsa2": jose.RS256, "p256": jose.ES256, "p384": jose.ES384, "p521": jose.ES512, "ed": jose.EdDSA}[kid]
	return signWith(testKeys()[kid], algorithm, map[string]any{"kid": kid, "typ": "JWT"}, claims)
}

// signWith makes a token with any key, algorithm and header.
func signWith(k any, algorithm jose.SignatureAlgorithm, header map[string]any, claims map[string]any) string {
	payload, err := json.Marshal(claims)
	must(err)
	return signRaw(k, algorithm, header, payload)
}

func signRaw(k any, algorithm jose.SignatureAlgorithm, header map[string]any, payload []byte) string {
	options := &jose.SignerOptions{}
	for name, value := range header {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: k}, options)
	must(err)
	jws, err := signer.Sign(payload)
	must(err)
	token, err := jws.CompactSerialize()
	must(err)
	return secret(token)
}

// assemble makes a token of parts that no library would make one of.
func assemble(header, payload string, signature []byte) string {
	b64 := base64.RawURLEncoding.EncodeToString
	return b64([]byte(header)) + "." + b64([]byte(payload)) + "." + b64(signature)
}

// refused requires that the token is refused as such, for this reason, and without a word of it.
func refused(t testing.TB, v *Verifier, token string, why ...string) {
	t.Helper()
	id, err := v.Verify(t.Context(), token)
	require.ErrorIs(t, err, ErrUnauthenticated)
	require.Equal(t, Identity{}, id)
	silent(t, err, token)
	for _, w := range why {
		require.ErrorContains(t, err, w)
	}
}

// silent requires that an error says nothing of a token.
func silent(t testing.TB, err error, token string) {
	t.Helper()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 8 {
			require.NotContains(t, err.Error(), part)
		}
		if plain, e := base64.RawURLEncoding.DecodeString(part); e == nil && len(plain) > 8 {
			require.NotContains(t, err.Error(), string(plain))
		}
	}
}

// kidOf returns the name of the key that signed a token.
func kidOf(t testing.TB, token string) string {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token, algorithms)
	require.NoError(t, err)
	return jws.Signatures[0].Header.KeyID
}
