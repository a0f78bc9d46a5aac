package agents

import (
	"cmp"
	"slices"
	"time"

	"changeover/internal/failover"
)

// Limits of GetCurrentUserData.
const (
	pageSize    = 100 // agents per page, and agent ids per call
	maxProfiles = 100 // routing profiles per call
)

// How likely the immediate read releases an agent, by what is known of the last list. Only their order and rough
// proportion matter: they decide which of several correct ways to read people comes first.
const (
	releaseEmpty   = 0.9 // no voice or chat contact then
	releaseUnknown = 0.7 // never read
	releaseHeld    = 0.2 // on contact then

	busyShare = 0.3 // of the agents of a profile of which nothing is known yet
	growth    = 1.1 // more agents may be on contact than last time
)

// item is an agent with an open failover, as the reader sees it.
type item struct {
	failover.DrainItem
	wanted    time.Time // reads that began before do not count: the detection, or when it was wanted again after a pause
	settledAt time.Time // when the read began by which the core can judge the agent; zero: none in this run
	triedAt   time.Time // the last read by id that failed
	missed    bool      // was on contact and a complete chunk did not show it: a chunk cannot settle it
	inFlight  bool
	avoid     time.Time // asking for it is refused; not before this
}

// settled says that a read that counts (R6) has been made since it was wanted, whether or not the core has seen it.
func (it *item) settled() bool {
	return it.Fresh || !it.settledAt.IsZero() && !it.settledAt.Before(it.wanted)
}

func (it *item) release() float64 {
	switch {
	case it.KnownEmpty:
		return releaseEmpty
	case it.ReadAt.IsZero():
		return releaseUnknown
	}
	return releaseHeld
}

// profile is what is known of a routing profile in one Region.
type profile struct {
	online     int       // agents shown by the last complete unfiltered chunk; -1: not known
	busy       int       // of those, or of a later filtered chunk, on contacts; -1: not known
	filteredAt time.Time // when the last complete filtered chunk began
	refused    bool      // a read of it was refused: its agents are read by id
}

// job is one read of the immediate pass: agents by id, or a chunk of routing profiles filtered to agents with contacts.
type job struct {
	items    []*item
	profiles []string
	calls    int
	releases float64
}

// plan orders the reads that settle the given agents so that people are released as soon as can be: of several ways it takes the
// one with the least waiting in sum. The ways are
//
//   - everybody by id, 100 a call, first those whose last list was empty;
//   - the pass filtered to agents with contacts, split into chunks of routing profiles that fill one page, or two
//     (fewer half-empty pages, but the first are released after two calls);
//   - a mixture: profiles in which more agents are on contact than not are read by id, the others by chunks. Where
//     most are on contact, the pages of a chunk are full of those who stay, and by id those who may go are reached
//     sooner;
//   - in each case, agents that a chunk cannot settle (profile unknown, or on contact last time and now not shown)
//     by id, or by completing the pass over all profiles.
//
// Within a way, reads go in order of releases per call (the order that waits least for given reads). So with all agents in
// one profile and fewer than half of them on contact the pass is not split: it takes half as many calls to its end as
// by id to the median agent, or fewer. If more are on contact, those last known without are read by id first.
//
// list are the routing profiles of the instance; empty while they are not known.
func plan(items []*item, list []string, profiles map[string]*profile) []job {
	if len(items) == 0 {
		return nil
	}
	var loose []*item
	var latestLoose time.Time
	byProfile := make(map[string]*chunk)
	listed := make(map[string]bool, len(list))
	for _, id := range list {
		listed[id] = !profiles[id].refused
	}
	for _, it := range items {
		if it.missed || !listed[it.RoutingProfile] {
			loose = append(loose, it)
			if it.wanted.After(latestLoose) {
				latestLoose = it.wanted
			}
			continue
		}
		c := byProfile[it.RoutingProfile]
		if c == nil {
			c = &chunk{profiles: []string{it.RoutingProfile}}
			byProfile[it.RoutingProfile] = c
		}
		c.items = append(c.items, it)
		c.releases += it.release()
		if !it.KnownEmpty && !it.ReadAt.IsZero() {
			c.busy++
		}
	}
	chunks := make([]*chunk, 0, len(byProfile))
	var rest []*chunk // profiles that only the completion of the pass needs
	passable := len(list) > 0
	for _, id := range list {
		c, p := byProfile[id], profiles[id]
		passable = passable && !p.refused
		if c == nil {
			if p.filteredAt.Before(latestLoose) {
				rest = append(rest, &chunk{profiles: []string{id}, busy: max(p.busy, 0)})
			}
			continue
		}
		switch {
		case p.busy >= 0:
			c.busy = max(c.busy, p.busy)
		case c.busy == 0:
			c.busy = int(busyShare * float64(len(c.items)))
		}
		chunks = append(chunks, c)
	}

	best := byID(items)
	least := waiting(best, nil)
	if len(chunks) == 0 && !passable {
		return best
	}
	for _, pages := range []int{1, 2} {
		for _, mixed := range []bool{false, true} {
			for _, pass := range []bool{false, true} {
				if pass && (len(loose) == 0 || !passable) {
					continue
				}
				jobs := way(chunks, rest, loose, pages, mixed, pass)
				if len(jobs) == 0 {
					continue // the pass has been completed without them
				}
				var last []*item
				if pass {
					last = loose
				}
				if w := waiting(jobs, last); w < least {
					best, least = jobs, w
				}
			}
		}
	}
	return best
}

