package agents

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"changeover/internal/connect"
	"changeover/internal/failover"
)

const (
	// profilesMaxAge is how old the list of routing profiles may be at the beginning of a sweep. One call a minute
	// keeps a new profile from staying unread for long.
	profilesMaxAge = time.Minute
	// fullPage is how many agents a chunk of the sweep is expected to show: about a page, with room for some more.
	fullPage = 90
	// firstChunk is how many routing profiles of unknown size go into one chunk.
	firstChunk = 10
	// attempts is how often a chunk is tried in one pass; fewer if the Region fails altogether.
	attempts = 3
	// pacing is the part of the sweep interval over which the calls of a pass are spread, so that the burst is there
	// when a detection needs it.
	pacing = 0.9
	// spare is how much longer than the quota demands the sweep waits from one call to the next, for the same reason.
	spare = 1.1
)

// sweep reads everybody of every routing profile, again and again, until ctx ends: a full pass each agent interval, or one
// right after the other where the quota does not allow that.
func (g *region) sweep(ctx context.Context, emit func(context.Context, failover.Observation)) {
	complain := complaint{log: g.log, region: g.name, what: "agents of all routing profiles"}
	first, failures := true, 0
	if g.o.Routing == failover.Global && g.index > 0 && !sleep(ctx, g.o.AgentInterval) {
		return // the Regions take turns
	}
	for ctx.Err() == nil {
		begun, interval := time.Now(), g.sweepInterval()
		err := g.sweepOnce(ctx, emit, interval, first)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failures++
			complain.failed(ctx, err)
			if !sleep(ctx, backoff(failures, interval)) {
				return
			}
		default:
			first, failures = false, 0
			complain.succeeded()
			g.mu.Lock()
			g.sweptAt = time.Now()
			g.mu.Unlock()
			if !sleep(ctx, time.Until(begun.Add(interval))) {
				return
			}
		}
	}
}

// sweepInterval is the agent interval, or with global routing twice that as long as the other Region, which shows the
// same (R20), is swept in turn.
func (g *region) sweepInterval() time.Duration {
	if g.o.Routing != failover.Global || g.other == nil {
		return g.o.AgentInterval
	}
	g.other.mu.Lock()
	defer g.other.mu.Unlock()
	if at := g.other.sweptAt; !at.IsZero() && time.Since(at) < 4*g.o.AgentInterval {
		return 2 * g.o.AgentInterval
	}
	return g.o.AgentInterval
}

// pass is one sweep under way.
type pass struct {
	g        *region
	interval time.Duration
	spacing  time.Duration // from one call to the next

	mu        sync.Mutex
	todo      []*chunk
	unknown   []string // profiles of unknown size, not yet in a chunk
	agents    int      // that this pass has shown so far
	profiles  int      // that this pass has read so far
	tries     map[*chunk]int
	slot      time.Time // of the next call
	startedAt time.Time // of the first call
	failures  int       // in a row
	failed    error     // the last failure; the pass is incomplete if any chunk is
	givenUp   bool
}

// sweepOnce makes one pass. It returns an error unless the pass is complete.
func (g *region) sweepOnce(ctx context.Context, emit func(context.Context, failover.Observation), interval time.Duration, hurry bool) error {
	if err := g.refreshProfiles(ctx, min(profilesMaxAge, g.o.MembershipInterval)); err != nil {
		g.mu.Lock()
		unknown := g.list == nil
		g.mu.Unlock()
		if unknown {
			return err
		}
	}
	p := &pass{g: g, interval: interval, tries: map[*chunk]int{}}
	if p.prepare(hurry) == 0 {
		return nil // no routing profile, nobody to read; and nothing that could be said of anybody
	}
	var wg sync.WaitGroup
	for range g.parallel {
		wg.Go(func() {
			for c := p.next(); c != nil; c = p.next() {
				p.read(ctx, emit, c)
			}
		})
	}
	wg.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case p.failed != nil:
		return p.failed
	}
	emit(ctx, failover.PassComplete{Group: g.o.Group, Region: g.name, StartedAt: p.startedAt, FinishedAt: time.Now()})
	return nil
}

