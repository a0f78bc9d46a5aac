package orchestrator

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// A machine whose clock is minutes ahead of the database's, or behind, leads as any other: every time that is stored or told is the database's,
// windows are as long as they are, and readers are told their own time.
func TestTheLeaderDecidesByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"the same": 0, "ahead": 7 * time.Minute, "behind": -7 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				m.ahead = -ahead
				a := start(t, "a", m)
				defer func() { a.stop() }()
				synctest.Wait()
				a.floor("one", "two")
				m.with(func() {
					m.inbox = append(m.inbox, store.Command{ID: 1, Kind: store.CommandReport, Payload: []byte(`{"AgentID":"two","ActiveRegion":"us-east-1"}`), Age: time.Second})
				})
				time.Sleep(2 * time.Second)
				detected := time.Now()
				a.distribute(west)
				synctest.Wait()
				for _, d := range a.people.lastWork().Drain {
					require.WithinDuration(t, detected, d.DetectedAt, time.Millisecond, "as its reader tells the time")
				}
				a.stop()
				a = start(t, "b", m)
				until(t, 3*time.Second, "it decides", func() bool { return a.Status().Deciding })
				for _, id := range []string{"one", "two"} {
					a.people.say <- read(id)
				}
				synctest.Wait()
				require.Equal(t, []failover.EventType{failover.EventFailoverDetected, failover.EventFailoverCompleted}, types(m.events(), "one"))
				require.Equal(t, []failover.EventType{failover.EventFailoverDetected}, types(m.events(), "two"), "its desktop has not arrived")
				time.Sleep(time.Minute + 50*time.Second - time.Since(detected))
				synctest.Wait()
				require.Len(t, types(m.events(), "two"), 1, "its desktop's word counts for two minutes")
				until(t, 12*time.Minute, "it is completed", func() bool { a.people.say <- read("two"); return len(types(m.events(), "two")) == 2 })
				for _, e := range m.events() {
					if e.Type == failover.EventFailoverDetected {
						require.WithinDuration(t, detected.Add(-ahead), e.Time, time.Millisecond)
					}
				}
			})
		})
	}
}

// Every time that a reader tells is translated; a contact's own, which is Amazon Connect's, is not.
func TestEveryObservationIsTranslated(t *testing.T) {
	t.Parallel()
	local := time.Now()
	c := clock{at: local.Add(time.Hour).Round(0), since: local}
	for _, o := range []failover.Observation{
		failover.TDGsListed{}, failover.DistributionRound{Answers: []failover.RegionAnswer{{}}}, failover.RosterPage{}, failover.UsersListed{Users: []failover.User{{}}},
		failover.UserData{}, failover.ChunkComplete{}, failover.PassComplete{}, failover.ContactsUnavailable{}, failover.ContactLocated{},
		failover.SetupObserved{}, failover.Streaming{},
	} {
		v := reflect.New(reflect.TypeOf(o))
		v.Elem().Set(reflect.ValueOf(o))
		walk(v, func(at *time.Time) { *at = local })
		v.Elem().Set(reflect.ValueOf(c.observed(v.Elem().Interface().(failover.Observation))))
		walk(v, func(at *time.Time) { require.Equal(t, c.at, *at, "%T", o) })
	}
	began := failover.UserData{StartedAt: local, Users: []failover.UserRecord{{Contacts: []failover.Contact{{Began: local, StateSince: local}}}}}
	require.Equal(t, local, c.observed(began).(failover.UserData).Users[0].Contacts[0].Began)

	require.Equal(t, local, c.local(c.of(local)))
	require.True(t, c.of(time.Time{}).IsZero())
	require.True(t, c.local(time.Time{}).IsZero())
}

