package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// MaxWait is the longest long poll: proxies give up on silent responses after half a minute.
const MaxWait = 25 * time.Second

// HistoryQuery asks for a part of the log.
type HistoryQuery struct {
	AgentID string        // whose
	All     bool          // everybody's; then AgentID is empty
	After   string        // a cursor; empty: from the oldest event that is kept
	Types   []string      // event names; empty: all
	Limit   int           // of items; positive
	Wait    time.Duration // for the first item, if there is none; at most MaxWait
}

// Item is an event as JSON history shows it: the same id and data as on the stream.
type Item struct {
	ID    string          `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// ErrNotReady is returned before the first load of the log.
var ErrNotReady = errors.New("the event log has not been loaded yet")

// History returns the events after a cursor, oldest first, and the cursor to go on from. If there are none it waits
// for the first, as long as the query asks for. A cursor that the log cannot go on from gives what the stream gives:
// a `reset`, and then, for one agent, a `snapshot` (whoever reads all agents finds them in the list of agents).
//
// An error means that the database is needed and does not answer, or ErrNotReady.
func (h *Hub) History(ctx context.Context, q HistoryQuery) (items []Item, next string, err error) {
	if q.All != (q.AgentID == "") { // a missing claim must never open everybody's events
		return nil, "", fmt.Errorf("history of agent %q, all %t: one of them expected", q.AgentID, q.All)
	}
	timeout := time.NewTimer(min(q.Wait, MaxWait))
	defer timeout.Stop()
	resume := &resumption{}
	if q.After != "" {
		if resume.cursor, err = ParseCursor(q.After); err != nil {
			resume.reset = resetMalformed
		}
	}
	for {
		r, wait, err := h.look(ctx, q, resume)
		if err != nil || len(r.items) > 0 {
			return r.items, r.next, err
		}
		q.After = r.next // what was looked through need not be looked through again
		select {
		case <-wait: // before the time is looked at
			continue
		default:
		}
		select {
		case <-wait:
		case <-timeout.C:
			return []Item{}, r.next, nil
		case <-ctx.Done():
			return nil, "", ctx.Err()
		}
	}
}

// found is what one look at the log gave.
type found struct {
	items []Item
	next  string
}

// look reads the history once, and says what to wait for if there is nothing.
func (h *Hub) look(ctx context.Context, q HistoryQuery, resume *resumption) (found, <-chan struct{}, error) {
	h.mu.Lock()
	if h.mem == nil {
		h.mu.Unlock()
		return found{}, nil, ErrNotReady
	}
	m, changed := h.mem, h.changed
	logID, head := m.logID, m.head
	after := max(m.oldest-1, 0)
	if q.After != "" {
		reset, wait := h.verdict(resume)
		if wait != nil {
			h.mu.Unlock()
			return found{next: q.After}, wait, nil
		}
		if reset != "" {
			r := h.restart(q.AgentID, reset)
			h.mu.Unlock()
			return r, nil, nil
		}
		after = resume.cursor.Seq
	}
	frames, ok := h.recent(q, after)
	h.mu.Unlock()

	var items []Item
	last := head // that was looked at
	switch {
	case ok:
		for _, f := range frames {
			items = append(items, f.item())
		}
		if len(frames) == q.Limit {
			last = frames[len(frames)-1].position
		}
	default:
		var agents []string
		if q.AgentID != "" {
			agents = []string{q.AgentID}
		}
		rows, err := h.replays.query(ctx, agents, after, head.Seq, q.Types, q.Limit)
		if errors.Is(err, store.ErrPruned) {
			return h.pruned(ctx, q)
		}
		if err != nil {
			return found{}, nil, fmt.Errorf("read events after %d: %w", after, err)
		}
		for _, e := range h.eventsOf(logID, rows) {
			if e != nil {
				items = append(items, Item{ID: string(e.ID), Event: string(e.Event), Data: e.Data})
			}
		}
		if len(rows) == q.Limit {
			last = store.Position{Epoch: rows[len(rows)-1].Epoch, Seq: rows[len(rows)-1].Seq}
		}
	}
	wait := (<-chan struct{})(changed)
	if last != head { // there may be more
		wait = closed
	}
	resume.cursor = Cursor{LogID: logID, Epoch: last.Epoch, Seq: last.Seq}
	return found{items: items, next: resume.cursor.String()}, wait, nil
}

// pruned answers a query whose beginning was dropped from the log: with a reset, or, if it had no cursor, by looking again
// from where the log begins now.
func (h *Hub) pruned(ctx context.Context, q HistoryQuery) (found, <-chan struct{}, error) {
	state, err := call(ctx, h.o.Store.LogState)
	if err != nil {
		return found{}, nil, fmt.Errorf("read the state of the log: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mem.oldest = max(h.mem.oldest, state.OldestSeq)
	if q.After != "" {
		return h.restart(q.AgentID, resetPruned), nil, nil
	}
	return found{}, closed, nil
}

// recent reads the history from memory; false: it goes further back. The caller holds the mutex.
func (h *Hub) recent(q HistoryQuery, after int64) ([]*frame, bool) {
	var kept []*frame
	for {
		var frames []*frame
		var ok bool
		if q.AgentID == "" {
			frames, ok = h.mem.sinceAll(after, feedBatch)
		} else {
			frames, ok = h.mem.since(q.AgentID, after, feedBatch)
		}
		if !ok {
			return nil, false
		}
		for _, f := range frames {
			if f.name != "" && (len(q.Types) == 0 || slices.Contains(q.Types, f.name)) {
				kept = append(kept, f)
			}
			if len(kept) == q.Limit {
				return kept, true
			}
			after = f.position.Seq
		}
		if len(frames) < feedBatch {
			return kept, true
		}
	}
}

// restart is the beginning of a history that cannot go on from its cursor. The caller holds the mutex.
func (h *Hub) restart(agentID, reason string) found {
	m, now := h.mem, time.Now()
	e := resetEvent(m.logID, m.head, agentID, reason, now)
	r := found{
		items: []Item{{ID: string(e.ID), Event: eventReset, Data: e.Data}},
		next:  Cursor{LogID: m.logID, Epoch: m.head.Epoch, Seq: m.head.Seq}.String(),
	}
	if agentID != "" {
		v, _ := m.view(agentID)
		s := snapshotEvent(Cursor{LogID: m.logID, Epoch: m.head.Epoch, Seq: m.head.Seq}, &v, h.o.CCPURL(v.Group, v.ActiveRegion), now)
		r.items = append(r.items, Item{ID: string(s.ID), Event: string(failover.EventSnapshot), Data: s.Data})
	}
	return r
}
