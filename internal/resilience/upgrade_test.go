package resilience

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/servertest"
)

// before is the version that an upgrade begins with: the newest release whose migrations are not the ones that are here, or, where none is
// tagged, the commit before the newest migration came.
func before(t *testing.T) (dir, version string) {
	t.Helper()
	git := func(args ...string) (string, error) {
		cmd := exec.Command("git", args...)
		cmd.Dir = filepath.Join("..", "..")
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	if _, err := git("rev-parse", "HEAD"); err != nil {
		t.Skip("this is no git checkout, so there is no version before: ", err)
	}
	const sql = "migrations/*.sql"
	differs := func(version string) bool {
		_, err := git("diff", "--quiet", version, "--", sql)
		return err != nil
	}
	tags, err := git("tag", "--merged", "HEAD", "--sort=-version:refname", "--list", "v*")
	require.NoError(t, err)
	for _, tag := range strings.Fields(tags) {
		if differs(tag) {
			version = tag
			break
		}
	}
	if version == "" {
		commit, err := git("log", "-1", "--diff-filter=A", "--format=%H", "--", sql)
		require.NoError(t, err)
		if version, err = git("rev-parse", "--verify", "--quiet", commit+"^"); err != nil {
			t.Skip("the history that is here (a shallow clone?) does not reach back to the version before the newest migration")
		}
	}
	dir = filepath.Join(t.TempDir(), "before")
	require.NoError(t, os.Mkdir(dir, 0o755))
	archive := exec.Command("git", "archive", version)
	archive.Dir = filepath.Join("..", "..")
	tree, err := archive.Output()
	require.NoError(t, err)
	tar := exec.Command("tar", "-x", "-C", dir)
	tar.Stdin = bytes.NewReader(tree)
	out, err := tar.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir, version
}

// In the middle of an upgrade the version before and this one work side by side, on a schema that this one has brought up to date: both
// serve streams, each leads in its turn, desktops go from one to the other with their cursor, and back.
func TestOldAndNewSideBySide(t *testing.T) {
	thorough(t)
	t.Parallel()
	dir, version := before(t)
	program := servertest.Build(t, dir, "before")
	t.Logf("beside %s", version)
	url := postgrestest.NewEmptyDatabase(t)
	c := newCluster(t, busyFloor(30), url)
	old := c.add(url)
	old.program = program
	old.keep(map[string][]string{ // keys that every version knows
		"http": {"listen"}, "database": {"url"}, "auth": {"mode"}, "connect": nil, "poll": nil, "stream": {"heartbeat", "drain"}, "failoverGroups": nil,
	})
	old.start()
	old.worksIn(east)
	schema := query[int64](t, url, "SELECT max(version_id) FROM goose_db_version")
	c.shift()
	old.worksIn(west)

	next := c.add(url, func(cfg *config.Config) { cfg.Stream.Drain = time.Second })
	next.start()
	next.worksIn(west)
	require.Greater(t, query[int64](t, url, "SELECT max(version_id) FROM goose_db_version"), schema, "it has migrated")
	c.open(12)
	require.Equal(t, old.n, c.leader().n)
	c.shift()
	for _, r := range c.replicas {
		r.worksIn(east)
	}
	for range 2 {
		for _, r := range []*replica{old, next} {
			c.under(func() {
				r.stop()
				require.NotEqual(t, r.n, c.leader().n, "the other leads")
				r.start()
				r.serves()
				pause(2 * time.Second)
			})
		}
	}
	c.settle()
	for _, d := range c.desktops {
		require.Empty(t, d.reasons(), "the desktop of %q was reset", d.agent)
	}
}
