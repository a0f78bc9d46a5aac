// Package typescript_test runs the TypeScript client against the real service. `make client` does so; plain `go test ./...` needs no Node.
package typescript_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/app"
	"changeover/internal/browsertest"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }

const (
	agents  = 24               // each with a network of its own
	trouble = 12 * time.Second // in which everything happens
)

// TestServiceBehindFaults: two replicas, the simulator and PostgreSQL, and in front of them for each agent a network that drops, cuts and
// falls silent, while the floor shifts back and forth under calls and replicas are restarted. What each desktop is told is the service's log.
func TestServiceBehindFaults(t *testing.T) {
	if os.Getenv("CHANGEOVER_CLIENT") == "" {
		t.Skip("the TypeScript client is tested by make client")
	}
	seed := rand.Uint64()
	if s := os.Getenv("SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("SEED=%d", seed)
		}
	})
	random := rand.New(rand.NewPCG(seed, 0))

	f := newFloor(t)
	networks := make(map[string][]string) // of each agent
	var all []*network
	for _, a := range f.sim.Agents() {
		for _, address := range f.listen {
			n := newNetwork(t, address, random.Uint64())
			all = append(all, n)
			networks[a.ID] = append(networks[a.ID], "http://"+n.listener.Addr().String())
		}
	}
	told := follow(t, map[string]any{"endpoints": networks, "heartbeat": f.config.Stream.Heartbeat.Milliseconds()})
	require.Eventually(t, func() bool { return told.count("ready") == agents }, 30*time.Second, 20*time.Millisecond, "not every desktop knows its Region")

	for _, n := range all {
		n.fail(true)
	}
	f.live(t, random)
	for _, n := range all {
		n.fail(false)
	}
	for _, a := range f.sim.Agents() {
		// Both may still grow: the last shift is decided when it is read.
		want, heard := f.log(t, a.ID), told.of(a.ID)
		for deadline := time.Now().Add(30 * time.Second); !slices.Equal(want, heard) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			want, heard = f.log(t, a.ID), told.of(a.ID)
		}
		require.NotEmpty(t, want, "nothing happened to %s", a.Username)
		require.Equal(t, want, heard, "agent %s %s", a.Username, a.ID)
	}
	total := 0
	for _, a := range f.sim.Agents() {
		total += len(told.of(a.ID))
	}
	t.Logf("%d events to %d desktops", total, agents)
	for _, fault := range []string{"ended", "network", "silent"} {
		require.Contains(t, told.states(), " "+fault+"\n", "a fault that was not there proves nothing")
	}
}

// floor is the service with everything behind it.
type floor struct {
	sim      *connectsim.Sim
	url      string // of the simulator
	config   *config.Config
	listen   []string // addresses of the replicas, the same after a restart
	replicas []*app.App
	client   *http.Client
}

func newFloor(t *testing.T, origins ...string) *floor {
	sim := connectsim.New(connectsim.Config{Agents: agents, MoveDelay: -1})
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	c := servertest.Config(sim, server.URL, postgrestest.NewDatabase(t))
	c.CORS.AllowedOrigins = origins
	c.Stream.Drain, c.Stream.Heartbeat, c.Stream.Retry = 100*time.Millisecond, time.Second, 100*time.Millisecond
	f := &floor{sim: sim, url: server.URL, config: c, listen: []string{"127.0.0.1:0", "127.0.0.1:0"}, replicas: make([]*app.App, 2), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	for i := range f.replicas {
		f.start(t, i)
	}
	t.Cleanup(func() {
		for i := range f.replicas {
			f.stop(t, i)
		}
	})
	return f
}

func (f *floor) start(t *testing.T, i int) {
	c := *f.config
	c.HTTP.Listen = f.listen[i]
	a, err := app.New(t.Context(), &c, app.Options{Log: logtest.New(io.Discard)})
	require.NoError(t, err)
	require.NoError(t, a.Start(t.Context()))
	f.replicas[i], f.listen[i] = a, a.Addr()
}

func (f *floor) stop(t *testing.T, i int) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(t, f.replicas[i].Stop(ctx))
}

