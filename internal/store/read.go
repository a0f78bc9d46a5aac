package store

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// ReplicaTimeout is how long a replica may be silent before its connections count for nothing.
const ReplicaTimeout = time.Minute

// AgentFilter chooses agents; empty fields match everything.
type AgentFilter struct {
	Group, TDG, ActiveRegion string
	State                    failover.AgentState
	Groups                   []string // one of these; nil: any
	Search                   string   // the beginning of the user name or the id, in whatever case
	ByName                   bool     // sorted by user name, in whatever case, instead of by id
}

// AgentRow is what REST shows of an agent.
type AgentRow struct {
	AgentID, Username, Group, TDG string
	ActiveRegion                  string // empty: not known yet
	RegionSource                  failover.Source
	ObservedAt                    time.Time
	State                         failover.AgentState
	NextActiveRegion, FailoverID  string // of the open failover
	OpenContacts                  int    // that are surfaced
	Connections                   int    // open event streams, on all replicas
	Standby                       *failover.Standby
	Errors                        []failover.SetupError
}

// Matches says whether a search finds the agent.
func (a *AgentRow) Matches(search string) bool {
	search = strings.ToLower(search)
	return strings.HasPrefix(strings.ToLower(a.Username), search) || strings.HasPrefix(a.AgentID, search)
}

// Agents lists agents by id, or by name.
func (s *Store) Agents(ctx context.Context, f AgentFilter, p Page) (agents []AgentRow, next string, err error) {
	ctx, done := s.call(ctx, "agents", callTimeout, &err)
	defer done()
	if f.ByName {
		return s.agentsByName(ctx, f, p)
	}
	keys, err := p.keys("agents", 1)
	if err != nil {
		return nil, "", err
	}
	params := db.AgentsParams{FailoverGroup: f.Group, FailoverGroups: f.Groups, TdgID: f.TDG, ActiveRegion: f.ActiveRegion, State: string(f.State), Search: text(f.Search), MaxRows: rowLimit(p.limit() + 1)}
	if keys != nil {
		params.AfterID = keys[0]
	}
	if agents, err = s.agents(ctx, params); err != nil {
		return nil, "", err
	}
	agents, next = cut(agents, p.limit(), func(a *AgentRow) string { return cursor("agents", a.AgentID) })
	return agents, next, nil
}

// Agent returns an agent by its Connect user id, or ErrNotFound.
func (s *Store) Agent(ctx context.Context, id string) (_ AgentRow, err error) {
	ctx, done := s.call(ctx, "agent", callTimeout, &err)
	defer done()
	return s.one(ctx, db.AgentsParams{AgentID: id, MaxRows: 1}, id)
}

// AgentByUsername returns an agent of a failover group by its username, or ErrNotFound. An empty group means any; where two
// have the name, the one with the lowest id.
func (s *Store) AgentByUsername(ctx context.Context, group, username string) (_ AgentRow, err error) {
	ctx, done := s.call(ctx, "agent_by_username", callTimeout, &err)
	defer done()
	return s.one(ctx, db.AgentsParams{FailoverGroup: group, Username: username, MaxRows: 1}, username)
}

// AgentByAlias returns the id of the agent whose user id in the Region that is not the source is alias (R2), or ErrNotFound. It reads all
// agents, or only the one with the given id.
func (s *Store) AgentByAlias(ctx context.Context, alias, agentID string) (id string, err error) {
	ctx, done := s.call(ctx, "agent_by_alias", callTimeout, &err)
	defer done()
	if alias == "" || alias != text(alias) {
		return "", fmt.Errorf("agent %q: %w", alias, ErrNotFound)
	}
	id, err = s.q.AgentByAlias(ctx, s.pool, db.AgentByAliasParams{Alias: alias, AgentID: text(agentID)})
	return id, notFound(err, "agent", alias)
}

func (s *Store) one(ctx context.Context, params db.AgentsParams, id string) (AgentRow, error) {
	if id == "" || id != text(id) { // an empty filter would match everybody
		return AgentRow{}, fmt.Errorf("agent %q: %w", id, ErrNotFound)
	}
	agents, err := s.agents(ctx, params)
	if err != nil {
		return AgentRow{}, err
	}
	if len(agents) == 0 {
		return AgentRow{}, fmt.Errorf("agent %q: %w", id, ErrNotFound)
	}
	return agents[0], nil
}

