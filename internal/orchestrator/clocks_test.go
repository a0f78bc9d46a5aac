package orchestrator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
)

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
