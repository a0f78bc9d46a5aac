package failover

import "time"

// State is everything that the rules know. One goroutine owns it.
type State struct {
	settings Settings
	newID    func(now time.Time) string
	groups   map[string]*Group
	tdgs     map[string]*TDG
	agents   map[string]*Agent
}

// Snapshot is a State as it is stored.
type Snapshot struct {
	Groups []*Group
	TDGs   []*TDG
	Agents []*Agent
}

// New makes a State from what is stored and what is configured. Groups that are stored but configured no more are dropped together
// with their agents. newID gives the ids of failovers (UUIDv7).
func New(settings Settings, groups []GroupConfig, stored Snapshot, newID func(now time.Time) string) *State {
	return nil
}

// Step applies one observation made at now and returns what changed.
func (s *State) Step(o Observation, now time.Time) Effects { return Effects{} }

// Work is what the readers have to ask Amazon Connect for next.
type Work struct {
	// Drain are agents with an open failover whose contacts have to be read, by from-Region, most urgent first.
	Drain []DrainItem
	// Lookups are contacts whose Region has to be asked for (R20).
	Lookups []LookupItem
}

// DrainItem is an agent whose contacts have to be read.
type DrainItem struct {
	Group, AgentID, Region string
	UserID                 string // the agent's id in that Region
	RoutingProfile         string // empty: not known
	FailoverID             string
	// Fresh says that a contacts read has been successful since the detection; false: it has to be read at once (R6).
	Fresh bool
}

// LookupItem is a contact whose Region has to be asked for.
type LookupItem struct{ Group, AgentID, ContactID string }

// Work returns what has to be read now.
func (s *State) Work(now time.Time) Work { return Work{} }

// Agent returns an agent, or nil.
func (s *State) Agent(id string) *Agent { return s.agents[id] }
