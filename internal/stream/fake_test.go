package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// fakeStore is the event log in memory. It passes the same suite as *store.Store: see TestStoreConformance.
type fakeStore struct {
	mu         sync.Mutex
	logID      string
	epoch      int64
	events     []store.LogEvent // of seq 1 on; those before oldest count as dropped
	oldest     int64
	terms      []store.Term
	views      map[string]store.AgentView // before the first event
	removed    map[string]bool            // agents that are members no more
	silent     bool                       // no doorbell: poll
	down       bool                       // every call fails
	wakes      []func(string)
	calls      map[string]int
	registered map[string]store.Connection
	gate       chan struct{} // AgentEventsAfter waits until it is closed
	agentsIn   int           // the most agents that one AgentEventsAfter asked for
}

var errDown = errors.New("connection refused")

func newFakeStore() *fakeStore {
	return &fakeStore{
		logID: "4f3c2b1a0d9e", epoch: 1_770_000_000_000, oldest: 1,
		views: make(map[string]store.AgentView), calls: make(map[string]int), registered: make(map[string]store.Connection),
	}
}

// event is a row to commit.
func event(agentID string, t failover.EventType, e failover.Event) failover.Event {
	e.AgentID, e.Type = agentID, t
	if e.Group == "" {
		e.Group = "main"
	}
	return e
}

// commit appends events, as the leader does.
func (s *fakeStore) commit(events ...failover.Event) []store.LogEvent {
	return s.commitRows(rowsOf(events))
}

func rowsOf(events []failover.Event) []store.LogEvent {
	rows := make([]store.LogEvent, len(events))
	for i, e := range events {
		if e.Time.IsZero() {
			e.Time = time.Now()
		}
		rows[i] = store.LogEvent{
			AgentID: e.AgentID, Group: e.Group, FailoverID: e.FailoverID, Type: e.Type, Time: e.Time, Data: e.AppendData(nil),
		}
	}
	return rows
}

func (s *fakeStore) commitRows(rows []store.LogEvent) []store.LogEvent {
	s.mu.Lock()
	rows = s.appendRows(rows)
	wakes := slices.Clone(s.wakes)
	if s.silent {
		wakes = nil
	}
	s.mu.Unlock()
	for _, wake := range wakes {
		wake(store.ChannelLog)
	}
	return rows
}

// appendRows numbers rows. The caller holds the mutex.
func (s *fakeStore) appendRows(rows []store.LogEvent) []store.LogEvent {
	for i := range rows {
		rows[i].Seq, rows[i].Epoch, rows[i].CommittedAt = int64(len(s.events)+1), s.epoch, time.Now()
		if n := len(s.terms); n == 0 || s.terms[n-1].Epoch != s.epoch {
			s.terms = append(s.terms, store.Term{Epoch: s.epoch, FirstSeq: rows[i].Seq})
		}
		s.events = append(s.events, rows[i])
	}
	return rows
}

// know sets what is known of agents without an event, as the roster does.
func (s *fakeStore) know(views ...store.AgentView) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range views {
		s.views[v.AgentID] = v
	}
}

// lose is an asynchronous failover of Postgres: commits after seq are gone, and another leader writes.
func (s *fakeStore) lose(seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = s.events[:seq]
	s.terms = slices.DeleteFunc(s.terms, func(t store.Term) bool { return t.FirstSeq > seq })
	s.epoch += 60_000
}

// newLeader begins another epoch.
func (s *fakeStore) newLeader() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch += 60_000
}

// prune drops what is older than an event.
func (s *fakeStore) prune(oldest int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oldest = oldest
}

// replace puts another database in this one's place.
func (s *fakeStore) replace(logID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logID, s.events, s.terms, s.epoch = logID, nil, nil, s.epoch+60_000
}

func (s *fakeStore) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *fakeStore) called(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[name]
}

// call counts a call and returns with the mutex locked, or fails.
func (s *fakeStore) call(name string) (unlock func(), err error) {
	s.mu.Lock()
	s.calls[name]++
	if s.down {
		s.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", name, errDown)
	}
	return s.mu.Unlock, nil
}

func (s *fakeStore) head() store.Position {
	if len(s.events) == 0 {
		return store.Position{}
	}
	last := s.events[len(s.events)-1]
	return store.Position{Epoch: last.Epoch, Seq: last.Seq}
}

