package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"changeover/internal/logtest"
)

func TestGoodTokens(t *testing.T) {
	t.Parallel()
	i := newIssuer("rsa1", "p256", "p384", "p521", "ed")
	v := i.verifier(t)
	for kid, more := range map[string][]jose.SignatureAlgorithm{
		"rsa1": {jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}, "p256": {jose.ES256}, "p384": {jose.ES384}, "p521": {jose.ES512}, "ed": {jose.EdDSA},
	} {
		for _, algorithm := range more {
			token := signWith(testKeys()[kid], algorithm, map[string]any{"kid": kid}, good())
			for _, times := range []string{"first", "remembered"} {
				id, err := v.Verify(t.Context(), token)
				require.NoError(t, err, "%s %s", algorithm, times)
				require.Equal(t, "00u1", id.Subject)
				require.Equal(t, jane, id.AgentID)
				require.Equal(t, []Role{Agent, Viewer}, id.Roles)
				require.WithinDuration(t, time.Now().Add(time.Hour), id.Expires, 2*time.Second)
				require.Empty(t, id.Via)
			}
		}
	}
	require.Equal(t, 1, i.fetched(), "the keys of the start are enough")
}

func TestGoodTokensOfManyShapes(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	for name, c := range map[string]map[string]any{
		"several audiences":      {"aud": []string{"account", testAudience}},
		"fractions of seconds":   {"exp": float64(time.Now().Add(time.Hour).UnixMilli()) / 1000, "iat": float64(time.Now().UnixMilli()) / 1000},
		"no nbf, no iat":         {"nbf": nil, "iat": nil},
		"a clock a little ahead": {"nbf": time.Now().Add(50 * time.Second).Unix(), "iat": time.Now().Add(50 * time.Second).Unix()},
	} {
		_, err := v.Verify(t.Context(), sign("rsa1", good(c)))
		require.NoError(t, err, name)
	}
	for _, typ := range []string{"JWT", "jwt", "at+jwt", "application/at+jwt", "id+jwt"} {
		_, err := v.Verify(t.Context(), signWith(testKeys()["rsa1"], jose.RS256, map[string]any{"kid": "rsa1", "typ": typ}, good()))
		require.NoError(t, err, typ)
	}
	_, err := v.Verify(t.Context(), signWith(testKeys()["rsa1"], jose.RS256, nil, good()))
	require.NoError(t, err, "no kid, and one key that fits")
}

// Replay after the end: an expired token, at the very second of exp too, and one that was good and is remembered.
func TestExpired(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newIssuer("rsa1").verifier(t)
		token := sign("rsa1", good(map[string]any{"exp": time.Now().Add(time.Minute).Unix()}))
		id, err := v.Verify(t.Context(), token)
		require.NoError(t, err)
		require.Equal(t, time.Minute, time.Until(id.Expires))
		time.Sleep(time.Minute - time.Second)
		_, err = v.Verify(t.Context(), token)
		require.NoError(t, err)
		time.Sleep(time.Second)
		refused(t, v, token, "has expired")
		refused(t, v, sign("rsa1", good(map[string]any{"exp": time.Now().Unix()})), "has expired")
	})
}

// A token that never ends: exp missing, of a wrong type, or so large that arithmetic with it overflows.
func TestExpiryTricks(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	for _, exp := range []any{nil, "2099-01-01T00:00:00Z", "4102444800", json.Number("1e300"), json.Number("9223372036854775807"), json.Number("253402300800"), json.Number("1e15"), json.Number("-1"), json.Number("1e999"), true, []int64{4102444800}, map[string]any{}} {
		refused(t, v, sign("rsa1", good(map[string]any{"exp": exp})))
	}
}

// A token from the future: not valid yet, or made by somebody whose clock would let it live longer than the issuer meant.
func TestNotYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newIssuer("rsa1").verifier(t)
		for _, name := range []string{"nbf", "iat"} {
			token := sign("rsa1", good(map[string]any{name: time.Now().Add(leeway + time.Second).Unix()}))
			refused(t, v, token, name+" is in the future")
			time.Sleep(time.Second)
			_, err := v.Verify(t.Context(), token)
			require.NoError(t, err)
			for _, wrong := range []any{"soon", true, json.Number("-5")} {
				refused(t, v, sign("rsa1", good(map[string]any{name: wrong})))
			}
		}
	})
}

