package nemesis

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

	"changeover/internal/config"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/servertest"
)

const (
	east = "us-east-1"
	west = "us-west-2"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// cluster is three replicas of the program, each with its own way to PostgreSQL and to Amazon Connect.
type cluster struct {
	program  string
	amazon   *amazon
	config   *config.Config // what all replicas have in common
	postgres *postgrestest.Server
	replicas []*replica
	first    int // number of the first replica in what Amazon Connect noted
	client   *http.Client

	mu      sync.Mutex
	broken  []string // what should not be
	reigns  []reign
	frozen  []span
	stalled []span // the machine, for all
	reports []report
	forces  []force
	pauses  []pause
}

// replica is one process after the other at one address.
type replica struct {
	c       *cluster
	n       int
	address string
	file    string
	proxy   *proxy
	connect []*endpoint // of Amazon Connect, one for each Region

	mu      sync.Mutex
	process *exec.Cmd
	ended   chan struct{} // closed when the present process has ended
	meant   bool          // its end
	taken   bool          // its address, by somebody else on this machine
	over    bool          // there will be no process any more
	frozen  time.Time     // since when; zero: it runs
	output  tail
}

// tail is the end of what a process said.
type tail struct{ b bytes.Buffer }

const tailSize = 256 << 10

func (t *tail) add(line []byte) {
	if t.b.Len() > 2*tailSize {
		t.b.Next(t.b.Len() - tailSize)
	}
	t.b.Write(line)
	t.b.WriteByte('\n')
}

// newCluster prepares replicas and starts none of them.
func newCluster(t testing.TB, program string, a *amazon, first, replicas int, change ...func(*config.Config)) *cluster {
	t.Helper()
	c := &cluster{
		program: program, amazon: a, first: first, postgres: postgrestest.Start(t),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 3 * time.Second},
	}
	socket, err := url.Parse(c.postgres.URL())
	require.NoError(t, err)
	path := filepath.Join(socket.Query().Get("host"), ".s.PGSQL."+socket.Query().Get("port"))
	c.config = quick(a)
	for _, f := range change {
		f(c.config)
	}
	for n := range replicas {
		r := &replica{c: c, n: n, address: freeAddress(t), proxy: newProxy(t, path)}
		cfg := *c.config
		cfg.HTTP.Listen = r.address
		cfg.Database.URL = config.Secret(fmt.Sprintf("postgres://%s@%s%s?sslmode=disable", socket.Query().Get("user"), r.proxy.address(), socket.Path))
		group := cfg.FailoverGroups[0]
		group.Instances = slices.Clone(group.Instances)
		for i := range group.Instances {
			e := a.listen(t, c.first+n, group.Instances[i].Region)
			r.connect = append(r.connect, e)
			group.Instances[i].Endpoint = "http://" + e.address
		}
		cfg.FailoverGroups = []config.FailoverGroup{group}
		text, err := yaml.Marshal(&cfg)
		require.NoError(t, err)
		r.file = filepath.Join(t.TempDir(), fmt.Sprintf("changeover-%d.yaml", n))
		require.NoError(t, os.WriteFile(r.file, text, 0o600))
		c.replicas = append(c.replicas, r)
	}
	over := make(chan struct{})
	go c.watch(over)
	t.Cleanup(func() {
		close(over)
		for _, r := range c.replicas {
			r.mu.Lock()
			r.over = true
			r.mu.Unlock()
			r.kill()
		}
	})
	return c
}

// watch notes when the machine was so busy that this process did not run: the replicas may not have, either.
func (c *cluster) watch(over <-chan struct{}) {
	const every, notable = 20 * time.Millisecond, 250 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		now := time.Now()
		if now.Sub(last) > notable {
			c.mu.Lock()
			for _, r := range c.replicas {
				c.stalled = append(c.stalled, span{c.first + r.n, last, now})
			}
			c.mu.Unlock()
		}
		last = now
	}
}

