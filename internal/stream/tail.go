package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/r3labs/sse/v2"

	"changeover/internal/store"
)

const (
	pollInterval  = time.Second      // when no doorbell rings; correctness needs no doorbell
	stateInterval = 10 * time.Second // between looks at what was pruned, and whether it is still the same log
	pollTimeout   = 10 * time.Second // of one query
	loadTimeout   = time.Minute      // of reading every agent's view
	pageSize      = 5000             // events per query
)

// tail follows the log until ctx ends.
func (h *Hub) tail(ctx context.Context) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var stateAt time.Time
	failing := false
	for {
		err := h.poll(ctx, &stateAt)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			failing = true
			h.log.Error("event log not read, streams stay open and wait", "error", err)
		case err == nil && failing:
			failing = false
			h.log.Info("event log is read again")
		}
		if err != nil { // no doorbell hurries a database that is away
			select {
			case <-ctx.Done():
				return
			case <-time.After(spread(pollInterval/2, pollInterval)):
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-h.bell:
		case <-ticker.C:
		}
	}
}

// poll reads to the end of the log.
func (h *Hub) poll(ctx context.Context, stateAt *time.Time) error {
	h.mu.Lock()
	loaded := h.mem != nil
	h.begun++
	begun := h.begun
	fresh := h.o.Fresh
	if h.doubted > 0 && h.complete <= h.doubted { // what this program knows of its own commits may be behind what others read
		fresh = nil
	}
	h.mu.Unlock()
	if !loaded {
		if err := h.reload(ctx); err != nil {
			return err
		}
	}
	for {
		more, err := h.page(ctx, fresh, time.Since(*stateAt) >= stateInterval, stateAt)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.complete = begun
	close(h.polled)
	h.polled = make(chan struct{})
	return nil
}

// page reads what follows the head of memory and applies it. It asks for the head's own event too: that it is still
// there, in its epoch, proves in the same query that what follows continues what was told. fresh may spare the query; nil: ask.
func (h *Hub) page(ctx context.Context, fresh func(int64, int) []store.LogEvent, look bool, stateAt *time.Time) (more bool, err error) {
	h.mu.Lock()
	logID, head, headAt := h.mem.logID, h.mem.head, h.mem.headAt
	h.mu.Unlock()
	read := func(after int64) ([]store.LogEvent, error) {
		if fresh != nil {
			if rows := fresh(after, pageSize); rows != nil {
				return rows, nil
			}
		}
		rows, err := call(ctx, func(ctx context.Context) ([]store.LogEvent, error) {
			return h.o.Store.EventsAfter(ctx, after, pageSize)
		})
		if err != nil {
			return nil, fmt.Errorf("read events after %d: %w", after, err)
		}
		return rows, nil
	}
	rows, err := read(max(head.Seq-1, 0))
	if err != nil && !errors.Is(err, store.ErrPruned) {
		return false, err
	}
	proven := head.Seq == 0
	if head.Seq > 0 && len(rows) > 0 {
		if rows[0].Epoch != head.Epoch {
			return true, h.lost(ctx, fmt.Sprintf("event %d is of epoch %d, was of %d", head.Seq, rows[0].Epoch, head.Epoch))
		}
		// One leader may have lost commits and written others in their place without losing its lease.
		if at := rows[0].CommittedAt; !headAt.IsZero() && !at.Equal(headAt) {
			return true, h.lost(ctx, fmt.Sprintf("event %d was committed at %v, not at %v", head.Seq, at, headAt))
		}
		proven = true
	}
	if look || !proven { // the head's own event can have been dropped too, and then the state of the log is the proof
		state, err := call(ctx, h.o.Store.LogState)
		if err != nil {
			return false, fmt.Errorf("read the state of the log: %w", err)
		}
		if why := broken(state, logID, head); why != "" {
			return true, h.lost(ctx, why)
		}
		*stateAt = time.Now()
		h.mu.Lock()
		h.mem.oldest = state.OldestSeq
		h.mu.Unlock()
	}
	if !proven && err != nil {
		if rows, err = read(head.Seq); err != nil {
			if errors.Is(err, store.ErrPruned) {
				return true, h.lost(ctx, err.Error())
			}
			return false, err
		}
	}
	more = len(rows) == pageSize
	if proven && head.Seq > 0 {
		rows = rows[1:]
	}
	for i := range rows {
		if want := head.Seq + 1 + int64(i); rows[i].Seq != want {
			return true, h.lost(ctx, fmt.Sprintf("event %d follows %d", rows[i].Seq, want-1))
		}
	}
	h.apply(logID, rows)
	return more, nil
}

// broken says why a log does not continue what was read up to head; empty: it does.
func broken(state store.LogState, logID string, head store.Position) string {
	if state.LogID != logID {
		return fmt.Sprintf("it is log %q, was %q", state.LogID, logID)
	}
	if state.Head.Seq < head.Seq {
		return fmt.Sprintf("it ends at %d, was read up to %d", state.Head.Seq, head.Seq)
	}
	if epoch, known := epochOf(state.Terms, head.Seq); known && epoch != head.Epoch {
		return fmt.Sprintf("event %d is of epoch %d, was of %d", head.Seq, epoch, head.Epoch)
	}
	return ""
}

// lost starts anew from what the database has. Every stream gets a reset and a fresh snapshot.
func (h *Hub) lost(ctx context.Context, why string) error {
	h.log.Error("the event log does not continue what was read of it, all streams are reset", "reason", why)
	return h.reload(ctx)
}

// reload replaces the memory.
func (h *Hub) reload(ctx context.Context) error {
	loading, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	views, at, err := h.o.Store.AgentViews(loading)
	if err != nil {
		return fmt.Errorf("load the agents' views: %w", err)
	}
	state, err := call(ctx, h.o.Store.LogState)
	if err != nil {
		return fmt.Errorf("load the state of the log: %w", err)
	}
	if why := broken(state, state.LogID, at); why != "" { // it happened between the two reads
		return fmt.Errorf("load the log: %s", why)
	}
	if !validLogID(state.LogID) {
		return fmt.Errorf("load the log: its id %q is none, letters, digits, - and _ expected", state.LogID)
	}
	mem := newMemory(state, views, at, ringSize)

	h.mu.Lock()
	defer h.mu.Unlock()
	h.mem = mem
	h.load++
	for _, c := range h.conns {
		c.again()
	}
	h.wake()
	h.registry.tellAgain()
	h.log.Info("event log loaded", "log_id", state.LogID, "epoch", at.Epoch, "seq", at.Seq, "agents", len(views))
	return nil
}

// forgetInterval is how often agents that were removed are looked for, whose views would otherwise stay until the restart.
const forgetInterval = time.Hour

// forget drops the views of agents that the database does not have any more, until ctx ends. The log does not tell of a removal:
// nothing happens to the agent.
func (h *Hub) forget(ctx context.Context) {
	ticker := time.NewTicker(forgetInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		h.mu.Lock()
		load := h.load
		h.mu.Unlock()
		loading, cancel := context.WithTimeout(ctx, loadTimeout)
		listed, at, err := h.o.Store.AgentViews(loading)
		cancel()
		if err != nil { // the tail tells of a database that is away
			continue
		}
		h.mu.Lock()
		if h.mem != nil && h.load == load {
			n := h.mem.forget(listed, at, func(agentID string) bool { return h.agents[agentID] != nil })
			h.log.Debug("views of removed agents forgotten", "agents", n)
		}
		h.mu.Unlock()
	}
}

// call gives a query its deadline.
func call[T any](ctx context.Context, query func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	return query(ctx)
}

// wake tells everyone who waits that memory changed. The caller holds the mutex.
func (h *Hub) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// apply adds rows to memory and publishes them to the streams of their agents.
func (h *Hub) apply(logID string, rows []store.LogEvent) {
	// In parts: the first streams hear their events while the last ones' are prepared, and nobody who connects meanwhile waits
	// for a shift of a whole floor.
	delivery := h.tracing.begin(rows)
	for part := range slices.Chunk(rows, applyPart) {
		data := make([]*eventData, len(part))
		events := make([]*sse.Event, len(part))
		for i := range part {
			valid := false
			data[i], valid = readData(&part[i])
			events[i] = h.eventOf(logID, &part[i], valid)
		}
		frames := h.framesOf(part, events)
		for _, f := range frames {
			f.delivery = delivery
		}
		h.mu.Lock()
		for len(frames) > 0 {
			n := 1 // an agent's events that follow each other, as those of a shift do, are told together: one write, not two
			for n < len(frames) && frames[n].agentID == frames[0].agentID {
				n++
			}
			for i, f := range frames[:n] {
				h.mem.add(&part[i], data[i], f)
			}
			for c := h.agents[frames[0].agentID]; c != nil; c = c.nextConn {
				c.tell(frames[:n])
			}
			frames, part, data = frames[n:], part[n:], data[n:]
		}
		h.wake()
		h.mu.Unlock()
	}
}

const applyPart = 250