// live lets the floor shift back and forth, agents take calls and clear them, and replicas be restarted.
func (f *floor) live(t *testing.T, random *rand.Rand) {
	regions, to := f.sim.Regions(), 1
	shift := func() {
		require.NoError(t, f.sim.Shift("default", regions[to], 100))
		to = 1 - to
	}
	var open []string
	shift()
	for begin, last, restarted := time.Now(), time.Now(), 0; time.Since(begin) < trouble; time.Sleep(time.Duration(20+random.IntN(60)) * time.Millisecond) {
		if time.Since(last) > 1500*time.Millisecond {
			last = time.Now()
			shift()
		}
		if wait := trouble / 3; time.Since(begin) > time.Duration(restarted+1)*wait {
			f.stop(t, restarted%2)
			f.start(t, restarted%2)
			restarted++
		}
		if len(open) > 0 && random.IntN(2) == 0 {
			i := random.IntN(len(open))
			id := open[i]
			open = append(open[:i], open[i+1:]...)
			require.NoError(t, f.sim.EndContact(id))
			require.NoError(t, f.sim.ClearContact(id))
			continue
		}
		if id, err := f.sim.StartContact(f.sim.Agents()[random.IntN(agents)].ID, "VOICE"); err == nil { // who is between two Regions takes none
			open = append(open, id)
		}
	}
	for _, id := range open {
		require.NoError(t, f.sim.EndContact(id))
		require.NoError(t, f.sim.ClearContact(id))
	}
	// Until nothing is open any more.
	require.Eventually(t, func() bool {
		for _, state := range []string{"detected", "pending", "unknown"} {
			var list struct{ Items []any }
			f.get(t, "/v1/agents?limit=1000&state="+state, &list)
			if len(list.Items) > 0 {
				return false
			}
		}
		return true
	}, 30*time.Second, 200*time.Millisecond, "failovers stay open")
}

// log is what the service has told an agent's desktop.
func (f *floor) log(t *testing.T, agentID string) []string {
	var lines []string
	for after := ""; ; {
		var page struct {
			Items []struct {
				ID, Event string
				Data      json.RawMessage
			}
			NextCursor string
		}
		f.get(t, "/v1/agents/"+agentID+"/events?limit=1000&after="+after, &page)
		for _, e := range page.Items {
			if strings.HasPrefix(e.Event, "failover") || strings.HasPrefix(e.Event, "configureError") {
				lines = append(lines, e.Event+" "+canonical(t, e.Data))
			}
		}
		if len(page.Items) < 1000 {
			return lines
		}
		after = page.NextCursor
	}
}

func (f *floor) get(t *testing.T, path string, into any) {
	path = strings.TrimSuffix(path, "&after=")
	resp, err := f.client.Get("http://" + f.listen[0] + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", path, body)
	require.NoError(t, json.Unmarshal(body, into))
}

// canonical is JSON with its fields in alphabetical order.
func canonical(t *testing.T, raw json.RawMessage) string {
	var v any
	require.NoError(t, json.Unmarshal(raw, &v))
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// followed is what test/service/follow.ts says.
type followed struct {
	mu     sync.Mutex
	lines  map[string][]string // by agent
	ready  int
	stderr bytes.Buffer
}

// follow bundles and runs test/service/follow.ts.
func follow(t *testing.T, o any) *followed {
	script := filepath.Join(t.TempDir(), "follow.mjs")
	out, err := exec.CommandContext(t.Context(), "node_modules/.bin/esbuild", "test/service/follow.ts", "--bundle", "--platform=node", "--format=esm", "--log-level=warning", "--outfile="+script).CombinedOutput()
	require.NoError(t, err, "%s", out)
	arg, err := json.Marshal(o)
	require.NoError(t, err)
	f := &followed{lines: make(map[string][]string)}
	cmd := exec.CommandContext(t.Context(), "node", script, string(arg))
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = writer(func(b []byte) { f.mu.Lock(); defer f.mu.Unlock(); f.stderr.Write(b) })
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var line struct {
				AgentID, Event string
				Data           json.RawMessage
			}
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Errorf("follow.ts said %q: %v", lines.Text(), err)
				continue
			}
			f.mu.Lock()
			if line.Event == "ready" {
				f.ready++
			} else {
				var v any
				_ = json.Unmarshal(line.Data, &v)
				b, _ := json.Marshal(v)
				f.lines[line.AgentID] = append(f.lines[line.AgentID], line.Event+" "+string(b))
			}
			f.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		<-done
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("follow.ts: %v", err)
		}
	})
	return f
}

func (f *followed) count(string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

func (f *followed) of(agentID string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.lines[agentID]...)
}

func (f *followed) states() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stderr.String()
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// network is the way of one agent to one replica. While it fails each connection ends after a while: closed, reset, cut in the middle of
// what is being sent, or silent without an end; and now and then there is no way at all.
type network struct {
	listener net.Listener
	to       string

	mu      sync.Mutex
	random  *rand.Rand
	failing bool
	conns   map[net.Conn]bool
}

func newNetwork(t *testing.T, to string, seed uint64) *network {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &network{listener: l, to: to, random: rand.New(rand.NewPCG(seed, 1)), conns: make(map[net.Conn]bool)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { n.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		n.mu.Lock()
		for c := range n.conns {
			_ = c.Close()
		}
		n.mu.Unlock()
		wg.Wait()
	})
	return n
}

// fail begins or ends the faults. What is silent by then stays so: the client has to notice.
func (n *network) fail(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failing = on
}

func (n *network) track(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[c] = true
}

