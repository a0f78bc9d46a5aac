package agents

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
)

// floor is what plan is asked about: so many profiles with so many agents each, a share of them on contact.
func floor(profiles, agents int, busy float64) ([]*item, []string, map[string]*profile) {
	var items []*item
	var list []string
	known := map[string]*profile{}
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for p := range profiles {
		id := fmt.Sprintf("profile-%03d", p)
		list = append(list, id)
		held := int(busy * float64(agents))
		known[id] = &profile{online: agents, busy: held}
		for a := range agents {
			items = append(items, &item{wanted: at, DrainItem: failover.DrainItem{
				AgentID: fmt.Sprintf("agent-%03d-%05d", p, a), RoutingProfile: id, DetectedAt: at, ReadAt: at.Add(-time.Minute), KnownEmpty: a >= held,
			}})
		}
	}
	return items, list, known
}

// released says after how many calls each agent who is last known without contacts is released by the jobs, sorted; agents
// whom only the completed pass releases are released at its end.
func released(jobs []job, items []*item) []int {
	var after []int
	calls, passDone := 0, 0
	settled := map[*item]bool{}
	for _, j := range jobs {
		calls += j.calls
		if len(j.profiles) > 0 {
			passDone = calls
		}
		for _, it := range j.items {
			settled[it] = true
			if it.KnownEmpty {
				after = append(after, calls)
			}
		}
	}
	for _, it := range items {
		if !settled[it] && it.KnownEmpty {
			after = append(after, passDone)
		}
	}
	slices.Sort(after)
	return after
}

func TestPlan(t *testing.T) {
	t.Parallel()
	total := func(jobs []job) (calls int) {
		for _, j := range jobs {
			calls += j.calls
		}
		return calls
	}
	byIDOnly := func(t *testing.T, jobs []job) {
		t.Helper()
		for _, j := range jobs {
			require.Empty(t, j.profiles)
		}
	}
	t.Run("a few agents of a large floor are read by id in one call", func(t *testing.T) {
		items, list, known := floor(50, 200, 0.3)
		jobs := plan(items[:60], list, known)
		byIDOnly(t, jobs)
		require.Equal(t, 1, total(jobs))
	})
	t.Run("dozens of profiles: small chunks release steadily", func(t *testing.T) {
		items, list, known := floor(50, 200, 0.3)
		jobs := plan(items, list, known)
		after := released(jobs, items)
		require.Len(t, after, 7000)
		require.LessOrEqual(t, after[0], 2)
		require.LessOrEqual(t, after[len(after)/2], 20)
		require.LessOrEqual(t, total(jobs), 40)
	})
	t.Run("one profile, most without contacts: the pass, not split, beats a hundred calls by id", func(t *testing.T) {
		items, list, known := floor(1, 10_000, 0.3)
		jobs := plan(items, list, known)
		require.Len(t, jobs, 1)
		require.Equal(t, list, jobs[0].profiles)
		require.LessOrEqual(t, total(jobs), 34)
	})
	t.Run("one profile, most on contact: those last known without go first, by id", func(t *testing.T) {
		items, list, known := floor(1, 10_000, 0.8)
		jobs := plan(items, list, known)
		after := released(jobs, items)
		require.Equal(t, 1, after[0])
		require.Equal(t, 20, after[len(after)-1])
	})
	t.Run("a large and many small profiles: the small ones do not wait for the large one", func(t *testing.T) {
		items, list, known := floor(20, 100, 0.3)
		large, largeList, largeKnown := floor(1, 5000, 0.4)
		for _, it := range large {
			it.RoutingProfile = "large"
		}
		known["large"] = largeKnown[largeList[0]]
		jobs := plan(append(slices.Clone(large), items...), append([]string{"large"}, list...), known)
		calls := 0
		for _, j := range jobs {
			if calls += j.calls; slices.Contains(j.profiles, "large") {
				require.Greater(t, calls, 20)
			}
		}
	})
	t.Run("routing profiles not known yet: by id", func(t *testing.T) {
		items, _, _ := floor(2, 1000, 0.3)
		jobs := plan(items, nil, nil)
		byIDOnly(t, jobs)
		require.Equal(t, 20, total(jobs))
		require.True(t, jobs[0].items[0].KnownEmpty)
	})
	t.Run("a profile that is refused: its agents by id, the others by chunks", func(t *testing.T) {
		items, list, known := floor(50, 200, 0.3)
		known[list[7]].refused = true
		for _, j := range plan(items, list, known) {
			require.NotContains(t, j.profiles, list[7])
		}
	})
	t.Run("agents of unknown profile, never seen: the completion of the pass decides about them for nothing", func(t *testing.T) {
		items, list, known := floor(50, 200, 0.3)
		for i := range 6000 {
			items = append(items, &item{wanted: items[0].wanted, DrainItem: failover.DrainItem{AgentID: fmt.Sprint(i), DetectedAt: items[0].DetectedAt}})
		}
		jobs := plan(items, list, known)
		require.LessOrEqual(t, total(jobs), 40)
		read := map[string]bool{}
		for _, j := range jobs {
			for _, p := range j.profiles {
				read[p] = true
			}
		}
		require.Len(t, read, 50)
	})
	t.Run("only agents of unknown profile: the pass where its end comes before half of the reads by id, else by id", func(t *testing.T) {
		_, list, known := floor(50, 200, 0.3)
		var items []*item
		for i := range 8000 {
			items = append(items, &item{wanted: time.Unix(1, 0), DrainItem: failover.DrainItem{AgentID: fmt.Sprint(i), DetectedAt: time.Unix(1, 0)}})
		}
		require.LessOrEqual(t, total(plan(items, list, known)), 40)
		byIDOnly(t, plan(items[:500], list, known))
	})
	t.Run("of whom no profile tells, when all profiles have been read", func(t *testing.T) {
		items, list, known := floor(5, 20, 0.3)
		for _, p := range known {
			p.filteredAt = items[0].wanted.Add(time.Second)
		}
		items[0].RoutingProfile = ""
		byIDOnly(t, plan(items[:1], list, known))
	})
	t.Run("nobody", func(t *testing.T) {
		require.Empty(t, plan(nil, nil, nil))
	})
}

