-- Lists are paged by key: a page begins after the last row of the one before, whatever was added meanwhile. Empty filters match
-- everything.

-- name: Agents :many
SELECT a.agent_id, a.username, a.failover_group, a.tdg_id, a.active_region, a.region_source, a.observed_at, a.state,
    a.next_region, a.failover_id, a.standby, a.errors,
    (SELECT count(*) FROM contacts c WHERE c.agent_id = a.agent_id AND c.surfaced) AS open_contacts,
    (SELECT count(*) FROM connections n JOIN replicas r USING (replica)
     WHERE n.agent_id = a.agent_id AND r.heartbeat_at > clock_timestamp() - @alive::interval) AS connections
FROM agents a
WHERE a.agent_id > @after_id
  AND (@failover_group::text = '' OR a.failover_group = @failover_group)
  AND (@failover_groups::text[] IS NULL OR a.failover_group = ANY (@failover_groups))
  AND (@tdg_id::text = '' OR a.tdg_id = @tdg_id)
  AND (@active_region::text = '' OR a.active_region = @active_region)
  AND (@state::text = '' OR a.state = @state)
  -- Those who fail over are found by their open failovers: an index by state would have every row of a shift written to all indexes.
  AND (@state NOT IN ('detected', 'pending')
    OR a.agent_id IN (SELECT f.agent_id FROM failovers f WHERE f.status IN ('detected', 'pending')))
  AND (@agent_id::text = '' OR a.agent_id = @agent_id)
  AND (@username::text = '' OR a.username = @username)
  AND (@search::text = '' OR starts_with(lower(a.username), lower(@search)) OR starts_with(a.agent_id, lower(@search)))
ORDER BY a.agent_id LIMIT @max_rows;

-- AgentsByName is Agents by user name; whose name is not known comes first. A page is a sort of all that match.
-- name: AgentsByName :many
SELECT a.agent_id, a.username, a.failover_group, a.tdg_id, a.active_region, a.region_source, a.observed_at, a.state,
    a.next_region, a.failover_id, a.standby, a.errors,
    (SELECT count(*) FROM contacts c WHERE c.agent_id = a.agent_id AND c.surfaced) AS open_contacts,
    (SELECT count(*) FROM connections n JOIN replicas r USING (replica)
     WHERE n.agent_id = a.agent_id AND r.heartbeat_at > clock_timestamp() - @alive::interval) AS connections,
    lower(a.username)::text AS by_name
FROM agents a
WHERE (lower(a.username), a.agent_id) > (@after_name::text, @after_id::text)
  AND (@failover_group::text = '' OR a.failover_group = @failover_group)
  AND (@failover_groups::text[] IS NULL OR a.failover_group = ANY (@failover_groups))
  AND (@tdg_id::text = '' OR a.tdg_id = @tdg_id)
  AND (@active_region::text = '' OR a.active_region = @active_region)
  AND (@state::text = '' OR a.state = @state)
  AND (@search::text = '' OR starts_with(lower(a.username), lower(@search)) OR starts_with(a.agent_id, lower(@search)))
ORDER BY lower(a.username), a.agent_id LIMIT @max_rows;

-- AgentByAlias reads all agents unless it is told whose alias it may be: it is asked for ids that nobody knows otherwise, which are
-- few and remembered.
-- name: AgentByAlias :one
SELECT a.agent_id FROM agents a
WHERE (@agent_id::text = '' OR a.agent_id = @agent_id) AND a.memory -> 'aliases' IS NOT NULL
  AND EXISTS (SELECT 1 FROM jsonb_each_text(a.memory -> 'aliases') alias WHERE alias.value = @alias::text)
ORDER BY a.agent_id LIMIT 1;

-- name: Contacts :many
SELECT agent_id, list_region, contact_id, region, channel, state, state_since, observed_at, stale_since, blocking, surfaced,
    memory
FROM contacts WHERE agent_id = @agent_id ORDER BY contact_id, list_region;

-- name: Failovers :many
SELECT f.failover_id, f.agent_id, f.failover_group, f.tdg_id, f.from_region, f.to_region, f.status, f.cause, f.evidence,
    f.detected_at, f.pending_at, f.completed_at, f.cancelled_at, f.confirmed_at, f.stalled_at, f.stale_since, f.forced,
    f.forced_by, f.forced_reason, f.contact_ids, f.initial_contact_ids, f.memory
FROM failovers f
WHERE (f.detected_at, f.failover_id) < (@before_at::timestamptz, @before_id::text)
  AND (@failover_group::text = '' OR f.failover_group = @failover_group)
  AND (@tdg_id::text = '' OR f.tdg_id = @tdg_id)
  AND (@agent_id::text = '' OR f.agent_id = @agent_id)
  AND (@status::text = '' OR f.status = @status)
  AND (@from_region::text = '' OR f.from_region = @from_region)
  AND (@to_region::text = '' OR f.to_region = @to_region)
  AND f.detected_at >= @since::timestamptz AND f.detected_at < @until::timestamptz
