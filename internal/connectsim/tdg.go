package connectsim

import (
	"slices"
	"sort"
	"time"
)

// Share is one Region's part of a distribution.
type Share struct {
	Region  string `json:"region"`
	Percent int    `json:"percent"`
}

// SignIn says whether agents sign in through a Region.
type SignIn struct {
	Region  string `json:"region"`
	Enabled bool   `json:"enabled"`
}

// Distributions are those of a traffic distribution group. A nil one is not given: unchanged in an update,
// absent from an answer.
type Distributions struct {
	Telephony []Share  `json:"telephony"`
	Agents    []Share  `json:"agents"`
	SignIn    []SignIn `json:"signIn"`
}

func (d Distributions) clone() Distributions {
	return Distributions{Telephony: slices.Clone(d.Telephony), Agents: slices.Clone(d.Agents), SignIn: slices.Clone(d.SignIn)}
}

// with is d with everything that the update gives.
func (d Distributions) with(u Distributions) Distributions {
	u = u.clone()
	if u.Telephony != nil {
		d.Telephony = u.Telephony
	}
	if u.Agents != nil {
		d.Agents = u.Agents
	}
	if u.SignIn != nil {
		d.SignIn = u.SignIn
	}
	return d
}

func percentOf(shares []Share, region string) int {
	for _, s := range shares {
		if s.Region == region {
			return s.Percent
		}
	}
	return 0
}

// Statuses of a traffic distribution group that the simulator gives.
const (
	tdgCreating = "CREATION_IN_PROGRESS"
	tdgActive   = "ACTIVE"
	tdgUpdating = "UPDATE_IN_PROGRESS"
	tdgDeleting = "PENDING_DELETION"
)

// tdg is a traffic distribution group.
type tdg struct {
	seq                   int
	deleted               bool
	id, name, description string
	isDefault             bool
	tags                  map[string]string

	status  string        // Amazon's own, in no Region's view
	version uint64        // of the last published view
	dist    Distributions // in effect: where agents go
	views   [2]tdgView    // what each Region answers
	members []*agent      // by seq
}

// tdgView is what one Region knows of a group.
type tdgView struct {
	exists  bool
	status  string
	dist    Distributions
	version uint64 // what was published later is not overtaken by what arrives later

	frozen bool
	latest *tdgView // what it would be if it were not frozen; nil: the same
}

// arn of the group, which names the source Region wherever it is read.
func (s *Sim) tdgARN(t *tdg) string {
	return "arn:aws:connect:" + s.cfg.Regions[0] + ":" + s.cfg.Account + ":traffic-distribution-group/" + t.id
}

func (s *Sim) newTDG(c TDGConfig) *tdg {
	percent := c.Percent
	switch {
	case percent == 0:
		percent = 100
	case percent < 0:
		percent = 0
	}
	t := &tdg{seq: len(s.tdgs), id: c.ID, name: c.Name, isDefault: c.Default, status: tdgActive}
	if t.id == "" {
		if c.Default {
			t.id = DefaultTDGID
		} else {
			t.id = s.uuidOf("traffic-distribution-group", c.Name)
		}
	}
	t.dist = s.distributionsFor(1, 100-percent, c.Default)
	for i := range t.views {
		t.views[i] = tdgView{exists: true, status: tdgActive, dist: t.dist}
	}
	return t
}

// distributionsFor gives a Region a percentage of everything, and sign-in to the Regions that have a part.
func (s *Sim) distributionsFor(region, percent int, signIn bool) Distributions {
	shares := []Share{{s.cfg.Regions[0], percent}, {s.cfg.Regions[1], percent}}
	shares[1-region].Percent = 100 - percent
	d := Distributions{Telephony: shares, Agents: slices.Clone(shares)}
	if signIn {
		for _, sh := range shares {
			d.SignIn = append(d.SignIn, SignIn{sh.Region, sh.Percent > 0})
		}
	}
	return d
}

// findTDG finds a group as the operations do: by its ARN from anywhere, by its bare id only in the Region where it
// was made.
func (s *Sim) findTDG(region int, idOrARN string) *tdg {
	for _, t := range s.tdgs {
		if t.views[region].exists && (idOrARN == s.tdgARN(t) || region == 0 && idOrARN == t.id) {
			return t
		}
	}
	return nil
}

// namedTDG finds a group by name, id or ARN, for the methods and the control API.
func (s *Sim) namedTDG(name string) *tdg {
	for _, t := range s.tdgs {
		if !t.deleted && (name == t.name || name == t.id || name == s.tdgARN(t) || name == "" && t.isDefault) {
			return t
		}
	}
	return nil
}

// join makes an agent a member.
func (s *Sim) join(a *agent, t *tdg) {
	a.tdg = t
	i := sort.Search(len(t.members), func(i int) bool { return t.members[i].seq >= a.seq })
	t.members = slices.Insert(t.members, i, a)
}

// leave takes an agent out of its group.
func (s *Sim) leave(a *agent) {
	if a.tdg == nil {
		return
	}
	t := a.tdg
	a.tdg = nil
	if i := slices.Index(t.members, a); i >= 0 {
		t.members = slices.Delete(t.members, i, i+1)
	}
}

