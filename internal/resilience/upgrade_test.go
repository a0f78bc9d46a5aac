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

func git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// otherSchema is the newest release whose migrations are not the ones that are here, or, where none is tagged, the commit before the newest
// migration came.
func otherSchema(t *testing.T) string {
	t.Helper()
	const sql = "migrations/*.sql"
	tags, err := git("tag", "--merged", "HEAD", "--sort=-version:refname", "--list", "v*")
	require.NoError(t, err)
	for _, tag := range strings.Fields(tags) {
		if _, err := git("diff", "--quiet", tag, "--", sql); err != nil {
			return tag
		}
	}
	commit, err := git("log", "-1", "--diff-filter=A", "--format=%H", "--", sql)
	require.NoError(t, err)
	return commit + "^"
}

// checkout makes a directory of a version.
func checkout(t *testing.T, version string) (dir string) {
	t.Helper()
	commit, err := git("rev-parse", "--verify", "--quiet", version)
	if err != nil {
		t.Skip("the history that is here (a shallow clone?) does not reach back to ", version)
	}
	t.Logf("beside %s", commit)
	dir = filepath.Join(t.TempDir(), "before")
	require.NoError(t, os.Mkdir(dir, 0o755))
	archive := exec.Command("git", "archive", commit)
	archive.Dir = filepath.Join("..", "..")
	tree, err := archive.Output()
	require.NoError(t, err)
	tar := exec.Command("tar", "-x", "-C", dir)
	tar.Stdin = bytes.NewReader(tree)
	out, err := tar.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir
}

// In the middle of an upgrade the version before and this one work side by side, on a schema that this one has brought up to date: both
// serve streams, each leads in its turn, desktops go from one to the other with their cursor, and back.
func TestOldAndNewSideBySide(t *testing.T) {
	thorough(t)
	t.Parallel()
	if _, err := git("rev-parse", "HEAD"); err != nil {
		t.Skip("this is no git checkout, so there is no version before: ", err)
	}
	t.Run("the commit before", func(t *testing.T) {
		t.Parallel()
		sideBySide(t, servertest.Build(t, checkout(t, "HEAD^"), "before"))
	})
	t.Run("the newest with another schema", func(t *testing.T) {
		t.Parallel()
		url, schema := sideBySide(t, servertest.Build(t, checkout(t, otherSchema(t)), "other-schema"))
		require.Greater(t, schemaOf(t, url), schema, "it has migrated")
	})
}

func schemaOf(t *testing.T, url string) int64 {
	return query[int64](t, url, "SELECT max(version_id) FROM goose_db_version")
}

// sideBySide returns the database and the schema that the version before made in it.
func sideBySide(t *testing.T, before string) (url string, schema int64) {
	url = postgrestest.NewEmptyDatabase(t)
	c := newCluster(t, busyFloor(30), url)
	old := c.add(url)
	old.program = before
	old.keep(map[string][]string{ // keys that every version knows
		"http": {"listen"}, "database": {"url"}, "auth": {"mode"}, "connect": nil, "poll": nil, "stream": {"heartbeat", "drain"}, "failoverGroups": nil,
	})
	old.start()
	old.worksIn(east)
	schema = schemaOf(t, url)
	c.shift()
	old.worksIn(west)

	next := c.add(url, func(cfg *config.Config) { cfg.Stream.Drain = time.Second })
	next.start()
	next.worksIn(west)
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
	return url, schema
}
