package nemesis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/connect"
	"changeover/internal/connectsim"
)

const (
	replicas = 3
	agents   = 12 // at the beginning
	// atRest is how long everything may take to come to rest when nothing fails any more: a lost leader's lease takes up to
	// fifteen seconds.
	atRest = 40 * time.Second
)

// sequence is one run: everything in it comes from the seed, save what the machine does.
type sequence struct {
	*cluster
	t     testing.TB
	seed  uint64
	rng   *rand.Rand
	steps []step
	busy  sync.WaitGroup // steps that take their time
	// freed says that a lost leader's lease need not run out.
	freed bool
	// differing says that agents have another id in the replica's Region.
	differing bool
	scene     scene // that the next round begins with

	people   []string // ids; who is gone stays in the list
	gone     []leaver
	desktops []*desktop
	contacts []contact
	failures []string
	resuming int       // requests for the end of a pause that may still be carried out
	resumed  time.Time // when the last one was answered
	spared   int       // the replica that is never ended; -1: none
	since    time.Time

	forced            int
	events, failovers int // in the log by now
}

// step is something that happens at a moment of the sequence.
type step struct {
	at   time.Duration
	what string
	do   func()
}

// newSequence makes a floor and a service for it.
func newSequence(t testing.TB, program string, seed uint64) *sequence {
	rng := rand.New(rand.NewPCG(seed, 1))
	floor := connectsim.Config{
		Seed: seed, Agents: agents, RoutingProfiles: 1 + rng.IntN(4), MoveDelay: time.Duration(1+rng.IntN(400)) * time.Millisecond,
		Lag: time.Duration(rng.IntN(150)) * time.Millisecond, UpdateWindow: time.Duration(rng.IntN(80)) * time.Millisecond,
		ShowOffline: rng.IntN(4) == 0, DifferingUserIDs: rng.IntN(5) == 0,
	}
	if rng.IntN(3) == 0 {
		floor.View = connectsim.Global
	}
	if rng.IntN(4) == 0 {
		floor.TDGs = []connectsim.TDGConfig{{Name: "default", Default: true, Agents: 2}, {Name: "support", Agents: 1}}
	}
	pace, confirmations := 0.0, 1
	if rng.IntN(5) == 0 {
		pace = 10
	}
	if rng.IntN(5) == 0 {
		confirmations = 2
	}
	s := &sequence{t: t, seed: seed, rng: rng, freed: rng.IntN(5) > 0, spared: -1, scene: scenes[seed%uint64(len(scenes))]}
	if s.scene == curt { // where both Regions show everybody an answer always tells of those who have left, and so it does if it shows who is offline
		floor.View, floor.ShowOffline = connectsim.Regional, false
	}
	s.cluster = newCluster(t, program, newAmazon(floor), 0, replicas, func(c *config.Config) {
		c.Failover.Pace, c.Poll.Confirmations = pace, confirmations
		if floor.View == connectsim.Global {
			c.FailoverGroups[0].Routing = config.Global
		}
	})
	s.differing = floor.DifferingUserIDs
	for _, p := range s.amazon.Agents() {
		s.people = append(s.people, p.ID)
	}
	return s
}