func (s *fakeStore) LogState(context.Context) (store.LogState, error) {
	unlock, err := s.call("LogState")
	if err != nil {
		return store.LogState{}, err
	}
	defer unlock()
	return store.LogState{LogID: s.logID, Head: s.head(), OldestSeq: s.oldest, Terms: slices.Clone(s.terms)}, nil
}

func (s *fakeStore) EventsAfter(_ context.Context, seq int64, limit int) ([]store.LogEvent, error) {
	unlock, err := s.call("EventsAfter")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if seq >= int64(len(s.events)) {
		return nil, nil
	}
	if seq+1 < s.oldest {
		if s.oldest > int64(len(s.events)) {
			return nil, nil
		}
		return nil, fmt.Errorf("events after %d: %w", seq, store.ErrPruned)
	}
	rows := s.events[seq:]
	return slices.Clone(rows[:min(limit, len(rows))]), nil
}

func (s *fakeStore) AgentEventsAfter(_ context.Context, agentIDs []string, afterSeq, uptoSeq int64, types []string, limit int) ([]store.LogEvent, error) {
	unlock, err := s.call("AgentEventsAfter")
	if err != nil {
		return nil, err
	}
	if gate := s.gate; gate != nil {
		unlock()
		<-gate
		s.mu.Lock()
	}
	defer unlock()
	s.agentsIn = max(s.agentsIn, len(agentIDs))
	if afterSeq+1 < s.oldest {
		return nil, fmt.Errorf("events after %d: %w", afterSeq, store.ErrPruned)
	}
	wanted := make(map[string]bool, len(agentIDs))
	for _, id := range agentIDs {
		wanted[id] = true
	}
	var rows []store.LogEvent
	for _, e := range s.events[min(afterSeq, int64(len(s.events))):] {
		if e.Seq > uptoSeq || len(rows) == limit {
			break
		}
		if (agentIDs == nil || wanted[e.AgentID]) && (len(types) == 0 || slices.Contains(types, string(e.Type))) {
			rows = append(rows, e)
		}
	}
	return rows, nil
}

func (s *fakeStore) AgentViews(context.Context) ([]store.AgentView, store.Position, error) {
	unlock, err := s.call("AgentViews")
	if err != nil {
		return nil, store.Position{}, err
	}
	defer unlock()
	now := make(map[string]*store.AgentView, len(s.views))
	for id, v := range s.views {
		now[id] = &v
	}
	for i := range s.events {
		e := &s.events[i]
		if now[e.AgentID] == nil {
			v := unknown(e.AgentID)
			now[e.AgentID] = &v
		}
		advance(now[e.AgentID], e, decodeData(e))
	}
	var views []store.AgentView
	for id, v := range now {
		if !s.removed[id] {
			views = append(views, *v)
		}
	}
	return views, s.head(), nil
}

func (s *fakeStore) Listen(ctx context.Context, channels []string, wake func(string)) error {
	s.mu.Lock()
	s.wakes = append(s.wakes, wake)
	s.mu.Unlock()
	for _, c := range channels {
		wake(c)
	}
	<-ctx.Done()
	return nil
}

func (s *fakeStore) SyncConnections(_ context.Context, _ string, opened []store.Connection, closed []string) error {
	unlock, err := s.call("SyncConnections")
	if err != nil {
		return err
	}
	defer unlock()
	for _, c := range opened {
		if _, there := s.registered[c.ID]; !there {
			s.registered[c.ID] = c
		}
	}
	for _, id := range closed {
		delete(s.registered, id)
	}
	return nil
}

func (s *fakeStore) connections() []store.Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []store.Connection
	for _, c := range s.registered {
		list = append(list, c)
	}
	return list
}

// replicaStore is one replica's way to a shared store, which can be cut on its own.
type replicaStore struct {
	*fakeStore
	cut atomic.Bool
}

func (s *replicaStore) EventsAfter(ctx context.Context, seq int64, limit int) ([]store.LogEvent, error) {
	if s.cut.Load() {
		return nil, errDown
	}
	return s.fakeStore.EventsAfter(ctx, seq, limit)
}

func (s *replicaStore) Listen(ctx context.Context, _ []string, _ func(string)) error {
	<-ctx.Done() // no doorbell
	return nil
}

// decodeData is what the tail makes of an event's data.
func decodeData(row *store.LogEvent) *eventData {
	d, _ := readData(row)
	return d
}
