-- name: AppendAudit :one
INSERT INTO audit (subject, roles, action, target, reason, request_id, outcome, details)
VALUES (@subject, @roles, @action, @target, @reason, @request_id, @outcome, @details) RETURNING audit_id;

-- name: Audit :many
SELECT audit_id, at, subject, roles, action, target, reason, request_id, outcome, details
FROM audit WHERE audit_id < @before_id ORDER BY audit_id DESC LIMIT @max_rows;

-- name: Heartbeat :exec
INSERT INTO replicas (replica, heartbeat_at) VALUES (@replica, clock_timestamp())
ON CONFLICT (replica) DO UPDATE SET heartbeat_at = excluded.heartbeat_at;

-- name: OpenConnections :exec
INSERT INTO connections (connection_id, replica, agent_id, since, last_event_id, remote_address)
SELECT unnest(@connection_ids::text[]), @replica::text, unnest(@agent_ids::text[]), unnest(@sinces::timestamptz[]),
    unnest(@last_event_ids::text[]), unnest(@remote_addresses::text[])
ON CONFLICT (connection_id) DO NOTHING;

-- name: CloseConnections :exec
DELETE FROM connections WHERE connection_id = ANY (@connection_ids::text[]);

-- name: ForgetConnections :exec
DELETE FROM connections WHERE replica = @replica;

-- name: StreamingAgents :many
SELECT DISTINCT n.agent_id FROM connections n JOIN replicas r USING (replica)
WHERE n.agent_id <> '' AND r.heartbeat_at > clock_timestamp() - @alive::interval;

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

-- BeginIdempotent claims a key: it returns a row when the key is new, or when the request that claimed it never came to an end.
-- name: BeginIdempotent :one
INSERT INTO idempotency_keys (scope, key, body_hash) VALUES (@scope, @key, @body_hash)
ON CONFLICT (scope, key) DO UPDATE SET body_hash = excluded.body_hash, created_at = clock_timestamp(), status = NULL, body = NULL
WHERE (idempotency_keys.status IS NULL AND idempotency_keys.body_hash = excluded.body_hash
        AND idempotency_keys.created_at < clock_timestamp() - @abandoned::interval)
   OR idempotency_keys.created_at < clock_timestamp() - @expired::interval
RETURNING created_at;

-- name: IdempotentAnswer :one
SELECT body_hash, status, content_type, body FROM idempotency_keys WHERE scope = @scope AND key = @key;

-- name: FinishIdempotent :exec
UPDATE idempotency_keys SET status = @status, content_type = @content_type, body = @body WHERE scope = @scope AND key = @key;

-- name: ReleaseIdempotent :exec
DELETE FROM idempotency_keys WHERE scope = @scope AND key = @key AND status IS NULL;

-- name: PruneIdempotency :execrows
DELETE FROM idempotency_keys WHERE created_at < clock_timestamp() - @older_than::interval;
