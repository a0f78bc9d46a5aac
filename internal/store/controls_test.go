package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

// A drill is stored with all that it is, loaded by the next leader while it is under way, and removed with the history.
func TestDrills(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	s, err := store.Open(t.Context(), store.Options{URL: url, History: 48 * time.Hour})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	conn := connect(t, url)
	epoch := lead(t, s).Epoch
	ready := true
	running := &failover.Drill{
		ID: "019aa4a1-5f2a-7c3e-9b1d-0a1b2c3d4e70", Group: "main", By: "olga", Reason: "why", StartedAt: start, Until: start.Add(time.Minute),
		Agents: []failover.DrillAgent{{
			AgentID: "a", From: "us-east-1", To: "us-west-2", Outcome: failover.DrillPending, Detail: "x", Streaming: true, Standby: &ready, ContactIDs: []string{"c"},
			PendingAt: start, CompletedAt: start, CancelledAt: start,
		}},
	}
	over := &failover.Drill{ID: "019aa4a1-5f2a-7c3e-9b1d-0a1b2c3d4e71", Group: "other", StartedAt: time.Now().UTC(), EndedAt: time.Now().UTC()}
	commit(t, s, epoch, failover.Effects{Drills: []*failover.Drill{running, over}})
	snapshot, err := s.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, []*failover.Drill{running}, snapshot.Drills)
	all, _, err := s.Drills(t.Context(), "", store.Page{})
	require.NoError(t, err)
	require.Equal(t, []*failover.Drill{over, running}, all)
	some, _, err := s.Drills(t.Context(), "other", store.Page{})
	require.NoError(t, err)
	require.Equal(t, []*failover.Drill{over}, some)
	_, err = s.Drill(t.Context(), "")
	require.ErrorIs(t, err, store.ErrNotFound)

	require.NoError(t, s.Prune(t.Context()))
	require.Equal(t, int64(2), query[int64](t, conn, "SELECT count(*) FROM drills"), "it is under way")
	running.EndedAt = time.Now().Add(-72 * time.Hour)
	commit(t, s, epoch, failover.Effects{Drills: []*failover.Drill{running}})
	snapshot, err = s.Load(t.Context())
	require.NoError(t, err)
	require.Empty(t, snapshot.Drills)
	require.NoError(t, s.Prune(t.Context()))
	require.Equal(t, over.ID, query[string](t, conn, "SELECT drill_id FROM drills"))
}

// What ended is removed in time: deliveries that were made after a week, dead ones after a month, pending ones never.
func TestDeliveriesArePruned(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	exec(t, conn, `INSERT INTO webhook_deliveries (delivery_id, webhook, status, events, created_at, give_up_at, body)
		SELECT s || d, 'hook', s, 1, clock_timestamp() - d * interval '1 day', clock_timestamp(), '{}'
		FROM unnest(ARRAY['pending', 'delivered', 'dead']) s, unnest(ARRAY[6, 8, 31]) d`)
	require.NoError(t, s.Prune(t.Context()))
	require.Equal(t, []string{"dead6", "dead8", "delivered6", "pending31", "pending6", "pending8"},
		query[[]string](t, conn, "SELECT array_agg(delivery_id ORDER BY delivery_id) FROM webhook_deliveries"))
}

// On the schema of the version before, webhooks and drills say what they need, and nothing else is disturbed.
func TestControlsNeedTheirSchema(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewEmptyDatabase(t)
	migrateTo(t, url, newestSchema(t)-1)
	s := open(t, url)
	_, err := s.Load(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Prune(t.Context()))
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"webhooks":   func() error { _, err := s.Webhooks(ctx); return err },
		"hold":       func() error { _, _, err := s.HoldWebhook(ctx, "hook", "me", time.Minute); return err },
		"deliveries": func() error { _, _, err := s.Deliveries(ctx, "hook", "", store.Page{}); return err },
		"replay":     func() error { _, err := s.ReplayDelivery(ctx, "hook", "x", time.Hour, store.AuditEntry{}); return err },
		"drills":     func() error { _, _, err := s.Drills(ctx, "", store.Page{}); return err },
		"drill":      func() error { _, err := s.Drill(ctx, "x"); return err },
	} {
		err := call()
		require.ErrorIs(t, err, store.ErrOldSchema, name)
		require.True(t, store.IsUnavailable(err), name)
	}
	migrate(t, url)
	_, err = s.Webhooks(t.Context())
	require.NoError(t, err)
}
