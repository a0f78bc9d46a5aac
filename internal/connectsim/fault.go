package connectsim

import (
	"fmt"
	"slices"
	"time"
)

// Fault is a way in which an operation fails.
type Fault string

// The faults.
const (
	FaultHang           Fault = "hang"            // no answer until the client gives up
	FaultReset          Fault = "reset"           // the connection is reset without an answer
	FaultInternal       Fault = "500"             // InternalServiceException
	FaultUnavailable    Fault = "503"             // an HTML page, as load balancers give
	FaultThrottled      Fault = "429"             // ThrottlingException
	FaultTooMany        Fault = "429-too-many"    // TooManyRequestsException, the older name
	FaultThrottledBare  Fault = "429-untyped"     // a 429 that names no error
	FaultDenied         Fault = "denied"          // AccessDeniedException
	FaultTruncated      Fault = "truncated"       // 200 with half of the JSON
	FaultMissingList    Fault = "missing-list"    // 200 without the list or, of a distribution, without its configs
	FaultNullList       Fault = "null-list"       // 200 with null for the list or the configs
	FaultEmptyPages     Fault = "empty-pages"     // every second page of a list is empty but has a token, which is legal
	FaultUnknownMembers Fault = "unknown-members" // members and states that nobody knows yet, which is legal
	FaultNotFound       Fault = "not-found"       // ResourceNotFoundException (InvalidRequestException where the operation has none)
)

// Faults lists all faults.
var Faults = []Fault{
	FaultHang, FaultReset, FaultInternal, FaultUnavailable, FaultThrottled, FaultTooMany, FaultThrottledBare, FaultDenied,
	FaultTruncated, FaultMissingList, FaultNullList, FaultEmptyPages, FaultUnknownMembers, FaultNotFound,
}

// DownMode says how a Region is down.
type DownMode string

// The ways in which a whole Region is down. Nothing that happens on its floor stops; only its API is away. With
// a global view the other Region does not show the contacts of a Region that is down.
const (
	Up              DownMode = ""
	DownRefuse      DownMode = "refuse" // connections are closed before an answer; in process they are refused
	DownHang        DownMode = "hang"
	DownUnavailable DownMode = "503"
)

// FaultRule is a fault of one operation, or of all ("*"), in one Region, or in both ("*").
type FaultRule struct {
	Region    string `json:"region"`
	Operation string `json:"operation"`
	Fault     Fault  `json:"fault"`
}

type faultRule struct {
	region    int // -1: both
	operation string
	fault     Fault
}

type slowRule struct {
	region    int // -1: both
	operation string
	latency   time.Duration
}

// matches says whether a rule for a Region and an operation concerns a request.
func matches(ruleRegion int, ruleOperation string, region int, operation string) bool {
	return (ruleRegion < 0 || ruleRegion == region) && (ruleOperation == "*" || ruleOperation == operation)
}

// scope reads the Region and the operation of a rule.
func (s *Sim) scope(region, operation string) (int, error) {
	r := -1
	if region != "*" {
		var err error
		if r, err = s.mustRegion(region); err != nil {
			return 0, err
		}
	}
	if operation != "*" && !slices.Contains(OperationNames(), operation) {
		return 0, fmt.Errorf("operation %q %w", operation, errUnknown)
	}
	return r, nil
}

// SetFault makes an operation ("*": every one) fail in a Region ("*": both) until ClearFault or ClearFaults. The rule
// set last for a request wins.
func (s *Sim) SetFault(region, operation string, f Fault) error {
	r, err := s.scope(region, operation)
	if err != nil {
		return err
	}
	if !slices.Contains(Faults, f) {
		return fmt.Errorf("fault %q: expected one of %v", f, Faults)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropFault(r, operation)
	s.faults = append(s.faults, faultRule{r, operation, f})
	return nil
}

func (s *Sim) dropFault(region int, operation string) {
	s.faults = slices.DeleteFunc(s.faults, func(f faultRule) bool { return f.region == region && f.operation == operation })
}

// ClearFault removes the rule that was set for exactly this Region and operation.
func (s *Sim) ClearFault(region, operation string) error {
	r, err := s.scope(region, operation)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropFault(r, operation)
	return nil
}

// ClearFaults removes all faults and all latencies that were set. Regions that are down stay down.
func (s *Sim) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.slow = nil, nil
}

