-- The first schema. Ids and names are compared byte by byte (COLLATE "C"): paging then sorts as Go does, and a new
-- version of the operating system's collations cannot corrupt an index. Empty text means "none"; a null time too.
-- There are no foreign keys: one writer keeps the tables consistent in one transaction, and a check for each row of a
-- fleet would cost more than writing it.

-- +goose Up

-- The lease of the one leader. A row, because a session's advisory lock can be lost silently.
CREATE TABLE leases (
    name        text COLLATE "C" PRIMARY KEY,
    holder      text NOT NULL DEFAULT '',
    epoch       bigint NOT NULL DEFAULT 0,
    acquired_at timestamptz,
    expires_at  timestamptz NOT NULL DEFAULT '-infinity',
    -- The epoch is part of a key so that PostgreSQL tells a new term (changes a key) from a renewal (does not): commits
    -- lock the row FOR KEY SHARE, which a takeover has to wait for and a renewal has not.
    UNIQUE (name, epoch)
);
INSERT INTO leases (name) VALUES ('leader');

-- The head of the event log; one row.
CREATE TABLE event_log (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    log_id     text NOT NULL,               -- tells this log from every other one
    epoch      bigint NOT NULL DEFAULT 0,   -- of the last event
    seq        bigint NOT NULL DEFAULT 0,   -- of the last event; counts without gaps from 1
    oldest_seq bigint NOT NULL DEFAULT 1    -- of the first event that retention has left
);
INSERT INTO event_log (log_id) VALUES (left(replace(gen_random_uuid()::text, '-', ''), 12));

-- Which epoch an event belongs to: from first_seq to the one before the next term's. Terms without events are not here.
CREATE TABLE terms (
    epoch     bigint PRIMARY KEY,
    first_seq bigint NOT NULL
);

-- Events by the day (UTC, the database's clock) of their commit, so that days and sequence numbers rise together and retention
-- drops whole partitions from the beginning.
CREATE TABLE events (
    seq            bigint NOT NULL,
    epoch          bigint NOT NULL,
    day            date NOT NULL,
    committed_at   timestamptz NOT NULL,
    time           timestamptz NOT NULL,
    type           text NOT NULL,
    agent_id       text COLLATE "C" NOT NULL,
    failover_group text COLLATE "C" NOT NULL,
    failover_id    text COLLATE "C" NOT NULL,
    data           json NOT NULL, -- json, not jsonb: what is sent is what was written, byte by byte
    PRIMARY KEY (seq, day)        -- serves the tail: seq > ? ORDER BY seq
) PARTITION BY RANGE (day);
-- Serves one agent's history: agent_id = ? AND seq > ? ORDER BY seq.
CREATE INDEX events_by_agent ON events (agent_id, seq);
-- Takes the events of days that nobody made a partition for, so that no commit fails for want of one.
CREATE TABLE events_default PARTITION OF events DEFAULT;

-- Makes the partitions of today and the days ahead, and drops those whose events are all older than the retention. It belongs to
-- the owner of the tables and runs as such: the service's own role need not own them. Returns how many it made and dropped.
-- +goose StatementBegin
CREATE FUNCTION maintain_event_partitions(retention interval, ahead integer, OUT created integer, OUT dropped integer)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    today     date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    cutoff    date := ((clock_timestamp() - retention) AT TIME ZONE 'UTC')::date; -- earlier days are over
    part      record;
    last_seq  bigint;
BEGIN
    created := 0;
    dropped := 0;
    -- The head of the log first, as commits do: whoever locks it and the events in another order waits for ever.
    PERFORM 1 FROM event_log FOR UPDATE;
    FOR part IN SELECT d::date AS day, 'events_' || to_char(d, 'YYYYMMDD') AS name
                FROM generate_series(today, today + ahead, interval '1 day') d
    LOOP
        -- A day that began in the default partition stays there.
        CONTINUE WHEN to_regclass(quote_ident(part.name)) IS NOT NULL
            OR EXISTS (SELECT 1 FROM events_default e WHERE e.day = part.day);
        -- Made apart and attached: CREATE TABLE … PARTITION OF would keep readers out meanwhile.
        EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING DEFAULTS)', part.name);
        EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', part.name, part.day, part.day + 1);
        created := created + 1;
    END LOOP;
    FOR part IN SELECT c.oid::regclass AS name
                FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'events'::regclass AND c.relname ~ '^events_[0-9]{8}$'
                  AND to_date(right(c.relname, 8), 'YYYYMMDD') < cutoff
                ORDER BY c.relname
    LOOP
        EXECUTE format('SELECT max(seq) FROM %s', part.name) INTO last_seq;
        EXECUTE format('DROP TABLE %s', part.name);
        UPDATE event_log SET oldest_seq = greatest(oldest_seq, last_seq + 1);
        dropped := dropped + 1;
    END LOOP;
    WITH gone AS (DELETE FROM events_default e WHERE e.day < cutoff RETURNING e.seq)
    SELECT max(seq) INTO last_seq FROM gone;
    UPDATE event_log SET oldest_seq = greatest(oldest_seq, last_seq + 1) WHERE last_seq IS NOT NULL;
    DELETE FROM terms t USING event_log l
    WHERE EXISTS (SELECT 1 FROM terms later WHERE later.epoch > t.epoch AND later.first_seq <= l.oldest_seq);
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION maintain_event_partitions FROM PUBLIC;
SELECT maintain_event_partitions(interval '1 day', 3);

