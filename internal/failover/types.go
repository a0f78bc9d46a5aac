package failover

import (
	"time"
)

// Routing says how the two linked instances share what GetCurrentUserData shows.
type Routing string

// Regional instances show each Region's own agents and contacts; global ones (the default for instances created
// since 2026-09-01) show the same view from both Regions, without a contact's Region (R20).
const (
	Regional Routing = "regional"
	Global   Routing = "global"
)

// Settings are the numbers that the rules use; see docs/configuration.md for their meaning and defaults.
type Settings struct {
	Confirmations       int           // consecutive agreeing rounds that make a distribution change real (R14)
	ConflictAfter       time.Duration // R14
	RegionDownAfter     time.Duration // R9
	ContactsMaxAge      time.Duration // R6, R9
	MaxUnknown          time.Duration // R9
	ConfigureErrorAfter time.Duration // R17
	StaleRelease        time.Duration // R9; 0: never
	ConfirmWithin       time.Duration // R8, R12
	DrainInterval       time.Duration // R8
	Pace                float64       // completions per second and failover group; 0: no limit (R8)
}

// Instance is one of the two linked Amazon Connect instances of a failover group.
type Instance struct {
	Region string `json:"region"`
	CCPURL string `json:"ccpUrl"` // empty: agents who would work there get SECONDARY_CCP_URL_MISSING
}

// GroupConfig is a failover group as the operator configured it: a pair of linked instances.
type GroupConfig struct {
	Name      string
	Routing   Routing
	Instances []Instance // the first is the source
	// TDGs are the ids of the traffic distribution groups that were configured; empty: every one of the source instance.
	TDGs []string
}

// Source says where knowledge of a region comes from.
type Source string

// The sources of a target or an active region, strongest first (R1).
const (
	SourceNone         Source = ""
	SourceDistribution Source = "distribution"
	SourceDesktop      Source = "desktop"
	SourcePresence     Source = "presence"
)

// Status is the state of a failover.
type Status string

// A failover is detected, then perhaps pending, then completed or cancelled (R18).
const (
	Detected  Status = "detected"
	Pending   Status = "pending"
	Completed Status = "completed"
	Cancelled Status = "cancelled"
)

// Evidence says what a completion rests on (R8, R9, R11).
type Evidence string

// The kinds of evidence.
const (
	Inferred  Evidence = "inferred"
	ByDesktop Evidence = "desktop"
	LastKnown Evidence = "lastKnown"
	ByForce   Evidence = "forced"
)

// AgentState is what an agent is doing as far as failover goes.
type AgentState string

// The states of an agent.
const (
	AgentUnknown  AgentState = "unknown" // no active region is known yet
	AgentActive   AgentState = "active"
	AgentDetected AgentState = "detected"
	AgentPending  AgentState = "pending"
)

// Contact is an entry of an agent's contact list.
type Contact struct {
	ID      string `json:"id"`
	Channel string `json:"channel"` // VOICE, CHAT, TASK, EMAIL (Amazon's names; others pass through)
	State   string `json:"state"`   // Amazon's AgentContactState; unknown ones pass through and hold (R5)
	// Region of the contact; empty until told with global routing (R20).
	Region     string    `json:"region,omitempty"`
	StateSince time.Time `json:"stateSince"`          // zero: not told
	Began      time.Time `json:"began"`               // when it was connected to the agent, else StateSince
	ObservedAt time.Time `json:"observedAt"`          // when it was last seen
	Desktop    bool      `json:"desktop,omitempty"`   // Amazon's list does not show it, the agent's desktop does (R15)
	ReportedAt time.Time `json:"reportedAt,omitzero"` // the desktop's last report, if it listed the contact (R15)
	Lookup     Lookup    `json:"lookup,omitempty"`    // R20
	LookupTo   string    `json:"lookupTo,omitempty"`  // the Region that the look-up told
	Surfaced   bool      `json:"surfaced,omitempty"`  // R16
	Blocking   bool      `json:"blocking,omitempty"`  // VOICE or CHAT, not cleared (R5)
	StaleSince time.Time `json:"staleSince,omitzero"` // R9: its Region cannot be read
}

