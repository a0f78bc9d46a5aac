//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/jackc/pgx/v5"

	"changeover/internal/postgres"
)

const (
	east = "us-east-1"
	west = "us-west-2"
)

// run measures one shift from us-east-1 to us-west-2.
type run struct {
	Agents    int           `help:"Agents, each with a stream." default:"50000"`
	Contacts  float64       `help:"Part of the agents who are on a call." default:"0"`
	Quotas    string        `help:"Amazon Connect's: raised to 200 requests per second, or the service's defaults." enum:"raised,default" default:"raised"`
	Replicas  int           `help:"Of the service; 0: as few as the limit of open files allows."`
	Heartbeat time.Duration `help:"Of the streams." default:"15s"`
	Poll      time.Duration `help:"Interval of GetTrafficDistribution." default:"10s"`
	Idle      time.Duration `help:"How long to measure what is needed when nothing happens." default:"30s"`
	Wait      time.Duration `help:"The longest wait for the shift to end." default:"60s"`
	Programs  string        `help:"Folder of the programs server and connectsim." default:".cache/bin"`
	Out       string        `help:"Folder for load.json and the logs." default:".cache/load"`
	MemLimit  string        `help:"GOMEMLIMIT of each replica, as the Helm chart sets it to nine tenths of resources.limits.memory; empty: none." placeholder:"400MiB"`
	Profile   bool          `help:"Take profiles of the service during the shift, into the folder."`

	self  string // this program
	began time.Time

	process  []*exec.Cmd
	service  *component
	addrs    []string // of the replicas
	profiles []string // their profilers
	sim      string
	database string
	sql      *pgx.Conn
	agents   []string
	busy     map[string]bool
	clients  []*client
	all      map[string]*component
}

// Run measures and prints.
func (r *run) Run(ctx context.Context) (err error) {
	report, err := r.measure(ctx)
	if err != nil {
		return err
	}
	report.print(os.Stdout)
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(r.Out, "load.json")
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	fmt.Println("\nAll of it:", file)
	if len(report.Faults) > 0 {
		return fmt.Errorf("%d faults, the first: %s", len(report.Faults), report.Faults[0])
	}
	return nil
}

