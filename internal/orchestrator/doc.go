// Package orchestrator leads. It holds the lease, keeps the state of all agents in memory, feeds what is observed and
// asked for to the core, commits what the core decides, and tells the readers what to read next.
//
//	lease ─► load ─► Started ─► ┌─ distributions ─┐
//	  ▲                         │  agents         │
//	  │                         │  inbox          ├─► Step ─► commit ─► work for the readers ─┐
//	  │                         │  open streams   │                                           │
//	  │                         └─ tick ──────────┘ ◄─────────────────────────────────────────┘
//	  └── lease lost ◄── fenced, or not renewed in time
//
// # Terms
//
// The lease lasts 10 s and is renewed every 3 s. The holder trusts it until 9 s after the beginning of its last good renewal, on
// its own monotonic clock, and steps down then at the latest, whatever call it is waiting for: earlier than the lease can be
// taken, never later. A commit that finds another epoch in the lease steps down at once (R19). Stopping releases the lease, so the next
// replica leads within half a second or so; one that dies is replaced within 15 s.
//
// A leader for which a load or a transaction takes 7 s gives the lease back and leaves it to the others for 5 s: its way to PostgreSQL may be
// bad, and theirs not. What fails before has to be made up for in that time, if PostgreSQL answers slowly. Where the others are as slow it gets the
// lease again, and then has twice the patience.
//
// A database that failed over without its last commits has the lease as it was, and perhaps nothing fails. So commits are counted in it, and each
// renewal and each commit finds out whether those of this term are still there.
//
// # Reigns
//
// The state in memory and the readers of a term are its reign: from Load to the first error of the store. Then everything is thrown away,
// the state, the readers and all that they have observed, because an observation can claim to be complete ("nobody else has
// contacts") and rest on a page that went with the lost state. The same holder begins the next term at once, with a new epoch: under the old
// one, a database that failed over without its last commits would give their numbers to other events, and a desktop's cursor could not
// tell. The state is loaded again, with growing pauses of at most 2 s between the tries, so that decisions resume within 5 s of
// PostgreSQL's return. The rules are level-triggered: what was missed is found by the next observation, what was committed
// without our hearing of it is loaded.
//
// # The loop
//
// One goroutine owns the state. Observations reach it through two bounded queues, distributions first; when a queue is full
// its readers wait. What a Step changed goes into a queue of agents (queue.go) and from there, a thousand agents at a time, into
// transactions, of which three are under way at once: while one writes its events the next ones write their agents, and the loop decides on
// what is observed meanwhile. An agent who is touched again while waiting is written once. So the first desktops of
// a large shift hear while the last are still being written, and the reads that follow the detection are decided on before its last
// agents are committed. When a hundred observations have been decided on since a commit ended, the loop waits for the next one.
//
// The readers are told of a detection before its commit, so that the read that everybody waits for begins meanwhile. What it shows
// is committed after it: transactions become visible in order, and one that follows a failed one fails.
//
// Each transaction holds everything of its agents; queue.go says what a leader that dies between two of them leaves behind.
//
// Commands of the inbox are taken in batches. A batch's results are in the same transaction as its effects, or, if these are in several,
// in the last: a command that was not answered is executed again by the next leader, which does no harm because nothing is
// forced twice.
//
// # Metrics
//
// Counters and histograms count what this replica committed. The gauges of state are counted as agents change, so a
// scrape reads no state that the loop owns; a replica drops them when it leads no more.
package orchestrator