// Every agent is covered, by its id, its profile, or the completion of the pass over all profiles.
func TestPlanCoversEverybody(t *testing.T) {
	t.Parallel()
	for _, profiles := range []int{1, 3, 40, 150} {
		for _, agents := range []int{1, 30, 200} {
			for _, busy := range []float64{0, 0.3, 0.5, 0.7, 1} {
				items, list, known := floor(profiles, agents, busy)
				for i := 0; i < len(items); i += 7 {
					items[i].missed = true
				}
				for i := 0; i < len(items); i += 11 {
					items[i].RoutingProfile = "gone"
				}
				read, covered := map[string]bool{}, map[*item]bool{}
				for _, j := range plan(items, list, known) {
					require.LessOrEqual(t, len(j.profiles), maxProfiles)
					for _, p := range j.profiles {
						require.False(t, read[p], "%s is read twice", p)
						read[p] = true
					}
					if len(j.profiles) == 0 {
						require.LessOrEqual(t, len(j.items), pageSize)
					}
					for _, it := range j.items {
						if covered[it] {
							t.Fatalf("%s is read twice", it.AgentID)
						}
						covered[it] = true
					}
				}
				for _, it := range items {
					if !covered[it] && len(read) < len(list) {
						t.Fatalf("%d profiles, %d agents, %v busy: nothing is read for %s", profiles, agents, busy, it.AgentID)
					}
				}
			}
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, agents := range []int{10_000, 100_000} {
		items, list, known := floor(100, agents/100, 0.3)
		b.Run(fmt.Sprint(agents), func(b *testing.B) {
			for b.Loop() {
				plan(items, list, known)
			}
		})
	}
}