// ContactEnded is Amazon's AgentContactState of a contact in after-contact work: it is over, and not cleared.
const ContactEnded = "ENDED"

// Lookup is the progress of asking Amazon Connect once for a contact's Region (R20).
type Lookup string

// The states of a look-up.
const (
	LookupNone   Lookup = ""
	LookupWanted Lookup = "wanted"
	LookupTold   Lookup = "told"
	LookupFailed Lookup = "failed" // it cannot be told, and so it holds
)

// ContactList is the last contact list that a Region showed of an agent, and whether the agent was there.
type ContactList struct {
	Region   string    `json:"region"`
	ReadAt   time.Time `json:"readAt"`             // when the read that gave it began
	Present  bool      `json:"present,omitempty"`  // the agent was in the answer of an unfiltered read
	Offline  bool      `json:"offline,omitempty"`  // present, with an offline status
	SeenAt   time.Time `json:"seenAt,omitzero"`    // when the read that Present comes from began
	Contacts []Contact `json:"contacts,omitempty"` // sorted by id; stored in a table of their own

	savedAt time.Time // the ReadAt that was last handed out to be stored
}

// Failover is one way of one agent from one Region to another.
type Failover struct {
	ID          string    `json:"failoverId"` // UUIDv7
	AgentID     string    `json:"agentId"`
	Group       string    `json:"failoverGroup"`
	TDG         string    `json:"tdgId,omitempty"`
	From        string    `json:"fromRegion"`
	To          string    `json:"toRegion"`
	Status      Status    `json:"status"`
	Cause       Source    `json:"cause"`
	DetectedAt  time.Time `json:"detectedAt"`
	PendingAt   time.Time `json:"pendingAt,omitzero"`
	CompletedAt time.Time `json:"completedAt,omitzero"`
	CancelledAt time.Time `json:"cancelledAt,omitzero"`
	ConfirmedAt time.Time `json:"confirmedAt,omitzero"`
	StalledAt   time.Time `json:"stalledAt,omitzero"`
	// Evidence of the completion. While R9 applies to an open one it is what the completion would rest on.
	Evidence          Evidence `json:"evidence,omitempty"`
	Forced            bool     `json:"forced"`
	ForcedBy          string   `json:"forcedBy,omitempty"`
	ForcedReason      string   `json:"forcedReason,omitempty"`
	ContactIDs        []string `json:"contactIds"`        // still open, sorted
	InitialContactIDs []string `json:"initialContactIds"` // as it became pending, sorted

	// What the rules remember about it; not shown outside.
	LastOldAt  time.Time `json:"lastOldAt,omitzero"`  // the last observation of the old value, for the detection metric
	ClearedAt  time.Time `json:"clearedAt,omitzero"`  // since when the set is empty by fresh evidence (R8)
	EvidenceAt time.Time `json:"evidenceAt,omitzero"` // when the last read that counts as fresh evidence began (R6)
	ForceAt    time.Time `json:"forceAt,omitzero"`    // when a forced completion that is spread over time is due (R11)
	StaleSince time.Time `json:"staleSince,omitzero"` // when R9 was applied
	SignedIn   bool      `json:"signedIn,omitempty"`  // signed in or streaming at completion (R12)

	touched bool // in the effects of the Step under way
}

// Open says whether the failover is detected or pending.
func (f *Failover) Open() bool { return f != nil && (f.Status == Detected || f.Status == Pending) }

// Standby is what a desktop says of its CCP in the other Region.
type Standby struct {
	Region     string    `json:"region"`
	Ready      *bool     `json:"ready"`
	Reason     string    `json:"reason,omitempty"`
	ReportedAt time.Time `json:"reportedAt"`
}

