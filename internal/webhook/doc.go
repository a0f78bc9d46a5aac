// Package webhook tells other services what happens, by HTTP POST, for those who do not hold a stream open: pagers, chats, tickets.
//
// It owns the way from the event log to a receiver's 2xx:
//
//	event log ──cursor──► deliveries (PostgreSQL) ──POST, signed──► receiver
//
// Each webhook has its own cursor in the log and its own deliveries, and is served by one replica at a time (a hold with an end). The
// cursor moves in the transaction that adds the deliveries, so a process that is killed at any moment leaves each event in exactly one
// delivery. A delivery is tried until the receiver answers 2xx, with back-off, for a day; then it is dead, and can be replayed. Its id stays the
// same at each attempt: a receiver may see a delivery twice, and never not at all.
//
// # Receivers
//
// are not trusted. Nothing of their answer is read but the status; redirects are failures; an attempt has an end. Each webhook has a
// goroutine of its own, so a receiver that hangs holds up nobody but itself. Addresses come from the configuration alone, and those of
// the machine's own metadata service (link-local) are never called, whatever name leads there.
//
// Requests are signed as standardwebhooks.com has it, so that receivers can check them with a library.
package webhook
