package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// This file maps the core's types to rows and back. Members of the jsonb columns are named here or by the tags of the
// core's types: renaming one loses what is stored (see package migrations). A test fills every field of the core's types and
// reads it back.

// agentMemory is what only the rules need of an agent.
type agentMemory struct {
	Aliases        map[string]string      `json:"aliases,omitempty"`
	Lists          []failover.ContactList `json:"lists,omitempty"` // without their contacts
	Desktop        failover.Desktop       `json:"desktop,omitzero"`
	NoTDGSince     time.Time              `json:"noTdgSince,omitzero"`
	PresenceRegion string                 `json:"presenceRegion,omitempty"`
	PresenceCount  int                    `json:"presenceCount,omitempty"`
	SeenPass       int64                  `json:"seenPass,omitempty"`
}

// agentColumns have room for n agents: columns that grow by and by take twice the memory.
func agentColumns(n int) (p db.UpsertAgentsParams) {
	for _, column := range []*[]string{
		&p.AgentIds, &p.Usernames, &p.FailoverGroups, &p.TdgIds, &p.RoutingProfiles, &p.ActiveRegions, &p.RegionSources, &p.States, &p.NextRegions,
		&p.FailoverIds, &p.LastFailoverIds,
	} {
		*column = make([]string, 0, n)
	}
	for _, column := range []*[][]byte{&p.Standbys, &p.Errors, &p.Memories} {
		*column = make([][]byte, 0, n)
	}
	p.ObservedAts, p.Streamings = make([]pgtype.Timestamptz, 0, n), make([]bool, 0, n)
	return p
}

func (e *encoder) agent(p *db.UpsertAgentsParams, a *failover.Agent) {
	memory := agentMemory{
		Aliases: a.Aliases, NoTDGSince: micros(a.NoTDGSince), PresenceRegion: a.PresenceRegion, PresenceCount: a.PresenceCount, SeenPass: a.SeenPass,
		Desktop: failover.Desktop{
			At: micros(a.Desktop.At), ActiveRegion: a.Desktop.ActiveRegion, ActiveAt: micros(a.Desktop.ActiveAt),
			NextRegion: a.Desktop.NextRegion, NextAt: micros(a.Desktop.NextAt),
		},
	}
	for _, l := range a.Lists {
		l.Contacts = nil
		l.ReadAt, l.SeenAt = micros(l.ReadAt), micros(l.SeenAt)
		memory.Lists = append(memory.Lists, l)
	}
	var standby []byte
	if a.Standby != nil {
		sb := *a.Standby
		sb.ReportedAt = micros(sb.ReportedAt)
		standby = e.object(sb)
	}
	var open, last, next string
	if a.Failover != nil {
		open, next = a.Failover.ID, a.Failover.To
	}
	if a.Last != nil {
		last = a.Last.ID
	}
	p.AgentIds = append(p.AgentIds, text(a.ID))
	p.Usernames = append(p.Usernames, text(a.Username))
	p.FailoverGroups = append(p.FailoverGroups, text(a.Group))
	p.TdgIds = append(p.TdgIds, text(a.TDG))
	p.RoutingProfiles = append(p.RoutingProfiles, text(a.RoutingProfile))
	p.ActiveRegions = append(p.ActiveRegions, text(a.ActiveRegion))
	p.RegionSources = append(p.RegionSources, text(string(a.RegionSource)))
	p.ObservedAts = append(p.ObservedAts, timestamp(a.ObservedAt))
	p.States = append(p.States, string(a.State()))
	p.NextRegions = append(p.NextRegions, text(next))
	p.FailoverIds = append(p.FailoverIds, text(open))
	p.LastFailoverIds = append(p.LastFailoverIds, text(last))
	p.Streamings = append(p.Streamings, a.Streaming)
	p.Standbys = append(p.Standbys, standby)
	p.Errors = append(p.Errors, e.errors(a.Errors))
	p.Memories = append(p.Memories, e.agentMemory(&memory))
}

