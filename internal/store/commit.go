package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// The channels of the doorbells. Who hears one reads the tables from where it was; the payload is empty, or names the trace that a commit is part of.
const (
	ChannelLog   = "changeover_log"   // the event log has grown, or commands were answered
	ChannelInbox = "changeover_inbox" // a command was appended
)

// Committed says what a commit added to the log. First and Last are zero when there were no events.
type Committed struct {
	First, Last Position
	At          time.Time // the database's clock just before the events were written
}

// Wait waits for the end of a commit and tells what became of it. It may be called by any goroutine and more than once.
type Wait func() (Committed, error)

// Commit stores the effects of one or more Steps in one transaction, if epoch is still the lease's: else ErrFenced. What is to be
// written is read before it returns and not kept. Removed agents lose their row and contacts, also when they are among the
// changed ones; their failovers stay. After any error the state in memory has to be thrown away.
func (s *Store) Commit(ctx context.Context, epoch int64, e failover.Effects) (Committed, error) {
	return s.Begin(ctx, epoch, e, nil)()
}

// Begin is Commit that does not wait. What is to be written has been read when it returns. The transaction comes after the one that after waits
// for (nil: none), and fails if that one does; meanwhile it writes all but its events. So it must have no row in
// common with any that is under way but the log: no agent, no group. Whoever calls it has to wait.
func (s *Store) Begin(ctx context.Context, epoch int64, e failover.Effects, after Wait) Wait {
	rows, err := encode(&e)
	if err != nil {
		return func() (Committed, error) { return Committed{}, fmt.Errorf("commit: %w", err) }
	}
	var c Committed
	var events []db.InsertEventsParams
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, end := s.call(ctx, "commit", commitTimeout, &err)
		defer end()
		err = pgx.BeginFunc(ctx, s.leader, func(tx pgx.Tx) (err error) {
			c, events, err = s.commit(ctx, tx, epoch, &e, rows, after)
			return err
		})
		if err != nil {
			s.fresh.forget()
			c, err = Committed{}, fmt.Errorf("commit of epoch %d: %w", epoch, err)
			return
		}
		s.count.add(epoch)
		if len(events) > 0 {
			s.fresh.add(events)
			if s.opts.Committed != nil {
				s.opts.Committed()
			}
		}
	}()
	return func() (Committed, error) {
		<-done
		return c, err
	}
}

func (s *Store) commit(ctx context.Context, tx pgx.Tx, epoch int64, e *failover.Effects, rows *rows, after Wait) (c Committed, events []db.InsertEventsParams, err error) {
	if err := s.fence(ctx, tx, epoch); err != nil {
		return Committed{}, nil, err
	}
	if err := s.write(ctx, tx, rows); err != nil {
		return Committed{}, nil, err
	}
	if err := s.turn(ctx, tx, after); err != nil {
		return Committed{}, nil, err
	}
	head, err := s.lockHead(ctx, tx, epoch)
	if err != nil {
		return Committed{}, nil, fmt.Errorf("lock the event log: %w", err)
	}
	now, err := s.q.Clock(ctx, tx)
	if err != nil {
		return Committed{}, nil, fmt.Errorf("read the clock: %w", err)
	}
	c = Committed{At: now.Time}
	if len(e.Events) > 0 {
		c.First = Position{epoch, head.Seq + 1}
		c.Last = Position{epoch, head.Seq + int64(len(e.Events))}
		events = eventRows(e.Events, c)
		if _, err := s.q.InsertEvents(ctx, tx, events); err != nil {
			return Committed{}, nil, fmt.Errorf("write %d events: %w", len(e.Events), err)
		}
		if head.Epoch != epoch {
			if err := s.q.InsertTerm(ctx, tx, db.InsertTermParams{Epoch: epoch, FirstSeq: c.First.Seq}); err != nil {
				return Committed{}, nil, fmt.Errorf("begin term %d of the event log: %w", epoch, err)
			}
		}
		if err := s.q.SetHead(ctx, tx, db.SetHeadParams{Epoch: epoch, Seq: c.Last.Seq}); err != nil {
			return Committed{}, nil, fmt.Errorf("advance the event log to %d: %w", c.Last.Seq, err)
		}
	}
	if len(e.Events) > 0 || len(e.Results) > 0 {
		if err := s.q.Notify(ctx, tx, db.NotifyParams{Channel: ChannelLog, Payload: payloadOf(ctx, c)}); err != nil {
			return Committed{}, nil, fmt.Errorf("notify the replicas: %w", err)
		}
	}
	return c, events, nil
}

