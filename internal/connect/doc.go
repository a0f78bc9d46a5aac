// Package connect is one Region of Amazon Connect as the service sees it: the few operations that read, a request
// rate that stays within Amazon's quotas, and one small set of error kinds.
//
// # What it owns
//
// A [Client] owns everything that its Region's requests need: AWS configuration, credentials (from that Region's STS),
// connection pool, timeouts, and for each operation a rate limiter, a circuit breaker and its health. Clients
// share nothing, so a Region that is down or hangs cannot slow another by a millisecond. [Operations] is the complete list of
// operations that are ever called; none of them writes.
//
// # A request
//
//	breaker open? ──► limiter (by priority) ──► breaker permit ──► one attempt ──► check the answer
//	     │                   │                                        │                 │
//	ErrCircuitOpen      ctx cancelled                        kind, health, metrics  Malformed
//
// There are no retries: the next poll is the retry, and it asks what matters then. Traffic distribution groups are
// addressed by ARN, because a bare id resolves in the source Region only.
//
// # Errors
//
// Every failure is an [*Error] with a [Kind]. What cannot be told for certain is never turned into an answer: a body
// that ends early, lacks the list that it should hold, or names an agent without an id is [Malformed] as a whole. A
// request that was cancelled by its caller is no failure: it has no kind and leaves health, breaker and metrics alone.
// The text of an [*Error] names Region, operation, kind and Amazon's error code; messages are passed on only for
// errors whose messages cannot hold parts of the signed request.
//
// # Concurrency
//
// All methods may be called from any number of goroutines. A Client starts no goroutine of its own; those of the
// connection pool end with [Client.Close].
package connect
