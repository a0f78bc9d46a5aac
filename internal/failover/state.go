package failover

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// State is everything that the rules know. One goroutine owns it.
type State struct {
	set    Settings
	newID  func(now time.Time) string
	groups map[string]*Group
	tdgs   map[string]*TDG
	agents map[string]*Agent

	// Indexes over agents.
	byGroup   map[string][]*Agent     // sorted by id as loaded, later ones behind
	byProfile map[profileKey][]*Agent // by the routing profile that was last seen; each agent knows its place
	byName    map[nameKey]*Agent      // R2
	byAlias   map[aliasKey]*Agent     // R2
	open      []*Agent                // with an open failover, in order of detection; others in between are skipped
	tdgsOf    map[string][]*TDG       // of a failover group, sorted by id

	// What ListUsers told of users who are no agents yet (R2): usernames of the source by id, ids of the replica by username.
	names    map[aliasKey]mention
	replicas map[nameKey]mention

	// left are the routing profiles that a read showed somebody to have left, and when that read began (R6). A new leader learns of
	// it anew from its own reads.
	left map[profileKey]time.Time

	drills map[string]*Drill // under way, by failover group

	startedAt time.Time // of Started; before it nobody here asked anything, so no silence counts (R9)
}

type nameKey struct{ group, username string }

type aliasKey struct{ group, region, id string }

type profileKey struct{ group, profile string }

// mention is an id or a username that ListUsers told, and when that pass began, in Unix microseconds.
type mention struct {
	value  string
	listed int64
}

// Snapshot is a State as it is stored.
type Snapshot struct {
	Groups []*Group
	TDGs   []*TDG
	Agents []*Agent
	Drills []*Drill // that have not ended
}

// Streams notes in a Snapshot who has an open event stream, which is stored with an agent only now and then.
func (s *Snapshot) Streams(o Streaming, now time.Time) {
	for _, a := range s.Agents {
		since, open := o.Since[a.ID]
		a.streams(since, open, now)
	}
}

// New makes a State from what is stored and what is configured. What is stored of failover groups or traffic distribution
// groups that are configured no more is left out. newID gives the ids of failovers (UUIDv7). The State takes over what is stored.
func New(settings Settings, groups []GroupConfig, stored Snapshot, newID func(now time.Time) string) *State {
	s := &State{
		set: settings, newID: newID,
		groups:  make(map[string]*Group, len(groups)),
		tdgs:    make(map[string]*TDG, len(stored.TDGs)),
		agents:  make(map[string]*Agent, len(stored.Agents)),
		byGroup: make(map[string][]*Agent, len(groups)), byProfile: make(map[profileKey][]*Agent),
		byName:  make(map[nameKey]*Agent, len(stored.Agents)),
		byAlias: make(map[aliasKey]*Agent),
		tdgsOf:  make(map[string][]*TDG, len(groups)),
		names:   make(map[aliasKey]mention), replicas: make(map[nameKey]mention),
		left: make(map[profileKey]time.Time), drills: make(map[string]*Drill),
	}
	for _, c := range groups {
		g := &Group{GroupConfig: c}
		for _, old := range stored.Groups {
			if old.Name == c.Name {
				g = old
				g.GroupConfig = c
			}
		}
		s.groups[c.Name] = g
	}
	for _, t := range stored.TDGs {
		if g := s.groups[t.Group]; g != nil && g.wants(t.ID) {
			s.addTDG(t)
		}
	}
	for _, d := range stored.Drills {
		if s.groups[d.Group] != nil {
			s.drills[d.Group] = d
		}
	}
	agents := slices.Clone(stored.Agents)
	slices.SortFunc(agents, func(a, b *Agent) int { return strings.Compare(a.ID, b.ID) })
	for _, a := range agents {
		if s.groups[a.Group] == nil {
			continue
		}
		for i := range a.Lists {
			a.Lists[i].savedAt = a.Lists[i].ReadAt
		}
		s.index(a)
		if a.Failover != nil {
			s.open = append(s.open, a)
			a.listed = true
		}
	}
	slices.SortFunc(s.open, byDetection)
	return s
}

