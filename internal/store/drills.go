package store

import (
	"context"
	"fmt"

	"changeover/internal/failover"
	"changeover/internal/store/internal/db"
)

// Drills lists drills, the latest first; group empty: of all failover groups.
func (s *Store) Drills(ctx context.Context, group string, p Page) (drills []*failover.Drill, next string, err error) {
	ctx, done := s.call(ctx, "drills", callTimeout, &err)
	defer done()
	keys, err := p.keys("drills", 1)
	if err != nil {
		return nil, "", err
	}
	if err := s.needSchema(ctx, schemaRetention, "drills"); err != nil {
		return nil, "", err
	}
	params := db.DrillsParams{BeforeID: "g", FailoverGroup: group, MaxRows: rowLimit(p.limit() + 1)} // ids are hexadecimal
	if keys != nil {
		params.BeforeID = keys[0]
	}
	rows, err := s.q.Drills(ctx, s.pool, params)
	if err != nil {
		return nil, "", fmt.Errorf("read drills: %w", err)
	}
	rows, next = cut(rows, p.limit(), func(r *db.Drill) string { return cursor("drills", r.DrillID) })
	drills, err = all(rows, decodeDrill)
	return drills, next, err
}

// Drill returns a drill by its id, or ErrNotFound.
func (s *Store) Drill(ctx context.Context, id string) (_ *failover.Drill, err error) {
	ctx, done := s.call(ctx, "drill", callTimeout, &err)
	defer done()
	if err := s.needSchema(ctx, schemaRetention, "drills"); err != nil {
		return nil, err
	}
	rows, err := s.q.Drills(ctx, s.pool, db.DrillsParams{BeforeID: "g", DrillID: text(id), MaxRows: 1})
	if err != nil {
		return nil, fmt.Errorf("read drill %s: %w", id, err)
	}
	if len(rows) == 0 || id == "" {
		return nil, fmt.Errorf("drill %q: %w", id, ErrNotFound)
	}
	return decodeDrill(&rows[0])
}

func decodeDrill(r *db.Drill) (*failover.Drill, error) {
	d := &failover.Drill{}
	return d, decode(r.Report, d, "drill", r.DrillID)
}

func (e *encoder) drill(p *db.UpsertDrillsParams, d *failover.Drill) {
	p.DrillIds = append(p.DrillIds, text(d.ID))
	p.FailoverGroups = append(p.FailoverGroups, text(d.Group))
	p.StartedAts = append(p.StartedAts, timestamp(d.StartedAt))
	p.EndedAts = append(p.EndedAts, timestamp(d.EndedAt))
	p.Reports = append(p.Reports, e.object(d))
}
