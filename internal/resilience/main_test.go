package resilience

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"changeover/internal/postgres/postgrestest"
)

const (
	east = "us-east-1"
	west = "us-west-2"
)

func TestMain(m *testing.M) {
	// The simulator takes any credentials; without some the SDK would ask this machine for them, over the network.
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	var err error
	if programs, err = os.MkdirTemp("", "changeover-programs-"); err != nil {
		panic(err)
	}
	postgrestest.Main(cleaning{m})
}

// thorough skips what the default run has no time for: most of these tests wait for real time-outs.
func thorough(t *testing.T) {
	t.Helper()
	if os.Getenv("FAULTS") == "" {
		t.Skip("takes its time: make test/faults")
	}
}

// programs is the folder of what the tests build. What is in it goes with the test binary's end.
var programs string

// cleaning removes the folder of programs after the tests.
type cleaning struct{ m *testing.M }

func (c cleaning) Run() int {
	defer os.RemoveAll(programs)
	return c.m.Run()
}

// build makes a program of the module in a folder, once.
var build = func() func(t testing.TB, dir, name string) string {
	var mu sync.Mutex
	built := map[string]error{}
	return func(t testing.TB, dir, name string) string {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		path := filepath.Join(programs, name)
		err, done := built[path]
		if !done {
			args := []string{"build", "-o", path}
			if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
				args = append(args, "-race") // of which the packages are compiled already
			}
			cmd := exec.Command("go", append(args, "changeover/cmd/server")...)
			cmd.Dir = dir
			var out []byte
			if out, err = cmd.CombinedOutput(); err != nil {
				err = fmt.Errorf("go build in %q: %w\n%s", dir, err, out)
			}
			built[path] = err
		}
		require.NoError(t, err)
		return path
	}
}()
