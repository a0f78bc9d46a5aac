package acceptance

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"changeover/internal/agents"
	"changeover/internal/config"
	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/orchestrator"
	"changeover/internal/store"
	"changeover/internal/tdg"
)

// slack is what simulated answers and a turn of the leader's loop take on top of a promised time.
const slack = 50 * time.Millisecond

// floor is a simulated Amazon Connect, a database in memory, and the leader's rooms in between, with the
// service's defaults. It lives in a synctest bubble.
type floor struct {
	*connectsim.Sim
	t      *testing.T
	config *config.Config
	store  *memoryStore
	log    *tail
	stop   func() // ends the service, as SIGTERM does
}

// newFloor makes a floor without the service.
func newFloor(t *testing.T, sim connectsim.Config, change ...func(*config.Config)) *floor {
	t.Helper()
	require.NoError(t, sim.Validate())
	f := &floor{Sim: connectsim.New(sim), t: t, config: config.Default(), store: newMemoryStore(t), log: &tail{}}
	for _, c := range change {
		c(f.config)
	}
	f.store.judge = f.judge
	t.Cleanup(func() {
		requireReads(t, f.Sim)
		if t.Failed() {
			t.Logf("the service's last words:\n%s", f.log.String())
		}
	})
	return f
}

// judge holds an event against what is really so on the floor: nobody is let go whom a call or a chat holds.
func (f *floor) judge(e failover.Event) {
	if e.Type != failover.EventFailoverCompleted || e.Forced || f.Floor().CallsPerHour > 0 { // a call may have begun since the read
		return
	}
	a, err := f.Agent(e.AgentID)
	if err != nil {
		f.t.Errorf("failover %s of somebody who is not there: %v", e.FailoverID, err)
		return
	}
	for _, c := range a.Contacts {
		if (c.Channel == connectsim.ChannelVoice || c.Channel == connectsim.ChannelChat) && c.Region == e.PreviousRegion {
			f.t.Errorf("failover of %s from %s is completed (%s) with a %s %s there", a.Username, e.PreviousRegion, e.Evidence, c.Channel, c.State)
		}
	}
}

// start makes the service and runs it, wired as internal/app does it, until f.stop or the end of the test.
func (f *floor) start() { f.run(f.store.connect()) }

// run is start with a connection to the database that may break.
func (f *floor) run(s *session) {
	f.t.Helper()
	c := f.config
	log := logtest.New(f.log)
	routing := failover.Regional
	if f.State().View == connectsim.Global {
		routing = failover.Global
	}
	group := failover.GroupConfig{Name: "main", Routing: routing}
	var distributions []tdg.Instance
	var people []agents.Instance
	var clients []*connect.Client
	for _, region := range f.Regions() {
		client, err := connect.New(f.t.Context(), connect.Options{
			Region: region, RequestsPerSecond: c.Connect.RequestsPerSecond, Burst: c.Connect.Burst, RequestTimeout: c.Connect.RequestTimeout,
			Transport: f.Transport(), Log: log,
		})
		require.NoError(f.t, err)
		clients = append(clients, client)
		distributions = append(distributions, tdg.Instance{ID: f.InstanceID(), Client: client})
		people = append(people, agents.Instance{ID: f.InstanceID(), Client: client})
		group.Instances = append(group.Instances, failover.Instance{Region: region, CCPURL: "https://" + region + ".example/ccp-v2/"})
	}
	o := orchestrator.New(orchestrator.Options{
		Store: s, Holder: "replica", Groups: []failover.GroupConfig{group}, Retention: c.Stream.ReplayRetention,
		Settings: failover.Settings{
			Confirmations: c.Poll.Confirmations, ConflictAfter: c.Poll.ConflictAfter, RegionDownAfter: c.Failover.RegionDownAfter,
			ContactsMaxAge: c.Failover.ContactsMaxAge, MaxUnknown: c.Failover.MaxUnknown, ConfigureErrorAfter: c.Failover.ConfigureErrorAfter, StaleRelease: c.Failover.StaleRelease,
			ConfirmWithin: c.Failover.ConfirmWithin, DrainInterval: c.Poll.DrainInterval, Pace: c.Failover.Pace,
		},
		Sources: []orchestrator.GroupSources{{
			Group: "main",
			Distributions: tdg.New(tdg.Options{
				Group: "main", Instances: distributions, Interval: c.Poll.DistributionInterval,
				RequestsPerSecond: c.Connect.RequestsPerSecond, Log: log,
			}),
			Agents: agents.New(agents.Options{
				Group: "main", Routing: routing, Instances: people, RequestsPerSecond: c.Connect.RequestsPerSecond,
				AgentInterval: c.Poll.AgentInterval, DrainInterval: c.Poll.DrainInterval, MembershipInterval: c.Poll.MembershipInterval, Log: log,
			}),
		}},
		Health: func() []store.RegionHealth {
			var all []store.RegionHealth
			for _, client := range clients {
				all = append(all, store.RegionHealth{Group: "main", Region: client.Region(), State: client.Health().State})
			}
			return all
		},
		Metrics: orchestrator.NewMetrics(prometheus.NewRegistry()), Log: log,
	})
	ctx, cancel := context.WithCancel(f.t.Context())
	var running sync.WaitGroup
	running.Go(func() { o.Run(ctx) })
	f.stop = func() {
		cancel()
		running.Wait()
		for _, client := range clients {
			client.Close()
		}
	}
	f.t.Cleanup(f.stop)
}

