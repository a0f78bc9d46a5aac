package connectsim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// serve gives the simulator a port.
func serve(t testing.TB, s *Sim) string {
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

// clientConfig is what the clients that others wrote are driven against.
func clientConfig() Config {
	return Config{
		Seed: 3, Agents: 25, RoutingProfiles: 3, MoveDelay: -1,
		TDGs: []TDGConfig{{Name: "default", Default: true, Agents: 1}, {Name: "second", ID: secondTDG}},
	}
}

// jsClient installs the pinned JavaScript SDK into the repository's cache, once for each lockfile, and returns the
// folder with the script that uses it.
func jsClient(t *testing.T) string {
	t.Helper()
	lock, err := os.ReadFile(filepath.Join("jsclient", "package-lock.json"))
	require.NoError(t, err)
	sum := sha256.Sum256(lock)
	cache := filepath.Join("..", "..", ".cache", "connectsim-js")
	dir := filepath.Join(cache, hex.EncodeToString(sum[:8]))
	require.NoError(t, os.MkdirAll(dir, 0o755))

	// Two test runs at once must not install into the same folder.
	guard, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	require.NoError(t, err)
	defer guard.Close()
	require.NoError(t, syscall.Flock(int(guard.Fd()), syscall.LOCK_EX))

	for _, name := range []string{"package.json", "package-lock.json", "drive.mjs"} {
		b, err := os.ReadFile(filepath.Join("jsclient", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	done := filepath.Join(dir, "installed")
	if _, err := os.Stat(done); err == nil {
		return dir
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "npm ci of internal/connectsim/jsclient needs the npm registry once:\n%s", out)
	require.NoError(t, os.WriteFile(done, nil, 0o644))
	return dir
}

// TestJavaScriptSDK drives the simulator with a client that Amazon wrote: every operation, paging and errors.
func TestJavaScriptSDK(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the JavaScript SDK is not driven")
	}
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed: the simulator is tested with Amazon's JavaScript SDK. Install Node.js 18 or newer "+
				"(Debian: apt-get install nodejs npm; macOS: brew install node), or run the tests with -short", tool)
		}
	}
	t.Parallel()
	dir := jsClient(t)
	free := serve(t, newChecked(t, clientConfig()))
	c := clientConfig()
	c.RatePerSecond, c.Burst = 2, 5
	limited := serve(t, newChecked(t, c))

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--no-warnings", "drive.mjs", free, limited)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "AWS_EC2_METADATA_DISABLED=true")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s\n%s", stdout.String(), stderr.String())
	var seen struct{ Operations, Errors []string }
	require.NoError(t, json.Unmarshal(stdout.Bytes(), &seen), "%s", stdout.String())
	want := OperationNames()
	slices.Sort(want)
	require.Equal(t, want, seen.Operations)
	require.Equal(t, []string{
		"AccessDeniedException", "InternalServiceException", "InvalidParameterException", "InvalidRequestException", "ResourceConflictException",
		"ResourceInUseException", "ResourceNotFoundException", "ThrottlingException", "TooManyRequestsException",
	}, seen.Errors)
}

// awsCLI finds an AWS CLI that knows the agents' part of a distribution.
func awsCLI(t *testing.T) (path string, major int) {
	t.Helper()
	path, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("AWS CLI: not installed")
	}
	out, err := exec.Command(path, "--version").CombinedOutput()
	if err != nil {
		t.Skipf("AWS CLI: %s --version: %v: %s", path, err, out)
	}
	m := regexp.MustCompile(`aws-cli/(\d+)\.(\d+)`).FindSubmatch(out)
	if m == nil {
		t.Skipf("AWS CLI: version of %s is not known: %s", path, out)
	}
	major, _ = strconv.Atoi(string(m[1]))
	minor, _ := strconv.Atoi(string(m[2]))
	if major < 1 || major == 1 && minor < 27 || major == 2 && minor < 10 {
		t.Skipf("AWS CLI: %s is %d.%d; 1.27 or 2.10 and newer send the agents' distribution", path, major, minor)
	}
	return path, major
}

// TestAWSCLI sends an administrator's own commands.
func TestAWSCLI(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the AWS CLI is not driven")
	}
	t.Parallel()
	cli, major := awsCLI(t)
	sim := newChecked(t, clientConfig())
	endpoint := serve(t, sim)
	home := t.TempDir()
	run := func(region string, args ...string) (map[string]any, string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		args = append([]string{"connect", "--endpoint-url", endpoint, "--region", region, "--output", "json"}, args...)
		if major >= 2 {
			args = append(args, "--no-cli-pager")
		}
		cmd := exec.CommandContext(ctx, cli, args...)
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret", "AWS_MAX_ATTEMPTS=1",
			"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE="+filepath.Join(home, "config"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(home, "credentials"))
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		var v map[string]any
		if stdout.Len() > 0 {
			require.NoError(t, json.Unmarshal(stdout.Bytes(), &v), "%s", stdout.String())
		}
		return v, stderr.String(), err
	}
	must := func(region string, args ...string) map[string]any {
		t.Helper()
		v, stderr, err := run(region, args...)
		require.NoError(t, err, "aws connect %v: %s", args, stderr)
		return v
	}
	arn := tdgARN + DefaultTDGID
	groups := must(west, "list-traffic-distribution-groups", "--instance-id", sim.InstanceID())["TrafficDistributionGroupSummaryList"].([]any)
	require.Len(t, groups, 2)
	require.Equal(t, arn, groups[0].(map[string]any)["Arn"])
	require.Len(t, must(east, "list-traffic-distribution-group-users", "--traffic-distribution-group-id", DefaultTDGID)["TrafficDistributionGroupUserSummaryList"], 25, "the CLI reads all pages")

	both := func(percentWest int) string {
		return fmt.Sprintf(`{"Distributions":[{"Region":"us-east-1","Percentage":%d},{"Region":"us-west-2","Percentage":%d}]}`, 100-percentWest, percentWest)
	}
	must(west, "update-traffic-distribution", "--id", arn, "--telephony-config", both(100), "--agent-config", both(100),
		"--sign-in-config", `{"Distributions":[{"Region":"us-east-1","Enabled":false},{"Region":"us-west-2","Enabled":true}]}`)
	d := must(east, "get-traffic-distribution", "--id", arn)
	require.JSONEq(t, both(100), string(marshal(t, d["AgentConfig"])))
	require.Equal(t, 25, sim.State().Regions[1].Agents)

	_, stderr, err := run(west, "update-traffic-distribution", "--id", arn, "--agent-config", both(45))
	require.Error(t, err)
	require.Contains(t, stderr, "InvalidRequestException")
	_, stderr, err = run(west, "get-traffic-distribution", "--id", DefaultTDGID)
	require.Error(t, err)
	require.Contains(t, stderr, "ResourceNotFoundException")

	a := sim.Agents()[0]
	_, err = sim.StartContact(a.ID, ChannelChat)
	require.NoError(t, err)
	data := must(west, "get-current-user-data", "--instance-id", sim.InstanceID(), "--filters", `{"Agents":["`+a.ID+`"]}`)["UserDataList"].([]any)
	require.Equal(t, "CHAT", data[0].(map[string]any)["Contacts"].([]any)[0].(map[string]any)["Channel"])
}

func marshal(t *testing.T, v any) []byte {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}
