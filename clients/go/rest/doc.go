// Package rest is api/openapi.yaml for Go programs that call Changeover: the models and the client that oapi-codegen makes of the
// document. [ClientWithResponses] has one method for each operation and decodes what comes back; package changeover, one
// folder up, makes one that changes over between endpoints, and reads the event streams, which nothing generated can.
package rest

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config oapi-codegen.yaml ../../../api/openapi.yaml
