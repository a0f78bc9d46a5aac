package auth

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
)

// registered are the names that go-oidc reads with encoding/json, which takes EXP for exp.
var registered = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "nonce", "at_hash", "_claim_names", "_claim_sources"}

// decodeObject reads a JSON object that every reader understands alike: no name twice at any depth (encoding/json alone takes the
// last of them, others the first), and none that is a registered one in other letters. Errors do not repeat what was read.
func decodeObject(data []byte) (map[string]any, error) {
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil || object == nil {
		return nil, errors.New("not a JSON object whose names are there once each")
	}
	for name := range object {
		for _, r := range registered {
			if name != r && strings.EqualFold(name, r) {
				return nil, errors.New("a name differs from a registered one in upper and lower case only")
			}
		}
	}
	return object, nil
}
