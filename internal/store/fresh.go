package store

import (
	"slices"
	"sync"
	"time"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// The bounds of what is remembered of this program's own commits: a few of a shift's, and no longer than the tail of the log needs to ask.
const (
	freshEvents = 8192
	freshFor    = time.Second
)

// fresh are the events of this program's last commits. In a shift the replica that leads would else read back from PostgreSQL what it has just
// written there. It holds nothing that is not committed, and nothing for long: what the database lost when it failed over is
// found out by reading it.
type fresh struct {
	mu     sync.Mutex
	events []LogEvent // of consecutive numbers
	at     time.Time  // of the last commit
}

// add remembers what was committed.
func (f *fresh) add(rows []db.InsertEventsParams) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if n := len(f.events); n > 0 && (now.Sub(f.at) > freshFor || f.events[n-1].Seq+1 != rows[0].Seq || f.events[n-1].Epoch != rows[0].Epoch) {
		f.events = nil
	}
	if over := len(f.events) + len(rows) - freshEvents; over > 0 {
		f.events = slices.Clone(f.events[min(over, len(f.events)):]) // what was before is not kept
		rows = rows[max(0, len(rows)-freshEvents):]
	}
	for i := range rows {
		r := &rows[i]
		f.events = append(f.events, LogEvent{
			Seq: r.Seq, Epoch: r.Epoch, AgentID: r.AgentID, Group: r.FailoverGroup, FailoverID: r.FailoverID, Type: failover.EventType(r.Type),
			Time: r.Time.Time, CommittedAt: r.CommittedAt.Time, Data: r.Data,
		})
	}
	f.at = now
}

// forget is for when a commit has failed: nobody knows what the database has.
func (f *fresh) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = nil
}

// after returns the events that follow seq, at most limit; nil: they are not known to be all.
func (f *fresh) after(seq int64, limit int) []LogEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.events) == 0 || time.Since(f.at) > freshFor {
		f.events = nil
		return nil
	}
	first := seq + 1 - f.events[0].Seq
	if first < 0 || first >= int64(len(f.events)) {
		return nil
	}
	events := f.events[first:]
	return slices.Clone(events[:min(limit, len(events))])
}
