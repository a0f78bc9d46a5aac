package nemesis

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/servertest"
)

// stacks are two complete ones, one in each Region, that share nothing but Amazon Connect and its quotas: the first in the east.
type stacks struct {
	t        *testing.T
	amazon   *amazon
	stack    [2]*cluster
	desktops []*desktop
	contacts []contact
}

const (
	people   = 16
	perStack = 2 // replicas
)

func newStacks(t *testing.T) *stacks {
	program := servertest.Build(t, "", "server")
	s := &stacks{t: t, amazon: newAmazon(connectsim.Config{
		Seed: 7, Agents: people, RoutingProfiles: 2, MoveDelay: 500 * time.Millisecond, RatePerSecond: 2, Burst: 5, // Amazon's default quotas
	})}
	for i := range s.stack {
		s.stack[i] = newCluster(t, program, s.amazon, i*perStack, perStack, func(c *config.Config) {
			c.Connect = config.Connect{RequestsPerSecond: 0.6, Burst: 2, RequestTimeout: 2 * time.Second}
			c.Poll.DistributionInterval, c.Poll.AgentInterval, c.Poll.DrainInterval = 2*time.Second, 4*time.Second, 2*time.Second
			c.Poll.MembershipInterval, c.Poll.ConflictAfter = time.Minute, 5*time.Second
			c.Failover.RegionDownAfter, c.Failover.ContactsMaxAge = 4*time.Second, 30*time.Second
			c.Failover.ConfirmWithin = 5 * time.Second
		})
	}
	return s
}

// until waits for something that only time brings; why says what is still in the way.
func (s *stacks) until(what string, why func() string) {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(atRest); ; <-tick.C {
		reason := why()
		if reason == "" {
			return
		}
		require.True(s.t, time.Now().Before(deadline), "still not so: %s: %s", what, reason)
	}
}

// states are those of all agents in a stack's database, by number, as "active in us-east-1".
func (s *stacks) states(stack int) (list []string) {
	stored := map[string]string{}
	err := s.stack[stack].query(func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT agent_id, state || ' in ' || active_region FROM agents")
		if err != nil {
			return err
		}
		var id, state string
		_, err = pgx.ForEachRow(rows, []any{&id, &state}, func() error { stored[id] = state; return nil })
		return err
	})
	for _, p := range s.amazon.Agents() {
		if err != nil {
			stored[p.ID] = err.Error()
		}
		list = append(list, stored[p.ID])
	}
	return list
}

// untilStates waits until a stack has the agents in states.
func (s *stacks) untilStates(stack int, want func(n int) string) {
	s.t.Helper()
	s.until("the states are told", func() string {
		for n, state := range s.states(stack) {
			if w := want(n); state != w {
				return fmt.Sprintf("in stack %d agent %d is %q instead of %q", stack, n, state, w)
			}
		}
		return ""
	})
}

func all(state string) func(int) string { return func(int) string { return state } }

func (s *stacks) agent(n int) string { return s.amazon.Agents()[n].ID }

// call gives an agent a contact.
func (s *stacks) call(n int, channel string) {
	id, err := s.amazon.StartContact(s.agent(n), channel)
	require.NoError(s.t, err)
	s.contacts = append(s.contacts, contact{id: id, agent: s.agent(n), channel: channel, region: east, since: time.Now()})
}

func (s *stacks) clear(n int) {
	for i := range s.contacts {
		if c := &s.contacts[i]; c.agent == s.agent(n) && c.until.IsZero() {
			c.until = time.Now()
			require.NoError(s.t, s.amazon.ClearContact(c.id))
		}
	}
}

// listen opens the desktop of an agent, which stays with a stack for as long as one of its replicas answers.
func (s *stacks) listen(n, home int) {
	rng, stack := rand.New(rand.NewPCG(uint64(n), 5)), home
	s.desktops = append(s.desktops, newDesktop(fmt.Sprintf("desktop %d", n), s.agent(n), false, uint64(n), s.addresses, func(failures int) int {
		if failures > 0 && failures%3 == 0 {
			stack = 1 - stack
		}
		return stack*perStack + rng.IntN(perStack)
	}))
}