ORDER BY f.detected_at DESC, f.failover_id DESC LIMIT @max_rows;

-- OpenFailovers lists what is not over, by how long it waits or by the agents' names. There are never more than agents, and a page is a sort of them.
-- name: OpenFailovers :many
WITH open AS (
    SELECT f.failover_id, f.agent_id, coalesce(a.username, '') AS username, f.failover_group, f.tdg_id, f.from_region, f.to_region, f.status,
        f.detected_at, f.pending_at, f.stale_since, f.contact_ids,
        CASE @sort_by::text WHEN 'username' THEN lower(coalesce(a.username, '')) ELSE '' END AS by_name,
        CASE @sort_by WHEN 'username' THEN 0 ELSE (CASE @sort_by WHEN 'shortest' THEN -1 ELSE 1 END * extract(epoch FROM coalesce(f.pending_at, f.detected_at)) * 1e6) END::bigint AS by_time
    FROM failovers f LEFT JOIN agents a ON a.agent_id = f.agent_id
    WHERE f.status IN ('detected', 'pending')
      AND (@failover_group::text = '' OR f.failover_group = @failover_group)
      AND (@tdg_id::text = '' OR f.tdg_id = @tdg_id)
      AND (@status::text = '' OR f.status = @status)
      AND (@from_region::text = '' OR f.from_region = @from_region)
      AND (@stale::text = '' OR (f.stale_since IS NOT NULL) = (@stale = 'true'))
      AND (@channel::text = '' OR EXISTS (SELECT 1 FROM contacts c WHERE c.agent_id = f.agent_id AND jsonb_exists(f.contact_ids, c.contact_id) AND c.channel = @channel))
      AND (@phase::text = '' OR f.status = 'pending' AND (@phase = 'talking') =
        EXISTS (SELECT 1 FROM contacts c WHERE c.agent_id = f.agent_id AND jsonb_exists(f.contact_ids, c.contact_id) AND c.state <> 'ENDED')))
SELECT o.failover_id, o.agent_id, o.username, o.failover_group, o.tdg_id, o.from_region, o.to_region, o.status, o.detected_at, o.pending_at, o.stale_since,
    o.by_name::text AS by_name, o.by_time::bigint AS by_time,
    coalesce((SELECT jsonb_agg(jsonb_build_object('id', c.contact_id, 'channel', c.channel, 'state', c.state, 'since', c.state_since) ORDER BY c.contact_id)
        FROM (SELECT DISTINCT ON (k.contact_id) k.contact_id, k.channel, k.state, k.state_since FROM contacts k
            WHERE k.agent_id = o.agent_id AND jsonb_exists(o.contact_ids, k.contact_id) ORDER BY k.contact_id, k.observed_at DESC) c), '[]')::jsonb AS contacts
FROM open o
WHERE (o.by_name, o.by_time, o.failover_id) > (@after_name::text, @after_time::bigint, @after_id::text)
ORDER BY o.by_name, o.by_time, o.failover_id LIMIT @max_rows;

-- OpenFailoverTotals sums up what OpenFailovers lists. The contacts are joined as a whole: for a floor that waits, one look for each would cost a multiple.
-- name: OpenFailoverTotals :one
WITH open AS (
    SELECT f.failover_id, f.agent_id, f.status, f.contact_ids
    FROM failovers f
    WHERE f.status IN ('detected', 'pending')
      AND (@failover_group::text = '' OR f.failover_group = @failover_group)
      AND (@tdg_id::text = '' OR f.tdg_id = @tdg_id)
      AND (@status::text = '' OR f.status = @status)
      AND (@from_region::text = '' OR f.from_region = @from_region)
      AND (@stale::text = '' OR (f.stale_since IS NOT NULL) = (@stale = 'true'))),
holding AS (
    SELECT DISTINCT ON (o.failover_id, k.contact_id) o.failover_id, k.channel, k.state
    FROM open o JOIN contacts k ON k.agent_id = o.agent_id
    WHERE jsonb_exists(o.contact_ids, k.contact_id) ORDER BY o.failover_id, k.contact_id, k.observed_at DESC),
held AS (
    SELECT failover_id, count(*) FILTER (WHERE state <> 'ENDED') AS live, count(*) FILTER (WHERE state = 'ENDED') AS ended,
        count(*) FILTER (WHERE channel = @channel::text) AS of_channel
    FROM holding GROUP BY failover_id)
