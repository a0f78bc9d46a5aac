package tdg

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"changeover/internal/connect"
	"changeover/internal/failover"
)

const (
	// listInterval is from one list of the groups to the next.
	listInterval = time.Minute
	// listRetry is the same after the first attempt, and as long as no Region has given one.
	listRetry = 5 * time.Second
)

// Client is one Region of Amazon Connect, as far as this package uses it; [*connect.Client] is one.
type Client interface {
	Region() string
	ListTrafficDistributionGroups(ctx context.Context, instanceID string) ([]connect.TDGSummary, error)
	GetTrafficDistribution(ctx context.Context, arn string) (connect.TrafficDistribution, error)
}

// Instance is one of the two linked instances of a failover group.
type Instance struct {
	ID     string // of the Amazon Connect instance
	Client Client // of its Region
}

// Options make a [Reader]. All are needed unless it is said otherwise.
type Options struct {
	Group     string     // name of the failover group
	Instances []Instance // the first is the source
	TDGs      []string   // ids or ARNs of the groups to read; empty: all of the instance

	Interval time.Duration // from one read of a group's distribution to the next
	// RequestsPerSecond is the rate of GetTrafficDistribution in each Region that this Reader may use: that of the
	// clients, divided by the failover groups that share them.
	RequestsPerSecond float64

	Log    *slog.Logger
	Tracer trace.Tracer // of the rounds; nil: none
}

// Reader reads the traffic distribution groups of a failover group from its Regions. All methods may be called from any
// goroutine; Run only once at a time.
type Reader struct {
	o      Options
	filter map[string]bool // bare ids; nil: all

	mu    sync.Mutex
	known []failover.TDGInfo
}

// New makes a Reader. It reads nothing before [Reader.Run].
func New(o Options) *Reader {
	r := &Reader{o: o}
	for _, id := range o.TDGs {
		if r.filter == nil {
			r.filter = make(map[string]bool, len(o.TDGs))
		}
		r.filter[id[strings.LastIndexByte(id, '/')+1:]] = true
	}
	return r
}

// SetKnown tells which groups were known when this replica began to lead, so that the next Run reads their distributions at
// once, even if no Region lists groups for now.
func (r *Reader) SetKnown(tdgs []failover.TDGInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = slices.Clone(tdgs)
}

// Run reads until ctx ends, and returns when all its goroutines are gone. What it finds goes to emit, which is called from
// several goroutines, may block (the reads of that group then wait), and must return when ctx ends.
func (r *Reader) Run(ctx context.Context, emit func(context.Context, failover.Observation)) {
	r.mu.Lock()
	known := r.known
	r.mu.Unlock()
	n := &run{
		Reader: r, emit: emit, groups: map[string]*group{}, listed: map[string]failover.TDGInfo{},
		complaints: newComplaints(r.o.Log.With("failover_group", r.o.Group, "read", connect.OpListTrafficDistributionGroups)),
	}
	for _, info := range known {
		if r.wanted(info.ID) {
			n.listed[info.ID] = info
		}
	}
	n.read(ctx, known)
	list := question[[]connect.TDGSummary]{
		regions: len(r.o.Instances),
		every: func() time.Duration {
			if n.complete {
				return listInterval
			}
			return listRetry
		},
		ask: func(ctx context.Context, region int) ([]connect.TDGSummary, error) {
			in := r.o.Instances[region]
			return in.Client.ListTrafficDistributionGroups(ctx, in.ID)
		},
		hear: func(round context.Context, tick time.Time, results []result[[]connect.TDGSummary], late int) {
			n.hearList(ctx, round, tick, results, late)
		},
		name: "poll traffic distribution groups", tracer: r.o.Tracer,
	}
	list.poll(ctx)
	n.reading.Wait()
}

// run is what one Run knows. Its fields belong to the goroutine that lists, unless it is said otherwise.
type run struct {
	*Reader
	emit       func(context.Context, failover.Observation)
	listed     map[string]failover.TDGInfo // as was last emitted, or was known before
	complete   bool                        // a Region has listed the groups in this run
	groups     map[string]*group           // that are being read
	access     denial
	complaints complaints

	reading sync.WaitGroup
	count   atomic.Int64 // of groups that are being read; for any goroutine
}

// group is a traffic distribution group that is being read. Its fields belong to the goroutine that reads it, unless it is
// said otherwise.
type group struct {
	*run
	info       failover.TDGInfo
	cancel     context.CancelFunc
	missing    atomic.Bool // every Region that answered says that it does not exist; for any goroutine
	access     denial
	complaints complaints
}

// spacing is the time between two reads in one Region at the rate that this Reader may use.
func (r *Reader) spacing() time.Duration {
	return time.Duration(float64(time.Second) / r.o.RequestsPerSecond)
}

// interval is from one read of a group to the next: longer than configured where the rate does not allow it.
func (n *run) interval() time.Duration {
	return max(n.o.Interval, time.Duration(n.count.Load())*n.spacing())
}

// wanted says whether a group is one of those that are configured.
func (r *Reader) wanted(id string) bool { return r.filter == nil || r.filter[id] }