// Agent returns an agent by its Connect user id, or nil.
func (s *State) Agent(id string) *Agent { return s.agents[id] }

// TDG returns a traffic distribution group by its bare id, or nil.
func (s *State) TDG(id string) *TDG { return s.tdgs[id] }

// Group returns a failover group by its name, or nil.
func (s *State) Group(name string) *Group { return s.groups[name] }

// AgentsOf returns the agents of a failover group. The slice is the State's own.
func (s *State) AgentsOf(group string) []*Agent { return s.byGroup[group] }

// TDGsOf returns the traffic distribution groups of a failover group. The slice is the State's own.
func (s *State) TDGsOf(group string) []*TDG { return s.tdgsOf[group] }

func (s *State) addTDG(t *TDG) {
	s.tdgs[t.ID] = t
	s.tdgsOf[t.Group] = append(s.tdgsOf[t.Group], t)
	slices.SortFunc(s.tdgsOf[t.Group], func(a, b *TDG) int { return strings.Compare(a.ID, b.ID) })
}

func (s *State) index(a *Agent) {
	s.agents[a.ID] = a
	s.byGroup[a.Group] = append(s.byGroup[a.Group], a)
	s.intoProfile(a)
	if a.Username != "" {
		s.byName[nameKey{a.Group, a.Username}] = a
	}
	for region, id := range a.Aliases {
		s.byAlias[aliasKey{a.Group, region, id}] = a
	}
}

// intoProfile and outOfProfile keep the index of routing profiles: a chunk of the sweep concerns the agents of a few, and there are as many more chunks as
// there are more agents.
func (s *State) intoProfile(a *Agent) {
	k := profileKey{a.Group, a.RoutingProfile}
	a.inProfile = len(s.byProfile[k])
	s.byProfile[k] = append(s.byProfile[k], a)
}

func (s *State) outOfProfile(a *Agent) {
	k := profileKey{a.Group, a.RoutingProfile}
	in := s.byProfile[k]
	last := in[len(in)-1]
	in[a.inProfile], last.inProfile, in[len(in)-1] = last, a.inProfile, nil
	if s.byProfile[k] = in[:len(in)-1]; len(in) == 1 {
		delete(s.byProfile, k)
	}
}

// resolve finds an agent by the id that a Region gives it.
func (s *State) resolve(group, region, id string) *Agent {
	if a := s.agents[id]; a != nil && a.Group == group {
		return a
	}
	return s.byAlias[aliasKey{group, region, id}]
}

// single returns the only traffic distribution group of a failover group, whose members all users are (R2), or nil.
// A failover group for which only some of the instance's groups are configured does not have a single one.
func (s *State) single(group string) *TDG {
	g := s.groups[group]
	if t := s.tdgsOf[group]; len(t) == 1 && g != nil && len(g.TDGs) == 0 && !g.ListedAt.IsZero() {
		return t[0]
	}
	return nil
}

// other is the Region of the group that is not region.
func (g *Group) other(region string) string {
	for _, i := range g.Instances {
		if i.Region != region {
			return i.Region
		}
	}
	return ""
}

func (g *Group) source() string { return g.Instances[0].Region }

func (g *Group) has(region string) bool {
	return slices.ContainsFunc(g.Instances, func(i Instance) bool { return i.Region == region })
}

// wants says whether a traffic distribution group is one of those that are configured.
func (g *GroupConfig) wants(tdg string) bool {
	return len(g.TDGs) == 0 || slices.ContainsFunc(g.TDGs, func(id string) bool { return bareID(id) == tdg })
}

