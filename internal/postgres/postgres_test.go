package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"changeover/internal/postgres"
)

// childDir makes the test binary a program that starts a server in this folder, says so and waits to be killed.
const childDir = "CHANGEOVER_TEST_PG_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if _, err := postgres.Start(context.Background(), postgres.Options{DataDir: dir}); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println("started")
		select {}
	}
	goleak.VerifyTestMain(m)
}

// tempDir is a folder that the server's user can reach, for root too.
func tempDir(t *testing.T) string {
	t.Helper()
	parent := os.TempDir()
	if os.Geteuid() == 0 {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "changeover-test-") //nolint:usetesting // PostgreSQL's user cannot reach that of root
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return filepath.Join(dir, "pg")
}

func start(t *testing.T, opts postgres.Options) *postgres.Server {
	t.Helper()
	s, err := postgres.Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { s.Stop(context.Background()) })
	return s
}

func query[T any](t *testing.T, url, sql string) T {
	t.Helper()
	v, err := tryQuery[T](t.Context(), url, sql)
	require.NoError(t, err)
	return v
}

func tryQuery[T any](ctx context.Context, url, sql string) (v T, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return v, err
	}
	defer conn.Close(ctx)
	return v, conn.QueryRow(ctx, sql).Scan(&v)
}

func TestAServerKeepsItsDataAndItsAddress(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, postgres.Options{DataDir: dir})
	url := s.URL(postgres.Database)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 7 AS n")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	s.Stop(t.Context())
	s.Stop(t.Context()) // once is enough

	crashed, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		s = start(t, postgres.Options{DataDir: dir})
		require.Equal(t, url, s.URL(postgres.Database))
		require.Equal(t, 7, query[int](t, url, "SELECT n FROM kept"))
		s.Stop(crashed)
	}
}

func TestNobodyElseReachesTheServer(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, postgres.Options{DataDir: dir})
	url := s.URL(postgres.Database)
	require.Empty(t, query[string](t, url, "SHOW listen_addresses"))
	for _, private := range []string{dir, filepath.Join(dir, "run"), filepath.Join(dir, "data")} {
		info, err := os.Stat(private)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o700), info.Mode().Perm(), private)
	}
	conn, err := net.Dial("unix", filepath.Join(dir, "run", ".s.PGSQL.5432"))
	require.NoError(t, err, "but we do")
	require.NoError(t, conn.Close())
}

func TestASecondProgramIsRefused(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, postgres.Options{DataDir: dir})
	_, err := postgres.Start(t.Context(), postgres.Options{DataDir: dir})
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, "in use by process "+strconv.Itoa(os.Getpid()))
	require.Equal(t, 1, query[int](t, s.URL(postgres.Database), "SELECT 1"), "the first one goes on")

	out, err := child(t, dir).Output()
	require.Error(t, err)
	require.Contains(t, string(out), "in use by process "+strconv.Itoa(os.Getpid()))
}

// child runs this test binary as another program.
func child(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	return cmd
}

func TestAServerEndsWithItsProgram(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	cmd := child(t, dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "started\n", line)
	pid := postmaster(t, dir)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())

	// It is stopping, or has stopped. The next program need not know which.
	s := start(t, postgres.Options{DataDir: dir})
	require.NotEqual(t, pid, postmaster(t, dir))
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	require.Equal(t, 1, query[int](t, s.URL(postgres.Database), "SELECT 1"))
	s.Stop(t.Context())

	// And nobody needs to come: the server ends by itself.
	cmd = child(t, dir)
	out, err = cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid"))
		return errors.Is(err, fs.ErrNotExist)
	}, 10*time.Second, 10*time.Millisecond)
}

func postmaster(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(line)
	require.NoError(t, err)
	return pid
}

func TestAServerThatDiesIsStartedAgain(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, postgres.Options{DataDir: dir})
	pid := postmaster(t, dir)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		n, err := tryQuery[int](t.Context(), s.URL(postgres.Database), "SELECT 1")
		return err == nil && n == 1
	}, 20*time.Second, 50*time.Millisecond)
	require.NotEqual(t, pid, postmaster(t, dir))
	s.Stop(t.Context())
	_, err := os.Stat(filepath.Join(dir, "data", "postmaster.pid"))
	require.ErrorIs(t, err, fs.ErrNotExist, "the second one was stopped")
}

// After the restart of a container the process ids are the same again, and the one in the lock file is another program's.
func TestALockFileThatNamesAnotherProgram(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, postgres.Options{DataDir: dir})
	left, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	require.NoError(t, err)
	s.Stop(t.Context())
	other := exec.CommandContext(t.Context(), "/bin/sh", "-c", "read x")
	stdin, err := other.StdinPipe() // keeps it alive
	require.NoError(t, err)
	require.NoError(t, other.Start())
	_, rest, _ := strings.Cut(string(left), "\n")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(strconv.Itoa(other.Process.Pid)+"\n"+rest), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "run", ".s.PGSQL.5432.lock"), []byte(strconv.Itoa(other.Process.Pid)+"\n"+rest), 0o644))

	s = start(t, postgres.Options{DataDir: dir})
	require.Equal(t, 1, query[int](t, s.URL(postgres.Database), "SELECT 1"))
	require.NoError(t, stdin.Close())
	require.Error(t, other.Wait(), "read fails at the end of its input: nobody has killed it")
	require.Equal(t, 1, other.ProcessState.ExitCode())
}

