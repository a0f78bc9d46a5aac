package servertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"changeover/internal/logtest"
)

// Issuer signs tokens as an identity provider does; its keys are in a file, as in a closed network.
type Issuer struct {
	File   string // the set of keys, for config.Auth.JWKSFile
	Signer jose.Signer
}

// NewIssuer makes an issuer with one key, which goes with the test.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}, nil)
	require.NoError(t, err)
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "ES256", Use: "sig"}}})
	require.NoError(t, err)
	i := &Issuer{File: filepath.Join(t.TempDir(), "keys.json"), Signer: signer}
	require.NoError(t, os.WriteFile(i.File, keys, 0o600))
	return i
}

// Token is one of the issuer https://idp.example/ for the audience changeover. An empty agent is nobody's desktop.
func (i *Issuer) Token(t testing.TB, agent string, life time.Duration, roles ...string) string {
	t.Helper()
	claims := map[string]any{
		"iss": "https://idp.example/", "aud": "changeover", "sub": "somebody-" + agent, "roles": roles,
		"iat": time.Now().Unix(), "exp": time.Now().Add(life).Unix(),
	}
	if agent != "" {
		claims["connect_user_id"] = agent
	}
	token, err := jwt.Signed(i.Signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return logtest.Secret(token)
}
