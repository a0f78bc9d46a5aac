package acceptance

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
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
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
	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/failover"
	"changeover/internal/postgres/postgrestest"
)

// patience is for things that take milliseconds on an idle machine.
const patience = 30 * time.Second

// seedVariable and killsVariable repeat a run that failed, or make a longer one:
//
//	KILL_SEED=4711 KILLS=200 go test -run TestKilledProcesses ./internal/acceptance
const (
	seedVariable  = "KILL_SEED"
	killsVariable = "KILLS"
)

// The program itself on a real PostgreSQL, against the simulator on a port, killed with kill -9 again and again while a busy floor
// is shifted there and back and desktops follow their streams over every break. In the end no failover is lost and none doubled,
// every desktop has heard what is in its log, all of it, once, in order, and everybody is known to work where the
// floor has them.
func TestKilledProcesses(t *testing.T) {
	t.Parallel()
	seed, kills := number(t, seedVariable, 1), number(t, killsVariable, 8)
	t.Logf("%s=%d %s=%d", seedVariable, seed, killsVariable, kills)
	rng := rand.New(rand.NewPCG(uint64(seed), 9))
	const agents, desktops = 60, 25

	sim := connectsim.New(connectsim.Config{
		Seed: uint64(seed), Agents: agents, RoutingProfiles: 4, MoveDelay: 300 * time.Millisecond, Lag: 50 * time.Millisecond,
		UpdateWindow: 50 * time.Millisecond,
		Floor: connectsim.Floor{
			CallsPerHour: 900, ChatsPerHour: 600, TasksPerHour: 100, Ring: simulated(50 * time.Millisecond), Talk: simulated(time.Second),
			Chat: simulated(time.Second), Task: simulated(time.Second), AfterContactWork: simulated(300 * time.Millisecond),
		},
	})
	s := newService(t, sim)
	s.check(t) // reads what serve does not
	s.start(t)
	s.until(t, "the floor is known", func() bool {
		return len(get[contract.AgentList](t, s, "/v1/agents?activeRegion="+east+"&limit=1000").Items) == agents
	})
	var listeners []*listener
	for _, a := range sim.Agents()[:desktops] {
		listeners = append(listeners, s.listen(a.ID, 1))
	}
	listeners = append(listeners, s.listen("", agents)) // an operator's console
	s.until(t, "every stream is open", func() bool {
		return !slices.ContainsFunc(listeners, func(l *listener) bool { return l.first() == "" })
	})

	to := west
	shift := func() { // as soon as the update before has come through
		s.until(t, "the distribution can be updated", func() bool { return sim.Shift("", to, 100) == nil })
	}
	random := func(atMost time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(atMost))) }
	for range kills {
		pause(random(400 * time.Millisecond))
		console := listeners[desktops]
		heard := console.count()
		shift()
		to = other(to)
		if rng.IntN(2) == 0 { // in the middle of what the shift sets off
			s.until(t, "the shift is seen", func() bool { return console.count() > heard })
			pause(random(50 * time.Millisecond))
		} else { // whenever
			pause(random(600 * time.Millisecond))
		}
		s.kill(t)
		s.freeLease(t)
		if rng.IntN(4) == 0 { // a change that nobody sees happen
			shift()
			to = other(to)
		}
		s.start(t)
		if rng.IntN(3) > 0 { // else it dies again before it decides
			s.until(t, "it decides", func() bool { return strings.Contains(s.text(), `"msg":"deciding"`) })
		}
	}
	quiet := sim.Floor()
	quiet.CallsPerHour, quiet.ChatsPerHour, quiet.TasksPerHour = 0, 0, 0
	require.NoError(t, sim.SetFloor(quiet))
	shift()
	s.until(t, "everybody is there", func() bool {
		return len(get[contract.AgentList](t, s, "/v1/agents?activeRegion="+to+"&state=active&limit=1000").Items) == agents &&
			sim.State().TDGs[0].ToMove == 0
	})

	log := s.history(t, "/v1/events", "")
	requireOneStory(t, s, log, sim)
	for _, l := range listeners {
		path := "/v1/events"
		if l.agent != "" {
			path = "/v1/agents/" + l.agent + "/events"
		}
		first := l.first()
		want := s.history(t, path, first)
		s.until(t, "the desktop of "+l.agent+" has heard everything", func() bool { return l.count() >= len(want) })
		require.Equal(t, want, l.stop(), "what the desktop of %q heard is not what is in its log after %s", l.agent, first)
	}
	requireReads(t, sim)
	require.NotZero(t, sim.CallCounts()[connectsim.CallKey{Region: west, Operation: connect.OpDescribeInstance}])
	ended := 0
	for _, e := range log {
		if e.Event == string(failover.EventFailoverCompleted) || e.Event == string(failover.EventFailoverCancelled) {
			ended++
		}
	}
	t.Logf("%d kills, %d events, %d failovers", kills, len(log), ended)
}

