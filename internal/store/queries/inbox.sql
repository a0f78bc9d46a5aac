-- name: AppendCommand :one
INSERT INTO inbox (kind, payload, sent_by, request_id) VALUES (@kind, @payload, @sent_by, @request_id) RETURNING command_id;

-- name: PendingCommands :many
SELECT command_id, kind, payload, sent_by, request_id, created_at
FROM inbox WHERE done_at IS NULL AND command_id > @after_id ORDER BY command_id LIMIT @max_rows;

-- name: CommandResult :one
SELECT result, done_at FROM inbox WHERE command_id = @command_id;

-- name: PruneCommands :execrows
DELETE FROM inbox WHERE done_at < clock_timestamp() - @older_than::interval;