// duration draws one between two.
func (s *sequence) duration(from, to time.Duration) time.Duration {
	return from + time.Duration(s.rng.Int64N(int64(to-from)))
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// plan draws what happens within a time.
func (s *sequence) plan(length time.Duration) {
	type kind struct {
		weight float64
		plan   func(at time.Duration)
	}
	kinds := []kind{
		{30, s.planContact}, {12, s.planShift}, {5, s.planSplit}, {3, s.planQuickShifts},
		{10, s.planFault}, {6, s.planSlow}, {5, s.planDown}, {3, s.planOldView},
		{4, s.planKill}, {4, s.planFreeze}, {2, s.planRestart},
		{4, s.planCut}, {3, s.planLose}, {3, s.planHang}, {2, s.planStorm}, {1.5, s.planPostgres},
		{8, s.planDrop}, {2, s.planDropAll}, {2, s.planSpoil}, {1, s.planJoin},
		{10, s.planReport}, {5, s.planForce}, {2, s.planPause}, {1, s.planForceAll}, {3, s.planSignOut}, {1, s.planHire}, {1.5, s.planDismiss},
	}
	total := 0.0
	for i := range kinds { // each sequence has its own character
		kinds[i].weight *= pick(s.rng, []float64{0, 0.5, 1, 1, 3})
		total += kinds[i].weight
	}
	if total == 0 {
		kinds[0].weight, total = 1, 1
	}
	begin := s.planScene()
	s.scene = pick(s.rng, scenes) // of the next round
	for range 5 + int(length.Seconds()*14) {
		x := s.rng.Float64() * total
		for _, k := range kinds {
			if x -= k.weight; x < 0 {
				k.plan(begin + s.duration(0, length))
				break
			}
		}
	}
	slices.SortStableFunc(s.steps, func(a, b step) int { return int(a.at - b.at) })
}

func (s *sequence) add(at time.Duration, do func(), what string, args ...any) {
	s.steps = append(s.steps, step{at, fmt.Sprintf(what, args...), do})
}

// own makes random numbers for a step that others run beside.
func (s *sequence) own() *rand.Rand { return rand.New(rand.NewPCG(s.rng.Uint64(), 3)) }

func (s *sequence) planContact(at time.Duration) {
	n, channel := s.rng.IntN(len(s.people)), pick(s.rng, []string{"VOICE", "VOICE", "VOICE", "CHAT", "CHAT", "TASK", "EMAIL"})
	state := pick(s.rng, []string{"", "", "", connectsim.StateConnecting, connectsim.StateIncoming, connectsim.StateMissed, connectsim.StateError})
	region := ""
	if s.amazon.State().View == connectsim.Global {
		region = pick(s.rng, []string{"", east, west})
	}
	contact := -1
	s.add(at, func() { contact = s.call(n, channel, region, state) }, "%s for agent %d %s %s", channel, n, region, state)
	if s.rng.IntN(6) == 0 {
		return // until the end
	}
	at += s.duration(50*time.Millisecond, 3*time.Second)
	if s.rng.IntN(2) == 0 {
		s.add(at, func() { s.hangUp(contact) }, "after-contact work of agent %d", n)
		at += s.duration(20*time.Millisecond, time.Second)
	}
	s.add(at, func() { s.clear(contact) }, "cleared by agent %d", n)
}

// call gives an agent a contact, and returns its number; -1: there is no such agent any more.
func (s *sequence) call(n int, channel, region, state string) int {
	if s.isGone(s.people[n]) {
		return -1
	}
	id, err := s.amazon.StartContactIn(region, s.people[n], channel)
	if err != nil {
		s.wrong("start a contact: %v", err)
		return -1
	}
	since := time.Now()
	p, err := s.amazon.Agent(s.people[n])
	if err != nil {
		s.wrong("look at agent %d: %v", n, err)
		return -1
	}
	i := slices.IndexFunc(p.Contacts, func(c connectsim.ContactInfo) bool { return c.ID == id })
	s.contacts = append(s.contacts, contact{id: id, agent: p.ID, channel: channel, region: p.Contacts[i].Region, since: since})
	if state != "" {
		_ = s.amazon.SetContactState(id, state)
	}
	return len(s.contacts) - 1
}

func (s *sequence) hangUp(contact int) {
	if contact >= 0 && s.contacts[contact].until.IsZero() {
		if s.contacts[contact].channel == "TASK" { // which has no after-contact work
			s.contacts[contact].until = time.Now()
		}
		_ = s.amazon.EndContact(s.contacts[contact].id)
	}
}

func (s *sequence) clear(contact int) {
	if contact >= 0 && s.contacts[contact].until.IsZero() {
		s.contacts[contact].until = time.Now()
		_ = s.amazon.ClearContact(s.contacts[contact].id)
	}
}

func (s *sequence) group() string {
	if groups := s.amazon.State().TDGs; len(groups) > 1 {
		return groups[s.rng.IntN(len(groups))].Name
	}
	return ""
}

// shift is refused while the one before it is in progress.
func (s *sequence) shift(group, to string, percent int) { _ = s.amazon.Shift(group, to, percent) }

func (s *sequence) planShift(at time.Duration) {
	group, to := s.group(), pick(s.rng, []string{east, west})
	s.add(at, func() { s.shift(group, to, 100) }, "shift %s to %s", group, to)
}

func (s *sequence) planSplit(at time.Duration) {
	group, percent := s.group(), 10*(1+s.rng.IntN(9))
	s.add(at, func() { s.shift(group, west, percent) }, "split %s, %d %% to %s", group, percent, west)
}

func (s *sequence) planQuickShifts(at time.Duration) {
	group, to := s.group(), pick(s.rng, []string{east, west})
	for range 2 + s.rng.IntN(3) {
		s.add(at, func() { s.shift(group, to, 100) }, "shift %s to %s, quickly", group, to)
		at += s.duration(5*time.Millisecond, 200*time.Millisecond)
		to = other(to)
	}
}

func other(region string) string {
	if region == east {
		return west
	}
	return east
}

func (s *sequence) planFault(at time.Duration) {
	region := pick(s.rng, []string{east, west, "*"})
	operation := pick(s.rng, []string{
		"*", connect.OpGetCurrentUserData, connect.OpGetCurrentUserData, connect.OpGetTrafficDistribution, connect.OpGetTrafficDistribution,
		connect.OpListTrafficDistributionGroups, connect.OpListUsers, connect.OpListRoutingProfiles, connect.OpDescribeContact,
		connect.OpListTrafficDistributionGroupUsers,
	})
	fault := pick(s.rng, connectsim.Faults)
	if fault == connectsim.FaultNotFound && (operation == "*" || operation == connect.OpGetCurrentUserData) {
		return // an agent whom Amazon Connect refuses to show is left alone for a minute, which no sequence waits for
	}
	s.add(at, func() { _ = s.amazon.SetFault(region, operation, fault) }, "%s of %s in %s", fault, operation, region)
	at += s.duration(100*time.Millisecond, 2500*time.Millisecond)
	s.add(at, func() { _ = s.amazon.ClearFault(region, operation) }, "%s of %s in %s is over", fault, operation, region)
}

func (s *sequence) planSlow(at time.Duration) {
	region := pick(s.rng, []string{east, west, "*"})
	latency := s.duration(20*time.Millisecond, 700*time.Millisecond)
	s.add(at, func() { _ = s.amazon.SetLatency(region, "*", latency) }, "%s answers after %s", region, latency)
	if to := pick(s.rng, []string{east, west}); s.rng.IntN(2) == 0 { // while reads are under way
		s.add(at+s.duration(50*time.Millisecond, 500*time.Millisecond), func() { s.shift("", to, 100) }, "shift to %s", to)
	}
	s.add(at+s.duration(200*time.Millisecond, 2*time.Second), func() { _ = s.amazon.SetLatency(region, "*", 0) }, "%s answers quickly", region)
}

func (s *sequence) planDown(at time.Duration) {
	region, mode := pick(s.rng, []string{east, west}), pick(s.rng, []connectsim.DownMode{connectsim.DownRefuse, connectsim.DownHang, connectsim.DownUnavailable})
	s.add(at, func() { _ = s.amazon.SetRegionDown(region, mode) }, "%s is down: %s", region, mode)
	if s.rng.IntN(2) == 0 { // the reason for most shifts
		s.add(at+s.duration(0, 300*time.Millisecond), func() { s.shift("", other(region), 100) }, "shift to %s", other(region))
	}
	s.add(at+s.duration(200*time.Millisecond, 4*time.Second), func() { _ = s.amazon.SetRegionDown(region, connectsim.Up) }, "%s is up", region)
}

func (s *sequence) planOldView(at time.Duration) {
	region, group := pick(s.rng, []string{east, west}), s.group()
	s.add(at, func() { _ = s.amazon.Freeze(region, group) }, "%s goes on showing what %s is now", region, group)
	s.add(at+s.duration(100*time.Millisecond, 3*time.Second), func() { _ = s.amazon.Thaw(region, group) }, "%s shows what %s is", region, group)
}

// victim draws a replica, most often the leader of the moment.
func (s *sequence) victim() func() *replica {
	n, leader := s.rng.IntN(len(s.replicas)), s.rng.IntN(3) > 0
	return func() *replica {
		if leader {
			return s.leader()
		}
		return s.replicas[n]
	}
}

// leader is who decides, or did last.
func (s *sequence) leader() *replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reigns) == 0 {
		return s.replicas[0]
	}
	return s.replicas[s.reigns[len(s.reigns)-1].replica]
}