// quick is a configuration under which everything happens in tenths of a second.
func quick(a *amazon) *config.Config {
	c := config.Default()
	c.Auth.Mode = config.AuthNone
	c.Database.Migrate = false
	c.Connect = config.Connect{RequestsPerSecond: 200, Burst: 200, RequestTimeout: 500 * time.Millisecond}
	c.Poll.DistributionInterval, c.Poll.AgentInterval, c.Poll.DrainInterval = 100*time.Millisecond, 250*time.Millisecond, 100*time.Millisecond
	c.Poll.MembershipInterval, c.Poll.ConflictAfter = time.Second, 1500*time.Millisecond
	c.Failover.RegionDownAfter, c.Failover.ContactsMaxAge = 2*time.Second, 3*time.Second
	c.Failover.ConfigureErrorAfter, c.Failover.ConfirmWithin = 500*time.Millisecond, 2*time.Second
	c.Stream.Heartbeat, c.Stream.Retry, c.Stream.WriteTimeout, c.Stream.Drain = time.Second, 100*time.Millisecond, 2*time.Second, 200*time.Millisecond
	group := config.FailoverGroup{Name: "main", Routing: config.Regional}
	for _, region := range a.Regions() {
		group.Instances = append(group.Instances, config.Instance{Region: region, InstanceID: a.InstanceID(), CCPURL: ccpURL(region)})
	}
	c.FailoverGroups = []config.FailoverGroup{group}
	return c
}

func ccpURL(region string) string { return "https://" + region + ".example.com/ccp-v2/" }

// freeAddress is one that nobody takes while the process there is dead: below the ports that systems give to outgoing connections and, where there
// are more loopback addresses than one, on one of them that no other sequence has.
func freeAddress(t testing.TB) string {
	t.Helper()
	host := "127.0.0.1"
	for range 1000 {
		if runtime.GOOS == "linux" {
			host = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 2+rand.IntN(250))
		}
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, 10_000+rand.IntN(20_000)))
		if err == nil {
			require.NoError(t, l.Close())
			return l.Addr().String()
		}
	}
	require.FailNow(t, "no free port")
	return ""
}

func (c *cluster) wrong(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = append(c.broken, fmt.Sprintf(format, args...))
}

func (c *cluster) addresses() []string {
	list := make([]string, len(c.replicas))
	for i, r := range c.replicas {
		list[i] = r.address
	}
	return list
}

// start begins a process, unless there is one.
func (r *replica) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil || r.over {
		return
	}
	process := exec.Command(r.c.program, "serve", "--config", r.file)
	stderr, err := process.StderrPipe()
	if err == nil {
		err = process.Start()
	}
	if err != nil {
		r.c.wrong("replica %d does not start: %v", r.n, err)
		return
	}
	ended := make(chan struct{})
	r.process, r.ended, r.meant, r.taken, r.frozen = process, ended, false, false, time.Time{}
	go func() {
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			r.said(lines.Bytes())
			fmt.Fprintf(logtest.Output(), "%s\n", lines.Bytes())
		}
		err := process.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.taken && !r.meant {
			time.AfterFunc(200*time.Millisecond, r.start)
		} else if !r.meant {
			r.c.wrong("replica %d ended by itself: %v", r.n, err)
		}
		r.process = nil
		close(ended)
	}()
}

// said notes what a process logs.
func (r *replica) said(line []byte) {
	r.mu.Lock()
	r.output.add(line)
	r.mu.Unlock()
	var entry struct {
		Time  time.Time
		Msg   string
		Epoch int64
		Ahead string `json:"clock_ahead"` // of the time by which it decides
	}
	if json.Unmarshal(line, &entry) != nil {
		if bytes.Contains(line, []byte("address already in use")) {
			r.mu.Lock()
			r.taken = true
			r.mu.Unlock()
		}
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if bytes.Contains(line, []byte(bad)) {
				r.c.wrong("replica %d said: %s", r.n, line)
			}
		}
		return
	}
	if entry.Msg == "deciding" {
		ahead, err := time.ParseDuration(entry.Ahead)
		if err != nil {
			r.c.wrong("replica %d said: %s", r.n, line)
		}
		r.c.mu.Lock()
		r.c.reigns = append(r.c.reigns, reign{entry.Epoch, r.c.first + r.n, entry.Time, ahead})
		r.c.mu.Unlock()
	}
}

// signal ends the present process by a signal, and returns when it is gone; false: there was none.
func (r *replica) signal(s syscall.Signal, within time.Duration) bool {
	r.mu.Lock()
	process, ended := r.process, r.ended
	if process == nil {
		r.mu.Unlock()
		return false
	}
	r.meant = true
	r.thawed()
	_ = process.Process.Signal(s)
	_ = process.Process.Signal(syscall.SIGCONT) // a frozen one would not end by a gentle signal
	r.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(within):
		r.c.wrong("replica %d did not end within %s of %s", r.n, within, s)
		_ = process.Process.Kill()
		<-ended
	}
	return true
}

// kill is kill -9.
func (r *replica) kill() bool { return r.signal(syscall.SIGKILL, 10*time.Second) }

// stop is what a rolling restart does.
func (r *replica) stop() bool { return r.signal(syscall.SIGTERM, 30*time.Second) }