// A clock that began while the database answered slowly is behind. It catches up with what is stored, never by more than that.
func TestTheClockCatchesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Round(0)
		c := clock{at: at, since: time.Now(), unsure: 2 * time.Second}
		c.catchUp(at.Add(-time.Minute))
		require.Equal(t, at, c.now())
		c.catchUp(at.Add(time.Second))
		require.Equal(t, at.Add(time.Second), c.now())
		c.catchUp(at.Add(2 * time.Second))
		require.Equal(t, at.Add(2*time.Second), c.now())
		c.catchUp(at.Add(3 * time.Second))
		require.Equal(t, at.Add(2*time.Second), c.now(), "that was written by another clock")
		c.follow(at.Add(time.Hour))
		require.Equal(t, at.Add(2*time.Second+followAtMost), c.now())
		c.follow(at)
		require.Equal(t, at.Add(2*time.Second), c.now())
	})
}

// The clock of PostgreSQL's host is set while somebody leads, and while the lease goes to a replica that was there before: no time passes by that.
func TestTheDatabasesClockIsSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a, b := start(t, "a", m), start(t, "b", m)
		defer func() { b.stop() }()
		until(t, 3*time.Second, "somebody decides", func() bool { return a.Status().Deciding || b.Status().Deciding })
		if b.Status().Deciding {
			a, b = b, a
		}
		a.floor("one")
		m.with(func() { m.ahead = time.Hour })
		a.distribute(west)
		time.Sleep(10 * time.Minute)
		a.stop()
		until(t, 3*time.Second, "the other decides", func() bool { return b.Status().Deciding })
		b.people.say <- read("one")
		synctest.Wait()
		events := m.events()
		completed, detected := events[len(events)-1], events[len(events)-2]
		require.Equal(t, failover.EventFailoverCompleted, completed.Type)
		require.InDelta(t, 10*time.Minute, completed.Time.Sub(detected.Time), float64(5*time.Second))
	})
}

func TestNotAfter(t *testing.T) {
	t.Parallel()
	now := time.Now()
	past, future := now.Add(-time.Minute), now.Add(time.Minute)
	type inner struct{ At time.Time }
	v := struct {
		At, Zero time.Time
		Pointer  *inner
		None     *inner
		List     []inner
		Map      map[string]inner
		hidden   time.Time
	}{future, time.Time{}, &inner{future}, nil, []inner{{past}, {future}}, map[string]inner{"a": {future}, "b": {past}}, future}
	notAfter(&v, now)
	require.Equal(t, now, v.At)
	require.True(t, v.Zero.IsZero())
	require.Equal(t, inner{now}, *v.Pointer)
	require.Equal(t, []inner{{past}, {now}}, v.List)
	require.Equal(t, map[string]inner{"a": {now}, "b": {past}}, v.Map)
	require.Equal(t, future, v.hidden)
}

// The end of a pause or a drill, and the turn of one who is forced among many, are still to come when the leader changes.
func TestNotAfterLeavesDues(t *testing.T) {
	t.Parallel()
	now := time.Now()
	past, future := now.Add(-time.Minute), now.Add(time.Minute)
	s := failover.Snapshot{
		Groups: []*failover.Group{{Pause: &failover.Pause{Since: past, Until: future}}},
		Agents: []*failover.Agent{{Failover: &failover.Failover{DetectedAt: future, ForceAt: future}}},
		Drills: []*failover.Drill{{StartedAt: past, Until: future}},
	}
	notAfter(&s, now)
	require.Equal(t, future, s.Groups[0].Pause.Until)
	require.Equal(t, future, s.Agents[0].Failover.ForceAt)
	require.Equal(t, now, s.Agents[0].Failover.DetectedAt)
	require.Equal(t, future, s.Drills[0].Until)
}

// What it adds to the load of fifty thousand agents.
func BenchmarkNotAfter(b *testing.B) {
	var s failover.Snapshot
	for range 50_000 {
		s.Agents = append(s.Agents, &failover.Agent{
			Failover: &failover.Failover{}, Lists: []failover.ContactList{{Contacts: []failover.Contact{{}}}, {}},
		})
	}
	now := time.Now()
	for b.Loop() {
		notAfter(&s, now)
	}
}
