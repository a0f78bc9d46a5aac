package failover

import "time"

// Observation is something that was seen or asked for. The types below are all there are.
type Observation interface{ observation() }

// Started is the first observation after loading, but for Streaming, which changes nothing by itself: it finds what was missed while
// nobody decided (R3).
type Started struct{}

// Tick lets time pass; everything that depends on age is decided here (R8, R9, R12, R17).
type Tick struct{}

// TDGInfo is a traffic distribution group as listed by Amazon Connect.
type TDGInfo struct {
	ID, ARN, Name, Status string
	IsDefault             bool
}

// TDGsListed is a complete list of the traffic distribution groups of a failover group. Failed or partial lists are
// no observation (R13).
type TDGsListed struct {
	Group string
	TDGs  []TDGInfo
	At    time.Time
}

// RegionAnswer is one Region's answer to GetTrafficDistribution; a nil distribution was missing from it and is no
// answer to that question (R1).
type RegionAnswer struct {
	Region                    string
	Telephony, Agents, SignIn Distribution
}

// DistributionRound is one round of GetTrafficDistribution for a traffic distribution group: the answers of the
// Regions that had answered by then. Those that failed or were silent for a second are not in it and have no vote
// (R14). A late answer comes as a round of its own together with the answers that were in time.
type DistributionRound struct {
	Group, TDG string
	Answers    []RegionAnswer
	TickAt     time.Time // when the round began
}

// RosterPage is one page of ListTrafficDistributionGroupUsers (R2).
type RosterPage struct {
	Group, TDG string
	Pass       int64  // counts up; a page of an older pass than the group's is ignored
	NextToken  string // where to resume
	Last       bool   // the pass is complete: members that it did not list are removed
	UserIDs    []string
}

// User is an id and a name of one Region.
type User struct{ ID, Username string }

// UsersListed is a page of ListUsers of one Region (R2). It names agents and joins ids that differ between Regions;
// where the instance has one traffic distribution group it makes every user a member.
type UsersListed struct {
	Group, Region string
	Users         []User
	StartedAt     time.Time // when the pass began; the same for all its pages
	Last          bool      // the pass is complete: with one group, users of the source instance that it did not list are removed
}

// UserRecord is one agent in an answer of GetCurrentUserData.
type UserRecord struct {
	ID             string // in that Region
	RoutingProfile string
	Offline        bool
	Contacts       []Contact // Region, ObservedAt and the computed fields are set by the core
}

// UserData is a page of GetCurrentUserData of one Region: what it shows is, what it does not show says nothing
// until its chunk is complete.
type UserData struct {
	Group, Region string
	StartedAt     time.Time // when the call began (R6)
	Users         []UserRecord
	// Absent are agents that a complete read by agent id asked for and did not get: not there, no contacts (R6).
	Absent []string
}

// ChunkComplete says that one set of routing profiles was read to its last page: agents of those profiles who were
// not shown since StartedAt have no contacts (R6) and, if it was not filtered, are not there.
type ChunkComplete struct {
	Group, Region string
	StartedAt     time.Time
	Filtered      bool
	Profiles      []string
}

// PassComplete says that every routing profile was read to its last page.
type PassComplete struct {
	Group, Region string
	StartedAt     time.Time
	FinishedAt    time.Time
	Filtered      bool
}

// ContactsUnavailable is a contacts read that timed out, broke or got a 5xx; throttled ones are no observation (R9).
type ContactsUnavailable struct {
	Group, Region string
	At            time.Time
}

// ContactLocated is the answer to a look-up of a contact's Region; empty: it cannot be told (R20).
type ContactLocated struct {
	AgentID, ContactID, Region string
}

// ReportedContact is a contact in a desktop's report.
type ReportedContact struct {
	ContactID string `json:"contactId"`
	Channel   string `json:"channel"`
	State     string `json:"state"`
}

// Report is a desktop's own observation (R15). Nil and empty fields were not reported.
type Report struct {
	CommandID        int64
	AgentID          string
	At               time.Time // when the service received it
	ActiveRegion     string
	NextActiveRegion string
	// ClearNext says that nextActiveRegion was reported as null: the CCP knows of no coming change.
	ClearNext      bool
	HasContacts    bool // Contacts was reported, perhaps empty
	Contacts       []ReportedContact
	ContactsRegion string
	Standby        *Standby
	HasConfigError bool // ConfigCode was reported; empty: repaired
	ConfigCode     string
	ConfigMessage  string
}

// PauseGroup holds a failover group's completions for a time (R8).
type PauseGroup struct {
	CommandID  int64
	Group      string
	TTL        time.Duration
	By, Reason string
}

// ResumeGroup ends a pause before its time. Who asked for that is in the audit.
type ResumeGroup struct {
	CommandID int64
	Group     string
}

// StartDrill begins a drill: a shift that is only told.
type StartDrill struct {
	CommandID  int64
	DrillID    string // UUIDv7
	Group      string
	AgentIDs   []string
	TTL        time.Duration
	By, Reason string
}

// Force completes one open failover (R11).
type Force struct {
	CommandID  int64
	FailoverID string
	By, Reason string
}

// BulkForce completes the open failovers that match (R11). Empty fields match everything.
type BulkForce struct {
	CommandID        int64
	Group, TDG, From string
	FailoverIDs      []string
	OnlyStale        bool // only those whose from-Region is down (R9)
	OnlyFresh        bool // only those whose from-Region is not
	Status           Status
	Channel          string // of a contact that holds
	Phase            Phase
	By, Reason       string
	MaxPerSecond     float64 // 0: at once; the rest follows on later ticks
	// MaxFraction of the group's agents may be forced in bulk within ten minutes, this command included; 0: a fifth. Above it
	// nothing is forced. OnlyStale is exempt.
	MaxFraction float64
}

// Phase is what pending agents do with the contacts that hold them.
type Phase string

// The phases.
const (
	PhaseTalking          Phase = "talking"          // at least one contact has not ended
	PhaseAfterContactWork Phase = "afterContactWork" // all have ended, and are not cleared
)

// Narrow says whether a command asks for less than the first versions of it could say. A leader of such a version would force more.
func (o *BulkForce) Narrow() bool {
	return o.OnlyFresh || o.Status != "" || o.Channel != "" || o.Phase != ""
}

// Streaming says which agents have an open event stream on some replica, and since when each one's oldest is open (R8, R12); all others
// have none.
type Streaming struct{ Since map[string]time.Time }

// SetupObserved tells a set-up error of a whole failover group or traffic distribution group, or its repair (R17).
type SetupObserved struct {
	Group, TDG    string // TDG empty: the whole failover group
	Code, Message string
	Repaired      bool
}

func (Started) observation()             {}
func (Tick) observation()                {}
func (TDGsListed) observation()          {}
func (DistributionRound) observation()   {}
func (RosterPage) observation()          {}
func (UsersListed) observation()         {}
func (UserData) observation()            {}
func (ChunkComplete) observation()       {}
func (PassComplete) observation()        {}
func (ContactsUnavailable) observation() {}
func (ContactLocated) observation()      {}
func (Report) observation()              {}
func (Force) observation()               {}
func (BulkForce) observation()           {}
func (PauseGroup) observation()          {}
func (ResumeGroup) observation()         {}
func (StartDrill) observation()          {}
func (Streaming) observation()           {}
func (SetupObserved) observation()       {}