// freeze stops the process where it is.
func (r *replica) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil && r.frozen.IsZero() {
		r.frozen = time.Now()
		_ = r.process.Process.Signal(syscall.SIGSTOP)
	}
}

// thaw lets it go on.
func (r *replica) thaw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil && !r.frozen.IsZero() {
		_ = r.process.Process.Signal(syscall.SIGCONT)
		r.thawed()
	}
}

// thawed notes for how long the process was frozen, if it was. r.mu is held.
func (r *replica) thawed() {
	if r.frozen.IsZero() {
		return
	}
	r.c.mu.Lock()
	r.c.frozen = append(r.c.frozen, span{r.c.first + r.n, r.frozen, time.Now()})
	r.c.mu.Unlock()
	r.frozen = time.Time{}
}

func (r *replica) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.output.b.String()
}

// freeLease lets the ten seconds pass for which a lost leader's lease holds. A leader that is frozen still trusts its own.
func (c *cluster) freeLease() {
	_ = c.query(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "UPDATE leases SET expires_at = '-infinity'")
		return err
	})
}

// query asks PostgreSQL past the proxies.
func (c *cluster) query(f func(ctx context.Context, conn *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.postgres.URL())
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	return f(ctx, conn)
}

// ask sends one request to one replica. Status 0: there was no answer.
func (c *cluster) ask(replica int, method, path, key string, body any) (status int, answer []byte) {
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			panic(err) // it is ours
		}
	}
	r, err := http.NewRequest(method, "http://"+c.replicas[replica].address+path, &b)
	if err != nil {
		panic(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	got, err := c.client.Do(r)
	if err != nil {
		return 0, nil
	}
	defer got.Body.Close()
	answer, err = io.ReadAll(got.Body)
	if err != nil {
		return 0, nil
	}
	return got.StatusCode, answer
}

// list reads all pages of a list from whichever replica answers.
func list[T any](c *cluster, path string) (items []T, err error) {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	for cursor := ""; ; {
		query := path + sep + "limit=1000"
		if cursor != "" {
			query += "&cursor=" + url.QueryEscape(cursor)
		}
		var page struct {
			Items      []T
			NextCursor string
		}
		status, body := 0, []byte(nil)
		for n := 0; n < 20 && status != http.StatusOK; n++ {
			if status, body = c.ask(n%len(c.replicas), http.MethodGet, query, "", nil); status != http.StatusOK {
				<-time.After(100 * time.Millisecond)
			}
		}
		if status != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %d %s", query, status, body)
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return nil, fmt.Errorf("GET %s: %w", query, err)
		}
		items = append(items, page.Items...)
		if cursor = page.NextCursor; cursor == "" {
			return items, nil
		}
	}
}

// readLog reads the event log as PostgreSQL has it.
func (c *cluster) readLog() (logID string, log []logged, err error) {
	err = c.query(func(ctx context.Context, conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, "SELECT log_id FROM event_log").Scan(&logID); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, "SELECT seq, epoch, time, type, agent_id, failover_id, data::text FROM events ORDER BY seq")
		if err != nil {
			return err
		}
		log, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e logged, err error) {
			err = row.Scan(&e.seq, &e.epoch, &e.at, &e.event, &e.agent, &e.failover, &e.data)
			return e, err
		})
		return err
	})
	return logID, log, err
}