// A token for another service of the company, given to this one.
func TestWrongAudience(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	for _, aud := range []any{nil, "", "payroll", "Changeover", "changeover ", "changeover payroll", []string{"payroll"}, []string{}, []any{1}, map[string]any{"changeover": true}, []any{[]string{testAudience}}} {
		refused(t, v, sign("rsa1", good(map[string]any{"aud": aud})))
	}
}

// A token of another tenant of the same identity provider, whose keys are the same.
func TestWrongIssuer(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	for _, iss := range []any{nil, "", "https://idp.example.com/realms/guests", testIssuer + "/", strings.ToUpper(testIssuer), testIssuer + "\x00", []string{testIssuer}} {
		refused(t, v, sign("rsa1", good(map[string]any{"iss": iss})))
	}
}

// alg none: the token says itself that it needs no signature.
func TestAlgNone(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	payload, err := json.Marshal(good())
	require.NoError(t, err)
	for _, alg := range []string{"none", "None", "NONE", "nOnE", ""} {
		for _, signature := range [][]byte{nil, []byte("x"), []byte("a signature that nobody looks at")} {
			refused(t, v, assemble(`{"alg":"`+alg+`","kid":"rsa1"}`, string(payload), signature))
		}
	}
	refused(t, v, assemble(`{"kid":"rsa1"}`, string(payload), []byte("x")))
	stripped := sign("rsa1", good())
	refused(t, v, stripped[:strings.LastIndexByte(stripped, '.')+1])
	refused(t, v, stripped[:strings.LastIndexByte(stripped, '.')])
}

// Algorithm confusion: an HMAC whose secret is the issuer's public key, which everybody has, in each form that a careless library
// might use.
func TestHMACWithPublicKey(t *testing.T) {
	t.Parallel()
	i := newIssuer("rsa1", "p256", "ed")
	v := i.verifier(t)
	payload, err := json.Marshal(good())
	require.NoError(t, err)
	for kid := range i.keys {
		der, err := x509.MarshalPKIXPublicKey(testKeys()[kid].Public())
		require.NoError(t, err)
		jwk, err := json.Marshal(jose.JSONWebKey{Key: testKeys()[kid].Public(), KeyID: kid, Use: "sig"})
		require.NoError(t, err)
		for _, key := range [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), bytes.TrimSpace(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), jwk, []byte(i.jwks()), {}} {
			unsigned := assemble(`{"alg":"HS256","kid":"`+kid+`"}`, string(payload), nil)
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(strings.TrimSuffix(unsigned, ".")))
			refused(t, v, assemble(`{"alg":"HS256","kid":"`+kid+`"}`, string(payload), mac.Sum(nil)))
		}
	}
}

// Key confusion: a good key with an algorithm that is not its own, or the name of another key.
func TestKeyConfusion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1", "rsa2", "p256", "p384", "ed")
		v := i.verifier(t)
		ctx := running(t, v)
		for _, c := range []struct {
			kid, by   string
			algorithm jose.SignatureAlgorithm
		}{
			{"p256", "rsa1", jose.RS256}, {"rsa1", "p256", jose.ES256}, {"p384", "p256", jose.ES256}, {"p256", "p384", jose.ES384}, {"ed", "rsa1", jose.PS256},
			{"rsa1", "rsa2", jose.RS256}, {"rsa2", "ed", jose.EdDSA},
		} {
			token := signWith(testKeys()[c.by], c.algorithm, map[string]any{"kid": c.kid}, good())
			_, err := v.Verify(ctx, token)
			require.ErrorIs(t, err, ErrUnauthenticated, "%+v", c)
		}
		// A key that its owner keeps for one algorithm.
		pss := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: testKeys()["rsa1"].Public(), KeyID: "rsa1", Algorithm: "PS256"}}}
		body, err := json.Marshal(pss)
		require.NoError(t, err)
		i.set(func(i *issuer) { i.body = string(body) })
		v = i.verifier(t)
		ctx = running(t, v)
		_, err = v.Verify(ctx, sign("rsa1", good()))
		require.ErrorIs(t, err, ErrUnauthenticated)
		_, err = v.Verify(ctx, signWith(testKeys()["rsa1"], jose.PS256, map[string]any{"kid": "rsa1"}, good()))
		require.NoError(t, err)
	})
}

