package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// Position is a place in the event log: a sequence number and the epoch of the leader that gave it out. The zero Position is
// before the first event.
type Position struct{ Epoch, Seq int64 }

// Term says from which sequence number on events belong to an epoch.
type Term struct{ Epoch, FirstSeq int64 }

// LogState is what tells a good position from a bad one. A position (epoch, seq) that a reader remembers is good if
// OldestSeq-1 <= seq <= Head.Seq and the term that seq falls into has that epoch. Position zero is good while OldestSeq is 1.
type LogState struct {
	LogID     string   // of this log; another one counts differently
	Head      Position // of the last event
	OldestSeq int64    // the first event that retention has left; Head.Seq+1 when none is
	Terms     []Term   // in order; those whose events are all dropped may be missing
}

// LogEvent is an event of the log as it was committed.
type LogEvent struct {
	Seq, Epoch                 int64
	AgentID, Group, FailoverID string
	Type                       failover.EventType
	Time                       time.Time
	CommittedAt                time.Time       // the database's clock
	Data                       json.RawMessage // one line of JSON
}

// LogState reads the head of the log.
func (s *Store) LogState(ctx context.Context) (st LogState, err error) {
	ctx, done := s.call(ctx, "log_state", quickTimeout, &err)
	defer done()
	err = s.snapshot(ctx, s.pool, func(tx pgx.Tx) error {
		head, err := s.q.Head(ctx, tx)
		if err != nil {
			return err
		}
		terms, err := s.q.Terms(ctx, tx)
		st = LogState{LogID: head.LogID, Head: Position{head.Epoch, head.Seq}, OldestSeq: head.OldestSeq, Terms: make([]Term, len(terms))}
		for i, t := range terms {
			st.Terms[i] = Term(t)
		}
		return err
	})
	return st, wrap(err, "read the head of the event log")
}

// EventsAfter reads the events that follow seq, in order, at most limit. Their numbers have no gaps; where retention has dropped
// the next one, it returns ErrPruned.
func (s *Store) EventsAfter(ctx context.Context, seq int64, limit int) (events []LogEvent, err error) {
	ctx, done := s.call(ctx, "events", quickTimeout, &err)
	defer done()
	rows, err := s.q.Events(ctx, s.pool, db.EventsParams{AfterSeq: seq, UptoSeq: noLimit, MaxRows: rowLimit(limit)})
	if err != nil {
		return nil, fmt.Errorf("read the event log after %d: %w", seq, err)
	}
	if len(rows) > 0 && rows[0].Seq != seq+1 {
		return nil, fmt.Errorf("events %d to %d: %w", seq+1, rows[0].Seq-1, ErrPruned)
	}
	return logEvents(rows), nil
}

// FreshEvents are the events that follow seq, as [Store.EventsAfter] gives them, if this program has committed them within the last second. Nil: it
// has not, and the database has to be asked.
func (s *Store) FreshEvents(seq int64, limit int) []LogEvent { return s.fresh.after(seq, limit) }

// AgentEventsAfter reads the events of some agents in (afterSeq, uptoSeq], in order, at most limit. Nil agentIDs are all agents,
// no types all types. Where retention has dropped events after afterSeq it returns ErrPruned.
func (s *Store) AgentEventsAfter(ctx context.Context, agentIDs []string, afterSeq, uptoSeq int64, types []string, limit int) (events []LogEvent, err error) {
	ctx, done := s.call(ctx, "agent_events", callTimeout, &err)
	defer done()
	if agentIDs == nil {
		var rows []db.EventsRow
		rows, err = s.q.Events(ctx, s.pool, db.EventsParams{AfterSeq: afterSeq, UptoSeq: uptoSeq, Types: types, MaxRows: rowLimit(limit)})
		events = logEvents(rows)
	} else {
		var rows []db.AgentEventsRow
		rows, err = s.q.AgentEvents(ctx, s.pool, db.AgentEventsParams{
			AgentIds: agentIDs, AfterSeq: afterSeq, UptoSeq: uptoSeq, Types: types, MaxRows: rowLimit(limit),
		})
		events = logEvents(rows)
	}
	if err != nil {
		return nil, fmt.Errorf("read events after %d of %d agents: %w", afterSeq, len(agentIDs), err)
	}
	// Looked at afterwards, so that what was dropped meanwhile is noticed.
	head, err := s.q.Head(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("read the head of the event log: %w", err)
	}
	if afterSeq < head.OldestSeq-1 {
		return nil, fmt.Errorf("events %d to %d: %w", afterSeq+1, head.OldestSeq-1, ErrPruned)
	}
	return events, nil
}

