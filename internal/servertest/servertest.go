// Package servertest has what tests need that run the service against the simulator: an environment in which the AWS SDK asks nobody, a
// configuration, and the program.
package servertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/postgres/postgrestest"
)

// Main is a TestMain: [postgrestest.Main] in the [Environment] of the simulator. What [Build] made goes with it.
func Main(m *testing.M, leaks ...goleak.Option) {
	Environment()
	postgrestest.Main(cleaning{m}, leaks...)
}

// Environment leaves nothing of what this machine says of AWS to the tests and the processes that they start. The simulator takes any
// credentials; without some the SDK would ask this machine for them, over the network. It panics if that cannot be set.
func Environment() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_") {
			must(os.Unsetenv(name))
		}
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		must(os.Setenv(name, value))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Config is that of a service without sign-in that polls a simulator as fast as tests like it. floor is the URL of the simulator's
// handler.
func Config(sim *connectsim.Sim, floor, database string) *config.Config {
	c := config.Default()
	c.HTTP.Listen = "127.0.0.1:0"
	c.Database.URL = config.Secret(database)
	c.Auth.Mode = config.AuthNone
	c.Connect = config.Connect{RequestsPerSecond: 100, Burst: 100, RequestTimeout: 2 * time.Second}
	c.Poll.DistributionInterval, c.Poll.AgentInterval, c.Poll.DrainInterval = 200*time.Millisecond, 300*time.Millisecond, 200*time.Millisecond
	c.Stream.Drain = 200 * time.Millisecond
	group := config.FailoverGroup{Name: "main", Routing: config.Regional}
	for _, region := range sim.Regions() {
		group.Instances = append(group.Instances, config.Instance{
			Region: region, InstanceID: sim.InstanceID(), CCPURL: "https://" + region + ".example.com/ccp-v2/", Endpoint: floor,
		})
	}
	c.FailoverGroups = []config.FailoverGroup{group}
	return c
}

// programs are what Build made.
var programs struct {
	mu    sync.Mutex
	dir   string
	built map[string]error // by name
}

// Build makes the program of the module in dir (empty: this one) once for the test binary, with the race detector if that has it, and
// returns its path. name tells programs apart.
func Build(t testing.TB, dir, name string) string {
	t.Helper()
	programs.mu.Lock()
	defer programs.mu.Unlock()
	if programs.dir == "" {
		var err error
		if programs.dir, err = os.MkdirTemp("", "changeover-programs-"); err != nil { //nolint:usetesting // other tests use what is in it
			t.Fatal(err)
		}
		programs.built = map[string]error{}
	}
	path := filepath.Join(programs.dir, name)
	if _, done := programs.built[name]; !done {
		args := []string{"build", "-o", path}
		if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
			args = append(args, "-race") // of which the packages are compiled already
		}
		cmd := exec.Command("go", append(args, "changeover/cmd/server")...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("go %s in %q: %w\n%s", strings.Join(cmd.Args[1:], " "), dir, err, out)
		}
		programs.built[name] = err
	}
	if err := programs.built[name]; err != nil {
		t.Fatal(err)
	}
	return path
}

// cleaning removes the programs after the tests.
type cleaning struct{ m *testing.M }

// Run runs the tests.
func (c cleaning) Run() int {
	defer func() {
		if programs.dir != "" {
			os.RemoveAll(programs.dir)
		}
	}()
	return c.m.Run()
}
