-- What the version before migration 2 did, for a program that works on its schema. To be removed with the next migration.

-- AppendAuditsBefore2 adds entries without what was before and after.
-- name: AppendAuditsBefore2 :exec
INSERT INTO audit (subject, roles, action, target, reason, request_id, outcome, details)
SELECT e.subject, (@roles::text[])[e.first_role:e.last_role], e.action, e.target, e.reason, e.request_id, e.outcome, e.details
FROM (SELECT unnest(@subjects::text[]) AS subject, unnest(@first_roles::integer[]) AS first_role,
    unnest(@last_roles::integer[]) AS last_role, unnest(@actions::text[]) AS action, unnest(@targets::text[]) AS target,
    unnest(@reasons::text[]) AS reason, unnest(@request_ids::text[]) AS request_id, unnest(@outcomes::text[]) AS outcome,
    unnest(@details::json[]) AS details) e;

-- name: AuditBefore2 :many
SELECT audit_id, at, subject, roles, action, target, reason, request_id, outcome, details
FROM audit WHERE audit_id < @before_id ORDER BY audit_id DESC LIMIT @max_rows;

-- name: BeginIdempotentBefore2 :one
INSERT INTO idempotency_keys (scope, key, body_hash) VALUES (@scope, @key, @body_hash)
ON CONFLICT (scope, key) DO UPDATE SET body_hash = excluded.body_hash, created_at = clock_timestamp(), status = NULL, body = NULL
WHERE (idempotency_keys.status IS NULL AND idempotency_keys.body_hash = excluded.body_hash
        AND idempotency_keys.created_at < clock_timestamp() - @abandoned::interval)
   OR idempotency_keys.created_at < clock_timestamp() - @expired::interval
RETURNING created_at;

-- name: ReleaseIdempotentBefore2 :exec
DELETE FROM idempotency_keys WHERE scope = @scope AND key = @key AND created_at = @claimed_at AND status IS NULL;
