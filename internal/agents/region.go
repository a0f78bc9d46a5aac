package agents

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"changeover/internal/connect"
	"changeover/internal/failover"
)

// region is everything that is read from one Region. Regions share nothing, so that one which is down or hangs
// delays only itself.
type region struct {
	o        Options
	name     string
	instance string
	client   Client
	index    int     // 0 is the source
	parallel int     // contacts reads under way at once, for each of immediate reads and sweep
	other    *region // nil: there is none
	log      *slog.Logger

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when there may be something new to do
	list     []string      // routing profiles of the instance; nil: not known
	listedAt time.Time
	profiles map[string]*profile // of list

	items   map[string]*item // by failover id
	order   []*item          // as the core gave them: in order of detection
	jobs    []job            // what is left of the plan
	flying  int              // jobs of the plan under way
	replan  bool             // the plan does not cover everybody
	split   [][]*item        // halves of reads by id that were refused as a whole
	paused  time.Time        // after failures: no contacts read of agents with an open failover before this
	failed  int              // failures in a row
	yielded time.Time        // no rotation read before this, so that the sweep gets its share
	turns   int              // rotation reads since the last yield
	idle    time.Time        // there is nothing to read before this, unless the workers are woken

	sweptAt time.Time // when the last complete sweep ended

	complain complaint // drain reads; guarded by mu
}

func newRegion(r *Reader, in Instance, index int) *region {
	g := &region{
		o: r.o, name: in.Client.Region(), instance: in.ID, client: in.Client, index: index,
		parallel: min(max(int(math.Ceil(r.o.RequestsPerSecond*slowAnswer.Seconds())), 1), mostParallel),
		log:      r.o.Log.With("failover_group", r.o.Group), changed: make(chan struct{}),
	}
	g.complain = complaint{log: g.log, region: g.name, what: "contacts of agents with an open failover"}
	for _, other := range r.regions {
		g.other, other.other = other, g
	}
	g.reset()
	return g
}

// reset forgets what one Run was told. What the routing profiles hold stays: it only shapes the reads.
func (g *region) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.items, g.order, g.jobs, g.split = map[string]*item{}, nil, nil, nil
	g.flying, g.replan, g.failed, g.turns = 0, false, 0, 0
	g.paused, g.yielded, g.sweptAt, g.idle = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	for _, p := range g.profiles {
		p.filteredAt = time.Time{}
	}
}

func (g *region) run(ctx context.Context, emit func(context.Context, failover.Observation)) {
	var wg sync.WaitGroup
	for range g.parallel {
		wg.Go(func() { g.drain(ctx, emit) })
	}
	wg.Go(func() { g.sweep(ctx, emit) })
	wg.Go(func() { g.listUsers(ctx, emit) })
	wg.Wait()
}

// wake tells the drain workers; g.mu is held.
func (g *region) wake() {
	g.idle = time.Time{}
	close(g.changed)
	g.changed = make(chan struct{})
}

// setItems takes the agents that the core wants read, keeping what is known of those that it wanted before.
func (g *region) setItems(drain []failover.DrainItem) {
	g.mu.Lock()
	defer g.mu.Unlock()
	items := make(map[string]*item, len(g.items))
	clear(g.order) // after a shift of the whole floor nothing holds its items
	g.order = g.order[:0]
	for i := range drain {
		d := &drain[i]
		if d.Group != g.o.Group || d.Region != g.name {
			continue
		}
		it := g.items[d.FailoverID]
		if it == nil {
			it = &item{wanted: d.DetectedAt}
			if !d.Fresh && d.ReadAt.After(d.DetectedAt) { // it was read, and that counts no more
				it.wanted = time.Now()
			}
			g.replan = g.replan || !d.Fresh
		} else if !d.Fresh && d.RoutingProfile == "" && it.RoutingProfile != "" {
			// A sweep that was under way at the detection has missed the agent: the core concludes nothing from a set of
			// routing profiles any more (R6), and what seemed settled by one is not.
			it.settledAt, g.replan = time.Time{}, true
		}
		it.DrainItem = *d
		items[d.FailoverID] = it
		g.order = append(g.order, it)
	}
	if len(items) > 0 || len(g.items) > 0 {
		g.wake()
	}
	g.items = items
}

// refreshProfiles lists the instance's routing profiles if the list is older than maxAge. A list that cannot be had
// leaves the last good one.
func (g *region) refreshProfiles(ctx context.Context, maxAge time.Duration) error {
	g.mu.Lock()
	fresh := g.list != nil && time.Since(g.listedAt) < maxAge
	g.mu.Unlock()
	if fresh {
		return nil
	}
	list, err := g.client.ListRoutingProfiles(ctx, g.instance)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	profiles := make(map[string]*profile, len(list))
	for _, id := range list {
		p := g.profiles[id]
		if p == nil {
			p = &profile{online: -1, busy: -1}
		}
		profiles[id] = p
	}
	g.replan = g.replan || !slices.Equal(g.list, list)
	g.list, g.profiles, g.listedAt = list, profiles, time.Now()
	g.wake()
	return nil
}