// lockHead keeps every other commit out until the end of the transaction, and finds out whether those before are still there.
func (s *Store) lockHead(ctx context.Context, tx pgx.Tx, epoch int64) (db.LockHeadRow, error) {
	counted, err := s.hasSchema(ctx, schemaRetention)
	if err != nil {
		return db.LockHeadRow{}, err
	}
	if !counted {
		return s.q.LockHead(ctx, tx)
	}
	head, err := s.q.CountCommit(ctx, tx)
	if err != nil {
		return db.LockHeadRow{}, err
	}
	if left, known := s.count.left(epoch); known && head.Commits-1 != left {
		return db.LockHeadRow{}, fmt.Errorf("it has %d commits, this leader left %d: %w", head.Commits-1, left, ErrLost)
	}
	return db.LockHeadRow{Epoch: head.Epoch, Seq: head.Seq}, nil
}

// count is how many commits the database should have, from the moment when the leader's state was loaded. A database that failed over without its
// last commits may have the leader's lease, and nothing that the leader does there fails by itself.
type count struct {
	mu    sync.Mutex
	known bool
	epoch int64 // that leads; 0: not this program
	n     int64
}

// begin forgets what was loaded for another term.
func (c *count) begin(epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.epoch = false, epoch
}

func (c *count) loaded(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.n = true, n
}

func (c *count) add(epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == epoch {
		c.n++
	}
}

// left is how many commits the leader of an epoch knows to have been made; false: its state was not loaded.
func (c *count) left(epoch int64) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n, c.known && c.epoch == epoch
}

// turn waits until the commit before is done. The session must not seem idle meanwhile: see idleInCommit.
func (s *Store) turn(ctx context.Context, tx pgx.Tx, after Wait) error {
	if after == nil {
		return nil
	}
	before := make(chan error, 1)
	go func() {
		_, err := after()
		before <- err
	}()
	ticker := time.NewTicker(idleInCommit / 3)
	defer ticker.Stop()
	for {
		select {
		case err := <-before:
			if err != nil {
				return fmt.Errorf("the commit before failed: %w", err)
			}
			return nil
		case <-ticker.C:
			if _, err := s.q.Clock(ctx, tx); err != nil {
				return fmt.Errorf("wait for the commit before: %w", err)
			}
		}
	}
}

// eventRoom is what the data of an event of a shift need, with something to spare: detections take 190 bytes, completions 390.
const eventRoom = 320

// eventRows gives the events their places in the log. Their data share one buffer.
func eventRows(events []*failover.Event, c Committed) []db.InsertEventsParams {
	rows := make([]db.InsertEventsParams, len(events))
	ends := make([]int, len(events))
	buf := make([]byte, 0, eventRoom*len(events))
	for i, e := range events {
		buf = e.AppendData(buf)
		ends[i] = len(buf)
	}
	at := timestamp(c.At)
	day := pgtype.Date{Time: c.At, Valid: true}
	begin := 0
	for i, e := range events {
		rows[i] = db.InsertEventsParams{
			Seq: c.First.Seq + int64(i), Epoch: c.First.Epoch, Day: day, CommittedAt: at, Time: timestamp(e.Time),
			Type: text(string(e.Type)), AgentID: text(e.AgentID), FailoverGroup: text(e.Group), FailoverID: text(e.FailoverID),
			Data: buf[begin:ends[i]:ends[i]],
		}
		begin = ends[i]
	}
	return rows
}

// rows are effects as the statements want them: columns, not rows.
type rows struct {
	removed   []string
	agents    db.UpsertAgentsParams
	contacts  db.UpsertContactsParams
	created   []db.InsertFailoversParams
	failovers db.UpsertFailoversParams
	tdgs      db.UpsertTDGsParams
	groups    db.UpsertGroupsParams
	changes   db.InsertChangesParams
	results   db.FinishCommandsParams
	drills    db.UpsertDrillsParams
}

