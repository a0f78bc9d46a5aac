package tdg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"changeover/internal/connect"
	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/servertest"
)

func TestMain(m *testing.M) {
	servertest.Environment()
	logtest.Main(m)
}

const (
	east = "us-east-1"
	west = "us-west-2"
)

// behaviour is what a fake Region does with a request.
type behaviour func(ctx context.Context, region string) (connect.TrafficDistribution, error)

// answering gives a distribution that sends everything to a Region, after a while.
func answering(to string, after time.Duration) behaviour {
	return func(ctx context.Context, _ string) (connect.TrafficDistribution, error) {
		select {
		case <-time.After(after):
			return toRegion(to), nil
		case <-ctx.Done():
			return connect.TrafficDistribution{}, ctx.Err()
		}
	}
}

func toRegion(to string) connect.TrafficDistribution {
	shares := []connect.Share{{Region: east}, {Region: west}}
	for i := range shares {
		if shares[i].Region == to {
			shares[i].Percent = 100
		}
	}
	return connect.TrafficDistribution{Telephony: shares, Agents: shares, SignIn: []connect.Share{{Region: to, Percent: 1}}}
}

// failing refuses with an error of a kind, after a while; requests under way end with ctx.
func failing(kind connect.Kind, after time.Duration) behaviour {
	return func(ctx context.Context, region string) (connect.TrafficDistribution, error) {
		select {
		case <-time.After(after):
			return connect.TrafficDistribution{}, &connect.Error{
				Kind: kind, Region: region, Operation: connect.OpGetTrafficDistribution, Err: errors.New("as the test wants it"),
			}
		case <-ctx.Done():
			return connect.TrafficDistribution{}, ctx.Err()
		}
	}
}

// hanging is what a request to a Region without an answer looks like: four seconds of silence.
func hanging() behaviour { return failing(connect.Unavailable, 4*time.Second) }

// fakeRegion is one Region with its groups.
type fakeRegion struct {
	t    *testing.T
	name string

	mu       sync.Mutex
	tdgs     []connect.TDGSummary
	list     behaviour // of ListTrafficDistributionGroups; its distribution is ignored
	get      behaviour
	getOf    map[string]behaviour // by ARN, instead of get
	gets     map[string][]time.Time
	lists    []time.Time
	underWay map[string]int
}

func newRegion(t *testing.T, name string, tdgs int) *fakeRegion {
	r := &fakeRegion{
		t: t, name: name, list: answering(east, 0), get: answering(east, 10*time.Millisecond),
		getOf: map[string]behaviour{}, gets: map[string][]time.Time{}, underWay: map[string]int{},
	}
	for i := range tdgs {
		r.tdgs = append(r.tdgs, summary(fmt.Sprintf("g%d", i+1)))
	}
	return r
}

func summary(id string) connect.TDGSummary {
	return connect.TDGSummary{ID: id, ARN: arn(id), Name: id, Status: "ACTIVE", IsDefault: id == "g1"}
}

func arn(id string) string {
	return "arn:aws:connect:us-east-1:111122223333:traffic-distribution-group/" + id
}

func (r *fakeRegion) set(get behaviour) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.get = get
}

func (r *fakeRegion) setOf(id string, get behaviour) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.getOf[arn(id)] = get
}

func (r *fakeRegion) setList(list behaviour, tdgs ...connect.TDGSummary) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list, r.tdgs = list, tdgs
}

// calls are the times at which a group was read.
func (r *fakeRegion) calls(id string) []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]time.Time(nil), r.gets[arn(id)]...)
}

func (r *fakeRegion) Region() string { return r.name }

func (r *fakeRegion) ListTrafficDistributionGroups(ctx context.Context, instanceID string) ([]connect.TDGSummary, error) {
	r.mu.Lock()
	list := r.list
	r.lists = append(r.lists, time.Now())
	r.mu.Unlock()
	if instanceID != "instance-"+r.name {
		r.t.Errorf("%s was asked for the instance %q", r.name, instanceID)
	}
	if _, err := list(ctx, r.name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]connect.TDGSummary(nil), r.tdgs...), nil
}

func (r *fakeRegion) GetTrafficDistribution(ctx context.Context, arn string) (connect.TrafficDistribution, error) {
	r.mu.Lock()
	r.gets[arn] = append(r.gets[arn], time.Now())
	r.underWay[arn]++
	if r.underWay[arn] > 1 {
		r.t.Errorf("%s has %d requests for %s under way", r.name, r.underWay[arn], arn)
	}
	get := r.get
	if own := r.getOf[arn]; own != nil {
		get = own
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.underWay[arn]--
	}()
	return get(ctx, r.name)
}

// seen is an observation and when it was emitted.
type seen struct {
	at time.Duration // since the start
	o  failover.Observation
}

// bench runs a Reader over two fake Regions in a synctest bubble.
type bench struct {
	*testing.T
	east, west *fakeRegion
	reader     *Reader
	start      time.Time
	stop       func()

	mu   sync.Mutex
	seen []seen
}

// start begins to read; change is applied to the options.
func start(t *testing.T, tdgs int, change func(*bench, *Options)) *bench {
	b := &bench{T: t, east: newRegion(t, east, tdgs), west: newRegion(t, west, tdgs), start: time.Now()}
	o := Options{
		Group:     "main",
		Instances: []Instance{{"instance-" + east, b.east}, {"instance-" + west, b.west}},
		Interval:  10 * time.Second, RequestsPerSecond: 1.2, Log: logtest.New(nil),
	}
	if change != nil {
		change(b, &o)
	}
	if b.reader == nil {
		b.reader = New(o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		b.reader.Run(ctx, b.emit)
	}()
	b.stop = func() {
		cancel()
		<-stopped
	}
	t.Cleanup(b.stop)
	return b
}

func (b *bench) emit(_ context.Context, o failover.Observation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, seen{time.Since(b.start), o})
}

// pass lets time pass and returns what was emitted meanwhile.
func (b *bench) pass(d time.Duration) []seen {
	time.Sleep(d)
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.seen
	b.seen = nil
	return s
}

// round is a DistributionRound in short: when, and which Region says where everybody goes.
func round(s seen) (string, bool) {
	r, ok := s.o.(failover.DistributionRound)
	if !ok {
		return "", false
	}
	text := fmt.Sprintf("%s %s", s.at, r.TDG)
	for _, a := range r.Answers {
		to := "?"
		for _, share := range a.Agents {
			if share.Percent == 100 {
				to = share.Region
			}
		}
		text += fmt.Sprintf(" %s:%s", a.Region, to)
	}
	return text, true
}

func rounds(all []seen) []string {
	var out []string
	for _, s := range all {
		if text, ok := round(s); ok {
			out = append(out, text)
		}
	}
	return out
}

func setups(all []seen) []failover.SetupObserved {
	var out []failover.SetupObserved
	for _, s := range all {
		if o, ok := s.o.(failover.SetupObserved); ok {
			out = append(out, o)
		}
	}
	return out
}

// listed are the ids of the last list that was emitted, and how many lists were.
func listed(all []seen) (ids []string, lists int) {
	for _, s := range all {
		if o, ok := s.o.(failover.TDGsListed); ok {
			lists++
			ids = []string{}
			for _, tdg := range o.TDGs {
				ids = append(ids, tdg.ID)
			}
		}
	}
	return ids, lists
}
