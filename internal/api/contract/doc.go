// Package contract is api/openapi.yaml in Go: the models and the strict chi server that oapi-codegen makes of it, and the
// few types that it cannot make. The package decides nothing; internal/api implements its [StrictServerInterface].
//
// contract.gen.go is generated from the document with overlay.yaml laid over it, which holds what only the Go code
// needs. Change the document, never the generated file, and run make generate.
package contract

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config oapi-codegen.yaml ../../../api/openapi.yaml
