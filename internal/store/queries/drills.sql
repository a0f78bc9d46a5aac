-- name: UpsertDrills :exec
INSERT INTO drills (drill_id, failover_group, started_at, ended_at, report)
SELECT unnest(@drill_ids::text[]), unnest(@failover_groups::text[]), unnest(@started_ats::timestamptz[]), unnest(@ended_ats::timestamptz[]),
    unnest(@reports::jsonb[])
ON CONFLICT (drill_id) DO UPDATE SET ended_at = excluded.ended_at, report = excluded.report;

-- name: RunningDrills :many
SELECT drill_id, failover_group, started_at, ended_at, report FROM drills WHERE ended_at IS NULL ORDER BY drill_id;

-- name: Drills :many
SELECT drill_id, failover_group, started_at, ended_at, report FROM drills
WHERE drill_id < @before_id AND (@failover_group::text = '' OR failover_group = @failover_group) AND (@drill_id::text = '' OR drill_id = @drill_id)
ORDER BY drill_id DESC LIMIT @max_rows;