func (s *stacks) addresses() []string {
	return append(s.stack[0].addresses(), s.stack[1].addresses()...)
}

// tell has a desktop tell the stack that it is connected to where it works and which contacts it has.
func (s *stacks) tell(n int) {
	if replica, heard := s.desktops[n].at(); heard {
		s.stack[replica/perStack].report(replica%perStack, s.agent(n), true)
	}
}

// moves are the Regions to which a desktop was told to move, if it follows what it hears by state: somebody who is there already is not
// told again.
func moves(h heard) (list []string) {
	region := ""
	for _, c := range h.connections {
		for _, f := range c.frames {
			d, err := parse(f.data)
			if err != nil || f.event != "snapshot" && f.event != "failoverCompleted" || d.ActiveRegion == "" {
				continue
			}
			if region != "" && region != d.ActiveRegion {
				list = append(list, d.ActiveRegion)
			}
			region = d.ActiveRegion
		}
	}
	return list
}

// loseEast takes away everything that is in the east, at once.
func (s *stacks) loseEast() {
	var at sync.WaitGroup
	for _, r := range s.stack[0].replicas {
		at.Go(func() { r.kill() })
	}
	at.Go(s.stack[0].postgres.Kill)
	for _, c := range s.stack {
		for _, r := range c.replicas {
			at.Go(r.connect[0].lose)
		}
	}
	at.Wait()
}

// returnEast brings it all back, as it was.
func (s *stacks) returnEast() {
	for _, c := range s.stack {
		for _, r := range c.replicas {
			require.NoError(s.t, r.connect[0].open())
		}
	}
	s.stack[0].postgres.Start()
	for _, r := range s.stack[0].replicas {
		r.start()
	}
}

// check holds what a stack has done against the rules, together with what the desktops heard from it.
func (s *stacks) check(stack int) {
	c := s.stack[stack]
	r, err := c.collect(s.contacts)
	require.NoError(s.t, err)
	for _, d := range s.desktops {
		h := d.heard()
		h.connections = slices.DeleteFunc(h.connections, func(k connection) bool { return k.replica/perStack != stack })
		if replica, _ := d.at(); replica/perStack != stack {
			h.left = true
		}
		if len(h.connections) > 0 {
			r.clients = append(r.clients, h)
		}
	}
	require.Empty(s.t, check(r), "stack %d", stack)
}