// SetupError is a wrong set-up as told to agents (R17). Codes are those of docs/events.md.
type SetupError struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
	// Own says that it concerns this agent alone, Desktop that the agent's desktop reported it; else its group does.
	Own     bool `json:"own,omitempty"`
	Desktop bool `json:"desktop,omitempty"`
}

// Desktop is the last report of an agent's own desktop (R15).
type Desktop struct {
	At           time.Time `json:"at"`       // of the last report
	ActiveRegion string    `json:"active"`   // as last reported; empty: never
	ActiveAt     time.Time `json:"activeAt"` // of the last report that named the active region
	NextRegion   string    `json:"next"`
	NextAt       time.Time `json:"nextAt"`
}

// reportFresh is how long a desktop counts as reporting after its last report, and how long after the end of the stream that keeps
// that report alive (R8).
const reportFresh = 2 * time.Minute

// desktopRegion is the Region that the agent's desktop said last that it works in, "" if it does not report (any more).
func (a *Agent) desktopRegion(now time.Time) string {
	if now.Sub(a.Desktop.At) > reportFresh {
		return ""
	}
	return a.Desktop.ActiveRegion
}

// reports says whether the agent's desktop has the last word on a completion: it reported lately, or it is idle and has nothing new to report,
// and the event stream that was open while its last report was fresh is open still, or was until lately (R8). A desktop reports on connecting, so a
// stream that began later than that is of a page that does not report.
func (a *Agent) reports(now time.Time) bool {
	d := &a.Desktop
	keeps := a.streamSince.Sub(d.At) <= reportFresh && (a.Streaming || now.Sub(a.streamEnded) <= reportFresh)
	return d.ActiveRegion != "" && (keeps || now.Sub(d.At) <= reportFresh)
}

// streams notes whether an event stream of the agent is open, and since when the oldest is. One that follows another within reportFresh
// goes on from it: the network broke, a replica was restarted.
func (a *Agent) streams(since time.Time, open bool, now time.Time) {
	switch {
	case open && (a.streamSince.IsZero() || !a.Streaming && now.Sub(a.streamEnded) > reportFresh):
		a.streamSince = since
	case !open && a.Streaming: // until now, or as far as was stored before this leader began
		a.streamEnded = now
	}
	a.Streaming = open
}

// Agent is what is known of one agent.
type Agent struct {
	ID             string // Connect user id (in the source Region)
	Username       string
	Group          string    // failover group
	TDG            string    // bare id; empty: a member of none that is known
	RoutingProfile string    // as last seen
	NoTDGSince     time.Time // since when TDG is empty
	// Aliases are the user's ids in Regions where it differs from ID (replicas made before November 2023; R2).
	Aliases map[string]string

	ActiveRegion string // empty before the first observation
	RegionSource Source
	ObservedAt   time.Time // when ActiveRegion was last observed or decided

	Failover *Failover // open, or nil
	Last     *Failover // the last completed one while it waits for its confirmation (R12)

	Lists     []ContactList // one per Region that has been read; with global routing one with Region ""
	Desktop   Desktop
	Standby   *Standby
	Errors    []SetupError // told to the agent
	Streaming bool         // has an open event stream on some replica

	// PresenceRegion was the only Region with the agent in PresenceCount consecutive pairs of complete sweeps (R1).
	PresenceRegion string
	PresenceCount  int
	// SeenPass is the last roster pass that listed the agent as a member of TDG (R2); where the instance has one group,
	// the start of the last pass of ListUsers that listed the agent, in Unix microseconds.
	SeenPass int64

	// Since when there has been an event stream, but for short breaks, and when there was none any more. They are not stored: a leader asks who
	// streams before it decides anything.
	streamSince, streamEnded time.Time

	touched   bool // in the effects of the Step under way
	listed    bool // in State.open
	inProfile int  // place in State.byProfile
}

