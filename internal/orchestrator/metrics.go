package orchestrator

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"changeover/internal/failover"
)

// Metrics are those that the leader knows. Counters and histograms count what this replica did while it led; the gauges of state
// are there only while it leads.
type Metrics struct {
	leader    prometheus.Gauge
	failovers *prometheus.CounterVec
	conflicts *prometheus.CounterVec
	detection prometheus.Histogram
	pending   prometheus.Histogram
	ahead     prometheus.Gauge
	census    census
}

// NewMetrics registers the leader's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		leader: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "changeover_leader", Help: "1 while this replica holds the lease.",
		}),
		failovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "changeover_failovers_total", Help: "Failovers that ended, by outcome: completed, forced, cancelled.",
		}, []string{"failover_group", "from_region", "to_region", "outcome"}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "changeover_distribution_conflicts_total", Help: "Disagreements of the two Regions about a distribution that time had to settle.",
		}, []string{"failover_group"}),
		detection: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "changeover_failover_detection_seconds",
			Help:    "From the last observation of the old target to the committed detection: an upper bound of how late it was.",
			Buckets: []float64{0.5, 1, 2, 5, 10, 11, 12, 15, 20, 30, 60, 120, 300},
		}),
		pending: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "changeover_failover_pending_seconds",
			Help:    "How long failovers were pending before they ended.",
			Buckets: []float64{5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200},
		}),
		ahead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "changeover_clock_ahead_seconds",
			Help: "By how much this machine's clock is ahead of PostgreSQL's, compared once a minute. Decisions do not depend on it; tokens and certificates do.",
		}),
	}
	reg.MustRegister(m.leader, m.failovers, m.conflicts, m.detection, m.pending, m.ahead, &m.census)
	return m
}

// begin starts the gauges of state from what has been loaded.
func (m *Metrics) begin(s *failover.State, groups []failover.GroupConfig) {
	for _, g := range groups {
		m.conflicts.WithLabelValues(g.Name)
	}
	m.census.begin(s, groups)
}

// end drops the gauges of state.
func (m *Metrics) end() { m.census.end() }

// observe notes what has been observed, once what it changed is committed.
func (m *Metrics) observe(o failover.Observation) { m.census.observe(o) }

// committed takes the effects of a transaction.
func (m *Metrics) committed(e failover.Effects, at time.Time) {
	if len(e.Events) > 0 {
		failovers := make(map[string]*failover.Failover, len(e.Failovers))
		for _, f := range e.Failovers {
			failovers[f.ID] = f
		}
		for _, ev := range e.Events {
			if f := failovers[ev.FailoverID]; f != nil {
				m.event(ev, f, at)
			}
		}
	}
	for group, n := range e.Conflicts {
		m.conflicts.WithLabelValues(group).Add(float64(n))
	}
	m.census.committed(e)
}

func (m *Metrics) event(e *failover.Event, f *failover.Failover, at time.Time) {
	switch e.Type {
	case failover.EventFailoverDetected:
		if !f.LastOldAt.IsZero() {
			m.detection.Observe(at.Sub(f.LastOldAt).Seconds())
		}
	case failover.EventFailoverCompleted:
		outcome := "completed"
		if e.Forced {
			outcome = "forced"
		}
		m.ended(f, outcome, f.CompletedAt)
	case failover.EventFailoverCancelled:
		m.ended(f, "cancelled", f.CancelledAt)
	}
}

func (m *Metrics) ended(f *failover.Failover, outcome string, at time.Time) {
	m.failovers.WithLabelValues(f.Group, f.From, f.To, outcome).Inc()
	if !f.PendingAt.IsZero() {
		m.pending.Observe(at.Sub(f.PendingAt).Seconds())
	}
}