SELECT count(*) AS failovers, count(*) FILTER (WHERE o.status = 'pending') AS pending, coalesce(sum(h.live), 0)::bigint AS live, coalesce(sum(h.ended), 0)::bigint AS ended
FROM open o LEFT JOIN held h ON h.failover_id = o.failover_id
WHERE (@channel = '' OR h.of_channel > 0)
  AND (@phase::text = '' OR o.status = 'pending' AND (@phase = 'talking') = (coalesce(h.live, 0) > 0));

-- name: Failover :one
SELECT f.failover_id, f.agent_id, f.failover_group, f.tdg_id, f.from_region, f.to_region, f.status, f.cause, f.evidence,
    f.detected_at, f.pending_at, f.completed_at, f.cancelled_at, f.confirmed_at, f.stalled_at, f.stale_since, f.forced,
    f.forced_by, f.forced_reason, f.contact_ids, f.initial_contact_ids, f.memory
FROM failovers f WHERE f.failover_id = @failover_id;

-- name: TDGs :many
SELECT tdg_id, failover_group, arn, name, status, is_default, observed_at, telephony, agents, sign_in, setup, memory
FROM traffic_distribution_groups
WHERE tdg_id > @after_id AND (@tdg_id::text = '' OR tdg_id = @tdg_id)
  AND (@failover_groups::text[] IS NULL OR failover_group = ANY (@failover_groups))
ORDER BY tdg_id LIMIT @max_rows;

-- name: Changes :many
SELECT change_id, tdg_id, failover_group, before, after, observed_at, observed_by, conflict
FROM distribution_changes WHERE tdg_id = @tdg_id AND change_id < @before_id
ORDER BY change_id DESC LIMIT @max_rows;

-- name: CountAgents :many
SELECT failover_group, state, active_region, count(*) AS agents
FROM agents GROUP BY failover_group, state, active_region ORDER BY failover_group, state, active_region;

-- name: OldestPending :many
SELECT failover_group, min(pending_at)::timestamptz AS pending_at,
    count(*) FILTER (WHERE stale_since IS NOT NULL) AS stale
FROM failovers WHERE status = 'pending' GROUP BY failover_group ORDER BY failover_group;

-- HeldFailovers counts the open failovers that no contact holds any more, as far as is known.
-- name: HeldFailovers :many
SELECT failover_group, count(*) AS held FROM failovers
WHERE status IN ('detected', 'pending') AND memory ? 'clearedAt' GROUP BY failover_group;

-- CurrentShifts finds, for each traffic distribution group, the last change of its agents' distribution, and counts what
-- became of the failovers since.
-- name: CurrentShifts :many
SELECT s.shift_id::bigint AS shift_id, s.tdg_id, s.failover_group, s.after, s.observed_at,
    count(f.failover_id) AS failovers,
    count(*) FILTER (WHERE f.status = 'detected') AS detected,
    count(*) FILTER (WHERE f.status = 'pending') AS pending,
    count(*) FILTER (WHERE f.status = 'completed') AS completed,
    count(*) FILTER (WHERE f.status = 'cancelled') AS cancelled,
    count(*) FILTER (WHERE f.forced) AS forced,
    count(*) FILTER (WHERE f.stalled_at IS NOT NULL AND f.confirmed_at IS NULL) AS stalled
FROM traffic_distribution_groups t
CROSS JOIN LATERAL (
    SELECT CASE WHEN c.before -> 'agents' <> 'null' THEN c.change_id ELSE 0 END AS shift_id, c.tdg_id, c.failover_group, c.after, c.observed_at FROM distribution_changes c
    WHERE c.tdg_id = t.tdg_id AND c.before -> 'agents' IS DISTINCT FROM c.after -> 'agents'
    ORDER BY c.change_id DESC LIMIT 1) s
LEFT JOIN failovers f ON f.tdg_id = s.tdg_id AND f.detected_at >= s.observed_at
GROUP BY s.shift_id, s.tdg_id, s.failover_group, s.after, s.observed_at
ORDER BY s.failover_group, s.tdg_id;

-- Shifts are the changes of where agents work, and what became of the failovers until the next one of the same group.
-- name: Shifts :many
SELECT c.change_id, c.tdg_id, c.failover_group, c.before, c.after, c.observed_at, c.observed_by, c.conflict, n.ended_at::timestamptz AS ended_at,
    s.failovers, s.detected, s.pending, s.completed, s.cancelled, s.forced, s.stalled
FROM distribution_changes c
CROSS JOIN LATERAL (
    SELECT min(x.observed_at) AS ended_at FROM distribution_changes x
    WHERE x.tdg_id = c.tdg_id AND x.change_id > c.change_id AND x.before -> 'agents' IS DISTINCT FROM x.after -> 'agents') n
