package resilience

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/postgres"
	"changeover/internal/postgres/postgrestest"
)

// A program that is too old for the schema ends at once, and says what to do.
func TestASchemaThatIsTooNew(t *testing.T) {
	t.Parallel()
	database := postgrestest.NewDatabase(t)
	execute(t, database, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)")
	execute(t, database, "UPDATE schema_programs SET oldest = 99")
	c := newCluster(t, busyFloor(5), database)
	for _, migrates := range []bool{true, false} {
		r := c.add(database, func(cfg *config.Config) { cfg.Database.Migrate = migrates })
		r.launch()
		require.Equal(t, 1, r.wait())
		require.Contains(t, r.text(), "server: the database's schema is too new for this program: it is at version 99 and needs a program that knows version 99")
		require.Contains(t, r.text(), "run a newer version of Changeover")
	}
}

// A replica whose URL leads to a standby is not fooled by what can be read there: it says so, also in `server check`, and waits.
func TestAReplicaAtAStandby(t *testing.T) {
	thorough(t)
	t.Parallel()
	p := newPair(t)
	c := newCluster(t, busyFloor(5), p.first.URL())
	c.start(1, p.first.URL())
	lost := c.add(p.second.URL())
	out, err := exec.Command(lost.program, "check", "--config", lost.file).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "the server only reads (a standby, or default_transaction_read_only is on), and Changeover has to write")
	lost.start()
	<-lost.hears("the server only reads")
	status, body := lost.try("/readyz")
	require.Equal(t, 503, status, "%s", body)
	p.follows(t, c)
	p.first.Kill()
	p.promote(t)
	lost.worksIn(east)
	c.database = p.second.URL()
	c.within(takeover, "it leads", func() bool { return c.leader().n == lost.n })
}

// A role that lacks a right: the log says which table, nothing is half done, and it works when the right is there, without a restart.
func TestARoleWithoutRights(t *testing.T) {
	thorough(t)
	t.Parallel()
	owner := postgrestest.Start(t).URL()
	execute(t, owner, "CREATE ROLE service LOGIN")
	u, err := url.Parse(owner)
	require.NoError(t, err)
	q := u.Query()
	q.Set("user", "service")
	u.RawQuery = q.Encode()
	c := newCluster(t, busyFloor(5), owner)
	r := c.add(u.String(), func(cfg *config.Config) { cfg.Database.Migrate = false })
	r.start()
	<-r.hears("permission denied for table goose_db_version")
	execute(t, owner, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO service")
	<-r.hears("permission denied for table leases")
	execute(t, owner, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO service; REVOKE INSERT, UPDATE ON failovers FROM service")
	<-r.hears(`"msg":"deciding"`)
	r.worksIn(east) // else everybody's first target is the west, and nobody moves
	c.shift()
	<-r.hears("permission denied for table failovers")
	require.Zero(t, query[int](t, owner, "SELECT count(*) FROM events WHERE type = 'failoverDetected'"))
	execute(t, owner, "GRANT INSERT, UPDATE ON failovers TO service")
	c.settle()
}

// Every connection that the server has is taken, by others: the leader goes on with those that it holds, streams go on, and when there is room
// again everything is well.
func TestNoConnectionsAreLeft(t *testing.T) {
	thorough(t)
	t.Parallel()
	database := postgrestest.StartWith(t, postgres.Options{Settings: map[string]string{"max_connections": "40"}}).URL()
	// Superusers have connections that are kept for them, and the test is one.
	execute(t, database, "CREATE ROLE service LOGIN")
	execute(t, database, "GRANT ALL ON ALL TABLES IN SCHEMA public TO service; GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO service")
	u, err := url.Parse(database)
	require.NoError(t, err)
	q := u.Query()
	q.Set("user", "service")
	u.RawQuery = q.Encode()
	c := newCluster(t, busyFloor(30), database)
	c.start(2, u.String(), func(cfg *config.Config) { cfg.Database.Migrate = false })
	var taken []*pgx.Conn
	c.endure(outage{works: true, lasts: 8 * time.Second, begin: func() {
		for {
			conn, err := pgx.Connect(t.Context(), u.String())
			if err != nil {
				require.Contains(t, err.Error(), "53300")
				return
			}
			taken = append(taken, conn)
		}
	}, end: func() {
		require.NotEmpty(t, taken)
		for _, conn := range taken {
			require.NoError(t, conn.Close(context.Background()))
		}
	}})
}

// The administrator's own time-outs are short, and sessions that are idle within a transaction are ended at once.
func TestTimeOutsOfTheServer(t *testing.T) {
	thorough(t)
	t.Parallel()
	database := postgrestest.StartWith(t, postgres.Options{Settings: map[string]string{
		"idle_in_transaction_session_timeout": "300", "idle_session_timeout": "700", "statement_timeout": "2000", "lock_timeout": "500",
	}}).URL()
	c := newCluster(t, busyFloor(30), database)
	c.start(2, database)
	c.open(12)
	c.under(func() { pause(6 * time.Second) })
	c.settle()
	for _, d := range c.desktops {
		_, breaks, _ := d.connection()
		require.Zero(t, breaks)
		require.Empty(t, d.reasons())
	}
}

// The sessions that listen are ended again and again: events come all the same, within the second of the poll.
func TestTheListenerIsTerminated(t *testing.T) {
	thorough(t)
	t.Parallel()
	database := postgrestest.NewDatabase(t)
	c := newCluster(t, busyFloor(20), database)
	c.start(2, database)
	c.open(10)
	c.quiet()
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	over, ended := make(chan struct{}), make(chan int, 1)
	go func() {
		terminated := 0
		for {
			select {
			case <-over:
				ended <- terminated
				return
			case <-time.After(50 * time.Millisecond):
				tag, err := conn.Exec(context.Background(),
					"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'")
				if err != nil {
					t.Error(err)
				}
				terminated += int(tag.RowsAffected())
			}
		}
	}()
	for range 3 {
		heard := c.console().count()
		c.shift()
		c.until("everybody is detected", func() bool {
			return query[int](t, database, "SELECT count(*) FROM agents WHERE next_region = $1 OR active_region = $1", c.to) == 20
		})
		c.within(2*time.Second, "the console has heard", func() bool { return c.console().has("failoverDetected", heard) >= 20 })
		c.ready()
	}
	close(over)
	require.Greater(t, <-ended, 5)
	c.settle()
}

// certified makes a folder with a key, and a certificate that vouches for itself, which PostgreSQL's user can read.
func certified(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "changeover-tls-") //nolint:usetesting // t.TempDir is closed to the user who runs PostgreSQL for root
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, DNSNames: []string{"database"}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{"server.crt": {Type: "CERTIFICATE", Bytes: der}, "server.key": {Type: "PRIVATE KEY", Bytes: private}} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(block), 0o600))
		if os.Geteuid() != 0 {
			continue
		}
		for _, user := range []string{"postgres", "_postgres", "nobody"} { // as package postgres does
			if u, err := osuser.Lookup(user); err == nil {
				uid, err := strconv.Atoi(u.Uid)
				require.NoError(t, err)
				require.NoError(t, os.Chown(path, uid, -1))
				break
			}
		}
	}
	return dir
}