func (s *Store) agents(ctx context.Context, params db.AgentsParams) ([]AgentRow, error) {
	params.Alive = ReplicaTimeout
	rows, err := s.q.Agents(ctx, s.pool, params)
	if err != nil {
		return nil, fmt.Errorf("read agents: %w", err)
	}
	return all(rows, decodeAgentRow)
}

func decodeAgentRow(r *db.AgentsRow) (a AgentRow, err error) {
	a = AgentRow{
		AgentID: r.AgentID, Username: r.Username, Group: r.FailoverGroup, TDG: r.TdgID, ActiveRegion: r.ActiveRegion,
		RegionSource: failover.Source(r.RegionSource), ObservedAt: r.ObservedAt.Time, State: failover.AgentState(r.State),
		NextActiveRegion: r.NextRegion, FailoverID: r.FailoverID, OpenContacts: int(r.OpenContacts), Connections: int(r.Connections),
	}
	if a.Standby, err = decodeStandby(r.Standby, r.AgentID); err != nil {
		return a, err
	}
	a.Errors, err = decodeErrors(r.Errors, r.AgentID)
	return a, err
}

func (s *Store) agentsByName(ctx context.Context, f AgentFilter, p Page) ([]AgentRow, string, error) {
	const list = "agents:username" // a cursor is of one order
	keys, err := p.keys(list, 2)
	if err != nil {
		return nil, "", err
	}
	params := db.AgentsByNameParams{
		Alive: ReplicaTimeout, FailoverGroup: f.Group, FailoverGroups: f.Groups, TdgID: f.TDG, ActiveRegion: f.ActiveRegion, State: string(f.State), Search: text(f.Search),
		MaxRows: rowLimit(p.limit() + 1),
	}
	if keys != nil {
		params.AfterName, params.AfterID = keys[0], keys[1]
	}
	rows, err := s.q.AgentsByName(ctx, s.pool, params)
	if err != nil {
		return nil, "", fmt.Errorf("read agents by name: %w", err)
	}
	rows, next := cut(rows, p.limit(), func(r *db.AgentsByNameRow) string { return cursor(list, r.ByName, r.AgentID) })
	agents, err := all(rows, func(r *db.AgentsByNameRow) (AgentRow, error) {
		return decodeAgentRow(&db.AgentsRow{
			AgentID: r.AgentID, Username: r.Username, FailoverGroup: r.FailoverGroup, TdgID: r.TdgID, ActiveRegion: r.ActiveRegion, RegionSource: r.RegionSource,
			ObservedAt: r.ObservedAt, State: r.State, NextRegion: r.NextRegion, FailoverID: r.FailoverID, Standby: r.Standby, Errors: r.Errors,
			OpenContacts: r.OpenContacts, Connections: r.Connections,
		})
	})
	return agents, next, err
}

// Contact is a contact of an agent, and the Region in whose list it is (empty with global routing).
type Contact struct {
	failover.Contact
	ListRegion string
}

// Contacts returns the contacts of an agent in all Regions' lists, sorted by id.
func (s *Store) Contacts(ctx context.Context, agentID string) (contacts []Contact, err error) {
	ctx, done := s.call(ctx, "contacts", callTimeout, &err)
	defer done()
	rows, err := s.q.Contacts(ctx, s.pool, text(agentID))
	if err != nil {
		return nil, fmt.Errorf("read contacts of agent %s: %w", agentID, err)
	}
	return all(rows, func(r *db.Contact) (Contact, error) {
		c, err := decodeContact(r)
		return Contact{Contact: c, ListRegion: r.ListRegion}, err
	})
}

// FailoverFilter chooses failovers; empty fields match everything.
type FailoverFilter struct {
	Group, TDG, AgentID  string
	Status               failover.Status
	FromRegion, ToRegion string
	Since                time.Time // detected then or later
	Until                time.Time // detected before; zero: at any time
}

