// Package api is the front door: everything of api/openapi.yaml over HTTP. It reads from the store and the stream, and
// changes nothing itself: desktops' reports and forces are appended to the inbox, decided by the leader, and answered through
// the same log that everybody hears.
//
// # The way of a request
//
//	request id → route → who is it (401) → may that role do this (403) → does it match the document (400, 413, 415)
//	           → was it answered before (Idempotency-Key) → handler: whose is it (404) → answer
//
// Each step is one function, and each knows the operation only as the document describes it (operations.go): parameters, body
// and roles come from there. There is no second table that could say something else.
//
// Errors are Go errors until the edge; asProblem alone maps them to RFC 9457 problems, so nothing internal leaks.
//
// # Invariants
//
//   - Without an identity nothing is answered but the probes, the metrics and the document.
//   - An agent sees itself. Somebody else's resources and missing ones are the same 404, byte for byte but for the request id.
//   - Every mutation is in the audit trail before it is in the inbox, refused forces too.
//   - A response has one of the shapes of the document; the tests validate each one that they get.
//
// # While the database is away
//
// Streams and an agent's own state come from memory (package stream). Mutations and the other reads are 503 with Retry-After.
// /readyz stays 200: a replica without its database still serves its streams.
//
// A [Server] may be used by many goroutines at once and starts none.
package api