// ended draws a replica that may be ended.
func (s *sequence) ended() func() *replica {
	victim := s.victim()
	return func() *replica { return s.notSpared(victim()) }
}

func (s *sequence) notSpared(r *replica) *replica {
	if r.n != s.spared {
		return r
	}
	return s.replicas[(s.spared+1)%len(s.replicas)]
}

func (s *sequence) planKill(at time.Duration) {
	victim, free, back := s.ended(), s.freed, s.duration(0, time.Second)
	s.add(at, func() {
		r := victim()
		s.busy.Go(func() {
			r.kill()
			if free {
				s.freeLease()
			}
			<-time.After(back)
			r.start()
		})
	}, "kill -9, back after %s", back)
}

func (s *sequence) planFreeze(at time.Duration) {
	victim, free, back := s.victim(), s.freed && s.rng.IntN(3) > 0, s.duration(20*time.Millisecond, 3*time.Second)
	s.add(at, func() {
		r := victim()
		s.busy.Go(func() {
			r.freeze()
			if free {
				s.freeLease()
			}
			<-time.After(back)
			r.thaw()
		})
	}, "frozen for %s, its lease freed: %t", back, free)
}

func (s *sequence) planRestart(at time.Duration) {
	victim := s.ended()
	s.add(at, func() {
		r := victim()
		s.busy.Go(func() {
			r.stop()
			r.start()
		})
	}, "restarted gently")
}