// agentMemory is the JSON of nearly every agent's memory without reflection, which is a good part of what a shift costs the leader. Where more is
// in it than lists it is encoding/json's work.
func (e *encoder) agentMemory(m *agentMemory) []byte {
	if len(m.Aliases) > 0 || m.Desktop != (failover.Desktop{}) || !m.NoTDGSince.IsZero() || m.PresenceRegion != "" || m.PresenceCount != 0 {
		return e.object(m)
	}
	b := e.begin(`{`)
	for i := range m.Lists {
		l := &m.Lists[i]
		if !plain(l.Region) {
			return e.object(m)
		}
		if i == 0 {
			b = append(b, `"lists":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(b, `{"region":"`...)
		b = append(b, l.Region...)
		b = append(b, '"')
		b = appendTime(b, "readAt", l.ReadAt)
		if l.Present {
			b = append(b, `,"present":true`...)
		}
		if l.Offline {
			b = append(b, `,"offline":true`...)
		}
		if !l.SeenAt.IsZero() {
			b = appendTime(b, "seenAt", l.SeenAt)
		}
		b = append(b, '}')
	}
	if len(m.Lists) > 0 {
		b = append(b, ']')
	}
	if m.SeenPass != 0 {
		if len(m.Lists) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `"seenPass":`...), m.SeenPass, 10)
	}
	return e.end(append(b, '}'))
}

// failoverMemory is the same for a failover.
func (e *encoder) failoverMemory(m *failoverMemory) []byte {
	b := e.begin(`{`)
	for _, t := range [...]struct {
		name string
		at   time.Time
	}{{"lastOldAt", m.LastOldAt}, {"clearedAt", m.ClearedAt}, {"evidenceAt", m.EvidenceAt}, {"forceAt", m.ForceAt}} {
		if !t.at.IsZero() {
			b = appendTime(b, t.name, t.at)
		}
	}
	if m.SignedIn {
		b = append(b, `,"signedIn":true`...)
	}
	if len(b) > e.began+1 && b[e.began+1] == ',' {
		b = append(b[:e.began+1], b[e.began+2:]...)
	}
	return e.end(append(b, '}'))
}

// begin and end enclose a value in the buffer that the values share.
func (e *encoder) begin(text string) []byte {
	e.began = len(e.buf)
	return append(e.buf, text...)
}

func (e *encoder) end(b []byte) []byte {
	e.buf = b
	return b[e.began:len(b):len(b)]
}

// plain says that JSON holds the text as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendTime appends a member behind others, as encoding/json writes it.
func appendTime(b []byte, name string, t time.Time) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	b = t.AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

func decodeAgent(row *db.LoadAgentsRow) (*failover.Agent, error) {
	var memory agentMemory
	a := &failover.Agent{
		ID: row.AgentID, Username: row.Username, Group: row.FailoverGroup, TDG: row.TdgID, RoutingProfile: row.RoutingProfile,
		ActiveRegion: row.ActiveRegion, RegionSource: failover.Source(row.RegionSource), ObservedAt: row.ObservedAt.Time,
		Streaming: row.Streaming,
	}
	if err := decode(row.Memory, &memory, "agent", row.AgentID); err != nil {
		return nil, err
	}
	var err error
	if a.Errors, err = decodeErrors(row.Errors, row.AgentID); err != nil {
		return nil, err
	}
	if a.Standby, err = decodeStandby(row.Standby, row.AgentID); err != nil {
		return nil, err
	}
	a.Aliases, a.Lists, a.Desktop, a.NoTDGSince = memory.Aliases, memory.Lists, memory.Desktop, memory.NoTDGSince
	a.PresenceRegion, a.PresenceCount, a.SeenPass = memory.PresenceRegion, memory.PresenceCount, memory.SeenPass
	return a, nil
}

func decodeErrors(b []byte, id string) (errs []failover.SetupError, err error) {
	if string(b) == "[]" { // nearly always
		return nil, nil
	}
	return errs, decode(b, &errs, "set-up errors of", id)
}

func decodeStandby(b []byte, id string) (standby *failover.Standby, err error) {
	if b == nil {
		return nil, nil
	}
	return standby, decode(b, &standby, "standby of agent", id)
}

// contactMemory is what only the rules need of a contact.
type contactMemory struct {
	Began      time.Time       `json:"began,omitzero"`
	Desktop    bool            `json:"desktop,omitempty"`
	ReportedAt time.Time       `json:"reportedAt,omitzero"`
	Lookup     failover.Lookup `json:"lookup,omitempty"`
	LookupTo   string          `json:"lookupTo,omitempty"`
}

func (e *encoder) contact(p *db.UpsertContactsParams, agentID, listRegion string, c *failover.Contact) {
	p.AgentIds = append(p.AgentIds, text(agentID))
	p.ListRegions = append(p.ListRegions, text(listRegion))
	p.ContactIds = append(p.ContactIds, text(c.ID))
	p.Regions = append(p.Regions, text(c.Region))
	p.Channels = append(p.Channels, text(c.Channel))
	p.States = append(p.States, text(c.State))
	p.StateSinces = append(p.StateSinces, timestamp(c.StateSince))
	p.ObservedAts = append(p.ObservedAts, timestamp(c.ObservedAt))
	p.StaleSinces = append(p.StaleSinces, timestamp(c.StaleSince))
	p.Blockings = append(p.Blockings, c.Blocking)
	p.Surfaceds = append(p.Surfaceds, c.Surfaced)
	p.Memories = append(p.Memories, e.object(contactMemory{
		Began: micros(c.Began), Desktop: c.Desktop, ReportedAt: micros(c.ReportedAt), Lookup: c.Lookup, LookupTo: c.LookupTo,
	}))
}

func decodeContact(row *db.Contact) (failover.Contact, error) {
	var memory contactMemory
	if err := decode(row.Memory, &memory, "contact", row.ContactID); err != nil {
		return failover.Contact{}, err
	}
	return failover.Contact{
		ID: row.ContactID, Channel: row.Channel, State: row.State, Region: row.Region, StateSince: row.StateSince.Time,
		Began: memory.Began, ObservedAt: row.ObservedAt.Time, Desktop: memory.Desktop, ReportedAt: memory.ReportedAt,
		Lookup: memory.Lookup, LookupTo: memory.LookupTo, Surfaced: row.Surfaced, Blocking: row.Blocking,
		StaleSince: row.StaleSince.Time,
	}, nil
}

// failoverMemory is what only the rules need of a failover.
type failoverMemory struct {
	LastOldAt  time.Time `json:"lastOldAt,omitzero"`
	ClearedAt  time.Time `json:"clearedAt,omitzero"`
	EvidenceAt time.Time `json:"evidenceAt,omitzero"`
	ForceAt    time.Time `json:"forceAt,omitzero"`
	SignedIn   bool      `json:"signedIn,omitempty"`
}

func (e *encoder) failover(row *db.InsertFailoversParams, f *failover.Failover) {
	*row = db.InsertFailoversParams{
		FailoverID: text(f.ID), AgentID: text(f.AgentID), FailoverGroup: text(f.Group),
		TdgID: text(f.TDG), FromRegion: text(f.From), ToRegion: text(f.To),
		Status: text(string(f.Status)), Cause: text(string(f.Cause)), Evidence: text(string(f.Evidence)),
		DetectedAt: timestamp(f.DetectedAt), PendingAt: timestamp(f.PendingAt), CompletedAt: timestamp(f.CompletedAt),
		CancelledAt: timestamp(f.CancelledAt), ConfirmedAt: timestamp(f.ConfirmedAt), StalledAt: timestamp(f.StalledAt),
		StaleSince: timestamp(f.StaleSince), Forced: f.Forced, ForcedBy: text(f.ForcedBy),
		ForcedReason: text(f.ForcedReason), ContactIds: e.ids(f.ContactIDs), InitialContactIds: e.ids(f.InitialContactIDs),
		Memory: e.failoverMemory(&failoverMemory{
			LastOldAt: micros(f.LastOldAt), ClearedAt: micros(f.ClearedAt), EvidenceAt: micros(f.EvidenceAt),
			ForceAt: micros(f.ForceAt), SignedIn: f.SignedIn,
		}),
	}
}

// appendFailover adds a row to columns.
func appendFailover(p *db.UpsertFailoversParams, row *db.InsertFailoversParams) {
	p.FailoverIds = append(p.FailoverIds, row.FailoverID)
	p.AgentIds = append(p.AgentIds, row.AgentID)
	p.FailoverGroups = append(p.FailoverGroups, row.FailoverGroup)
	p.TdgIds = append(p.TdgIds, row.TdgID)
	p.FromRegions = append(p.FromRegions, row.FromRegion)
	p.ToRegions = append(p.ToRegions, row.ToRegion)
	p.Statuses = append(p.Statuses, row.Status)
	p.Causes = append(p.Causes, row.Cause)
	p.Evidences = append(p.Evidences, row.Evidence)
	p.DetectedAts = append(p.DetectedAts, row.DetectedAt)
	p.PendingAts = append(p.PendingAts, row.PendingAt)
	p.CompletedAts = append(p.CompletedAts, row.CompletedAt)
	p.CancelledAts = append(p.CancelledAts, row.CancelledAt)
	p.ConfirmedAts = append(p.ConfirmedAts, row.ConfirmedAt)
	p.StalledAts = append(p.StalledAts, row.StalledAt)
	p.StaleSinces = append(p.StaleSinces, row.StaleSince)
	p.Forceds = append(p.Forceds, row.Forced)
	p.ForcedBys = append(p.ForcedBys, row.ForcedBy)
	p.ForcedReasons = append(p.ForcedReasons, row.ForcedReason)
	p.ContactIds = append(p.ContactIds, row.ContactIds)
	p.InitialContactIds = append(p.InitialContactIds, row.InitialContactIds)
	p.Memories = append(p.Memories, row.Memory)
}

func decodeFailover(row *db.Failover) (*failover.Failover, error) {
	var memory failoverMemory
	f := &failover.Failover{
		ID: row.FailoverID, AgentID: row.AgentID, Group: row.FailoverGroup, TDG: row.TdgID, From: row.FromRegion, To: row.ToRegion,
		Status: failover.Status(row.Status), Cause: failover.Source(row.Cause), Evidence: failover.Evidence(row.Evidence),
		DetectedAt: row.DetectedAt.Time, PendingAt: row.PendingAt.Time, CompletedAt: row.CompletedAt.Time,
		CancelledAt: row.CancelledAt.Time, ConfirmedAt: row.ConfirmedAt.Time, StalledAt: row.StalledAt.Time,
		StaleSince: row.StaleSince.Time, Forced: row.Forced, ForcedBy: row.ForcedBy, ForcedReason: row.ForcedReason,
	}
	if err := decode(row.Memory, &memory, "failover", row.FailoverID); err != nil {
		return nil, err
	}
	var err error
	if f.ContactIDs, err = decodeList(row.ContactIds, row.FailoverID); err != nil {
		return nil, err
	}
	if f.InitialContactIDs, err = decodeList(row.InitialContactIds, row.FailoverID); err != nil {
		return nil, err
	}
	f.LastOldAt, f.ClearedAt, f.EvidenceAt = memory.LastOldAt, memory.ClearedAt, memory.EvidenceAt
	f.ForceAt, f.SignedIn = memory.ForceAt, memory.SignedIn
	return f, nil
}

func decodeList(b []byte, id string) (ids []string, err error) {
	if string(b) == "[]" {
		return nil, nil
	}
	return ids, decode(b, &ids, "contacts of failover", id)
}

// tdgMemory is what only the rules need of a traffic distribution group.
type tdgMemory struct {
	SplitAt   time.Time             `json:"splitAt,omitzero"`
	Announced []failover.SetupError `json:"announced,omitempty"`
	Roster    failover.RosterPass   `json:"roster,omitzero"`
}

func (e *encoder) tdg(p *db.UpsertTDGsParams, t *failover.TDG) {
	roster := t.Roster
	roster.StartedAt, roster.CompletedAt = micros(roster.StartedAt), micros(roster.CompletedAt)
	p.TdgIds = append(p.TdgIds, text(t.ID))
	p.FailoverGroups = append(p.FailoverGroups, text(t.Group))
	p.Arns = append(p.Arns, text(t.ARN))
	p.Names = append(p.Names, text(t.Name))
	p.Statuses = append(p.Statuses, text(t.Status))
	p.IsDefaults = append(p.IsDefaults, t.IsDefault)
	p.ObservedAts = append(p.ObservedAts, timestamp(t.ObservedAt))
	p.Telephonies = append(p.Telephonies, e.object(vote(t.Telephony)))
	p.Agents = append(p.Agents, e.object(vote(t.Agents)))
	p.SignIns = append(p.SignIns, e.object(vote(t.SignIn)))
	p.Setups = append(p.Setups, e.object(setupErrors(t.Setup)))
	p.Memories = append(p.Memories, e.object(tdgMemory{SplitAt: micros(t.SplitAt), Announced: setupErrors(t.Announced), Roster: roster}))
}

func decodeTDG(row *db.TrafficDistributionGroup) (*failover.TDG, error) {
	t := &failover.TDG{
		ID: row.TdgID, ARN: row.Arn, Name: row.Name, Group: row.FailoverGroup, Status: row.Status, IsDefault: row.IsDefault,
		ObservedAt: row.ObservedAt.Time,
	}
	for _, part := range []struct {
		from []byte
		to   *failover.Vote
	}{{row.Telephony, &t.Telephony}, {row.Agents, &t.Agents}, {row.SignIn, &t.SignIn}} {
		if err := decode(part.from, part.to, "traffic distribution group", row.TdgID); err != nil {
			return nil, err
		}
	}
	var err error
	if t.Setup, err = decodeErrors(row.Setup, row.TdgID); err != nil {
		return nil, err
	}
	var memory tdgMemory
	if err := decode(row.Memory, &memory, "traffic distribution group", row.TdgID); err != nil {
		return nil, err
	}
	t.SplitAt, t.Announced, t.Roster = memory.SplitAt, memory.Announced, memory.Roster
	return t, nil
}

// groupState is a failover group as it is stored.
type groupState struct {
	Routing   failover.Routing       `json:"routing"`
	Instances []failover.Instance    `json:"instances,omitempty"`
	TDGs      []string               `json:"tdgs,omitempty"`
	Regions   []failover.RegionState `json:"regions,omitempty"`
	PairedAt  time.Time              `json:"pairedAt,omitzero"`
	Setup     []failover.SetupError  `json:"setup,omitempty"`
	Announced []failover.SetupError  `json:"announced,omitempty"`
	PaceAt    time.Time              `json:"paceAt,omitzero"`
	PaceLeft  float64                `json:"paceLeft,omitempty"`
	ListedAt  time.Time              `json:"listedAt,omitzero"`
	Pause     *failover.Pause        `json:"pause,omitempty"`
	Forced    []failover.ForcedBulk  `json:"forcedBulk,omitempty"`
}

func (e *encoder) group(p *db.UpsertGroupsParams, g *failover.Group) {
	regions := slices.Clone(g.Regions)
	for i := range regions {
		r := &regions[i]
		r.AnsweredAt, r.UnavailableAt = micros(r.AnsweredAt), micros(r.UnavailableAt)
		r.SweepStartedAt, r.SweepDoneAt = micros(r.SweepStartedAt), micros(r.SweepDoneAt)
	}
	pause := g.Pause
	if pause != nil {
		pause = &failover.Pause{By: pause.By, Reason: pause.Reason, Since: micros(pause.Since), Until: micros(pause.Until)}
	}
	forced := slices.Clone(g.ForcedBulk)
	for i := range forced {
		forced[i].At = micros(forced[i].At)
	}
	p.Names = append(p.Names, text(g.Name))
	p.States = append(p.States, e.object(groupState{
		Routing: g.Routing, Instances: g.Instances, TDGs: g.TDGs, Regions: regions, PairedAt: micros(g.PairedAt),
		Setup: setupErrors(g.Setup), Announced: setupErrors(g.Announced), PaceAt: micros(g.PaceAt), PaceLeft: g.PaceLeft,
		ListedAt: micros(g.ListedAt), Pause: pause, Forced: forced,
	}))
}

func decodeGroup(row *db.FailoverGroup) (*failover.Group, error) {
	var st groupState
	if err := decode(row.State, &st, "failover group", row.Name); err != nil {
		return nil, err
	}
	return &failover.Group{
		GroupConfig: failover.GroupConfig{Name: row.Name, Routing: st.Routing, Instances: st.Instances, TDGs: st.TDGs},
		Regions:     st.Regions, PairedAt: st.PairedAt, Setup: st.Setup, Announced: st.Announced, PaceAt: st.PaceAt,
		PaceLeft: st.PaceLeft, ListedAt: st.ListedAt, Pause: st.Pause, ForcedBulk: st.Forced,
	}, nil
}

func (e *encoder) change(p *db.InsertChangesParams, c *failover.Change) {
	p.TdgIds = append(p.TdgIds, text(c.TDG))
	p.FailoverGroups = append(p.FailoverGroups, text(c.Group))
	p.Befores = append(p.Befores, e.object(c.Before))
	p.Afters = append(p.Afters, e.object(c.After))
	p.ObservedAts = append(p.ObservedAts, timestamp(c.ObservedAt))
	p.ObservedBys = append(p.ObservedBys, text(c.ObservedBy))
	p.Conflicts = append(p.Conflicts, c.Conflict)
}

func decodeChange(row *db.DistributionChange) (Change, error) {
	c := Change{ID: row.ChangeID, Change: failover.Change{
		TDG: row.TdgID, Group: row.FailoverGroup, ObservedAt: row.ObservedAt.Time, ObservedBy: row.ObservedBy, Conflict: row.Conflict,
	}}
	if err := decode(row.Before, &c.Before, "distribution change of", row.TdgID); err != nil {
		return Change{}, err
	}
	return c, decode(row.After, &c.After, "distribution change of", row.TdgID)
}

func vote(v failover.Vote) failover.Vote {
	v.AdoptedAt, v.DisagreeAt, v.LastOldAt = micros(v.AdoptedAt), micros(v.DisagreeAt), micros(v.LastOldAt)
	answers := make(map[string]failover.Answer, len(v.Answers))
	for region, a := range v.Answers {
		a.At, a.ChangedAt, a.OldAt = micros(a.At), micros(a.ChangedAt), micros(a.OldAt)
		answers[region] = a
	}
	v.Answers = answers
	return v
}

func setupErrors(errs []failover.SetupError) []failover.SetupError {
	out := make([]failover.SetupError, len(errs))
	for i, e := range errs {
		e.Since = micros(e.Since)
		out[i] = e
	}
	return out
}

// empty is what nearly every row of a shift holds: no contacts, no set-up errors.
var empty = []byte("[]")

func (e *encoder) ids(ids []string) []byte {
	if len(ids) == 0 {
		return empty
	}
	return e.object(ids)
}

func (e *encoder) errors(errs []failover.SetupError) []byte {
	if len(errs) == 0 {
		return empty
	}
	return e.object(setupErrors(errs))
}

func decode(b []byte, v any, what, id string) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode what is stored of %s %q: %w", what, id, err)
	}
	return nil
}
