package store

import (
	"slices"
	"sync"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// recentSize is how many events a leader remembers for its own replica: what is committed while that one's reader comes round, with
// room for a busy machine. Some five megabytes.
const recentSize = 10_000

// recent are the last events that this Store has committed, without gaps, so that the leader's own replica need not have
// PostgreSQL read them out again. It answers only what is new to its reader. All else is PostgreSQL's to answer, above all
// whether the log still holds what was read: a poll in which nothing is new asks that.
type recent struct {
	mu     sync.Mutex
	events []LogEvent
}

// add takes the events of a commit, once it is one. What does not follow the last ones, because another leader wrote in
// between, takes their place.
func (r *recent) add(rows []db.InsertEventsParams) {
	if len(rows) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.events); n > 0 && (r.events[n-1].Seq+1 != rows[0].Seq || r.events[n-1].Epoch != rows[0].Epoch) {
		r.events = nil
	}
	if over := len(r.events) + len(rows) - recentSize; over > 0 {
		r.events = slices.Clone(r.events[min(over, len(r.events)):]) // a reader may hold the old ones
	}
	for i := range rows {
		e := &rows[i]
		r.events = append(r.events, LogEvent{
			Seq: e.Seq, Epoch: e.Epoch, AgentID: e.AgentID, Group: e.FailoverGroup, FailoverID: e.FailoverID,
			Type: failover.EventType(e.Type), Time: e.Time.Time, CommittedAt: e.CommittedAt.Time, Data: e.Data,
		})
	}
}

// forget is for when it is not known what PostgreSQL has kept.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}

// after are the events that follow seq, at most limit. False: it does not remember them, or knows nothing newer than the first.
func (r *recent) after(seq int64, limit int) ([]LogEvent, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.events) == 0 || seq+1 < r.events[0].Seq || seq+1 >= r.events[len(r.events)-1].Seq {
		return nil, false
	}
	from := r.events[seq+1-r.events[0].Seq:]
	return slices.Clip(from[:min(limit, len(from))]), true
}
