package stream

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"time"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// ringSize is how many recent events of one failover group stay in memory, so that ten thousand desktops that come
// back at once are served without the database: a shift of ten thousand agents writes about 35,000 events. A full ring holds
// 11 MB, and half a kilobyte more for each event that is not packed.
const ringSize = 1 << 16

// memory is what a replica knows of the log: where it is, which epochs it had, the recent events, and for every agent
// the view that results from all events up to head. It is pure data; the Hub's mutex guards it.
type memory struct {
	logID  string
	terms  []store.Term   // ascending by FirstSeq
	oldest int64          // the first event that the database still holds, as last read
	floor  int64          // events up to here came before this memory was loaded and are in no ring
	head   store.Position // everything up to here is applied
	headAt time.Time      // when the event at head was committed; zero: it was not read here
	agents map[string]*agentMemory
	rings  map[string]*ring  // by failover group, so that a busy group does not push out the events of a quiet one
	size   int               // of each ring
	texts  map[string]string // of groups, Regions and states: few, and each row brings them anew
	shapes map[string]*shape // of packed events
	key    []byte            // of the last shape that was looked for

	before int64 // an agent who is not in agents had no event after it: the floor, or the last event of one that was forgotten
}

type agentMemory struct {
	view store.AgentView // what it refers to is never changed, only replaced
	last int64           // seq of the agent's last event, or the floor
	ring *ring           // holds it, at ordinal; nil: the agent had no event since the floor
	at   uint64
}

// ring holds a failover group's most recent events, ascending by seq (which has gaps here: other groups' events).
type ring struct {
	blocks  [][]slot // a slot's place is its ordinal modulo size; made as they are needed, so that growing copies nothing
	size    int
	next    uint64 // ordinal of the next event
	evicted int64  // seq of the last event that was pushed out, or the floor
}

type slot struct {
	packed
	prevSeq int64  // the same agent's event before this one, or the floor: the agent had none in between
	prev    uint64 // its ordinal; none if it was pushed out or is in another ring
}

const none = ^uint64(0)

func newMemory(state store.LogState, views []store.AgentView, at store.Position, size int) *memory {
	m := &memory{
		logID: state.LogID, oldest: state.OldestSeq, floor: at.Seq, before: at.Seq, head: at, size: size,
		agents: make(map[string]*agentMemory, len(views)), rings: make(map[string]*ring), texts: make(map[string]string), shapes: make(map[string]*shape),
	}
	for _, t := range state.Terms {
		if t.FirstSeq <= at.Seq {
			m.terms = append(m.terms, t)
		}
	}
	known := make([]agentMemory, len(views))
	for i := range views {
		v := views[i]
		v.Group, v.TDG, v.ActiveRegion, v.NextActiveRegion = m.text(v.Group), m.text(v.TDG), m.text(v.ActiveRegion), m.text(v.NextActiveRegion)
		v.State = failover.AgentState(m.text(string(v.State)))
		known[i] = agentMemory{view: v, last: at.Seq}
		m.agents[v.AgentID] = &known[i]
	}
	return m
}

// epochOf says in which epoch an event was written: that of the last term that began at or before it.
// Position 0, before the first event, has epoch 0. False: so far back that it is not known.
func epochOf(terms []store.Term, seq int64) (int64, bool) {
	if seq == 0 {
		return 0, true
	}
	i := sort.Search(len(terms), func(i int) bool { return terms[i].FirstSeq > seq })
	if i == 0 {
		return 0, false
	}
	return terms[i-1].Epoch, true
}

// verdict is what a replica can say of a cursor.
type verdict struct {
	reset string // a reason to start anew; empty: the cursor is good
	ahead bool   // not read up to yet, if it exists at all
}

func (m *memory) check(c Cursor) verdict {
	switch {
	case c.LogID != m.logID:
		return verdict{reset: resetOtherLog}
	case c.Seq > m.head.Seq, c.Epoch > m.head.Epoch:
		return verdict{ahead: true}
	}
	epoch, known := epochOf(m.terms, c.Seq)
	switch {
	case !known && c.Seq+1 < m.oldest:
		return verdict{reset: resetPruned}
	case !known, epoch != c.Epoch:
		return verdict{reset: resetUnknown}
	}
	return verdict{}
}