// State of the agent, as REST and snapshots show it.
func (a *Agent) State() AgentState {
	switch {
	case a.Failover != nil && a.Failover.Status == Pending:
		return AgentPending
	case a.Failover != nil:
		return AgentDetected
	case a.ActiveRegion != "":
		return AgentActive
	}
	return AgentUnknown
}

// Share is one Region's part of a distribution. For telephony and agents it is a percentage; for sign-in 1 is
// enabled and 0 is not.
type Share struct {
	Region  string `json:"region"`
	Percent int    `json:"percent"`
}

// Distribution is a list of shares sorted by Region; nil is unknown (R1), never 0/0.
type Distribution []Share

// Answer is one Region's last answer to one question (R14), remembered across restarts.
type Answer struct {
	Value     Distribution `json:"value"`
	At        time.Time    `json:"at"`        // when it was last given
	ChangedAt time.Time    `json:"changedAt"` // when it last became another; zero: it has only ever given this one
	OldAt     time.Time    `json:"oldAt"`     // when the value before that was last given
}

// Vote is what two observers say about one distribution, and what was adopted (R14).
type Vote struct {
	Adopted    Distribution      `json:"adopted"`
	AdoptedAt  time.Time         `json:"adoptedAt,omitzero"`
	AdoptedBy  string            `json:"adoptedBy,omitempty"` // the Region that brought it
	Answers    map[string]Answer `json:"answers,omitempty"`
	Candidate  Distribution      `json:"candidate,omitempty"`
	Count      int               `json:"count,omitempty"` // consecutive rounds in which every voter said Candidate
	DisagreeAt time.Time         `json:"disagreeAt,omitzero"`
	Conflicted bool              `json:"conflicted,omitempty"` // this disagreement has been settled and counted
	LastOldAt  time.Time         `json:"lastOldAt,omitzero"`   // when the value before Adopted was last observed

	counted time.Time // the round that Count was last raised by
}

// TDG is a traffic distribution group.
type TDG struct {
	ID, ARN, Name string
	Group         string // failover group
	Status        string // Amazon's TrafficDistributionGroupStatus
	IsDefault     bool
	Telephony     Vote
	Agents        Vote
	SignIn        Vote
	ObservedAt    time.Time // the last answer of any Region
	SplitAt       time.Time // since when the agents' distribution is a split; zero: it is not
	Setup         []SetupError
	Announced     []SetupError // those of Setup that the members have been told

	Roster RosterPass

	roundAt time.Time // the latest round of answers
}

// RosterPass is the progress of listing a group's members (R2), resumable across restarts.
type RosterPass struct {
	Pass        int64     `json:"pass"` // of the pass under way; passes count from 1
	StartedAt   time.Time `json:"startedAt,omitzero"`
	NextToken   string    `json:"nextToken,omitempty"`
	CompletedAt time.Time `json:"completedAt,omitzero"` // of the last complete pass
	ListedFrom  time.Time `json:"listedFrom,omitzero"`  // when the last complete pass began
	// Unnoted says that of the pass under way some pages were read while every user was a member anyway, so that nobody
	// noted whom they listed: it removes nobody.
	Unnoted bool `json:"unnoted,omitempty"`
}

// RegionState is what the rules remember of a Region of a failover group.
type RegionState struct {
	Region         string        `json:"region"`
	AnsweredAt     time.Time     `json:"answeredAt,omitzero"`    // the last successful contacts read
	UnavailableAt  time.Time     `json:"unavailableAt,omitzero"` // the last contacts read that timed out, broke or got a 5xx
	SweepStartedAt time.Time     `json:"sweepStartedAt,omitzero"`
	SweepDoneAt    time.Time     `json:"sweepDoneAt,omitzero"` // the last complete unfiltered pass
	SweepDuration  time.Duration `json:"sweepDuration,omitempty"`
}

