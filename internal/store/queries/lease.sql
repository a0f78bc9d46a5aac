-- name: Lease :one
SELECT holder, epoch, expires_at, expires_at <= clock_timestamp() AS expired FROM leases WHERE name = 'leader';

-- RestoreLease makes the row that somebody has deleted.
-- name: RestoreLease :exec
INSERT INTO leases (name) VALUES ('leader') ON CONFLICT DO NOTHING;

-- AcquireLease begins a new term if the lease is free, or if it is still the very one that its holder does not renew. The epoch follows the
-- database's clock, so that a database that was restored to an earlier state, or that failed over without its last commits, never gives
-- one out twice; and it is above those in the log, wherever that clock has been.
-- name: AcquireLease :one
UPDATE leases
SET holder = @holder,
    epoch = greatest(leases.epoch + 1, (extract('epoch' FROM clock_timestamp()) * 1000)::bigint, (SELECT l.epoch + 1 FROM event_log l)),
    acquired_at = clock_timestamp(),
    expires_at = clock_timestamp() + @ttl::interval
WHERE name = 'leader' AND (leases.expires_at <= clock_timestamp() OR leases.epoch = @dead_epoch AND leases.expires_at = @dead_expires_at)
RETURNING leases.epoch, clock_timestamp()::timestamptz AS granted;

-- SucceedLease begins the next term of the same holder, if no other one has begun.
-- name: SucceedLease :one
UPDATE leases
SET epoch = greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
    acquired_at = clock_timestamp(),
    expires_at = least(clock_timestamp(), @asked::timestamptz) + @ttl::interval
WHERE name = 'leader' AND epoch = @epoch AND holder = @holder
RETURNING epoch, clock_timestamp()::timestamptz AS granted;

-- RenewLease prolongs the very term, expired or not: if nobody took over, nobody else can have decided anything. Not one that was released:
-- this may have been asked before that, and arrive after it.
-- name: RenewLease :one
UPDATE leases SET expires_at = least(clock_timestamp(), @asked::timestamptz) + @ttl::interval
WHERE name = 'leader' AND epoch = @epoch AND holder = @holder AND expires_at <> '-infinity'
RETURNING clock_timestamp()::timestamptz AS granted;

-- RenewCountedLease does the same, and returns how many commits there are.
-- name: RenewCountedLease :one
UPDATE leases SET expires_at = least(clock_timestamp(), @asked::timestamptz) + @ttl::interval
WHERE leases.name = 'leader' AND leases.epoch = @epoch AND leases.holder = @holder AND leases.expires_at <> '-infinity'
RETURNING (SELECT l.commits FROM event_log l)::bigint AS commits, clock_timestamp()::timestamptz AS granted;

-- name: ReleaseLease :exec
UPDATE leases SET expires_at = '-infinity'
WHERE name = 'leader' AND epoch = @epoch AND holder = @holder;

-- LockLease returns the epoch and keeps it from changing until the end of the transaction. Renewals do not wait for it.
-- name: LockLease :one
SELECT epoch FROM leases WHERE name = 'leader' FOR KEY SHARE;

-- EndStuckCommits ends the transactions that keep an expired lease from being taken over. Only commits hold a RowShareLock on
-- the table; one that is older than this has lost its leader in the middle of a message, where no time-out of PostgreSQL
-- before 17 reaches it.
-- name: EndStuckCommits :execrows
SELECT pg_terminate_backend(a.pid)
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.relation = 'leases'::regclass::oid AND l.mode = 'RowShareLock' AND l.granted
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  AND a.xact_start < clock_timestamp() - @older_than::interval
  AND a.pid <> pg_backend_pid()
  AND EXISTS (SELECT 1 FROM leases WHERE name = 'leader' AND expires_at <= clock_timestamp());

-- CommitTimeouts bound what a leader that stops in the middle of a transaction can hold up. For the transaction alone, so that
-- they work through a transaction pooler too.
-- name: CommitTimeouts :exec
SELECT set_config('idle_in_transaction_session_timeout', @idle::text, true),
       set_config('statement_timeout', @statement::text, true),
       set_config('lock_timeout', @lock::text, true);
