-- The audit becomes a chain of hashes, streams are opened with tickets, and a command is remembered with its idempotency key.
-- Not one transaction: the entries that are there already are read for as long as it takes, while others are written. Every
-- statement may run again after a migration that was interrupted.

-- +goose NO TRANSACTION
-- +goose Up

BEGIN;
-- The lock on audit waits for whoever reads it, and everybody waits behind it. Better to fail and to be tried again.
SET LOCAL lock_timeout = '5s';
-- What the functions below find by a bare name. They run as the owner of the tables, so nothing that another role made may come
-- before them: without being named, the caller's temporary tables would.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);
ALTER FUNCTION maintain_event_partitions SET search_path FROM CURRENT;

ALTER TABLE audit
    ADD COLUMN IF NOT EXISTS before json,
    ADD COLUMN IF NOT EXISTS after json,
    ADD COLUMN IF NOT EXISTS hash bytea; -- null: an entry from before the chain

-- The last entry of the chain; one row. Who adds an entry locks it, so the chain has one order, and its numbers no gaps.
CREATE TABLE IF NOT EXISTS audit_head (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    before   bigint NOT NULL, -- the last entry from before the chain
    audit_id bigint NOT NULL,
    hash     bytea NOT NULL CHECK (octet_length(hash) = 32)
) WITH (fillfactor = 10); -- it is rewritten with each entry
INSERT INTO audit_head (before, audit_id, hash)
SELECT coalesce(max(audit_id), 0), coalesce(max(audit_id), 0), decode(repeat('00', 32), 'hex') FROM audit
ON CONFLICT DO NOTHING;

-- The hash of an entry that follows one with the hash previous. The bytes are those that store.VerifyAudit makes: the number,
-- the time in microseconds since 2000, and the texts, each with its length before it, so that no two entries have the same.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit_hash(previous bytea, e audit) RETURNS bytea
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    bytes bytea := previous || int8send(e.audit_id) || timestamptz_send(e.at);
    field text;
BEGIN
    FOREACH field IN ARRAY ARRAY[e.subject, e.action, e.target, e.reason, e.request_id, e.outcome, e.details::text, e.before::text,
        e.after::text] || ARRAY(SELECT unnest(e.roles))
    LOOP
        bytes := bytes || CASE WHEN field IS NULL THEN int4send(-1)
            ELSE int4send(octet_length(convert_to(field, 'UTF8'::name))) || convert_to(field, 'UTF8'::name) END;
    END LOOP;
    RETURN sha256(bytes);
END
$$;
-- +goose StatementEnd

-- Puts a new entry at the end of the chain, whatever its number, time and hash were to be. It runs as the owner of the tables: the
-- service's own role cannot write the head.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION chain_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    head audit_head;
BEGIN
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    NEW.audit_id := head.audit_id + 1;
    NEW.at := clock_timestamp();
    NEW.hash := audit_hash(head.hash, NEW);
    UPDATE audit_head SET audit_id = NEW.audit_id, hash = NEW.hash;
    RETURN NEW;
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION chain_audit FROM PUBLIC; -- as a trigger of another table it would advance the head without an entry
CREATE OR REPLACE TRIGGER audit_chain BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION chain_audit();

-- Tickets for event streams: each opens one, once.
CREATE TABLE IF NOT EXISTS stream_tickets (
    hash             bytea PRIMARY KEY CHECK (octet_length(hash) = 32), -- of the ticket, which is nowhere
    agent_id         text NOT NULL,
    subject          text NOT NULL,
    name             text NOT NULL,
    roles            text[] NOT NULL,
    token_expires_at timestamptz NOT NULL, -- of the token that it was bought with
    created_at       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL
);
-- Serves the removal of those that nobody redeemed.
CREATE INDEX IF NOT EXISTS stream_tickets_by_expiry ON stream_tickets (expires_at);

-- What the request with the key has asked of the leader; null: nothing yet.
ALTER TABLE idempotency_keys ADD COLUMN IF NOT EXISTS command_id bigint;
COMMIT;

-- The entries from before the chain are taken into it a thousand at a time: an entry of the chain holds the hash of theirs. The
-- ORDER BY lets all hashes be made before the first entry is written, which locks the head.
INSERT INTO audit (subject, roles, action, target, reason, request_id, outcome, details)
SELECT 'changeover', '{}', 'sealAudit', 'audit', 'entries from before the chain', '', 'sealed',
    json_build_object('first', s.first, 'last', s.last, 'entries', s.entries, 'sha256', encode(s.hash, 'hex'))
FROM audit_head h
CROSS JOIN LATERAL generate_series(0, h.before / 1000) part
CROSS JOIN LATERAL (
    SELECT min(a.audit_id) AS first, max(a.audit_id) AS last, count(*) AS entries,
        sha256(string_agg(audit_hash('', a), '' ORDER BY a.audit_id)) AS hash
    FROM audit a WHERE a.audit_id BETWEEN part * 1000 AND part * 1000 + 999 AND a.audit_id <= h.before
) s
WHERE s.entries > 0 AND NOT EXISTS (SELECT 1 FROM audit WHERE audit.audit_id > h.before AND audit.action = 'sealAudit')
ORDER BY part;
