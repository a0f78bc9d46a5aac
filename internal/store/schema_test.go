package store_test

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
	"changeover/migrations"
)

// newestSchema is the version of the last migration.
func newestSchema(t testing.TB) int64 {
	t.Helper()
	names, err := fs.Glob(migrations.FS, "*.sql")
	require.NoError(t, err)
	version, err := goose.NumericComponent(names[len(names)-1])
	require.NoError(t, err)
	return version
}

// migrateTo applies the migrations up to a version.
func migrateTo(t testing.TB, url string, version int64) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	provider, err := goose.NewProvider(goose.DialectPostgres, stdlib.OpenDB(*config), migrations.FS)
	require.NoError(t, err)
	defer provider.Close()
	_, err = provider.UpTo(t.Context(), version)
	require.NoError(t, err)
}

func migrate(t testing.TB, url string) {
	t.Helper()
	require.NoError(t, store.Migrate(t.Context(), url, discard))
}

// mainJob does all that the service does for a shift: what it needs on every schema that it works on, and in every role.
func mainJob(t *testing.T, s *store.Store, owner *pgx.Conn) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, s.CheckSchema(ctx))
	_, err := s.Load(ctx)
	require.NoError(t, err)
	epoch := lead(t, s).Epoch

	// Someone forces, with an Idempotency-Key.
	answer, err := s.BeginIdempotent(ctx, "operator", "key", []byte("body"))
	require.NoError(t, err)
	require.Nil(t, answer)
	entry := store.AuditEntry{Subject: "operator", Roles: []string{"operator", "viewer"}, Action: "force", Details: []byte(`{"a": 1}`)}
	id, err := s.Submit(store.WithIdempotencyKey(ctx, "operator", "key"), store.CommandForce, "x", entry)
	require.NoError(t, err)
	require.NoError(t, s.AppendAudit(ctx, store.AuditEntry{Subject: "agent", Action: "force", Outcome: "refused"}))
	commands, err := s.PendingCommands(ctx, 0, 10)
	require.NoError(t, err)
	require.Len(t, commands, 1)

	e := shifted(2, failover.Pending)
	e.Results = []failover.Result{{CommandID: id, Outcome: failover.OutcomeDone}}
	e.Changes = []failover.Change{{TDG: "tdg", ObservedAt: start}}
	e.TDGs, e.Groups = []*failover.TDG{{ID: "tdg"}}, []*failover.Group{{}}
	commit(t, s, epoch, e)
	result, done, err := s.CommandResult(ctx, id)
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, failover.OutcomeDone, result.Outcome)
	want := store.Answer{Status: 202, ContentType: "application/json", Body: []byte(`{}`)}
	require.NoError(t, s.FinishIdempotent(ctx, "operator", "key", want))
	answer, err = s.BeginIdempotent(ctx, "operator", "key", []byte("body"))
	require.NoError(t, err)
	require.Equal(t, &want, answer)
	_, err = s.BeginIdempotent(ctx, "operator", "key2", []byte("body"))
	require.NoError(t, err)
	require.NoError(t, s.ReleaseIdempotent(ctx, "operator", "key2"))
	entries, _, err := s.Audit(ctx, store.AuditFilter{}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, []string{"agent", "operator"}, idsOf(entries[:2], func(e store.AuditEntry) string { return e.Subject }))
	require.Equal(t, entry.Roles, entries[1].Roles)
	require.Equal(t, entry.Details, entries[1].Details)

	// Streams and REST.
	commit(t, s, epoch, failover.Effects{RemovedAgents: []string{"agent-00000"}})
	moveEvents(t, owner, 3, 1, 1)
	require.NoError(t, s.MaintainPartitions(ctx, retention))
	st, err := s.LogState(ctx)
	require.NoError(t, err)
	require.Equal(t, int64(2), st.OldestSeq)
	events, err := s.EventsAfter(ctx, 1, 10)
	require.NoError(t, err)
	require.Len(t, events, 1)
	views, _, err := s.AgentViews(ctx)
	require.NoError(t, err)
	require.Len(t, views, 1)
	_, err = s.Failover(ctx, "failover-00001")
	require.NoError(t, err)
	_, err = s.Summary(ctx)
	require.NoError(t, err)
	require.NoError(t, s.SaveHealth(ctx, epoch, []store.RegionHealth{{Group: "main", Region: "us-east-1"}}))
	require.NoError(t, s.SyncConnections(ctx, "replica", []store.Connection{{ID: "1", AgentID: "agent-00001", Since: start}}, nil))
	streaming, err := s.StreamingAgents(ctx)
	require.NoError(t, err)
	require.Len(t, streaming, 1)
	require.NoError(t, s.Prune(ctx))
	_, err = s.Load(ctx)
	require.NoError(t, err)
}