func (s *sequence) planCut(at time.Duration) {
	victim := s.victim()
	s.add(at, func() { victim().proxy.cut() }, "PostgreSQL's connections are cut")
}

func (s *sequence) planLose(at time.Duration) {
	victim, back := s.victim(), s.duration(50*time.Millisecond, 2*time.Second)
	s.add(at, func() {
		p := victim().proxy
		p.lose()
		s.busy.Go(func() { <-time.After(back); p.mend() })
	}, "PostgreSQL cannot be reached for %s", back)
}

func (s *sequence) planHang(at time.Duration) {
	victim, back := s.victim(), s.duration(50*time.Millisecond, 3*time.Second)
	s.add(at, func() {
		p := victim().proxy
		p.hang()
		s.busy.Go(func() { <-time.After(back); p.mend() })
	}, "PostgreSQL is silent for %s", back)
}

func (s *sequence) planStorm(at time.Duration) {
	victim := s.victim()
	for range 3 + s.rng.IntN(4) {
		s.add(at, func() { victim().proxy.cut() }, "PostgreSQL's connections are cut again and again")
		at += 300 * time.Millisecond
	}
}

func (s *sequence) planPostgres(at time.Duration) {
	crash, back := s.rng.IntN(2) == 0, s.duration(0, time.Second)
	s.add(at, func() {
		if crash {
			s.postgres.Kill()
		} else {
			s.postgres.Stop()
		}
		<-time.After(back)
		s.postgres.Start()
	}, "PostgreSQL is restarted, by a crash: %t, away for %s", crash, back)
}

func (s *sequence) planDrop(at time.Duration) {
	n, next := s.rng.IntN(1000), s.rng.IntN(len(s.replicas))
	s.add(at, func() { s.desktops[n%len(s.desktops)].drop(next, nil) }, "client %d goes to replica %d", n, next)
}

func (s *sequence) planDropAll(at time.Duration) {
	s.add(at, func() {
		for _, d := range s.desktops {
			d.drop(-1, nil)
		}
	}, "all clients drop")
}

func (s *sequence) planSpoil(at time.Duration) {
	n, spoil := s.rng.IntN(1000), s.rng.IntN(len(spoilers))
	s.add(at, func() { s.desktops[n%len(s.desktops)].drop(-1, spoilers[spoil]) }, "client %d comes with bad cursor %d", n, spoil)
}

func (s *sequence) planJoin(at time.Duration) {
	n := s.rng.IntN(len(s.people))
	s.add(at, func() { s.listen("late", s.people[n]) }, "another desktop of agent %d", n)
}

func (s *sequence) planReport(at time.Duration) {
	n, to, again, both := s.rng.IntN(len(s.people)), s.rng.IntN(len(s.replicas)), s.rng.IntN(4), s.rng.IntN(3) > 0
	for range 1 + again {
		s.add(at, func() {
			id := s.people[n]
			s.busy.Go(func() { s.report(to, id, both) })
		}, "agent %d reports", n)
		at += s.duration(100*time.Millisecond, 600*time.Millisecond)
	}
}

