package connectsim

import (
	"fmt"
	"slices"
	"time"
)

// AgentInfo is an agent as the simulator knows it, unlike what Amazon Connect shows of it.
type AgentInfo struct {
	ID             string            `json:"id"`            // in the source Region
	IDs            map[string]string `json:"ids,omitempty"` // by Region, where they differ
	Username       string            `json:"username"`
	RoutingProfile string            `json:"routingProfile"`
	TDG            string            `json:"tdg"` // id; empty: a member of none
	Status         string            `json:"status"`
	ActiveRegion   string            `json:"activeRegion"`
	TargetRegion   string            `json:"targetRegion"` // empty: none
	Waiting        bool              `json:"waiting"`      // for contacts to be cleared, then moves
	MovedAt        time.Time         `json:"movedAt,omitzero"`
	Contacts       []ContactInfo     `json:"contacts"`
}

// ContactInfo is a contact that is not cleared.
type ContactInfo struct {
	ID         string    `json:"id"`
	Channel    string    `json:"channel"`
	State      string    `json:"state"`
	Region     string    `json:"region"`
	Began      time.Time `json:"began"`
	StateSince time.Time `json:"stateSince"`
}

// Agents lists all agents in the order in which they were added.
func (s *Sim) Agents() []AgentInfo {
	s.lock()
	defer s.mu.Unlock()
	out := make([]AgentInfo, 0, len(s.agents))
	for _, a := range s.agents {
		out = append(out, s.agentInfo(a))
	}
	return out
}

// Agent finds an agent by id or username.
func (s *Sim) Agent(idOrUsername string) (AgentInfo, error) {
	s.lock()
	defer s.mu.Unlock()
	a, err := s.findAgent(idOrUsername)
	if err != nil {
		return AgentInfo{}, err
	}
	return s.agentInfo(a), nil
}

func (s *Sim) agentInfo(a *agent) AgentInfo {
	i := AgentInfo{
		ID: a.ids[0], Username: a.username, RoutingProfile: a.profile.id, Status: a.status,
		ActiveRegion: s.cfg.Regions[a.region], Waiting: a.waiting, Contacts: make([]ContactInfo, 0, len(a.contacts)),
	}
	if a.ids[0] != a.ids[1] {
		i.IDs = map[string]string{s.cfg.Regions[0]: a.ids[0], s.cfg.Regions[1]: a.ids[1]}
	}
	if a.tdg != nil {
		i.TDG = a.tdg.id
	}
	if t := s.target(a); t >= 0 {
		i.TargetRegion = s.cfg.Regions[t]
	}
	if a.movedAt > 0 {
		i.MovedAt = s.time(a.movedAt)
	}
	for _, c := range a.contacts {
		i.Contacts = append(i.Contacts, ContactInfo{
			ID: c.id, Channel: c.channel, State: c.state, Region: s.cfg.Regions[c.region],
			Began: s.time(c.began), StateSince: s.time(c.stateSince),
		})
	}
	return i
}

// AddAgent adds a signed-in agent to a traffic distribution group (name, id or ARN; empty: the default one) and
// returns the id. An empty username gets one.
func (s *Sim) AddAgent(username, tdg string) (string, error) {
	s.lock()
	defer s.mu.Unlock()
	if username == "" {
		username = fmt.Sprintf("agent%05d", s.nextSeq+1)
	}
	if s.byUsername[username] != nil {
		return "", fmt.Errorf("agent %q exists already", username)
	}
	t := s.namedTDG(tdg)
	if t == nil {
		return "", errNoTDG(tdg)
	}
	a := s.newAgent(username)
	s.join(a, t)
	a.region = max(s.target(a), 0)
	a.status = StatusAvailable
	s.planArrival(a)
	return a.ids[0], nil
}

// RemoveAgent deletes a user, contacts included.
func (s *Sim) RemoveAgent(idOrUsername string) error {
	s.lock()
	defer s.mu.Unlock()
	a, err := s.findAgent(idOrUsername)
	if err != nil {
		return err
	}
	a.removed = true
	for _, c := range slices.Clone(a.contacts) {
		s.clearContact(c)
	}
	s.leave(a)
	s.agents = slices.DeleteFunc(s.agents, func(b *agent) bool { return a == b })
	a.profile.agents = slices.DeleteFunc(a.profile.agents, func(b *agent) bool { return a == b })
	for i, id := range a.ids {
		delete(s.byID[i], id)
	}
	delete(s.byUsername, a.username)
	return nil
}

// SetAgentStatus sets what an agent chose in the desktop. An agent who was Offline and signs in does so in the
// target Region.
func (s *Sim) SetAgentStatus(idOrUsername, status string) error {
	s.lock()
	defer s.mu.Unlock()
	a, err := s.findAgent(idOrUsername)
	if err != nil {
		return err
	}
	if status == "" || len(status) > 127 {
		return fmt.Errorf("status %q: expected 1 to 127 characters", status)
	}
	signsIn := a.status == StatusOffline && status != StatusOffline
	a.readyGen++
	a.status = status
	a.statusSince = s.now
	if signsIn {
		s.tryMove(a, a.moveGen)
	}
	return nil
}

// StartContact gives an agent a connected contact in the active Region and returns its id. It goes on only by
// SetContactState, EndContact and ClearContact.
func (s *Sim) StartContact(agent, channel string) (string, error) {
	return s.StartContactIn("", agent, channel)
}

// StartContactIn is StartContact in a Region of choice: with a global view, contacts and their agents may be in
// different Regions.
func (s *Sim) StartContactIn(region, agent, channel string) (string, error) {
	s.lock()
	defer s.mu.Unlock()
	a, err := s.findAgent(agent)
	if err != nil {
		return "", err
	}
	if _, ok := slots[channel]; !ok {
		return "", fmt.Errorf("channel %q: expected VOICE, CHAT, TASK or EMAIL", channel)
	}
	r := a.region
	if region != "" {
		if r, err = s.mustRegion(region); err != nil {
			return "", err
		}
	}
	return s.addContact(a, channel, StateConnected, r).id, nil
}

// SetContactState puts a contact into one of Amazon's AgentContactStates.
func (s *Sim) SetContactState(contactID, state string) error {
	s.lock()
	defer s.mu.Unlock()
	c, err := s.openContact(contactID)
	if err != nil {
		return err
	}
	if !slices.Contains(contactStates, state) {
		return fmt.Errorf("contact state %q: expected one of %v", state, contactStates)
	}
	c.enter(state, s.now)
	return nil
}

// EndContact ends the conversation: a call or chat stays in the list as ENDED (after-contact work) until
// ClearContact; a task is gone.
func (s *Sim) EndContact(contactID string) error {
	s.lock()
	defer s.mu.Unlock()
	c, err := s.openContact(contactID)
	if err != nil {
		return err
	}
	s.endContact(c)
	return nil
}

// ClearContact takes a contact from the agent's list. An agent who was waiting for that moves.
func (s *Sim) ClearContact(contactID string) error {
	s.lock()
	defer s.mu.Unlock()
	c, err := s.openContact(contactID)
	if err != nil {
		return err
	}
	s.clearContact(c)
	return nil
}

// SetFloor changes what agents do by themselves from now on; contacts that began go on.
func (s *Sim) SetFloor(f Floor) error {
	if err := f.validate(); err != nil {
		return err
	}
	s.lock()
	defer s.mu.Unlock()
	s.floor = f.withDefaults()
	s.startFloor(false)
	return nil
}

// Floor is what agents do by themselves.
func (s *Sim) Floor() Floor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.floor
}
