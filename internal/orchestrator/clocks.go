package orchestrator

import (
	"context"
	"reflect"
	"slices"
	"time"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// clock is the time by which a leader decides: the database's when this process first asked for it, gone on since by the monotonic clock of this
// machine. So leaders, one after the other, decide by one clock, whatever those of their machines say; and when one is set, the database's too, no
// time passes by that. What readers and metrics say is this machine's time; of and local translate.
type clock struct {
	at, since time.Time     // the database's, without a monotonic reading; this machine's, with one
	unsure    time.Duration // by how much the database's may be later than at
}

func (c *clock) started() bool { return !c.since.IsZero() }

// of is the time by which is decided at a moment of this machine.
func (c *clock) of(local time.Time) time.Time {
	if local.IsZero() {
		return local
	}
	return c.at.Add(local.Sub(c.since))
}

// local is this machine's time of a moment by which is decided.
func (c *clock) local(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return c.since.Add(t.Sub(c.at))
}

func (c *clock) now() time.Time { return c.of(time.Now()) }

// catchUp sets the clock forward to a later time, as far as the answer of a slow database leaves that open, and says whether it could.
func (c *clock) catchUp(later time.Time) bool {
	ahead := later.Sub(c.now())
	if ahead <= 0 || ahead > c.unsure {
		return false
	}
	c.at, c.unsure = c.at.Add(ahead), c.unsure-ahead
	return true
}

// follow brings the clock a little nearer to the database's, more than machines without a time server drift apart and next to nothing of what a clock is set by.
func (c *clock) follow(at time.Time) {
	if !c.catchUp(at) {
		c.at = c.at.Add(min(max(at.Sub(c.now()), -followAtMost), followAtMost))
	}
}

// followAtMost is by how much each comparison sets the clock: 0.8 of a thousandth of the time in between.
const followAtMost = 50 * time.Millisecond

// observed translates an observation of a reader. What a contact says of itself is Amazon Connect's time, and stays.
func (c *clock) observed(o failover.Observation) failover.Observation {
	switch o := o.(type) {
	case failover.TDGsListed:
		o.At = c.of(o.At)
		return o
	case failover.DistributionRound:
		o.TickAt = c.of(o.TickAt)
		return o
	case failover.UsersListed:
		o.StartedAt = c.of(o.StartedAt)
		return o
	case failover.UserData:
		o.StartedAt = c.of(o.StartedAt)
		return o
	case failover.ChunkComplete:
		o.StartedAt = c.of(o.StartedAt)
		return o
	case failover.PassComplete:
		o.StartedAt, o.FinishedAt = c.of(o.StartedAt), c.of(o.FinishedAt)
		return o
	case failover.ContactsUnavailable:
		o.At = c.of(o.At)
		return o
	}
	return o
}

// work translates what readers are told of open failovers.
func (c *clock) work(w failover.Work) failover.Work {
	for i := range w.Drain {
		d := &w.Drain[i]
		d.DetectedAt, d.ReadAt = c.local(d.DetectedAt), c.local(d.ReadAt)
	}
	return w
}

func (c *clock) roster(p failover.RosterPass) failover.RosterPass {
	p.StartedAt, p.CompletedAt, p.ListedFrom = c.local(p.StartedAt), c.local(p.CompletedAt), c.local(p.ListedFrom)
	return p
}

// health translates what the clients say of the Regions.
func (c *clock) health(list []store.RegionHealth) []store.RegionHealth {
	list = slices.Clone(list)
	for i := range list {
		h := &list[i]
		h.Since, h.LastSuccess, h.LastErrorAt = c.of(h.Since), c.of(h.LastSuccess), c.of(h.LastErrorAt)
	}
	return list
}

// askClock asks for the database's time, and for the clock that begins with it. An answer takes a while to come, so the clock may be behind by that,
// never ahead. The first one may have waited for a connection: the best of a few is taken.
func askClock(ctx context.Context, s Store) (best clock, err error) {
	for range 3 {
		asked := time.Now()
		at, err := s.Clock(ctx)
		now := time.Now()
		switch c := (clock{at: at, since: now, unsure: now.Sub(asked)}); {
		case err != nil && best.started():
			return best, nil
		case err != nil:
			return clock{}, err
		case !best.started() || c.unsure < best.unsure:
			best = c
		}
		if best.unsure < sureEnough {
			break
		}
	}
	return best, nil
}

// sureEnough is how exactly the time has to be known for nobody to ask again.
const sureEnough = 10 * time.Millisecond

// tolerated is by how much the clocks of replicas and of the database may differ before that is worth a warning.
const tolerated = 5 * time.Second

// compareClocks tells, now and then, by how much this machine's clock is ahead of the database's. What is decided does not depend on it, but certificates, tokens
// and what is written to the log do.
func (o *Orchestrator) compareClocks(ctx context.Context) {
	asked := time.Now()
	if !o.compared.IsZero() && asked.Sub(o.compared) < compareEvery {
		return
	}
	o.compared = asked
	ctx, cancel := context.WithTimeout(ctx, renewAgain) // the lease is more urgent
	defer cancel()
	c, err := askClock(ctx, o.o.Store)
	if err != nil {
		return // which the lease says, too
	}
	if !o.clock.started() {
		o.clock = c
	}
	o.clock.follow(c.now())
	ahead := c.since.Add(-c.unsure / 2).Round(0).Sub(c.at)
	o.o.Metrics.ahead.Set(ahead.Seconds())
	if ahead.Abs() > tolerated+c.unsure {
		o.o.Log.Warn("the clocks of this machine and of PostgreSQL's differ, which no decision depends on; one of them is wrong", "ahead", ahead.Round(time.Millisecond))
	}
}

// latest is the latest time in v, a pointer, but for [dues].
func latest(v any) (t time.Time) {
	walk(reflect.ValueOf(v), func(at *time.Time) {
		if at.After(t) {
			t = *at
		}
	})
	return t
}

// notAfter replaces every time in v, a pointer, that is later than now by now. What was loaded may have been written when the database's clock, or
// that of the server before it, was ahead of what it is: a read that begins now would then seem to be older than what it has to be newer than, and be ignored for as long.
// What has not come yet ([dues]) stays.
func notAfter(v any, now time.Time) {
	walk(reflect.ValueOf(v), func(t *time.Time) {
		if t.After(now) {
			*t = now
		}
	})
}

// dues are the fields that hold the time of something that is to come: the end of a pause or a drill, the turn of one who is forced among many.
var dues = map[string]bool{"Until": true, "ForceAt": true}

var timeType = reflect.TypeFor[time.Time]()

// walk visits every time that can be reached by exported fields.
func walk(v reflect.Value, visit func(*time.Time)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walk(v.Elem(), visit)
		}
	case reflect.Slice:
		if k := v.Type().Elem().Kind(); k == reflect.Struct || k == reflect.Pointer || k == reflect.Slice || k == reflect.Map {
			for i := range v.Len() {
				walk(v.Index(i), visit)
			}
		}
	case reflect.Map:
		if v.Type().Elem().Kind() != reflect.Struct && v.Type().Elem().Kind() != reflect.Pointer {
			return
		}
		for _, key := range v.MapKeys() { // what a map holds cannot be changed in its place
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			walk(value, visit)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		if v.Type() == timeType {
			visit(v.Addr().Interface().(*time.Time))
			return
		}
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && !dues[v.Type().Field(i).Name] { // it is exported
				walk(f, visit)
			}
		}
	}
}