// requireOneStory follows the log of all agents from its beginning: each failover begins once, is told in order and ends once; every
// change of the distribution that was adopted has reached every agent before the next one; and the end of the story is
// what REST and the floor say.
func requireOneStory(t *testing.T, s *service, log []contract.LoggedEvent, sim *connectsim.Sim) {
	t.Helper()
	desktops := newMemoryStore(t)
	changes := get[contract.ChangeList](t, s, "/v1/traffic-distribution-groups/"+connectsim.DefaultTDGID+"/changes?limit=1000").Items
	slices.SortFunc(changes, func(a, b contract.Change) int { return a.ObservedAt.Compare(b.ObservedAt) })
	reached := func(c contract.Change) {
		target := ""
		for _, share := range c.After.Agent {
			if share.Percent == 100 {
				target = share.Region
			}
		}
		for agent, o := range desktops.told {
			if o.next != target && (o.region != target || o.failover != "") {
				t.Errorf("the shift to %s at %s never reached agent %s: in %s, failover %q to %q", target, c.ObservedAt, agent, o.region, o.failover, o.next)
			}
		}
	}
	next := 1
	for _, logged := range log {
		e := event(t, logged)
		for next < len(changes) && !e.Time.Before(changes[next].ObservedAt.Truncate(time.Millisecond)) {
			reached(changes[next-1])
			next++
		}
		require.NoError(t, desktops.follow(&e), "%s %s %s", logged.ID, logged.Event, logged.Data)
	}
	require.Equal(t, len(changes), next, "changes without an event")
	reached(changes[len(changes)-1])
	for _, a := range sim.Agents() {
		o := desktops.told[a.ID]
		require.NotNil(t, o)
		require.Empty(t, o.failover, "open for ever: agent %s", a.ID)
		require.Equal(t, a.ActiveRegion, o.region, "agent %s", a.ID)
		require.Equal(t, a.ActiveRegion, *get[contract.Agent](t, s, "/v1/agents/"+a.ID).ActiveRegion)
		failovers := get[contract.FailoverList](t, s, "/v1/failovers?limit=1000&agentId="+a.ID).Items
		require.Len(t, failovers, len(o.ended), "agent %s", a.ID)
		for _, f := range failovers {
			ends := map[failover.EventType]string{failover.EventFailoverCompleted: "completed", failover.EventFailoverCancelled: "cancelled"}
			require.Equal(t, ends[o.ended[f.FailoverID]], string(f.Status))
		}
	}
}

// event reads an event of the log back.
func event(t *testing.T, l contract.LoggedEvent) failover.Event {
	t.Helper()
	var data struct {
		AgentID, FailoverID, ActiveRegion, NextActiveRegion, PreviousRegion, CancelledRegion string
		Time                                                                                 time.Time
		ContactIDs                                                                           []string
	}
	require.NoError(t, json.Unmarshal(l.Data, &data), "%s", l.Data)
	return failover.Event{
		Type: failover.EventType(l.Event), AgentID: data.AgentID, FailoverID: data.FailoverID, Time: data.Time, ActiveRegion: data.ActiveRegion,
		NextRegion: data.NextActiveRegion, PreviousRegion: data.PreviousRegion, CancelledRegion: data.CancelledRegion, ContactIDs: data.ContactIDs,
	}
}