func (r *run) say(format string, args ...any) {
	fmt.Printf("%5.1fs  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *run) measure(ctx context.Context) (_ *report, err error) {
	r.began = time.Now()
	each, err := streamsPerProcess()
	if err != nil {
		return nil, err
	}
	processes := (r.Agents + each - 1) / each
	if r.Replicas == 0 {
		r.Replicas = processes
	}
	if r.self == "" {
		if r.self, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for _, p := range r.process {
			_ = p.Wait() // ended by us
		}
	}()
	out := &report{
		Agents: r.Agents, Contacts: r.Contacts, Quotas: r.Quotas, Replicas: r.Replicas, MemLimit: r.MemLimit, Cores: runtime.NumCPU(), At: r.began.UTC(), CPUModel: cpuModel(),
		DesktopProcesses: processes,
	}
	server, stop, err := r.startPostgres(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := r.startAll(ctx, server, processes); err != nil {
		return nil, err
	}

	if err := pause(ctx, r.Idle/3); err != nil {
		return nil, err
	}
	if out.Idle, err = r.window(ctx, r.all, func() error { return pause(ctx, r.Idle) }); err != nil {
		return nil, err
	}
	r.say("idle: the service used %.1f %% of a core", 100*out.Idle.CPU["service"]/out.Idle.Seconds)

	var afterSeq int64
	if err := r.sql.QueryRow(ctx, "SELECT seq FROM event_log").Scan(&afterSeq); err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	shifted, err := r.shift(ctx, out)
	if err != nil {
		return nil, err
	}
	r.say("shift: over")
	out.PeakMemory = r.service.peak()
	if err := r.stopService(); err != nil {
		return nil, err
	}
	for _, c := range r.clients {
		c.end()
	}

	if err := r.measureFloor(ctx, out, afterSeq, shifted, processes); err != nil {
		return nil, err
	}
	r.say("floor: measured")
	return out, nil
}

// startAll starts the simulator, the service and the desktops, and returns when all know all and nothing happens any more.
func (r *run) startAll(ctx context.Context, postgres *component, processes int) error {
	if err := r.startSimulator(ctx); err != nil {
		return err
	}
	simulator := &component{pids: []int{r.process[len(r.process)-1].Process.Pid}}
	if err := r.call(ctx, &r.busy); err != nil {
		return err
	}
	r.say("simulator: %d agents, %d on a call", len(r.agents), len(r.busy))
	if err := r.startService(ctx, "raised"); err != nil {
		return err
	}
	if err := r.untilKnown(ctx); err != nil {
		return err
	}
	r.say("service: %d replicas know all agents", r.Replicas)
	// What autovacuum has long done on a floor that is not a minute old.
	if _, err := r.sql.Exec(ctx, "VACUUM ANALYZE"); err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	if r.Quotas == "default" {
		if err := r.stopService(); err != nil {
			return err
		}
		if err := r.startService(ctx, "default"); err != nil {
			return err
		}
		if err := r.untilKnown(ctx); err != nil {
			return err
		}
		r.say("service: again, at the default quotas")
	}

	var err error
	if r.clients, err = r.connect(ctx, r.addrs, processes); err != nil {
		return err
	}
	desktops := &component{pids: []int{os.Getpid()}}
	for _, c := range r.clients {
		desktops.pids = append(desktops.pids, c.pid)
	}
	r.say("desktops: %d streams are open", r.Agents)
	r.all = map[string]*component{"service": r.service, "postgres": postgres, "simulator": simulator, "desktops": desktops}
	return nil
}

// shift shifts the floor, waits until all have heard, and evaluates when they did. It returns when it began.
func (r *run) shift(ctx context.Context, out *report) (began time.Time, err error) {
	if err := r.control(ctx, http.MethodDelete, "/_control/calls", nil, nil); err != nil {
		return began, err
	}
	profiled := r.profile(ctx)
	recording, recorded := context.WithCancel(ctx)
	defer recorded()
	samples := record(recording, r.all)
	began = time.Now()
	out.Shift, err = r.window(ctx, r.all, func() error {
		shift := exec.CommandContext(ctx, filepath.Join(r.Programs, "connectsim"), "shift", "--endpoint", r.sim, "--to", west)
		if text, err := shift.CombinedOutput(); err != nil {
			return fmt.Errorf("shift: %w: %s", err, text)
		}
		return r.untilHeard(ctx, r.clients, r.Poll+r.Wait)
	})
	if err != nil {
		return began, err
	}
	recorded()
	if err := <-profiled; err != nil {
		return began, err
	}
	times, err := ask(r.clients, "times", out)
	if err != nil {
		return began, err
	}
	return began, r.evaluate(ctx, out, times, <-samples, began)
}

// start runs a program whose standard error goes to a file of the folder.
func (r *run) start(ctx context.Context, log, name string, args ...string) (*exec.Cmd, *bufio.Scanner, error) {
	file, err := os.OpenFile(filepath.Join(r.Out, log+".log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = file
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=load", "AWS_SECRET_ACCESS_KEY=load", "AWS_SESSION_TOKEN=", "AWS_PROFILE=",
		"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_EC2_METADATA_DISABLED=true")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", name, err)
	}
	r.process = append(r.process, cmd)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	return cmd, lines, nil
}

func (r *run) startPostgres(ctx context.Context) (*component, func(), error) {
	dir, err := os.MkdirTemp("", "changeover-load-")
	if err != nil {
		return nil, nil, err
	}
	server, err := postgres.Start(ctx, postgres.Options{DataDir: dir, Temporary: true, Settings: map[string]string{
		"shared_preload_libraries": "pg_stat_statements", // counts what is executed
	}})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	r.database = server.URL(postgres.Database)
	stop := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if r.sql != nil {
			r.sql.Close(ctx)
		}
		server.Stop(ctx)
	}
	var pid int
	if r.sql, err = pgx.Connect(ctx, r.database); err == nil {
		if _, err = r.sql.Exec(ctx, "CREATE EXTENSION pg_stat_statements"); err == nil {
			err = r.sql.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
		}
	}
	if err == nil {
		pid, err = parent(pid)
	}
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("prepare PostgreSQL: %w", err)
	}
	return &component{pids: []int{pid}, tree: true}, stop, nil
}