CREATE TABLE failover_groups (
    name  text COLLATE "C" PRIMARY KEY,
    state jsonb NOT NULL -- read whole, by name alone
);

CREATE TABLE traffic_distribution_groups (
    tdg_id         text COLLATE "C" PRIMARY KEY,
    failover_group text COLLATE "C" NOT NULL,
    arn            text NOT NULL,
    name           text NOT NULL,
    status         text NOT NULL,
    is_default     boolean NOT NULL,
    observed_at    timestamptz,
    telephony      jsonb NOT NULL,
    agents         jsonb NOT NULL,
    sign_in        jsonb NOT NULL,
    setup          jsonb NOT NULL, -- set-up errors
    memory         jsonb NOT NULL  -- what only the rules need
);

CREATE TABLE distribution_changes (
    change_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tdg_id         text COLLATE "C" NOT NULL,
    failover_group text COLLATE "C" NOT NULL,
    before         jsonb NOT NULL,
    after          jsonb NOT NULL,
    observed_at    timestamptz NOT NULL,
    observed_by    text NOT NULL,
    conflict       boolean NOT NULL
);
-- Serves the changes of a group, newest first, and the last one of each for the summary.
CREATE INDEX distribution_changes_by_tdg ON distribution_changes (tdg_id, change_id DESC);

-- Rows are rewritten all the time, in a shift all at once. With room for a second version beside each, and no index on what changes then,
-- PostgreSQL does it without touching an index.
CREATE TABLE agents (
    agent_id         text COLLATE "C" PRIMARY KEY, -- serves the lists too: agent_id > ? ORDER BY agent_id
    username         text COLLATE "C" NOT NULL,
    failover_group   text COLLATE "C" NOT NULL,
    tdg_id           text COLLATE "C" NOT NULL,
    routing_profile  text NOT NULL,
    active_region    text NOT NULL,
    region_source    text NOT NULL,
    observed_at      timestamptz,
    state            text NOT NULL,
    next_region      text NOT NULL,             -- of the open failover
    failover_id      text COLLATE "C" NOT NULL, -- the open one
    last_failover_id text COLLATE "C" NOT NULL, -- the completed one that waits for its confirmation
    streaming        boolean NOT NULL,
    standby          jsonb,
    errors           jsonb NOT NULL, -- set-up errors
    memory           jsonb NOT NULL  -- what only the rules need
) WITH (fillfactor = 50);
-- Serves the agents of a traffic distribution group, in order of their ids.
CREATE INDEX agents_by_tdg ON agents (tdg_id, agent_id);
-- Serves an agent by name.
CREATE INDEX agents_by_username ON agents (username);

-- The contact lists of the agents, one for each Region that has been read.
CREATE TABLE contacts (
    agent_id    text COLLATE "C" NOT NULL,
    list_region text COLLATE "C" NOT NULL, -- whose list it is in; empty: the one list of global routing
    contact_id  text COLLATE "C" NOT NULL,
    region      text NOT NULL,
    channel     text NOT NULL,
    state       text NOT NULL,
    state_since timestamptz,
    observed_at timestamptz,
    stale_since timestamptz,
    blocking    boolean NOT NULL,
    surfaced    boolean NOT NULL,
    memory      jsonb NOT NULL,
    PRIMARY KEY (agent_id, list_region, contact_id) -- serves an agent's contacts and their replacement
) WITH (fillfactor = 80);