// Group is a failover group: a pair of linked instances.
type Group struct {
	GroupConfig
	Regions   []RegionState
	PairedAt  time.Time    // when both Regions' sweeps were last looked at together (R1)
	Setup     []SetupError // concern every agent of the group
	Announced []SetupError // those of Setup that the agents have been told
	PaceAt    time.Time    // R8
	PaceLeft  float64
	ListedAt  time.Time // when the traffic distribution groups were last listed completely
	Pause     *Pause    // nil: completions are not held (R8)
	// ForcedBulk are the bulk forces of the last ten minutes, but for those of agents whose Region is down (R11).
	ForcedBulk []ForcedBulk
}

// EventType names an event in the words of amazon-connect-streams.
type EventType string

// The events of the log. draining and reset are a connection's own and are not in it.
const (
	EventSnapshot              EventType = "snapshot"
	EventFailoverDetected      EventType = "failoverDetected"
	EventFailoverPending       EventType = "failoverPending"
	EventPendingUpdated        EventType = "failoverPendingUpdated"
	EventFailoverCompleted     EventType = "failoverCompleted"
	EventFailoverCancelled     EventType = "failoverCancelled"
	EventFailoverStalled       EventType = "failoverStalled"
	EventFailoverPaused        EventType = "failoverPaused"
	EventFailoverResumed       EventType = "failoverResumed"
	EventDrillDetected         EventType = "drillDetected"
	EventDrillPending          EventType = "drillPending"
	EventDrillCompleted        EventType = "drillCompleted"
	EventDrillCancelled        EventType = "drillCancelled"
	EventConfigureError        EventType = "configureError"
	EventConfigureErrorCleared EventType = "configureErrorCleared"
)

// Event is one entry of an agent's log. Which fields count depends on Type; see [Event.AppendData].
type Event struct {
	Type       EventType
	AgentID    string
	Group      string
	TDG        string
	FailoverID string
	Time       time.Time

	ActiveRegion    string // empty: null
	ActiveCCPURL    string
	NextRegion      string
	PreviousRegion  string
	CancelledRegion string
	ContactIDs      []string
	Forced          bool
	Evidence        Evidence
	State           AgentState
	Errors          []SetupError // snapshot
	Code, Message   string       // configureError, configureErrorCleared
	Reason          string       // failoverPaused, and snapshot in a pause
	Until           time.Time    // failoverPaused, and snapshot; zero: the failover is not held
	DrillID         string       // of the events of drills
}

// Change is a distribution change that was adopted.
type Change struct {
	TDG, Group    string
	Before, After Distributions
	ObservedAt    time.Time
	ObservedBy    string // Region
	Conflict      bool   // won after a conflict (R14)
}

// Distributions are the three distributions of a traffic distribution group.
type Distributions struct {
	Telephony Distribution `json:"telephony"`
	Agents    Distribution `json:"agents"`
	SignIn    Distribution `json:"signIn"`
}

// Result answers a command of the inbox.
type Result struct {
	CommandID int64
	Outcome   Outcome
	Detail    string // for people; of a drill that has begun, its id
	Matched   int
	Forced    int
}

// Outcome of a command.
type Outcome string

// The outcomes.
const (
	OutcomeDone     Outcome = "done"
	OutcomeConflict Outcome = "conflict" // the failover is not detected or pending
	OutcomeNotFound Outcome = "notFound"
	OutcomeRefused  Outcome = "refused" // a rule forbids it; Detail names the rule
)

// Effects are what a Step changed and what has to be told, in order. The pointers are into the State, but for those of events: use them
// before the next Step.
type Effects struct {
	Agents        []*Agent // changed or new, each once
	RemovedAgents []string
	Failovers     []*Failover // changed or new, each once
	Created       []*Failover // those of Failovers that are new
	TDGs          []*TDG
	Groups        []*Group
	Changes       []Change
	Events        []*Event // per agent in the order of R18
	Results       []Result
	Drills        []*Drill       // changed or new, each once
	Conflicts     map[string]int // distribution conflicts by failover group (R14), for the metric
}
