package connectsim

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

// CCPFault is a way in which the Contact Control Panel of a Region fails.
type CCPFault string

// The faults of Contact Control Panels. The names of the sign-in's are those of amazon-connect-streams 2.28.2.
const (
	CCPWorks          CCPFault = ""
	CCPUnavailable    CCPFault = "503"            // neither the page nor its agent can be had
	CCPSilent         CCPFault = "silent"         // the page loads and never answers Streams
	CCPSignInMissing  CCPFault = "signin-missing" // LILY_AGENT_CONFIG_MISSING: the agent did not come by the global sign-in
	CCPSignInUnparsed CCPFault = "signin-invalid" // LILY_AGENT_CONFIG_PARSE_ERROR
)

//go:embed ccp
var ccpFiles embed.FS

// ccpPolicy allows what the page consists of. Who may frame a CCP is not simulated: Amazon Connect asks for approved origins.
const ccpPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'"

// CCP serves the Contact Control Panel of a Region, as the instance's address does below /ccp-v2/: a page that answers the messages
// of amazon-connect-streams, Global Resiliency included. Streams tells the panels of two Regions apart by their origins, so each
// needs an address of its own.
//
// Amazon's page knows its agent by the cookie of the sign-in. Here the address says who it is, ?agent= with an id or a username,
// so that desktops of several agents can stand side by side in one browser. The page knows of a shift when its agent's
// desktop would: after a part of [Config.MoveDelay].
func (s *Sim) CCP(region string) (http.Handler, error) {
	r, err := s.mustRegion(region)
	if err != nil {
		return nil, err
	}
	pages, err := fs.Sub(ccpFiles, "ccp")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /ccp-v2/", http.StripPrefix("/ccp-v2/", http.FileServerFS(pages)))
	mux.HandleFunc("GET /ccp-v2/agent", func(w http.ResponseWriter, q *http.Request) {
		state, err := s.ccpState(r, q.URL.Query().Get("agent"))
		answerCCP(w, state, err)
	})
	mux.HandleFunc("POST /ccp-v2/agent", func(w http.ResponseWriter, q *http.Request) {
		var in ccpRequest
		err := readControl(q, &in)
		if err == nil {
			err = s.ccpCall(q.URL.Query().Get("agent"), in)
		}
		if err != nil {
			answerCCP(w, nil, err)
			return
		}
		state, err := s.ccpState(r, q.URL.Query().Get("agent"))
		answerCCP(w, state, err)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", ccpPolicy)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		s.mu.Lock()
		fault := s.ccpFaults[r]
		s.mu.Unlock()
		if fault == CCPUnavailable {
			http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
			return
		}
		// A page that anybody could have written can make a browser send such a request, but not with this type.
		if q.Method == http.MethodPost && q.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "expected application/json", http.StatusUnsupportedMediaType)
			return
		}
		mux.ServeHTTP(w, q)
	}), nil
}

