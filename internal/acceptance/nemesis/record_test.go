package nemesis

import (
	"encoding/json"
	"time"
)

// record is what a sequence left behind: what the service said and stored, what its clients heard, and, told apart from
// that, what Amazon Connect answered and what happened on the floor.
type record struct {
	regions [2]string
	global  bool // routing
	ccpURLs map[string]string

	// since is from when on what Amazon Connect answered is here. What was completed before then was looked at before.
	since time.Time

	confirmWithin   time.Duration // of the configuration
	regionDownAfter time.Duration

	// What the service says.
	logID     string
	log       []logged // in order
	reigns    []reign
	failovers []failoverRow
	waiting   int // commands that nobody has answered
	audit     []audited
	chain     string // what is wrong with the audit's chain of hashes
	agents    []agentRow
	broken    []string // what a process should not have done or said

	// What its clients heard.
	clients []heard

	// What is true.
	floor    []person
	gone     []leaver
	contacts []contact
	frozen   []span // replicas that did nothing, or may not have

	// What Amazon Connect answered, to whom. Answers that are none (errors, half of the JSON, no list) are not here.
	reads   []read
	targets []distribution

	// What was asked of the service.
	reports []report
	forces  []force
	pauses  []pause
}

// logged is an event of the log, as the database has it.
type logged struct {
	seq, epoch             int64
	at                     time.Time // of the decision, as this machine's clock had it
	event, agent, failover string
	data                   string // JSON
}

// reign is a term of a replica, from the moment at which it decided.
type reign struct {
	epoch   int64
	replica int
	from    time.Time
	behind  time.Duration // by how much the time by which it decides is behind this machine's
}

type span struct {
	replica  int
	from, to time.Time
}

func (s span) overlaps(from, to time.Time) bool { return s.from.Before(to) && from.Before(s.to) }

// failoverRow is a failover as REST shows it.
type failoverRow struct {
	id, agent, from, to, status, cause, evidence, reason string
	forced                                               bool
}

type audited struct{ action, target, reason, outcome string }

// agentRow is an agent as REST shows it in the end.
type agentRow struct{ id, region, state, failover string }

// person is an agent as the floor has it in the end.
type person struct{ id, region, target, profile, tdg string }

// leaver is somebody who was a user of Amazon Connect until some time, and whom the service had forgotten by another.
type leaver struct {
	person

	at, noted time.Time
}

// contact is one that was open on the floor from before since until after until.
type contact struct {
	id, agent, channel, region string
	since, until               time.Time // until is zero for one that was never cleared
}

// blocks says whether the contact holds an agent whom a failover takes from a Region (R5).
func (c *contact) blocks(from string) bool {
	return c.region == from && c.channel != "TASK" && c.channel != "EMAIL"
}

// throughout says whether the contact was open for all of that time.
func (c *contact) throughout(from, to time.Time) bool {
	return c.since.Before(from) && (c.until.IsZero() || c.until.After(to))
}

// read is an answer to GetCurrentUserData.
type read struct {
	replica    int
	region     string
	begun, end time.Time
	agents     map[string]bool // asked for by id
	profiles   map[string]bool // asked for by routing profile
	last       bool            // page
	shown      map[string][]shown
	offline    map[string]bool // of those shown
}

type shown struct{ id, channel string }

// covers says whether what the answer does not show of an agent is not there.
func (r *read) covers(p *person) bool { return r.last && (r.agents[p.id] || r.profiles[p.profile]) }

// distribution is an answer to GetTrafficDistribution.
type distribution struct {
	replica    int
	region     string // that answered
	tdg        string
	begun, end time.Time
	target     string // gets 100 %; empty: a split
}

// report is what a desktop said, which was true when it looked.
type report struct {
	agent        string
	looked, sent time.Time
	region, next string
	contacts     []string
	taken        bool // 202
}

// force is one request, sent perhaps several times under one key.
type force struct {
	failover, reason string // failover is empty: all of the group
	sent             time.Time
	answers          []answered
}

// pause is a time in which completions were held for certain: from when the service said so until somebody asked for its end, or it ended
// by itself.
type pause struct{ from, until time.Time }

type answered struct {
	status int
	kind   string // of a problem
	body   string
}

// heard is a client: a desktop, or a console if agent is empty.
type heard struct {
	name, agent string
	from        string // the cursor that it began with; empty: none
	connections []connection
	left        bool // it is elsewhere now, and need not have heard everything
	history     bool // it asks for the log as JSON, from its beginning
}

// connection is one of a client's, in order.
type connection struct {
	replica int
	cursor  string // that it was opened with
	spoiled bool   // which the client made up
	opened  time.Time
	frames  []frame
}

// frame is an event with data as it came.
type frame struct {
	id, event, data string
}

// eventData is every field that the data of an event can have.
type eventData struct {
	AgentID          string    `json:"agentId"`
	FailoverID       string    `json:"failoverId"`
	Time             time.Time `json:"time"`
	ActiveRegion     string    `json:"activeRegion"`
	ActiveCCPURL     string    `json:"activeCcpUrl"`
	State            string    `json:"state"`
	NextActiveRegion string    `json:"nextActiveRegion"`
	PreviousRegion   string    `json:"previousRegion"`
	CancelledRegion  string    `json:"cancelledRegion"`
	ContactIDs       []string  `json:"contactIds"`
	Forced           bool      `json:"forced"`
	Evidence         string    `json:"evidence"`
	Code             string    `json:"code"`
	Message          string    `json:"message"`
	Reason           string    `json:"reason"`
	ConfigureErrors  []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"configureErrors"`
}

func parse(data string) (d eventData, err error) {
	err = json.Unmarshal([]byte(data), &d)
	return d, err
}
