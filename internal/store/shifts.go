package store

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// ShiftFilter chooses shifts; empty fields match everything.
type ShiftFilter struct{ Group, TDG string }

// PastShift is a change of where the agents of a traffic distribution group work, and what became of the failovers until the next one.
type PastShift struct {
	Change
	EndedAt   time.Time // zero: it is the last one
	Failovers int       // detected in its time; the rest are parts of them
	Detected, Pending, Completed, Cancelled, Forced,
	Stalled int
}

// Phase is how long the failovers of a shift took for a phase.
type Phase struct {
	Name          string // detection, release, pending, total, confirmation
	Failovers     int    // that have it behind them; more than 0
	P50, P95, Max time.Duration
}

// ShiftReport says what became of a shift.
type ShiftReport struct {
	PastShift
	Phases     []Phase                   // without those that no failover has behind it
	ByEvidence map[failover.Evidence]int // of the completed
	ForcedBy   []ForcedBy                // the most first
}

// ForcedBy is how many failovers somebody forced.
type ForcedBy struct {
	By        string
	Failovers int
}

// Shifts lists shifts, the latest first. What is the first that is known of a group is none.
func (s *Store) Shifts(ctx context.Context, f ShiftFilter, p Page) (shifts []PastShift, next string, err error) {
	ctx, done := s.call(ctx, "shifts", callTimeout, &err)
	defer done()
	before, err := p.before("shifts")
	if err != nil {
		return nil, "", err
	}
	rows, err := s.q.Shifts(ctx, s.pool, db.ShiftsParams{BeforeID: before, FailoverGroup: f.Group, TdgID: f.TDG, MaxRows: rowLimit(p.limit() + 1)})
	if err != nil {
		return nil, "", fmt.Errorf("read shifts: %w", err)
	}
	rows, next = cut(rows, p.limit(), func(r *db.ShiftsRow) string { return cursor("shifts", strconv.FormatInt(r.ChangeID, 10)) })
	shifts, err = all(rows, decodeShift)
	return shifts, next, err
}

// shift reads one, or returns ErrNotFound.
func (s *Store) shift(ctx context.Context, tx pgx.Tx, id int64) (*db.ShiftsRow, error) {
	rows, err := s.q.Shifts(ctx, tx, db.ShiftsParams{BeforeID: noLimit, ChangeID: id, MaxRows: 1})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("shift %d: %w", id, ErrNotFound)
	}
	return &rows[0], nil
}

// ShiftReport returns the report on a shift, or ErrNotFound.
func (s *Store) ShiftReport(ctx context.Context, id int64) (report ShiftReport, err error) {
	ctx, done := s.call(ctx, "shift_report", callTimeout, &err)
	defer done()
	err = s.snapshot(ctx, s.pool, func(tx pgx.Tx) error {
		row, err := s.shift(ctx, tx, id)
		if err != nil {
			return err
		}
		if report.PastShift, err = decodeShift(row); err != nil {
			return err
		}
		tdg, since, until := row.TdgID, row.ObservedAt, forever(report.EndedAt)
		phases, err := s.q.ShiftPhases(ctx, tx, db.ShiftPhasesParams{TdgID: tdg, Since: since, Until: until})
		if err != nil {
			return err
		}
		for _, p := range phases {
			report.Phases = append(report.Phases, Phase{
				Name: p.Phase, Failovers: int(p.Failovers), P50: fromSeconds(p.P50), P95: fromSeconds(p.P95), Max: fromSeconds(p.Longest),
			})
		}
		evidence, err := s.q.ShiftEvidence(ctx, tx, db.ShiftEvidenceParams{TdgID: tdg, Since: since, Until: until})
		if err != nil {
			return err
		}
		report.ByEvidence = make(map[failover.Evidence]int, len(evidence))
		for _, e := range evidence {
			report.ByEvidence[failover.Evidence(e.Evidence)] = int(e.Failovers)
		}
		forced, err := s.q.ShiftForcedBy(ctx, tx, db.ShiftForcedByParams{TdgID: tdg, Since: since, Until: until})
		for _, f := range forced {
			report.ForcedBy = append(report.ForcedBy, ForcedBy{By: f.ForcedBy, Failovers: int(f.Failovers)})
		}
		return err
	})
	if err != nil {
		return ShiftReport{}, fmt.Errorf("report on shift %d: %w", id, err)
	}
	return report, nil
}

