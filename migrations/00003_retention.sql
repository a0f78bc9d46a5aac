-- What is old can be removed from the audit too, the schema says which programs can work on it, and there are webhooks and drills.

-- +goose Up

-- The locks below wait for whoever reads, and everybody waits behind them. Better to fail and to be tried again.
SET LOCAL lock_timeout = '5s';
-- As in migration 2: nothing that another role made comes before what the functions below find by a bare name.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- The version of the schema that a program has to know to work on this one; one row. A migration that takes away what older programs
-- need raises it (see package migrations). Programs from before this table do not look.
CREATE TABLE schema_programs (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    oldest bigint NOT NULL
);
INSERT INTO schema_programs (oldest) VALUES (1);

-- How many commits of leaders there were. A leader that finds another number than it has left knows that its database has lost some, as
-- a standby does that takes over without the last of them.
ALTER TABLE event_log ADD COLUMN commits bigint NOT NULL DEFAULT 0;

ALTER TABLE audit_head
    ADD COLUMN IF NOT EXISTS retention   interval, -- how long entries are kept; null: for ever. Nobody but the owner of the tables sets it
    ADD COLUMN IF NOT EXISTS pruned_id   bigint NOT NULL DEFAULT 0, -- the last entry that was removed, and its hash: what is left follows from it
    ADD COLUMN IF NOT EXISTS pruned_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex') CHECK (octet_length(pruned_hash) = 32);

-- Nobody changes what was written, the owner of the table by mistake included; prune_audit alone removes what is old.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('changeover.pruning', true) = 'audit' THEN
        RETURN NULL; -- who may not delete may not with this setting either
    END IF;
    RAISE EXCEPTION 'table % is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
-- +goose StatementEnd

-- Removes entries from the beginning of the chain that are older than the retention, max_rows at most, and says in the chain that it
-- did; returns how many. It runs as the owner of the tables, and takes no age from its caller, so that the service's own role can
-- remove nothing that the owner wants to keep. It begins when the first entry has been too old for a day: what it says is an
-- entry too. Entries from before the chain, which have no hash to go on from, keep everything that came after them.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION prune_audit(max_rows bigint) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    head audit_head;
    first audit;
    last audit;
    n bigint;
BEGIN
    SELECT * INTO STRICT head FROM audit_head;
    SELECT * INTO first FROM audit ORDER BY audit_id LIMIT 1;
    IF NOT FOUND OR head.retention IS NULL OR first.hash IS NULL OR first.at >= clock_timestamp() - head.retention - '1 day'::interval THEN
        RETURN 0;
    END IF;
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    SELECT a.* INTO last FROM (SELECT * FROM audit ORDER BY audit_id LIMIT max_rows) a
    WHERE a.at < clock_timestamp() - head.retention AND a.audit_id < head.audit_id ORDER BY a.audit_id DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM set_config('changeover.pruning', 'audit', true);
    DELETE FROM audit WHERE audit_id <= last.audit_id;
    GET DIAGNOSTICS n = ROW_COUNT;
    PERFORM set_config('changeover.pruning', '', true);
    UPDATE audit_head SET pruned_id = last.audit_id, pruned_hash = last.hash;
    INSERT INTO audit (subject, roles, action, target, reason, request_id, outcome, details)
    VALUES ('changeover', '{}', 'pruneAudit', 'audit', 'entries older than audit.retention', '', 'removed',
        json_build_object('first', first.audit_id, 'last', last.audit_id, 'entries', n, 'sha256', encode(last.hash, 'hex')));
    RETURN n;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION prune_audit FROM PUBLIC;

-- Webhooks: how far each has come in the event log, and which replica serves it.
CREATE TABLE webhooks (
    name            text COLLATE "C" PRIMARY KEY,
    cursor_seq      bigint NOT NULL,              -- events up to here are in deliveries
    health          jsonb NOT NULL DEFAULT '{}',  -- the Regions that it was told are down
    holder          text NOT NULL DEFAULT '',
    held_until      timestamptz NOT NULL DEFAULT '-infinity',
    last_success_at timestamptz,
    last_error      text NOT NULL DEFAULT '',
    last_error_at   timestamptz
);
CREATE TABLE webhook_deliveries (
    delivery_id  text COLLATE "C" PRIMARY KEY, -- UUIDv7: in order of their making
    webhook      text COLLATE "C" NOT NULL,
    status       text NOT NULL,                -- pending, delivered, dead
    attempts     integer NOT NULL DEFAULT 0,
    events       integer NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at      timestamptz NOT NULL DEFAULT clock_timestamp(), -- of the next attempt
    give_up_at   timestamptz NOT NULL,
    delivered_at timestamptz,
    last_error   text NOT NULL DEFAULT '',
    body         json NOT NULL -- json, not jsonb: what is signed is what was written, byte by byte
);
-- Serves the next attempt.
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (webhook, next_at, delivery_id) WHERE status = 'pending';
-- Serves the list, newest first.
CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook, delivery_id DESC);
-- Serves the removal of old ones.
CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (created_at) WHERE status <> 'pending';

-- Drills and what came of them.
CREATE TABLE drills (
    drill_id       text COLLATE "C" PRIMARY KEY, -- UUIDv7: serves the list, newest first
    failover_group text COLLATE "C" NOT NULL,
    started_at     timestamptz NOT NULL,
    ended_at       timestamptz,
    report         jsonb NOT NULL
);
-- Serves the load of those that are under way.
CREATE INDEX drills_running ON drills (drill_id) WHERE ended_at IS NULL;
