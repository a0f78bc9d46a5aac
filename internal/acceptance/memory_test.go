package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// errKilled is what a process gets from its database after its end.
var errKilled = errors.New("the process is dead")

// memoryStore is a database in memory. Everything is copied in and out as PostgreSQL would, and each commit is held to the contract
// of the leader: one term at a time, no agent or failover twice, and an event log that, read from its beginning, says
// the same as the stored state (R18).
type memoryStore struct {
	t *testing.T
	// took is how long a commit takes; nil: no time.
	took func(failover.Effects) time.Duration
	// judge is told every event at its commit; nil: nobody is.
	judge func(failover.Event)

	mu        sync.Mutex
	holder    string
	epoch     int64
	expires   time.Time
	groups    map[string]*failover.Group
	tdgs      map[string]*failover.TDG
	agents    map[string]*failover.Agent
	failovers map[string]*failover.Failover
	told      map[string]*told // by agent
	log       []logged
	changes   []failover.Change
	conflicts int
	commands  []store.Command
	results   map[int64]failover.Result
}

// logged is an event and when it was committed.
type logged struct {
	failover.Event
	at time.Time
}

// told is what a desktop knows that has followed the log from its beginning.
type told struct {
	region, next, failover string
	contacts               []string
	pending                bool
	ended                  map[string]failover.EventType // failovers
	stalled                map[string]bool
	last                   time.Time
}

func newMemoryStore(t *testing.T) *memoryStore {
	return &memoryStore{
		t: t, groups: map[string]*failover.Group{}, tdgs: map[string]*failover.TDG{}, agents: map[string]*failover.Agent{},
		failovers: map[string]*failover.Failover{}, told: map[string]*told{}, results: map[int64]failover.Result{},
	}
}

// session is a process's connection to a memoryStore; it implements orchestrator.Store.
type session struct {
	*memoryStore
	killAt int           // the commit, from 1, in which the process dies; 0: none
	late   bool          // it dies after the commit: the answer is lost
	killed chan struct{} // closed when the process is dead

	// Guarded by memoryStore.mu.
	commits int   // so far
	told    []int // of them, those with events
}

func (m *memoryStore) connect() *session {
	return &session{memoryStore: m, killed: make(chan struct{})}
}

// enter locks the database for a call, unless the process is dead.
func (s *session) enter(ctx context.Context) error {
	s.mu.Lock()
	select {
	case <-s.killed:
		s.mu.Unlock()
		return errKilled
	default:
	}
	if err := ctx.Err(); err != nil {
		s.mu.Unlock()
		return err
	}
	return nil
}

func (s *session) Clock(ctx context.Context) (time.Time, error) {
	if err := s.enter(ctx); err != nil {
		return time.Time{}, err
	}
	defer s.mu.Unlock()
	return time.Now().UTC(), nil
}

func (s *session) AcquireLease(ctx context.Context, holder string, ttl time.Duration) (store.Lease, bool, error) {
	if err := s.enter(ctx); err != nil {
		return store.Lease{}, false, err
	}
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.expires) {
		return store.Lease{}, false, nil
	}
	s.holder, s.epoch, s.expires = holder, max(s.epoch+1, now.UnixMilli()), now.Add(ttl)
	return store.Lease{Epoch: s.epoch, TrustedUntil: now.Add(ttl - ttl/10)}, true, nil
}

func (s *session) RenewLease(ctx context.Context, lease store.Lease, holder string, ttl time.Duration) (store.Lease, bool, error) {
	if err := s.enter(ctx); err != nil {
		return lease, false, err
	}
	defer s.mu.Unlock()
	if s.holder != holder || s.epoch != lease.Epoch {
		return lease, false, nil
	}
	s.expires = time.Now().Add(ttl)
	return store.Lease{Epoch: lease.Epoch, TrustedUntil: time.Now().Add(ttl - ttl/10)}, true, nil
}

func (s *session) ReleaseLease(ctx context.Context, lease store.Lease, holder string) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.holder == holder && s.epoch == lease.Epoch {
		s.expires = time.Time{}
	}
	return nil
}

