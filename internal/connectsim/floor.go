package connectsim

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Channels of contacts.
const (
	ChannelVoice = "VOICE"
	ChannelChat  = "CHAT"
	ChannelTask  = "TASK"
	ChannelEmail = "EMAIL"
)

// States of an agent's contact, Amazon's AgentContactState.
const (
	StateIncoming   = "INCOMING"
	StatePending    = "PENDING"
	StateConnecting = "CONNECTING"
	StateConnected  = "CONNECTED"
	StateOnHold     = "CONNECTED_ONHOLD"
	StateMissed     = "MISSED"
	StateError      = "ERROR"
	StateEnded      = "ENDED" // after-contact work: over, but not cleared
	StateRejected   = "REJECTED"
)

var contactStates = []string{StateIncoming, StatePending, StateConnecting, StateConnected, StateOnHold, StateMissed, StateError, StateEnded, StateRejected}

// slots is how many contacts of a channel an agent takes at a time.
var slots = map[string]int{ChannelVoice: 1, ChannelChat: 3, ChannelTask: 2, ChannelEmail: 2}

// startFloor plans the next contact of every agent. With warm, those who would be on a contact by now are.
func (s *Sim) startFloor(warm bool) {
	s.floorGen++
	if s.floor.perHour() <= 0 {
		return
	}
	for _, a := range s.agents {
		if warm {
			s.warm(a)
		}
		s.planArrival(a)
	}
}

func (f Floor) perHour() float64 { return f.CallsPerHour + f.ChatsPerHour + f.TasksPerHour }

// exp draws from an exponential distribution.
func (s *Sim) exp(mean Duration) time.Duration {
	return time.Duration(s.rng.ExpFloat64() * float64(mean))
}

func (s *Sim) planArrival(a *agent) {
	rate := s.floor.perHour()
	if rate <= 0 {
		return
	}
	s.schedule(s.exp(Duration(float64(time.Hour)/rate)), event{kind: eventArrival, agent: a, gen: s.floorGen})
}

// arrive offers a contact to an agent, who takes it if possible.
func (s *Sim) arrive(a *agent, gen uint32) {
	if gen != s.floorGen || a.removed {
		return
	}
	s.planArrival(a)
	channel := s.pickChannel()
	if a.status != StatusAvailable || a.waiting || !a.free(channel) {
		return
	}
	state := StateConnecting
	if channel == ChannelChat {
		state = StateIncoming
	}
	c := s.addContact(a, channel, state, s.contactRegion(a))
	s.schedule(s.exp(s.floor.Ring), event{kind: eventContact, contact: c})
}

func (s *Sim) pickChannel() string {
	x := s.rng.Float64() * s.floor.perHour()
	if x -= s.floor.CallsPerHour; x < 0 {
		return ChannelVoice
	}
	if x -= s.floor.ChatsPerHour; x < 0 {
		return ChannelChat
	}
	return ChannelTask
}

// contactRegion is where a new contact of the floor lives: with a regional view where the agent is active; with
// a global one wherever the telephony distribution sends it.
func (s *Sim) contactRegion(a *agent) int {
	if s.cfg.View == Regional || a.tdg == nil {
		return a.region
	}
	if s.rng.IntN(100) < percentOf(a.tdg.dist.Telephony, s.cfg.Regions[0]) {
		return 0
	}
	return 1
}

// free says whether the agent would be offered another contact of the channel: an agent on a call is offered
// nothing else.
func (a *agent) free(channel string) bool {
	n := 0
	for _, c := range a.contacts {
		if c.channel == ChannelVoice {
			return false
		}
		if c.channel == channel {
			n++
		}
	}
	return n < slots[channel] && (channel != ChannelVoice || len(a.contacts) == 0)
}

// talk is the mean time that a contact of the channel is connected.
func (f Floor) talk(channel string) Duration {
	switch channel {
	case ChannelVoice:
		return f.Talk
	case ChannelChat:
		return f.Chat
	}
	return f.Task
}

// warm puts an agent into the middle of a contact with the probability that this is so on a floor that has been
// running for long. Durations are memoryless, so what is left of one is distributed as a whole one.
func (s *Sim) warm(a *agent) {
	if a.status != StatusAvailable {
		return
	}
	f := s.floor
	load := (f.CallsPerHour*float64(f.Ring+f.Talk+f.AfterContactWork) + f.ChatsPerHour*float64(f.Ring+f.Chat+f.AfterContactWork) +
		f.TasksPerHour*float64(f.Ring+f.Task)) / float64(time.Hour)
	if s.rng.Float64() >= load/(1+load) {
		return
	}
	channel := s.pickChannel()
	phases := []float64{float64(f.Ring), float64(f.talk(channel)), float64(f.AfterContactWork)}
	if channel == ChannelTask {
		phases[2] = 0
	}
	x := s.rng.Float64() * (phases[0] + phases[1] + phases[2])
	c := s.addContact(a, channel, StateConnecting, s.contactRegion(a))
	mean := f.Ring
	if x -= phases[0]; x >= 0 {
		c.enter(StateConnected, s.now)
		mean = f.talk(channel)
		if x -= phases[1]; x >= 0 {
			c.enter(StateEnded, s.now)
			mean = f.AfterContactWork
		}
	}
	s.schedule(s.exp(mean), event{kind: eventContact, contact: c})
}

