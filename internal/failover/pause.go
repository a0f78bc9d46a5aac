package failover

import "time"

// Pause holds the completions of a failover group: what the rules would complete waits, what is forced does not. It ends by itself.
type Pause struct {
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
}

// pause begins a pause, or changes the reason and the end of the one that there is.
func (st *step) pause(o PauseGroup) {
	g := st.groups[o.Group]
	if g == nil {
		st.answerGroup(o.CommandID, o.Group)
		return
	}
	since := st.now
	if g.Pause != nil {
		since = g.Pause.Since
	}
	g.Pause = &Pause{By: o.By, Reason: o.Reason, Since: since, Until: st.now.Add(o.TTL)}
	st.touchGroup(g)
	for _, a := range st.byGroup[g.Name] {
		if a.Failover != nil {
			st.tellPause(a)
		}
	}
	st.eff.Results = append(st.eff.Results, Result{CommandID: o.CommandID, Outcome: OutcomeDone})
}

// resume ends a pause at once. Where there is none, that is what was asked for.
func (st *step) resume(o ResumeGroup) {
	g := st.groups[o.Group]
	if g == nil {
		st.answerGroup(o.CommandID, o.Group)
		return
	}
	st.endPause(g)
	st.eff.Results = append(st.eff.Results, Result{CommandID: o.CommandID, Outcome: OutcomeDone})
}

// answerGroup answers a command for a failover group that is not configured.
func (st *step) answerGroup(command int64, group string) {
	st.eff.Results = append(st.eff.Results, Result{
		CommandID: command, Outcome: OutcomeNotFound, Detail: "failover group " + group + " is not configured",
	})
}

// tellPause tells an agent with an open failover that its completion is held.
func (st *step) tellPause(a *Agent) {
	p := st.groups[a.Group].Pause
	st.touchFailover(a, a.Failover)
	st.emit(a, Event{Type: EventFailoverPaused, FailoverID: a.Failover.ID, NextRegion: a.Failover.To, Reason: p.Reason, Until: p.Until})
}

// endPause lets completions go on. What was last seen of those who waited is read again first (R8), and what was last known of a
// Region that is down has to be recent enough still (R9).
func (st *step) endPause(g *Group) {
	if g.Pause == nil {
		return
	}
	g.Pause = nil
	st.touchGroup(g)
	for _, a := range st.byGroup[g.Name] {
		f := a.Failover
		if f == nil {
			continue
		}
		if f.Evidence == LastKnown && !st.recentlyDown(g, f.From) {
			f.Evidence, f.ClearedAt = "", time.Time{}
		}
		if f.Evidence == "" && st.now.Sub(f.EvidenceAt) > 2*st.set.DrainInterval {
			f.EvidenceAt = time.Time{}
		}
		st.touchFailover(a, f)
		st.emit(a, Event{Type: EventFailoverResumed, FailoverID: f.ID, NextRegion: f.To})
	}
}
