package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

func TestVerifyAudit(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Database.URL = config.Secret(postgrestest.NewDatabase(t))
	s, err := store.Open(t.Context(), store.Options{URL: string(c.Database.URL)})
	require.NoError(t, err)
	defer s.Close()
	for range 3 {
		require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "operator", Action: "forceFailover"}))
	}
	verify := func(anchors ...string) (string, error) {
		var out bytes.Buffer
		err := VerifyAudit(t.Context(), c, anchors, logtest.New(nil), &out)
		return out.String(), err
	}
	out, err := verify()
	require.NoError(t, err)
	require.Regexp(t, `^CHECK +RESULT +DETAIL\nentries +ok +3, of them 0 from before the chain\nchain +ok .*\nanchors +ok +0 anchors found in it\nhead +ok +3:[0-9a-f]{64}\n$`, out)
	head := regexp.MustCompile(`3:[0-9a-f]{64}`).FindString(out)
	require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "later"}))
	out, err = verify(head)
	require.NoError(t, err)
	require.Contains(t, out, "1 anchor found")

	conn, err := pgx.Connect(t.Context(), string(c.Database.URL))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `SET session_replication_role = replica; UPDATE audit SET subject = 'nobody' WHERE audit_id = 2`)
	require.NoError(t, err)
	out, err = verify()
	require.ErrorIs(t, err, ErrCheck)
	require.Regexp(t, `\nentry 2 +FAULT +does not follow from the entry before it`, out)
	require.NotContains(t, out, "head", "nobody should note this one")

	_, err = verify("3:abc")
	require.ErrorContains(t, err, "anchor")
	c.Database.URL = config.Secret(postgrestest.NewEmptyDatabase(t))
	_, err = verify()
	require.ErrorIs(t, err, store.ErrOldSchema)
	require.ErrorContains(t, err, "server migrate")
}

// The whole service in a role of its own, which got what it needs by database.migrateUrl: everything works, and who has the role's
// password cannot rewrite what was done, make tables of their own, or keep less of the audit.
func TestTwoDatabaseRoles(t *testing.T) {
	t.Parallel()
	owner := postgrestest.NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), owner)
	require.NoError(t, err)
	password := logtest.Secret(rand.Text())
	role := "service_of_" + conn.Config().Database
	_, err = conn.Exec(t.Context(), "CREATE ROLE "+role+" LOGIN PASSWORD '"+password+"'")
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.Background()
		_, err := conn.Exec(ctx, "DROP OWNED BY "+role+"; DROP ROLE "+role)
		require.NoError(t, err)
		require.NoError(t, conn.Close(ctx))
	})
	u, err := url.Parse(owner)
	require.NoError(t, err)
	query := u.Query()
	query.Set("user", role)
	query.Set("password", password)
	u.RawQuery = query.Encode()

	f := newFloor(t, connectsim.Config{Agents: 2})
	c := configuration(f, u.String())
	c.Database.MigrateURL, c.Database.AuditRetention = config.Secret(owner), 9000*time.Hour
	s := start(t, c)
	me := f.agent(0)
	s.untilWorksIn(t, me, east)
	f.call(t, me, "VOICE")
	s.untilHolds(t, me, 1)
	d := watch(t, s.Addr(), "/v1/agents/"+me+"/events", "")
	d.opened(t)
	f.shift(t, west)
	id := d.next(t, "failoverDetected").data["failoverId"].(string)
	d.next(t, "failoverPending")
	status, body := s.request(t, http.MethodPost, "/v1/agents/"+me+"/reports", map[string]any{"standby": map[string]any{"region": west, "ready": true}})
	require.Equal(t, http.StatusAccepted, status, string(body))
	status, body = s.request(t, http.MethodPost, "/v1/failovers/"+id+"/force", map[string]any{"reason": "nobody is on the line"})
	require.Equal(t, http.StatusAccepted, status, string(body))
	d.next(t, "failoverCompleted")
	require.Equal(t, "375 days", queryText(t, conn, "SELECT justify_hours(retention)::text FROM audit_head"))
	require.Equal(t, role, queryText(t, conn, "SELECT usename::text FROM pg_stat_activity WHERE datname = current_database() AND usename <> 'changeover' LIMIT 1"))
	d.close()
	s.stop(t)

	attacker, err := pgx.Connect(t.Context(), u.String())
	require.NoError(t, err)
	defer attacker.Close(t.Context())
	for _, sql := range []string{
		"UPDATE audit SET subject = 'nobody'", "DELETE FROM audit", "TRUNCATE audit", "ALTER TABLE audit DISABLE TRIGGER ALL", "DROP TABLE failovers",
		"UPDATE audit_head SET retention = '0'", "CREATE TABLE audit_hash (a int)", "CREATE FUNCTION audit_hash(bytea, record) RETURNS bytea LANGUAGE sql AS 'SELECT $1'",
	} {
		_, err := attacker.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "SQLSTATE 42501", sql)
	}
	var out bytes.Buffer
	require.NoError(t, VerifyAudit(t.Context(), c, nil, logtest.New(nil), &out))
	require.Contains(t, out.String(), "every entry follows from the one before it")
}

func queryText(t *testing.T, conn *pgx.Conn, sql string) (s string) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&s))
	return s
}
