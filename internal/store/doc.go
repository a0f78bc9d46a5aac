// Package store keeps what Changeover knows in PostgreSQL: the state of groups and agents, the event log, the inbox, the
// lease of the leader, and what REST reads. All SQL of the program is here (queries/, made into Go by sqlc) and in
// package migrations.
//
// # One writer
//
// The holder of the lease decides and writes everything but the inbox, the registry of connections, the audit and the
// idempotency keys. [Store.Commit] stores all effects of a Step in one transaction:
//
//	lock the lease row, compare its epoch    another epoch: ErrFenced, nothing is written
//	lock the head of the log                 so sequence numbers have no gaps
//	agents, contacts, failovers, groups, …   one statement for each table, with arrays
//	COPY events                              committed_at is the database's clock just before
//	new head, new term, NOTIFY               the doorbell rings once, with an empty payload
//
// Commits lock the lease row FOR KEY SHARE. A renewal does not change the row's key and goes on meanwhile; a takeover changes the
// epoch, which is part of a key, and waits. So whoever has the lease knows that no older leader has anything under way.
// A leader that is frozen in the middle of a commit is thrown out by PostgreSQL after three seconds of idleness, or, if it
// stopped in the middle of a message, by the next leader (see [Store.AcquireLease]).
//
// After any error of Commit the caller must throw its state away and [Store.Load] again: the transaction may have been
// committed although its answer was lost. Load gives back exactly what was committed, times cut to microseconds, the
// precision of PostgreSQL.
//
// # The log
//
// An event has a sequence number, counted without gaps from 1, and belongs to the epoch of the leader that wrote it. A
// reader that remembers both can neither skip nor repeat: a number that is followed by another than the next one means that
// history was dropped, and a number whose epoch is not the one that [LogState.Terms] tells means that the database lost its
// last commits in an asynchronous failover and that others took their place. Epochs follow the database's clock, so a
// restored database never gives one out a second time.
//
// Events are partitioned by the day of their commit. Days are made ahead and dropped whole; events of a day without
// partition go to the default one, so a commit never fails for want of it.
//
// # Connections and failure
//
// A [Store] opens without PostgreSQL and reconnects by itself. Every call has a deadline of its own, next to the caller's.
// What the leader does has a pool of its own, so that no crowd of readers keeps it from renewing its lease. Statements are not
// prepared by name, nothing depends on the state of a session, so everything but LISTEN works through a transaction
// pooler. [IsUnavailable] tells a database that is away from a mistake.
//
// A Store may be used by many goroutines at once. It has none of its own but those of its connection pools; Close ends them.
package store
