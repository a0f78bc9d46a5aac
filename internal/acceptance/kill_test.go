package acceptance

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/connect"
	"changeover/internal/connectsim"
	"changeover/internal/failover"
)

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
	shift()
	s.until(t, "the first shift is seen", func() bool { return len(changes(t, s)) > 1 })
	to = other(to)
	random := func(atMost time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(atMost))) }
	for range kills {
		pause(random(400 * time.Millisecond))
		console := listeners[desktops]
		heard := console.count()
		shift()
		to = other(to)
		if rng.IntN(2) == 0 { // in the middle of what the shift sets off
			// Or not at all: the shift before may not have been seen, and this one takes it back.
			for deadline := time.Now().Add(time.Second); console.count() == heard && time.Now().Before(deadline); {
				pause(time.Millisecond)
			}
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
	s.until(t, "both Regions answer the last shift", func() bool {
		views := sim.State().TDGs[0].Views
		return shows(views[east], to) && shows(views[west], to)
	})
	// What was read before and waits to be decided or committed may be another shift, after which everything looked as it should already. No
	// more than a few rounds are under way at once.
	for range 4 {
		from := time.Now()
		s.until(t, "both Regions' answers are committed", func() bool {
			answers := get[contract.TrafficDistributionGroup](t, s, "/v1/traffic-distribution-groups/"+connectsim.DefaultTDGID).Answers
			return len(answers) == 2 && !slices.ContainsFunc(answers, func(a contract.RegionAnswer) bool {
				return a.ObservedAt == nil || !a.ObservedAt.After(from)
			})
		})
	}
	require.Equal(t, to, target(last(changes(t, s))))
	s.until(t, "everybody is there", func() bool {
		return len(get[contract.AgentList](t, s, "/v1/agents?activeRegion="+to+"&state=active&limit=1000").Items) == agents &&
			sim.State().TDGs[0].ToMove == 0
	})

	var log []contract.LoggedEvent
	end := "-" + strconv.FormatInt(s.head(t), 10)
	s.until(t, "the replica has read the log to its end", func() bool {
		log = s.history(t, "/v1/events", "")
		return len(log) > 0 && strings.HasSuffix(last(log).ID, end)
	})
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
	require.GreaterOrEqual(t, ended, agents, "nothing was killed in the middle of anything")
	t.Logf("%d kills, %d events, %d failovers", kills, len(log), ended)
}

// requireOneStory follows the log of all agents from its beginning: each failover begins once, is told in order and ends once; every
// change of the distribution that was adopted has reached every agent before the next one; and the end of the story is
// what REST and the floor say.
func requireOneStory(t *testing.T, s *service, log []contract.LoggedEvent, sim *connectsim.Sim) {
	t.Helper()
	desktops := newMemoryStore(t)
	changes := changes(t, s)
	// The log has each agent's events in the order of time, and not those of all: what waits to be written is written agent by agent.
	told := map[string]int{} // of the changes, those that each agent's events have come past
	until := func(agent string, at time.Time) {
		for ; told[agent] < len(changes) && !at.Before(changes[told[agent]].ObservedAt.Truncate(time.Millisecond)); told[agent]++ {
			if told[agent] == 0 {
				continue
			}
			before := changes[told[agent]-1]
			if o := desktops.told[agent]; o.next != target(before) && (o.region != target(before) || o.failover != "") {
				t.Errorf("the shift to %s at %s never reached agent %s: in %s, failover %q to %q", target(before), before.ObservedAt, agent, o.region, o.failover, o.next)
			}
		}
	}
	for _, logged := range log {
		e := event(t, logged)
		until(e.AgentID, e.Time)
		require.NoError(t, desktops.follow(&e), "%s %s %s", logged.ID, logged.Event, logged.Data)
	}
	for _, a := range sim.Agents() {
		o := desktops.told[a.ID]
		require.NotNil(t, o)
		until(a.ID, time.Now())
		require.Equal(t, target(last(changes)), o.region, "agent %s", a.ID)
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

// changes are those of the traffic distribution group, the oldest first.
func changes(t *testing.T, s *service) []contract.Change {
	t.Helper()
	changes := get[contract.ChangeList](t, s, "/v1/traffic-distribution-groups/"+connectsim.DefaultTDGID+"/changes?limit=1000").Items
	slices.SortFunc(changes, func(a, b contract.Change) int { return a.ObservedAt.Compare(b.ObservedAt) })
	return changes
}

// shows says whether a Region answers that all agents work in another, or itself.
func shows(view connectsim.TDGView, region string) bool {
	return view.Status == "ACTIVE" && slices.ContainsFunc(view.Distributions.Agents, func(s connectsim.Share) bool {
		return s.Region == region && s.Percent == 100
	})
}

// target is where a change sends all agents.
func target(c contract.Change) string {
	for _, share := range c.After.Agent {
		if share.Percent == 100 {
			return share.Region
		}
	}
	return ""
}

func last[T any](of []T) T { return of[len(of)-1] }

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