func number(t *testing.T, variable string, def int) int {
	t.Helper()
	if os.Getenv(variable) == "" {
		return def
	}
	n, err := strconv.Atoi(os.Getenv(variable))
	require.NoError(t, err, variable)
	return n
}

func simulated(d time.Duration) connectsim.Duration { return connectsim.Duration(d) }

func other(region string) string {
	if region == east {
		return west
	}
	return east
}

// pause lets the processes work for a while, which is what is tested: no one waits for anything by it.
func pause(d time.Duration) { <-time.After(d) }

// server is the built program.
var server = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "changeover-acceptance-")
	if err != nil {
		return "", err
	}
	args := []string{"build", "-o", filepath.Join(dir, "server")}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race") // of which the packages are compiled already
	}
	out, err := exec.Command("go", append(args, "changeover/cmd/server")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return filepath.Join(dir, "server"), nil
})

// service is the program in a process of its own, with its database and its floor.
type service struct {
	program, file, address, database string
	client                           *http.Client
	process                          *exec.Cmd
	done                             chan struct{} // closed when the process has ended and all that it said is read

	mu   sync.Mutex
	said bytes.Buffer // since the last start
	all  tail
}

func newService(t *testing.T, sim *connectsim.Sim) *service {
	t.Helper()
	program, err := server()
	require.NoError(t, err)
	floor := httptest.NewServer(sim.Handler())
	t.Cleanup(func() { floor.CloseClientConnections(); floor.Close() })
	s := &service{
		program: program, database: postgrestest.NewDatabase(t), address: freeAddress(t),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience},
	}
	c := config.Default()
	c.HTTP.Listen, c.Database.URL, c.Auth.Mode = s.address, config.Secret(s.database), config.AuthNone
	c.Connect = config.Connect{RequestsPerSecond: 200, Burst: 200, RequestTimeout: 2 * time.Second}
	c.Poll.DistributionInterval, c.Poll.AgentInterval, c.Poll.DrainInterval = 100*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
	group := config.FailoverGroup{Name: "main", Routing: config.Regional}
	for _, region := range sim.Regions() {
		group.Instances = append(group.Instances, config.Instance{
			Region: region, InstanceID: sim.InstanceID(), CCPURL: "https://" + region + ".example.com/ccp-v2/", Endpoint: floor.URL,
		})
	}
	c.FailoverGroups = []config.FailoverGroup{group}
	text, err := yaml.Marshal(c)
	require.NoError(t, err)
	s.file = filepath.Join(t.TempDir(), "changeover.yaml")
	require.NoError(t, os.WriteFile(s.file, text, 0o600))
	t.Cleanup(func() {
		if s.process != nil {
			s.kill(t)
		}
		if t.Failed() {
			t.Logf("the service's last words:\n%s", s.all.String())
		}
	})
	return s
}

// freeAddress is a port that a killed process and its successor can both have.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// check runs `server check`.
func (s *service) check(t *testing.T) {
	t.Helper()
	out, err := exec.Command(s.program, "check", "--config", s.file).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// start runs `server serve` and returns when it listens.
func (s *service) start(t *testing.T) {
	t.Helper()
	s.process = exec.Command(s.program, "serve", "--config", s.file)
	stderr, err := s.process.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, s.process.Start())
	s.mu.Lock()
	s.said.Reset()
	s.mu.Unlock()
	s.done = make(chan struct{})
	started := make(chan struct{})
	go func() {
		defer close(s.done)
		open := started
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			s.mu.Lock()
			fmt.Fprintln(io.MultiWriter(&s.said, &s.all), lines.Text())
			s.mu.Unlock()
			if open != nil && strings.Contains(lines.Text(), `"msg":"started"`) {
				close(open)
				open = nil
			}
		}
	}()
	select {
	case <-started:
	case <-s.done:
		require.Fail(t, "the process ended", s.text())
	case <-time.After(patience):
		require.Fail(t, "the process did not start", s.text())
	}
}