func TestAClusterThatWasNotFinished(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data.new"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.new", "PG_VERSION"), []byte("15\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600))
	s := start(t, postgres.Options{DataDir: dir})
	require.Equal(t, 1, query[int](t, s.URL(postgres.Database), "SELECT 1"))
}

func TestFoldersThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	used := tempDir(t)
	require.NoError(t, os.MkdirAll(filepath.Join(used, "letters"), 0o755))
	_, err := postgres.Start(t.Context(), postgres.Options{DataDir: used})
	require.ErrorContains(t, err, "holds something else")

	_, err = postgres.Start(t.Context(), postgres.Options{})
	require.ErrorContains(t, err, "no data folder")

	newer := tempDir(t)
	require.NoError(t, os.MkdirAll(filepath.Join(newer, "data"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(newer, "data", "PG_VERSION"), []byte("99\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(newer, "lock"), nil, 0o600))
	_, err = postgres.Start(t.Context(), postgres.Options{DataDir: newer})
	require.ErrorContains(t, err, "was made by PostgreSQL 99")

	if os.Geteuid() == 0 { // nobody but root could not make it
		closed := tempDir(t)
		require.NoError(t, os.MkdirAll(closed, 0o700))
		_, err = postgres.Start(t.Context(), postgres.Options{DataDir: filepath.Join(closed, "pg")})
		require.ErrorContains(t, err, "may not enter "+closed)
	}
}

func TestATemporaryFolderIsRemoved(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, postgres.Options{DataDir: dir, Temporary: true, Settings: map[string]string{"fsync": "off"}})
	require.Equal(t, "off", query[string](t, s.URL(postgres.Database), "SHOW fsync"))
	s.Stop(t.Context())
	_, err := os.Stat(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestAPathThatIsTooLongForASocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tempDir(t), strings.Repeat("long", 30))
	s := start(t, postgres.Options{DataDir: dir})
	require.Equal(t, 1, query[int](t, s.URL(postgres.Database), "SELECT 1"))
}

func TestAServerThatDoesNotStartSaysWhy(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	_, err := postgres.Start(t.Context(), postgres.Options{DataDir: dir, Settings: map[string]string{"shared_buffers": "much"}})
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers": "much"`)
	start(t, postgres.Options{DataDir: dir}) // it has not kept the lock
}

// fake is a folder of programs that say they are some PostgreSQL.
func fake(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"initdb", "postgres"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+version+"'\n"), 0o755))
	}
	return dir
}

func TestFindBinaries(t *testing.T) {
	t.Setenv("CHANGEOVER_PG_BIN", "")
	found, err := postgres.FindBinaries()
	require.NoError(t, err)
	require.GreaterOrEqual(t, found.Major, 15)

	for version, major := range map[string]int{
		"postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)": 15,
		"postgres (PostgreSQL) 16.0":                           16,
		"postgres (PostgreSQL) 18beta2":                        18,
		"postgres (PostgreSQL) 19devel":                        19,
	} {
		dir := fake(t, version)
		t.Setenv("CHANGEOVER_PG_BIN", dir)
		found, err := postgres.FindBinaries()
		require.NoError(t, err, version)
		require.Equal(t, postgres.Binaries{Dir: dir, Major: major}, found)
	}
	for version, says := range map[string]string{
		"postgres (PostgreSQL) 14.9": "15 or newer is needed",
		"mysqld 8":                   "calls itself",
	} {
		t.Setenv("CHANGEOVER_PG_BIN", fake(t, version))
		_, err := postgres.FindBinaries()
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, "CHANGEOVER_PG_BIN")
	}
	t.Setenv("CHANGEOVER_PG_BIN", t.TempDir())
	_, err = postgres.FindBinaries()
	require.ErrorIs(t, err, fs.ErrNotExist)

	// Of several in PATH the newest is taken, and those that are too old are not.
	t.Setenv("CHANGEOVER_PG_BIN", "")
	newest := fake(t, "postgres (PostgreSQL) 98.1")
	t.Setenv("PATH", strings.Join([]string{t.TempDir(), fake(t, "postgres (PostgreSQL) 9.6"), fake(t, "postgres (PostgreSQL) 97.1"), newest}, ":"))
	found, err = postgres.FindBinaries()
	require.NoError(t, err)
	require.Equal(t, postgres.Binaries{Dir: newest, Major: 98}, found)
}

func TestDefaultDataDir(t *testing.T) {
	t.Parallel()
	dir, err := postgres.DefaultDataDir()
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(dir))
	if os.Geteuid() == 0 {
		require.False(t, strings.HasPrefix(dir, "/root"), "nobody else enters that")
	}
}
