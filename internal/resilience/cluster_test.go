package resilience

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/servertest"
)

// patience is for things that take milliseconds on an idle machine.
const patience = 30 * time.Second

// Bounds that the service promises.
const (
	takeover = 15 * time.Second // from the loss of a leader to the next one's first decision
	recovery = 5 * time.Second  // from PostgreSQL's return to the next decision
)

// cluster is a floor, a database and the replicas that work on them.
type cluster struct {
	t        testing.TB
	sim      *connectsim.Sim
	database string // as a test looks into it
	floor    string
	client   *http.Client
	replicas []*replica
	desktops []*desktop
	to       string // where the floor was sent last
}

// busyFloor has agents whose calls and chats take a second.
func busyFloor(agents int) connectsim.Config {
	d := func(d time.Duration) connectsim.Duration { return connectsim.Duration(d) }
	return connectsim.Config{
		Seed: 1, Agents: agents, RoutingProfiles: 3, MoveDelay: 200 * time.Millisecond, Lag: 50 * time.Millisecond,
		UpdateWindow: 50 * time.Millisecond,
		Floor: connectsim.Floor{
			CallsPerHour: 600, ChatsPerHour: 400, TasksPerHour: 100, Ring: d(50 * time.Millisecond), Talk: d(time.Second),
			Chat: d(time.Second), Task: d(time.Second), AfterContactWork: d(300 * time.Millisecond),
		},
	}
}

// newCluster makes a floor. database is the URL by which the test sees what is stored.
func newCluster(t testing.TB, floor connectsim.Config, database string) *cluster {
	t.Helper()
	sim := connectsim.New(floor)
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return &cluster{
		t: t, sim: sim, floor: server.URL, database: database, to: east,
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience},
	}
}

// add makes a replica that reaches the database by a URL, and starts it.
func (c *cluster) add(url string, change ...func(*config.Config)) *replica {
	c.t.Helper()
	cfg := servertest.Config(c.sim, c.floor, url)
	cfg.HTTP.Listen = freeAddress(c.t)
	cfg.Connect = config.Connect{RequestsPerSecond: 200, Burst: 200, RequestTimeout: 2 * time.Second}
	cfg.Poll.AgentInterval = 500 * time.Millisecond
	cfg.Stream.Heartbeat, cfg.Stream.Drain = time.Second, 500*time.Millisecond
	for _, f := range change {
		f(cfg)
	}
	// Secrets do not marshal.
	urls := [][2]string{{"url", string(cfg.Database.URL)}, {"listenUrl", string(cfg.Database.ListenURL)}, {"migrateUrl", string(cfg.Database.MigrateURL)}}
	text, err := yaml.Marshal(cfg)
	require.NoError(c.t, err)
	var whole map[string]any
	require.NoError(c.t, yaml.Unmarshal(text, &whole))
	for _, u := range urls {
		whole["database"].(map[string]any)[u[0]] = u[1]
	}
	for i, w := range cfg.Webhooks {
		hook := whole["webhooks"].([]any)[i].(map[string]any)
		hook["url"], hook["signingKey"] = string(w.URL), string(w.SigningKey)
	}
	r := &replica{t: c.t, c: c, program: servertest.Build(c.t, "", "server"), address: cfg.HTTP.Listen, n: len(c.replicas) + 1}
	r.file = filepath.Join(c.t.TempDir(), "changeover.yaml")
	r.write(whole)
	c.t.Cleanup(func() {
		if r.process != nil {
			r.kill()
		}
		if c.t.Failed() {
			c.t.Logf("the last words of replica %d:\n%s", r.n, r.all.String())
		}
	})
	c.replicas = append(c.replicas, r)
	return r
}

// start adds so many replicas that reach the database by a URL, starts them, and waits until one leads and knows the floor.
func (c *cluster) start(n int, url string, change ...func(*config.Config)) {
	c.t.Helper()
	for range n {
		c.add(url, change...).start()
	}
	c.ready()
}

// ready waits until every replica knows the floor.
func (c *cluster) ready() {
	c.t.Helper()
	for _, r := range c.replicas {
		r.worksIn(c.to)
	}
}

// open gives so many agents desktops, spread over the replicas, and opens a console; it returns when all streams are open.
func (c *cluster) open(desktops int) {
	c.t.Helper()
	for i, a := range c.sim.Agents()[:desktops] {
		c.listen(a.ID, i)
	}
	console := 0
	if len(c.replicas) > 1 { // at one that does not lead, because most tests harm the leader's
		console = slices.Index(c.replicas, c.followers()[0])
	}
	c.listen("", console) // an operator's
	for _, d := range c.desktops {
		c.until("the stream is open", func() bool { return d.first() != "" })
	}
}