func (s *session) SucceedLease(ctx context.Context, lease store.Lease, holder string, ttl time.Duration) (store.Lease, bool, error) {
	if err := s.enter(ctx); err != nil {
		return lease, false, err
	}
	defer s.mu.Unlock()
	if s.holder != holder || s.epoch != lease.Epoch {
		return lease, false, nil
	}
	now := time.Now()
	s.epoch, s.expires = max(s.epoch+1, now.UnixMilli()), now.Add(ttl)
	return store.Lease{Epoch: s.epoch, TrustedUntil: now.Add(ttl - ttl/10)}, true, nil
}

func (s *session) Load(ctx context.Context) (failover.Snapshot, error) {
	if err := s.enter(ctx); err != nil {
		return failover.Snapshot{}, err
	}
	defer s.mu.Unlock()
	var all failover.Snapshot
	for _, g := range s.groups {
		all.Groups = append(all.Groups, copied(g))
	}
	for _, t := range s.tdgs {
		all.TDGs = append(all.TDGs, copied(t))
	}
	for _, a := range s.agents {
		all.Agents = append(all.Agents, copied(a))
	}
	return all, nil
}

func (s *session) Commit(ctx context.Context, epoch int64, e failover.Effects) (store.Committed, error) {
	if s.took != nil {
		timer := time.NewTimer(s.took(e))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return store.Committed{}, ctx.Err()
		}
	}
	if err := s.enter(ctx); err != nil {
		return store.Committed{}, err
	}
	defer s.mu.Unlock()
	s.commits++
	if len(e.Events) > 0 {
		s.told = append(s.told, s.commits)
	}
	if s.commits == s.killAt && !s.late {
		close(s.killed)
		return store.Committed{}, errKilled
	}
	if epoch != s.epoch {
		return store.Committed{}, fmt.Errorf("epoch %d, the lease is at %d: %w", epoch, s.epoch, store.ErrFenced)
	}
	c := s.write(e)
	if s.commits == s.killAt {
		close(s.killed)
		return store.Committed{}, errKilled
	}
	return c, nil
}

func (s *session) Begin(ctx context.Context, epoch int64, e failover.Effects, _ store.Wait) store.Wait {
	c, err := s.Commit(ctx, epoch, e)
	return func() (store.Committed, error) { return c, err }
}

func (s *session) PendingCommands(ctx context.Context, afterID int64, limit int) ([]store.Command, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var list []store.Command
	for _, c := range s.commands {
		if _, done := s.results[c.ID]; !done && c.ID > afterID && len(list) < limit {
			list = append(list, c)
		}
	}
	return list, nil
}

func (s *session) StreamingAgents(ctx context.Context) (map[string]time.Time, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return nil, nil
}

func (s *session) SaveHealth(ctx context.Context, epoch int64, _ []store.RegionHealth) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if epoch != s.epoch {
		return store.ErrFenced
	}
	return nil
}

func (s *session) MaintainPartitions(ctx context.Context, _ time.Duration) error { return ctx.Err() }

func (s *session) Prune(ctx context.Context) error { return ctx.Err() }

// command appends to the inbox.
func (m *memoryStore) command(kind string, payload any) int64 {
	m.t.Helper()
	b, err := json.Marshal(payload)
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	id := int64(len(m.commands) + 1)
	m.commands = append(m.commands, store.Command{ID: id, Kind: kind, Payload: b, By: "operator"})
	return id
}