func answerCCP(w http.ResponseWriter, state any, err error) {
	status := http.StatusOK
	if err != nil {
		status, state = controlError(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(state) // a page that went away is its own affair
}

// SetCCPFault lets the Contact Control Panel of a Region fail, or work again with [CCPWorks].
func (s *Sim) SetCCPFault(region string, fault CCPFault) error {
	r, err := s.mustRegion(region)
	if err != nil {
		return err
	}
	switch fault {
	case CCPWorks, CCPUnavailable, CCPSilent, CCPSignInMissing, CCPSignInUnparsed:
	default:
		return fmt.Errorf("fault of a CCP %q: expected 503, silent, signin-missing, signin-invalid or none", fault)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ccpFaults[r] = fault
	return nil
}

// ForceMove is connect.globalResiliency.forceFailover(): the agent goes at once, whatever contacts are open; they stay where they are.
// As with Amazon Connect it works only while the agent waits for contacts to be cleared, and does not touch the distribution.
func (s *Sim) ForceMove(idOrUsername string) error {
	s.lock()
	defer s.mu.Unlock()
	a, err := s.findAgent(idOrUsername)
	if err != nil {
		return err
	}
	return s.forceMove(a)
}

func (s *Sim) forceMove(a *agent) error {
	if !a.waiting {
		return conflict("agent " + a.username + " has no failover pending")
	}
	s.move(a, s.target(a))
	return nil
}

// ccpState is what a page knows: of the agent as Region sees it, and of where the agent works. The names in Agent are those of the
// agent data that Streams' own pages send.
type ccpState struct {
	Region           string      `json:"region"`
	ActiveRegion     string      `json:"activeRegion"`
	NextActiveRegion string      `json:"nextActiveRegion,omitempty"` // the agent waits for contacts, then moves there
	Fault            CCPFault    `json:"fault,omitempty"`
	Agent            ccpSnapshot `json:"agent"`
}

type ccpSnapshot struct {
	Snapshot      ccpAgent         `json:"snapshot"`
	Configuration ccpConfiguration `json:"configuration"`
}

type ccpAgent struct {
	State             ccpAgentState `json:"state"`
	AvailabilityState struct {
		State     string    `json:"state"`
		Timestamp time.Time `json:"timeStamp"`
	} `json:"agentAvailabilityState"`
	Contacts  []ccpContact `json:"contacts"`
	Timestamp time.Time    `json:"snapshotTimestamp"`
}

type ccpAgentState struct {
	ARN   string    `json:"agentStateARN"`
	Type  string    `json:"type"`
	Name  string    `json:"name"`
	Since time.Time `json:"startTimestamp,omitzero"`
}

type ccpContact struct {
	ID          string          `json:"contactId"`
	InitialID   string          `json:"initialContactId"`
	Type        string          `json:"type"`
	Initiation  string          `json:"initiationMethod"`
	State       ccpContactState `json:"state"`
	Queue       ccpQueue        `json:"queue"`
	QueuedAt    time.Time       `json:"queueTimestamp"`
	Attributes  struct{}        `json:"attributes"`
	Connections []ccpConnection `json:"connections"`
}

type ccpContactState struct {
	Type  string    `json:"type"`
	Since time.Time `json:"timestamp"`
}

type ccpQueue struct {
	ARN  string `json:"queueARN"`
	Name string `json:"name"`
}

type ccpConnection struct {
	ID      string          `json:"connectionId"`
	Type    string          `json:"type"`
	Initial bool            `json:"initial"`
	State   ccpContactState `json:"state"`
}

type ccpConfiguration struct {
	ARN             string            `json:"agentARN"`
	Username        string            `json:"username"`
	Name            string            `json:"name"`
	States          []ccpAgentState   `json:"agentStates"`
	RoutingProfile  ccpRoutingProfile `json:"routingProfile"`
	Softphone       bool              `json:"softphoneEnabled"`
	AutoAccept      bool              `json:"softphoneAutoAccept"`
	Extension       string            `json:"extension"`
	DialableCountry []string          `json:"dialableCountries"`
	Permissions     []string          `json:"permissions"`
}

type ccpRoutingProfile struct {
	ARN             string         `json:"routingProfileARN"`
	ID              string         `json:"routingProfileId"` // an ARN too: Streams takes account and instance from it
	Name            string         `json:"name"`
	Queues          []ccpQueue     `json:"queues"`
	DefaultOutbound ccpQueue       `json:"defaultOutboundQueue"`
	Concurrency     map[string]int `json:"channelConcurrencyMap"`
}

// contactTypes and contactStateTypes are Streams' words for Amazon Connect's; on hold is said of a connection there.
var (
	contactTypes      = map[string]string{ChannelVoice: "voice", ChannelChat: "chat", ChannelTask: "task", ChannelEmail: "email"}
	contactStateTypes = map[string]string{StateOnHold: "connected"}
)

func (s *Sim) ccpState(region int, agent string) (*ccpState, error) {
	s.lock()
	defer s.mu.Unlock()
	a, err := s.findAgent(agent)
	if err != nil {
		return nil, err
	}
	out := &ccpState{Region: s.cfg.Regions[region], ActiveRegion: s.cfg.Regions[a.region], Fault: s.ccpFaults[region]}
	if a.waiting {
		out.NextActiveRegion = s.cfg.Regions[s.target(a)]
	}
	status, _ := s.statusIn(region, a)
	now, queue := s.time(s.now), ccpQueue{s.resourceARN(region, "queue", a.profile.queueID), "Queue of " + a.profile.name}
	own := ccpQueue{s.resourceARN(region, "queue", "agent/"+a.ids[region]), ""} // by which Streams knows the agent's id
	profile := s.resourceARN(region, "routing-profile", a.profile.id)

	snap := &out.Agent.Snapshot
	snap.Timestamp, snap.Contacts = now, []ccpContact{}
	snap.State = s.ccpAgentState(region, status)
	snap.State.Since = s.time(a.statusSince)
	snap.AvailabilityState.State, snap.AvailabilityState.Timestamp = status, snap.State.Since
	for _, c := range a.contacts {
		if !s.sees(region, c) {
			continue
		}
		kind, customer := contactStateTypes[c.state], ""
		if kind == "" {
			kind = strings.ToLower(c.state)
		}
		switch c.state {
		case StateOnHold:
			customer = "hold"
		case StateConnected:
			customer = "connected"
		case StateIncoming, StatePending, StateConnecting:
			customer = "connecting"
		default:
			customer = "disconnected"
		}
		since := s.time(c.stateSince)
		snap.Contacts = append(snap.Contacts, ccpContact{
			ID: c.id, InitialID: c.id, Type: contactTypes[c.channel], Initiation: strings.ToLower(c.method),
			State: ccpContactState{kind, since}, Queue: queue, QueuedAt: s.time(c.began),
			Connections: []ccpConnection{
				{c.id + "-agent", "agent", false, ccpContactState{strings.Replace(customer, "hold", "connected", 1), since}},
				{c.id + "-customer", "inbound", true, ccpContactState{customer, since}},
			},
		})
	}
	out.Agent.Configuration = ccpConfiguration{
		ARN: s.resourceARN(region, "agent", a.ids[region]), Username: a.username, Name: a.first + " " + a.last,
		States: []ccpAgentState{s.ccpAgentState(region, StatusAvailable), s.ccpAgentState(region, StatusOffline)},
		RoutingProfile: ccpRoutingProfile{
			ARN: profile, ID: profile, Name: a.profile.name, Queues: []ccpQueue{queue, own}, DefaultOutbound: queue, Concurrency: slots,
		},
		DialableCountry: []string{"us"}, Permissions: []string{},
	}
	return out, nil
}

func (s *Sim) ccpAgentState(region int, status string) ccpAgentState {
	kind := "not_routable"
	switch status {
	case StatusAvailable:
		kind = "routable"
	case StatusOffline:
		kind = "offline"
	}
	return ccpAgentState{ARN: s.resourceARN(region, "agent-state", s.statusID(status)), Type: kind, Name: status}
}

// ccpRequest is one of Streams' API requests, or a forced failover.
type ccpRequest struct {
	Method    string `json:"method"`
	ContactID string `json:"contactId"`
	Status    string `json:"status"`
}

// ccpCall does what an agent asks for in the page, or a desktop by Streams (connect.ClientMethods).
func (s *Sim) ccpCall(agent string, in ccpRequest) error {
	if in.Method == "putAgentState" {
		return s.SetAgentStatus(agent, in.Status)
	}
	s.lock()
	defer s.mu.Unlock()
	a, err := s.findAgent(agent)
	if err != nil {
		return err
	}
	if in.Method == "forceFailover" {
		return s.forceMove(a)
	}
	c, err := s.openContact(in.ContactID)
	if err != nil {
		return err
	}
	if c.agent != a {
		return fmt.Errorf("contact %q of agent %q %w", in.ContactID, agent, errUnknown)
	}
	switch in.Method {
	case "acceptContact":
		c.enter(StateConnected, s.now)
	case "rejectContact":
		c.enter(StateRejected, s.now)
	case "destroyConnection":
		s.endContact(c)
	case "clearContact", "completeContact":
		s.clearContact(c)
	default:
		return errors.New(in.Method + " is not simulated")
	}
	return nil
}
