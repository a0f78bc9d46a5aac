package agents

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"changeover/internal/connect"
	"changeover/internal/failover"
)

// Client is one Region of Amazon Connect, as far as this package uses it; [*connect.Client] is one.
type Client interface {
	Region() string
	ListRoutingProfiles(ctx context.Context, instanceID string) ([]string, error)
	ListUsers(ctx context.Context, instanceID, nextToken string) (connect.UserPage, error)
	ListTrafficDistributionGroupUsers(ctx context.Context, arn, nextToken string) (connect.UserIDPage, error)
	CurrentUserData(ctx context.Context, p connect.Priority, q connect.UserDataQuery) (connect.UserDataPage, error)
	DescribeContact(ctx context.Context, instanceID, contactID string) (connect.ContactInfo, error)
}

// Instance is one of the two linked instances of a failover group.
type Instance struct {
	ID     string // of the Amazon Connect instance
	Client Client // of its Region
}

// Options make a [Reader]. All are needed unless it is said otherwise.
type Options struct {
	Group     string // name of the failover group
	Routing   failover.Routing
	Instances []Instance // the first is the source

	AgentInterval      time.Duration // from one full sweep to the next
	DrainInterval      time.Duration // from one contacts read of an agent with an open failover to the next
	MembershipInterval time.Duration // from one pass over members and users to the next

	// RequestsPerSecond is the rate of contacts reads in each Region that this Reader may use: that of the clients, divided by the
	// failover groups that share them. The sweep leaves a part of it alone, so that the burst is there when a
	// detection needs it, and where it has been raised so far that the answers' latency would limit the rate, several
	// reads are under way at once.
	RequestsPerSecond float64

	Log    *slog.Logger
	Tracer trace.Tracer // of the reads of contacts; nil: none
}

// Roster is a traffic distribution group whose members have to be listed, and how far that had come when this
// replica began to lead.
type Roster struct {
	TDG, ARN string // bare id, ARN
	Progress failover.RosterPass
}

// slowAnswer is how long an answer may take without limiting the rate.
const slowAnswer = 500 * time.Millisecond

// mostParallel bounds the reads under way at once.
const mostParallel = 16

// Reader reads who the agents of a failover group are, where they are present and which contacts they have. All
// methods may be called from any goroutine; Run only once at a time.
type Reader struct {
	o       Options
	regions []*region

	mu      sync.Mutex
	rosters []Roster
	lookups []failover.LookupItem
	changed chan struct{} // closed and replaced when rosters or lookups change
}

// New makes a Reader. It reads nothing before [Reader.Run].
func New(o Options) *Reader {
	if o.Tracer == nil {
		o.Tracer = noop.Tracer{}
	}
	r := &Reader{o: o, changed: make(chan struct{})}
	for i, in := range o.Instances {
		r.regions = append(r.regions, newRegion(r, in, i))
	}
	return r
}

// SetWork tells which agents with an open failover have to be read, and which contacts looked up. Items of other
// failover groups are left out. It never blocks.
func (r *Reader) SetWork(w failover.Work) {
	for _, g := range r.regions {
		g.setItems(w.Drain)
	}
	var lookups []failover.LookupItem
	for _, l := range w.Lookups {
		if l.Group == r.o.Group {
			lookups = append(lookups, l)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(lookups) > 0 || len(r.lookups) > 0 {
		r.lookups = lookups
		r.wake()
	}
}

// SetRosters tells which traffic distribution groups' members have to be listed. Progress counts for groups that
// this Run has not begun to list. It never blocks.
func (r *Reader) SetRosters(rosters []Roster) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rosters = rosters
	r.wake()
}

// wake tells the goroutines that wait for rosters or look-ups; r.mu is held.
func (r *Reader) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Run reads until ctx ends, and returns when all its goroutines are gone. What it finds goes to emit, which is called from several
// goroutines, may block (the reads then wait) and must return when ctx ends. The observations of one read are emitted in order.
// Work and rosters are forgotten at the end: what a later Run knows, it was told after this one.
func (r *Reader) Run(ctx context.Context, emit func(context.Context, failover.Observation)) {
	var wg sync.WaitGroup
	for _, g := range r.regions {
		wg.Go(func() { g.run(ctx, emit) })
	}
	wg.Go(func() { r.listMembers(ctx, emit) })
	wg.Go(func() { r.lookUp(ctx, emit) })
	wg.Wait()
	for _, g := range r.regions {
		g.reset()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rosters, r.lookups = nil, nil
}

// sleep waits, and says whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// sleepOr waits, at most until something has changed or ctx ends.
func sleepOr(ctx context.Context, changed <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-t.C:
	}
}

// backoff is how long to wait after so many failures in a row (from 1): half a second, doubled each time, at most
// limit, and a fifth more or less so that several readers do not fall into step.
func backoff(failures int, limit time.Duration) time.Duration {
	d := min(500*time.Millisecond<<min(failures-1, 16), limit)
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// complaint logs the first of several failures of the same kind in a row, and the recovery.
type complaint struct {
	log    *slog.Logger
	region string
	what   string
	kind   connect.Kind
}

func (c *complaint) failed(ctx context.Context, err error) {
	if kind := connect.KindOf(err); ctx.Err() == nil && kind != c.kind {
		c.kind = kind
		c.log.Warn("amazon connect cannot be read, last known values are kept",
			"region", c.region, "read", c.what, "kind", string(kind), "error", err)
	}
}

func (c *complaint) succeeded() {
	if c.kind != "" {
		c.kind = ""
		c.log.Info("amazon connect can be read again", "region", c.region, "read", c.what)
	}
}
