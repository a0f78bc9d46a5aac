package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"changeover/migrations"
)

// Migrate brings the schema up to date. Several programs may do it at once; each waits for the others, five minutes at most. Who of them is at
// it stands in a table, because the lock of a session is lost behind a transaction pooler; one that dies keeps the others waiting for half a
// minute. The role of the URL will own the tables; see [GrantService] for a service whose own role shall not.
func Migrate(ctx context.Context, url string, log *slog.Logger) error {
	provider, err := newProvider(url)
	if err != nil {
		return err
	}
	defer provider.Close()
	results, err := provider.Up(ctx)
	for _, r := range results {
		log.InfoContext(ctx, "migration applied", "migration", r.Source.Path, "duration", r.Duration)
	}
	if err != nil {
		return fmt.Errorf("migrate the database: %w", err)
	}
	return nil
}

func newProvider(url string) (*goose.Provider, error) {
	config, err := connConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	locker, err := lock.NewPostgresTableLocker(lock.WithTableLockTimeout(time.Second, 300))
	if err != nil {
		return nil, fmt.Errorf("make the lock for migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, stdlib.OpenDB(*config), migrations.FS, goose.WithLocker(locker))
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	return provider, nil
}

// latestSchema is the version of the newest migration in the program.
func latestSchema() (int64, error) {
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("read the migrations: %w", errors.Join(err, fs.ErrNotExist))
	}
	last := names[len(names)-1]
	version, _, _ := strings.Cut(last, "_")
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("migration %s: its name has to begin with a version: %w", last, err)
	}
	return n, nil
}

// SchemaVersion returns the version of the last migration that was applied; 0: none.
func (s *Store) SchemaVersion(ctx context.Context) (version int64, err error) {
	ctx, done := s.call(ctx, "schema", quickTimeout, &err)
	defer done()
	var exists bool
	if err := s.pool.QueryRow(ctx, "SELECT to_regclass('goose_db_version') IS NOT NULL").Scan(&exists); err != nil || !exists {
		return 0, wrap(err, "read the schema's version")
	}
	err = s.pool.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&version)
	return version, wrap(err, "read the schema's version")
}

// CheckSchema says whether the program can work on the schema: it may be one migration older, or newer unless it says that it is too new,
// which is [ErrNewSchema] (see package migrations).
func (s *Store) CheckSchema(ctx context.Context) error {
	have, err := s.SchemaVersion(ctx)
	if err != nil {
		return err
	}
	want, err := latestSchema()
	if err != nil {
		return err
	}
	if have < max(want-1, 1) {
		return fmt.Errorf("the database's schema is at version %d and this program needs %d or newer: run 'server migrate'", have, max(want-1, 1))
	}
	if have < schemaRetention {
		return nil
	}
	oldest, err := s.q.OldestProgram(ctx, s.pool)
	if err != nil {
		return fmt.Errorf("read which programs can work on the schema: %w", err)
	}
	if want < oldest {
		return fmt.Errorf("%w: it is at version %d and needs a program that knows version %d, this one knows %d: run a newer version of Changeover",
			ErrNewSchema, have, oldest, want)
	}
	return nil
}

// schemaRetention is the version of the schema that removes what is old from the audit, says which programs can work on it, and has webhooks and drills.
const schemaRetention = 3

// hasSchema says whether the schema has a version. Once it has, nobody asks again.
func (s *Store) hasSchema(ctx context.Context, version int64) (bool, error) {
	if s.schema.Load() >= version {
		return true, nil
	}
	have, err := s.SchemaVersion(ctx)
	if err != nil || have < version {
		return false, err
	}
	s.schema.Store(have)
	return true, nil
}

// needSchema returns ErrOldSchema where the schema does not have the version that something needs.
func (s *Store) needSchema(ctx context.Context, version int64, what string) error {
	ok, err := s.hasSchema(ctx, version)
	if err == nil && !ok {
		err = fmt.Errorf("%s: version %d is needed, run 'server migrate': %w", what, version, ErrOldSchema)
	}
	return err
}

// Role is whom a URL connects as.
func Role(url string) (string, error) {
	config, err := connConfig(url)
	if err != nil {
		return "", err
	}
	return config.User, nil
}

// reach connects by the URL of the tables' owner.
func reach(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := connConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("reach the database: %w", err)
	}
	return conn, nil
}

// GrantService gives a role that does not own the tables what the service needs of them, and no more: the audit can be added to
// and read, but not changed. url is that of the owner.
func GrantService(ctx context.Context, url, role string) error {
	conn, err := reach(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var schema string
	if err := conn.QueryRow(ctx, "SELECT current_schema()").Scan(&schema); err != nil {
		return fmt.Errorf("find the schema of the tables: %w", err)
	}
	to := pgx.Identifier{role}.Sanitize()
	_, err = conn.Exec(ctx, `
		GRANT USAGE ON SCHEMA `+pgx.Identifier{schema}.Sanitize()+` TO `+to+`;
		GRANT SELECT, INSERT, UPDATE, DELETE ON leases, event_log, terms, events, failover_groups, traffic_distribution_groups,
			distribution_changes, agents, contacts, failovers, inbox, replicas, connections, idempotency_keys, region_health,
			stream_tickets, webhooks, webhook_deliveries, drills TO `+to+`;
		GRANT SELECT, INSERT ON audit TO `+to+`;
		GRANT SELECT ON audit_head, schema_programs, goose_db_version TO `+to+`;
		GRANT EXECUTE ON FUNCTION maintain_event_partitions, prune_audit TO `+to+`;
		REVOKE CREATE ON SCHEMA `+pgx.Identifier{schema}.Sanitize()+` FROM `+to, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("grant the tables to %s: %w", role, err)
	}
	return checkService(ctx, conn, schema, role)
}

// checkService returns an error if the role may do more than the service needs by other ways than [GrantService]: as a superuser, as a
// member of another role, by grants to everybody. The owner of the tables itself is not asked: who uses one role for both knows it.
func checkService(ctx context.Context, conn *pgx.Conn, schema, role string) error {
	var may []string
	err := conn.QueryRow(ctx, `
		SELECT coalesce(array_agg(what), '{}') FROM (VALUES
			(pg_has_role($1, current_user, 'MEMBER'), 'act as ' || current_user || ', who owns the tables'),
			(has_schema_privilege($1, $2, 'CREATE'), 'create objects in the schema ' || $2 || ' (REVOKE CREATE ON SCHEMA ' || quote_ident($2) || ' FROM PUBLIC)'),
			(has_table_privilege($1, 'audit', 'UPDATE, DELETE, TRUNCATE, TRIGGER'), 'change the audit'),
			(has_table_privilege($1, 'audit_head', 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER'), 'change the head of the audit')
		) AS x (yes, what) WHERE yes AND $1 <> current_user`, role, schema).Scan(&may)
	if err != nil {
		return fmt.Errorf("look at what %s may do: %w", role, err)
	}
	if len(may) > 0 {
		return fmt.Errorf("the role %s of database.url may %s: with database.migrateUrl it must not; take that away, or take another role", role, strings.Join(may, "; "))
	}
	return nil
}

// wrap says what was being done when err happened; nil stays nil.
func wrap(err error, doing string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
