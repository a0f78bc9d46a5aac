package resilience

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/postgres/postgrestest"
)

// pooler starts pgbouncer in transaction mode in front of the server of a database, with few connections, so that sessions are really shared. It
// returns the URL of the database behind it. PgBouncer before 1.21, as Debian has it, keeps no prepared statements.
func pooler(t *testing.T, database string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // Debian's, which is not in everybody's PATH
		if _, err := os.Stat(program); err != nil {
			t.Skip("there is no pgbouncer; 'scripts/setup' installs it")
		}
	}
	server, err := pgx.ParseConfig(database)
	require.NoError(t, err)
	info, err := os.Stat(server.Host)
	require.NoError(t, err)
	dir, err := os.MkdirTemp("/tmp", "changeover-pooler-") //nolint:usetesting // t.TempDir is closed to the user who runs PostgreSQL for root
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	_, port, err := net.SplitHostPort(freeAddress(t))
	require.NoError(t, err)
	file := filepath.Join(dir, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
[databases]
* = host=%s port=%d user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 6
reserve_pool_size = 0
max_client_conn = 500
`, server.Host, server.Port, server.User, port), 0o644))
	cmd := exec.Command(program, file)
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 { // it does not run as root, and only the server's user may enter the socket's folder
		require.NoError(t, os.Chmod(dir, 0o755))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed, as it says
		if t.Failed() {
			t.Logf("pgbouncer:\n%s", out.String())
		}
	})
	return "postgres://" + server.User + "@127.0.0.1:" + port + "/" + server.Database + "?sslmode=disable"
}

// Behind a transaction pooler everything works but LISTEN, which has a direct way: migrations of an empty database, leading, streams, forcing,
// and another leader after kill -9.
func TestBehindATransactionPooler(t *testing.T) {
	t.Parallel()
	direct := postgrestest.NewEmptyDatabase(t)
	pooled := pooler(t, direct)
	c := newCluster(t, busyFloor(30), direct)
	for range 2 {
		c.add(pooled, func(cfg *config.Config) { cfg.Database.ListenURL = config.Secret(direct) })
	}
	for _, r := range c.replicas { // at once, both to migrate
		r.launch()
	}
	c.until("the schema is there", func() bool {
		return query[bool](t, direct, "SELECT to_regclass('leases') IS NOT NULL")
	})
	c.ready()
	c.until("both listen", func() bool {
		return query[int](t, direct, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'") == 2
	})
	require.LessOrEqual(t, query[int](t, direct, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"), 6+2+1,
		"everything else shares the pooler's connections")
	c.open(20)

	// Somebody on a call is sent on by an operator.
	agent := c.sim.Agents()[0].ID
	_, err := c.sim.StartContact(agent, "VOICE")
	require.NoError(t, err)
	c.until("the call is known", func() bool {
		_, body := c.replicas[0].try("/v1/agents/" + agent + "/contacts")
		return strings.Contains(string(body), `"VOICE"`)
	})
	c.shift()
	c.until("it is pending", func() bool {
		_, body := c.replicas[0].try("/v1/agents/" + agent)
		return strings.Contains(string(body), `"pending"`)
	})
	id := query[string](t, direct, "SELECT failover_id FROM agents WHERE agent_id = $1", agent)
	answer, err := c.client.Post("http://"+c.followers()[0].address+"/v1/failovers/"+id+"/force", "application/json", strings.NewReader(`{"reason": "test"}`))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusAccepted, answer.StatusCode)
	c.until("somebody was forced", func() bool {
		return query[bool](t, direct, "SELECT bool_or(forced) FROM failovers")
	})
	for _, contact := range contactsOf(c, agent) {
		require.NoError(t, c.sim.ClearContact(contact))
	}

	c.leader().kill()
	c.shift()
	for _, r := range c.replicas {
		if r.process == nil {
			r.start()
		}
	}
	c.settle()
	for _, d := range c.desktops {
		require.Empty(t, d.reasons(), "the desktop of %q was reset", d.agent)
	}
	for _, r := range c.replicas {
		require.NotContains(t, r.all.String(), "prepared statement")
	}
}

func contactsOf(c *cluster, agent string) (ids []string) {
	a, err := c.sim.Agent(agent)
	require.NoError(c.t, err)
	for _, contact := range a.Contacts {
		ids = append(ids, contact.ID)
	}
	return ids
}
