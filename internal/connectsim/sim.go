package connectsim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Sim is a simulated Amazon Connect: two linked instances in two Regions and the people who work there. Its methods
// may be called from any goroutine.
type Sim struct {
	cfg   Config
	start time.Time // everything inside is a duration since then

	mu     sync.Mutex
	now    time.Duration // up to which the events have happened
	rng    *rand.Rand
	events eventHeap
	nextN  uint64

	floor      Floor
	floorGen   uint32 // arrivals of an older generation are void
	agents     []*agent
	byID       [2]map[string]*agent // per Region
	byUsername map[string]*agent
	nextSeq    int
	profiles   []*profile
	profileIDs map[string]*profile
	queueIDs   map[string]*profile
	groupIDs   map[string]int // hierarchy groups
	contacts   map[string]*contact
	cleared    []*contact // the last of those that were cleared, for DescribeContact
	clearedAt  int
	tdgs       []*tdg
	tokens     map[string]string // ids of groups by the client token that created them

	faults    []faultRule
	down      [2]DownMode
	ccpFaults [2]CCPFault
	slow      []slowRule
	buckets   map[bucketKey]*bucket
	calls     callLog
	wake      chan struct{} // tells Run of an earlier event

	ops        []operation
	control    http.Handler
	groupNames [hierarchyGroups]string // ids of the hierarchy groups
	statusIDs  map[string]string
	observe    func(*request, reply) // tests see every answer here
}

// profile is a routing profile with a queue of its own.
type profile struct {
	seq               int
	id, name, queueID string
	agents            []*agent // by seq
}

// agent is a user of the instance who may take contacts.
type agent struct {
	seq                   int
	ids                   [2]string // per Region
	username, first, last string
	profile               *profile
	group                 int // hierarchy group
	hash                  uint64
	tdg                   *tdg
	region                int
	status                string
	statusSince           time.Duration
	contacts              []*contact // not cleared, in the order in which they began
	waiting               bool       // the desktop knows of the move and waits for the contacts
	moveGen               uint32     // planned moves of an older generation are void
	readyGen              uint32     // likewise for becoming available after a move
	movedAt               time.Duration
	removed               bool
}

// contact is a contact of an agent.
type contact struct {
	id, channel, method, state string
	region                     int
	agent                      *agent
	began, stateSince          time.Duration
	connectedAt, endedAt       time.Duration // -1: not
	clearedAt                  time.Duration // -1: not
	tdgID                      string
	willHold                   bool // the floor puts it on hold once
}

// Statuses of agents. Others are an instance's own names.
const (
	StatusAvailable = "Available"
	StatusOffline   = "Offline"
)

const (
	hierarchyGroups = 4
	keepCleared     = 20_000 // contacts that DescribeContact knows after they were cleared
)

// New makes a simulator whose time begins now. It panics when the configuration makes no sense; see
// [Config.Validate].
func New(c Config) *Sim {
	if err := c.Validate(); err != nil {
		panic(err)
	}
	c = c.withDefaults()
	s := &Sim{
		cfg:        c,
		start:      time.Now(),
		rng:        rand.New(rand.NewPCG(c.Seed, 0x636f6e6e65637400)),
		floor:      c.Floor.withDefaults(),
		byUsername: make(map[string]*agent, c.Agents),
		profileIDs: make(map[string]*profile),
		queueIDs:   make(map[string]*profile),
		groupIDs:   make(map[string]int),
		contacts:   make(map[string]*contact),
		tokens:     make(map[string]string),
		buckets:    make(map[bucketKey]*bucket),
		calls:      callLog{counts: make(map[CallKey]int)},
		wake:       make(chan struct{}, 1),
		statusIDs:  make(map[string]string),
	}
	for i := range s.byID {
		s.byID[i] = make(map[string]*agent, c.Agents)
	}
	for i := range c.RoutingProfiles {
		p := &profile{
			seq:     i,
			id:      s.uuidOf("routing-profile", strconv.Itoa(i)),
			queueID: s.uuidOf("queue", strconv.Itoa(i)),
			name:    fmt.Sprintf("Routing profile %d", i+1),
		}
		s.profiles = append(s.profiles, p)
		s.profileIDs[p.id] = p
		s.queueIDs[p.queueID] = p
	}
	for i := range hierarchyGroups {
		s.groupNames[i] = s.uuidOf("agent-group", strconv.Itoa(i))
		s.groupIDs[s.groupNames[i]] = i
	}
	weights := 0.0
	for _, t := range c.TDGs {
		s.tdgs = append(s.tdgs, s.newTDG(t))
		weights += t.Agents
	}
	for i := range c.Agents {
		a := s.newAgent(fmt.Sprintf("agent%05d", i+1))
		at := (float64(i) + 0.5) / float64(c.Agents) * weights
		for j, t := range c.TDGs {
			if at -= t.Agents; at < 0 {
				s.join(a, s.tdgs[j])
				break
			}
		}
		if t := s.target(a); t >= 0 {
			a.region = t
		}
		if s.rng.Float64() < c.SignedIn {
			a.status = StatusAvailable
		}
	}
	s.startFloor(true)
	s.ops = s.operations()
	s.control = s.controlHandler()
	return s
}