// FaultRules lists the faults in the order in which they were set.
func (s *Sim) FaultRules() []FaultRule {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]FaultRule, 0, len(s.faults))
	for _, f := range s.faults {
		r := "*"
		if f.region >= 0 {
			r = s.cfg.Regions[f.region]
		}
		out = append(out, FaultRule{r, f.operation, f.fault})
	}
	return out
}

// SetLatency makes an operation ("*": every one) slow in a Region ("*": both); 0 gives it the configured latency again.
func (s *Sim) SetLatency(region, operation string, d time.Duration) error {
	r, err := s.scope(region, operation)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = slices.DeleteFunc(s.slow, func(f slowRule) bool { return f.region == r && f.operation == operation })
	if d > 0 {
		s.slow = append(s.slow, slowRule{r, operation, d})
	}
	return nil
}

// SetRegionDown takes a whole Region down, or up again with [Up].
func (s *Sim) SetRegionDown(region string, mode DownMode) error {
	r, err := s.mustRegion(region)
	if err != nil {
		return err
	}
	if !slices.Contains([]DownMode{Up, DownRefuse, DownHang, DownUnavailable}, mode) {
		return fmt.Errorf("down mode %q: expected refuse, hang, 503 or none", mode)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[r] = mode
	return nil
}

// conditions are what a request meets.
func (s *Sim) conditions(region int, operation string) (down DownMode, fault Fault, latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if matches(f.region, f.operation, region, operation) {
			fault = f.fault
		}
	}
	latency = s.cfg.Latency
	for _, l := range s.slow {
		if matches(l.region, l.operation, region, operation) {
			latency = l.latency
		}
	}
	return s.down[region], fault, latency
}

type bucketKey struct {
	region    int
	operation string
}

// bucket is a token bucket.
type bucket struct {
	tokens float64
	at     time.Duration
}

// admit takes a token of the operation's bucket. Buckets are per Region and operation, as Amazon Connect's quotas
// are per account, Region and operation.
func (s *Sim) admit(region int, operation string, now time.Duration) bool {
	rate, burst := s.cfg.RatePerSecond, float64(s.cfg.Burst)
	if rate <= 0 {
		return true
	}
	if operation == "DescribeContact" { // 10 and 15 where others have 2 and 5
		rate, burst = rate*5, burst*3
	}
	k := bucketKey{region, operation}
	b := s.buckets[k]
	if b == nil {
		b = &bucket{tokens: burst, at: now}
		s.buckets[k] = b
	}
	b.tokens = min(burst, b.tokens+(now-b.at).Seconds()*rate)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// CallKey is an operation in a Region.
type CallKey struct{ Region, Operation string }

// Call is a request that the simulator got.
type Call struct {
	At        time.Time `json:"at"`
	Region    string    `json:"region"`
	Operation string    `json:"operation"`
	Status    int       `json:"status"`          // 0: no answer
	Error     string    `json:"error,omitempty"` // error type of the answer
	Path      string    `json:"path"`            // escaped, as it came
	Query     string    `json:"query,omitempty"`
	Body      string    `json:"body,omitempty"` // of the request; the first 2,000 bytes
	// Busy are the agents whom an answer of GetCurrentUserData showed with contacts, by their ids in the Region.
	Busy []string `json:"busy,omitempty"`
}

const keepCalls = 10_000

type callLog struct {
	counts map[CallKey]int
	recent []Call
	next   int
}

// Calls lists the last 10,000 requests, oldest first, answered or not.
func (s *Sim) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.calls
	return append(slices.Clone(l.recent[l.next:]), l.recent[:l.next]...)
}

// CallCounts counts all requests since the beginning or ResetCalls.
func (s *Sim) CallCounts() map[CallKey]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[CallKey]int, len(s.calls.counts))
	for k, n := range s.calls.counts {
		out[k] = n
	}
	return out
}

// ResetCalls forgets the requests so far.
func (s *Sim) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = callLog{counts: make(map[CallKey]int)}
}

func (s *Sim) record(c Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.calls
	l.counts[CallKey{c.Region, c.Operation}]++
	if len(l.recent) < keepCalls {
		l.recent = append(l.recent, c)
		return
	}
	l.recent[l.next] = c
	l.next = (l.next + 1) % keepCalls
}
