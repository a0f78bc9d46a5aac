package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrBusy says that too many calls of a kind wait for the database already. See IsUnavailable.
var ErrBusy = errors.New("too many calls wait for the database")

// errClosed is the error of a call that comes when the store is closed.
var errClosed = errors.New("the store is closed")

// batcher makes few statements out of many calls: a herd of desktops costs what its batches cost. One batch is under way at a
// time, and the calls that come meanwhile are the next one, in their order, so that an idle service has no delay and a busy one
// large batches. It has a goroutine only while there are calls.
type batcher[In, Out any] struct {
	run    func(ctx context.Context, in []In) ([]Out, error) // an answer for each; an error is everybody's
	most   int                                               // in a batch
	queue  int                                               // waiting; the next one is refused
	gather time.Duration                                     // after a batch of several, from its start to that of the next, unless that is full
	each   time.Duration                                     // and no more than so long for each call in it: few calls gather briefly; 0: all gather as long

	mu      sync.Mutex
	waiting []*batched[In, Out]
	working bool
	enough  chan struct{} // ends the worker's pause; made with it
	closed  bool
	worker  sync.WaitGroup

	last time.Time // the worker's: when it began the last batch,
	size int       // and of how many calls that was
}

func newBatcher[In, Out any](run func(context.Context, []In) ([]Out, error), most int, gather time.Duration) *batcher[In, Out] {
	return &batcher[In, Out]{run: run, most: most, queue: batchQueue, gather: gather}
}

type batched[In, Out any] struct {
	ctx  context.Context
	in   In
	out  Out
	err  error
	done chan struct{} // closed when out or err is there
}

// do hands in to a batch and waits for its answer. When ctx ends before that, nobody knows whether it was done.
func (b *batcher[In, Out]) do(ctx context.Context, in In) (out Out, err error) {
	c := &batched[In, Out]{ctx: ctx, in: in, done: make(chan struct{})}
	if err := b.add(c); err != nil {
		return out, err
	}
	select {
	case <-c.done:
		return c.out, c.err
	case <-ctx.Done():
		return out, ctx.Err()
	}
}

func (b *batcher[In, Out]) add(c *batched[In, Out]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return errClosed
	case len(b.waiting) >= b.queue:
		return ErrBusy
	}
	b.waiting = append(b.waiting, c)
	switch {
	case !b.working:
		b.working = true
		b.enough = make(chan struct{}, 1)
		b.worker.Go(b.work)
	case len(b.waiting) == b.most:
		b.hurry()
	}
	return nil
}

// hurry ends a pause. The caller holds mu.
func (b *batcher[In, Out]) hurry() {
	select {
	case b.enough <- struct{}{}:
	default:
	}
}

// work runs batches until nobody waits.
func (b *batcher[In, Out]) work() {
	for {
		if b.size > 1 {
			gather := b.gather
			if b.each > 0 {
				gather = min(gather, time.Duration(b.size)*b.each)
			}
			b.pause(gather - time.Since(b.last))
		}
		batch := b.take()
		if batch == nil {
			return
		}
		b.last, b.size = time.Now(), len(batch)
		b.answer(batch)
	}
}

// pause lets calls gather if there are any, until there is a full batch.
func (b *batcher[In, Out]) pause(d time.Duration) {
	b.mu.Lock()
	needless := len(b.waiting) == 0 || len(b.waiting) >= b.most || b.closed
	b.mu.Unlock()
	if d <= 0 || needless {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.enough:
	}
}

// take returns the next batch, without the calls that were given up; nil: nobody waits, and the worker is to end.
func (b *batcher[In, Out]) take() (batch []*batched[In, Out]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) > 0 && len(batch) < b.most {
		c := b.waiting[0]
		b.waiting[0] = nil
		b.waiting = b.waiting[1:]
		if c.ctx.Err() == nil {
			batch = append(batch, c)
		}
	}
	select {
	case <-b.enough: // it told of calls that are taken now
	default:
	}
	if batch == nil {
		b.working, b.waiting = false, nil
	}
	return batch
}

// answer runs a batch. When PostgreSQL refuses it for what is in it, each call is tried alone, so that one does not take the
// others with it: a statement that was refused has done nothing.
func (b *batcher[In, Out]) answer(batch []*batched[In, Out]) {
	in := make([]In, len(batch))
	for i, c := range batch {
		in[i] = c.in
	}
	out, err := b.run(context.Background(), in)
	var refused *pgconn.PgError
	if len(batch) > 1 && errors.As(err, &refused) && !IsUnavailable(err) {
		for i := range batch {
			b.answer(batch[i : i+1])
		}
		return
	}
	for i, c := range batch {
		if c.err = err; err == nil {
			c.out = out[i]
		}
		close(c.done)
	}
}

// close refuses further calls and waits for those under way.
func (b *batcher[In, Out]) close() {
	b.mu.Lock()
	b.closed = true
	if b.working {
		b.hurry()
	}
	b.mu.Unlock()
	b.worker.Wait()
}
