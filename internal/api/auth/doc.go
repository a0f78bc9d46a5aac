// Package auth says who calls and in which roles. It owns the identity that travels with a request and the ways to prove
// one; what a role may do is decided by internal/api alone, from the x-roles of api/openapi.yaml.
//
// # Ways to prove an identity
//
//	Authorization: Bearer <JWT>       desktops and programs           Verifier
//	cookie __Host-changeover=<JWT>    browsers: EventSource, console  Verifier, and Origins for what it changes
//	?ticket=<random>                  one stream, once                Tickets
//
// [Tokens] looks at them in this order. The cookie comes from POST /v1/session or from [Login], which signs people in with
// their browser. A JWT in a URL is refused wherever it is: URLs are logged by everything that they pass.
//
// # What makes a token good
//
// A [Verifier] takes a JWT in compact form when an algorithm of the list below signed it with one of the issuer's keys, its
// header and claims are not ambiguous, it comes from the issuer, is meant for the audience, has a subject, has not expired (no
// leeway, so that Identity.Expires is always ahead), and its nbf and iat are not more than a minute ahead. Keys come from the
// issuer alone: headers that bring or name one (jwk, jku, x5u, x5c) are never followed.
//
//	RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA
//
// # Keys
//
// They are read at the start, every few minutes, and when a token names a key that is not there: then at most one request
// goes to the issuer in five seconds, whatever is sent, and few callers wait for its answer while the others are told to come
// again. When the issuer cannot be asked the last good keys stay. A key that the issuer withdrew ends the tokens that it
// signed, remembered ones too.
//
// # Invariants
//
//   - An Authenticator fails closed: without a proof there is no identity, and an error has no identity beside it.
//   - No token, ticket, cookie, code or secret is in an error or in the log, nor any text of a token that was not verified.
//   - A verified token is remembered by its SHA-256, never by itself, until it expires.
//   - Nothing here needs the database but the redemption of tickets.
//
// All of the package is safe for concurrent use. It starts no goroutine of its own: whoever makes a Verifier runs
// [Verifier.Run].
package auth
