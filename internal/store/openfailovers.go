package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// OpenFilter chooses open failovers; empty fields match everything.
type OpenFilter struct {
	Group, TDG, FromRegion string
	Status                 failover.Status
	Channel                string // of a contact that holds
	Phase                  string // talking, afterContactWork
	Stale                  *bool
	Order                  string // longest (or empty), shortest, username
}

// OpenFailover is a failover that is not over, and what holds it.
type OpenFailover struct {
	ID, AgentID, Username, Group, TDG, From, To string
	Status                                      failover.Status
	DetectedAt, PendingAt, StaleSince           time.Time
	Contacts                                    []HoldingContact
}

// HoldingContact is a contact that holds a failover, as it was last seen.
type HoldingContact struct {
	ID      string    `json:"id"`
	Channel string    `json:"channel"`
	State   string    `json:"state"`
	Since   time.Time `json:"since"`
}

// OpenTotals sums up the failovers of a filter, and the contacts that hold them.
type OpenTotals struct{ Failovers, Pending, Live, AfterContactWork int }

// OpenFailovers lists what is not over, and sums up all that match. A page is a sort of all open failovers.
func (s *Store) OpenFailovers(ctx context.Context, f OpenFilter, p Page) (open []OpenFailover, totals OpenTotals, next string, err error) {
	ctx, done := s.call(ctx, "open_failovers", callTimeout, &err)
	defer done()
	list := "open:" + f.Order // a cursor is of one order
	keys, err := p.keys(list, 3)
	if err != nil {
		return nil, totals, "", err
	}
	stale := ""
	if f.Stale != nil {
		stale = strconv.FormatBool(*f.Stale)
	}
	params := db.OpenFailoversParams{
		AfterTime: -noLimit, MaxRows: rowLimit(p.limit() + 1), SortBy: f.Order, FailoverGroup: f.Group, TdgID: f.TDG, Status: string(f.Status),
		FromRegion: f.FromRegion, Stale: stale, Channel: f.Channel, Phase: f.Phase,
	}
	if keys != nil {
		if params.AfterTime, err = strconv.ParseInt(keys[1], 10, 64); err != nil {
			return nil, totals, "", ErrBadCursor
		}
		params.AfterName, params.AfterID = keys[0], keys[2]
	}
	var rows []db.OpenFailoversRow
	err = s.snapshot(ctx, s.pool, func(tx pgx.Tx) (err error) {
		if rows, err = s.q.OpenFailovers(ctx, tx, params); err != nil {
			return err
		}
		t, err := s.q.OpenFailoverTotals(ctx, tx, db.OpenFailoverTotalsParams{
			Channel: f.Channel, FailoverGroup: f.Group, TdgID: f.TDG, Status: string(f.Status), FromRegion: f.FromRegion, Stale: stale, Phase: f.Phase,
		})
		totals = OpenTotals{Failovers: int(t.Failovers), Pending: int(t.Pending), Live: int(t.Live), AfterContactWork: int(t.Ended)}
		return err
	})
	if err != nil {
		return nil, totals, "", fmt.Errorf("read open failovers: %w", err)
	}
	rows, next = cut(rows, p.limit(), func(r *db.OpenFailoversRow) string {
		return cursor(list, r.ByName, strconv.FormatInt(r.ByTime, 10), r.FailoverID)
	})
	open, err = all(rows, func(r *db.OpenFailoversRow) (OpenFailover, error) {
		o := OpenFailover{
			ID: r.FailoverID, AgentID: r.AgentID, Username: r.Username, Group: r.FailoverGroup, TDG: r.TdgID, From: r.FromRegion, To: r.ToRegion,
			Status: failover.Status(r.Status), DetectedAt: r.DetectedAt.Time, PendingAt: r.PendingAt.Time, StaleSince: r.StaleSince.Time,
		}
		return o, decode(r.Contacts, &o.Contacts, "contacts of failover", r.FailoverID)
	})
	return open, totals, next, err
}