// Handler speaks Amazon Connect's wire protocol for both Regions, told apart by the scope of the request's signature
// (which is not verified), and the simulator's own control API under /_control/.
func (s *Sim) Handler() http.Handler { return http.HandlerFunc(s.serveHTTP) }

// Regions are the source Region and its replica.
func (s *Sim) Regions() [2]string { return s.cfg.Regions }

// InstanceID is the id of the instance in both Regions.
func (s *Sim) InstanceID() string { return s.cfg.InstanceID }

// regionIndex is the index of a Region, or -1.
func (s *Sim) regionIndex(region string) int {
	for i, r := range s.cfg.Regions {
		if r == region {
			return i
		}
	}
	return -1
}

// uuidOf makes an id that depends on the seed and the name alone.
func (s *Sim) uuidOf(kind, name string) string {
	h := sha256.New()
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], s.cfg.Seed)
	h.Write(seed[:])
	h.Write([]byte(kind + "\x00" + name))
	var u uuid.UUID
	copy(u[:], h.Sum(nil))
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

// randomUUID takes an id from the simulator's random numbers.
func (s *Sim) randomUUID() string {
	var u uuid.UUID
	binary.BigEndian.PutUint64(u[:8], s.rng.Uint64())
	binary.BigEndian.PutUint64(u[8:], s.rng.Uint64())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u.String()
}

// statusID is the id of an agent status.
func (s *Sim) statusID(name string) string {
	id := s.statusIDs[name]
	if id == "" {
		id = s.uuidOf("agent-state", name)
		s.statusIDs[name] = id
	}
	return id
}

// instanceARN of the instance in a Region.
func (s *Sim) instanceARN(region int) string {
	return "arn:aws:connect:" + s.cfg.Regions[region] + ":" + s.cfg.Account + ":instance/" + s.cfg.InstanceID
}

// resourceARN of something that belongs to the instance.
func (s *Sim) resourceARN(region int, kind, id string) string {
	return s.instanceARN(region) + "/" + kind + "/" + id
}

// time of a moment of the simulation.
func (s *Sim) time(d time.Duration) time.Time { return s.start.Add(d) }

// lock takes the state and brings it up to the present.
func (s *Sim) lock() {
	s.mu.Lock()
	s.advance(time.Since(s.start))
}

func (s *Sim) newAgent(username string) *agent {
	p := s.profiles[s.nextSeq%len(s.profiles)]
	a := &agent{
		seq:      s.nextSeq,
		username: username,
		first:    firstNames[s.nextSeq%len(firstNames)],
		last:     lastNames[s.nextSeq/len(firstNames)%len(lastNames)],
		profile:  p,
		group:    s.nextSeq % hierarchyGroups,
		hash:     hash64(s.cfg.Seed, username),
		status:   StatusOffline,
	}
	s.nextSeq++
	a.ids[0] = s.uuidOf("agent", username)
	a.ids[1] = a.ids[0]
	if s.cfg.DifferingUserIDs {
		a.ids[1] = s.uuidOf("agent in the replica", username)
	}
	a.statusSince = s.now
	s.agents = append(s.agents, a)
	p.agents = append(p.agents, a)
	for i, id := range a.ids {
		s.byID[i][id] = a
	}
	s.byUsername[username] = a
	return a
}

// hash64 spreads names evenly; it decides who moves in a split.
func hash64(seed uint64, name string) uint64 {
	h := sha256.New()
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], seed)
	h.Write(b[:])
	h.Write([]byte(name))
	return binary.BigEndian.Uint64(h.Sum(nil))
}

var firstNames = []string{"Ada", "Ben", "Chloe", "Dan", "Eve", "Finn", "Grace", "Hugo", "Iris", "Jon", "Kim", "Leo", "Mia", "Noah", "Olga", "Paul", "Quinn", "Rosa", "Sam", "Tess", "Uma", "Vic", "Wen", "Xenia", "Yara", "Zoe"}
var lastNames = []string{"Adams", "Brown", "Clark", "Davis", "Evans", "Fox", "Garcia", "Hill", "Ito", "Jones", "Khan", "Lopez", "Moore", "Novak", "Okafor", "Patel", "Quist", "Rossi", "Smith", "Tanaka", "Usman", "Vega", "Wong", "Xu", "Young", "Zhang"}