// A rolling update with database.migrate: false: new programs start before somebody migrates. They do what the old ones did;
// what is new says that it needs the migration, and works when that has come, without a restart.
func TestTheProgramWorksOnTheSchemaOneMigrationOlder(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewEmptyDatabase(t)
	migrateTo(t, url, newestSchema(t)-1)
	s, owner := open(t, url), connect(t, url)
	mainJob(t, s, owner)

	ticket := store.Ticket{AgentID: "agent-1", TokenExpiresAt: time.Now().Add(time.Hour)}
	_, err := s.IssueTicket(t.Context(), [32]byte{1}, ticket)
	require.NoError(t, err)
	_, err = s.VerifyAudit(t.Context())
	require.ErrorIs(t, err, store.ErrOldSchema)
	require.ErrorContains(t, err, "server migrate")
	require.True(t, store.IsUnavailable(err), "it is worth trying again")
	_, err = s.BeginIdempotent(t.Context(), "operator", "over the migration", []byte("body"))
	require.NoError(t, err)

	migrate(t, url)
	_, err = s.RedeemTicket(t.Context(), [32]byte{1})
	require.NoError(t, err)
	_, err = s.VerifyAudit(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.FinishIdempotent(t.Context(), "operator", "over the migration", store.Answer{Status: 200}))
	require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "new", Before: []byte(`1`), After: []byte(`2`)}))
	entries, _, err := s.Audit(t.Context(), store.AuditFilter{}, store.Page{Limit: 1})
	require.NoError(t, err)
	require.JSONEq(t, `2`, string(entries[0].After))
}

// The other order: replicas of the version before go on after the migration. These are the statements of that version.
func TestTheVersionBeforeWorksOnTheNewSchema(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	appendAudit := func(subject string) int64 {
		return query[int64](t, conn, `INSERT INTO audit (subject, roles, action, target, reason, request_id, outcome, details)
			VALUES ($1, '{operator}', 'force', 'failovers/1', 'why', 'request', 'accepted', '{"a":  1}') RETURNING audit_id`, subject)
	}
	require.Equal(t, int64(1), appendAudit("one"))
	require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "two"}))
	require.Equal(t, int64(3), appendAudit("three"), "the same chain")
	report, err := s.VerifyAudit(t.Context())
	require.NoError(t, err)
	require.Zero(t, report.Bad, report.Faults)
	require.Equal(t, int64(3), report.Entries)

	const begin = `INSERT INTO idempotency_keys (scope, key, body_hash) VALUES ('operator', 'key', 'body')
		ON CONFLICT (scope, key) DO UPDATE SET body_hash = excluded.body_hash, created_at = clock_timestamp(), status = NULL, body = NULL
		WHERE (idempotency_keys.status IS NULL AND idempotency_keys.body_hash = excluded.body_hash
		        AND idempotency_keys.created_at < clock_timestamp() - interval '1 minute')
		   OR idempotency_keys.created_at < clock_timestamp() - interval '1 day'
		RETURNING created_at`
	query[time.Time](t, conn, begin)
	_, err = s.BeginIdempotent(t.Context(), "operator", "key", []byte("body"))
	require.ErrorIs(t, err, store.ErrKeyInUse)
	exec(t, conn, "UPDATE idempotency_keys SET status = 200, content_type = 'text/plain', body = 'old' WHERE scope = 'operator' AND key = 'key'")
	answer, err := s.BeginIdempotent(t.Context(), "operator", "key", []byte("body"))
	require.NoError(t, err)
	require.Equal(t, &store.Answer{Status: 200, ContentType: "text/plain", Body: []byte("old")}, answer)
}

// serviceRole is one that PostgreSQL has to quote.
const serviceRole = `svc "quoted" 'role'`

// newServiceStore opens a store in a role that does not own the tables, on a new database, with a connection of that role and one of
// the owner.
func newServiceStore(t *testing.T) (s *store.Store, service, owner *pgx.Conn) {
	t.Helper()
	url := postgrestest.NewDatabase(t)
	owner = connect(t, url)
	role := fmt.Sprintf("%s of %s", serviceRole, query[string](t, owner, "SELECT current_database()")) // roles are the cluster's
	exec(t, owner, "CREATE ROLE "+pgx.Identifier{role}.Sanitize()+" LOGIN")
	t.Cleanup(func() {
		for _, sql := range []string{"DROP OWNED BY ", "DROP ROLE "} {
			_, err := owner.Exec(context.Background(), sql+pgx.Identifier{role}.Sanitize())
			require.NoError(t, err)
		}
	})
	require.NoError(t, store.GrantService(t.Context(), url, role))
	require.NoError(t, store.GrantService(t.Context(), url, role))

	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	serviceURL := fmt.Sprintf(`user='%s' host='%s' port=%d dbname='%s'`, strings.ReplaceAll(role, "'", `\'`), config.Host, config.Port, config.Database)
	s, service = open(t, serviceURL), connect(t, serviceURL)
	require.Equal(t, role, query[string](t, service, "SELECT current_user"))
	return s, service, owner
}

