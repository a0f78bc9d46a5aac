package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"changeover/internal/store/internal/db"
)

// RegionHealth is how the leader finds Amazon Connect in one Region of a failover group. Zero times: never.
type RegionHealth struct {
	Group, Region string
	State         string // unknown, healthy, degraded, down
	Since         time.Time
	LastSuccess   time.Time
	LastError     string
	LastErrorAt   time.Time
	UpdatedAt     time.Time // when a leader last wrote it, by the database's clock; set by the store
}

// SaveHealth writes the health of Regions for every replica to show, if epoch is still the lease's: else ErrFenced.
func (s *Store) SaveHealth(ctx context.Context, epoch int64, health []RegionHealth) (err error) {
	ctx, done := s.call(ctx, "save_health", quickTimeout, &err)
	defer done()
	var p db.UpsertHealthParams
	for _, h := range health {
		p.FailoverGroups = append(p.FailoverGroups, text(h.Group))
		p.Regions = append(p.Regions, text(h.Region))
		p.States = append(p.States, text(h.State))
		p.Sinces = append(p.Sinces, timestamp(h.Since))
		p.LastSuccesses = append(p.LastSuccesses, timestamp(h.LastSuccess))
		p.LastErrors = append(p.LastErrors, text(h.LastError))
		p.LastErrorAts = append(p.LastErrorAts, timestamp(h.LastErrorAt))
	}
	err = pgx.BeginFunc(ctx, s.leader, func(tx pgx.Tx) error {
		if err := s.fence(ctx, tx, epoch); err != nil {
			return err
		}
		return s.q.UpsertHealth(ctx, tx, p)
	})
	return wrap(err, "save the health of the Regions")
}

// Health returns the health of all Regions as the leader last saved it, sorted by group and Region.
func (s *Store) Health(ctx context.Context) (health []RegionHealth, err error) {
	ctx, done := s.call(ctx, "health", callTimeout, &err)
	defer done()
	rows, err := s.q.Health(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("read the health of the Regions: %w", err)
	}
	health = make([]RegionHealth, len(rows))
	for i, r := range rows {
		health[i] = RegionHealth{
			Group: r.FailoverGroup, Region: r.Region, State: r.State, Since: r.Since.Time, LastSuccess: r.LastSuccess.Time,
			LastError: r.LastError, LastErrorAt: r.LastErrorAt.Time, UpdatedAt: r.UpdatedAt.Time,
		}
	}
	return health, nil
}
