package agents

import (
	"context"
	"strings"
	"time"

	"changeover/internal/failover"
)

// rosterElsewhere is how long a Region may fail to continue a pass before the pass is begun anew in the other one.
const rosterElsewhere = 2 * time.Minute

// roster is the listing of one traffic distribution group's members.
type roster struct {
	Roster
	region   int // index of the Region that is asked: a token belongs to the Region that gave it
	running  bool
	due      time.Time // of the next page or pass
	failures int       // in a row
	failing  time.Time // since when
	complain complaint
}

// listMembers lists the members of all traffic distribution groups, ten a page, in the background, until ctx ends (R2). The groups take
// turns page by page, so that one which cannot be listed holds up no other.
func (r *Reader) listMembers(ctx context.Context, emit func(context.Context, failover.Observation)) {
	rosters := map[string]*roster{}
	for ctx.Err() == nil {
		r.mu.Lock()
		wanted, changed := r.rosters, r.changed
		r.mu.Unlock()
		next := r.nextRoster(rosters, wanted)
		wait := r.o.MembershipInterval
		if next != nil {
			wait = time.Until(next.due)
		}
		if wait <= 0 {
			r.listPage(ctx, emit, next)
			continue
		}
		sleepOr(ctx, changed, wait)
	}
}

// nextRoster brings rosters in line with what is wanted and returns the one that is due first, or nil.
func (r *Reader) nextRoster(rosters map[string]*roster, wanted []Roster) *roster {
	var next *roster
	keep := make(map[string]bool, len(wanted))
	for _, w := range wanted {
		keep[w.TDG] = true
		ro := rosters[w.TDG]
		if ro == nil {
			ro = r.resume(w)
			rosters[w.TDG] = ro
		}
		ro.ARN = w.ARN
		if next == nil || ro.due.Before(next.due) {
			next = ro
		}
	}
	for id := range rosters {
		if !keep[id] {
			delete(rosters, id)
		}
	}
	return next
}

// resume continues where the last leader stopped.
func (r *Reader) resume(w Roster) *roster {
	ro := &roster{Roster: w, due: time.Now()}
	region, token, found := strings.Cut(w.Progress.NextToken, " ")
	for i, g := range r.regions {
		if found && g.name == region {
			ro.region, ro.Progress.NextToken, ro.running = i, token, true
		}
	}
	if !ro.running {
		ro.Progress.NextToken = ""
		if done := w.Progress.CompletedAt; !done.IsZero() && !w.Progress.StartedAt.After(done) {
			ro.due = done.Add(r.o.MembershipInterval)
		}
	}
	ro.complain = complaint{log: r.regions[0].log.With("tdg", w.TDG), what: "members of the traffic distribution group"}
	return ro
}

// listPage reads one page.
func (r *Reader) listPage(ctx context.Context, emit func(context.Context, failover.Observation), ro *roster) {
	g := r.regions[ro.region]
	ro.complain.region = g.name
	if !ro.running {
		ro.running = true
		ro.Progress = failover.RosterPass{Pass: ro.Progress.Pass + 1, StartedAt: time.Now()}
	}
	page, err := g.client.ListTrafficDistributionGroupUsers(ctx, ro.ARN, ro.Progress.NextToken)
	if err != nil {
		r.rosterFailed(ctx, ro, err)
		return
	}
	ro.failures, ro.failing = 0, time.Time{}
	ro.complain.succeeded()
	o := failover.RosterPage{Group: r.o.Group, TDG: ro.TDG, Pass: ro.Progress.Pass, UserIDs: page.UserIDs, Last: page.NextToken == ""}
	ro.Progress.NextToken, ro.due = page.NextToken, time.Now()
	if o.Last {
		ro.running, ro.due = false, ro.Progress.StartedAt.Add(r.o.MembershipInterval)
	} else {
		o.NextToken = g.name + " " + page.NextToken
	}
	emit(ctx, o)
}

// rosterFailed decides how a pass goes on after a page that failed: the same page again, the pass anew where the
// token counts no more, or the pass anew in the other Region.
func (r *Reader) rosterFailed(ctx context.Context, ro *roster, err error) {
	now := time.Now()
	ro.complain.failed(ctx, err)
	if ro.failures++; ro.failures == 1 {
		ro.failing = now
	}
	ro.due = now.Add(backoff(ro.failures, listingBackoff))
	switch {
	case !transient(err):
		ro.running = false
		ro.Progress.NextToken = ""
		if ro.failures > 1 {
			ro.region = (ro.region + 1) % len(r.regions)
		}
	case now.Sub(ro.failing) >= rosterElsewhere:
		ro.running, ro.failing = false, now
		ro.region = (ro.region + 1) % len(r.regions)
	}
}
