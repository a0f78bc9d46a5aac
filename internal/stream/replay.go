package stream

import (
	"context"
	"errors"
	"sync"
	"time"

	"changeover/internal/store"
)

const (
	replayWorkers = 2    // queries at a time: desktops that come back must not keep the leader from its database
	replayAgents  = 1000 // streams that one query serves
	replayRows    = 5000 // events per query

	replayLinger     = 20 * time.Millisecond  // how long one that comes alone waits for others
	replayPerAgent   = 5 * time.Millisecond   // and for each that the batch before served
	replayLingerMost = 500 * time.Millisecond // at most
)

// replayer reads for streams what memory does not hold any more. When a floor comes back after a long outage, its
// streams ask together: one query serves up to a thousand of them.
type replayer struct {
	store Store
	bell  chan struct{} // rung when somebody waits

	mu      sync.Mutex
	waiting []*replayRequest
}

// replayRequest asks for the events of an agent in (after, upto].
type replayRequest struct {
	agent string // empty: all agents
	logID string // of the log that is meant
	after store.Position
	left  func() bool // says that nobody waits for the answer any more

	done chan struct{}  // closed when the answer is there:
	upto store.Position // what was asked for, or less when there was more than one query returns
	rows []store.LogEvent
	err  error // store.ErrPruned: events after the position are gone
}

func newReplayer(s Store) *replayer {
	return &replayer{store: s, bell: make(chan struct{}, replayWorkers)}
}

// ask asks for what a step says that a stream misses. It does not wait.
func (p *replayer) ask(agent string, after store.Position, s step, left func() bool) *replayRequest {
	r := &replayRequest{agent: agent, logID: s.logID, after: after, upto: s.at, left: left, done: make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, r)
	p.mu.Unlock()
	p.ring()
	return r
}

func (p *replayer) ring() {
	select {
	case p.bell <- struct{}{}:
	default:
	}
}

// run answers until ctx ends.
func (p *replayer) run(ctx context.Context) {
	var workers sync.WaitGroup
	for range replayWorkers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-p.bell:
				}
				for linger := replayLinger; ; {
					select { // those that come within a moment are served together
					case <-ctx.Done():
						return
					case <-time.After(linger):
					}
					batch := p.take()
					if batch == nil {
						break
					}
					p.answer(ctx, batch)
					linger = lingerAfter(len(batch))
				}
			}
		})
	}
	workers.Wait()
}

// lingerAfter is how long to gather streams after a batch of n. In a herd that is longer, so that few queries serve it also where it
// comes back slowly.
func lingerAfter(n int) time.Duration {
	if n >= replayAgents {
		return 0 // more are waiting already
	}
	return min(max(time.Duration(n)*replayPerAgent, replayLinger), replayLingerMost)
}

// take returns who is to be served together: streams of agents, or one of all agents; nil: nobody waits.
func (p *replayer) take() (batch []*replayRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.waiting) > 0 && len(batch) < replayAgents {
		r := p.waiting[0]
		if r.agent == "" && len(batch) > 0 {
			break
		}
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		if r.left() {
			continue
		}
		batch = append(batch, r)
		if r.agent == "" {
			break
		}
	}
	if len(p.waiting) == 0 {
		p.waiting = nil
	}
	return batch
}

// answer serves requests with one query.
func (p *replayer) answer(ctx context.Context, batch []*replayRequest) {
	var agents []string
	byAgent := make(map[string][]*replayRequest)
	after, upto := batch[0].after, batch[0].upto
	for _, r := range batch {
		if r.agent != "" && byAgent[r.agent] == nil {
			agents = append(agents, r.agent)
		}
		byAgent[r.agent] = append(byAgent[r.agent], r)
		if r.after.Seq < after.Seq {
			after = r.after
		}
		if r.upto.Seq > upto.Seq {
			upto = r.upto
		}
	}
	rows, err := p.query(ctx, agents, after.Seq, upto.Seq, nil, replayRows)
	if errors.Is(err, store.ErrPruned) && len(batch) > 1 {
		p.answerPruned(ctx, batch)
		return
	}
	if err != nil {
		for _, r := range batch {
			r.refuse(err)
		}
		return
	}
	covered := upto
	if len(rows) == replayRows {
		last := rows[len(rows)-1]
		covered = store.Position{Epoch: last.Epoch, Seq: last.Seq}
	}
	for _, r := range batch {
		switch {
		case covered.Seq <= r.after.Seq: // the others' events filled the query
			r.upto = r.after
		case covered.Seq < r.upto.Seq:
			r.upto = covered
		}
	}
	for i := range rows {
		for _, agent := range [2]string{rows[i].AgentID, ""} {
			for _, r := range byAgent[agent] {
				if rows[i].Seq > r.after.Seq && rows[i].Seq <= r.upto.Seq {
					r.rows = append(r.rows, rows[i])
				}
			}
		}
	}
	for _, r := range batch {
		close(r.done)
	}
}

func (r *replayRequest) refuse(err error) {
	r.err = err
	close(r.done)
}

// answerPruned serves a batch of which some reach back too far.
func (p *replayer) answerPruned(ctx context.Context, batch []*replayRequest) {
	state, err := call(ctx, p.store.LogState)
	var rest []*replayRequest
	for _, r := range batch {
		switch {
		case err != nil:
			r.refuse(err)
		case r.after.Seq+1 < state.OldestSeq:
			r.refuse(store.ErrPruned)
		default:
			rest = append(rest, r)
		}
	}
	if len(rest) == len(batch) { // it cannot be, and must not go round
		for _, r := range rest {
			r.refuse(store.ErrPruned)
		}
		return
	}
	if len(rest) > 0 {
		p.answer(ctx, rest)
	}
}

// query returns events of the log.
func (p *replayer) query(ctx context.Context, agents []string, after, upto int64, types []string, limit int) ([]store.LogEvent, error) {
	return call(ctx, func(ctx context.Context) ([]store.LogEvent, error) {
		return p.store.AgentEventsAfter(ctx, agents, after, upto, types, limit)
	})
}