var atURL = regexp.MustCompile(`http://[0-9.:]+`)

// startSimulator has a change of a distribution seen by both Regions at once, so that the next poll is the one that sees it; desktops take
// up to five minutes to act on it, as Amazon Connect says.
func (r *run) startSimulator(ctx context.Context) error {
	_, lines, err := r.start(ctx, "connectsim", filepath.Join(r.Programs, "connectsim"), "serve", "--listen=127.0.0.1:0", fmt.Sprint("--agents=", r.Agents),
		"--calls-per-hour=0", "--chats-per-hour=0", "--tasks-per-hour=0", "--rate=0", "--update-window=0s", "--lag=0s", "--move-delay=5m")
	if err != nil {
		return err
	}
	if !lines.Scan() {
		return errors.New("the simulator did not start: see connectsim.log")
	}
	r.sim = atURL.FindString(lines.Text())
	go func() {
		for lines.Scan() { // so that it never waits for us
		}
	}()
	var known struct{ Items []struct{ ID string } }
	if err := r.control(ctx, http.MethodGet, fmt.Sprint("/_control/agents?limit=", r.Agents), nil, &known); err != nil {
		return err
	}
	for _, a := range known.Items {
		r.agents = append(r.agents, a.ID)
	}
	if len(r.agents) != r.Agents {
		return fmt.Errorf("the simulator has %d agents, %d expected", len(r.agents), r.Agents)
	}
	return nil
}

// control calls the simulator's control API.
func (r *run) control(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = strings.NewReader(string(text))
	}
	req, err := http.NewRequestWithContext(ctx, method, r.sim+path, body)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("simulator: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 {
		return fmt.Errorf("simulator: %s %s: %s %s: %w", method, path, answer.Status, text, errors.Join(err, errors.ErrUnsupported))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// call puts the agents who are to be on a call on one, spread over all.
func (r *run) call(ctx context.Context, busy *map[string]bool) error {
	*busy = map[string]bool{}
	for i, id := range r.agents {
		if int(float64(i+1)*r.Contacts) == int(float64(i)*r.Contacts) {
			continue
		}
		in := map[string]string{"channel": "VOICE", "state": "CONNECTED"}
		if err := r.control(ctx, http.MethodPost, "/_control/agents/"+id+"/contacts", in, nil); err != nil {
			return err
		}
		(*busy)[id] = true
	}
	return nil
}

var configuration = template.Must(template.New("").Parse(`http: {listen: "127.0.0.1:0", requestsPerSecondPerAddress: 100000
{{- if .Profile}}, metricsListen: "127.0.0.1:0", profiling: true{{end}}}
database: {url: "{{.Database}}"}
auth: {mode: none}
{{if eq .Quotas "raised"}}connect: {requestsPerSecond: 200, burst: 200}{{end}}
poll: {distributionInterval: {{.Poll}}}
stream: {heartbeat: {{.Heartbeat}}, drain: 100ms}
failoverGroups:
  - name: main
    instances:
{{- range .Regions}}
      - {region: {{.}}, instanceId: 12345678-1234-1234-1234-123456789012, ccpUrl: "https://{{.}}.example.com/ccp-v2/", endpoint: "{{$.Sim}}"}
{{- end}}
`))

// startService starts the replicas and returns when they listen.
func (r *run) startService(ctx context.Context, quotas string) error {
	file := filepath.Join(r.Out, "changeover.yaml")
	var text strings.Builder
	if err := configuration.Execute(&text, map[string]any{
		"Database": r.database, "Quotas": quotas, "Poll": r.Poll, "Heartbeat": r.Heartbeat, "Regions": []string{east, west}, "Sim": r.sim, "Profile": r.Profile,
	}); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return err
	}
	r.service, r.addrs, r.profiles = &component{}, nil, nil
	for i := range r.Replicas {
		log := fmt.Sprint("server-", i)
		name, args := filepath.Join(r.Programs, "server"), []string{"serve", "--config", file}
		if r.MemLimit != "" { // by env, which becomes the server
			name, args = "env", append([]string{"GOMEMLIMIT=" + r.MemLimit, name}, args...)
		}
		cmd, _, err := r.start(ctx, log, name, args...)
		if err != nil {
			return err
		}
		r.service.pids = append(r.service.pids, cmd.Process.Pid)
		address, profiler, err := listening(ctx, filepath.Join(r.Out, log+".log"))
		if err != nil {
			return err
		}
		r.addrs, r.profiles = append(r.addrs, address), append(r.profiles, profiler)
	}
	return nil
}

