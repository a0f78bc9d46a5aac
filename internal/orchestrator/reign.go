package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"changeover/internal/agents"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// reign is one state in memory, from the moment it is loaded until a commit of it fails or the term ends. Readers run for one
// reign: what they saw for another one is never used, because a page of it may have been lost with that state.
type reign struct {
	*Orchestrator
	epoch   int64
	state   *failover.State
	sources map[string]GroupSources

	urgent   chan failover.Observation // of distributions; taken first
	observed chan failover.Observation
	inbox    chan commands

	listed  map[string]failover.RosterPass // as committed, by traffic distribution group
	rosters map[string][]agents.Roster     // as the readers were told
	busy    bool                           // the readers have work
}

func newReign(o *Orchestrator, epoch int64) *reign {
	r := &reign{
		Orchestrator: o, epoch: epoch, sources: map[string]GroupSources{},
		urgent:   make(chan failover.Observation, queued),
		observed: make(chan failover.Observation, queued),
		inbox:    make(chan commands),
		listed:   map[string]failover.RosterPass{}, rosters: map[string][]agents.Roster{},
	}
	for _, s := range o.o.Sources {
		r.sources[s.Group] = s
	}
	return r
}

// run loads the state, finds what was missed meanwhile, and decides until ctx ends or the store fails.
func (r *reign) run(ctx context.Context) error {
	began := time.Now()
	snapshot, err := r.o.Store.Load(ctx)
	if err != nil {
		return err
	}
	streaming, err := r.o.Store.StreamingAgents(ctx)
	if err != nil {
		return err
	}
	r.state = failover.New(r.o.Settings, r.o.Groups, snapshot, newID)
	for _, t := range snapshot.TDGs {
		r.listed[t.ID] = t.Roster
	}
	r.o.Metrics.begin(r.state, r.o.Groups)
	defer r.o.Metrics.end()
	started := pending{}
	started.add(r.state.Step(failover.Streaming{AgentIDs: streaming}, now())) // who is missed if it does not arrive (R12)
	started.add(r.state.Step(failover.Started{}, now()))
	if err := r.commit(ctx, &started); err != nil {
		return err
	}
	r.o.Log.Info("deciding", "epoch", r.epoch, "agents", len(snapshot.Agents), "loaded_in", time.Since(began))
	r.setStatus(func(s *Status) { s.Deciding = true })

	ctx, stop := context.WithCancel(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer stop()
	r.tellRosters()
	r.tellWork()
	failed := make(chan error, 1) // of those below that cannot go on
	for _, s := range r.o.Sources {
		s.Distributions.SetKnown(r.known(s.Group))
		readers.Go(func() { s.Distributions.Run(ctx, emitTo(ctx, r.urgent)) })
		readers.Go(func() { s.Agents.Run(ctx, emitTo(ctx, r.observed)) })
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

// emitTo sends observations to a queue, and waits while it is full.
func emitTo(ctx context.Context, queue chan<- failover.Observation) func(failover.Observation) {
	return func(o failover.Observation) {
		select {
		case queue <- o:
		case <-ctx.Done():
		}
	}
}

// newID makes the id of a failover.
func newID(time.Time) string { return uuid.Must(uuid.NewV7()).String() }

func now() time.Time { return time.Now().UTC() }

// loop decides: it takes what has been observed, commits what that changed, and tells the readers what to read next. Observations that
// wait already share a commit, unless one of them was a detection.
func (r *reign) loop(ctx context.Context, failed <-chan error) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		b := batch{}
		select {
		case o := <-r.urgent:
			r.take(ctx, &b, o)
		default:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case err := <-failed:
				return err
			case o := <-r.urgent:
				r.take(ctx, &b, o)
			case o := <-r.observed:
				r.take(ctx, &b, o)
			case c := <-r.inbox:
				r.takeCommands(ctx, &b, c)
			case <-tick.C:
				r.take(ctx, &b, failover.Tick{})
			}
		}
		for more := true; more && b.room(); {
			select {
			case o := <-r.urgent:
				r.take(ctx, &b, o)
			case o := <-r.observed:
				r.take(ctx, &b, o)
			case c := <-r.inbox:
				r.takeCommands(ctx, &b, c)
			default:
				more = false
			}
		}
		// An observation made after the end of the term, or after one that was lost by it, was not taken.
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.finish(ctx, &b); err != nil {
			return err
		}
	}
}

