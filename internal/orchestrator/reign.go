package orchestrator

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"changeover/internal/agents"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// reign is one state in memory, from the moment it is loaded until a commit of it fails or the term ends. Readers run for one
// reign: what they saw for another one is never used, because a page of it may have been lost with that state.
type reign struct {
	*Orchestrator
	epoch   int64
	clock   clock
	state   *failover.State
	sources map[string]GroupSources

	urgent   chan observation // of distributions; taken first
	observed chan observation
	inbox    chan commands

	queue    *queue
	underway []*commit       // in order
	locked   map[string]bool // agents of those
	steps    int             // since a commit has ended

	rosters  map[string][]agents.Roster // as the readers were told
	busy     bool                       // the readers have work
	toldAt   time.Time                  // when they were told of it
	toldTook time.Duration
}

// commit is a transaction under way.
type commit struct {
	*part
	wait  store.Wait
	ended chan struct{} // closed when wait will not wait
}

// observation is one that waits for the leader's loop, with the span of the read that made it.
type observation struct {
	failover.Observation
	span trace.Span
}

func newReign(o *Orchestrator, epoch int64) *reign {
	r := &reign{
		Orchestrator: o, epoch: epoch, sources: map[string]GroupSources{},
		urgent:   make(chan observation, queued),
		observed: make(chan observation, queued),
		inbox:    make(chan commands),
		queue:    newQueue(), locked: map[string]bool{}, rosters: map[string][]agents.Roster{},
	}
	for _, s := range o.o.Sources {
		r.sources[s.Group] = s
	}
	return r
}

// run loads the state, finds what was missed meanwhile, and decides until ctx ends or the store fails.
func (r *reign) run(ctx context.Context, c *clock) error {
	began := time.Now()
	if !c.started() {
		asked, err := askClock(ctx, r.o.Store)
		if err != nil {
			return err
		}
		*c = asked
	}
	snapshot, err := r.o.Store.Load(ctx)
	if err != nil {
		return err
	}
	streaming, err := r.o.Store.StreamingAgents(ctx)
	if err != nil {
		return err
	}
	c.catchUp(latest(&snapshot)) // what is decided next comes after it
	r.clock = *c
	notAfter(&snapshot, r.clock.now())
	r.state = failover.New(r.o.Settings, r.o.Groups, snapshot, newID)
	for _, t := range snapshot.TDGs {
		r.queue.listed[t.ID] = t.Roster
	}
	r.o.Metrics.begin(r.state, r.o.Groups)
	defer r.o.Metrics.end()
	defer r.settle()
	r.queue.add(r.state.Step(failover.Streaming{Since: streaming}, r.clock.now())) // whose desktop has the last word (R8), who is missed if it does not arrive (R12)
	r.queue.add(r.state.Step(failover.Started{}, r.clock.now()))
	r.commit(ctx)
	for len(r.underway) > 0 {
		<-r.underway[0].ended
		if err := r.committed(); err != nil {
			return err
		}
		r.commit(ctx)
	}
	at := time.Now()
	r.o.Log.Info("deciding", "epoch", r.epoch, "clock_ahead", at.Round(0).Sub(r.clock.of(at)), "agents", len(snapshot.Agents), "loaded_in", time.Since(began))
	r.setStatus(func(s *Status) { s.Deciding = true })

	ctx, stop := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop()
	r.tellRosters()
	r.tellWork(true)
	failed := make(chan error, 1) // of those below that cannot go on
	for _, s := range r.o.Sources {
		s.Distributions.SetKnown(r.known(s.Group))
		readers.Go(func() { s.Distributions.Run(ctx, r.emitTo(ctx, r.urgent)) })
		readers.Go(func() { s.Agents.Run(ctx, r.emitTo(ctx, r.observed)) })
	}
	readers.Go(func() { r.readInbox(ctx) })
	readers.Go(func() { r.readStreaming(ctx) })
	readers.Go(func() { r.saveHealth(ctx, failed) })
	readers.Go(func() { r.maintain(ctx) })
	return r.loop(ctx, failed)
}