// Failovers lists failovers, the latest detection first.
func (s *Store) Failovers(ctx context.Context, f FailoverFilter, p Page) (failovers []*failover.Failover, next string, err error) {
	ctx, done := s.call(ctx, "failovers", callTimeout, &err)
	defer done()
	keys, err := p.keys("failovers", 2)
	if err != nil {
		return nil, "", err
	}
	params := db.FailoversParams{
		BeforeAt:      pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true},
		FailoverGroup: f.Group, TdgID: f.TDG, AgentID: f.AgentID, Status: string(f.Status), FromRegion: f.FromRegion,
		ToRegion: f.ToRegion, Since: timestamp(f.Since), MaxRows: rowLimit(p.limit() + 1),
	}
	if f.Since.IsZero() {
		params.Since = pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	params.Until = forever(f.Until)
	if keys != nil {
		at, err := strconv.ParseInt(keys[0], 10, 64)
		if err != nil {
			return nil, "", ErrBadCursor
		}
		params.BeforeAt, params.BeforeID = timestamp(time.UnixMicro(at)), keys[1]
	}
	rows, err := s.q.Failovers(ctx, s.pool, params)
	if err != nil {
		return nil, "", fmt.Errorf("read failovers: %w", err)
	}
	rows, next = cut(rows, p.limit(), func(r *db.Failover) string {
		return cursor("failovers", strconv.FormatInt(r.DetectedAt.Time.UnixMicro(), 10), r.FailoverID)
	})
	failovers, err = all(rows, decodeFailover)
	return failovers, next, err
}

// Failover returns a failover by its id, or ErrNotFound.
func (s *Store) Failover(ctx context.Context, id string) (_ *failover.Failover, err error) {
	ctx, done := s.call(ctx, "failover", callTimeout, &err)
	defer done()
	row, err := s.q.Failover(ctx, s.pool, text(id))
	if err != nil {
		return nil, notFound(err, "failover", id)
	}
	return decodeFailover(&row)
}

// Groups returns the failover groups as the leader last stored them, sorted by name.
func (s *Store) Groups(ctx context.Context) (_ []*failover.Group, err error) {
	ctx, done := s.call(ctx, "groups", callTimeout, &err)
	defer done()
	rows, err := s.q.LoadGroups(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("read failover groups: %w", err)
	}
	return all(rows, decodeGroup)
}

// TDGs lists traffic distribution groups by id, those of the given failover groups; nil means of all.
func (s *Store) TDGs(ctx context.Context, groups []string, p Page) (tdgs []*failover.TDG, next string, err error) {
	ctx, done := s.call(ctx, "tdgs", callTimeout, &err)
	defer done()
	keys, err := p.keys("tdgs", 1)
	if err != nil {
		return nil, "", err
	}
	params := db.TDGsParams{FailoverGroups: groups, MaxRows: rowLimit(p.limit() + 1)}
	if keys != nil {
		params.AfterID = keys[0]
	}
	rows, err := s.q.TDGs(ctx, s.pool, params)
	if err != nil {
		return nil, "", fmt.Errorf("read traffic distribution groups: %w", err)
	}
	rows, next = cut(rows, p.limit(), func(r *db.TrafficDistributionGroup) string { return cursor("tdgs", r.TdgID) })
	tdgs, err = all(rows, decodeTDG)
	return tdgs, next, err
}

// TDG returns a traffic distribution group by its bare id, or ErrNotFound.
func (s *Store) TDG(ctx context.Context, id string) (_ *failover.TDG, err error) {
	ctx, done := s.call(ctx, "tdg", callTimeout, &err)
	defer done()
	rows, err := s.q.TDGs(ctx, s.pool, db.TDGsParams{TdgID: text(id), MaxRows: 1})
	if err != nil {
		return nil, fmt.Errorf("read traffic distribution group %q: %w", id, err)
	}
	if len(rows) == 0 || id == "" {
		return nil, fmt.Errorf("traffic distribution group %q: %w", id, ErrNotFound)
	}
	return decodeTDG(&rows[0])
}

// Change is a distribution change that was adopted.
type Change struct {
	ID int64
	failover.Change
}

// Changes lists the distribution changes of a traffic distribution group, the latest first.
func (s *Store) Changes(ctx context.Context, tdgID string, p Page) (changes []Change, next string, err error) {
	ctx, done := s.call(ctx, "changes", callTimeout, &err)
	defer done()
	before, err := p.before("changes")
	if err != nil {
		return nil, "", err
	}
	rows, err := s.q.Changes(ctx, s.pool, db.ChangesParams{TdgID: text(tdgID), BeforeID: before, MaxRows: rowLimit(p.limit() + 1)})
	if err != nil {
		return nil, "", fmt.Errorf("read distribution changes of %q: %w", tdgID, err)
	}
	rows, next = cut(rows, p.limit(), func(r *db.DistributionChange) string { return cursor("changes", strconv.FormatInt(r.ChangeID, 10)) })
	changes, err = all(rows, decodeChange)
	return changes, next, err
}