// The service's own role does not own the tables: it can do all that the service does.
func TestTheServicesRoleNeedNotOwnTheTables(t *testing.T) {
	t.Parallel()
	s, service, owner := newServiceStore(t)
	mainJob(t, s, owner)
	expiresAt, err := s.IssueTicket(t.Context(), [32]byte{1}, store.Ticket{AgentID: "agent", TokenExpiresAt: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(store.TicketLifetime), expiresAt, 10*time.Second)
	_, err = s.RedeemTicket(t.Context(), [32]byte{1})
	require.NoError(t, err)
	hold, ok, err := s.HoldWebhook(t.Context(), "hook", "me", time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	ok, err = s.AppendDeliveries(t.Context(), "hook", "me", hold.Cursor, hold.Cursor, nil, []store.Delivery{{ID: "1", Events: 1, Body: []byte(`{}`)}}, time.Hour)
	require.NoError(t, err)
	require.True(t, ok)
	d, err := s.TakeDelivery(t.Context(), "hook", time.Minute)
	require.NoError(t, err)
	require.NoError(t, s.DeliveryDone(t.Context(), d))
	_, _, err = s.Drills(t.Context(), "", store.Page{})
	require.NoError(t, err)
	report, err := s.VerifyAudit(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(2), report.Entries)
	require.Zero(t, report.Bad, report.Faults)

	// It makes nothing of its own beside the tables that a function or a statement could find first.
	for _, sql := range []string{
		"CREATE TABLE public.mine (a int)", "CREATE VIEW public.mine AS SELECT 1", "CREATE SEQUENCE public.mine", "CREATE TYPE public.mine AS (a int)",
		"CREATE FUNCTION public.audit_hash(previous bytea, e record) RETURNS bytea LANGUAGE sql AS 'SELECT previous'",
		"CREATE OPERATOR public.|| (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = byteacat)", "CREATE SCHEMA mine", "ALTER TABLE audit SET SCHEMA pg_temp",
		"CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION refuse_change()",
	} {
		_, err := service.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "SQLSTATE 42501", sql)
	}

	// Whoever may connect may not drop history.
	role := fmt.Sprintf("stranger of %s", query[string](t, owner, "SELECT current_database()"))
	exec(t, owner, "CREATE ROLE "+pgx.Identifier{role}.Sanitize()+" LOGIN")
	t.Cleanup(func() { _, _ = owner.Exec(context.Background(), "DROP ROLE "+pgx.Identifier{role}.Sanitize()) })
	exec(t, owner, "SET ROLE "+pgx.Identifier{role}.Sanitize())
	for sql, why := range map[string]string{
		"SELECT maintain_event_partitions('0', 0)": "permission denied",
		"SELECT chain_audit()":                     "permission denied",
		"SELECT * FROM audit":                      "permission denied",
		"SELECT * FROM stream_tickets":             "permission denied",
	} {
		_, err = owner.Exec(t.Context(), sql)
		require.ErrorContains(t, err, why, sql)
	}
	exec(t, owner, "RESET ROLE")
}

// A role that may do more than the service needs, by what somebody else gave it, is refused: it would make two roles a show.
func TestARoleThatMayDoTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	_, service, owner := newServiceStore(t)
	url, role := owner.Config().ConnString(), service.Config().User
	quoted := pgx.Identifier{role}.Sanitize()

	exec(t, owner, "GRANT CREATE ON SCHEMA public TO "+quoted)
	require.NoError(t, store.GrantService(t.Context(), url, role), "what it got itself is taken away")
	_, err := service.Exec(t.Context(), "CREATE TABLE public.mine (a int)")
	require.ErrorContains(t, err, "permission denied")

	for name, c := range map[string]struct{ grant, revoke, why string }{
		"by everybody's grant":  {"GRANT CREATE ON SCHEMA public TO PUBLIC", "REVOKE CREATE ON SCHEMA public FROM PUBLIC", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"},
		"a write to the audit":  {"GRANT DELETE ON audit TO PUBLIC", "REVOKE DELETE ON audit FROM PUBLIC", "may change the audit"},
		"a write to the head":   {"GRANT UPDATE ON audit_head TO " + quoted, "REVOKE UPDATE ON audit_head FROM " + quoted, "may change the head of the audit"},
		"a member of the owner": {"GRANT changeover TO " + quoted, "REVOKE changeover FROM " + quoted, "may act as changeover, who owns the tables"},
	} {
		exec(t, owner, c.grant)
		require.ErrorContains(t, store.GrantService(t.Context(), url, role), c.why, name)
		exec(t, owner, c.revoke)
	}
	require.NoError(t, store.GrantService(t.Context(), url, role))
	require.NoError(t, store.GrantService(t.Context(), url, "changeover"), "one role for both")
}
