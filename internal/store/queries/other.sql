-- name: Heartbeat :exec
INSERT INTO replicas (replica, heartbeat_at) VALUES (@replica, clock_timestamp())
ON CONFLICT (replica) DO UPDATE SET heartbeat_at = excluded.heartbeat_at;

-- OpenConnections is told the ages of the connections, in microseconds, so that their times are the database's.
-- name: OpenConnections :exec
INSERT INTO connections (connection_id, replica, agent_id, since, last_event_id, remote_address)
SELECT unnest(@connection_ids::text[]), @replica::text, unnest(@agent_ids::text[]), clock_timestamp() - unnest(@ages::bigint[]) * interval '1 microsecond',
    unnest(@last_event_ids::text[]), unnest(@remote_addresses::text[])
ON CONFLICT (connection_id) DO NOTHING;

-- name: CloseConnections :exec
DELETE FROM connections WHERE connection_id = ANY (@connection_ids::text[]);

-- name: ForgetConnections :exec
DELETE FROM connections WHERE replica = @replica;

-- StreamingAgents is one row: a row for each agent costs both sides several times as much, and the leader asks every few seconds.
-- name: StreamingAgents :one
SELECT coalesce(array_agg(a.agent_id), '{}')::text[] AS agent_ids, coalesce(array_agg(a.since), '{}')::timestamptz[] AS sinces
FROM (SELECT n.agent_id, min(n.since) AS since FROM connections n JOIN replicas r USING (replica)
      WHERE n.agent_id <> '' AND r.heartbeat_at > clock_timestamp() - @alive::interval
      GROUP BY n.agent_id) a;

-- name: Connections :many
SELECT n.connection_id, n.replica, n.agent_id, n.since, n.last_event_id, n.remote_address
FROM connections n JOIN replicas r USING (replica)
WHERE n.connection_id > @after_id AND (@agent_id::text = '' OR n.agent_id = @agent_id)
  AND r.heartbeat_at > clock_timestamp() - @alive::interval
ORDER BY n.connection_id LIMIT @max_rows;

-- PruneReplicas removes the replicas that have been silent for long, and their connections.
-- name: PruneReplicas :execrows
WITH gone AS (DELETE FROM replicas WHERE heartbeat_at < clock_timestamp() - @older_than::interval RETURNING replica)
DELETE FROM connections USING gone WHERE connections.replica = gone.replica;

-- name: UpsertHealth :exec
INSERT INTO region_health (failover_group, region, state, since, last_success, last_error, last_error_at)
SELECT unnest(@failover_groups::text[]), unnest(@regions::text[]), unnest(@states::text[]), unnest(@sinces::timestamptz[]),
    unnest(@last_successes::timestamptz[]), unnest(@last_errors::text[]), unnest(@last_error_ats::timestamptz[])
ON CONFLICT (failover_group, region) DO UPDATE SET
    state = excluded.state, since = excluded.since, last_success = excluded.last_success, last_error = excluded.last_error,
    last_error_at = excluded.last_error_at, updated_at = clock_timestamp();

-- name: Health :many
SELECT failover_group, region, state, since, last_success, last_error, last_error_at, updated_at
FROM region_health ORDER BY failover_group, region;

-- name: OldestProgram :one
SELECT oldest FROM schema_programs;

-- PruneFailovers removes failovers that are over. One that its agent still holds, because it waits for its confirmation, stays.
-- name: PruneFailovers :execrows
DELETE FROM failovers WHERE failover_id = ANY (ARRAY(
    SELECT f.failover_id FROM failovers f
    WHERE f.detected_at < clock_timestamp() - @older_than::interval AND f.status IN ('completed', 'cancelled')
      AND NOT EXISTS (SELECT 1 FROM agents a WHERE a.agent_id = f.agent_id AND f.failover_id IN (a.failover_id, a.last_failover_id))
    ORDER BY f.detected_at LIMIT @max_rows));

-- PruneChanges keeps the last change of each traffic distribution group that moved agents, which CurrentShifts asks for.
-- name: PruneChanges :execrows
DELETE FROM distribution_changes WHERE change_id = ANY (ARRAY(
    SELECT c.change_id FROM distribution_changes c
    WHERE c.observed_at < clock_timestamp() - @older_than::interval
      AND c.change_id < (SELECT max(l.change_id) FROM distribution_changes l
          WHERE l.tdg_id = c.tdg_id AND l.before -> 'agents' IS DISTINCT FROM l.after -> 'agents')
    LIMIT @max_rows));

-- name: PruneDrills :execrows
DELETE FROM drills WHERE drill_id = ANY (ARRAY(
    SELECT d.drill_id FROM drills d WHERE d.ended_at < clock_timestamp() - @older_than::interval LIMIT @max_rows));