// ShiftProgress is a shift over time.
type ShiftProgress struct {
	Since, Until time.Time     // until now while failovers are open, else until the last move
	Step         time.Duration // how far points are apart at least
	Points       []ShiftPoint  // at the ends of the steps in which something changed
}

// ShiftPoint is how a shift stood at a moment.
type ShiftPoint struct {
	At                                      time.Time
	Detected, Pending, Completed, Cancelled int // pending at that moment, the others until then
}

// progressSteps is how many points are told at most: as many as can be told apart on a screen.
const progressSteps = 240

// ShiftProgress returns how a shift went, or ErrNotFound.
func (s *Store) ShiftProgress(ctx context.Context, id int64) (p ShiftProgress, err error) {
	ctx, done := s.call(ctx, "shift_progress", callTimeout, &err)
	defer done()
	err = s.snapshot(ctx, s.pool, func(tx pgx.Tx) error {
		row, err := s.shift(ctx, tx, id)
		if err != nil {
			return err
		}
		tdg, since, until := row.TdgID, row.ObservedAt, forever(row.EndedAt.Time)
		last, err := s.q.ShiftLastMove(ctx, tx, db.ShiftLastMoveParams{TdgID: tdg, Since: since, Until: until})
		if err != nil {
			return err
		}
		p.Since, p.Until = since.Time, last.LastMove.Time
		if row.Detected+row.Pending > 0 && last.Now.Time.After(p.Until) {
			p.Until = last.Now.Time
		}
		p.Step = progressStep(p.Until.Sub(p.Since))
		moves, err := s.q.ShiftMoves(ctx, tx, db.ShiftMovesParams{Since: since, Step: p.Step.Seconds(), TdgID: tdg, Until: until})
		var at ShiftPoint
		for _, m := range moves {
			at.At = p.Since.Add(time.Duration(m.Step+1) * p.Step)
			if at.At.After(p.Until) {
				at.At = p.Until
			}
			at.Detected += int(m.Detected)
			at.Pending += int(m.Pending)
			at.Completed += int(m.Completed)
			at.Cancelled += int(m.Cancelled)
			p.Points = append(p.Points, at)
		}
		return err
	})
	if err != nil {
		return ShiftProgress{}, fmt.Errorf("progress of shift %d: %w", id, err)
	}
	return p, nil
}

// progressStep is the shortest step, of whole seconds, with which so long a time has no more than progressSteps.
func progressStep(d time.Duration) time.Duration {
	seconds := max(1, math.Ceil(d.Seconds()/progressSteps))
	return time.Duration(seconds) * time.Second
}

func decodeShift(r *db.ShiftsRow) (PastShift, error) {
	change, err := decodeChange(&db.DistributionChange{
		ChangeID: r.ChangeID, TdgID: r.TdgID, FailoverGroup: r.FailoverGroup, Before: r.Before, After: r.After, ObservedAt: r.ObservedAt,
		ObservedBy: r.ObservedBy, Conflict: r.Conflict,
	})
	return PastShift{
		Change: change, EndedAt: r.EndedAt.Time, Failovers: int(r.Failovers), Detected: int(r.Detected), Pending: int(r.Pending),
		Completed: int(r.Completed), Cancelled: int(r.Cancelled), Forced: int(r.Forced), Stalled: int(r.Stalled),
	}, err
}

// forever is a time as an upper bound; zero is no bound.
func forever(t time.Time) pgtype.Timestamptz {
	if t.IsZero() {
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	}
	return timestamp(t)
}

func fromSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
