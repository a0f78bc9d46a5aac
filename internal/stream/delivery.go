package stream

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"changeover/internal/store"
)

const (
	deliveryTime  = 2 * time.Second // from a read of the log to the spans of its delivery: by then those who take what they get have it
	tracedCommits = 256             // that are remembered
)

// delivery is the way of what one read of the log brought to this replica's streams.
type delivery struct {
	epoch, first, last int64 // of the events
	began              time.Time
	writes             atomic.Int64 // of an event to a stream
	over               atomic.Int64 // when the last of them was, Unix time in nanoseconds
}

// wrote notes that a stream has been told an event.
func (d *delivery) wrote(now time.Time) {
	d.writes.Add(1)
	d.over.Store(now.UnixNano()) // of writes at nearly the same time any may be the last
}

// tracing makes spans of deliveries, below those of the commits that they are of. Which commits are traced is heard at about the time at which
// their events are read, or just after. The zero value makes none.
type tracing struct {
	tracer trace.Tracer

	mu      sync.Mutex
	commits []store.TracedCommit
	open    []*delivery
}

// expect notes a commit that is traced.
func (t *tracing) expect(c store.TracedCommit) {
	if t.tracer == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.commits) == tracedCommits {
		t.commits = slices.Delete(t.commits, 0, 1)
	}
	t.commits = append(t.commits, c)
}

// begin notes that rows have been read and are going to be told; nil: nothing is traced.
func (t *tracing) begin(rows []store.LogEvent) *delivery {
	if t.tracer == nil || len(rows) == 0 {
		return nil
	}
	d := &delivery{epoch: rows[0].Epoch, first: rows[0].Seq, last: rows[len(rows)-1].Seq, began: time.Now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = append(t.open, d)
	time.AfterFunc(deliveryTime, func() { t.end(d) })
	return d
}

// end makes the spans of a delivery.
func (t *tracing) end(d *delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.open, d)
	if i < 0 {
		return // the replica has stopped
	}
	t.open = slices.Delete(t.open, i, i+1)
	over := d.began
	if last := d.over.Load(); last > 0 {
		over = time.Unix(0, last)
	}
	for _, c := range t.commits {
		events := min(d.last, c.Last.Seq) - max(d.first, c.First.Seq) + 1
		if c.First.Epoch < d.epoch || events <= 0 { // a read may go over a change of leader, and begins with the elder
			continue
		}
		_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), c.Span), "deliver", trace.WithTimestamp(d.began),
			trace.WithAttributes(attribute.Int64("changeover.events", events), attribute.Int64("changeover.writes", d.writes.Load())))
		span.End(trace.WithTimestamp(over))
	}
}

// stop ends all that are under way.
func (t *tracing) stop() {
	t.mu.Lock()
	open := slices.Clone(t.open)
	t.mu.Unlock()
	for _, d := range open {
		t.end(d)
	}
}

// Expect tells of a commit that is part of a trace, so that its delivery is too. Any goroutine may call it, at any time.
func (h *Hub) Expect(c store.TracedCommit) { h.tracing.expect(c) }