// progress takes a contact of the floor to its next state.
func (s *Sim) progress(c *contact) {
	if c.clearedAt >= 0 {
		return
	}
	next := func(mean Duration) { s.schedule(s.exp(mean), event{kind: eventContact, contact: c}) }
	switch c.state {
	case StateIncoming, StateConnecting, StatePending:
		if s.rng.Float64() < s.floor.Missed {
			state := StateMissed
			if s.rng.IntN(4) == 0 {
				state = StateRejected
			}
			c.enter(state, s.now)
			next(s.floor.Ring)
			return
		}
		c.enter(StateConnected, s.now)
		if c.channel == ChannelVoice && s.rng.Float64() < s.floor.Hold {
			next(s.floor.Talk / 3)
			c.willHold = true
			return
		}
		next(s.floor.talk(c.channel))
	case StateConnected:
		if c.willHold {
			c.willHold = false
			c.enter(StateOnHold, s.now)
			next(s.floor.Ring * 5)
			return
		}
		s.endContact(c)
		if c.clearedAt < 0 {
			next(s.floor.AfterContactWork)
		}
	case StateOnHold:
		c.enter(StateConnected, s.now)
		next(s.floor.Talk / 3)
	default: // MISSED, REJECTED, ERROR, ENDED
		s.clearContact(c)
	}
}

func (s *Sim) addContact(a *agent, channel, state string, region int) *contact {
	c := &contact{
		id: s.randomUUID(), channel: channel, method: "INBOUND", region: region, agent: a,
		began: s.now, connectedAt: -1, endedAt: -1, clearedAt: -1,
	}
	if channel == ChannelTask {
		c.method = "API"
	}
	if a.tdg != nil {
		c.tdgID = a.tdg.id
	}
	c.enter(state, s.now)
	a.contacts = append(a.contacts, c)
	s.contacts[c.id] = c
	return c
}

// enter changes the state. Hold does not change since when the contact is in its state, as the API reference says.
func (c *contact) enter(state string, now time.Duration) {
	c.state = state
	if c.connectedAt < 0 && (state == StateConnected || state == StateOnHold) {
		c.connectedAt = now
	}
	switch state {
	case StateOnHold, StateConnected:
		c.stateSince = c.connectedAt
	case StateEnded:
		c.endedAt = now
		c.stateSince = now
	default:
		c.stateSince = now
	}
}

// endContact begins the after-contact work; a task has none.
func (s *Sim) endContact(c *contact) {
	c.enter(StateEnded, s.now)
	if c.channel == ChannelTask {
		s.clearContact(c)
	}
}

// clearContact takes the contact from the agent's list, and the agent to another Region if that is what the agent was
// waiting for.
func (s *Sim) clearContact(c *contact) {
	if c.endedAt < 0 {
		c.endedAt = s.now
	}
	c.clearedAt = s.now
	a := c.agent
	if i := slices.Index(a.contacts, c); i >= 0 {
		a.contacts = slices.Delete(a.contacts, i, i+1)
	}
	if len(s.cleared) < keepCleared {
		s.cleared = append(s.cleared, c)
	} else {
		delete(s.contacts, s.cleared[s.clearedAt].id)
		s.cleared[s.clearedAt] = c
		s.clearedAt = (s.clearedAt + 1) % keepCleared
	}
	if a.waiting {
		s.tryMove(a, a.moveGen)
	}
}

var errUnknown = errors.New("is not known to the simulator")

func errNoTDG(name string) error {
	return fmt.Errorf("traffic distribution group %q %w", name, errUnknown)
}

func (s *Sim) mustRegion(region string) (int, error) {
	if r := s.regionIndex(region); r >= 0 {
		return r, nil
	}
	return 0, fmt.Errorf("region %q %w: it has %s and %s", region, errUnknown, s.cfg.Regions[0], s.cfg.Regions[1])
}

// findAgent by the id of any Region or the username.
func (s *Sim) findAgent(name string) (*agent, error) {
	for i := range s.byID {
		if a := s.byID[i][name]; a != nil {
			return a, nil
		}
	}
	if a := s.byUsername[name]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("agent %q %w", name, errUnknown)
}

func (s *Sim) openContact(id string) (*contact, error) {
	c := s.contacts[id]
	if c == nil {
		return nil, fmt.Errorf("contact %q %w", id, errUnknown)
	}
	if c.clearedAt >= 0 {
		return nil, fmt.Errorf("contact %q was cleared at %s", id, s.time(c.clearedAt).UTC().Format(time.RFC3339))
	}
	return c, nil
}
