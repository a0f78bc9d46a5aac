package orchestrator

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"changeover/internal/agents"
	"changeover/internal/failover"
	"changeover/internal/store"
)

// The rhythm of leading. They bound how long nobody decides after a leader is lost: ttl + acquireEvery + the time to load, and renewEvery more
// where its way to PostgreSQL goes bad by and by and a last renewal still gets through. That is under 15 s (ADR 2).
const (
	ttl          = 10 * time.Second // of the lease
	trusted      = ttl - ttl/10     // see [store.Lease]
	renewEvery   = 3 * time.Second
	renewAgain   = time.Second // after a renewal that failed
	acquireEvery = 500 * time.Millisecond
	releaseWait  = 4 * time.Second // for the release of the lease

	tickEvery      = 500 * time.Millisecond
	inboxEvery     = time.Second
	inboxBatch     = 500
	streamingEvery = 5 * time.Second
	healthEvery    = 3 * time.Second
	maintainEvery  = time.Hour
	compareEvery   = time.Minute // clocks

	// retryAtMost keeps the recovery from an outage of PostgreSQL within 5 s of its return.
	retryAtMost = 2 * time.Second
	// logEvery is how many failures in a row are one line of the log.
	logEvery = 30

	// queued is how many observations wait for the leader's loop, from distributions and from everything else. When a
	// queue is full its readers wait: Amazon Connect is then read more slowly, and nothing is lost.
	queued = 64
)

// Store is what the leader needs of the database; [*store.Store] has it.
type Store interface {
	AcquireLease(ctx context.Context, holder string, ttl time.Duration) (store.Lease, bool, error)
	RenewLease(ctx context.Context, lease store.Lease, holder string, ttl time.Duration) (store.Lease, bool, error)
	ReleaseLease(ctx context.Context, lease store.Lease, holder string) error
	SucceedLease(ctx context.Context, lease store.Lease, holder string, ttl time.Duration) (store.Lease, bool, error)
	Clock(ctx context.Context) (time.Time, error)
	Load(ctx context.Context) (failover.Snapshot, error)
	Begin(ctx context.Context, epoch int64, e failover.Effects, after store.Wait) store.Wait
	PendingCommands(ctx context.Context, afterID int64, limit int) ([]store.Command, error)
	StreamingAgents(ctx context.Context) (map[string]time.Time, error)
	SaveHealth(ctx context.Context, epoch int64, health []store.RegionHealth) error
	MaintainPartitions(ctx context.Context, retention time.Duration) error
	Prune(ctx context.Context) error
}

// Source observes Amazon Connect for a failover group. Run returns when ctx ends and all its goroutines are gone; emit may
// block, and returns at once when ctx ends; its context has the span of the read.
type Source interface {
	Run(ctx context.Context, emit func(ctx context.Context, o failover.Observation))
}

// DistributionSource is a [Source] that can begin with the traffic distribution groups that are stored;
// [*tdg.Reader] is one.
type DistributionSource interface {
	Source
	SetKnown([]failover.TDGInfo)
}

// AgentSource is a [Source] that reads what open failovers need before everything else; [*agents.Reader] is one.
type AgentSource interface {
	Source
	SetWork(failover.Work)
	SetRosters([]agents.Roster)
}

// GroupSources are the readers of one failover group.
type GroupSources struct {
	Group         string
	Distributions DistributionSource
	Agents        AgentSource
}

// Options make an [Orchestrator]. All are needed unless it is said otherwise.
type Options struct {
	Store    Store
	Holder   string // names this replica in the lease; different for each
	Settings failover.Settings
	Groups   []failover.GroupConfig
	Sources  []GroupSources // one for each of Groups

	// Health tells how each Region of each failover group answers, to be saved for all replicas; nil: nothing is saved.
	Health func() []store.RegionHealth
	// Retention is how long events are kept.
	Retention time.Duration
	// Doorbell rings when the inbox may hold something new; nil or silent: it is looked at each second.
	Doorbell <-chan struct{}

	Metrics *Metrics
	Log     *slog.Logger
}

// Status is what an [Orchestrator] is doing.
type Status struct {
	Leading     bool      // holds the lease
	Deciding    bool      // has loaded its state and decides
	Epoch       int64     // of the last term
	Since       time.Time // of Leading
	LastError   string    // why it last stopped deciding; empty: never
	LastErrorAt time.Time
}

// Orchestrator leads when it holds the lease. See the package's documentation.
type Orchestrator struct {
	o       Options
	patient *patient // is o.Store

	// Of the goroutine that asks for the lease or renews it.
	clock    clock
	compared time.Time // when it was, with the database's

	mu     sync.Mutex
	status Status
}

// New makes an Orchestrator.
func New(o Options) *Orchestrator {
	p := newPatient(o.Store)
	o.Store = p
	return &Orchestrator{o: o, patient: p, status: Status{Since: time.Now()}}
}

// Status may be called from any goroutine.
func (o *Orchestrator) Status() Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.status
}

func (o *Orchestrator) setStatus(change func(*Status)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.status)
}

// errUntrusted ends a term that could not be prolonged in time.
var errUntrusted = errors.New("the lease could not be renewed in time")

// Run leads whenever it can get the lease, until ctx ends. It returns when everything that it started is gone and the lease
// is released.
func (o *Orchestrator) Run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		o.compareClocks(ctx)
		lease, ok, err := o.o.Store.AcquireLease(ctx, o.o.Holder, ttl)
		wait := acquireEvery
		switch {
		case err != nil && ctx.Err() == nil:
			if failures++; failures == 1 {
				o.o.Log.Error("the lease cannot be asked for, trying again", "error", err)
			}
			o.failed(err)
			wait = retryIn(failures)
		case ok:
			failures = 0
			wait = acquireEvery / 2 // another replica may be healthier
			if slow := o.lead(ctx, lease); slow {
				wait = standAside
			}
		default:
			failures = 0
		}
		sleep(ctx, jitter(wait))
	}
}

