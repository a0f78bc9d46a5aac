// Package edge stands between the network and internal/api: what has to be decided before anybody knows who is calling.
//
// # What it owns
//
// A [Server] is net/http's with every limit set: the size of a header, the time for a handshake, a header, a body and an
// answer, and how many connections there may be. A connection and a request pass it in this order:
//
//	accept → is there room (gate) → TLS, HTTP/1.1 or HTTP/2 → header (32 KiB, 10 s) →
//	who sent it, over which proxies → security headers → CORS → the handler
//
// [Certificates] are the server's, read again when their files change. A [Limiter] says whether a token or an address asks too
// often; the handler asks it, because it alone knows how a refusal looks for the operation (a stream is never refused with 429).
//
// # Room
//
// There is a limit of connections in all, and one per address. At the limit nobody waits: a connection on which nobody has proved
// who they are yet makes room for the new one, the oldest first, and first of the address that holds most of them. The handler
// says by [Identified] that a connection's caller is known; such a one is never sent away. So thousands of connections that say
// nothing, or ask for what anybody may have, keep no desktop out. A connection counts until it is closed, also when a handler
// has taken it over.
//
// # Invariants
//
//   - The ResponseWriter is handed on as net/http made it: what takes a connection over, flushes or sets deadlines behind this
//     package can.
//   - No memory grows with the number of callers: connections are limited, and the tables of rates have a fixed size.
//   - What a header says of a proxy's client counts only if a trusted proxy said it, and no such header is left for the handler.
//   - No origin but a configured one, letter by letter, reads an answer in a browser.
//   - A credential is never stored: its hash, keyed anew in each process, is all that a rate is kept under.
//
// # When something fails
//
// A new certificate that is broken, expired or half written is reported, and the old one stays in use. Callers that are too slow
// lose their connection; what they get is what net/http says. Nothing here needs the database or the network.
//
// All of the package may be used by many goroutines at once. [Certificates.Run] and [Server.Serve] run in goroutines of the
// caller's; the package starts none of its own.
package edge