// Keys that the token brings itself (jwk, x5c) or says where to get (jku, x5u): neither used nor fetched. With the issuer's kid,
// with the attacker's, and without one.
func TestEmbeddedKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1")
		v := i.verifier(t)
		ctx := running(t, v)
		evil, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		jwk, err := json.Marshal(jose.JSONWebKey{Key: evil.Public(), KeyID: "evil", Use: "sig"})
		require.NoError(t, err)
		for _, kid := range []string{"rsa1", "evil", ""} {
			for _, header := range []map[string]any{
				{"jwk": json.RawMessage(jwk)}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/cert.pem"}, {"x5c": []string{"MIIB"}},
				{"jku": testIssuer + "/keys#@evil.example"}, {"jwk": json.RawMessage(jwk), "jku": "file:///etc/passwd"},
			} {
				if kid != "" {
					header["kid"] = kid
				}
				token := signWith(evil, jose.ES256, header, good())
				_, err := v.Verify(ctx, token)
				require.ErrorIs(t, err, ErrUnauthenticated)
				silent(t, err, token)
			}
		}
		for _, url := range i.requests {
			require.True(t, strings.HasPrefix(url, testIssuer), url)
		}
	})
}

// Path traversal, SQL and shell through kid: it is compared with the names of the keys, and nothing else is done with it.
func TestKidTricks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer("rsa1")
		v := i.verifier(t)
		ctx := running(t, v)
		for _, kid := range []string{
			"../../../../dev/null", "/etc/passwd", "rsa1/../rsa1", "rsa1\x00", "RSA1", " rsa1", "' OR 1=1 --", "rsa1' UNION SELECT 'key", "|cat /etc/shadow", "https://evil.example/",
			strings.Repeat("k", 8000), "__proto__",
		} {
			token := signWith(testKeys()["rsa1"], jose.RS256, map[string]any{"kid": kid}, good())
			_, err := v.Verify(ctx, token)
			require.ErrorIs(t, err, ErrUnauthenticated, kid)
			silent(t, err, token)
			require.NotContains(t, err.Error(), kid)
		}
	})
}

// Cost without an end: a token of megabytes, or of many dots, is refused before it is parsed.
func TestOversizeToken(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	token := sign("rsa1", good(map[string]any{"groups": strings.Repeat("x", maxToken)}))
	refused(t, v, token, "too long")
	refused(t, v, strings.Repeat("eyJ", 1<<20))
	refused(t, v, strings.Repeat(".", maxToken))
}

// Other things that begin like a token: JSON serialisations with several or unprotected signatures, encrypted tokens, white
// space and encodings that two readers could see differently.
func TestMalformedTokens(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	ok := sign("rsa1", good())
	parts := strings.Split(ok, ".")
	for name, token := range map[string]string{
		"nothing":                 "",
		"dots":                    "..",
		"one part":                parts[0],
		"four parts":              ok + "." + parts[2],
		"five parts, as if a JWE": ok + "." + parts[2] + "." + parts[2],
		"JSON serialisation":      `{"protected":"` + parts[0] + `","payload":"` + parts[1] + `","signature":"` + parts[2] + `"}`,
		"two signatures":          `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"},{"protected":"` + parts[0] + `","signature":"AAAA"}]}`,
		"a space before":          " " + ok,
		"a line break inside":     parts[0] + ".\n" + parts[1] + "." + parts[2],
		"padding":                 parts[0] + "." + parts[1] + "." + parts[2] + "==",
		"the other alphabet":      strings.ReplaceAll(strings.ReplaceAll(ok, "-", "+"), "_", "/") + "+",
		"another payload":         parts[0] + "." + strings.Split(sign("rsa1", good(map[string]any{"roles": "admin"})), ".")[1] + "." + parts[2],
		"a bit of the signature":  parts[0] + "." + parts[1] + "." + flip(parts[2]),
		"a header that is none":   "bm90IGpzb24." + parts[1] + "." + parts[2],
		"NUL":                     ok + "\x00",
		"two tokens":              ok + " " + ok,
	} {
		_, err := v.Verify(t.Context(), token)
		require.ErrorIs(t, err, ErrUnauthenticated, name)
		silent(t, err, token)
	}
}

func flip(s string) string {
	b := []byte(s)
	if b[10] == 'A' {
		b[10] = 'B'
	} else {
		b[10] = 'A'
	}
	return string(b)
}

// A payload that is signed and no object of claims.
func TestPayloadsThatAreNoClaims(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	for _, payload := range []string{"", "null", "[]", `"x"`, "{", `{"iss":"` + testIssuer + `"`, "\xff", strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)} {
		if len(payload) > maxToken/2 {
			payload = payload[:maxToken/2]
		}
		refused(t, v, signRaw(testKeys()["rsa1"], jose.RS256, map[string]any{"kid": "rsa1"}, []byte(payload)))
	}
}

