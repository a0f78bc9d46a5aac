package agents

import (
	"context"
	"time"

	"changeover/internal/connect"
	"changeover/internal/failover"
)

const (
	// lookupTries is how often a contact is asked for while nobody answers, before its Region counts as one that cannot be told.
	lookupTries = 5
	// lookupAgain is how long an answer is given time to have its effect.
	lookupAgain = time.Minute
)

// lookup is the progress of one look-up.
type lookup struct {
	tries int
	due   time.Time
}

// lookUp asks once for each contact whose Region the core wants to know (R20), until ctx ends. With global routing both Regions
// answer alike, so the other one is asked when the first does not answer.
func (r *Reader) lookUp(ctx context.Context, emit func(context.Context, failover.Observation)) {
	progress := map[string]*lookup{}
	complain := complaint{log: r.regions[0].log, what: "regions of contacts"}
	for ctx.Err() == nil {
		r.mu.Lock()
		wanted, changed := r.lookups, r.changed
		r.mu.Unlock()

		var next *failover.LookupItem
		keep := make(map[string]*lookup, len(wanted))
		for i, w := range wanted {
			p := progress[w.ContactID]
			if p == nil {
				p = &lookup{due: time.Now()}
			}
			keep[w.ContactID] = p
			if next == nil || p.due.Before(keep[next.ContactID].due) {
				next = &wanted[i]
			}
		}
		progress = keep
		wait := lookupAgain
		if next != nil {
			wait = time.Until(progress[next.ContactID].due)
		}
		if wait <= 0 {
			r.lookUpOne(ctx, emit, *next, progress[next.ContactID], &complain)
			continue
		}
		sleepOr(ctx, changed, wait)
	}
}

func (r *Reader) lookUpOne(ctx context.Context, emit func(context.Context, failover.Observation), w failover.LookupItem, p *lookup, complain *complaint) {
	p.tries++
	g := r.regions[0]
	for _, other := range r.regions {
		if other.name == w.Region {
			g = other
		}
	}
	if p.tries%2 == 0 && g.other != nil {
		g = g.other
	}
	complain.region = g.name
	info, err := g.client.DescribeContact(ctx, g.instance, w.ContactID)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		complain.failed(ctx, err)
		kind := connect.KindOf(err)
		if (kind == connect.Unavailable || kind == connect.Throttled) && p.tries < lookupTries {
			p.due = time.Now().Add(backoff(p.tries, r.o.DrainInterval))
			return
		}
	} else {
		complain.succeeded()
	}
	p.tries, p.due = 0, time.Now().Add(lookupAgain)
	emit(ctx, failover.ContactLocated{AgentID: w.AgentID, ContactID: w.ContactID, Region: info.ActiveRegion})
}