// before returns the number of the last row of the page before, of a list with the greatest number first.
func (p Page) before(list string) (int64, error) {
	keys, err := p.keys(list, 1)
	if err != nil || keys == nil {
		return math.MaxInt64, err
	}
	n, err := strconv.ParseInt(keys[0], 10, 64)
	if err != nil {
		return 0, ErrBadCursor
	}
	return n, nil
}

// GroupSummary sums up a failover group.
type GroupSummary struct {
	Group         string
	Agents        []AgentCount
	Stale         int             // pending with contacts that cannot be read (R9)
	OldestPending time.Time       // when the oldest pending failover became so; zero: none is pending
	Pause         *failover.Pause // nil: completions are not held
	Held          int             // open failovers that no contact holds any more: by a pause, failover.pace, or until the desktop's word
	Shifts        []Shift         // one for each traffic distribution group that was ever shifted
}

// AgentCount is how many agents are in a state and a Region; Region empty: not known.
type AgentCount struct {
	State  failover.AgentState
	Region string
	Agents int
}

// Shift is the last change of a traffic distribution group's agents' distribution, and what became of the failovers
// detected since.
type Shift struct {
	ID         int64 // among the shifts; 0: it is the first that was ever known, which is none
	TDG, Group string
	Agents     failover.Distribution // the new one
	Since      time.Time
	Failovers, Detected, Pending, Completed,
	Cancelled, Forced, Stalled int // forced ones are completed too; stalled ones are not confirmed yet
}

// Summary sums up every failover group that has agents or was shifted, sorted by name.
func (s *Store) Summary(ctx context.Context) (groups []GroupSummary, err error) {
	ctx, done := s.call(ctx, "summary", callTimeout, &err)
	defer done()
	var (
		counts  []db.CountAgentsRow
		pending []db.OldestPendingRow
		shifts  []db.CurrentShiftsRow
		names   []db.FailoverGroup
		held    []db.HeldFailoversRow
	)
	err = s.snapshot(ctx, s.pool, func(tx pgx.Tx) (err error) {
		if names, err = s.q.LoadGroups(ctx, tx); err != nil {
			return err
		}
		if counts, err = s.q.CountAgents(ctx, tx); err != nil {
			return err
		}
		if pending, err = s.q.OldestPending(ctx, tx); err != nil {
			return err
		}
		if held, err = s.q.HeldFailovers(ctx, tx); err != nil {
			return err
		}
		shifts, err = s.q.CurrentShifts(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the summary: %w", err)
	}
	at := make(map[string]int)
	group := func(name string) *GroupSummary {
		i, ok := at[name]
		if !ok {
			i = len(groups)
			at[name] = i
			groups = append(groups, GroupSummary{Group: name})
		}
		return &groups[i]
	}
	for i := range names {
		g, err := decodeGroup(&names[i])
		if err != nil {
			return nil, err
		}
		group(g.Name).Pause = g.Pause
	}
	for _, c := range counts {
		g := group(c.FailoverGroup)
		g.Agents = append(g.Agents, AgentCount{State: failover.AgentState(c.State), Region: c.ActiveRegion, Agents: int(c.Agents)})
	}
	for _, h := range held {
		if g := group(h.FailoverGroup); g.Pause != nil {
			g.Held = int(h.Held)
		}
	}
	for _, p := range pending {
		g := group(p.FailoverGroup)
		g.Stale, g.OldestPending = int(p.Stale), p.PendingAt.Time
	}
	for i := range shifts {
		r := &shifts[i]
		var after failover.Distributions
		if err := decode(r.After, &after, "distribution change of", r.TdgID); err != nil {
			return nil, err
		}
		g := group(r.FailoverGroup)
		g.Shifts = append(g.Shifts, Shift{
			ID: r.ShiftID, TDG: r.TdgID, Group: r.FailoverGroup, Agents: after.Agents, Since: r.ObservedAt.Time, Failovers: int(r.Failovers),
			Detected: int(r.Detected), Pending: int(r.Pending), Completed: int(r.Completed), Cancelled: int(r.Cancelled),
			Forced: int(r.Forced), Stalled: int(r.Stalled),
		})
	}
	return groups, nil
}