// known are the traffic distribution groups of a failover group as they were listed last.
func (r *reign) known(group string) []failover.TDGInfo {
	var known []failover.TDGInfo
	for _, t := range r.state.TDGsOf(group) {
		known = append(known, failover.TDGInfo{ID: t.ID, ARN: t.ARN, Name: t.Name, Status: t.Status, IsDefault: t.IsDefault})
	}
	return known
}

// emitTo sends observations to a queue, and waits while it is full. Readers tell this machine's time.
func (r *reign) emitTo(ctx context.Context, queue chan<- observation) func(context.Context, failover.Observation) {
	return func(read context.Context, o failover.Observation) {
		o = r.clock.observed(o)
		select {
		case queue <- observation{o, trace.SpanFromContext(read)}:
		case <-ctx.Done():
		}
	}
}

// newID makes the id of a failover: a UUIDv7 of the time by which is decided.
func newID(now time.Time) string {
	id := uuid.Must(uuid.NewV7())
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id.String()
}

// loop decides: it takes what has been observed, has what that changed committed, and tells the readers what to read next. While
// commits are under way it goes on deciding, up to a bound, and what it decides on shares the next one.
func (r *reign) loop(ctx context.Context, failed <-chan error) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		urgent, observed, inbox, ticks, ended := r.urgent, r.observed, r.inbox, tick.C, (<-chan struct{})(nil)
		switch {
		case len(r.underway) == 0:
			r.steps = 0
		case r.steps >= maxSteps: // the readers wait
			urgent, observed, inbox, ticks = nil, nil, nil, nil
			fallthrough
		default:
			ended = r.underway[0].ended
		}
		ticked := false
		select {
		case o := <-urgent:
			r.observe(ctx, o)
		default:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-failed:
				return err
			case <-ended:
				if err := r.committed(); err != nil {
					return err
				}
			case o := <-urgent:
				r.observe(ctx, o)
			case o := <-observed:
				r.observe(ctx, o)
			case c := <-inbox:
				r.takeCommands(ctx, c)
			case <-ticks:
				ticked = true
				r.take(ctx, failover.Tick{})
			}
		}
		for more := true; more && r.steps < maxSteps && !r.queue.hurry; {
			select {
			case o := <-r.urgent:
				r.observe(ctx, o)
			case o := <-r.observed:
				r.observe(ctx, o)
			case c := <-r.inbox:
				r.takeCommands(ctx, c)
			default:
				more = false
			}
		}
		// An observation made after the end of the term, or after one that was lost by it, was not taken.
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// The readers are told before the commit: what they read changes nothing, and what it shows is decided on afterwards.
		r.tellWork(ticked || r.queue.hurry)
		r.commit(ctx)
	}
}

// observe takes what a reader has seen. What that changes is a span of the read's trace, and causes the next commit.
func (r *reign) observe(ctx context.Context, o observation) {
	if !o.span.SpanContext().IsSampled() {
		r.take(ctx, o.Observation)
		return
	}
	began, before, events := time.Now(), r.queue.weight(), r.queue.events
	r.take(ctx, o.Observation)
	if r.queue.weight() == before {
		return
	}
	_, span := o.span.TracerProvider().Tracer(tracerName).Start(trace.ContextWithSpan(ctx, o.span), "decide", trace.WithTimestamp(began))
	span.End()
	switch causes := r.queue.causes; {
	case r.queue.events > events && (len(causes) == 0 || !causes[0].tells):
		r.queue.causes = slices.Insert(causes, 0, cause{span, true})
	case len(causes) < maxCauses:
		r.queue.causes = append(causes, cause{span, r.queue.events > events})
	}
}

// cause is a decision that has to be committed.
type cause struct {
	trace.Span
	tells bool // events
}

const (
	tracerName = "changeover/internal/orchestrator"
	maxCauses  = 32 // that a commit names
)