// listening waits for the line of the log that tells the addresses.
func listening(ctx context.Context, log string) (api, metrics string, err error) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		text, err := os.ReadFile(log)
		if err != nil {
			return "", "", err
		}
		for line := range strings.Lines(string(text)) {
			var l struct{ Msg, Listen, Metrics string }
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "started" {
				return l.Listen, l.Metrics, nil
			}
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return "", "", err
		}
	}
	return "", "", fmt.Errorf("the service did not start: see %s", log)
}

func (r *run) stopService() error {
	for _, p := range r.process {
		if slices.Contains(r.service.pids, p.Process.Pid) {
			if err := p.Process.Signal(syscall.SIGTERM); err != nil {
				return fmt.Errorf("stop the service: %w", err)
			}
			_ = p.Wait() // its exit code says nothing here
		}
	}
	r.process = slices.DeleteFunc(r.process, func(p *exec.Cmd) bool { return slices.Contains(r.service.pids, p.Process.Pid) })
	return nil
}

// untilKnown waits until the leader knows every agent's Region and has seen every contact.
func (r *run) untilKnown(ctx context.Context) error {
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); {
		var agents, contacts int
		err := r.sql.QueryRow(ctx, "SELECT (SELECT count(*) FROM agents WHERE active_region <> ''), (SELECT count(DISTINCT agent_id) FROM contacts)").Scan(&agents, &contacts)
		if err == nil && agents == r.Agents && contacts == len(r.busy) && r.decides(ctx) {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the service did not get to know the floor in three minutes")
}

// decides says whether one of the replicas leads.
func (r *run) decides(ctx context.Context) bool {
	var n int
	err := r.sql.QueryRow(ctx, "SELECT count(*) FROM leases WHERE expires_at > now()").Scan(&n)
	return err == nil && n > 0
}

// client is a process with desktops.
type client struct {
	pid    int
	agents []string
	in     io.WriteCloser
	out    *bufio.Scanner
}

func (c *client) ask(question string) (t tally, err error) {
	if _, err := fmt.Fprintln(c.in, question); err != nil {
		return t, fmt.Errorf("ask the desktops: %w", err)
	}
	if !c.out.Scan() {
		return t, errors.New("the desktops have ended: see desktops-*.log")
	}
	return t, json.Unmarshal(c.out.Bytes(), &t)
}

func (c *client) end() { _ = c.in.Close() }

// ask asks every process and sums up; faults go to the report.
func ask(clients []*client, question string, to *report) (sum tally, err error) {
	for _, c := range clients {
		t, err := c.ask(question)
		if err != nil {
			return sum, err
		}
		sum.Open += t.Open
		sum.Beats += t.Beats
		for k := range sum.Heard {
			sum.Heard[k] += t.Heard[k]
		}
		sum.Received = append(sum.Received, t.Received...)
		if to != nil {
			to.Faults = append(to.Faults, t.Faults...)
		} else if len(t.Faults) > 0 {
			return sum, errors.New(t.Faults[0])
		}
	}
	return sum, nil
}

// connect opens a stream for every agent, on the replicas in turn, and returns when all have their snapshot.
func (r *run) connect(ctx context.Context, targets []string, processes int) ([]*client, error) {
	var clients []*client
	n := max(processes, len(targets))
	part := (len(r.agents) + n - 1) / n
	for agents := range slices.Chunk(r.agents, part) {
		i := len(clients)
		cmd := exec.CommandContext(ctx, r.self, "desktops", "--target", targets[i%len(targets)], "--from", loopback(i))
		log, err := os.Create(filepath.Join(r.Out, fmt.Sprintf("desktops-%d.log", i)))
		if err != nil {
			return nil, err
		}
		defer log.Close()
		cmd.Stderr = log
		c := &client{agents: agents}
		if c.in, err = cmd.StdinPipe(); err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		c.out = bufio.NewScanner(out)
		c.out.Buffer(nil, 64<<20)
		if err := cmd.Start(); err != nil {
			return nil, fmt.Errorf("start the desktops: %w", err)
		}
		r.process = append(r.process, cmd)
		c.pid = cmd.Process.Pid
		if _, err := io.WriteString(c.in, strings.Join(agents, "\n")+"\n\n"); err != nil {
			return nil, fmt.Errorf("tell the desktops their agents: %w", err)
		}
		clients = append(clients, c)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		t, err := ask(clients, "tally", nil)
		switch {
		case err != nil:
			return nil, err
		case t.Open == int64(r.Agents):
			return clients, nil
		case time.Now().After(deadline):
			return nil, fmt.Errorf("%d of %d streams are open after two minutes", t.Open, r.Agents)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// untilHeard waits until every desktop knows where it is: those without a contact have completed, the others are pending.
func (r *run) untilHeard(ctx context.Context, clients []*client, atMost time.Duration) error {
	for deadline := time.Now().Add(atMost); time.Now().Before(deadline); {
		t, err := ask(clients, "tally", nil)
		if err != nil {
			return err
		}
		if t.Heard[completed] >= int64(r.Agents-len(r.busy)) && t.Heard[pending] >= int64(len(r.busy)) {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil // the report says who did not hear
}

// measureFloor measures what the machine can do with the same rows and frames.
func (r *run) measureFloor(ctx context.Context, out *report, afterSeq int64, since time.Time, processes int) error {
	c, err := copyRows(ctx, r.sql, afterSeq, since)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	out.Floor.Copy = c
	part := (len(r.agents) + processes - 1) / processes
	var targets []string
	var inputs []io.WriteCloser
	for agents := range slices.Chunk(r.agents, part) {
		cmd := exec.CommandContext(ctx, r.self, "floor", "--database", r.database, fmt.Sprint("--after=", afterSeq), fmt.Sprint("--streams=", len(agents)))
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		lines, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		r.process = append(r.process, cmd)
		var address string
		if err := json.NewDecoder(lines).Decode(&address); err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		targets, inputs = append(targets, address), append(inputs, in)
	}
	clients, err := r.connect(ctx, targets, processes)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	began := time.Now()
	for _, in := range inputs {
		if _, err := fmt.Fprintln(in, "go"); err != nil {
			return fmt.Errorf("floor: %w", err)
		}
	}
	for heard := int64(0); heard < c.Rows["events"]; {
		if time.Since(began) > time.Minute {
			return fmt.Errorf("floor: %d of %d frames arrived in a minute", heard, c.Rows["events"])
		}
		t, err := ask(clients, "tally", nil)
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		heard = t.Heard[detected] + t.Heard[pending] + t.Heard[completed]
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	times, err := ask(clients, "times", out)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	for _, in := range inputs {
		_ = in.Close()
	}
	for _, c := range clients {
		c.end()
	}
	out.Floor.evaluate(times.Received, began)
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
