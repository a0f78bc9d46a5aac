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
//	agents, contacts, failovers, groups, …   one statement for each table, with arrays; new failovers by COPY
//	wait for the commit before               see Store.Begin: two may be under way
//	lock the head of the log                 so sequence numbers have no gaps
//	COPY events                              committed_at is the database's clock just before
//	new head, new term, NOTIFY               the doorbell rings once; its payload is empty, or names a trace
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
// The events of the Store's own last commits are remembered for a second, see [Store.FreshEvents]: the tail of the replica that leads does not read back what
// that has just written.
//
// Events are partitioned by the day of their commit. Days are made ahead and dropped whole; events of a day without
// partition go to the default one, so a commit never fails for want of it.
//
// # The audit
//
// Every entry has a number without gaps and a hash of itself and of the hash before it:
//
//	hash = SHA-256( previous hash | number | time | each text, with its length )
//
// A trigger computes it, in the transaction that adds the entry and with the head of the chain locked (audit_head), so that replicas
// that write at once, those of the version before included, make one chain. The trigger runs as the owner of the tables. In a
// role of its own (see [GrantService]) the service can add entries and nothing else: it neither alters nor removes one, nor chooses its number,
// time or hash, nor writes the head. [Store.VerifyAudit] says what is found by computing the hashes again, and what is not.
//
// Because of the lock audits are written one after the other. So calls are batched, the entry of a command is the last that
// its transaction writes, and a replica that is frozen in between is thrown out after three seconds.
//
// # Batches
//
// What desktops do in a herd, reports and tickets, is gathered by each Store into few statements: the first call goes at once, those that come
// while it is under way go together. A batch that PostgreSQL refuses for its content is tried again call by call, so nobody's call spoils
// another's. At most 50,000 calls of a kind wait; the next one gets [ErrBusy].
//
// # Versions of the schema
//
// Some statements need migration 2 (see package migrations). Without it the service does its main job as the version before did: audit
// entries have no hash, and what is in Before and After is not kept; a replica that dies between a command and its answer may
// have the command done twice. Tickets and VerifyAudit return [ErrOldSchema]. The Store notices the migration by itself.
//
// # Connections and failure
//
// A [Store] opens without PostgreSQL and reconnects by itself. Every call has a deadline of its own, next to the caller's; four
// seconds for what is asked all the time, so that it goes on within five of the database's return. A call that gets no answer has all
// connections left behind, because the others may be as dead. The URL is read anew for each connection: a password in a passfile, and
// certificates, can be replaced at any time. A server that only reads, a standby, is refused; of several hosts the one is taken that can be written to.
//
// What the leader does has a pool of its own, so that no crowd of readers keeps it waiting, and the lease has another, so that no stuck commit does.
// Statements are not prepared by name, nothing depends on the state of a session, so everything but LISTEN works through a
// transaction pooler. [IsUnavailable] tells a database that is away from a mistake.
//
// A Store may be used by many goroutines at once. It has none of its own but those of its connection pools and those that run a batch
// while calls wait for it; Close ends them.
package store
