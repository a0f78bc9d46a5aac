package agents

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/failover"
	"changeover/internal/logtest"
)

const (
	east = "us-east-1"
	west = "us-west-2"
	main = "main"
)

// chain is a Reader between a simulated Amazon Connect, spoken to by the real client, and the real core: everything
// but the database. It lives in a synctest bubble.
type chain struct {
	t      *testing.T
	sim    *connectsim.Sim
	reader *Reader
	stop   func()

	mu     sync.Mutex
	state  *failover.State
	events []event
	counts map[failover.EventType]int
	seen   []failover.Observation
}

// event is an event of the core with the number of contacts reads made by then in the from-Region.
type event struct {
	failover.Event
	calls int
}

type chainOptions struct {
	sim       connectsim.Config
	rate      float64 // of the client; 0: as configured by default
	configure func(*Options)
	groups    []string // traffic distribution groups in failover.GroupConfig
}

func newChain(t *testing.T, o chainOptions) *chain {
	t.Helper()
	if o.rate == 0 {
		o.rate = 1.2
	}
	require.NoError(t, o.sim.Validate())
	c := &chain{t: t, sim: connectsim.New(o.sim), counts: map[failover.EventType]int{}}
	opts := Options{
		Group: main, Routing: failover.Routing(string(o.sim.View)), RequestsPerSecond: o.rate,
		AgentInterval: 15 * time.Second, DrainInterval: 5 * time.Second, MembershipInterval: 15 * time.Minute,
		Log: logtest.New(nil),
	}
	if opts.Routing == "" {
		opts.Routing = failover.Regional
	}
	for _, region := range []string{east, west} {
		client, err := connect.New(t.Context(), connect.Options{
			Region: region, Endpoint: "http://connect.test", RequestsPerSecond: o.rate, Burst: 4, RequestTimeout: 4 * time.Second,
			Transport: c.sim.Transport(), Log: opts.Log,
		})
		require.NoError(t, err)
		opts.Instances = append(opts.Instances, Instance{ID: c.sim.InstanceID(), Client: client})
	}
	if o.configure != nil {
		o.configure(&opts)
	}
	c.reader = New(opts)
	c.state = failover.New(failover.Settings{
		Confirmations: 1, ConflictAfter: time.Minute, RegionDownAfter: 30 * time.Second, ContactsMaxAge: time.Minute, MaxUnknown: 15 * time.Minute,
		ConfigureErrorAfter: time.Minute, ConfirmWithin: 5 * time.Minute, DrainInterval: opts.DrainInterval,
	}, []failover.GroupConfig{{
		Name: main, Routing: opts.Routing, TDGs: o.groups, Instances: []failover.Instance{
			{Region: east, CCPURL: "https://east.example/ccp-v2/"}, {Region: west, CCPURL: "https://west.example/ccp-v2/"},
		},
	}}, failover.Snapshot{}, ids())
	c.step(failover.Started{})
	return c
}

func ids() func(time.Time) string {
	n := 0
	return func(time.Time) string { n++; return fmt.Sprintf("failover-%06d", n) }
}

// step applies an observation and tells the reader what to do, as the orchestrator does.
func (c *chain) step(o failover.Observation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = append(c.seen, o)
	effects := c.state.Step(o, time.Now())
	if len(effects.Events) > 0 {
		calls := c.calls(east)
		for _, e := range effects.Events {
			c.events = append(c.events, event{*e, calls})
			c.counts[e.Type]++
		}
	}
	c.reader.SetWork(c.state.Work(time.Now()))
}

// calls counts the contacts reads that a Region answered.
func (c *chain) calls(region string) int {
	return c.sim.CallCounts()[connectsim.CallKey{Region: region, Operation: connect.OpGetCurrentUserData}]
}

// run starts the reader, and the tick of the core. Calling the result again is harmless.
func (c *chain) run() {
	ctx, cancel := context.WithCancel(c.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.reader.Run(ctx, func(_ context.Context, o failover.Observation) { c.step(o) }) })
	wg.Go(func() {
		for sleep(ctx, 2*time.Second) {
			c.step(failover.Tick{})
		}
	})
	c.stop = func() { cancel(); wg.Wait() }
}

// list tells the core of the traffic distribution groups, and where they send their agents.
func (c *chain) list(region string, tdgs ...string) {
	if len(tdgs) == 0 {
		tdgs = []string{connectsim.DefaultTDGID}
	}
	listed := failover.TDGsListed{Group: main, At: time.Now()}
	for i, id := range tdgs {
		listed.TDGs = append(listed.TDGs, failover.TDGInfo{ID: id, ARN: tdgARN(id), Name: id, Status: "ACTIVE", IsDefault: i == 0})
	}
	c.step(listed)
	for _, id := range tdgs {
		c.distribute(region, id)
	}
}

func tdgARN(id string) string {
	return "arn:aws:connect:us-east-1:111122223333:traffic-distribution-group/" + id
}

// distribute tells the core that both Regions show a group's agents in one Region.
func (c *chain) distribute(region, tdg string) {
	d := failover.Distribution{{Region: east}, {Region: west}}
	for i := range d {
		if d[i].Region == region {
			d[i].Percent = 100
		}
	}
	c.step(failover.DistributionRound{Group: main, TDG: tdg, TickAt: time.Now(), Answers: []failover.RegionAnswer{
		{Region: east, Telephony: d, Agents: d}, {Region: west, Telephony: d, Agents: d},
	}})
}

// users tells the core of all users, as ListUsers does.
func (c *chain) users() {
	var users []failover.User
	for _, a := range c.sim.Agents() {
		users = append(users, failover.User{ID: a.ID, Username: a.Username})
	}
	c.step(failover.UsersListed{Group: main, Region: east, Users: users, StartedAt: time.Now(), Last: true})
}

// shift moves the default group's agents, in the simulator and for the core at once.
func (c *chain) shift(to string) {
	require.NoError(c.t, c.sim.Shift("", to, 100))
	c.distribute(to, connectsim.DefaultTDGID)
}

// of returns the events of a type so far.
func (c *chain) of(types ...failover.EventType) []event {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []event
	for _, e := range c.events {
		if slices.Contains(types, e.Type) {
			list = append(list, e)
		}
	}
	return list
}

// count counts the events of a type so far.
func (c *chain) count(t failover.EventType) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[t]
}

// observed counts what was observed so far.
func observed[O failover.Observation](c *chain, match func(O) bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, o := range c.seen {
		if o, ok := o.(O); ok && match(o) {
			n++
		}
	}
	return n
}

// until lets time pass until something is true, at most so long.
func (c *chain) until(atMost time.Duration, what string, is func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(atMost); !is(); time.Sleep(100 * time.Millisecond) {
		require.Truef(c.t, time.Now().Before(deadline), "not within %s: %s", atMost, what)
	}
	synctest.Wait()
}

// swept waits for the next complete sweep of both Regions.
func (c *chain) swept() {
	c.t.Helper()
	count := func(region string) int {
		return observed(c, func(o failover.PassComplete) bool { return !o.Filtered && o.Region == region })
	}
	e, w := count(east), count(west)
	c.until(15*time.Minute, "a complete sweep of both Regions", func() bool { return count(east) > e && count(west) > w })
}

// occupy gives a share of the agents a call.
func (c *chain) occupy(share float64) (busy map[string]string) {
	busy = map[string]string{}
	for i, a := range c.sim.Agents() {
		if float64(i/50%10) < share*10 {
			id, err := c.sim.StartContact(a.ID, "VOICE")
			require.NoError(c.t, err)
			busy[a.ID] = id
		}
	}
	return busy
}
