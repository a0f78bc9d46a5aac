-- AppendAudits adds entries. A trigger gives each its number, time and hash. The roles of all are in one array.
-- name: AppendAudits :exec
INSERT INTO audit (subject, roles, action, target, reason, request_id, outcome, details, before, after)
SELECT e.subject, (@roles::text[])[e.first_role:e.last_role], e.action, e.target, e.reason, e.request_id, e.outcome, e.details,
    e.before, e.after
FROM (SELECT unnest(@subjects::text[]) AS subject, unnest(@first_roles::integer[]) AS first_role,
    unnest(@last_roles::integer[]) AS last_role, unnest(@actions::text[]) AS action, unnest(@targets::text[]) AS target,
    unnest(@reasons::text[]) AS reason, unnest(@request_ids::text[]) AS request_id, unnest(@outcomes::text[]) AS outcome,
    unnest(@details::json[]) AS details, unnest(@befores::json[]) AS before, unnest(@afters::json[]) AS after) e;

-- name: Audit :many
SELECT audit_id, at, subject, roles, action, target, reason, request_id, outcome, details, before, after, hash
FROM audit WHERE audit_id < @before_id
  AND (@subject::text = '' OR subject = @subject)
  AND (@action::text = '' OR action = @action)
  AND (@target::text = '' OR target = @target)
  AND (@outcome::text = '' OR outcome = @outcome)
  AND at >= @since::timestamptz
ORDER BY audit_id DESC LIMIT @max_rows;

-- AuditEnds returns the head of the chain, and the last entry that there is at the same moment.
-- name: AuditEnds :one
SELECT h.before, h.audit_id, h.hash, h.pruned_id, h.pruned_hash, coalesce((SELECT max(a.audit_id) FROM audit a), 0)::bigint AS last_id FROM audit_head h;

-- AuditChain reads entries in their order. A role that is null, which the service never writes, is read as a text.
-- name: AuditChain :many
SELECT audit_id, at, subject, ARRAY(SELECT coalesce(role, '') FROM unnest(roles) AS role)::text[] AS roles, action, target, reason,
    request_id, outcome, details, before, after, hash
FROM audit WHERE audit_id > @after_id AND audit_id <= @upto_id ORDER BY audit_id LIMIT @max_rows;

-- PruneAudit removes entries that are older than the owner of the tables wants to keep them.
-- name: PruneAudit :one
SELECT prune_audit(@max_rows::bigint)::bigint;
