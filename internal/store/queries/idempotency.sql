-- BeginIdempotent claims a key: it returns a row when the key is new, or when the request that claimed it never came to an end, with
-- what that one asked of the leader. The time tells this claim from every other.
-- name: BeginIdempotent :one
INSERT INTO idempotency_keys (scope, key, body_hash) VALUES (@scope, @key, @body_hash)
ON CONFLICT (scope, key) DO UPDATE SET body_hash = excluded.body_hash, created_at = clock_timestamp(), status = NULL, body = NULL,
    command_id = CASE WHEN idempotency_keys.created_at >= clock_timestamp() - @expired::interval THEN idempotency_keys.command_id END
WHERE (idempotency_keys.status IS NULL AND idempotency_keys.body_hash = excluded.body_hash
        AND idempotency_keys.created_at < clock_timestamp() - @abandoned::interval)
   OR idempotency_keys.created_at < clock_timestamp() - @expired::interval
RETURNING created_at, command_id;

-- name: IdempotentAnswer :one
SELECT body_hash, status, content_type, body FROM idempotency_keys WHERE scope = @scope AND key = @key;

-- name: FinishIdempotent :execrows
UPDATE idempotency_keys SET status = @status, content_type = @content_type, body = @body
WHERE scope = @scope AND key = @key AND created_at = @claimed_at AND status IS NULL;

-- ReleaseIdempotent frees a claimed key. One that has asked something of the leader stays, as one whose request was abandoned.
-- name: ReleaseIdempotent :exec
WITH freed AS (
    DELETE FROM idempotency_keys f
    WHERE f.scope = @scope AND f.key = @key AND f.created_at = @claimed_at AND f.status IS NULL AND f.command_id IS NULL
)
UPDATE idempotency_keys k SET created_at = k.created_at - @abandoned::interval
WHERE k.scope = @scope AND k.key = @key AND k.created_at = @claimed_at AND k.status IS NULL AND k.command_id IS NOT NULL;

-- LockClaims returns the claims that still stand, and keeps them from being taken over until the end of the transaction.
-- name: LockClaims :many
SELECT c.n::integer AS n, k.command_id
FROM (SELECT unnest(@ns::integer[]) AS n, unnest(@scopes::text[]) AS scope, unnest(@keys::text[]) AS key,
    unnest(@claimed_ats::timestamptz[]) AS claimed_at) c
JOIN idempotency_keys k ON k.scope = c.scope AND k.key = c.key AND k.created_at = c.claimed_at
WHERE k.status IS NULL
ORDER BY k.scope, k.key
FOR UPDATE OF k;

-- name: LinkCommands :exec
UPDATE idempotency_keys k SET command_id = c.command_id
FROM (SELECT unnest(@scopes::text[]) AS scope, unnest(@keys::text[]) AS key, unnest(@command_ids::bigint[]) AS command_id) c
WHERE k.scope = c.scope AND k.key = c.key;

-- name: PruneIdempotency :execrows
DELETE FROM idempotency_keys WHERE created_at < clock_timestamp() - @older_than::interval AND ctid = ANY (ARRAY(
    SELECT k.ctid FROM idempotency_keys k WHERE k.created_at < clock_timestamp() - @older_than::interval LIMIT @max_rows));
