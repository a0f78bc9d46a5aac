package auth

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

// BenchmarkVerify is what a request pays for its token: again with the same one, and the first time; and what of the first time is
// the signature's arithmetic alone. The claims are of the size that Keycloak and Entra ID make them, about 1 KB.
func BenchmarkVerify(b *testing.B) {
	i := newIssuer("rsa1", "p256", "ed")
	claims := good(map[string]any{
		"jti": "d3b07384-d9a0-4c9b-8f5e-2f1f0a3c1c11", "azp": "desktop", "session_state": "0d7d8a5e-9a54-4ef3-8b34-7a4a4b1a0d53", "acr": "1",
		"allowed-origins": []string{desktop}, "scope": "openid profile email", "name": "Jane Doe", "preferred_username": "jane@acme.example", "given_name": "Jane",
		"family_name": "Doe", "email": "jane@acme.example", "email_verified": true, "tid": "9188040d-6c67-4c5b-b112-36a304b66dad", "oid": "1c3b5a2e-3c22-4a90-8f0d-0b5c64a6e1f8",
		"realm_access":    map[string]any{"roles": []string{"offline_access", "uma_authorization", "default-roles-acme"}},
		"resource_access": map[string]any{"account": map[string]any{"roles": []string{"manage-account", "manage-account-links", "view-profile"}}},
	})
	for _, kid := range []string{"rsa1", "p256", "ed"} {
		token := sign(kid, claims)
		b.Run("again/"+kid, func(b *testing.B) {
			v := i.verifier(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("signature/"+kid, func(b *testing.B) {
			jws, err := jose.ParseSignedCompact(token, algorithms)
			require.NoError(b, err)
			public := i.verifier(b).keys.current.Load().byID[kid][0].public
			for b.Loop() {
				if _, err := jws.Verify(public); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("first/"+kid, func(b *testing.B) {
			v := i.verifier(b)
			b.ReportAllocs()
			for b.Loop() {
				v.cache = newCache(1)
				if _, err := v.Verify(b.Context(), token); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAuthenticate is all of a request's way through Tokens, with a full cache, from several goroutines.
func BenchmarkAuthenticate(b *testing.B) {
	v := newIssuer("rsa1").verifier(b)
	origins, err := NewOrigins(nil)
	require.NoError(b, err)
	tokens := NewTokens(v, nil, origins, Cookies{})
	for n := range cacheSize - 1 {
		v.cache.put(tokenHash([]byte(fmt.Sprintf("%032d", n))), remembered{identity: Identity{Expires: time.Now().Add(time.Hour)}})
	}
	r := request(http.MethodGet, "/v1/agents/"+jane+"/events?lastEventId=0198f6c0-1790000000000-42", "Authorization", "Bearer "+sign("rsa1", good()))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := tokens.Authenticate(r); err != nil {
				b.Error(err)
			}
		}
	})
}
