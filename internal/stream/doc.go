// Package stream serves the event log to desktops and operators: as server-sent events, and as JSON history on the same
// cursor.
//
// # What it owns
//
// A [Hub] tails the store's event log (a doorbell by NOTIFY, and a poll each second that makes the doorbell dispensable) and keeps
// in memory what connections need: for every agent the view that results from all events read so far, and the recent
// events of each failover group. Every replica has a Hub; none knows of the others.
//
//	EventsAfter ──► page ──► memory (views, rings, terms) ──► push: streams that are live
//	 doorbell, poll              │
//	                             └──► feeder: snapshot, or missed events (memory, else the database), then live
//
// A new stream is fed by a goroutine of its own until nothing is left to tell; the lock under which it finds that out is the
// one under which events are pushed, so history and live meet without gap and without repetition. A live stream has no feeder. One
// whose queue is full gets one again: it goes on from the log, which holds what its queue could not.
//
// # Invariants
//
//   - A stream of an agent carries that agent's events alone.
//   - Events come in the order of the log. A client that resumes by a cursor gets every event after it once.
//   - The id of a frame is a cursor from which nothing is missed. Frames that do not tell everything (a reset, all snapshots but
//     the last on the stream of all agents) carry one that no log has: whoever resumes from it is reset.
//   - A cursor that another replica gave out is never refused because this one has not read that far: it waits.
//   - A frame is one id, one event name, one line of data, whatever the log holds.
//   - Nobody waits for a slow client but its own feeder, and that no longer than the deadline of one write.
//
// # The library
//
// Frames are written by r3labs/sse, one of its streams for each connection; [conn] says how it is held so that it neither leaks
// nor repeats. On HTTP/1 the connection is taken out of net/http, see newTransport: an idle stream is three parked
// goroutines and no buffer. One timer wheel beats for all.
//
// # When something is away
//
// Postgres: streams stay open with their heartbeats, new ones start from memory, those that resume from further back than memory wait.
// Commits that the database lost in a failover, or another log in its place: every stream gets a `reset` and a fresh `snapshot`.
// This replica: [Hub.Drain] sends every client away, spread over time, each with the cursor to go on from.
// Overload: 200, a long jittered `retry:`, the end; a browser's EventSource gives up for good on anything else.
package stream