func (s *sequence) planForce(at time.Duration) {
	s.forced++
	rng, again, reason := s.own(), s.rng.IntN(3), fmt.Sprintf("force-%d", s.forced)
	s.add(at, func() {
		s.busy.Go(func() {
			status, body := s.ask(rng.IntN(len(s.replicas)), "GET", "/v1/failovers?limit=20", "", nil)
			if ids := failoverIDs(status, body); len(ids) > 0 {
				s.force(rng, pick(rng, ids), reason, again)
			}
		})
	}, "%s", reason)
}

func (s *sequence) planForceAll(at time.Duration) {
	s.forced++
	rng, again, reason := s.own(), s.rng.IntN(3), fmt.Sprintf("force-%d-of-all", s.forced)
	s.add(at, func() { s.busy.Go(func() { s.force(rng, "", reason, again) }) }, "%s", reason)
}

func (s *sequence) planPause(at time.Duration) {
	s.forced++
	begins, ends := s.rng.IntN(len(s.replicas)), s.rng.IntN(len(s.replicas))
	reason, length := fmt.Sprintf("pause-%d", s.forced), s.duration(100*time.Millisecond, 3*time.Second)
	s.add(at, func() {
		s.busy.Go(func() {
			status, body := s.ask(begins, "POST", "/v1/failover-groups/main/pause", "", map[string]any{"reason": reason, "ttlSeconds": 10})
			from := time.Now()
			<-time.After(length)
			s.mu.Lock()
			defer s.mu.Unlock()
			// Only while no other one has ended it.
			if status == 202 && strings.Contains(string(body), reason) && s.resuming == 0 && s.resumed.Before(from) {
				s.pauses = append(s.pauses, pause{from, time.Now()})
			}
		})
	}, "%s for %s", reason, length)
	s.add(at+length+s.duration(0, time.Second), func() { s.busy.Go(func() { s.resume(ends) }) }, "the end of %s", reason)
}

// resume ends whatever pause there is, and says whether that is so.
func (s *sequence) resume(replica int) bool {
	s.mu.Lock()
	s.resuming++ // and may be done at any time from now on
	s.mu.Unlock()
	status, body := s.ask(replica, "DELETE", "/v1/failover-groups/main/pause", "", nil)
	if status != 202 || strings.Contains(string(body), `"reason"`) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resuming--
	s.resumed = time.Now()
	return true
}

func (s *sequence) planSignOut(at time.Duration) {
	n := s.rng.IntN(len(s.people))
	s.add(at, func() { _ = s.amazon.SetAgentStatus(s.people[n], connectsim.StatusOffline) }, "agent %d signs out", n)
	s.add(at+s.duration(50*time.Millisecond, 2*time.Second), func() { _ = s.amazon.SetAgentStatus(s.people[n], connectsim.StatusAvailable) }, "agent %d signs in", n)
}

func (s *sequence) planHire(at time.Duration) {
	s.add(at, func() {
		if len(s.amazon.Agents()) == 3*agents || s.differing {
			return // until the users are listed, who has two ids can be taken for two people
		}
		id, err := s.amazon.AddAgent("", "")
		if err != nil {
			s.wrong("add an agent: %v", err)
			return
		}
		p, err := s.amazon.Agent(id)
		if err == nil {
			s.amazon.know(p)
			s.people = append(s.people, id)
		}
	}, "somebody is hired")
}

func (s *sequence) planDismiss(at time.Duration) {
	n := s.rng.IntN(len(s.people))
	s.add(at, func() { s.dismiss(n) }, "agent %d is removed", n)
}

// dismiss removes a user, who is forgotten on whatever they are doing; some always stay.
func (s *sequence) dismiss(n int) {
	p, err := s.amazon.Agent(s.people[n])
	if err != nil || len(s.amazon.Agents()) <= agents/2 {
		return
	}
	for i := range s.contacts { // go with them
		if c := &s.contacts[i]; c.agent == p.ID && c.until.IsZero() {
			c.until = time.Now()
		}
	}
	gone := leaver{person: person{p.ID, p.ActiveRegion, p.TargetRegion, p.RoutingProfile, p.TDG}, at: time.Now()}
	if err := s.amazon.RemoveAgent(p.ID); err != nil {
		s.wrong("remove agent %d: %v", n, err)
		return
	}
	s.gone = append(s.gone, gone)
}

