package tdg

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// patience is how long one Region waits for the other.
const patience = time.Second

// result is what one Region said to the question of a round.
type result[T any] struct {
	done  bool // false: silent so far
	value T
	err   error
}

// good says whether there is an answer.
func (r result[T]) good() bool { return r.done && r.err == nil }

// question is asked of every Region again and again.
type question[T any] struct {
	regions int
	first   time.Duration                                                            // until the first tick
	every   func() time.Duration                                                     // from one tick to the next
	ask     func(ctx context.Context, region int) (T, error)                         // asks one Region; ends with ctx
	hear    func(ctx context.Context, tick time.Time, results []result[T], late int) // takes the results of a round; late is -1, or the Region whose result came after it

	name   string       // of a round in traces
	tracer trace.Tracer // nil: none
}

// poll asks the question until ctx ends, and returns when no request is under way any more. hear is called from
// one goroutine.
func (q *question[T]) poll(ctx context.Context) {
	type reply struct {
		region int
		result result[T]
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	replies := make(chan reply, q.regions) // of each Region at most one is under way, so nobody waits to be heard

	var (
		tick    time.Time
		hold    time.Time // until then the round waits for Regions that are silent
		open    bool      // the round has not been heard
		results = make([]result[T], q.regions)
		pending = make([]bool, q.regions) // a request is under way
		mute    = make([]bool, q.regions) // it is not waited for in this round
	)
	next := time.NewTimer(q.first)
	defer next.Stop()
	patient := time.NewTimer(0)
	defer patient.Stop()

	round, span := ctx, trace.Span(noop.Span{}) // ctx of the round that began last
	defer func() { span.End() }()
	conclude := func(now time.Time) {
		answers := 0
		for i, r := range results {
			if !r.done && !mute[i] && now.Before(hold) {
				return
			}
			if r.done {
				answers++
			}
		}
		if answers == 0 { // nobody has said anything: the first who does opens the round again
			return
		}
		open = false
		q.hear(round, tick, results, -1)
		span.End()
	}

	for {
		select {
		case <-ctx.Done():
			return

		case <-next.C:
			now := time.Now()
			if open && now.Before(hold) { // an interval of less than a second: the round goes first
				next.Reset(hold.Sub(now))
				continue
			}
			if open {
				conclude(now)
			}
			tick, hold, open = now, now.Add(patience), true
			span.End()
			if q.tracer != nil {
				round, span = q.tracer.Start(ctx, q.name, trace.WithNewRoot())
			}
			round := round
			for i := range q.regions {
				results[i] = result[T]{}
				// One that is under way although another Region has answered since is not waited for again. If none
				// has, the requests wait for their turn here, which says nothing about a Region.
				mute[i] = pending[i] && slices.Contains(pending, false)
			}
			for i := range q.regions {
				if pending[i] {
					continue
				}
				pending[i] = true
				asking.Go(func() {
					value, err := q.ask(round, i)
					replies <- reply{i, result[T]{done: true, value: value, err: err}}
				})
			}
			patient.Reset(patience)
			next.Reset(q.every())

		case <-patient.C:
			if open {
				conclude(time.Now())
			}

		case in := <-replies:
			pending[in.region] = false
			results[in.region] = in.result
			now := time.Now()
			switch {
			case ctx.Err() != nil:
				return
			case !open:
				q.hear(round, tick, results, in.region)
			case !now.Before(hold): // the first answer, and late: the others get their second from here
				hold = now.Add(patience)
				patient.Reset(patience)
				conclude(now)
			default:
				conclude(now)
			}
		}
	}
}