// show changes what a Region answers, unless it is frozen.
func (t *tdg) show(region int, v tdgView) {
	old := &t.views[region]
	switch {
	case !old.frozen:
		if v.version > old.version {
			*old = v
		}
	case old.latest == nil && v.version > old.version, old.latest != nil && v.version > old.latest.version:
		old.latest = &v
	}
}

// publish shows a state of the group in the Region where it was asked for and, a lag later, in the other.
func (s *Sim) publish(t *tdg, asked int, v tdgView) {
	t.version++
	v.version = t.version
	t.show(asked, v)
	if s.cfg.Lag <= 0 {
		t.show(1-asked, v)
		return
	}
	s.schedule(s.cfg.Lag, event{kind: eventFunc, fn: func() { t.show(1-asked, v) }})
}

// afterWindow does something when the window of an update closes.
func (s *Sim) afterWindow(fn func()) {
	if s.cfg.UpdateWindow <= 0 {
		fn()
		return
	}
	s.schedule(s.cfg.UpdateWindow, event{kind: eventFunc, fn: fn})
}

// update starts an update that has passed its checks.
func (s *Sim) update(t *tdg, asked int, d Distributions) {
	next := t.dist.with(d)
	if s.cfg.UpdateWindow > 0 {
		t.status = tdgUpdating
		s.publish(t, asked, tdgView{exists: true, status: tdgUpdating, dist: t.dist})
	}
	s.afterWindow(func() {
		t.status = tdgActive
		t.dist = next
		s.publish(t, asked, tdgView{exists: true, status: tdgActive, dist: next})
		s.retarget(t)
	})
}

// target is the Region where Amazon Connect wants the agent, or -1. In a split the agent's hash decides, so that a
// further step moves only the difference.
func (s *Sim) target(a *agent) int {
	if a.tdg == nil || a.tdg.dist.Agents == nil {
		return -1
	}
	if a.hash%100 < uint64(percentOf(a.tdg.dist.Agents, s.cfg.Regions[0])) {
		return 0
	}
	return 1
}

// retarget plans the moves of a group's members.
func (s *Sim) retarget(t *tdg) {
	for _, a := range t.members {
		s.planMove(a)
	}
}

// planMove lets an agent's desktop notice after a while where it should be.
func (s *Sim) planMove(a *agent) {
	a.moveGen++
	a.waiting = false
	if t := s.target(a); t < 0 || t == a.region {
		return
	}
	var delay time.Duration
	if s.cfg.MoveDelay > 0 && a.status != StatusOffline {
		delay = time.Duration(s.rng.Int64N(int64(s.cfg.MoveDelay)))
	}
	s.schedule(delay, event{kind: eventMove, agent: a, gen: a.moveGen})
}

// tryMove moves an agent to its target Region, or lets it wait for its contacts.
func (s *Sim) tryMove(a *agent, gen uint32) {
	if gen != a.moveGen || a.removed {
		return
	}
	target := s.target(a)
	if target < 0 || target == a.region {
		a.waiting = false
		return
	}
	for _, c := range a.contacts {
		if c.holds(target) {
			a.waiting = true
			return
		}
	}
	s.move(a, target)
}

// move makes an agent active in a Region.
func (s *Sim) move(a *agent, target int) {
	a.waiting = false
	a.region = target
	a.movedAt = s.now
	if a.status != StatusOffline && s.cfg.AvailableAfter > 0 {
		a.status = StatusOffline
		a.readyGen++
		s.schedule(s.cfg.AvailableAfter, event{kind: eventReady, agent: a, gen: a.readyGen})
	}
	a.statusSince = s.now
}

// setReady ends the time after a move in which the agent is not available yet.
func (s *Sim) setReady(a *agent, gen uint32) {
	if gen == a.readyGen && !a.removed && a.status == StatusOffline {
		a.status = StatusAvailable
		a.statusSince = s.now
	}
}

// holds says whether the contact keeps its agent from moving: voice and chat do until they are cleared, tasks and
// mail never do.
func (c *contact) holds(target int) bool {
	return (c.channel == ChannelVoice || c.channel == ChannelChat) && c.region != target
}

// Freeze keeps what a Region answers about a group as it is, whatever happens to the group, until Thaw.
// It is how a Region comes back with yesterday's distribution.
func (s *Sim) Freeze(region, tdg string) error { return s.setFrozen(region, tdg, true) }

// Thaw ends Freeze: the Region answers the present state.
func (s *Sim) Thaw(region, tdg string) error { return s.setFrozen(region, tdg, false) }

func (s *Sim) setFrozen(region, tdg string, frozen bool) error {
	s.lock()
	defer s.mu.Unlock()
	r, err := s.mustRegion(region)
	if err != nil {
		return err
	}
	t := s.namedTDG(tdg)
	if t == nil {
		return errNoTDG(tdg)
	}
	v := &t.views[r]
	if !frozen && v.latest != nil {
		*v = *v.latest
	}
	v.frozen = frozen
	return nil
}