func (s *sequence) isGone(id string) bool {
	return slices.ContainsFunc(s.gone, func(l leaver) bool { return l.id == id })
}

// listen opens a client.
func (s *sequence) listen(kind, agent string) {
	name := fmt.Sprintf("%s %d", kind, len(s.desktops))
	s.desktops = append(s.desktops, newDesktop(name, agent, kind == "poller", s.own().Uint64(), s.addresses, nil))
}

// begin starts everything, and returns when the floor is known.
func (s *sequence) begin() {
	for _, r := range s.replicas {
		r.start()
	}
	s.until("the floor is known", atRest, func() string { return s.unlike(func(p connectsim.AgentInfo) string { return p.ActiveRegion }) })
	for _, id := range s.people {
		s.listen("desktop", id)
	}
	for range 2 {
		s.listen("console", "")
		s.listen("poller", s.people[s.rng.IntN(agents)])
	}
}

// end stops all clients.
func (s *sequence) end() {
	for _, d := range s.desktops {
		d.stop()
	}
}

// round is one plan from its beginning to the rest that follows; it returns everything that the checker finds.
func (s *sequence) round(length time.Duration) []string {
	s.steps, s.failures, s.resuming = nil, nil, 0
	s.plan(length)
	begun := time.Now()
	for _, x := range s.steps {
		if wait := x.at - time.Since(begun); wait > 0 {
			<-time.After(wait)
		}
		x.do()
	}
	s.busy.Wait()
	s.mend()
	s.until("everything comes to rest", atRest, s.unrest)
	s.reread()
	r, err := s.record()
	require.NoError(s.t, err)
	s.events, s.failovers = len(r.log), len(r.failovers)
	return append(s.failures, check(r)...)
}

// reread has clients come that know only what was there before the round: one on each replica for everybody, and one for each agent. A replica
// that has lived through it all tells them from memory, one that was restarted from the database.
func (s *sequence) reread() {
	logID, log, err := s.readLog()
	require.NoError(s.t, err)
	from := cursor(logID, log[:s.events])
	read := func(agent string, replica int) {
		name := fmt.Sprintf("reader %d", len(s.desktops))
		s.desktops = append(s.desktops, newReader(name, agent, from, int64(s.events), false, s.own().Uint64(), s.addresses, func(int) int { return replica }))
	}
	for n := range s.replicas {
		read("", n)
	}
	for n, id := range s.people {
		if !s.isGone(id) {
			read(id, (n+int(s.seed))%len(s.replicas))
		}
	}
}

// cursor is the place behind the last of some events from the beginning of a log.
func cursor(logID string, log []logged) string {
	if len(log) == 0 {
		return logID + "-0-0"
	}
	last := log[len(log)-1]
	return fmt.Sprintf("%s-%d-%d", logID, last.epoch, last.seq)
}

// record is everything at one moment: nothing happens while it is made, or it is made again.
func (s *sequence) record() (r *record, err error) {
	for range 20 {
		if r, err = s.collect(s.contacts); err != nil {
			return nil, err
		}
		s.until("everybody has heard", atRest, s.unrest)
		for _, d := range s.desktops {
			r.clients = append(r.clients, d.heard())
		}
		_, log, err := s.readLog()
		if err != nil {
			return nil, err
		}
		if len(log) == len(r.log) {
			break
		}
	}
	r.since, r.gone = s.since, s.gone
	return r, nil
}

// until waits for something that only time brings; why says what is still in the way.
func (s *sequence) until(what string, within time.Duration, why func() string) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); ; <-tick.C {
		reason := why()
		if reason == "" {
			return
		}
		if time.Now().After(deadline) {
			s.failures = append(s.failures, fmt.Sprintf("patience: after %s it is not so that %s: %s", within, what, reason))
			return
		}
	}
}