// pruned says that events after seq are gone from the database.
func (m *memory) pruned(seq int64) bool { return seq+1 < m.oldest }

// add applies the next event, whose seq is head's plus one, and what its data tells.
func (m *memory) add(row *store.LogEvent, d *eventData, f *frame) {
	if epoch, ok := epochOf(m.terms, row.Seq); !ok || epoch != row.Epoch {
		m.terms = append(m.terms, store.Term{Epoch: row.Epoch, FirstSeq: row.Seq})
	}
	m.head, m.headAt = f.position, row.CommittedAt

	a := m.agents[row.AgentID]
	if a == nil {
		a = &agentMemory{view: unknown(row.AgentID), last: m.before}
		m.agents[row.AgentID] = a
	}
	row.Group = m.text(row.Group)
	if d != nil {
		d.ActiveRegion, d.NextActiveRegion, d.State = m.text(d.ActiveRegion), m.text(d.NextActiveRegion), failover.AgentState(m.text(string(d.State)))
	}
	advance(&a.view, row, d)
	f.agentID = a.view.AgentID // one text for all events of an agent

	r := m.rings[row.Group]
	if r == nil {
		r = &ring{size: m.size, evicted: m.floor}
		m.rings[row.Group] = r
	}
	s := slot{packed: m.pack(row, d, f), prevSeq: a.last, prev: none}
	if a.ring == r {
		s.prev = a.at
	}
	a.last, a.ring, a.at = row.Seq, r, r.push(s)
}

// text is the one that is kept of all that are the same.
func (m *memory) text(s string) string {
	kept, ok := m.texts[s]
	if !ok {
		kept = s
		m.texts[s] = s
	}
	return kept
}

// ringBlock is how many slots are made at a time.
const ringBlock = 1024

func (r *ring) push(s slot) uint64 {
	ordinal := r.next
	r.next++
	if place := int(ordinal); place < r.size && place%ringBlock == 0 { //nolint:gosec // an ordinal, up to size
		r.blocks = append(r.blocks, make([]slot, min(ringBlock, r.size-place)))
	}
	place := r.place(ordinal)
	if ordinal >= uint64(r.size) {
		r.evicted = place.seq
	}
	*place = s
	return ordinal
}

// held is how many events the ring has.
func (r *ring) held() int { return int(min(r.next, uint64(r.size))) } //nolint:gosec // no more than size

func (r *ring) place(ordinal uint64) *slot {
	i := ordinal % uint64(r.size)
	return &r.blocks[i/ringBlock][i%ringBlock]
}

// slot returns the slot of an ordinal, nil when it was pushed out.
func (r *ring) slot(ordinal uint64) *slot {
	if ordinal == none || ordinal+uint64(r.held()) < r.next {
		return nil
	}
	return r.place(ordinal)
}

// since returns an agent's events after seq, at most limit, oldest first. False: some of them are in memory no more.
func (m *memory) since(agentID string, seq int64, limit int) ([]*frame, bool) {
	a := m.agents[agentID]
	if a == nil {
		return nil, seq >= m.before
	}
	var frames []*frame
	last, at := a.last, a.at
	for last > seq {
		var s *slot
		if a.ring != nil {
			s = a.ring.slot(at)
		}
		if s == nil {
			return nil, false
		}
		frames = append(frames, m.unpack(&s.packed))
		last, at = s.prevSeq, s.prev
	}
	slices.Reverse(frames)
	return frames[:min(limit, len(frames))], true
}

// sinceAll returns every agent's events after seq, at most limit, oldest first. False: some are in memory no more.
func (m *memory) sinceAll(seq int64, limit int) ([]*frame, bool) {
	if seq < m.floor {
		return nil, false
	}
	var frames []*frame
	for _, r := range m.rings {
		if seq < r.evicted {
			return nil, false
		}
		held := r.held()
		first := r.next - uint64(held)
		n := sort.Search(held, func(i int) bool { return r.slot(first+uint64(i)).seq > seq })
		for i := n; i < held && i < n+limit; i++ {
			frames = append(frames, m.unpack(&r.slot(first+uint64(i)).packed))
		}
	}
	slices.SortFunc(frames, func(a, b *frame) int { return cmp.Compare(a.position.Seq, b.position.Seq) })
	return frames[:min(limit, len(frames))], true
}

