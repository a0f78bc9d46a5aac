package agents

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"changeover/internal/connect"
	"changeover/internal/failover"
)

const (
	// refusedAgain is how long an agent is left alone whom Amazon Connect refuses to show by id: a user who was deleted meanwhile
	// makes the whole call fail.
	refusedAgain = time.Minute
	// mostRefusals in a row are looked into, enough to find one id among a hundred; then everything is refused.
	mostRefusals = 10
	// yieldAfter is the number of reads in a row after which a rotation that cannot keep up lets the sweep have a
	// turn: without it, some hundred chats that last for hours would stop the sweep for as long.
	yieldAfter = 5
)

// task is what a drain worker does next.
type task struct {
	job
	planned bool     // part of the immediate pass's plan
	ids     []string // of the items, in the Region
}

// drain reads the contacts of agents with an open failover until ctx ends: those who have to be read at once (R6), and
// else, each drain interval, the others, oldest read first.
func (g *region) drain(ctx context.Context, emit func(context.Context, failover.Observation)) {
	for ctx.Err() == nil {
		g.mu.Lock()
		t, wait := g.next(time.Now())
		changed := g.changed
		g.mu.Unlock()
		if t == nil {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-changed:
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		g.do(ctx, emit, t)
	}
}

// next picks the most urgent read, or tells how long there will be none unless something changes. g.mu is held.
func (g *region) next(now time.Time) (*task, time.Duration) {
	if now.Before(g.paused) {
		return nil, g.paused.Sub(now)
	}
	if n := len(g.split); n > 0 {
		items := g.split[n-1]
		g.split = g.split[:n-1]
		return g.take(job{items: items}, false), 0
	}
	if now.Before(g.idle) { // found out by another worker; all of them are woken together, and it takes a look at every agent
		return nil, g.idle.Sub(now)
	}
	if t := g.nextPlanned(now); t != nil {
		return t, 0
	}
	t, wait := g.nextRotation(now)
	if t == nil {
		g.idle = now.Add(wait)
	}
	return t, wait
}

// nextPlanned is the next read of the immediate pass, planned anew when there are agents whom the plan does not cover.
func (g *region) nextPlanned(now time.Time) *task {
	if len(g.jobs) == 0 && g.flying > 0 && !g.replan {
		return nil // what is under way may settle the rest
	}
	unsettled := func(it *item) bool { return !it.settled() && !it.inFlight && !now.Before(it.avoid) }
	if g.replan || len(g.jobs) == 0 {
		g.replan = false
		var at []*item
		for _, it := range g.order {
			if unsettled(it) {
				at = append(at, it)
			}
		}
		g.jobs = plan(at, g.list, g.profiles)
	}
	for len(g.jobs) > 0 {
		j := g.jobs[0]
		g.jobs[0] = job{}
		g.jobs = g.jobs[1:]
		chunk, rest := len(j.profiles) > 0, len(j.items) == 0
		j.items = slices.DeleteFunc(j.items, func(it *item) bool { return !unsettled(it) || g.items[it.FailoverID] != it })
		if len(j.items) > 0 || chunk && rest {
			return g.take(j, true)
		}
	}
	return nil
}

// nextRotation is the next read of agents who have been read since their detection.
func (g *region) nextRotation(now time.Time) (*task, time.Duration) {
	wait := g.o.DrainInterval
	if now.Before(g.yielded) {
		return nil, g.yielded.Sub(now)
	}
	var due []*item
	late := false
	for _, it := range g.order {
		if it.inFlight || now.Before(it.avoid) || !it.settled() {
			continue
		}
		until := it.lastRead().Add(g.o.DrainInterval).Sub(now)
		late = late || until <= 0
		if until <= g.o.DrainInterval/4 { // so that batches stay full
			due = append(due, it)
		}
		wait = min(wait, max(until, 0))
	}
	if !late {
		return nil, wait
	}
	slices.SortStableFunc(due, func(a, b *item) int { return a.lastRead().Compare(b.lastRead()) })
	return g.take(job{items: slices.Clone(due[:min(len(due), pageSize)])}, false), 0
}

// lastRead is when the last read of the agent began, or failed.
func (it *item) lastRead() time.Time {
	last := it.ReadAt
	for _, at := range [...]time.Time{it.settledAt, it.triedAt} {
		if at.After(last) {
			last = at
		}
	}
	return last
}

// take begins a task. g.mu is held.
func (g *region) take(j job, planned bool) *task {
	t := &task{job: j, planned: planned, ids: make([]string, len(j.items))}
	for i, it := range j.items {
		it.inFlight = true
		t.ids[i] = it.UserID
	}
	if planned {
		g.flying++
	}
	return t
}

// do reads, emits and settles one task.
func (g *region) do(ctx context.Context, emit func(context.Context, failover.Observation), t *task) {
	begun := time.Now()
	ctx, span := g.o.Tracer.Start(ctx, "read contacts", trace.WithNewRoot())
	defer span.End()
	var startedAt time.Time
	var err error
	var shown map[string]bool
	if len(t.profiles) > 0 {
		startedAt, shown, err = g.readChunk(ctx, emit, connect.Drain, t.profiles, true, func() {})
	} else {
		startedAt, err = g.readIDs(ctx, emit, t.ids)
	}

	if pass := g.done(ctx, t, startedAt, shown, time.Since(begun), err); pass != nil {
		emit(ctx, *pass)
	}
}

// done settles what a task read, or decides what its failure means. It returns what is left to be emitted, or nil:
// emit may wait for someone who is waiting for g.mu.
func (g *region) done(ctx context.Context, t *task, startedAt time.Time, shown map[string]bool, took time.Duration, err error) *failover.PassComplete {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.wake()
	for _, it := range t.items {
		it.inFlight = false
	}
	if t.planned {
		g.flying--
	}
	if err != nil {
		g.refused(ctx, t, err)
		return nil
	}
	g.failed = 0
	g.complain.succeeded()
	if len(t.profiles) > 0 {
		g.settleChunk(t.profiles, startedAt, shown)
		return g.settlePass()
	}
	for _, it := range t.items {
		it.settledAt = startedAt
	}
	if t.planned {
		return nil
	}
	if g.turns++; len(t.items) < pageSize {
		g.turns = 0 // it keeps up
	}
	if g.turns >= yieldAfter {
		g.turns, g.yielded = 0, time.Now().Add(took)
	}
	return nil
}

// settleChunk notes which agents a complete filtered chunk is enough for. g.mu is held.
func (g *region) settleChunk(profiles []string, startedAt time.Time, shown map[string]bool) {
	for _, it := range g.order {
		if it.wanted.After(startedAt) || !slices.Contains(profiles, it.RoutingProfile) {
			continue
		}
		switch {
		case shown[it.UserID], it.KnownEmpty, it.ReadAt.IsZero():
			it.settledAt = startedAt
		case !it.settled():
			// The contact has ended, or the agent has changed profile and shows up in another chunk.
			it.missed = true
		}
	}
}

// settlePass returns that the filtered pass is complete, when it is and there are agents whom only that settles. g.mu is held.
func (g *region) settlePass() *failover.PassComplete {
	var oldest time.Time
	for i, id := range g.list {
		if at := g.profiles[id].filteredAt; i == 0 || at.Before(oldest) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return nil
	}
	settled := false
	for _, it := range g.order {
		if !it.settled() && !it.inFlight && !it.wanted.After(oldest) {
			it.settledAt, settled = oldest, true
		}
	}
	if !settled {
		return nil
	}
	return &failover.PassComplete{Group: g.o.Group, Region: g.name, StartedAt: oldest, FinishedAt: time.Now(), Filtered: true}
}

// refused decides what a failed read means for the next ones. g.mu is held.
func (g *region) refused(ctx context.Context, t *task, err error) {
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	g.replan = true
	g.failed++
	if kind := connect.KindOf(err); (kind == connect.Invalid || kind == connect.NotFound) && g.failed <= mostRefusals {
		g.isolate(t, now)
		return
	}
	for _, it := range t.items {
		it.triedAt = now
	}
	g.split = nil
	g.complain.failed(ctx, err)
	g.paused = now.Add(backoff(g.failed, g.o.DrainInterval))
}

// isolate keeps one id that Amazon Connect refuses from holding up the others of its read. g.mu is held.
func (g *region) isolate(t *task, now time.Time) {
	switch half := len(t.items) / 2; {
	case len(t.profiles) > 0:
		// One of the profiles may be gone. Until the sweep has found which, their agents are read by id.
		for _, id := range t.profiles {
			if p := g.profiles[id]; p != nil {
				p.refused = true
			}
		}
		g.listedAt = time.Time{}
	case half > 0:
		g.split = append(g.split, t.items[half:], t.items[:half])
	default:
		// Not shown is not the same as without contacts (R13).
		for _, it := range t.items {
			it.avoid = now.Add(refusedAgain)
		}
	}
}