// One of two stacks is lost with its whole Region: its replicas, its PostgreSQL and Amazon Connect's endpoint, at once, while operators shift
// everybody away. Its desktops are served by the other one, with a reset and a snapshot, and hear what happened meanwhile exactly as
// that one's log says. It comes back with yesterday's distribution and moves nobody. Nobody is told twice to move, both
// stacks stay within Amazon's quotas together, and what each has done keeps to the rules.
func TestTwoStacks(t *testing.T) {
	t.Parallel()
	s := newStacks(t)
	for _, c := range s.stack {
		for _, r := range c.replicas {
			r.start()
		}
	}
	for i := range s.stack {
		s.untilStates(i, all("active in "+east))
	}
	for n := range people {
		s.listen(n, n%2)
	}
	defer func() {
		for _, d := range s.desktops {
			d.stop()
		}
	}()
	const caller, forced, chatting, talking, reporting = 0, 1, 2, 3, 10 // those below reporting have desktops that report
	s.call(caller, "VOICE")
	s.call(forced, "VOICE")
	s.call(chatting, "CHAT")
	s.call(talking, "VOICE")
	for i, c := range s.stack {
		s.until("both stacks have seen the calls", func() string {
			seen := 0
			err := c.query(func(ctx context.Context, conn *pgx.Conn) error {
				return conn.QueryRow(ctx, "SELECT count(*) FROM contacts").Scan(&seen)
			})
			if err != nil || seen != 4 {
				return fmt.Sprintf("stack %d has seen %d (%v)", i, seen, err)
			}
			return ""
		})
	}

	require.NoError(t, s.amazon.Freeze(east, "")) // what it will show when it is back
	s.loseEast()
	require.NoError(t, s.amazon.Shift("", west, 100))
	s.until("every desktop is served", func() string {
		for n, d := range s.desktops {
			if replica, heard := d.at(); !heard || replica/perStack != 1 {
				return fmt.Sprintf("desktop %d is at replica %d", n, replica)
			}
		}
		return ""
	})
	served := s.connections()
	for _, d := range s.desktops {
		last := d.heard().connections
		if k := last[len(last)-1]; len(last) > 1 && last[0].replica < perStack { // it was with the other stack
			require.Equal(t, "reset", k.frames[0].event, "%s: %v", d.name, k.frames)
			require.Equal(t, "snapshot", k.frames[1].event, "%s: %v", d.name, k.frames)
		}
	}
	// On connecting, a desktop tells where it works.
	away := func() {
		for n := range reporting {
			s.tell(n)
		}
	}
	away()
	s.untilStates(1, func(n int) string {
		if n < 4 {
			return "pending in " + east
		}
		if n < reporting {
			s.tell(n) // it has moved
		}
		return "active in " + west
	})
	s.clear(caller)
	s.untilStates(1, func(n int) string {
		switch {
		case n == caller:
			s.tell(n)
			return "active in " + west
		case n < 4:
			return "pending in " + east
		}
		return "active in " + west
	})
	status, body := s.stack[1].ask(0, "GET", "/v1/failovers?agentId="+s.agent(forced), "", nil)
	ids := failoverIDs(status, body)
	require.Len(t, ids, 1)
	s.stack[1].force(rand.New(rand.NewPCG(1, 1)), ids[0], "force-1", 1)
	held := func(n int) string {
		if n == chatting || n == talking {
			return "pending in " + east
		}
		return "active in " + west
	}
	s.untilStates(1, held)

	// The east comes back, with yesterday's distribution, and its stack with the state of when it was lost.
	before, _, err := s.log(1)
	require.NoError(t, err)
	s.returnEast()
	s.untilStates(0, func(n int) string {
		if n == forced {
			return "pending in " + east // a force reaches one stack; to the other one the call still holds
		}
		return held(n)
	})
	s.untilStates(1, held)
	after, moved, err := s.log(1)
	require.NoError(t, err)
	require.Empty(t, moved[before:after], "an old distribution moves nobody")
	require.NoError(t, s.amazon.Thaw(east, ""))
	for _, n := range []int{forced, chatting, talking} {
		s.clear(n)
	}
	for i := range s.stack {
		s.untilStates(i, func(n int) string {
			if n < reporting {
				s.tell(n)
			}
			return "active in " + west
		})
	}
	s.told(served, west)

	// Both live, and desktops that go to and fro between them: nothing is new to them.
	s.nothingNew(6)
	// Everybody goes back. Whoever stays with a stack is told once; both stacks say the same in the end.
	settled := s.connections()
	require.NoError(t, s.amazon.Shift("", east, 100))
	for i := range s.stack {
		s.untilStates(i, func(n int) string {
			if n < reporting {
				s.tell(n)
			}
			return "active in " + east
		})
	}
	s.told(settled, east)
	s.nothingNew(2)
	// Who goes to and fro in the midst of a shift hears what each of the two knows at that moment, and is in the right Region in the end.
	require.NoError(t, s.amazon.Shift("", west, 100))
	for i := range 8 {
		s.flap(i % 2)
		for n := range reporting {
			s.tell(n)
		}
	}
	for i := range s.stack {
		s.untilStates(i, func(n int) string {
			if n < reporting {
				s.tell(n)
			}
			return "active in " + west
		})
	}
	s.heard(west)
	s.nothingNew(2)
	for i := range s.stack {
		s.check(i)
	}
	s.amazon.mu.Lock()
	defer s.amazon.mu.Unlock()
	require.NotZero(t, s.amazon.answers[200])
	require.Zero(t, s.amazon.answers[429], "of %v answers: the stacks exceed the quota together", s.amazon.answers)
	t.Logf("answers of Amazon Connect by status: %v", s.amazon.answers)
}