// The gauges of state.
var (
	agentsDesc = prometheus.NewDesc("changeover_agents", "Agents by state and active region; an empty region is not known.",
		[]string{"failover_group", "state", "active_region"}, nil)
	pendingDesc = prometheus.NewDesc("changeover_failovers_pending", "Failovers that open voice or chat contacts hold.",
		[]string{"failover_group", "to_region"}, nil)
	oldestDesc = prometheus.NewDesc("changeover_failover_oldest_pending_timestamp_seconds", "When the failover that has been pending longest became pending. 0: none is.",
		[]string{"failover_group"}, nil)
	stalledDesc = prometheus.NewDesc("changeover_failovers_stalled", "Completed failovers whose agents were not seen in the new region in time, and not since.",
		[]string{"failover_group"}, nil)
	pausedDesc = prometheus.NewDesc("changeover_failover_group_paused", "1 while operators hold the completions of a failover group.",
		[]string{"failover_group"}, nil)
	heldDesc = prometheus.NewDesc("changeover_failovers_held", "Open failovers that no contact holds: held by a pause, by failover.pace, or for the word of the agent's desktop.",
		[]string{"failover_group"}, nil)
	contactsDesc = prometheus.NewDesc("changeover_open_contacts", "Contacts in the agents' lists; with global routing an empty region is not told.",
		[]string{"failover_group", "region", "channel"}, nil)
	errorsDesc = prometheus.NewDesc("changeover_configure_errors", "Agents who have been told of a set-up error.",
		[]string{"code"}, nil)
	mismatchDesc = prometheus.NewDesc("changeover_distribution_mismatch", "1 while telephony and agents of a traffic distribution group are distributed differently.",
		[]string{"failover_group", "tdg"}, nil)
	observedDesc = prometheus.NewDesc("changeover_observation_last_success_timestamp_seconds",
		"When a source last told something: distribution, contacts (any read of agents), sweep (a complete one), users, roster (of a group, no region). 0: never.",
		[]string{"failover_group", "region", "source"}, nil)
)

// gauge is a time series: a metric and its label values.
type gauge struct {
	desc    *prometheus.Desc
	a, b, c string
}

// census counts agents as they change, so that a scrape costs nothing and reads no state that the leader's loop owns.
type census struct {
	// Of the leader's loop alone.
	parts map[string][]gauge   // what each agent is counted in
	alike map[[3]gauge][]gauge // parts of up to three, which many agents share

	mu      sync.Mutex
	values  map[gauge]float64 // nil: not leading
	pending map[string]wait   // by agent
}

// wait is that of a pending failover.
type wait struct {
	group string
	since time.Time
}