CROSS JOIN LATERAL (
    SELECT count(*) AS failovers,
        count(*) FILTER (WHERE f.status = 'detected') AS detected,
        count(*) FILTER (WHERE f.status = 'pending') AS pending,
        count(*) FILTER (WHERE f.status = 'completed') AS completed,
        count(*) FILTER (WHERE f.status = 'cancelled') AS cancelled,
        count(*) FILTER (WHERE f.forced) AS forced,
        count(*) FILTER (WHERE f.stalled_at IS NOT NULL AND f.confirmed_at IS NULL) AS stalled
    FROM failovers f
    WHERE f.tdg_id = c.tdg_id AND f.detected_at >= c.observed_at AND f.detected_at < coalesce(n.ended_at, 'infinity')) s
WHERE c.change_id < @before_id
  AND (@change_id::bigint = 0 OR c.change_id = @change_id)
  AND (@failover_group::text = '' OR c.failover_group = @failover_group)
  AND (@tdg_id::text = '' OR c.tdg_id = @tdg_id)
  AND c.before -> 'agents' <> 'null' AND c.before -> 'agents' IS DISTINCT FROM c.after -> 'agents'
ORDER BY c.change_id DESC LIMIT @max_rows;

-- ShiftPhases tells how many failovers of a shift have a phase behind them, and its median, 95th percentile and maximum in seconds.
-- name: ShiftPhases :many
WITH took AS (
    SELECT p.phase, p.ord, extract(epoch FROM p.took)::float8 AS seconds
    FROM failovers f
    CROSS JOIN LATERAL (
        SELECT 'detection'::text AS phase, 1 AS ord, f.detected_at - (f.memory ->> 'lastOldAt')::timestamptz AS took
        UNION ALL SELECT 'release', 2, CASE WHEN f.pending_at IS NULL THEN f.completed_at - f.detected_at END
        UNION ALL SELECT 'pending', 3, f.completed_at - f.pending_at
        UNION ALL SELECT 'total', 4, f.completed_at - f.detected_at
        UNION ALL SELECT 'confirmation', 5, f.confirmed_at - f.completed_at) p
    WHERE f.tdg_id = @tdg_id AND f.detected_at >= @since::timestamptz AND f.detected_at < @until::timestamptz AND p.took IS NOT NULL)
SELECT phase::text AS phase, count(*) AS failovers, (percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds))::float8 AS p50,
    (percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds))::float8 AS p95, max(seconds)::float8 AS longest
FROM took GROUP BY phase, ord ORDER BY ord;

-- ShiftLastMove tells when something last became of a shift, and the time by the database's clock.
-- name: ShiftLastMove :one
SELECT coalesce(max(greatest(f.detected_at, f.pending_at, f.completed_at, f.cancelled_at)), @since::timestamptz)::timestamptz AS last_move, clock_timestamp()::timestamptz AS now
FROM failovers f WHERE f.tdg_id = @tdg_id AND f.detected_at >= @since AND f.detected_at < @until::timestamptz;

-- ShiftMoves counts what happened in each step of so many seconds.
-- name: ShiftMoves :many
SELECT floor(extract(epoch FROM m.at - @since::timestamptz) / @step::float8)::int AS step, sum(m.detected)::bigint AS detected, sum(m.pending)::bigint AS pending,
    sum(m.completed)::bigint AS completed, sum(m.cancelled)::bigint AS cancelled
FROM failovers f
CROSS JOIN LATERAL (VALUES
    (f.detected_at, 1, 0, 0, 0), (f.pending_at, 0, 1, 0, 0),
    (f.completed_at, 0, CASE WHEN f.pending_at IS NULL THEN 0 ELSE -1 END, 1, 0),
    (f.cancelled_at, 0, CASE WHEN f.pending_at IS NULL THEN 0 ELSE -1 END, 0, 1)) m(at, detected, pending, completed, cancelled)
WHERE f.tdg_id = @tdg_id AND f.detected_at >= @since AND f.detected_at < @until::timestamptz AND m.at IS NOT NULL
GROUP BY 1 ORDER BY 1;

-- name: ShiftEvidence :many
SELECT evidence, count(*) AS failovers FROM failovers
WHERE tdg_id = @tdg_id AND detected_at >= @since::timestamptz AND detected_at < @until::timestamptz AND status = 'completed'
GROUP BY evidence ORDER BY evidence;

-- name: ShiftForcedBy :many
SELECT forced_by, count(*) AS failovers FROM failovers
WHERE tdg_id = @tdg_id AND detected_at >= @since::timestamptz AND detected_at < @until::timestamptz AND forced AND status = 'completed'
GROUP BY forced_by ORDER BY count(*) DESC, forced_by LIMIT 1000;