// trace begins the span of a commit: below that of the first decision in it that tells events, or of the first, with links to the others.
func (p *part) trace(ctx context.Context) (context.Context, trace.Span) {
	if len(p.causes) == 0 {
		return ctx, trace.SpanFromContext(ctx)
	}
	var links []trace.Link
	for _, c := range p.causes[1:] {
		links = append(links, trace.Link{SpanContext: c.SpanContext()})
	}
	return p.causes[0].TracerProvider().Tracer(tracerName).Start(trace.ContextWithSpan(ctx, p.causes[0].Span), "commit", trace.WithLinks(links...),
		trace.WithAttributes(attribute.Int("changeover.events", len(p.Events)), attribute.Int("changeover.agents", len(p.agents))))
}

// take applies an observation. Once ctx has ended an emit may have given up, so what comes after it could claim to be complete and is
// not.
func (r *reign) take(ctx context.Context, o failover.Observation) {
	if ctx.Err() != nil {
		return
	}
	r.steps++
	r.queue.add(r.state.Step(o, r.clock.now()))
	r.queue.then(func() { r.o.Metrics.observe(o) })
}

// takeCommands applies commands of the inbox. Each gets a result.
func (r *reign) takeCommands(ctx context.Context, c commands) {
	for _, command := range c.list {
		o, err := parse(command, r.clock.of(c.at))
		if err != nil {
			r.queue.add(failover.Effects{Results: []failover.Result{{
				CommandID: command.ID, Outcome: failover.OutcomeRefused, Detail: err.Error(),
			}}})
			continue
		}
		r.take(ctx, o)
	}
	r.queue.then(func() { close(c.done) })
}

// atOnce is how many commits are under way at once: while one writes its events, the next ones write their agents. Their events are
// in order, see [store.Store.Begin].
const atOnce = 3

// commit begins as many commits as may be under way. A second one has to be worth it: what few agents need waits for the end of the
// first, and shares one with all that comes until then.
func (r *reign) commit(ctx context.Context) {
	for len(r.underway) < atOnce {
		var after store.Wait
		if len(r.underway) > 0 {
			last := r.underway[len(r.underway)-1]
			if len(r.queue.order) < maxAgents && !r.queue.hurry || r.queue.shared() && slices.ContainsFunc(r.underway, (*commit).shared) {
				return
			}
			after = last.wait
		}
		p := r.queue.take(maxAgents, r.locked)
		switch {
		case p == nil:
			return
		case p.nothing():
			p.done()
			continue
		}
		for _, id := range p.agents {
			r.locked[id] = true
		}
		ctx, span := p.trace(ctx)
		c := &commit{part: p, ended: make(chan struct{}), wait: r.o.Store.Begin(ctx, r.epoch, p.Effects, after)}
		r.underway = append(r.underway, c)
		go func() {
			_, _ = c.wait() // whose result is asked for again
			span.End()
			close(c.ended)
		}()
	}
}

// committed ends the first commit under way.
func (r *reign) committed() error {
	c := r.underway[0]
	r.underway, r.steps = r.underway[1:], 0
	if _, err := c.wait(); err != nil {
		return err
	}
	for _, id := range c.agents {
		delete(r.locked, id)
	}
	r.o.Metrics.committed(c.Effects, r.clock.now())
	c.done()
	if len(c.TDGs)+len(c.Groups) > 0 {
		r.tellRosters()
	}
	return nil
}

// settle waits for the commits under way, whatever becomes of them.
func (r *reign) settle() {
	for _, c := range r.underway {
		<-c.ended
	}
}

// tellWork tells the readers what open failovers need. Each picks what is its failover group's. While a whole floor has open ones that takes a
// while, and is done no more often than keeps it under a twentieth of the time, but for a tick or a detection.
func (r *reign) tellWork(now bool) {
	began := time.Now()
	if !now && began.Sub(r.toldAt) < 20*r.toldTook {
		return
	}
	work := r.clock.work(r.state.Work(r.clock.of(began)))
	busy := len(work.Drain)+len(work.Lookups) > 0
	if busy || r.busy {
		for _, s := range r.o.Sources {
			s.Agents.SetWork(work)
		}
	}
	r.busy = busy
	r.toldAt = time.Now()
	r.toldTook = r.toldAt.Sub(began)
}