func (c *census) begin(s *failover.State, groups []failover.GroupConfig) {
	c.parts, c.alike = map[string][]gauge{}, map[[3]gauge][]gauge{}
	room := make([]gauge, 0, 8)
	pending := map[string]wait{}
	values := map[gauge]float64{}
	for _, config := range groups {
		values[gauge{desc: oldestDesc, a: config.Name}] = 0
		values[gauge{desc: stalledDesc, a: config.Name}] = 0
		values[gauge{desc: pausedDesc, a: config.Name}] = 0
		values[gauge{desc: heldDesc, a: config.Name}] = 0
		for _, in := range config.Instances {
			values[gauge{desc: pendingDesc, a: config.Name, b: in.Region}] = 0
			for _, source := range []string{"distribution", "contacts", "sweep", "users"} {
				values[gauge{observedDesc, config.Name, in.Region, source}] = 0
			}
		}
		if g := s.Group(config.Name); g != nil {
			values[gauge{desc: pausedDesc, a: g.Name}] = paused(g)
			for _, region := range g.Regions {
				values[gauge{observedDesc, g.Name, region.Region, "contacts"}] = seconds(region.AnsweredAt)
				values[gauge{observedDesc, g.Name, region.Region, "sweep"}] = seconds(region.SweepDoneAt)
			}
		}
		for _, t := range s.TDGsOf(config.Name) {
			values[gauge{desc: mismatchDesc, a: t.Group, b: t.ID}] = mismatch(t)
		}
		for _, a := range s.AgentsOf(config.Name) {
			part := c.kept(partOf(room, a))
			c.parts[a.ID] = part
			if f := a.Failover; f != nil && f.Status == failover.Pending {
				pending[a.ID] = wait{a.Group, f.PendingAt}
			}
			for _, k := range part {
				values[k]++
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values, c.pending = values, pending
}

func (c *census) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values, c.parts, c.alike, c.pending = nil, nil, nil, nil
}

// partOf appends what an agent counts in.
func partOf(part []gauge, a *failover.Agent) []gauge {
	part = append(part, gauge{agentsDesc, a.Group, string(a.State()), a.ActiveRegion})
	if f := a.Failover; f != nil && f.Status == failover.Pending {
		part = append(part, gauge{desc: pendingDesc, a: a.Group, b: f.To})
	}
	if f := a.Failover; f != nil && !f.ClearedAt.IsZero() {
		part = append(part, gauge{desc: heldDesc, a: a.Group})
	}
	if f := a.Last; f != nil && !f.StalledAt.IsZero() && f.ConfirmedAt.IsZero() {
		part = append(part, gauge{desc: stalledDesc, a: a.Group})
	}
	for i := range a.Lists {
		for j := range a.Lists[i].Contacts {
			contact := &a.Lists[i].Contacts[j]
			part = append(part, gauge{contactsDesc, a.Group, contact.Region, contact.Channel})
		}
	}
	for i, e := range a.Errors {
		if !slices.ContainsFunc(a.Errors[:i], func(x failover.SetupError) bool { return x.Code == e.Code }) {
			part = append(part, gauge{desc: errorsDesc, a: e.Code})
		}
	}
	return part
}

func (c *census) committed(e failover.Effects) {
	c.mu.Lock()
	defer c.mu.Unlock()
	room := make([]gauge, 0, 8)
	for _, id := range e.RemovedAgents {
		c.replace(id, nil)
		delete(c.pending, id)
	}
	for _, a := range e.Agents {
		c.replace(a.ID, partOf(room, a))
		if f := a.Failover; f != nil && f.Status == failover.Pending {
			c.pending[a.ID] = wait{a.Group, f.PendingAt}
		} else {
			delete(c.pending, a.ID)
		}
	}
	for _, g := range e.Groups {
		c.values[gauge{desc: pausedDesc, a: g.Name}] = paused(g)
	}
	for _, t := range e.TDGs {
		c.values[gauge{desc: mismatchDesc, a: t.Group, b: t.ID}] = mismatch(t)
	}
}

func (c *census) replace(id string, part []gauge) {
	before := c.parts[id]
	if slices.Equal(before, part) {
		return
	}
	for _, k := range before {
		c.values[k]--
	}
	for _, k := range part {
		c.values[k]++
	}
	if part == nil {
		delete(c.parts, id)
		return
	}
	c.parts[id] = c.kept(part)
}

// kept returns a copy of a part: for all that are alike the same one, unless they are long.
func (c *census) kept(part []gauge) []gauge {
	var key [3]gauge
	if copy(key[:], part) < len(part) {
		return slices.Clone(part)
	}
	kept, ok := c.alike[key]
	if !ok {
		kept = slices.Clone(part)
		c.alike[key] = kept
	}
	return kept
}

func (c *census) observe(o failover.Observation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	saw := func(group, region, source string, at time.Time) {
		k := gauge{observedDesc, group, region, source}
		c.values[k] = max(c.values[k], seconds(at))
	}
	now := time.Now()
	switch o := o.(type) {
	case failover.DistributionRound:
		for _, in := range o.Answers {
			saw(o.Group, in.Region, "distribution", o.TickAt)
		}
	case failover.UserData:
		saw(o.Group, o.Region, "contacts", o.StartedAt)
	case failover.ChunkComplete: // of which every page may have been empty
		saw(o.Group, o.Region, "contacts", o.StartedAt)
	case failover.PassComplete:
		if !o.Filtered {
			saw(o.Group, o.Region, "sweep", o.FinishedAt)
		}
	case failover.UsersListed:
		saw(o.Group, o.Region, "users", now)
	case failover.RosterPage:
		saw(o.Group, "", "roster", now)
	}
}

func paused(g *failover.Group) float64 {
	if g.Pause != nil {
		return 1
	}
	return 0
}

// mismatch is 1 where calls go elsewhere than agents.
func mismatch(t *failover.TDG) float64 {
	telephony, agents := t.Telephony.Adopted, t.Agents.Adopted
	if telephony == nil || agents == nil || slices.Equal(telephony, agents) {
		return 0
	}
	return 1
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// Describe implements [prometheus.Collector].
func (c *census) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{agentsDesc, pendingDesc, oldestDesc, stalledDesc, pausedDesc, heldDesc, contactsDesc, errorsDesc, mismatchDesc, observedDesc} {
		descs <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *census) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	list := make([]prometheus.Metric, 0, len(c.values))
	oldest := map[string]time.Time{}
	for _, w := range c.pending {
		if at, ok := oldest[w.group]; !ok || w.since.Before(at) {
			oldest[w.group] = w.since
		}
	}
	for k, v := range c.values {
		if k.desc == oldestDesc {
			v = seconds(oldest[k.a])
		}
		labels := []string{k.a, k.b, k.c}
		switch k.desc {
		case oldestDesc, stalledDesc, pausedDesc, heldDesc, errorsDesc:
			labels = labels[:1]
		case pendingDesc, mismatchDesc:
			labels = labels[:2]
		}
		list = append(list, prometheus.MustNewConstMetric(k.desc, prometheus.GaugeValue, v, labels...))
	}
	c.mu.Unlock()
	for _, m := range list {
		metrics <- m
	}
}
