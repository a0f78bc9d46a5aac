-- Every statement takes arrays, one element for each row: the number of statements of a commit does not depend on the number
-- of agents. Null times are zero times.

-- name: UpsertAgents :exec
INSERT INTO agents (agent_id, username, failover_group, tdg_id, routing_profile, active_region, region_source, observed_at,
    state, next_region, failover_id, last_failover_id, streaming, standby, errors, memory)
SELECT unnest(@agent_ids::text[]), unnest(@usernames::text[]), unnest(@failover_groups::text[]), unnest(@tdg_ids::text[]),
    unnest(@routing_profiles::text[]), unnest(@active_regions::text[]), unnest(@region_sources::text[]),
    unnest(@observed_ats::timestamptz[]), unnest(@states::text[]), unnest(@next_regions::text[]), unnest(@failover_ids::text[]),
    unnest(@last_failover_ids::text[]), unnest(@streamings::boolean[]), unnest(@standbys::jsonb[]), unnest(@errors::jsonb[]),
    unnest(@memories::jsonb[])
ON CONFLICT (agent_id) DO UPDATE SET
    username = excluded.username, failover_group = excluded.failover_group, tdg_id = excluded.tdg_id,
    routing_profile = excluded.routing_profile, active_region = excluded.active_region,
    region_source = excluded.region_source, observed_at = excluded.observed_at, state = excluded.state,
    next_region = excluded.next_region, failover_id = excluded.failover_id, last_failover_id = excluded.last_failover_id,
    streaming = excluded.streaming, standby = excluded.standby, errors = excluded.errors, memory = excluded.memory;

-- name: DeleteAgents :exec
DELETE FROM agents WHERE agent_id = ANY (@agent_ids::text[]);

-- name: DeleteContactsOf :exec
DELETE FROM contacts WHERE agent_id = ANY (@agent_ids::text[]);

-- DeleteContactsExcept removes the agents' contacts that are not among the given ones.
-- name: DeleteContactsExcept :exec
DELETE FROM contacts c
WHERE c.agent_id = ANY (@agent_ids::text[])
  AND NOT EXISTS (
    SELECT 1
    FROM (SELECT unnest(@contact_agent_ids::text[]) AS agent_id, unnest(@list_regions::text[]) AS list_region,
        unnest(@contact_ids::text[]) AS contact_id) kept
    WHERE kept.agent_id = c.agent_id AND kept.list_region = c.list_region AND kept.contact_id = c.contact_id);

-- name: UpsertContacts :exec
INSERT INTO contacts (agent_id, list_region, contact_id, region, channel, state, state_since, observed_at, stale_since,
    blocking, surfaced, memory)
SELECT unnest(@agent_ids::text[]), unnest(@list_regions::text[]), unnest(@contact_ids::text[]), unnest(@regions::text[]),
    unnest(@channels::text[]), unnest(@states::text[]), unnest(@state_sinces::timestamptz[]),
    unnest(@observed_ats::timestamptz[]), unnest(@stale_sinces::timestamptz[]), unnest(@blockings::boolean[]),
    unnest(@surfaceds::boolean[]), unnest(@memories::jsonb[])
ON CONFLICT (agent_id, list_region, contact_id) DO UPDATE SET
    region = excluded.region, channel = excluded.channel, state = excluded.state, state_since = excluded.state_since,
    observed_at = excluded.observed_at, stale_since = excluded.stale_since, blocking = excluded.blocking,
    surfaced = excluded.surfaced, memory = excluded.memory
WHERE contacts IS DISTINCT FROM excluded;

-- InsertFailovers is for those that no commit has written before: it costs half of UpsertFailovers, which looks for each of them first.
-- name: InsertFailovers :copyfrom
INSERT INTO failovers (failover_id, agent_id, failover_group, tdg_id, from_region, to_region, status, cause, evidence,
    detected_at, pending_at, completed_at, cancelled_at, confirmed_at, stalled_at, stale_since, forced, forced_by,
    forced_reason, contact_ids, initial_contact_ids, memory)
VALUES (@failover_id, @agent_id, @failover_group, @tdg_id, @from_region, @to_region, @status, @cause, @evidence,
    @detected_at, @pending_at, @completed_at, @cancelled_at, @confirmed_at, @stalled_at, @stale_since, @forced, @forced_by,
    @forced_reason, @contact_ids, @initial_contact_ids, @memory);