func logEvents[R db.EventsRow | db.AgentEventsRow](rows []R) []LogEvent {
	events := make([]LogEvent, len(rows))
	for i := range rows {
		r := db.EventsRow(rows[i])
		events[i] = LogEvent{
			Seq: r.Seq, Epoch: r.Epoch, AgentID: r.AgentID, Group: r.FailoverGroup, FailoverID: r.FailoverID,
			Type: failover.EventType(r.Type), Time: r.Time.Time, CommittedAt: r.CommittedAt.Time, Data: r.Data,
		}
	}
	return events
}

// AgentView is what a snapshot on the event stream tells of an agent.
type AgentView struct {
	AgentID, Username, Group, TDG string
	ActiveRegion                  string // empty: not known yet
	State                         failover.AgentState
	NextActiveRegion, FailoverID  string    // of the open failover
	ContactIDs                    []string  // that hold it
	PauseReason                   string    // why operators hold its completion
	PausedUntil                   time.Time // until when; zero: nobody does
	Errors                        []failover.SetupError
}

// AgentViews reads the view of every agent, sorted by id, and the position that it is true at.
func (s *Store) AgentViews(ctx context.Context) (views []AgentView, at Position, err error) {
	ctx, done := s.call(ctx, "agent_views", loadTimeout, &err)
	defer done()
	var rows []db.AgentViewsRow
	var stored []db.FailoverGroup
	err = s.snapshot(ctx, s.pool, func(tx pgx.Tx) error {
		head, err := s.q.Head(ctx, tx)
		if err != nil {
			return err
		}
		at = Position{head.Epoch, head.Seq}
		if stored, err = s.q.LoadGroups(ctx, tx); err != nil {
			return err
		}
		rows, err = s.q.AgentViews(ctx, tx)
		return err
	})
	if err != nil {
		return nil, Position{}, fmt.Errorf("read the agents' views: %w", err)
	}
	groups := make(map[string]*failover.Group, len(stored))
	for i := range stored {
		if groups[stored[i].Name], err = decodeGroup(&stored[i]); err != nil {
			return nil, Position{}, err
		}
	}
	if views, err = all(rows, decodeView); err != nil {
		return nil, Position{}, err
	}
	for i := range views {
		g := groups[views[i].Group]
		if g == nil {
			continue
		}
		if g.Pause != nil && views[i].FailoverID != "" {
			views[i].PauseReason, views[i].PausedUntil = g.Pause.Reason, g.Pause.Until
		}
	}
	return views, at, nil
}

func decodeView(row *db.AgentViewsRow) (v AgentView, err error) {
	v = AgentView{
		AgentID: row.AgentID, Username: row.Username, Group: row.FailoverGroup, TDG: row.TdgID, ActiveRegion: row.ActiveRegion,
		State: failover.AgentState(row.State), NextActiveRegion: row.NextRegion, FailoverID: row.FailoverID,
	}
	if v.ContactIDs, err = decodeList(row.ContactIds, row.FailoverID); err != nil {
		return v, err
	}
	v.Errors, err = decodeErrors(row.Errors, row.AgentID)
	return v, err
}

// partitionsAhead is for how many days partitions are made before they are needed: for so long nobody need maintain them, and after
// that the default partition takes the events. Every read of the log looks into each of them.
const partitionsAhead = 3

// How the maintenance of partitions waits for those who use them.
const (
	// partitionLock is how long it stands in line for a table: whoever comes after it, readers and commits, waits as long.
	partitionLock = 100 * time.Millisecond
	// partitionTries are its attempts, partitionPause apart, before the caller has to try again later.
	partitionTries = 10
	partitionPause = 500 * time.Millisecond
)