// read begins to read the distributions of those groups that are to be read and are not yet.
func (n *run) read(ctx context.Context, infos []failover.TDGInfo) {
	infos = slices.DeleteFunc(slices.Clone(infos), func(info failover.TDGInfo) bool {
		return n.groups[info.ID] != nil || !n.wanted(info.ID) || !readable(info.Status)
	})
	before := n.count.Load()
	n.count.Add(int64(len(infos))) // all of them, before the first one looks at the interval
	for i, info := range infos {
		ctx, cancel := context.WithCancel(ctx)
		g := &group{
			run: n, info: info, cancel: cancel,
			complaints: newComplaints(n.o.Log.With("failover_group", n.o.Group, "tdg", info.ID, "read", connect.OpGetTrafficDistribution)),
		}
		n.groups[info.ID] = g
		q := question[connect.TrafficDistribution]{
			regions: len(n.o.Instances),
			// Groups that begin together are read one after the other, at the pace that they keep from then on.
			first: time.Duration(before+int64(i)) * n.spacing(),
			every: n.interval,
			ask: func(ctx context.Context, region int) (connect.TrafficDistribution, error) {
				return n.o.Instances[region].Client.GetTrafficDistribution(ctx, info.ARN)
			},
			hear: g.hear,
			name: "poll traffic distribution", tracer: n.o.Tracer,
		}
		n.reading.Go(func() {
			defer n.count.Add(-1)
			defer cancel()
			q.poll(ctx)
		})
	}
}

// hearList takes what the Regions say about the groups that there are, in a round; what begins by it ends with ctx.
func (n *run) hearList(ctx, round context.Context, tick time.Time, results []result[[]connect.TDGSummary], late int) {
	ends := outcomes(results)
	n.complaints.hear(n.Reader, ends)
	if late >= 0 && !ends[late].says() {
		return
	}
	verdict := judge(ends)
	if o, ok := n.access.tell(verdict, failover.SetupObserved{Group: n.o.Group},
		"the traffic distribution groups of failover group "+n.o.Group, connect.OpListTrafficDistributionGroups); ok {
		n.emit(round, o)
	}
	if verdict.answers == 0 || late >= 0 && !results[late].good() {
		return
	}
	n.complete = true
	// The first Region that lists a group describes it: the source, if it answers.
	listed := make(map[string]failover.TDGInfo)
	for _, r := range results {
		for _, s := range r.value {
			if _, ok := listed[s.ID]; !ok && r.good() && n.wanted(s.ID) {
				listed[s.ID] = failover.TDGInfo{ID: s.ID, ARN: s.ARN, Name: s.Name, Status: s.Status, IsDefault: s.IsDefault}
			}
		}
	}
	if verdict.answers < len(results) {
		for id, info := range n.listed {
			if _, ok := listed[id]; !ok && !n.gone(id) {
				listed[id] = info
			}
		}
	}
	n.listed = listed

	o := failover.TDGsListed{Group: n.o.Group, At: tick}
	for _, info := range listed {
		o.TDGs = append(o.TDGs, info)
	}
	slices.SortFunc(o.TDGs, func(a, b failover.TDGInfo) int { return strings.Compare(a.ID, b.ID) })
	n.emit(round, o) // before the first round of a new group
	for id, g := range n.groups {
		if _, ok := listed[id]; !ok && n.gone(id) {
			g.cancel()
			delete(n.groups, id)
		}
	}
	n.read(ctx, o.TDGs)
}

// gone says whether a group that is being read is found in no Region that answers.
func (n *run) gone(id string) bool {
	g := n.groups[id]
	return g != nil && g.missing.Load()
}

// readable says whether a group in this status may have a distribution. Amazon Connect gives it while the status is ACTIVE; of an
// UPDATE_IN_PROGRESS the end is near, and statuses that are not known yet are tried.
func readable(status string) bool {
	switch status {
	case "CREATION_IN_PROGRESS", "CREATION_FAILED", "PENDING_DELETION":
		return false
	}
	return true
}

// hear takes what the Regions say about a group's distribution.
func (g *group) hear(ctx context.Context, tick time.Time, results []result[connect.TrafficDistribution], late int) {
	ends := outcomes(results)
	g.complaints.hear(g.Reader, ends)
	if late >= 0 && !ends[late].says() {
		return
	}
	verdict := judge(ends)
	what := "traffic distribution group " + g.info.ID
	about := failover.SetupObserved{Group: g.o.Group, TDG: g.info.ID}
	if o, ok := g.access.tell(verdict, about, what, connect.OpGetTrafficDistribution); ok {
		g.emit(ctx, o)
	}
	missing := verdict.code == failover.CodeTDGNotFound
	if was := g.missing.Load(); missing || was && verdict.answers > 0 {
		about.Code, about.Repaired = failover.CodeTDGNotFound, !missing
		if missing {
			about.Message = what + " is not found"
		}
		g.missing.Store(missing)
		g.emit(ctx, about)
	}
	if verdict.answers == 0 || late >= 0 && !results[late].good() {
		return
	}
	o := failover.DistributionRound{Group: g.o.Group, TDG: g.info.ID, TickAt: tick}
	for i, r := range results {
		if r.good() {
			o.Answers = append(o.Answers, failover.RegionAnswer{
				Region:    g.o.Instances[i].Client.Region(),
				Telephony: distribution(r.value.Telephony),
				Agents:    distribution(r.value.Agents),
				SignIn:    distribution(r.value.SignIn),
			})
		}
	}
	g.emit(ctx, o)
}

// distribution keeps nil, which is unknown.
func distribution(shares []connect.Share) failover.Distribution {
	if shares == nil {
		return nil
	}
	d := make(failover.Distribution, len(shares))
	for i, s := range shares {
		d[i] = failover.Share{Region: s.Region, Percent: s.Percent}
	}
	return d
}
