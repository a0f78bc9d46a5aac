package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// oldestMajor is the oldest PostgreSQL that the store works with.
const oldestMajor = 15

// Binaries are the programs of one installed PostgreSQL.
type Binaries struct {
	Dir   string // holds initdb and postgres
	Major int    // version
}

// searched are the folders in which packages put the server's programs, as patterns.
var searched = []string{
	"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
	"/usr/pgsql-*/bin",                  // PostgreSQL's packages for Red Hat
	"/opt/homebrew/opt/postgresql*/bin", // Homebrew on Apple silicon
	"/usr/local/opt/postgresql*/bin",    // Homebrew on Intel
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/usr/local/pgsql/bin", // built from source
}

// FindBinaries looks for PostgreSQL 15 or newer: in CHANGEOVER_PG_BIN, which nothing else is tried besides; in PATH; and, the newest
// first, where packages put it. The error says how to install it.
func FindBinaries() (Binaries, error) { return findBinaries(0) }

// findBinaries looks for one major version; 0: any.
func findBinaries(major int) (Binaries, error) {
	if dir := os.Getenv("CHANGEOVER_PG_BIN"); dir != "" {
		b, err := inspect(dir)
		if err == nil && major != 0 && b.Major != major {
			err = fmt.Errorf("it is PostgreSQL %d, not %d", b.Major, major)
		}
		if err != nil {
			return Binaries{}, fmt.Errorf("CHANGEOVER_PG_BIN is %s: %w", dir, err)
		}
		return b, nil
	}
	for _, list := range [][]string{filepath.SplitList(os.Getenv("PATH")), packaged()} {
		var found []Binaries
		for _, dir := range list {
			if b, err := inspect(dir); err == nil && (major == 0 || b.Major == major) {
				found = append(found, b)
			}
		}
		if len(found) > 0 {
			return slices.MaxFunc(found, func(a, b Binaries) int { return cmp.Compare(a.Major, b.Major) }), nil
		}
	}
	what := fmt.Sprintf("%d or newer", oldestMajor)
	if major != 0 {
		what = strconv.Itoa(major)
	}
	return Binaries{}, fmt.Errorf("no server programs of PostgreSQL %s in PATH or %s; %s", what, strings.Join(searched, ", "), howToInstall(major))
}

func packaged() []string {
	var dirs []string
	for _, pattern := range searched {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		dirs = append(dirs, found...)
	}
	return dirs
}

func howToInstall(major int) string {
	version := ""
	switch {
	case runtime.GOOS == "darwin":
		if major == 0 {
			major = 17
		}
		return fmt.Sprintf("install them with 'brew install postgresql@%d', or set CHANGEOVER_PG_BIN", major)
	case major != 0:
		version = fmt.Sprintf("-%d", major)
	}
	return fmt.Sprintf("install them with 'apt-get install postgresql%s', or set CHANGEOVER_PG_BIN", version)
}

var versionNumber = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// inspect says which PostgreSQL a folder holds.
func inspect(dir string) (Binaries, error) {
	for _, name := range []string{"initdb", "postgres"} {
		if err := executable(filepath.Join(dir, name)); err != nil {
			return Binaries{}, err
		}
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("ask %s/postgres for its version: %w", dir, err)
	}
	m := versionNumber.FindSubmatch(out)
	if m == nil {
		return Binaries{}, fmt.Errorf("%s/postgres calls itself %q", dir, strings.TrimSpace(string(out)))
	}
	major, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return Binaries{}, fmt.Errorf("%s/postgres calls itself %q: %w", dir, strings.TrimSpace(string(out)), err)
	}
	if major < oldestMajor {
		return Binaries{}, fmt.Errorf("%s holds PostgreSQL %d; %d or newer is needed", dir, major, oldestMajor)
	}
	return Binaries{Dir: dir, Major: major}, nil
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s: %w", path, errors.New("not a program"))
	}
	return nil
}
