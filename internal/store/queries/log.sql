-- name: LockHead :one
SELECT epoch, seq FROM event_log FOR UPDATE;

-- CountCommit locks the head as LockHead does, and counts.
-- name: CountCommit :one
UPDATE event_log SET commits = commits + 1 RETURNING epoch, seq, commits;

-- name: Commits :one
SELECT commits FROM event_log;

-- name: SetHead :exec
UPDATE event_log SET epoch = @epoch, seq = @seq;

-- name: InsertTerm :exec
INSERT INTO terms (epoch, first_seq) VALUES (@epoch, @first_seq);

-- name: InsertEvents :copyfrom
INSERT INTO events (seq, epoch, day, committed_at, time, type, agent_id, failover_group, failover_id, data)
VALUES (@seq, @epoch, @day, @committed_at, @time, @type, @agent_id, @failover_group, @failover_id, @data);

-- name: Clock :one
SELECT clock_timestamp()::timestamptz AS now;

-- name: Notify :exec
SELECT pg_notify(@channel, @payload);

-- name: Head :one
SELECT log_id, epoch, seq, oldest_seq FROM event_log;

-- name: Terms :many
SELECT epoch, first_seq FROM terms ORDER BY epoch;

-- name: Events :many
SELECT seq, epoch, committed_at, time, type, agent_id, failover_group, failover_id, data
FROM events
WHERE seq > @after_seq AND seq <= @upto_seq
  AND (coalesce(cardinality(@types::text[]), 0) = 0 OR type = ANY (@types::text[]))
ORDER BY seq LIMIT @max_rows;

-- AgentEvents reads each agent's history by its own index, whatever else is in the log.
-- name: AgentEvents :many
SELECT e.seq, e.epoch, e.committed_at, e.time, e.type, e.agent_id, e.failover_group, e.failover_id, e.data
FROM (SELECT DISTINCT unnest(@agent_ids::text[]) COLLATE "C" AS agent_id) a
CROSS JOIN LATERAL (
    SELECT * FROM events
    WHERE events.agent_id = a.agent_id AND seq > @after_seq AND seq <= @upto_seq
      AND (coalesce(cardinality(@types::text[]), 0) = 0 OR type = ANY (@types::text[]))
    ORDER BY seq LIMIT @max_rows
) e
ORDER BY e.seq LIMIT @max_rows;

-- name: MaintainEventPartitions :one
SELECT m.created::integer AS created, m.dropped::integer AS dropped
FROM maintain_event_partitions(@retention::interval, @ahead::integer) m;