// counts are the agents that a chunk showed, of one routing profile.
type counts struct{ online, busy int }

// readChunk reads a set of routing profiles to the last page, filtered to agents with contacts or not, and emits it:
// page by page, and its completion. It returns when the first request left (zero: it failed) and who was shown. before is called before each
// request and may wait.
func (g *region) readChunk(ctx context.Context, emit func(context.Context, failover.Observation), p connect.Priority, profiles []string, filtered bool,
	before func()) (startedAt time.Time, shown map[string]bool, err error) {
	shown = map[string]bool{}
	seen := make(map[string]counts, len(profiles))
	q := connect.UserDataQuery{InstanceID: g.instance, RoutingProfiles: profiles, OnlyWithContacts: filtered}
	for {
		before()
		page, err := g.client.CurrentUserData(ctx, p, q)
		if err != nil {
			g.unavailable(ctx, emit, err)
			return startedAt, nil, err
		}
		if q.NextToken == "" {
			startedAt = page.StartedAt
		}
		users := make([]failover.UserRecord, len(page.Users))
		for i := range page.Users {
			users[i] = record(&page.Users[i])
			c := seen[users[i].RoutingProfile]
			c.online++
			if len(users[i].Contacts) > 0 {
				c.busy++
			}
			seen[users[i].RoutingProfile] = c
			shown[users[i].ID] = true
		}
		if len(users) > 0 {
			emit(ctx, failover.UserData{Group: g.o.Group, Region: g.name, StartedAt: page.StartedAt, Users: users})
		}
		if page.NextToken == "" {
			break
		}
		q.NextToken = page.NextToken
	}
	if ctx.Err() != nil { // emit may have left out a page
		return startedAt, nil, ctx.Err()
	}
	emit(ctx, failover.ChunkComplete{Group: g.o.Group, Region: g.name, StartedAt: startedAt, Filtered: filtered, Profiles: profiles})

	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range profiles {
		p := g.profiles[id]
		if p == nil { // not in the latest list
			continue
		}
		c := seen[id]
		p.busy = c.busy
		if filtered {
			p.filteredAt = startedAt
		} else {
			p.online = c.online
		}
	}
	return startedAt, shown, nil
}

// readIDs reads agents by id, all of them or none, and emits what the answer holds and who is absent from it. It returns when the
// first request left.
func (g *region) readIDs(ctx context.Context, emit func(context.Context, failover.Observation), ids []string) (time.Time, error) {
	q := connect.UserDataQuery{InstanceID: g.instance, AgentIDs: ids}
	var all failover.UserData
	missing := make(map[string]bool, len(ids))
	for _, id := range ids {
		missing[id] = true
	}
	for {
		page, err := g.client.CurrentUserData(ctx, connect.Drain, q)
		if err != nil {
			g.unavailable(ctx, emit, err)
			return time.Time{}, err
		}
		if q.NextToken == "" {
			all = failover.UserData{Group: g.o.Group, Region: g.name, StartedAt: page.StartedAt}
		}
		for i := range page.Users {
			u := record(&page.Users[i])
			delete(missing, u.ID)
			all.Users = append(all.Users, u)
		}
		if page.NextToken == "" {
			break
		}
		q.NextToken = page.NextToken
	}
	for _, id := range ids {
		if missing[id] {
			all.Absent = append(all.Absent, id)
		}
	}
	emit(ctx, all)
	return all.StartedAt, nil
}

// unavailable emits that a contacts read got no answer. A request that was not sent is no evidence of that.
func (g *region) unavailable(ctx context.Context, emit func(context.Context, failover.Observation), err error) {
	if connect.KindOf(err) == connect.Unavailable && !errors.Is(err, connect.ErrCircuitOpen) && ctx.Err() == nil {
		emit(ctx, failover.ContactsUnavailable{Group: g.o.Group, Region: g.name, At: time.Now()})
	}
}

// record makes the core's form of an agent in an answer.
//
// Amazon documents neither whether agents who are offline are in the answer nor what their Status holds then, and an answer carries
// no status type. What is known is that the status that every instance has for it is named "Offline" (the agent event
// stream and the Contact Control Panel call it so), so that name, in any case, is offline. A record without a status name
// counts as offline, too: presence only ever says something for agents of whom it is certain.
func record(u *connect.UserData) failover.UserRecord {
	r := failover.UserRecord{
		ID: u.UserID, RoutingProfile: u.RoutingProfileID,
		Offline: u.StatusName == "" || strings.EqualFold(u.StatusName, "Offline"),
	}
	if len(u.Contacts) > 0 {
		r.Contacts = make([]failover.Contact, len(u.Contacts))
	}
	for i, c := range u.Contacts {
		began := c.ConnectedAt
		if began.IsZero() {
			began = c.StateSince
		}
		r.Contacts[i] = failover.Contact{ID: c.ID, Channel: c.Channel, State: c.State, StateSince: c.StateSince, Began: began}
	}
	return r
}