// shift sends the floor to the other Region, as soon as the update before has come through.
func (c *cluster) shift() {
	c.t.Helper()
	c.to = other(c.to)
	c.until("the distribution can be updated", func() bool { return c.sim.Shift("", c.to, 100) == nil })
}

func other(region string) string {
	if region == east {
		return west
	}
	return east
}

// quiet ends what keeps agents on contacts.
func (c *cluster) quiet() {
	c.t.Helper()
	floor := c.sim.Floor()
	floor.CallsPerHour, floor.ChatsPerHour, floor.TasksPerHour = 0, 0, 0
	require.NoError(c.t, c.sim.SetFloor(floor))
}

// until waits for something that only time brings.
func (c *cluster) until(what string, so func() bool) time.Duration {
	c.t.Helper()
	return c.within(patience, what, so)
}

// within is until with a bound that was promised. It returns how long it took.
func (c *cluster) within(bound time.Duration, what string, so func() bool) time.Duration {
	c.t.Helper()
	began := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !so() {
		require.Less(c.t, time.Since(began), bound, "still not so: %s", what)
		<-ticker.C
	}
	return time.Since(began)
}

// query reads one value from the database.
func query[T any](t testing.TB, url, sql string, args ...any) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

func execute(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// leader is the replica that holds the lease.
func (c *cluster) leader() *replica {
	c.t.Helper()
	var found *replica
	c.until("somebody leads", func() bool {
		holder := query[string](c.t, c.database, "SELECT coalesce((SELECT holder FROM leases WHERE expires_at > clock_timestamp()), '')")
		i := slices.IndexFunc(c.replicas, func(r *replica) bool { return r.process != nil && r.name() == holder })
		if i >= 0 {
			found = c.replicas[i]
		}
		return i >= 0
	})
	return found
}

// followers are those who do not lead.
func (c *cluster) followers() []*replica {
	leader := c.leader()
	return slices.DeleteFunc(slices.Clone(c.replicas), func(r *replica) bool { return r == leader })
}

// replica is the program in a process.
type replica struct {
	t                      testing.TB
	c                      *cluster
	n                      int
	program, file, address string
	environment            []string // besides this process's
	process                *exec.Cmd
	done                   chan struct{} // closed when the process has ended and all that it said is read

	mu   sync.Mutex
	said bytes.Buffer // since the last start
	all  tail
}

// write makes the configuration file.
func (r *replica) write(whole map[string]any) {
	r.t.Helper()
	text, err := yaml.Marshal(whole)
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(r.file, text, 0o600))
}

// freeAddress is a port that a killed process and its successor can both have.
func freeAddress(t testing.TB) string {
	t.Helper()
	host := "127.0.0.1"
	if runtime.GOOS == "linux" { // has more of them, where no connection of another test can take the port meanwhile
		host = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 2+rand.IntN(250))
	}
	l, err := net.Listen("tcp", host+":0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// start runs `server serve` and returns when it listens.
func (r *replica) start() {
	r.t.Helper()
	r.launch()
	select {
	case <-r.hears(`"msg":"started"`):
	case <-r.done:
		require.Fail(r.t, "the process ended", r.text())
	case <-time.After(patience):
		require.Fail(r.t, "the process did not start", r.text())
	}
}

// launch runs `server serve`.
func (r *replica) launch() {
	r.t.Helper()
	r.process = exec.Command(r.program, "serve", "--config", r.file)
	r.process.Env = append(os.Environ(), r.environment...)
	stderr, err := r.process.StderrPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, r.process.Start())
	r.mu.Lock()
	r.said.Reset()
	r.mu.Unlock()
	done := make(chan struct{})
	r.done = done
	go func() {
		defer close(done)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			r.mu.Lock()
			fmt.Fprintln(io.MultiWriter(&r.said, &r.all, logtest.Output()), lines.Text())
			r.mu.Unlock()
		}
	}()
}

// hears is closed when the process has said something since its start.
func (r *replica) hears(what string) <-chan struct{} {
	heard := make(chan struct{})
	done := r.done
	go func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for !strings.Contains(r.text(), what) {
			select {
			case <-ticker.C:
			case <-done:
				return
			}
		}
		close(heard)
	}()
	return heard
}

func (r *replica) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

