-- IssueTickets writes tickets; now() is the start of the statement. The roles of all are in one array.
-- name: IssueTickets :many
INSERT INTO stream_tickets (hash, agent_id, subject, name, roles, token_expires_at, created_at, expires_at)
SELECT t.hash, t.agent_id, t.subject, t.name, (@roles::text[])[t.first_role:t.last_role], t.token_expires_at, now(),
    least(now() + @lifetime::interval, t.token_expires_at)
FROM (SELECT unnest(@hashes::bytea[]) AS hash, unnest(@agent_ids::text[]) AS agent_id, unnest(@subjects::text[]) AS subject,
    unnest(@names::text[]) AS name, unnest(@first_roles::integer[]) AS first_role, unnest(@last_roles::integer[]) AS last_role,
    unnest(@token_expires_ats::timestamptz[]) AS token_expires_at) t
RETURNING hash, expires_at;

-- RedeemTickets uses tickets up. One that another statement is about to delete is as good as used: waiting for it could only end
-- in the same answer, or in a deadlock of two replicas that were shown the same tickets.
-- name: RedeemTickets :many
WITH good AS (
    SELECT hash FROM stream_tickets WHERE hash = ANY (@hashes::bytea[]) AND expires_at > clock_timestamp() FOR UPDATE SKIP LOCKED
)
DELETE FROM stream_tickets t USING good WHERE t.hash = good.hash
RETURNING t.hash, t.agent_id, t.subject, t.name, t.roles, t.token_expires_at;

-- name: PruneTickets :execrows
DELETE FROM stream_tickets WHERE hash = ANY (ARRAY(
    SELECT t.hash FROM stream_tickets t WHERE t.expires_at < clock_timestamp() LIMIT @max_rows FOR UPDATE SKIP LOCKED));
