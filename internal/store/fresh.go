package store

import (
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
	mu      sync.Mutex
	commits [][]LogEvent // of consecutive numbers, so that nothing is copied to make room
	n       int          // events in them
	at      time.Time    // of the last commit
}

// add remembers what was committed.
func (f *fresh) add(rows []db.InsertEventsParams) {
	rows = rows[max(0, len(rows)-freshEvents):]
	events := make([]LogEvent, len(rows))
	for i := range rows {
		r := &rows[i]
		events[i] = LogEvent{
			Seq: r.Seq, Epoch: r.Epoch, AgentID: r.AgentID, Group: r.FailoverGroup, FailoverID: r.FailoverID, Type: failover.EventType(r.Type),
			Time: r.Time.Time, CommittedAt: r.CommittedAt.Time, Data: r.Data,
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if n := len(f.commits); n > 0 {
		last := f.commits[n-1][len(f.commits[n-1])-1]
		if now.Sub(f.at) > freshFor || last.Seq+1 != events[0].Seq || last.Epoch != events[0].Epoch {
			f.drop()
		}
	}
	f.commits = append(f.commits, events)
	f.n, f.at = f.n+len(events), now
	for over := f.n - freshEvents; over > 0; over = f.n - freshEvents {
		first := f.commits[0]
		if over < len(first) {
			clear(first[:over])
			f.commits[0] = first[over:]
		} else {
			over = len(first)
			f.commits[0] = nil
			f.commits = f.commits[1:]
		}
		f.n -= over
	}
}

// forget is for when a commit has failed: nobody knows what the database has.
func (f *fresh) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
}

func (f *fresh) drop() { f.commits, f.n = nil, 0 }

// after returns the events that follow seq, at most limit; nil: they are not known to be all.
func (f *fresh) after(seq int64, limit int) []LogEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 || time.Since(f.at) > freshFor {
		f.drop()
		return nil
	}
	first := int(seq + 1 - f.commits[0][0].Seq)
	if first < 0 || first >= f.n {
		return nil
	}
	events := make([]LogEvent, 0, min(limit, f.n-first))
	for _, commit := range f.commits {
		if first >= len(commit) {
			first -= len(commit)
			continue
		}
		commit = commit[first:]
		events = append(events, commit[:min(len(commit), cap(events)-len(events))]...)
		first = 0
	}
	return events
}