// prepare divides the routing profiles into chunks of about a page each and returns how many profiles there are.
func (p *pass) prepare(hurry bool) int {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	var known []*chunk
	for _, id := range p.g.list {
		switch pr := p.g.profiles[id]; {
		case pr.refused: // by itself, so that it keeps no other from being read
			p.todo = append(p.todo, &chunk{profiles: []string{id}})
		case pr.online < 0:
			p.unknown = append(p.unknown, id)
		default:
			known = append(known, &chunk{profiles: []string{id}, busy: pr.online})
		}
	}
	slices.SortStableFunc(known, func(a, b *chunk) int { return cmp.Compare(b.busy, a.busy) })
	calls := len(p.unknown)/firstChunk + len(p.todo)
	for _, c := range known {
		i := slices.IndexFunc(p.todo, func(o *chunk) bool {
			return len(o.profiles) < maxProfiles && o.busy+c.busy <= fullPage && !p.g.profiles[o.profiles[0]].refused
		})
		if i < 0 {
			p.todo = append(p.todo, c)
			continue
		}
		p.todo[i].profiles = append(p.todo[i].profiles, c.profiles...)
		p.todo[i].busy += c.busy
	}
	for _, c := range p.todo {
		calls += 1 + c.busy/pageSize
	}
	if !hurry {
		p.spacing = time.Duration(pacing * float64(p.interval) / float64(calls))
		p.spacing = max(p.spacing, time.Duration(spare/p.g.o.RequestsPerSecond*float64(time.Second)))
	}
	return len(p.g.list)
}

// wait waits for the time of the next call.
func (p *pass) wait(ctx context.Context) {
	p.mu.Lock()
	at := p.slot
	if now := time.Now(); at.Before(now) {
		at = now
	}
	p.slot = at.Add(p.spacing)
	p.mu.Unlock()
	sleep(ctx, time.Until(at))
}

// next is the next chunk to read; nil: there is none left.
func (p *pass) next() *chunk {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.givenUp:
	case len(p.todo) > 0:
		c := p.todo[0]
		p.todo = p.todo[1:]
		return c
	case len(p.unknown) > 0:
		n := firstChunk
		if p.profiles > 0 {
			n = min(max(fullPage*p.profiles/max(p.agents, 1), 1), maxProfiles)
		}
		n = min(n, len(p.unknown))
		c := &chunk{profiles: p.unknown[:n:n]}
		p.unknown = p.unknown[n:]
		return c
	}
	return nil
}

// read reads a chunk to its last page. One that fails is tried again later, from its beginning (R13); one that is refused
// because of one of its profiles is divided.
func (p *pass) read(ctx context.Context, emit func(context.Context, failover.Observation), c *chunk) {
	ctx, span := p.g.o.Tracer.Start(ctx, "sweep", trace.WithNewRoot())
	defer span.End()
	startedAt, shown, err := p.g.readChunk(ctx, emit, connect.Sweep, c.profiles, false, func() { p.wait(ctx) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if !startedAt.IsZero() && (p.startedAt.IsZero() || startedAt.Before(p.startedAt)) {
		p.startedAt = startedAt
	}
	if err == nil {
		p.failures = 0
		p.agents += len(shown)
		p.profiles += len(c.profiles)
		p.setRefused(c, false)
		return
	}
	p.failures++
	kind := connect.KindOf(err)
	if refused := kind == connect.Invalid || kind == connect.NotFound || kind == connect.Denied; refused && startedAt.IsZero() {
		if half := len(c.profiles) / 2; half > 0 && p.failures < 2*attempts {
			p.todo = append([]*chunk{{profiles: c.profiles[:half]}, {profiles: c.profiles[half:]}}, p.todo...)
			return
		}
		p.setRefused(c, true)
		p.failed = err
		p.givenUp = p.failures >= 2*attempts
		return
	}
	if p.tries[c]++; p.tries[c] < attempts {
		p.todo = append(p.todo, c)
	} else {
		p.failed = err
	}
	if p.failures >= attempts {
		p.failed, p.givenUp = err, true
	}
}

// setRefused remembers whether a chunk has to be read by itself.
func (p *pass) setRefused(c *chunk, refused bool) {
	p.g.mu.Lock()
	defer p.g.mu.Unlock()
	for _, id := range c.profiles {
		if pr := p.g.profiles[id]; pr != nil {
			pr.refused = refused
		}
	}
}