// mend ends everything that fails, clears every contact, and shifts everybody to one Region.
func (s *sequence) mend() {
	s.amazon.ClearFaults()
	s.amazon.beCurt("")
	for _, region := range s.amazon.Regions() {
		_ = s.amazon.SetRegionDown(region, connectsim.Up)
		for _, g := range s.amazon.State().TDGs {
			_ = s.amazon.Thaw(region, g.Name)
		}
	}
	s.postgres.Start()
	for _, r := range s.replicas {
		r.proxy.mend()
		r.thaw()
		r.start()
	}
	s.until("completions go on", atRest, func() string {
		if !s.resume(s.rng.IntN(len(s.replicas))) {
			return "paused"
		}
		return ""
	})
	for i := range s.contacts {
		s.clear(i)
	}
	for _, id := range s.people {
		_ = s.amazon.SetAgentStatus(id, connectsim.StatusAvailable)
	}
	s.until("who was removed is forgotten", atRest, s.remembered)
	for i := range s.gone {
		if l := &s.gone[i]; l.noted.IsZero() {
			l.noted = time.Now()
		}
	}
	for _, g := range s.amazon.State().TDGs {
		to := pick(s.rng, []string{east, west})
		s.until("a distribution can be updated", 5*time.Second, func() string {
			if err := s.amazon.Shift(g.Name, to, 100); err != nil {
				return err.Error()
			}
			return ""
		})
		s.until("the distribution is in effect", 5*time.Second, func() string {
			for _, now := range s.amazon.State().TDGs {
				for _, share := range now.InEffect.Agents {
					if now.Name == g.Name && share.Region == to && (share.Percent < 100 || now.Status != "ACTIVE") {
						return fmt.Sprintf("%s is %s with %d %%", now.Name, now.Status, share.Percent)
					}
				}
			}
			return ""
		})
	}
}

// remembered says who is stored and no user any more.
func (s *sequence) remembered() (why string) {
	err := s.query(func(ctx context.Context, conn *pgx.Conn) error {
		for _, l := range s.gone {
			var there bool
			if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM agents WHERE agent_id = $1)", l.id).Scan(&there); err != nil {
				return err
			}
			if there {
				why = fmt.Sprintf("agent %s, removed %s", l.id, l.at.Format(clock))
			}
		}
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return why
}

// unlike says which agent's active region is not what it should be.
func (s *sequence) unlike(want func(connectsim.AgentInfo) string) (why string) {
	err := s.query(func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT agent_id, active_region, state FROM agents")
		if err != nil {
			return err
		}
		stored := map[string]string{}
		var id, region, state string
		if _, err := pgx.ForEachRow(rows, []any{&id, &region, &state}, func() error {
			stored[id] = state + " in " + region
			return nil
		}); err != nil {
			return err
		}
		for _, p := range s.amazon.Agents() {
			if w := "active in " + want(p); stored[p.ID] != w {
				why = fmt.Sprintf("agent %s is %q instead of %q", p.ID, stored[p.ID], w)
			}
		}
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return why
}

// unrest says what is not at rest yet.
func (s *sequence) unrest() string {
	s.mu.Lock()
	reporting := map[string]bool{}
	for _, r := range s.reports {
		reporting[r.agent] = true
	}
	s.mu.Unlock()
	for _, g := range s.amazon.State().TDGs {
		if g.ToMove > 0 {
			return fmt.Sprintf("%d agents have to move", g.ToMove)
		}
	}
	if why := s.unlike(func(p connectsim.AgentInfo) string { return p.TargetRegion }); why != "" {
		for agent := range reporting { // desktops go on telling what they see
			s.report(s.rng.IntN(len(s.replicas)), agent, true)
		}
		return why
	}
	waiting := 0
	err := s.query(func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT count(*) FROM inbox WHERE done_at IS NULL").Scan(&waiting)
	})
	if err != nil || waiting > 0 {
		return fmt.Sprintf("%d commands wait (%v)", waiting, err)
	}
	_, log, err := s.readLog()
	if err != nil {
		return err.Error()
	}
	last := map[string]int64{}
	for _, e := range log {
		last[e.agent], last[""] = e.seq, e.seq
	}
	for _, d := range s.desktops {
		if at := d.upTo(); at < last[d.agent] {
			return fmt.Sprintf("%s has heard everything up to %d, not to %d", d.name, at, last[d.agent])
		}
	}
	return ""
}

// story is what happened, for somebody who has to understand it.
func (s *sequence) story() string {
	var b strings.Builder
	for _, x := range s.steps {
		fmt.Fprintf(&b, "%8s  %s\n", x.at.Round(time.Millisecond), x.what)
	}
	return b.String()
}
