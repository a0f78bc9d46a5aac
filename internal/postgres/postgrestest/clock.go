package postgrestest

import (
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"testing"
	"time"

	"changeover/internal/postgres"
)

// Clock is that of a PostgreSQL which runs with libfaketime.
type Clock struct {
	t    testing.TB
	file string
}

// Ahead sets the clock that much before the real one, which takes effect at once.
func (c *Clock) Ahead(d time.Duration) {
	c.t.Helper()
	next := c.file + ".new"
	err := os.WriteFile(next, fmt.Appendf(nil, "+%d\n", int(d.Seconds())), 0o644) //nolint:gosec // the server's user reads it
	if err == nil {
		err = os.Rename(next, c.file)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// StartClocked starts a server whose clock the test sets; its waits last as long as ever. It skips the test where there is no libfaketime
// ('scripts/setup faults' installs it on Debian).
func StartClocked(t testing.TB, settings map[string]string) (*Server, *Clock) {
	t.Helper()
	libraries, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(libraries) == 0 {
		t.Skip("libfaketime is not there; on Debian 'scripts/setup faults' installs it")
	}
	programs, err := postgres.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	server, err := filepath.EvalSymlinks(filepath.Join(programs.Dir, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := tempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the server's user runs what is in it
		t.Fatal(err)
	}
	c := &Clock{t, filepath.Join(dir, "clock")}
	c.Ahead(0)
	for name, script := range map[string]string{
		"initdb": fmt.Sprintf("exec %s \"$@\"", filepath.Join(filepath.Dir(server), "initdb")),
		"postgres": fmt.Sprintf("exec env LD_PRELOAD=%s FAKETIME_TIMESTAMP_FILE=%s FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 %s \"$@\"",
			libraries[0], c.file, server),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil { //nolint:gosec // as above
			t.Fatal(err)
		}
	}
	if out, err := osexec.Command(filepath.Join(dir, "postgres"), "--version").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return StartWith(t, postgres.Options{Binaries: postgres.Binaries{Dir: dir, Major: programs.Major}, Settings: settings}), c
}
