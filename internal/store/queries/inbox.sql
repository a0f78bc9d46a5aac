-- AppendCommands returns the ids in the order of the commands.
-- name: AppendCommands :many
INSERT INTO inbox (kind, payload, sent_by, request_id)
SELECT c.kind, c.payload, c.sent_by, c.request_id
FROM (SELECT unnest(@ns::integer[]) AS n, unnest(@kinds::text[]) AS kind, unnest(@payloads::json[]) AS payload,
    unnest(@sent_bys::text[]) AS sent_by, unnest(@request_ids::text[]) AS request_id) c
ORDER BY c.n
RETURNING command_id;

-- name: PendingCommands :many
SELECT command_id, kind, payload, sent_by, request_id, created_at, clock_timestamp()::timestamptz AS read_at
FROM inbox WHERE done_at IS NULL AND command_id > @after_id ORDER BY command_id LIMIT @max_rows;

-- name: CommandResult :one
SELECT result, done_at FROM inbox WHERE command_id = @command_id;

-- name: PruneCommands :execrows
DELETE FROM inbox WHERE command_id = ANY (ARRAY(
    SELECT i.command_id FROM inbox i WHERE i.done_at < clock_timestamp() - @older_than::interval LIMIT @max_rows));