// batch is what one turn of the loop decides.
type batch struct {
	pending
	observed []failover.Observation
	answered []chan struct{}
}

// take applies an observation. Once ctx has ended an emit may have given up, so what comes after it could claim to be complete and is
// not.
func (r *reign) take(ctx context.Context, b *batch, o failover.Observation) {
	if ctx.Err() != nil {
		return
	}
	b.add(r.state.Step(o, now()))
	b.observed = append(b.observed, o)
}

// takeCommands applies commands of the inbox. Each gets a result.
func (r *reign) takeCommands(ctx context.Context, b *batch, c commands) {
	for _, command := range c.list {
		o, err := parse(command)
		if err != nil {
			b.add(failover.Effects{Results: []failover.Result{{
				CommandID: command.ID, Outcome: failover.OutcomeRefused, Detail: err.Error(),
			}}})
			continue
		}
		r.take(ctx, b, o)
	}
	b.answered = append(b.answered, c.done)
}

// finish commits a batch and has it known.
func (r *reign) finish(ctx context.Context, b *batch) error {
	if b.detected() {
		// The read that everybody waits for does not wait for the commit: it changes nothing, and what it shows
		// is decided on after it.
		r.tellWork()
	}
	if err := r.commit(ctx, &b.pending); err != nil {
		return err
	}
	for _, done := range b.answered {
		close(done)
	}
	r.o.Metrics.observe(b.observed)
	if len(b.eff.TDGs) > 0 || len(b.eff.Groups) > 0 {
		r.tellRosters()
	}
	r.tellWork()
	return nil
}

// commit stores effects, in several transactions if they concern many agents.
func (r *reign) commit(ctx context.Context, p *pending) error {
	if p.empty() {
		return nil
	}
	parts := split(p.eff, maxAgents, func(id string) failover.RosterPass { return r.listed[id] })
	for i, part := range parts {
		if _, err := r.o.Store.Commit(ctx, r.epoch, part); err != nil {
			return fmt.Errorf("commit part %d of %d: %w", i+1, len(parts), err)
		}
		r.o.Metrics.committed(part, time.Now())
	}
	for _, t := range p.eff.TDGs {
		r.listed[t.ID] = t.Roster
	}
	return nil
}

// tellWork tells the readers what open failovers need. Each picks what is its failover group's.
func (r *reign) tellWork() {
	work := r.state.Work(now())
	busy := len(work.Drain)+len(work.Lookups) > 0
	if !busy && !r.busy {
		return
	}
	r.busy = busy
	for _, s := range r.o.Sources {
		s.Agents.SetWork(work)
	}
}

// tellRosters tells the readers whose members have to be listed, when that changes. Where an instance has one
// traffic distribution group, of which every user is a member (R2), there is nothing to list.
func (r *reign) tellRosters() {
	for _, c := range r.o.Groups {
		var rosters []agents.Roster
		tdgs := r.state.TDGsOf(c.Name)
		if g := r.state.Group(c.Name); len(tdgs) > 1 || len(c.TDGs) > 0 || g.ListedAt.IsZero() {
			for _, t := range tdgs {
				rosters = append(rosters, agents.Roster{TDG: t.ID, ARN: t.ARN, Progress: t.Roster})
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
			c := commands{list: list, done: make(chan struct{})}
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

// readStreaming tells which agents have an open event stream (R12). While that cannot be read the last answer stands.
func (r *reign) readStreaming(ctx context.Context) {
	emit := emitTo(ctx, r.observed)
	failing := false
	for sleep(ctx, streamingEvery) {
		ids, err := r.o.Store.StreamingAgents(ctx)
		switch {
		case err == nil:
			failing = false
			emit(failover.Streaming{AgentIDs: ids})
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
		err := r.o.Store.SaveHealth(ctx, r.epoch, r.o.Health())
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