// The server wants TLS and a password, and the password, which stands in a file, is replaced while the service runs. The old one is of no use at
// once; connections that are there go on.
func TestTLSAndAPasswordThatIsReplaced(t *testing.T) {
	thorough(t)
	t.Parallel()
	dir := certified(t)
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 2+rand.IntN(250)) // its port is always the same
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hba.conf"), []byte("local all all trust\nhostssl all service all scram-sha-256\n"), 0o644))
	admin := postgrestest.StartWith(t, postgres.Options{Settings: map[string]string{
		"listen_addresses": host, "ssl": "on", "ssl_cert_file": filepath.Join(dir, "server.crt"), "ssl_key_file": filepath.Join(dir, "server.key"),
		"hba_file": filepath.Join(dir, "hba.conf"),
	}}).URL()
	execute(t, admin, "CREATE ROLE service LOGIN SUPERUSER PASSWORD 'first'")
	passfile := filepath.Join(dir, "passfile")
	password := func(p string) {
		require.NoError(t, os.WriteFile(passfile, []byte(host+":*:*:service:"+p+"\n"), 0o600))
	}
	password("first")
	address := "postgres://service@" + host + "/" + postgres.Database
	c := newCluster(t, busyFloor(20), admin)
	plain := c.add(address + "?sslmode=disable&passfile=" + passfile)
	out, err := exec.Command(plain.program, "check", "--config", plain.file).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "no encryption", "the server says what is missing")
	c.replicas = nil
	c.start(2, address+"?sslmode=verify-ca&sslrootcert="+filepath.Join(dir, "server.crt")+"&passfile="+passfile)
	require.Positive(t, query[int](t, admin, "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'service'"))
	c.open(8)

	password("second")
	execute(t, admin, "ALTER ROLE service PASSWORD 'second'")
	c.shift()
	execute(t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'service'")
	c.settle()
	for _, d := range c.desktops {
		_, breaks, _ := d.connection()
		require.Zero(t, breaks)
	}
}