// write applies a commit and holds it to the contract. m.mu is held.
func (m *memoryStore) write(e failover.Effects) store.Committed {
	at := time.Now()
	wrong := func(format string, args ...any) {
		m.t.Errorf("commit at %s: %s", at.Format("15:04:05.000"), fmt.Sprintf(format, args...))
	}
	changed, rows := map[string]bool{}, map[string]bool{}
	keep := func(f *failover.Failover) {
		if f != nil {
			m.failovers[f.ID] = copied(f)
		}
	}
	for _, f := range e.Failovers {
		if rows[f.ID] {
			wrong("failover %s is in it twice", f.ID)
		}
		rows[f.ID] = true
		keep(f)
	}
	for _, a := range e.Agents {
		if changed[a.ID] {
			wrong("agent %s is in it twice", a.ID)
		}
		changed[a.ID] = true
		m.agents[a.ID] = copied(a)
		keep(a.Failover)
		keep(a.Last)
	}
	for _, t := range e.TDGs {
		m.tdgs[t.ID] = copied(t)
	}
	for _, g := range e.Groups {
		m.groups[g.Name] = copied(g)
	}
	for _, c := range e.Changes {
		m.changes = append(m.changes, copied(c))
	}
	for _, n := range e.Conflicts {
		m.conflicts += n
	}
	for _, r := range e.Results {
		m.results[r.CommandID] = r
	}
	removed := map[string]bool{}
	for _, id := range e.RemovedAgents {
		removed[id] = true
		if changed[id] {
			wrong("agent %s is changed and removed", id)
		}
		delete(m.agents, id)
	}
	for _, told := range e.Events {
		ev := copied(*told)
		if !changed[ev.AgentID] && !removed[ev.AgentID] {
			wrong("%s without its agent %s", ev.Type, ev.AgentID)
		}
		if ev.FailoverID != "" && m.failovers[ev.FailoverID] == nil {
			wrong("%s of failover %s, which is not stored", ev.Type, ev.FailoverID)
		}
		m.log = append(m.log, logged{ev, at})
		if err := m.follow(&ev); err != nil {
			wrong("%s of agent %s: %v", ev.Type, ev.AgentID, err)
		}
		if m.judge != nil {
			m.judge(ev)
		}
	}
	for id := range changed {
		if err := m.agree(m.agents[id]); err != nil {
			wrong("agent %s: %v", id, err)
		}
	}
	for id := range removed {
		if o := m.told[id]; o != nil && o.failover != "" {
			wrong("agent %s is removed with failover %s open", id, o.failover)
		}
		delete(m.told, id)
	}
	for id := range rows {
		f := m.failovers[id]
		o := m.told[f.AgentID]
		if f.Status == failover.Completed && f.Evidence == failover.Inferred && f.EvidenceAt.Before(f.DetectedAt) {
			wrong("failover %s, detected at %s, is completed by a read of %s (R6)", id, f.DetectedAt, f.EvidenceAt)
		}
		if o != nil && f.Open() != (o.failover == id) {
			wrong("failover %s is stored as %s, its agent's log has %q open", id, f.Status, o.failover)
		}
	}
	return store.Committed{At: at}
}

// follow does what a desktop does with an event, and says what about it cannot be.
func (m *memoryStore) follow(e *failover.Event) error {
	o := m.told[e.AgentID]
	if o == nil {
		o = &told{ended: map[string]failover.EventType{}, stalled: map[string]bool{}}
		m.told[e.AgentID] = o
	}
	if e.Time.Before(o.last) {
		return fmt.Errorf("its time %s is before that of the event before it, %s", e.Time, o.last)
	}
	o.last = e.Time
	mine := func() error {
		if e.FailoverID == "" || e.FailoverID != o.failover {
			return fmt.Errorf("failover %q, but %q is open", e.FailoverID, o.failover)
		}
		return nil
	}
	switch e.Type {
	case failover.EventSnapshot:
		if o.region != "" && e.ActiveRegion != o.region || e.FailoverID != o.failover {
			return fmt.Errorf("it moves the agent from %s to %s, and from failover %q to %q", o.region, e.ActiveRegion, o.failover, e.FailoverID)
		}
		o.region = e.ActiveRegion
	case failover.EventFailoverDetected:
		_, before := o.ended[e.FailoverID]
		if o.failover != "" || before || e.FailoverID == "" {
			return fmt.Errorf("failover %q begins, %q is open, it ended before: %t", e.FailoverID, o.failover, before)
		}
		if o.region == "" || e.NextRegion == o.region || e.NextRegion == "" {
			return fmt.Errorf("from %q to %q", o.region, e.NextRegion)
		}
		o.failover, o.next, o.pending, o.contacts = e.FailoverID, e.NextRegion, false, nil
	case failover.EventFailoverPending:
		if o.pending || len(e.ContactIDs) == 0 || e.NextRegion != o.next {
			return fmt.Errorf("pending before: %t, contacts %v, to %s instead of %s", o.pending, e.ContactIDs, e.NextRegion, o.next)
		}
		o.pending, o.contacts = true, e.ContactIDs
		return mine()
	case failover.EventPendingUpdated:
		if !o.pending || slices.Equal(o.contacts, e.ContactIDs) || e.NextRegion != o.next {
			return fmt.Errorf("pending before: %t, contacts %v after %v, to %s instead of %s", o.pending, e.ContactIDs, o.contacts, e.NextRegion, o.next)
		}
		o.contacts = e.ContactIDs
		return mine()
	case failover.EventFailoverCompleted:
		if err := mine(); err != nil {
			return err
		}
		if e.PreviousRegion != o.region || e.ActiveRegion != o.next {
			return fmt.Errorf("from %s to %s instead of from %s to %s", e.PreviousRegion, e.ActiveRegion, o.region, o.next)
		}
		o.ended[e.FailoverID] = e.Type
		o.region, o.failover, o.next, o.pending, o.contacts = e.ActiveRegion, "", "", false, nil
	case failover.EventFailoverCancelled:
		if err := mine(); err != nil {
			return err
		}
		if e.ActiveRegion != o.region || e.CancelledRegion != o.next {
			return fmt.Errorf("in %s, not to %s, instead of in %s, not to %s", e.ActiveRegion, e.CancelledRegion, o.region, o.next)
		}
		o.ended[e.FailoverID] = e.Type
		o.failover, o.next, o.pending, o.contacts = "", "", false, nil
	case failover.EventFailoverStalled:
		if o.ended[e.FailoverID] != failover.EventFailoverCompleted || o.stalled[e.FailoverID] {
			return fmt.Errorf("failover %s ended by %q, told before: %t", e.FailoverID, o.ended[e.FailoverID], o.stalled[e.FailoverID])
		}
		o.stalled[e.FailoverID] = true
	}
	return nil
}