// tellRosters tells the readers whose members have to be listed, when that changes. Where an instance has one
// traffic distribution group, of which every user is a member (R2), there is nothing to list.
func (r *reign) tellRosters() {
	for _, c := range r.o.Groups {
		var rosters []agents.Roster
		tdgs := r.state.TDGsOf(c.Name)
		if g := r.state.Group(c.Name); len(tdgs) > 1 || len(c.TDGs) > 0 || g.ListedAt.IsZero() {
			for _, t := range tdgs {
				rosters = append(rosters, agents.Roster{TDG: t.ID, ARN: t.ARN, Progress: r.clock.roster(t.Roster)})
			}
		}
		same := func(a, b agents.Roster) bool { return a.TDG == b.TDG && a.ARN == b.ARN }
		if told, ok := r.rosters[c.Name]; !ok || !slices.EqualFunc(told, rosters, same) {
			r.rosters[c.Name] = rosters
			r.sources[c.Name].Agents.SetRosters(rosters)
		}
	}
}

// readInbox brings the commands of the inbox, a batch at a time: the next is read when the last has been committed, so
// none comes twice. (The ids of commands become visible out of order, so there is no telling how far one has read.)
func (r *reign) readInbox(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		list, err := r.o.Store.PendingCommands(ctx, 0, inboxBatch)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failing {
				r.o.Log.Warn("the inbox cannot be read, trying again", "error", err)
			}
			failing = true
		case len(list) > 0:
			failing = false
			c := commands{list: list, at: time.Now(), done: make(chan struct{})}
			select {
			case r.inbox <- c:
			case <-ctx.Done():
				return
			}
			select {
			case <-c.done:
			case <-ctx.Done():
				return
			}
			continue
		default:
			failing = false
		}
		timer := time.NewTimer(inboxEvery)
		select {
		case <-ctx.Done():
		case <-r.o.Doorbell:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// readStreaming tells which agents have an open event stream (R8, R12). While that cannot be read the last answer stands.
func (r *reign) readStreaming(ctx context.Context) {
	emit := r.emitTo(ctx, r.observed)
	failing := false
	for sleep(ctx, streamingEvery) {
		since, err := r.o.Store.StreamingAgents(ctx)
		switch {
		case err == nil:
			failing = false
			emit(ctx, failover.Streaming{Since: since})
		case ctx.Err() == nil && !failing:
			failing = true
			r.o.Log.Warn("the open streams cannot be read, trying again", "error", err)
		}
	}
}

// saveHealth has the Regions' health shown by every replica.
func (r *reign) saveHealth(ctx context.Context, failed chan<- error) {
	if r.o.Health == nil {
		return
	}
	failing := false
	for {
		err := r.o.Store.SaveHealth(ctx, r.epoch, r.clock.health(r.o.Health()))
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, store.ErrFenced):
			failed <- err
			return
		case err != nil && !failing:
			r.o.Log.Warn("the health of the regions cannot be saved, trying again", "error", err)
		}
		failing = err != nil
		if !sleep(ctx, healthEvery) {
			return
		}
	}
}

// maintain makes the event log's partitions, and drops what retention does not keep and what nobody asks for any more.
func (r *reign) maintain(ctx context.Context) {
	for {
		wait := maintainEvery
		err := r.o.Store.MaintainPartitions(ctx, r.o.Retention)
		if err == nil {
			err = r.o.Store.Prune(ctx)
		}
		if err != nil && ctx.Err() == nil {
			r.o.Log.Warn("the database is not tidied up, trying again", "error", err)
			wait = time.Minute
		}
		if !sleep(ctx, jitter(wait)) {
			return
		}
	}
}