// way makes the reads of one of plan's ways, in order.
func way(chunks, rest []*chunk, loose []*item, pages int, mixed, pass bool) []job {
	var ids []*item
	var packed []*chunk
	if !pass {
		ids = append(ids, loose...)
		rest = nil
	}
	for _, c := range chunks {
		if mixed && c.releases < float64(c.busy) {
			ids = append(ids, c.items...)
			if pass {
				rest = append(slices.Clip(rest), &chunk{profiles: c.profiles, busy: c.busy})
			}
			continue
		}
		packed = append(packed, c)
	}
	slices.SortStableFunc(packed, func(a, b *chunk) int {
		return cmp.Compare(b.releases/float64(b.busy+1), a.releases/float64(a.busy+1))
	})
	var jobs []job
	for _, c := range append(pack(packed, pages), pack(rest, pages)...) {
		jobs = append(jobs, job{items: c.items, profiles: c.profiles, calls: c.calls(), releases: c.releases})
	}
	jobs = append(jobs, byID(ids)...)
	slices.SortStableFunc(jobs, func(a, b job) int {
		return cmp.Compare(b.releases/float64(b.calls), a.releases/float64(a.calls))
	})
	return jobs
}

// waiting is the sum over all agents of the calls until they are released; last are released by the last chunk.
func waiting(jobs []job, last []*item) float64 {
	sum, calls, passDone := 0.0, 0, 0
	for _, j := range jobs {
		calls += j.calls
		sum += j.releases * float64(calls)
		if len(j.profiles) > 0 {
			passDone = calls
		}
	}
	for _, it := range last {
		sum += it.release() * float64(passDone)
	}
	return sum
}

// byID makes reads by id, first those who are most likely released.
func byID(items []*item) []job {
	sorted := slices.Clone(items)
	slices.SortStableFunc(sorted, func(a, b *item) int { return cmp.Compare(b.release(), a.release()) })
	jobs := make([]job, 0, len(items)/pageSize+1)
	for batch := range slices.Chunk(sorted, pageSize) {
		j := job{items: batch, calls: 1}
		for _, it := range batch {
			j.releases += it.release()
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// chunk is a set of routing profiles that is read to its last page.
type chunk struct {
	profiles []string
	items    []*item
	busy     int // agents that a read is expected to show
	releases float64
}

// calls estimates what a chunk costs. A full last page may be followed by an empty one.
func (c *chunk) calls() int { return 1 + int(float64(c.busy)*growth)/pageSize }

// pack joins chunks, in the given order, into fewer that fit the given number of pages each; what is larger by itself
// stays alone.
func pack(chunks []*chunk, pages int) []*chunk {
	var packed []*chunk
	for _, c := range chunks {
		i := slices.IndexFunc(packed, func(p *chunk) bool {
			both := chunk{busy: p.busy + c.busy}
			return both.calls() <= pages && len(p.profiles)+len(c.profiles) <= maxProfiles
		})
		if i < 0 {
			packed = append(packed, &chunk{})
			i = len(packed) - 1
		}
		p := packed[i]
		p.profiles = append(p.profiles, c.profiles...)
		p.items = append(p.items, c.items...)
		p.busy += c.busy
		p.releases += c.releases
	}
	return packed
}
