package stream

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"changeover/internal/store"
)

const (
	replayWorkers = 2    // queries at a time: desktops that come back must not keep the leader from its database
	replayAgents  = 500  // streams that one query serves
	replayRows    = 5000 // events per query
	replayLinger  = 20 * time.Millisecond
)

// replayer reads for streams what memory does not hold any more. When a floor comes back after a long outage, its
// streams ask together: one query serves up to five hundred of them.
type replayer struct {
	store Store
	asked chan *replayRequest
}

type replayRequest struct {
	agent string // empty: all agents
	after store.Position
	upto  store.Position
	done  chan replayed // buffered: the answer waits for nobody
}

// replayed is an answer: rows are all events of the agent in (after, upto].
type replayed struct {
	rows []store.LogEvent
	upto store.Position // the one that was asked for, or less when there was more than one query returns
	err  error          // store.ErrPruned: events after the position are gone
}

var errStopped = errors.New("the connection ended, or the replica stops")

func newReplayer(s Store) *replayer { return &replayer{store: s, asked: make(chan *replayRequest)} }

// ask returns the events after a position. It waits for its turn.
func (p *replayer) ask(agent string, after, upto store.Position, stop <-chan struct{}) replayed {
	r := &replayRequest{agent: agent, after: after, upto: upto, done: make(chan replayed, 1)}
	select {
	case p.asked <- r:
	case <-stop:
		return replayed{err: errStopped}
	}
	select {
	case a := <-r.done:
		return a
	case <-stop:
		return replayed{err: errStopped}
	}
}

// run answers until ctx ends.
func (p *replayer) run(ctx context.Context) {
	var g errgroup.Group
	for range replayWorkers {
		g.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case r := <-p.asked:
					p.serve(ctx, r)
				}
			}
		})
	}
	_ = g.Wait() // the functions return no error
}

// serve answers a request together with those that come within a moment.
func (p *replayer) serve(ctx context.Context, first *replayRequest) {
	if first.agent == "" {
		p.answer(ctx, []*replayRequest{first})
		return
	}
	batch := []*replayRequest{first}
	linger := time.NewTimer(replayLinger)
	defer linger.Stop()
	for len(batch) < replayAgents {
		select {
		case r := <-p.asked:
			if r.agent == "" {
				p.answer(ctx, batch)
				p.answer(ctx, []*replayRequest{r})
				return
			}
			batch = append(batch, r)
			continue
		case <-linger.C:
		case <-ctx.Done():
		}
		break
	}
	p.answer(ctx, batch)
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
			r.done <- replayed{err: err}
		}
		return
	}
	covered := upto
	if len(rows) == replayRows {
		last := rows[len(rows)-1]
		covered = store.Position{Epoch: last.Epoch, Seq: last.Seq}
	}
	answers := make(map[*replayRequest]*replayed, len(batch))
	for _, r := range batch {
		a := &replayed{upto: r.upto}
		switch {
		case covered.Seq <= r.after.Seq: // the others' events filled the query
			a.upto = r.after
		case covered.Seq < r.upto.Seq:
			a.upto = covered
		}
		answers[r] = a
	}
	for i := range rows {
		for _, agent := range [2]string{rows[i].AgentID, ""} {
			for _, r := range byAgent[agent] {
				if a := answers[r]; rows[i].Seq > r.after.Seq && rows[i].Seq <= a.upto.Seq {
					a.rows = append(a.rows, rows[i])
				}
			}
		}
	}
	for r, a := range answers {
		r.done <- *a
	}
}

// answerPruned serves a batch of which some reach back too far.
func (p *replayer) answerPruned(ctx context.Context, batch []*replayRequest) {
	state, err := call(ctx, p.store.LogState)
	var rest []*replayRequest
	for _, r := range batch {
		switch {
		case err != nil:
			r.done <- replayed{err: err}
		case r.after.Seq+1 < state.OldestSeq:
			r.done <- replayed{err: store.ErrPruned}
		default:
			rest = append(rest, r)
		}
	}
	if len(rest) == len(batch) { // it cannot be, and must not go round
		for _, r := range rest {
			r.done <- replayed{err: store.ErrPruned}
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