// Parser differences: a claim twice, or in another case, so that the issuer's filter reads one value and the verifier the other.
func TestDuplicateClaims(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	payload, err := json.Marshal(good())
	require.NoError(t, err)
	head := strings.TrimSuffix(string(payload), "}")
	for name, more := range map[string]string{
		"aud twice":                   `,"aud":"changeover"}`,
		"roles twice":                 `,"roles":["admin"]}`,
		"the agent twice":             `,"connect_user_id":"someone-else"}`,
		"twice, escaped":              `,"connect\u005fuser_id":"someone-else"}`,
		"exp in capitals":             `,"EXP":4102444800}`,
		"Iss":                         `,"Iss":"https://evil.example"}`,
		"a letter that folds to an s": `,"iſs":"https://evil.example"}`,
		"twice, deep inside":          `,"realm_access":{"roles":["viewer"],"roles":["admin"]}}`,
		"two objects":                 `}{"roles":["admin"]}`,
		"rubbish after the end":       `} x`,
	} {
		_, err := v.Verify(t.Context(), signRaw(testKeys()["rsa1"], jose.RS256, map[string]any{"kid": "rsa1"}, []byte(head+more)))
		require.ErrorIs(t, err, ErrUnauthenticated, name)
	}
	for _, header := range []string{`{"alg":"none","alg":"RS256","kid":"rsa1"}`, `{"alg":"RS256","kid":"rsa1","kid":"rsa2"}`, `{"alg":"RS256","ALG":"none"}`} {
		refused(t, v, assemble(header, string(payload), []byte("x")))
		signed := assemble(header, string(payload), nil)
		sum := sha256.Sum256([]byte(strings.TrimSuffix(signed, ".")))
		signature, err := testKeys()["rsa1"].Sign(rand.Reader, sum[:], crypto.SHA256)
		require.NoError(t, err)
		if strings.Contains(header, "ALG") {
			continue // a header with a name that is not known is no harm
		}
		refused(t, v, assemble(header, string(payload), signature))
	}
}

// Tokens that the issuer signed for something else: signing out, events, proofs of possession, refreshing. And headers that change
// what the signature covers.
func TestOtherTypes(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	for _, typ := range []any{"logout+jwt", "secevent+jwt", "dpop+jwt", "application/logout+jwt", "Refresh", "JWE", "", 1} {
		refused(t, v, signWith(testKeys()["rsa1"], jose.RS256, map[string]any{"kid": "rsa1", "typ": typ}, good()))
	}
	for _, header := range []map[string]any{{"crit": []string{"exp"}}, {"b64": true}, {"crit": []string{"b64"}, "b64": true}, {"crit": []string{}}} {
		header["kid"] = "rsa1"
		refused(t, v, signWith(testKeys()["rsa1"], jose.RS256, header, good()))
	}
}

// Log injection and nameless callers through sub.
func TestSubjects(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	for _, sub := range []any{nil, "", "a\nlevel=ERROR", "a\x00", "\x1b[2J", 42, []string{"a"}, strings.Repeat("a", 256), "a\u2028b", "\u202eadmin"} {
		refused(t, v, sign("rsa1", good(map[string]any{"sub": sub})))
	}
	id, err := v.Verify(t.Context(), sign("rsa1", good(map[string]any{"sub": "CgVqYW5lEgVzdGFmZg", "preferred_username": "jane\r\n", "email": "jane@example.com"})))
	require.NoError(t, err)
	require.Equal(t, "CgVqYW5lEgVzdGFmZg", id.Subject)
	require.Equal(t, "jane@example.com", id.Name, "a name that cannot be shown is none")
}

