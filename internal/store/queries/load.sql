-- name: LoadGroups :many
SELECT name, state FROM failover_groups ORDER BY name;

-- name: LoadAgents :many
SELECT agent_id, username, failover_group, tdg_id, routing_profile, active_region, region_source, observed_at,
    failover_id, last_failover_id, streaming, standby, errors, memory
FROM agents ORDER BY agent_id;

-- name: LoadContacts :many
SELECT agent_id, list_region, contact_id, region, channel, state, state_since, observed_at, stale_since, blocking, surfaced,
    memory
FROM contacts ORDER BY agent_id, list_region, contact_id;

-- LoadFailovers returns those that agents hold: the open ones and those that wait for their confirmation.
-- name: LoadFailovers :many
SELECT f.failover_id, f.agent_id, f.failover_group, f.tdg_id, f.from_region, f.to_region, f.status, f.cause, f.evidence,
    f.detected_at, f.pending_at, f.completed_at, f.cancelled_at, f.confirmed_at, f.stalled_at, f.stale_since, f.forced,
    f.forced_by, f.forced_reason, f.contact_ids, f.initial_contact_ids, f.memory
FROM failovers f
WHERE f.failover_id IN (
    SELECT a.failover_id FROM agents a WHERE a.failover_id <> ''
    UNION ALL
    SELECT a.last_failover_id FROM agents a WHERE a.last_failover_id <> '');

-- name: AgentViews :many
SELECT a.agent_id, a.username, a.failover_group, a.tdg_id, a.active_region, a.state, a.next_region, a.failover_id, a.errors,
    coalesce(f.contact_ids, '[]')::jsonb AS contact_ids
FROM agents a LEFT JOIN failovers f ON f.failover_id = a.failover_id AND a.failover_id <> ''
ORDER BY a.agent_id;