-- name: UpsertFailovers :exec
INSERT INTO failovers (failover_id, agent_id, failover_group, tdg_id, from_region, to_region, status, cause, evidence,
    detected_at, pending_at, completed_at, cancelled_at, confirmed_at, stalled_at, stale_since, forced, forced_by,
    forced_reason, contact_ids, initial_contact_ids, memory)
SELECT unnest(@failover_ids::text[]), unnest(@agent_ids::text[]), unnest(@failover_groups::text[]), unnest(@tdg_ids::text[]),
    unnest(@from_regions::text[]), unnest(@to_regions::text[]), unnest(@statuses::text[]), unnest(@causes::text[]),
    unnest(@evidences::text[]), unnest(@detected_ats::timestamptz[]), unnest(@pending_ats::timestamptz[]),
    unnest(@completed_ats::timestamptz[]), unnest(@cancelled_ats::timestamptz[]), unnest(@confirmed_ats::timestamptz[]),
    unnest(@stalled_ats::timestamptz[]), unnest(@stale_sinces::timestamptz[]), unnest(@forceds::boolean[]),
    unnest(@forced_bys::text[]), unnest(@forced_reasons::text[]), unnest(@contact_ids::jsonb[]),
    unnest(@initial_contact_ids::jsonb[]), unnest(@memories::jsonb[])
ON CONFLICT (failover_id) DO UPDATE SET
    agent_id = excluded.agent_id, failover_group = excluded.failover_group, tdg_id = excluded.tdg_id,
    from_region = excluded.from_region, to_region = excluded.to_region, status = excluded.status, cause = excluded.cause,
    evidence = excluded.evidence, detected_at = excluded.detected_at, pending_at = excluded.pending_at,
    completed_at = excluded.completed_at, cancelled_at = excluded.cancelled_at, confirmed_at = excluded.confirmed_at,
    stalled_at = excluded.stalled_at, stale_since = excluded.stale_since, forced = excluded.forced,
    forced_by = excluded.forced_by, forced_reason = excluded.forced_reason, contact_ids = excluded.contact_ids,
    initial_contact_ids = excluded.initial_contact_ids, memory = excluded.memory
WHERE failovers IS DISTINCT FROM excluded;

-- name: UpsertTDGs :exec
INSERT INTO traffic_distribution_groups (tdg_id, failover_group, arn, name, status, is_default, observed_at, telephony, agents,
    sign_in, setup, memory)
SELECT unnest(@tdg_ids::text[]), unnest(@failover_groups::text[]), unnest(@arns::text[]), unnest(@names::text[]),
    unnest(@statuses::text[]), unnest(@is_defaults::boolean[]), unnest(@observed_ats::timestamptz[]),
    unnest(@telephonies::jsonb[]), unnest(@agents::jsonb[]), unnest(@sign_ins::jsonb[]), unnest(@setups::jsonb[]),
    unnest(@memories::jsonb[])
ON CONFLICT (tdg_id) DO UPDATE SET
    failover_group = excluded.failover_group, arn = excluded.arn, name = excluded.name, status = excluded.status,
    is_default = excluded.is_default, observed_at = excluded.observed_at, telephony = excluded.telephony,
    agents = excluded.agents, sign_in = excluded.sign_in, setup = excluded.setup, memory = excluded.memory;

-- name: UpsertGroups :exec
INSERT INTO failover_groups (name, state)
SELECT unnest(@names::text[]), unnest(@states::jsonb[])
ON CONFLICT (name) DO UPDATE SET state = excluded.state;

-- name: InsertChanges :exec
INSERT INTO distribution_changes (tdg_id, failover_group, before, after, observed_at, observed_by, conflict)
SELECT unnest(@tdg_ids::text[]), unnest(@failover_groups::text[]), unnest(@befores::jsonb[]), unnest(@afters::jsonb[]),
    unnest(@observed_ats::timestamptz[]), unnest(@observed_bys::text[]), unnest(@conflicts::boolean[]);

-- name: FinishCommands :exec
UPDATE inbox SET result = r.result, done_at = clock_timestamp()
FROM (SELECT unnest(@command_ids::bigint[]) AS command_id, unnest(@results::jsonb[]) AS result) r
WHERE inbox.command_id = r.command_id AND inbox.done_at IS NULL;
