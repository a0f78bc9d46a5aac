// Package api holds the contract: openapi.yaml, the formal version of everything that the outside world may rely on.
// The program serves it, validates requests against it and generates its server from it.
package api

import _ "embed" // the document

// Document is openapi.yaml.
//
//go:embed openapi.yaml
var Document []byte