func (s *service) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

// kill is kill -9.
func (s *service) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, s.process.Process.Signal(syscall.SIGKILL))
	<-s.done
	_ = s.process.Wait() // killed, as it says
	s.process = nil
	require.NotContains(t, s.text(), "DATA RACE")
	require.NotContains(t, s.text(), "panic:")
}

// freeLease lets the ten seconds pass for which a killed leader's lease holds.
func (s *service) freeLease(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "UPDATE leases SET expires_at = '-infinity'")
	require.NoError(t, err)
}

// until waits for something that only time brings.
func (s *service) until(t *testing.T, what string, so func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); !so(); <-ticker.C {
		require.True(t, time.Now().Before(deadline), "still not so: %s", what)
	}
}

// get decodes the answer of a GET, which has to succeed as soon as the service is ready.
func get[T any](t *testing.T, s *service, path string) (v T) {
	t.Helper()
	s.until(t, path, func() bool {
		answer, err := s.client.Get("http://" + s.address + path)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		if answer.StatusCode == http.StatusServiceUnavailable { // the log is being loaded
			return false
		}
		require.Equal(t, http.StatusOK, answer.StatusCode, "%s: %s", path, body)
		require.NoError(t, json.Unmarshal(body, &v))
		return true
	})
	return v
}

// history reads the log after a cursor to its end.
func (s *service) history(t *testing.T, path, after string) []contract.LoggedEvent {
	t.Helper()
	all := []contract.LoggedEvent{}
	for {
		query := path + "?limit=1000"
		if after != "" {
			query += "&after=" + after
		}
		page := get[contract.EventList](t, s, query)
		all = append(all, page.Items...)
		if len(page.Items) == 0 {
			return all
		}
		after = page.NextCursor
	}
}

// listener is a desktop, or the console if agent is empty: it follows its stream as an EventSource does, over every break.
type listener struct {
	agent  string
	cancel context.CancelFunc
	done   chan struct{}

	mu        sync.Mutex
	snapshots int    // that the stream begins with and that are still to come
	cursor    string // of the last of them
	heard     []contract.LoggedEvent
}

// listen opens a stream that begins with so many snapshots.
func (s *service) listen(agent string, snapshots int) *listener {
	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{agent: agent, cancel: cancel, done: make(chan struct{}), snapshots: snapshots}
	path := "/v1/events"
	if agent != "" {
		path = "/v1/agents/" + agent + "/events"
	}
	go func() {
		defer close(l.done)
		last := ""
		for ctx.Err() == nil {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path, nil)
			if err != nil {
				panic(err) // it is ours
			}
			r.Header.Set("Accept", "text/event-stream")
			if last != "" {
				r.Header.Set("Last-Event-ID", last)
			}
			answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			if err == nil {
				last = l.read(answer, last)
				answer.Body.Close()
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // the process is down
			}
		}
	}()
	return l
}

// read follows one connection to its end and returns the last cursor.
func (l *listener) read(answer *http.Response, last string) string {
	var f contract.LoggedEvent
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == "" {
			if f.Data != nil {
				if f.ID != "" {
					last = f.ID
				}
				l.hear(f)
			}
			f = contract.LoggedEvent{}
			continue
		}
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			f.ID = value
		case "event":
			f.Event = value
		case "data":
			f.Data = json.RawMessage(value)
		}
	}
	return last
}

func (l *listener) hear(f contract.LoggedEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.snapshots > 0 {
		if l.snapshots--; l.snapshots == 0 {
			l.cursor = f.ID
		}
		return
	}
	l.heard = append(l.heard, f)
}

// first is the cursor of what the stream began with; empty: that is not complete.
func (l *listener) first() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cursor
}

func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.heard)
}

// stop ends the listener and returns what it heard after the first snapshot.
func (l *listener) stop() []contract.LoggedEvent {
	l.cancel()
	<-l.done
	return l.heard
}