// name is that by which the process holds the lease; empty: it has not said.
func (r *replica) name() string {
	_, after, _ := strings.Cut(r.text(), `"replica":"`)
	name, _, _ := strings.Cut(after, `"`)
	return name
}

func (r *replica) signal(s syscall.Signal) {
	r.t.Helper()
	require.NoError(r.t, r.process.Process.Signal(s))
}

// kill is kill -9.
func (r *replica) kill() {
	r.t.Helper()
	r.signal(syscall.SIGKILL)
	r.wait()
}

// stop is SIGTERM, and waits for the end.
func (r *replica) stop() {
	r.t.Helper()
	r.signal(syscall.SIGTERM)
	select {
	case <-r.done:
	case <-time.After(patience):
		require.Fail(r.t, "the process does not end", r.text())
	}
	r.wait()
}

// wait waits for the process to end, and returns its exit code.
func (r *replica) wait() int {
	r.t.Helper()
	<-r.done
	_ = r.process.Wait() // it may have been killed
	code := r.process.ProcessState.ExitCode()
	r.process = nil
	require.NotContains(r.t, r.text(), "DATA RACE")
	require.NotContains(r.t, r.text(), "panic:")
	return code
}

// memory is what the process has resident, in MiB.
func (r *replica) memory() int {
	r.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.process.Process.Pid))
	require.NoError(r.t, err)
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	var kib int
	_, err = fmt.Sscan(after, &kib)
	require.NoError(r.t, err)
	return kib / 1024
}

// try asks for a path once.
func (r *replica) try(path string) (status int, body []byte) {
	request, err := http.NewRequest(http.MethodGet, "http://"+r.address+path, nil)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return r.send(request)
}

// send sends one request.
func (r *replica) send(request *http.Request) (status int, body []byte) {
	answer, err := r.c.client.Do(request)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return answer.StatusCode, body
}

// get decodes the answer of a GET, which has to succeed as soon as the service is ready.
func get[T any](r *replica, path string) (v T) {
	r.t.Helper()
	r.c.until(path, func() bool {
		status, body := r.try(path)
		if status == http.StatusServiceUnavailable { // the log is being loaded
			return false
		}
		require.Equal(r.t, http.StatusOK, status, "%s: %s", path, body)
		require.NoError(r.t, json.Unmarshal(body, &v))
		return true
	})
	return v
}

// serves waits until it is ready.
func (r *replica) serves() {
	r.t.Helper()
	r.c.until("it serves", func() bool { status, _ := r.try("/readyz"); return status == http.StatusOK })
}

// worksIn waits until every agent of the floor is known to work in a Region.
func (r *replica) worksIn(region string) {
	r.t.Helper()
	r.serves()
	r.c.until(fmt.Sprintf("replica %d knows that everybody is in %s", r.n, region), func() bool {
		agents := 0
		for path := "/v1/agents?activeRegion=" + region + "&state=active&limit=1000"; path != ""; {
			list := get[contract.AgentList](r, path)
			agents += len(list.Items)
			if path = ""; list.NextCursor != nil {
				path = "/v1/agents?activeRegion=" + region + "&state=active&limit=1000&cursor=" + url.QueryEscape(*list.NextCursor)
			}
		}
		return agents == len(r.c.sim.Agents())
	})
}

// troubled says whether /readyz, which has to be 200, tells that the database does not answer or cannot be written to.
func (r *replica) troubled() bool {
	r.t.Helper()
	status, body := r.try("/readyz")
	require.Equal(r.t, http.StatusOK, status, "%s", body)
	var ready contract.Readiness
	require.NoError(r.t, json.Unmarshal(body, &ready))
	return slices.ContainsFunc(ready.Checks, func(c contract.Check) bool {
		return (c.Name == "database" || c.Name == "leader") && c.State == contract.HealthStateDown
	})
}

// tail keeps the end of a log.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > 64<<10 {
		l.buf.Next(32 << 10)
	}
	return l.buf.Write(p)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(l.buf.String()), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// keep leaves nothing in the configuration but some keys; of a section without any, all.
func (r *replica) keep(sections map[string][]string) {
	r.t.Helper()
	text, err := os.ReadFile(r.file)
	require.NoError(r.t, err)
	var whole map[string]any
	require.NoError(r.t, yaml.Unmarshal(text, &whole))
	kept := map[string]any{}
	for section, keys := range sections {
		if keys == nil {
			kept[section] = whole[section]
			continue
		}
		some := map[string]any{}
		for _, key := range keys {
			some[key] = whole[section].(map[string]any)[key]
		}
		kept[section] = some
	}
	r.write(kept)
}