// lead leads, term after term, until the lease is lost or ctx ends. An error of the store ends a term: everything is forgotten, and
// what is loaded again is decided on in a new one. Under the same epoch, a database that failed over without its last commits
// would get other events with the numbers of those that it lost, and no reader could tell them apart.
//
// A leader that takes too long gives the lease back, and lead returns slow: another replica may be nearer to PostgreSQL.
func (o *Orchestrator) lead(ctx context.Context, lease store.Lease) (slow bool) {
	c := o.clock // for all terms, so that time does not jump from one to the next
	o.patient.forgive()
	for failures := 0; ; {
		began := time.Now()
		err := o.term(ctx, lease, &c)
		if time.Since(began) > time.Minute {
			failures = 0
			o.patient.reset()
		}
		for ok := false; !ok; {
			if err == nil {
				return false
			}
			if failures++; failures == 1 || failures%logEvery == 0 {
				o.o.Log.Error("nothing is decided until the state has been loaded again", "epoch", lease.Epoch, "failures", failures, "error", err)
			}
			o.failed(err)
			if errors.Is(err, errSlow) && o.release(ctx, lease) {
				o.o.Log.Warn("standing aside, another replica may be faster", "epoch", lease.Epoch, "for", standAside, "next_patience", o.patient.grow())
				return true
			}
			if failures > 1 && !sleep(ctx, retryIn(failures-1)) {
				o.release(ctx, lease)
				return false
			}
			asked := time.Now()
			var next store.Lease
			if next, ok, err = o.o.Store.SucceedLease(ctx, lease, o.o.Holder, ttl); ok {
				lease = next
				if time.Since(asked) < promptly {
					o.patient.forgive()
				} else if o.patient.over() {
					ok, err = false, errSlow
				}
			}
		}
	}
}

// term leads for one term. It returns the error of the store that ended it; nil: the lease is lost, or ctx has ended.
func (o *Orchestrator) term(ctx context.Context, lease store.Lease, c *clock) error {
	o.o.Log.Info("leading", "epoch", lease.Epoch, "holder", o.o.Holder)
	o.o.Metrics.leader.Set(1)
	o.setStatus(func(s *Status) { s.Leading, s.Epoch, s.Since = true, lease.Epoch, time.Now() })
	term, end := context.WithCancelCause(ctx)
	defer end(nil)

	var keeper sync.WaitGroup
	keeper.Go(func() { o.keep(term, lease, end) })
	err := newReign(o, lease.Epoch).run(term, c)
	lost := context.Cause(term) // before anything here ends the term
	if lost == nil && errors.Is(err, store.ErrFenced) {
		lost = err
	}
	end(nil)
	o.o.Metrics.leader.Set(0)
	o.setStatus(func(s *Status) { s.Leading, s.Deciding, s.Since = false, false, time.Now() })
	keeper.Wait()
	switch {
	case ctx.Err() != nil:
		o.release(ctx, lease)
		return nil
	case errors.Is(lost, store.ErrLost):
		return lost
	case lost != nil:
		o.o.Log.Warn("leading no more", "epoch", lease.Epoch, "error", lost)
		o.failed(lost)
		if errors.Is(lost, errUntrusted) {
			o.release(ctx, lease) // the way to PostgreSQL may be open again, and nobody else leads yet
		}
		return nil
	}
	return err
}

// release gives back a lease that was not lost, so that another replica need not wait until it expires, and says whether it could.
func (o *Orchestrator) release(ctx context.Context, lease store.Lease) bool {
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWait)
	defer cancel()
	if err := o.o.Store.ReleaseLease(release, lease, o.o.Holder); err != nil {
		o.o.Log.Warn("the lease could not be released and has to expire", "epoch", lease.Epoch, "error", err)
		return false
	}
	o.o.Log.Info("lease released", "epoch", lease.Epoch)
	return true
}

// keep renews the lease until the term ends. It ends the term itself when another one has begun, or when the lease cannot be
// trusted any more: never later than that, whatever a renewal is still waiting for.
func (o *Orchestrator) keep(term context.Context, lease store.Lease, end context.CancelCauseFunc) {
	expiry := time.AfterFunc(time.Until(lease.TrustedUntil), func() { end(errUntrusted) })
	defer expiry.Stop()
	for wait := time.Until(lease.TrustedUntil) - trusted + renewEvery; sleep(term, wait); {
		next, ok, err := o.o.Store.RenewLease(term, lease, o.o.Holder, ttl)
		switch {
		case term.Err() != nil:
			return
		case errors.Is(err, store.ErrLost):
			end(err)
			return
		case err != nil:
			o.o.Log.Warn("the lease was not renewed, trying again", "trusted_for", time.Until(lease.TrustedUntil), "error", err)
			wait = renewAgain
		case !ok:
			end(store.ErrFenced)
			return
		default:
			lease, wait = next, renewEvery
			expiry.Reset(time.Until(lease.TrustedUntil))
			o.compareClocks(term)
		}
	}
}

func (o *Orchestrator) failed(err error) {
	o.setStatus(func(s *Status) { s.LastError, s.LastErrorAt = err.Error(), time.Now() })
}

// retryIn is how long to wait after so many failures in a row (from 1).
func retryIn(failures int) time.Duration {
	return jitter(min(200*time.Millisecond<<min(failures-1, 10), retryAtMost))
}

func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// sleep waits, and says whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