// forget drops the agents that were removed: not listed at a position, and without an event since. What they may have missed before is
// left to the database. Agents with open streams stay.
func (m *memory) forget(listed []store.AgentView, at store.Position, open func(agentID string) bool) (forgotten int) {
	there := make(map[string]bool, len(listed))
	for i := range listed {
		there[listed[i].AgentID] = true
	}
	for id, a := range m.agents {
		if !there[id] && a.last <= at.Seq && !open(id) {
			delete(m.agents, id)
			m.before = max(m.before, a.last)
			forgotten++
		}
	}
	return forgotten
}

// unknown is the view of an agent of whom nothing is known.
func unknown(agentID string) store.AgentView {
	return store.AgentView{AgentID: agentID, State: failover.AgentUnknown}
}

// view returns what is known of an agent; of one that was never seen, that nothing is.
func (m *memory) view(agentID string) (store.AgentView, bool) {
	if a := m.agents[agentID]; a != nil {
		return a.view, true
	}
	return unknown(agentID), false
}

// viewsFor returns the view of an agent, or of every agent that is known, in the order of their ids.
func (m *memory) viewsFor(agentID string) []store.AgentView {
	if agentID != "" {
		v, _ := m.view(agentID)
		return []store.AgentView{v}
	}
	views := make([]store.AgentView, 0, len(m.agents))
	for _, id := range slices.Sorted(maps.Keys(m.agents)) {
		views = append(views, m.agents[id].view)
	}
	return views
}

// advance changes a view to what it is after an event.
func advance(v *store.AgentView, row *store.LogEvent, d *eventData) {
	v.Group = row.Group
	if d == nil {
		return
	}
	switch row.Type {
	case failover.EventSnapshot:
		v.ActiveRegion, v.State, v.NextActiveRegion, v.FailoverID = d.ActiveRegion, d.State, d.NextActiveRegion, row.FailoverID
		v.ContactIDs, v.Errors = d.ContactIDs, d.Errors
		v.PauseReason, v.PausedUntil = "", time.Time{} // in the log it is about agents without a failover
	case failover.EventFailoverDetected:
		v.State, v.NextActiveRegion, v.FailoverID, v.ContactIDs = failover.AgentDetected, d.NextActiveRegion, row.FailoverID, nil
		v.PauseReason, v.PausedUntil = "", time.Time{}
	case failover.EventFailoverPaused:
		if until, err := time.Parse(time.RFC3339, d.Until); err == nil {
			v.PauseReason, v.PausedUntil = d.Reason, until
		}
	case failover.EventFailoverResumed:
		v.PauseReason, v.PausedUntil = "", time.Time{}
	case failover.EventFailoverPending, failover.EventPendingUpdated:
		v.State, v.NextActiveRegion, v.FailoverID, v.ContactIDs = failover.AgentPending, d.NextActiveRegion, row.FailoverID, d.ContactIDs
	case failover.EventFailoverCompleted, failover.EventFailoverCancelled:
		v.ActiveRegion, v.State = d.ActiveRegion, failover.AgentActive
		v.FailoverID, v.NextActiveRegion, v.ContactIDs = "", "", nil
		v.PauseReason, v.PausedUntil = "", time.Time{}
	case failover.EventConfigureError:
		v.Errors = withoutCode(v.Errors, d.Code)
		v.Errors = append(v.Errors, failover.SetupError{Code: d.Code, Message: d.Message, Since: row.Time})
	case failover.EventConfigureErrorCleared:
		v.Errors = withoutCode(v.Errors, d.Code)
	}
}

// withoutCode returns a copy: the view before is still being told.
func withoutCode(errors []failover.SetupError, code string) []failover.SetupError {
	kept := make([]failover.SetupError, 0, len(errors)+1)
	for _, e := range errors {
		if e.Code != code {
			kept = append(kept, e)
		}
	}
	return kept
}