// connections counts those of each desktop so far.
func (s *stacks) connections() (counts []int) {
	for _, d := range s.desktops {
		counts = append(counts, len(d.heard().connections))
	}
	return counts
}

// heard waits until each replica has read its stack's log to the end, and each desktop has heard that it works in a Region.
func (s *stacks) heard(region string) {
	s.t.Helper()
	for _, c := range s.stack {
		logID, log, err := c.readLog()
		require.NoError(s.t, err)
		require.Greater(s.t, len(log), 1)
		for r := range c.replicas {
			s.until("the log is read", func() string {
				status, body := c.ask(r, "GET", "/v1/events?limit=1&after="+cursor(logID, log[:len(log)-1]), "", nil)
				if status != http.StatusOK || !bytes.Contains(body, []byte(cursor(logID, log))) {
					return fmt.Sprintf("replica %d answers %d %s", r, status, body)
				}
				return ""
			})
		}
	}
	s.until("every desktop has heard where it works", func() string {
		for _, d := range s.desktops {
			if list := moves(d.heard()); len(list) == 0 || list[len(list)-1] != region {
				return fmt.Sprintf("%s was told to move to %v, the last is not %s", d.name, list, region)
			}
		}
		return ""
	})
}

// told holds that every desktop was told to move to a Region, and told once, if it has stayed with one stack from one of its connections on:
// whoever changes stacks in the midst of a shift hears what each of the two knows at that moment.
func (s *stacks) told(since []int, region string) {
	s.t.Helper()
	s.heard(region)
	stayed := 0
	for n, d := range s.desktops {
		h := d.heard()
		later := h.connections[since[n]-1:]
		if slices.ContainsFunc(later, func(c connection) bool { return c.replica/perStack != later[0].replica/perStack }) {
			continue
		}
		stayed++
		before := h
		before.connections = h.connections[:since[n]-1]
		require.Equal(s.t, append(moves(before), region), moves(h), d.name)
	}
	require.NotZero(s.t, stayed, "every desktop has changed stacks")
}

// nothingNew sends every desktop from stack to stack while nothing happens, which moves nobody.
func (s *stacks) nothingNew(times int) {
	s.t.Helper()
	var before [][]string
	for _, d := range s.desktops {
		before = append(before, moves(d.heard()))
	}
	for i := range times {
		s.flap(i % 2)
	}
	for n, d := range s.desktops {
		require.Equal(s.t, before[n], moves(d.heard()), d.name)
	}
}

// log counts the events of a stack, and lists those that tell of a failover's beginning or end.
func (s *stacks) log(stack int) (n int, ends []string, err error) {
	_, log, err := s.stack[stack].readLog()
	for _, e := range log {
		if e.event == "failoverDetected" || e.event == "failoverCompleted" || e.event == "failoverCancelled" {
			ends = append(ends, e.event+" "+e.data)
		}
	}
	return len(ends), ends, err
}

// flap sends every desktop to a stack, and returns when each is there and has a snapshot.
func (s *stacks) flap(stack int) {
	s.t.Helper()
	sent := s.connections()
	for _, d := range s.desktops {
		d.drop(stack*perStack, nil)
	}
	s.until("every desktop has changed over", func() string {
		for n, d := range s.desktops {
			replica, heard := d.at()
			if heard && replica/perStack == stack {
				continue
			}
			// Its way to the other one may have been under way when it was sent; a way that is under way is not broken off again.
			if now := len(d.heard().connections); replica/perStack != stack && now > sent[n] {
				sent[n] = now
				d.drop(stack*perStack, nil)
			}
			return fmt.Sprintf("desktop %d is at replica %d", n, replica)
		}
		return ""
	})
}