CREATE TABLE failovers (
    failover_id         text COLLATE "C" PRIMARY KEY,
    agent_id            text COLLATE "C" NOT NULL,
    failover_group      text COLLATE "C" NOT NULL,
    tdg_id              text COLLATE "C" NOT NULL,
    from_region         text NOT NULL,
    to_region           text NOT NULL,
    status              text NOT NULL,
    cause               text NOT NULL,
    evidence            text NOT NULL,
    detected_at         timestamptz NOT NULL,
    pending_at          timestamptz,
    completed_at        timestamptz,
    cancelled_at        timestamptz,
    confirmed_at        timestamptz,
    stalled_at          timestamptz,
    stale_since         timestamptz,
    forced              boolean NOT NULL,
    forced_by           text NOT NULL,
    forced_reason       text NOT NULL,
    contact_ids         jsonb NOT NULL,
    initial_contact_ids jsonb NOT NULL,
    memory              jsonb NOT NULL -- what only the rules need
) WITH (fillfactor = 80);
-- Serves the list, newest first, with and without since.
CREATE INDEX failovers_by_time ON failovers (detected_at DESC, failover_id DESC);
-- Serves the list of an agent.
CREATE INDEX failovers_by_agent ON failovers (agent_id, detected_at DESC, failover_id DESC);
-- Serves the list of a traffic distribution group and the progress of its current shift.
CREATE INDEX failovers_by_tdg ON failovers (tdg_id, detected_at DESC, failover_id DESC);
-- Serves the open ones: list by status, oldest pending.
CREATE INDEX failovers_open ON failovers (detected_at DESC, failover_id DESC) WHERE status IN ('detected', 'pending');

-- What any replica asks of the leader: desktops' reports, force.
CREATE TABLE inbox (
    command_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- serves the wait for one command's result
    kind       text NOT NULL,
    payload    json NOT NULL, -- json takes every escape that a desktop may send, jsonb refuses some
    sent_by    text NOT NULL,
    request_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    result     jsonb,
    done_at    timestamptz
);
-- Serves the leader: what is not done, in order.
CREATE INDEX inbox_pending ON inbox (command_id) WHERE done_at IS NULL;
-- Serves the removal of what was done long ago.
CREATE INDEX inbox_done ON inbox (done_at) WHERE done_at IS NOT NULL;

CREATE TABLE audit (
    audit_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- serves the list, newest first
    at         timestamptz NOT NULL DEFAULT now(),
    subject    text NOT NULL,
    roles      text[] NOT NULL,
    action     text NOT NULL,
    target     text NOT NULL,
    reason     text NOT NULL,
    request_id text NOT NULL,
    outcome    text NOT NULL,
    details    json
);
-- Nobody changes what was written, the owner of the table by mistake included.
-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Replicas and the event streams that they serve. A replica that is silent for a minute counts for nothing.
CREATE TABLE replicas (
    replica      text COLLATE "C" PRIMARY KEY,
    heartbeat_at timestamptz NOT NULL
);
CREATE TABLE connections (
    connection_id  text COLLATE "C" PRIMARY KEY, -- serves the list
    replica        text COLLATE "C" NOT NULL,
    agent_id       text COLLATE "C" NOT NULL,    -- empty: a stream of all agents
    since          timestamptz NOT NULL,
    last_event_id  text NOT NULL,
    remote_address text NOT NULL
);
-- Serves the connections of an agent, and their number.
CREATE INDEX connections_by_agent ON connections (agent_id, connection_id);
-- Serves the removal of a replica's connections.
CREATE INDEX connections_by_replica ON connections (replica);

-- Answers to requests with an Idempotency-Key.
CREATE TABLE idempotency_keys (
    scope        text COLLATE "C" NOT NULL, -- the caller, so that nobody reads another's answer
    key          text COLLATE "C" NOT NULL,
    body_hash    bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    status       integer, -- null: the first request is still at work
    content_type text NOT NULL DEFAULT '',
    body         bytea,
    PRIMARY KEY (scope, key)
);
-- Serves the removal of old keys.
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE TABLE region_health (
    failover_group text COLLATE "C" NOT NULL,
    region         text COLLATE "C" NOT NULL,
    state          text NOT NULL,
    since          timestamptz,
    last_success   timestamptz,
    last_error     text NOT NULL,
    last_error_at  timestamptz,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (failover_group, region)
);