// collect makes the record of everything but the clients.
func (c *cluster) collect(contacts []contact) (*record, error) {
	r := &record{
		regions: c.amazon.Regions(), ccpURLs: map[string]string{}, global: c.config.FailoverGroups[0].Routing == config.Global,
		confirmWithin: c.config.Failover.ConfirmWithin, regionDownAfter: c.config.Failover.RegionDownAfter, contacts: contacts,
	}
	for _, region := range r.regions {
		r.ccpURLs[region] = ccpURL(region)
	}
	var err error
	if r.logID, r.log, err = c.readLog(); err != nil {
		return nil, err
	}
	if err := c.query(func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT count(*) FROM inbox WHERE done_at IS NULL").Scan(&r.waiting)
	}); err != nil {
		return nil, err
	}
	failovers, err := list[struct {
		FailoverID, AgentID, FromRegion, ToRegion, Status, Cause, Evidence, ForcedReason string
		Forced                                                                           bool
	}](c, "/v1/failovers")
	if err != nil {
		return nil, err
	}
	for _, f := range failovers {
		r.failovers = append(r.failovers, failoverRow{
			id: f.FailoverID, agent: f.AgentID, from: f.FromRegion, to: f.ToRegion, status: f.Status, cause: f.Cause, evidence: f.Evidence,
			reason: f.ForcedReason, forced: f.Forced,
		})
	}
	audit, err := list[struct{ Action, Target, Reason, Outcome string }](c, "/v1/audit")
	if err != nil {
		return nil, err
	}
	for _, a := range audit {
		r.audit = append(r.audit, audited{a.Action, a.Target, a.Reason, a.Outcome})
	}
	agents, err := list[struct{ AgentID, ActiveRegion, State, FailoverID string }](c, "/v1/agents")
	if err != nil {
		return nil, err
	}
	for _, a := range agents {
		r.agents = append(r.agents, agentRow{a.AgentID, a.ActiveRegion, a.State, a.FailoverID})
	}
	for _, p := range c.amazon.Agents() {
		r.floor = append(r.floor, person{p.ID, p.ActiveRegion, p.TargetRegion, p.RoutingProfile, p.TDG})
	}
	for range 5 { // where a busy machine keeps it from PostgreSQL, it says nothing of the chain
		out, err := exec.Command(c.program, "audit", "verify", "--config", c.replicas[0].file).CombinedOutput()
		if r.chain = ""; err != nil {
			r.chain = fmt.Sprintf("audit verify: %v\n%s", err, out)
		}
		if err == nil || bytes.Contains(out, []byte("CHECK")) {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.pauses = slices.Clone(c.pauses)
	r.broken, r.reigns, r.frozen, r.reports, r.forces = slices.Clone(c.broken), slices.Clone(c.reigns), slices.Concat(c.frozen, c.stalled), slices.Clone(c.reports), slices.Clone(c.forces)
	behind := map[int64]time.Duration{}
	for _, n := range r.reigns {
		behind[n.epoch] = n.behind
	}
	for i := range r.log {
		r.log[i].at = r.log[i].at.Add(behind[r.log[i].epoch])
	}
	c.amazon.mu.Lock()
	defer c.amazon.mu.Unlock()
	r.reads, r.targets = slices.Clone(c.amazon.reads), slices.Clone(c.amazon.targets)
	return r, nil
}

// report sends what an agent's desktop sees: in both Regions, or in its Contact Control Panel's own alone. About the other one that says
// nothing, so that a contact which it reported there before counts for two minutes more (R15).
func (c *cluster) report(replica int, agent string, both bool) {
	o := report{agent: agent, looked: time.Now()}
	p, err := c.amazon.Agent(agent)
	if err != nil {
		return
	}
	type reported struct {
		ContactID string `json:"contactId"`
		Channel   string `json:"channel"`
		State     string `json:"state"`
	}
	contacts := []reported{}
	for _, x := range p.Contacts {
		if both || x.Region == p.ActiveRegion {
			contacts = append(contacts, reported{x.ID, x.Channel, x.State})
			o.contacts = append(o.contacts, x.ID)
		}
	}
	o.region = p.ActiveRegion
	body := map[string]any{"activeRegion": p.ActiveRegion, "contacts": contacts}
	if !both {
		body["contactsRegion"] = p.ActiveRegion
	}
	if p.TargetRegion != "" && p.TargetRegion != p.ActiveRegion {
		o.next = p.TargetRegion
		body["nextActiveRegion"] = p.TargetRegion
	}
	o.sent = time.Now()
	status, _ := c.ask(replica, http.MethodPost, "/v1/agents/"+agent+"/reports", "", body)
	o.taken = status == http.StatusAccepted
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports = append(c.reports, o)
}

// force asks for the end of a failover, or of all of them if id is empty, and asks again elsewhere until it is told, with the same key.
func (c *cluster) force(rng *rand.Rand, id, reason string, again int) {
	o := force{failover: id, reason: reason, sent: time.Now()}
	path, body := "/v1/failovers/"+id+"/force", map[string]any{"reason": reason}
	if id == "" {
		path, body = "/v1/failovers/force", map[string]any{"failoverGroup": "main", "reason": reason, "maxFraction": 1}
	}
	for tries := 0; tries < 8; tries++ {
		status, answer := c.ask(rng.IntN(len(c.replicas)), http.MethodPost, path, reason, body)
		var problem struct{ Type string }
		_ = json.Unmarshal(answer, &problem)
		a := answeredOf(status, problem.Type, answer)
		o.answers = append(o.answers, a)
		if status != 0 && status < 500 && a.kind != "request-in-progress" {
			if again--; again < 0 {
				break
			}
		}
		<-time.After(50 * time.Millisecond)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forces = append(c.forces, o)
}

func answeredOf(status int, kind string, body []byte) answered {
	kind = kind[strings.LastIndexAny(kind, "/:")+1:]
	return answered{status, kind, string(body)}
}