// MaintainPartitions makes the event log's partitions of today and the coming days, and drops those whose events are all
// older than the retention. It is harmless at any time and from several replicas: for a table that somebody reads it stands in line a tenth of a
// second at most, and tries again, for some seconds; then it returns an error.
func (s *Store) MaintainPartitions(ctx context.Context, retention time.Duration) (err error) {
	for try := 1; ; try++ {
		err = s.maintainPartitions(ctx, retention)
		var pgErr *pgconn.PgError
		if try == partitionTries || !errors.As(err, &pgErr) || pgErr.Code != "55P03" { // lock_not_available
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(partitionPause/2 + rand.N(partitionPause)):
		}
	}
}

func (s *Store) maintainPartitions(ctx context.Context, retention time.Duration) (err error) {
	ctx, done := s.call(ctx, "maintain_partitions", callTimeout, &err)
	defer done()
	return pgx.BeginFunc(ctx, s.leader, func(tx pgx.Tx) error {
		if err := s.bound(ctx, tx, lockInCommit); err != nil {
			return fmt.Errorf("set the transaction's time-outs: %w", err)
		}
		if _, err := s.q.LockHead(ctx, tx); err != nil {
			return fmt.Errorf("lock the event log: %w", err)
		}
		if err := s.bound(ctx, tx, partitionLock); err != nil {
			return fmt.Errorf("set the transaction's time-outs: %w", err)
		}
		n, err := s.q.MaintainEventPartitions(ctx, tx, db.MaintainEventPartitionsParams{Retention: retention, Ahead: partitionsAhead})
		if err != nil {
			return fmt.Errorf("make and drop partitions of the event log: %w", err)
		}
		if n.Created > 0 || n.Dropped > 0 {
			s.log.InfoContext(ctx, "event log partitions maintained", "created", n.Created, "dropped", n.Dropped)
		}
		return nil
	})
}

const (
	listenPing    = 10 * time.Second // how often a silent listening connection is tried
	listenBackoff = 5 * time.Second  // at most, between attempts to connect
)

// Listen calls wake for each notification on one of the channels, on one connection of its own, until ctx ends; then it returns
// nil. It reconnects by itself. After each connection it calls wake for every channel, because notifications may have been
// missed. wake is called by one goroutine and must not block.
func (s *Store) Listen(ctx context.Context, channels []string, wake func(channel string)) error {
	url := s.opts.ListenURL
	if url == "" {
		url = s.opts.URL
	}
	if _, err := connConfig(url); err != nil {
		return fmt.Errorf("database URL for LISTEN: %w", err)
	}
	const least = 100 * time.Millisecond
	for backoff := least; ; backoff = min(2*backoff, listenBackoff) {
		began := time.Now()
		err := listen(ctx, url, channels, s.opts.Traced, wake)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is how listening ends
		}
		if s.opts.Metrics != nil {
			s.opts.Metrics.errors.WithLabelValues("listen").Inc()
		}
		s.log.WarnContext(ctx, "listening connection lost, connecting again", "error", err)
		if time.Since(began) > listenPing {
			backoff = least
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
	}
}

func listen(ctx context.Context, url string, channels []string, traced func(TracedCommit), wake func(string)) error {
	config, err := connConfig(url) // anew, see newPool
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	for _, channel := range channels {
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return fmt.Errorf("listen on %s: %w", channel, err)
		}
	}
	for _, channel := range channels {
		wake(channel)
	}
	for {
		silent, cancel := context.WithTimeout(ctx, listenPing)
		n, err := conn.WaitForNotification(silent)
		cancel()
		switch {
		case err == nil:
			if traced != nil && n.Payload != "" {
				if c, ok := parsePayload(n.Payload); ok {
					traced(c)
				}
			}
			wake(n.Channel)
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded) && !conn.IsClosed():
			// A connection that a firewall has forgotten is silent too.
			ping, cancel := context.WithTimeout(ctx, connectTimeout)
			err = conn.Ping(ping)
			cancel()
			if err != nil {
				return fmt.Errorf("ping: %w", err)
			}
		default:
			return err
		}
	}
}