// A key of the issuer that is too weak to believe, a secret, or one for encryption, must not verify anything.
func TestKeySets(t *testing.T) {
	t.Parallel()
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	set := func(keys ...jose.JSONWebKey) string {
		data, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
		require.NoError(t, err)
		return string(data)
	}
	public := jose.JSONWebKey{Key: testKeys()["rsa1"].Public(), KeyID: "rsa1"}
	for name, c := range map[string]struct{ data, err string }{
		"weak":                           {set(jose.JSONWebKey{Key: weak.Public(), KeyID: "a"}), "none of the 1 keys of the set can verify"},
		"for encryption":                 {set(jose.JSONWebKey{Key: testKeys()["rsa1"].Public(), KeyID: "a", Use: "enc"}), "none of the 1 keys"},
		"of an algorithm for encryption": {set(jose.JSONWebKey{Key: testKeys()["rsa1"].Public(), KeyID: "a", Algorithm: "RSA-OAEP"}), "none of the 1 keys"},
		"a private key":                  {set(public, jose.JSONWebKey{Key: testKeys()["rsa1"], KeyID: "a"}), "key 2 of the set is private"},
		"a shared secret":                {set(public, jose.JSONWebKey{Key: []byte("a shared secret of 32 characters"), KeyID: "a"}), "key 2 of the set is a shared secret"},
		"empty":                          {set(), "none of the 0 keys"},
		"not JSON":                       {"<html>", "not a JSON Web Key Set"},
		"a list":                         {"[]", "not a JSON Web Key Set"},
		"too many":                       {`{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`, "more than 100"},
		"one unknown":                    {`{"keys":[{"kty":"OKP","crv":"X448","x":"AA"}]}`, "none of the 1 keys"},
	} {
		_, err := parseKeys([]byte(c.data))
		require.ErrorContains(t, err, c.err, name)
		require.NotContains(t, err.Error(), "shared secret of")
	}
	keys, err := parseKeys([]byte(`{"keys":[{"kty":"OKP","crv":"Ed448","x":"AA"},{"kty":"later"},` + strings.TrimPrefix(set(public), `{"keys":[`)))
	require.NoError(t, err)
	require.Len(t, keys.all, 1)
	require.Equal(t, 2, keys.ignored)

	five := make([]jose.JSONWebKey, maxUnnamed+1)
	for i := range five {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		five[i] = jose.JSONWebKey{Key: k.Public(), KeyID: fmt.Sprint(i)}
	}
	keys, err = parseKeys([]byte(set(five...)))
	require.NoError(t, err)
	require.Empty(t, keys.find("", "ES256"), "too many to try them all")
	require.Len(t, keys.find("3", "ES256"), 1)
}

// Log flooding by bad tokens: the log has each reason once a minute, with a count.
func TestRefusalsAreLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log logtest.Buffer
		v := newIssuer("rsa1").verifier(t, func(o *VerifierOptions) { o.Log = logtest.New(&log) })
		expired := sign("rsa1", good(map[string]any{"exp": time.Now().Unix()}))
		for range 90 {
			for range 10 {
				refused(t, v, expired)
			}
			refused(t, v, "x")
			time.Sleep(time.Second)
		}
		require.Equal(t, 2, strings.Count(log.String(), `reason="unauthenticated: the token has expired"`))
		require.Contains(t, log.String(), `the token has expired" count=1`+"\n")
		require.Contains(t, log.String(), `the token has expired" count=600`+"\n")
		require.Equal(t, 2, strings.Count(log.String(), "is not a JWT"))
	})
}

// Work and memory for a token that is all claims: thousands of roles, of claims, of levels. It is read or refused, what is remembered of it
// is small, and of thousands of roles those count that are ours.
func TestTokensThatAreAllClaims(t *testing.T) {
	t.Parallel()
	v := newIssuer("rsa1").verifier(t)
	roles := make([]string, 2000)
	for i := range roles {
		roles[i] = fmt.Sprint(i)
	}
	many := map[string]any{}
	for i := range 1000 {
		many[fmt.Sprintf("c%d", i)] = i
	}
	deep := json.RawMessage(strings.Repeat("[", 4000) + strings.Repeat("]", 4000))
	for name, c := range map[string]struct {
		more map[string]any
		want []Role
	}{
		"roles":           {map[string]any{"roles": append(roles[:1500:1500], "operator"), "connect_user_id": nil}, []Role{Operator}},
		"one role, often": {map[string]any{"roles": slices.Repeat([]string{"viewer"}, 1000), "connect_user_id": nil}, []Role{Viewer}},
		"claims":          {many, nil},
		"levels":          {map[string]any{"deep": deep}, nil},
	} {
		token := sign("rsa1", good(c.more))
		require.LessOrEqual(t, len(token), maxToken, name)
		id, err := v.Verify(t.Context(), token)
		require.NoError(t, err, name)
		require.LessOrEqual(t, cap(id.Roles), 4, name)
		if c.want != nil {
			require.Equal(t, c.want, id.Roles, name)
		}
	}
	refused(t, v, sign("rsa1", good(map[string]any{"roles": append(roles, roles...)})), "too long")
}