// pass lets virtual time pass.
func (f *floor) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// mark is the end of the log.
func (f *floor) mark() int {
	synctest.Wait()
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	return len(f.store.log)
}

// silent fails if anything was told since a mark but set-up errors, which are allowed by name.
func (f *floor) silent(since int, allowed ...failover.EventType) {
	f.t.Helper()
	for _, e := range f.store.events(since) {
		require.Contains(f.t, allowed, e.Type, "%s of agent %s: %+v", e.Type, f.username(e.AgentID), e.Event)
	}
}

// shift sends everybody of every group to a Region, in one call per group made there.
func (f *floor) shift(to string) {
	f.t.Helper()
	for _, g := range f.State().TDGs {
		require.NoError(f.t, f.Shift(g.Name, to, 100))
	}
}

// id of an agent by number, from 0.
func (f *floor) id(n int) string { return f.Agents()[n].ID }

func (f *floor) username(id string) string {
	if a, err := f.Agent(id); err == nil {
		return a.Username
	}
	return id
}

// contact gives an agent a contact, and returns its id.
func (f *floor) contact(agent, channel string) string {
	f.t.Helper()
	id, err := f.StartContact(agent, channel)
	require.NoError(f.t, err)
	return id
}

// open are the agents with an open failover to a Region, by state.
func (f *floor) open(to string) (detected, pending []string) {
	f.store.view(func() {
		for _, a := range f.store.agents {
			switch {
			case a.Failover == nil || a.Failover.To != to:
			case a.Failover.Status == failover.Pending:
				pending = append(pending, a.ID)
			default:
				detected = append(detected, a.ID)
			}
		}
	})
	slices.Sort(detected)
	slices.Sort(pending)
	return detected, pending
}

// unaware are the agents who neither work in a Region nor are on their way there.
func (f *floor) unaware(to string) (agents []string) {
	f.store.view(func() {
		for _, a := range f.store.agents {
			if a.Failover == nil && a.ActiveRegion != to || a.Failover != nil && a.Failover.To != to {
				agents = append(agents, a.ID)
			}
		}
	})
	return agents
}

// other is the Region that is not this one.
func (f *floor) other(region string) string {
	regions := f.Regions()
	return regions[1-slices.Index(regions[:], region)]
}

// where are the agents by active region, those without an open failover alone.
func (f *floor) where() map[string][]string {
	all := map[string][]string{}
	f.store.view(func() {
		for _, a := range f.store.agents {
			if a.Failover == nil {
				all[a.ActiveRegion] = append(all[a.ActiveRegion], a.ID)
			}
		}
	})
	for _, ids := range all {
		slices.Sort(ids)
	}
	return all
}

// settled says whether everybody is known to work where the floor has them, and nothing is open.
func (f *floor) settled() bool {
	people := f.Agents()
	ok := true
	f.store.view(func() {
		ok = len(people) == len(f.store.agents)
		for _, p := range people {
			a := f.store.agents[p.ID]
			ok = ok && a != nil && a.Failover == nil && a.ActiveRegion == p.ActiveRegion && a.ActiveRegion == p.TargetRegion
		}
	})
	return ok
}

// until passes time until something is so, and returns how long that took.
func (f *floor) until(atMost time.Duration, what string, so func() bool) time.Duration {
	f.t.Helper()
	for began := time.Now(); ; f.pass(100 * time.Millisecond) {
		if so() {
			return time.Since(began)
		}
		if time.Since(began) > atMost {
			detected, pending := f.open(east)
			toWest, pendingWest := f.open(west)
			require.FailNow(f.t, what, "still not so after %s; to %s %d detected, %d pending, to %s %d detected, %d pending",
				atMost, east, len(detected), len(pending), west, len(toWest), len(pendingWest))
		}
	}
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

// String is short, so that what it is printed after is not lost in it.
func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(l.buf.String()), "\n")
	lines = lines[max(0, len(lines)-25):]
	for i, line := range lines {
		lines[i] = line[:min(len(line), 300)]
	}
	return strings.Join(lines, "\n")
}