func (n *network) close(c net.Conn) {
	_ = c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

// fate is when a connection fails, and how; nil: it does not.
func (n *network) fate() (after time.Duration, how func(c net.Conn, silent chan<- struct{})) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.failing {
		return 0, nil
	}
	after = time.Duration(n.random.IntN(2000)) * time.Millisecond
	switch n.random.IntN(5) {
	case 0:
		return 0, func(c net.Conn, _ chan<- struct{}) { reset(c) }
	case 1:
		return after, func(c net.Conn, _ chan<- struct{}) { reset(c) }
	case 2:
		return after, func(_ net.Conn, silent chan<- struct{}) { close(silent) }
	default:
		return after, func(c net.Conn, _ chan<- struct{}) { _ = c.Close() }
	}
}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

func (n *network) serve(c net.Conn) {
	n.track(c)
	defer n.close(c)
	up, err := net.Dial("tcp", n.to)
	if err != nil {
		return // the replica is being restarted
	}
	n.track(up)
	defer n.close(up)
	silent := make(chan struct{})
	if after, how := n.fate(); how != nil {
		timer := time.AfterFunc(after, func() { how(c, silent) })
		defer timer.Stop()
	}
	go func() {
		_, _ = io.Copy(up, c)
		_ = up.Close() // the client has gone
	}()
	buf := make([]byte, 4096)
	for {
		m, err := up.Read(buf)
		for sent := 0; sent < m; { // in pieces: a reset falls in between
			select {
			case <-silent:
				_, _ = io.Copy(io.Discard, up)
				return
			default:
			}
			n.mu.Lock()
			piece := min(m-sent, 1+n.random.IntN(200))
			n.mu.Unlock()
			k, err := c.Write(buf[sent : sent+piece])
			sent += k
			if err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// TestExamples runs what is in examples/, as it stands, against the real service: the script in Node, the pages in Chromium.
func TestExamples(t *testing.T) {
	if os.Getenv("CHANGEOVER_CLIENT") == "" {
		t.Skip("the TypeScript client is tested by make client")
	}
	files := http.NewServeMux()
	for path, dir := range map[string]string{"/examples/": "../../examples", "/examples/changeover-client/": "dist/esm"} {
		files.Handle(path, http.StripPrefix(path, http.FileServer(http.Dir(dir))))
	}
	files.HandleFunc("/examples/connect-streams.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "node_modules/amazon-connect-streams/release/connect-streams-min.js")
	})
	site := httptest.NewServer(files)
	t.Cleanup(site.Close)
	f := newFloor(t, site.URL)
	out, err := exec.CommandContext(t.Context(), "npm", "run", "--silent", "build").CombinedOutput()
	require.NoError(t, err, "%s", out)

	t.Run("watch.mjs", func(t *testing.T) { f.watch(t) })
	t.Run("pages", func(t *testing.T) { f.pages(t, site.URL) })
}

// watch runs the script beside the package, and follows an agent with a chat there and back.
func (f *floor) watch(t *testing.T) {
	dir := t.TempDir()
	script, err := os.ReadFile("../../examples/watch.mjs")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "watch.mjs"), script, 0o644))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "node_modules"), 0o755))
	here, err := os.Getwd()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(here, filepath.Join(dir, "node_modules", "changeover-client")))

	agent := f.sim.Agents()[2].ID
	cmd := exec.CommandContext(t.Context(), "node", "watch.mjs", "http://"+f.listen[0], agent)
	cmd.Dir = dir
	var said logtest.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	says := func(want string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(said.String(), want) }, 30*time.Second, 20*time.Millisecond, want)
	}
	says("connection open (connected)")
	says("works in us-east-1, active")
	id, err := f.sim.StartContact(agent, "CHAT")
	require.NoError(t, err)
	require.NoError(t, f.sim.Shift("default", "us-west-2", 100))
	says("detected: us-west-2")
	says("pending, held by " + id)
	require.NoError(t, f.sim.EndContact(id))
	require.NoError(t, f.sim.ClearContact(id))
	says("completed: us-east-1 → us-west-2")
	require.NoError(t, f.sim.Shift("default", "us-east-1", 100))
	says("completed: us-west-2 → us-east-1")
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait())
	says("connection closed (closed)")
}

func (f *floor) pages(t *testing.T, site string) {
	browser := browsertest.Chromium(t)
	ccps := make(map[string]string)
	for _, region := range f.sim.Regions() {
		h, err := f.sim.CCP(region)
		require.NoError(t, err)
		server := httptest.NewServer(h)
		t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
		ccps[region] = server.URL + "/ccp-v2/"
	}
	stack, err := json.Marshal(map[string]any{
		"site": site, "service": "http://" + f.listen[0], "sim": f.url, "ccps": ccps, "agents": []string{f.sim.Agents()[0].ID, f.sim.Agents()[1].ID},
	})
	require.NoError(t, err)
	out, err := browsertest.Play(t, 2*time.Minute, browser, string(stack), "test/examples/pages.mjs")
	require.NoError(t, err, "%s", out)
}