// agree compares what is stored of an agent with what its log has told.
func (m *memoryStore) agree(a *failover.Agent) error {
	o := m.told[a.ID]
	if o == nil {
		o = &told{}
	}
	stored := told{region: a.ActiveRegion}
	if f := a.Failover; f != nil {
		stored.failover, stored.next, stored.pending, stored.contacts = f.ID, f.To, f.Status == failover.Pending, f.ContactIDs
	}
	if stored.region != o.region || stored.failover != o.failover || stored.next != o.next || stored.pending != o.pending || !slices.Equal(stored.contacts, o.contacts) {
		return fmt.Errorf("stored is %+v, told was %+v", stored, *o)
	}
	return nil
}

// view reads the store under its lock.
func (m *memoryStore) view(read func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	read()
}

// events are those that were committed from a place in the log on.
func (m *memoryStore) events(from int) []logged {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.log[from:])
}

// agent is what is stored of an agent.
func (m *memoryStore) agent(id string) failover.Agent {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.agents[id]; a != nil {
		return *copied(a)
	}
	return failover.Agent{}
}

// copied is what a database gives back: exported fields, times in UTC and cut to microseconds.
func copied[T any](v T) T {
	var out T
	copyInto(reflect.ValueOf(&out).Elem(), reflect.ValueOf(&v).Elem())
	return out
}

func copyInto(dst, src reflect.Value) {
	switch src.Kind() {
	case reflect.Pointer:
		if !src.IsNil() {
			dst.Set(reflect.New(src.Type().Elem()))
			copyInto(dst.Elem(), src.Elem())
		}
	case reflect.Struct:
		if src.Type() == reflect.TypeFor[time.Time]() {
			dst.Set(reflect.ValueOf(src.Interface().(time.Time).UTC().Truncate(time.Microsecond)))
			return
		}
		for i := range src.NumField() {
			if field := dst.Field(i); field.CanSet() { // it is exported
				copyInto(field, src.Field(i))
			}
		}
	case reflect.Slice:
		if !src.IsNil() {
			dst.Set(reflect.MakeSlice(src.Type(), src.Len(), src.Len()))
			for i := range src.Len() {
				copyInto(dst.Index(i), src.Index(i))
			}
		}
	case reflect.Map:
		if !src.IsNil() {
			dst.Set(reflect.MakeMapWithSize(src.Type(), src.Len()))
			for _, k := range src.MapKeys() {
				v := reflect.New(src.Type().Elem()).Elem()
				copyInto(v, src.MapIndex(k))
				dst.SetMapIndex(k, v)
			}
		}
	default:
		dst.Set(src)
	}
}
