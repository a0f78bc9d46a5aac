// Package postgrestest gives tests databases of a real PostgreSQL, at 25 to 60 ms each.
//
// The first test of a test binary that asks starts one server of its own, on a Unix socket in a temporary folder, without fsync, and
// migrates a template; each test then gets a copy of that. Several test binaries at once do not know of each other. The server
// ends with the test binary, also if that is killed. Tests as root run it as the user postgres or nobody.
package postgrestest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"changeover/internal/logtest"
	"changeover/internal/postgres"
	"changeover/internal/store"
	"changeover/migrations"
)

// startTimeout bounds everything that has to do with the server.
const startTimeout = time.Minute

// settings trade safety for speed: no test outlives a crash of the machine.
var settings = map[string]string{
	"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "400", "jit": "off", "shared_buffers": "64MB",
}

// shared is the one server of the test binary.
var shared struct {
	once     sync.Once
	server   *postgres.Server
	template string
	err      error
	count    atomic.Int64
}

// Main is a TestMain: it runs the tests (m is a *testing.M, or runs one), ends the server and fails when goroutines were left behind, or a
// secret was logged.
//
//	func TestMain(m *testing.M) { postgrestest.Main(m) }
func Main(m interface{ Run() int }, leaks ...goleak.Option) {
	code := m.Run()
	if shared.server != nil {
		stop(shared.server) // nobody needs what is in it
	}
	if code == 0 {
		if err := goleak.Find(leaks...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(logtest.Verify(code))
}

// stop ends a server as a crash does.
func stop(server *postgres.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	server.Stop(ctx)
}

// NewDatabase returns the URL of a new migrated database. It is dropped when the test ends.
func NewDatabase(t testing.TB) string {
	t.Helper()
	return create(t, true)
}

// NewEmptyDatabase returns the URL of a new database without any table. It is dropped when the test ends.
func NewEmptyDatabase(t testing.TB) string {
	t.Helper()
	return create(t, false)
}

func create(t testing.TB, migrated bool) string {
	t.Helper()
	shared.once.Do(func() { shared.err = start() })
	if shared.err != nil {
		t.Fatalf("start PostgreSQL for tests: %v", shared.err)
	}
	template := "template0"
	if migrated {
		template = shared.template
	}
	name := "test_" + strconv.FormatInt(shared.count.Add(1), 10)
	// Copying the files takes half as long as PostgreSQL's default, which writes every page to the log: without fsync the checkpoints cost little.
	if err := exec("postgres", fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s STRATEGY FILE_COPY", name, template)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := exec("postgres", fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", name)); err != nil {
			t.Error(err)
		}
	})
	if migrated { // a copy is another log
		if err := exec(name, "UPDATE event_log SET log_id = left(replace(gen_random_uuid()::text, '-', ''), 12)"); err != nil {
			t.Fatal(err)
		}
	}
	return withPassword(shared.server.URL(name))
}

// withPassword adds a password to a URL. The server does not ask for it, and no log may hold it.
func withPassword(url string) string { return url + "&password=" + logtest.Secret(rand.Text()) }

func start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	dir, err := tempDir()
	if err != nil {
		return err
	}
	server, err := postgres.Start(ctx, postgres.Options{DataDir: dir, Settings: settings, Temporary: true})
	if err != nil {
		return err
	}
	shared.server = server
	hash, err := migrationsHash()
	if err != nil {
		return err
	}
	template := "template_" + hash
	if err := exec("postgres", "CREATE DATABASE "+template); err != nil {
		return err
	}
	if err := store.Migrate(ctx, server.URL(template), logtest.New(nil)); err != nil {
		return err
	}
	if err := exec("postgres", "ALTER DATABASE "+template+" IS_TEMPLATE true ALLOW_CONNECTIONS false"); err != nil {
		return err
	}
	shared.template = template
	return nil
}

// tempDir makes a folder that an unprivileged user can reach: TMPDIR of root may be one that only root enters.
func tempDir() (string, error) {
	parent := os.TempDir()
	if os.Geteuid() == 0 {
		parent = "/tmp"
	}
	return os.MkdirTemp(parent, "changeover-pg-")
}

func migrationsHash() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(migrations.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(migrations.FS, path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(b), b)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:16], err
}

func exec(database, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, shared.server.URL(database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}

// Server is a PostgreSQL of one test, which the test can stop and start.
type Server struct {
	t    testing.TB
	opts postgres.Options

	mu     sync.Mutex
	server *postgres.Server
	url    string
}

// Start starts a server for a test, with one migrated database. It ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartWith(t, postgres.Options{})
}

// StartWith is [Start] with a data folder, programs or settings of the test's own.
func StartWith(t testing.TB, opts postgres.Options) *Server {
	t.Helper()
	s := newServer(t, opts)
	s.Start()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := store.Migrate(ctx, s.URL(), logtest.New(nil)); err != nil {
		t.Fatal(err)
	}
	return s
}

func newServer(t testing.TB, opts postgres.Options) *Server {
	t.Helper()
	if opts.DataDir == "" {
		var err error
		if opts.DataDir, err = tempDir(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(opts.DataDir) })
	}
	// fsync stays on: what was committed outlives Kill.
	settings := map[string]string{"shared_buffers": "32MB"}
	maps.Copy(settings, opts.Settings)
	opts.Settings = settings
	s := &Server{t: t, opts: opts}
	t.Cleanup(s.Kill)
	return s
}

// Standby makes a copy of the running server that follows it by streaming, without the server's waiting for it, and answers queries that
// only read. SELECT pg_promote() makes it a server of its own. settings are added to those of the server.
func (s *Server) Standby(settings map[string]string) *Server {
	s.t.Helper()
	opts := s.opts
	opts.DataDir, opts.Settings = "", maps.Clone(s.opts.Settings)
	maps.Copy(opts.Settings, settings)
	standby := newServer(s.t, opts)
	if err := s.copyTo(standby.opts.DataDir); err != nil {
		s.t.Fatal(err)
	}
	standby.Start()
	return standby
}

func (s *Server) copyTo(dir string) error {
	programs := s.opts.Binaries
	if programs == (postgres.Binaries{}) {
		var err error
		if programs, err = postgres.FindBinaries(); err != nil {
			return err
		}
	}
	config, err := pgx.ParseConfig(s.URL())
	if err != nil {
		return err
	}
	server, err := filepath.EvalSymlinks(filepath.Join(programs.Dir, "postgres")) // PATH may have nothing but that
	if err != nil {
		return err
	}
	out, err := osexec.Command(filepath.Join(filepath.Dir(server), "pg_basebackup"), "--pgdata", filepath.Join(dir, "data"), "--host", config.Host,
		"--username", config.User, "--checkpoint", "fast", "--write-recovery-conf").CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy the cluster to %s: %w\n%s", dir, err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil { // it is a folder of package postgres
		return err
	}
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(config.Host)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}

// URL is that of the migrated database. It does not change.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// Start starts the server again.
func (s *Server) Start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := postgres.Start(ctx, s.opts)
	if err != nil {
		s.t.Fatalf("start PostgreSQL: %v", err)
	}
	s.server = server
	if s.url == "" {
		s.url = withPassword(server.URL(postgres.Database))
	}
}

// Stop stops the server as an administrator does: open transactions are rolled back, clients are told.
func (s *Server) Stop() {
	s.end(func(server *postgres.Server) {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		server.Stop(ctx)
	})
}

// Kill stops the server as a crash does.
func (s *Server) Kill() { s.end(stop) }

func (s *Server) end(how func(*postgres.Server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		how(s.server)
		s.server = nil
	}
}