// bareID is the id in an id or ARN.
func bareID(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

// CCPURL is the address of the Contact Control Panel of a Region, "" when there is none.
func (g *Group) CCPURL(region string) string {
	for _, i := range g.Instances {
		if i.Region == region {
			return i.CCPURL
		}
	}
	return ""
}

func (g *Group) region(name string) *RegionState {
	for i := range g.Regions {
		if g.Regions[i].Region == name {
			return &g.Regions[i]
		}
	}
	g.Regions = append(g.Regions, RegionState{Region: name})
	return &g.Regions[len(g.Regions)-1]
}

// list returns what a Region's reads of the agent are kept under, made when it is new. With global routing both
// Regions show the same list (R20).
func (a *Agent) list(g *Group, region string) *ContactList {
	if g.Routing == Global {
		region = ""
	}
	for i := range a.Lists {
		if a.Lists[i].Region == region {
			return &a.Lists[i]
		}
	}
	a.Lists = append(a.Lists, ContactList{Region: region})
	slices.SortFunc(a.Lists, func(x, y ContactList) int { return cmp.Compare(x.Region, y.Region) })
	return a.list(g, region)
}

// IDIn is the agent's user id in a Region.
func (a *Agent) IDIn(region string) string {
	if id := a.Aliases[region]; id != "" {
		return id
	}
	return a.ID
}

// step is one Step under way.
type step struct {
	*State
	now time.Time
	eff Effects
}

// Step applies one observation made at now and returns what changed. It panics on an observation of a type that
// this package does not declare.
func (s *State) Step(o Observation, now time.Time) Effects {
	st := &step{State: s, now: now}
	switch o := o.(type) {
	case Started:
		st.started()
	case Tick:
		st.tick()
	case TDGsListed:
		st.tdgsListed(o)
	case DistributionRound:
		st.distributionRound(o)
	case RosterPage:
		st.rosterPage(o)
	case UsersListed:
		st.usersListed(o)
	case UserData:
		st.userData(o)
	case ChunkComplete:
		st.chunkComplete(o)
	case PassComplete:
		st.passComplete(o)
	case ContactsUnavailable:
		st.contactsUnavailable(o)
	case ContactLocated:
		st.contactLocated(o)
	case Report:
		st.report(o)
	case Force:
		st.force(o)
	case BulkForce:
		st.bulkForce(o)
	case PauseGroup:
		st.pause(o)
	case ResumeGroup:
		st.resume(o)
	case StartDrill:
		st.drill(o)
	case Streaming:
		st.streaming(o)
	case SetupObserved:
		st.setupObserved(o)
	default:
		panic("failover: unknown observation")
	}
	return st.finish()
}

// finish clears the marks that kept the effects free of repetition and notes what is handed out to be stored.
func (st *step) finish() Effects {
	for _, a := range st.eff.Agents {
		a.touched = false
		for i := range a.Lists {
			a.Lists[i].savedAt = a.Lists[i].ReadAt
		}
	}
	for _, f := range st.eff.Failovers {
		f.touched = false
	}
	return st.eff
}

func (st *step) touch(a *Agent) {
	if !a.touched {
		a.touched = true
		st.eff.Agents = append(st.eff.Agents, a)
	}
}

func (st *step) touchFailover(a *Agent, f *Failover) {
	st.touch(a)
	if !f.touched {
		f.touched = true
		st.eff.Failovers = append(st.eff.Failovers, f)
	}
}

func (st *step) touchTDG(t *TDG) {
	if !slices.Contains(st.eff.TDGs, t) {
		st.eff.TDGs = append(st.eff.TDGs, t)
	}
}

func (st *step) touchGroup(g *Group) {
	if !slices.Contains(st.eff.Groups, g) {
		st.eff.Groups = append(st.eff.Groups, g)
	}
}

// room makes room for the effects of a Step that concerns so many agents: growing by and by takes five times the memory.
func (st *step) room(agents int) {
	e := &st.eff
	e.Agents, e.Failovers, e.Events = slices.Grow(e.Agents, agents), slices.Grow(e.Failovers, agents), slices.Grow(e.Events, agents)
}

// emit appends an event of the agent.
func (st *step) emit(a *Agent, e Event) {
	e.AgentID, e.Group, e.TDG, e.Time = a.ID, a.Group, a.TDG, st.now
	st.eff.Events = append(st.eff.Events, &e)
}

// started finds what was missed while nobody decided (R3).
func (st *step) started() {
	st.State.startedAt = st.now
	for _, name := range sortedKeys(st.groups) {
		g := st.groups[name]
		st.checkCCPURLs(g)
		for _, t := range st.tdgsOf[name] {
			if st.checkTarget(g, t) { // the Regions may be configured otherwise than before
				st.touchTDG(t)
			}
			st.announceTDG(t)
		}
		for _, a := range st.byGroup[name] {
			st.decide(a)
		}
	}
}

// tick decides what depends on age alone.
func (st *step) tick() {
	for _, name := range sortedKeys(st.groups) {
		g := st.groups[name]
		st.announceSetup(g)
		if g.Pause != nil && !st.now.Before(g.Pause.Until) {
			st.endPause(g)
		}
		if d := st.drills[name]; d != nil {
			st.drillOn(d)
		}
	}
	st.open = slices.DeleteFunc(st.open, func(a *Agent) bool {
		a.listed = a.Failover != nil
		return !a.listed
	})
	// Who was cancelled and detected again since the last tick stands where the first detection was.
	slices.SortFunc(st.open, byDetection)
	for _, a := range st.open {
		st.age(a)
	}
}

// byDetection orders agents with an open failover: detections of one moment by the agents' ids, which a restart does not
// change.
func byDetection(a, b *Agent) int {
	return cmp.Or(a.Failover.DetectedAt.Compare(b.Failover.DetectedAt), strings.Compare(a.ID, b.ID))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// DrainItem is an agent with an open failover whose contacts have to be read in its from-Region.
type DrainItem struct {
	Group, AgentID, Region string
	UserID                 string // the agent's id in that Region
	RoutingProfile         string // empty: not known, or not surely enough to conclude from it (R6)
	FailoverID             string
	DetectedAt             time.Time
	ReadAt                 time.Time // when the last read of the agent in that Region began; zero: never
	// Fresh says that a read that counts (R6) has been made since the detection; false: read it at once.
	Fresh bool
	// KnownEmpty says that the last list, fresh or not, held no voice or chat contact.
	KnownEmpty bool
}

// LookupItem is a contact whose Region has to be asked for once (R20). Region is where to ask.
type LookupItem struct{ Group, AgentID, ContactID, Region string }

// Work is what has to be asked of Amazon Connect because of open failovers, in order of detection.
type Work struct {
	Drain   []DrainItem
	Lookups []LookupItem
}

// Work returns what has to be read now. Agents whose empty list is younger than the drain interval, who wait in
// the queue of failover.pace far behind the next to go, or for the end of a pause, are left out (R8).
func (s *State) Work(now time.Time) Work {
	w := Work{Drain: make([]DrainItem, 0, len(s.open))}
	queued := map[string]int{}
	for _, a := range s.open {
		f := a.Failover
		if f == nil {
			continue
		}
		g := s.groups[a.Group]
		list := a.list(g, f.From)
		if !f.ClearedAt.IsZero() {
			if g.Pause != nil {
				continue // it is read again when the pause ends
			}
			waits := s.waitsForDesktop(a, now) // others overtake it
			if !waits {
				queued[a.Group]++
			}
			if now.Sub(f.EvidenceAt) < s.set.DrainInterval {
				continue
			}
			if !waits && s.set.Pace > 0 && float64(queued[a.Group]) > 1+2*s.set.Pace*s.set.DrainInterval.Seconds() {
				continue
			}
		}
		holds := false
		for i := range list.Contacts {
			c := &list.Contacts[i]
			holds = holds || c.Blocking
			if c.Lookup == LookupWanted {
				w.Lookups = append(w.Lookups, LookupItem{a.Group, a.ID, c.ID, f.From})
			}
		}
		profile := a.RoutingProfile
		if !s.profileCertain(a, g, f.From, now) {
			profile = ""
		}
		w.Drain = append(w.Drain, DrainItem{
			Group: a.Group, AgentID: a.ID, Region: f.From, UserID: a.IDIn(f.From), RoutingProfile: profile,
			FailoverID: f.ID, DetectedAt: f.DetectedAt, ReadAt: list.ReadAt, Fresh: !f.EvidenceAt.IsZero(),
			KnownEmpty: !list.ReadAt.IsZero() && !holds,
		})
	}
	return w
}
