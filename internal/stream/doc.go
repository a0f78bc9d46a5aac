// Package stream serves the event log to desktops and operators: as server-sent events, and as JSON history on the same
// cursor.
//
// # What it owns
//
// A [Hub] tails the store's event log (a doorbell by NOTIFY, and a poll each second that makes the doorbell dispensable) and keeps
// in memory what connections need: for every agent the view that results from all events read so far, and the recent
// events of each failover group. Every replica has a Hub; none knows of the others.
//
//	EventsAfter ──► page ──► memory (views, rings, terms) ──► tell: streams that are live
//	 doorbell, poll              │
//	                             └──► catch up: snapshot, or missed events (memory, else the database), then live
//
// A stream is a position in the log and a way to a client. While there is something behind its position, a goroutine writes: it begins
// with a snapshot or with what was missed, and goes on until nothing is left to tell. The lock under which it finds that out is
// the one under which events are handed over, so history and live meet without gap and without repetition. Then the stream is live, and has
// no goroutine but the one that waits for the client to go away. An event wakes a writer again; one that finds too many
// waiting goes on from the log.
//
// # Invariants
//
//   - A stream of an agent carries that agent's events alone.
//   - Events come in the order of the log. A client that resumes by a cursor gets every event after it once.
//   - The id of a frame is a cursor from which nothing is missed. Frames that do not tell everything (a reset, all snapshots but
//     the last on the stream of all agents) carry one that no log has: whoever resumes from it is reset.
//   - A cursor that another replica gave out is never refused because this one has not read that far: it waits.
//   - A frame is one id, one event name, one line of data, whatever the log holds.
//   - Nobody waits for a slow client but its own writer, and that no longer than the deadline of one write.
//
// # What a stream costs
//
// On HTTP/1 the connection is taken out of net/http, see newTransport: what is left of an idle stream is a struct, the socket, a row in
// two maps and the small stack of one parked goroutine. One timer wheel beats for all and looks after tokens that expire. Each event is
// written by r3labs/sse once, see [encoder], into bytes that all its streams share. A write that the kernel takes at once
// needs no deadline and so no timer.
//
// # When something is away
//
// Postgres: streams stay open with their heartbeats, new ones start from memory, those that resume from further back than memory wait.
// Commits that the database lost in a failover, or another log in its place: every stream gets a `reset` and a fresh `snapshot`.
// This replica: [Hub.Drain] sends every client away, spread over time, each with the cursor to go on from.
// Overload: 200, a long jittered `retry:`, the end; a browser's EventSource gives up for good on anything else.
package stream