func (s *Store) write(ctx context.Context, tx pgx.Tx, r *rows) error {
	if len(r.removed) > 0 {
		if err := s.q.DeleteAgents(ctx, tx, r.removed); err != nil {
			return fmt.Errorf("remove %d agents: %w", len(r.removed), err)
		}
		if err := s.q.DeleteContactsOf(ctx, tx, r.removed); err != nil {
			return fmt.Errorf("remove contacts of %d agents: %w", len(r.removed), err)
		}
	}
	if n := len(r.agents.AgentIds); n > 0 {
		if err := s.q.UpsertAgents(ctx, tx, r.agents); err != nil {
			return fmt.Errorf("write %d agents: %w", n, err)
		}
		if err := s.q.DeleteContactsExcept(ctx, tx, db.DeleteContactsExceptParams{
			AgentIds: r.agents.AgentIds, ContactAgentIds: r.contacts.AgentIds, ListRegions: r.contacts.ListRegions, ContactIds: r.contacts.ContactIds,
		}); err != nil {
			return fmt.Errorf("remove contacts of %d agents: %w", n, err)
		}
	}
	if n := len(r.contacts.ContactIds); n > 0 {
		if err := s.q.UpsertContacts(ctx, tx, r.contacts); err != nil {
			return fmt.Errorf("write %d contacts: %w", n, err)
		}
	}
	if n := len(r.created); n > 0 {
		if _, err := s.q.InsertFailovers(ctx, tx, r.created); err != nil {
			return fmt.Errorf("write %d new failovers: %w", n, err)
		}
	}
	if n := len(r.failovers.FailoverIds); n > 0 {
		if err := s.q.UpsertFailovers(ctx, tx, r.failovers); err != nil {
			return fmt.Errorf("write %d failovers: %w", n, err)
		}
	}
	if n := len(r.tdgs.TdgIds); n > 0 {
		if err := s.q.UpsertTDGs(ctx, tx, r.tdgs); err != nil {
			return fmt.Errorf("write %d traffic distribution groups: %w", n, err)
		}
	}
	if n := len(r.groups.Names); n > 0 {
		if err := s.q.UpsertGroups(ctx, tx, r.groups); err != nil {
			return fmt.Errorf("write %d failover groups: %w", n, err)
		}
	}
	if n := len(r.changes.TdgIds); n > 0 {
		if err := s.q.InsertChanges(ctx, tx, r.changes); err != nil {
			return fmt.Errorf("write %d distribution changes: %w", n, err)
		}
	}
	if n := len(r.drills.DrillIds); n > 0 {
		if err := s.q.UpsertDrills(ctx, tx, r.drills); err != nil {
			return fmt.Errorf("write %d drills: %w", n, err)
		}
	}
	if n := len(r.results.CommandIds); n > 0 {
		if err := s.q.FinishCommands(ctx, tx, r.results); err != nil {
			return fmt.Errorf("write %d results: %w", n, err)
		}
	}
	return nil
}

// encode turns effects into columns. The failovers of changed agents are written whether or not they are among the changed
// ones: what Load gives back must not depend on it.
func encode(e *failover.Effects) (*rows, error) {
	r := &rows{agents: agentColumns(len(e.Agents))}
	removed := make(map[string]bool, len(e.RemovedAgents))
	for _, id := range e.RemovedAgents {
		id = text(id)
		removed[id] = true
		r.removed = append(r.removed, id)
	}
	enc := &encoder{buf: make([]byte, 0, 400*len(e.Agents))}
	seen := make(map[string]bool, len(e.Failovers))
	if n := len(e.Created); n > 0 {
		r.created = make([]db.InsertFailoversParams, n)
	}
	for i, f := range e.Created {
		seen[f.ID] = true
		enc.failover(&r.created[i], f)
	}
	var row db.InsertFailoversParams
	addFailover := func(f *failover.Failover) {
		if f != nil && !seen[f.ID] {
			seen[f.ID] = true
			enc.failover(&row, f)
			appendFailover(&r.failovers, &row)
		}
	}
	for _, f := range e.Failovers {
		addFailover(f)
	}
	for _, a := range e.Agents {
		if removed[text(a.ID)] {
			continue
		}
		enc.agent(&r.agents, a)
		for i := range a.Lists {
			for j := range a.Lists[i].Contacts {
				enc.contact(&r.contacts, a.ID, a.Lists[i].Region, &a.Lists[i].Contacts[j])
			}
		}
		addFailover(a.Failover)
		addFailover(a.Last)
	}
	for _, t := range e.TDGs {
		enc.tdg(&r.tdgs, t)
	}
	for _, g := range e.Groups {
		enc.group(&r.groups, g)
	}
	for i := range e.Changes {
		enc.change(&r.changes, &e.Changes[i])
	}
	for _, d := range e.Drills {
		enc.drill(&r.drills, d)
	}
	for _, res := range e.Results {
		r.results.CommandIds = append(r.results.CommandIds, res.CommandID)
		r.results.Results = append(r.results.Results, enc.object(storedResult{
			Outcome: res.Outcome, Detail: res.Detail, Matched: res.Matched, Forced: res.Forced,
		}))
	}
	return r, enc.err
}

// storedResult is failover.Result as the inbox keeps it.
type storedResult struct {
	Outcome failover.Outcome `json:"outcome"`
	Detail  string           `json:"detail,omitempty"`
	Matched int              `json:"matched,omitempty"`
	Forced  int              `json:"forced,omitempty"`
}

// encoder remembers the first value that could not be encoded.
type encoder struct {
	err   error
	buf   []byte // holds values one behind the other
	began int    // where the value under way begins
}

func (e *encoder) object(v any) []byte {
	b, err := object(v)
	if err != nil && e.err == nil {
		e.err = err
	}
	return b
}
