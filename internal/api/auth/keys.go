package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// algorithms are those that a token may be signed with. "none" and the HMAC family, whose key would be a secret shared with
// the issuer, are not among them, whatever the issuer says.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512,
	jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512,
	jose.EdDSA,
}

// Bounds of a key set. An issuer has a handful of keys.
const (
	maxKeys    = 100
	minRSABits = 2048 // RFC 7518 §3.3
	// A token that names no key is tried with every key that fits; each try costs tens of microseconds.
	maxUnnamed = 4
)

// key is a public key of the issuer.
type key struct {
	id         string // kid
	public     any    // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	algorithms []jose.SignatureAlgorithm
	print      thumbprint
}

// thumbprint is RFC 7638's: it names the key itself, whatever kid it has.
type thumbprint [sha256.Size]byte

// keySet is what an issuer has published at one time. It does not change.
type keySet struct {
	byID    map[string][]*key
	all     []*key
	prints  map[thumbprint]bool
	ignored int // keys of kinds that cannot verify a token
}

// parseKeys reads a JSON Web Key Set (RFC 7517). A key that cannot verify tokens (of another use, of a kind not known, too
// short) is left out, as §5 asks for; a set without a usable key is an error, and so is one with a secret in it: it was
// published by mistake, and its owner has to know.
func parseKeys(data []byte) (*keySet, error) {
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, errors.New(`not a JSON Web Key Set: expected {"keys":[…]}`) // the parser's own words repeat what it read
	}
	if len(document.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has %d keys; more than %d are not taken", len(document.Keys), maxKeys)
	}
	set := &keySet{byID: make(map[string][]*key), prints: make(map[thumbprint]bool)}
	for i, raw := range document.Keys {
		var jwk jose.JSONWebKey
		if err := json.Unmarshal(raw, &jwk); err != nil {
			set.ignored++
			continue
		}
		if !jwk.IsPublic() {
			if _, symmetric := jwk.Key.([]byte); symmetric {
				return nil, fmt.Errorf("key %d of the set is a shared secret; a key set holds public keys only", i+1)
			}
			return nil, fmt.Errorf("key %d of the set is private; a key set holds public keys only", i+1)
		}
		k := newKey(jwk)
		if k == nil {
			set.ignored++
			continue
		}
		set.all = append(set.all, k)
		set.byID[k.id] = append(set.byID[k.id], k)
		set.prints[k.print] = true
	}
	if len(set.all) == 0 {
		return nil, fmt.Errorf("none of the %d keys of the set can verify a token (needed: RSA of %d bits and more, EC P-256, P-384 or P-521, or Ed25519, for signatures)", len(document.Keys), minRSABits)
	}
	return set, nil
}

// newKey returns the key with the algorithms that it can verify, nil if there are none.
func newKey(jwk jose.JSONWebKey) *key {
	if jwk.Use != "" && jwk.Use != "sig" {
		return nil
	}
	k := &key{id: jwk.KeyID, public: jwk.Key}
	switch public := jwk.Key.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSABits {
			return nil
		}
		k.algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			k.algorithms = []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			k.algorithms = []jose.SignatureAlgorithm{jose.ES384}
		case elliptic.P521():
			k.algorithms = []jose.SignatureAlgorithm{jose.ES512}
		}
	case ed25519.PublicKey:
		k.algorithms = []jose.SignatureAlgorithm{jose.EdDSA}
		if jwk.Algorithm == "Ed25519" { // the name that RFC 9864 gives it
			jwk.Algorithm = string(jose.EdDSA)
		}
	}
	if jwk.Algorithm != "" { // the issuer narrows it down
		k.algorithms = slices.DeleteFunc(k.algorithms, func(a jose.SignatureAlgorithm) bool { return string(a) != jwk.Algorithm })
	}
	if len(k.algorithms) == 0 {
		return nil
	}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil
	}
	copy(k.print[:], sum)
	return k
}

// find returns the keys that may have signed a token with this header. The kid is compared and used for nothing else.
func (s *keySet) find(kid, algorithm string) []*key {
	among := s.byID[kid]
	if kid == "" {
		among = s.all
	}
	var found []*key
	for _, k := range among {
		if slices.Contains(k.algorithms, jose.SignatureAlgorithm(algorithm)) {
			found = append(found, k)
		}
	}
	if kid == "" && len(found) > maxUnnamed {
		return nil
	}
	return found
}

// same says whether two sets hold the same keys under the same names.
func (s *keySet) same(other *keySet) bool {
	if len(s.all) != len(other.all) || len(s.prints) != len(other.prints) {
		return false
	}
	for _, k := range s.all {
		if !slices.ContainsFunc(other.byID[k.id], func(o *key) bool { return o.print == k.print && slices.Equal(o.algorithms, k.algorithms) }) {
			return false
		}
	}
	return true
}
