package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"changeover/internal/store/internal/db"
)

// How long deliveries of webhooks are kept: those that were delivered for whoever looks for one, the dead ones so that they can be
// replayed.
const (
	deliveredAge = 7 * 24 * time.Hour
	deadAge      = 30 * 24 * time.Hour
)

// The states of a delivery.
const (
	DeliveryPending   = "pending"
	DeliveryDelivered = "delivered"
	DeliveryDead      = "dead" // given up
)

// ErrDeliveryPending is the error of a replay of what is being delivered anyway.
var ErrDeliveryPending = errors.New("the delivery is pending")

// WebhookHold is a webhook that a replica serves.
type WebhookHold struct {
	Cursor int64             // events up to here are in deliveries
	Health map[string]string // what was told of Regions, as the holder wrote it
}

// Webhook is how a webhook stands.
type Webhook struct {
	Name          string
	Behind        int64 // events of the log that are in no delivery yet
	Pending, Dead int   // deliveries
	LastSuccessAt time.Time
	LastError     string
	LastErrorAt   time.Time
}

// Delivery is one request to a webhook's receiver.
type Delivery struct {
	ID, Webhook, Status string
	Attempts, Events    int
	CreatedAt           time.Time
	NextAt              time.Time // of the next attempt of a pending one
	DeliveredAt         time.Time
	LastError           string
	Body                json.RawMessage // of one that was taken
	LastChance          bool            // of one that was taken: this attempt is the last
}

// HoldWebhook takes a webhook for ttl, or keeps it, if no other replica serves it. One that is new begins at the end of the log.
func (s *Store) HoldWebhook(ctx context.Context, name, holder string, ttl time.Duration) (hold WebhookHold, ok bool, err error) {
	ctx, done := s.call(ctx, "hold_webhook", callTimeout, &err)
	defer done()
	if err := s.needSchema(ctx, schemaRetention, "webhooks"); err != nil {
		return hold, false, err
	}
	row, err := s.q.HoldWebhook(ctx, s.pool, db.HoldWebhookParams{Name: name, Holder: holder, Ttl: ttl})
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
		return hold, false, nil
	}
	if err != nil {
		return hold, false, fmt.Errorf("hold webhook %s: %w", name, err)
	}
	hold.Cursor = row.CursorSeq
	return hold, true, decode(row.Health, &hold.Health, "webhook", name)
}

// ReleaseWebhook lets another replica serve a webhook at once.
func (s *Store) ReleaseWebhook(ctx context.Context, name, holder string) (err error) {
	ctx, done := s.call(ctx, "release_webhook", quickTimeout, &err)
	defer done()
	return wrap(s.q.ReleaseWebhook(ctx, s.pool, db.ReleaseWebhookParams{Name: name, Holder: holder}), "release webhook "+name)
}

// AppendDeliveries moves a webhook's cursor and adds the deliveries that come of it, in one transaction: no event is in none or in
// two. False: another replica serves the webhook by now, and nothing was done.
func (s *Store) AppendDeliveries(ctx context.Context, name, holder string, from, to int64, health map[string]string, deliveries []Delivery,
	giveUpAfter time.Duration) (ok bool, err error) {
	ctx, done := s.call(ctx, "append_deliveries", callTimeout, &err)
	defer done()
	state, err := object(health)
	if err != nil {
		return false, err
	}
	p := db.InsertDeliveriesParams{Webhook: name, GiveUpAfter: giveUpAfter}
	for _, d := range deliveries {
		p.DeliveryIds = append(p.DeliveryIds, d.ID)
		p.Events = append(p.Events, int32(d.Events))
		p.Bodies = append(p.Bodies, d.Body)
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		n, err := s.q.AdvanceWebhook(ctx, tx, db.AdvanceWebhookParams{Name: name, Holder: holder, FromSeq: from, ToSeq: to, Health: state})
		if ok = n == 1; err != nil || !ok || len(deliveries) == 0 {
			return err
		}
		return s.q.InsertDeliveries(ctx, tx, p)
	})
	return ok && err == nil, wrap(err, "append deliveries of webhook "+name)
}

// TakeDelivery begins an attempt of the next delivery that is due; nobody else makes one before takenFor is over. Nil: none is due.
func (s *Store) TakeDelivery(ctx context.Context, webhook string, takenFor time.Duration) (_ *Delivery, err error) {
	ctx, done := s.call(ctx, "take_delivery", callTimeout, &err)
	defer done()
	row, err := s.q.TakeDelivery(ctx, s.pool, db.TakeDeliveryParams{Webhook: webhook, TakenFor: takenFor})
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
		return nil, nil //nolint:nilnil // nothing to do is no error
	}
	if err != nil {
		return nil, fmt.Errorf("take a delivery of webhook %s: %w", webhook, err)
	}
	return &Delivery{
		ID: row.DeliveryID, Webhook: webhook, Status: DeliveryPending, Attempts: int(row.Attempts), Events: int(row.Events), Body: row.Body,
		LastChance: row.LastChance,
	}, nil
}

// DeliveryDone notes that a delivery was accepted.
func (s *Store) DeliveryDone(ctx context.Context, d *Delivery) (err error) {
	ctx, done := s.call(ctx, "delivery_done", callTimeout, &err)
	defer done()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := s.q.DeliveryDone(ctx, tx, d.ID); err != nil {
			return err
		}
		return s.q.WebhookSucceeded(ctx, tx, d.Webhook)
	})
	return wrap(err, "note delivery "+d.ID)
}

// DeliveryFailed notes that an attempt failed, and why. It is tried again, or dead.
func (s *Store) DeliveryFailed(ctx context.Context, d *Delivery, reason string, again time.Duration, dead bool) (err error) {
	ctx, done := s.call(ctx, "delivery_failed", callTimeout, &err)
	defer done()
	reason = text(reason)
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := s.q.DeliveryFailed(ctx, tx, db.DeliveryFailedParams{DeliveryID: d.ID, Dead: dead, AgainIn: again, LastError: reason}); err != nil {
			return err
		}
		return s.q.WebhookFailed(ctx, tx, db.WebhookFailedParams{Name: d.Webhook, LastError: reason})
	})
	return wrap(err, "note the failure of delivery "+d.ID)
}

// Webhooks returns all webhooks that were ever served, by name.
func (s *Store) Webhooks(ctx context.Context) (hooks []Webhook, err error) {
	ctx, done := s.call(ctx, "webhooks", callTimeout, &err)
	defer done()
	if err := s.needSchema(ctx, schemaRetention, "webhooks"); err != nil {
		return nil, err
	}
	rows, err := s.q.Webhooks(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("read webhooks: %w", err)
	}
	hooks = make([]Webhook, len(rows))
	for i, r := range rows {
		hooks[i] = Webhook{
			Name: r.Name, Behind: max(int64(r.Behind), 0), Pending: int(r.Pending), Dead: int(r.Dead), LastSuccessAt: r.LastSuccessAt.Time,
			LastError: r.LastError, LastErrorAt: r.LastErrorAt.Time,
		}
	}
	return hooks, nil
}

// Deliveries lists the deliveries of a webhook, the latest first; status empty: all.
func (s *Store) Deliveries(ctx context.Context, webhook, status string, p Page) (deliveries []Delivery, next string, err error) {
	ctx, done := s.call(ctx, "deliveries", callTimeout, &err)
	defer done()
	keys, err := p.keys("deliveries", 1)
	if err != nil {
		return nil, "", err
	}
	if err := s.needSchema(ctx, schemaRetention, "webhooks"); err != nil {
		return nil, "", err
	}
	params := db.DeliveriesParams{Webhook: webhook, BeforeID: "g", Status: status, MaxRows: rowLimit(p.limit() + 1)} // ids are hexadecimal
	if keys != nil {
		params.BeforeID = keys[0]
	}
	rows, err := s.q.Deliveries(ctx, s.pool, params)
	if err != nil {
		return nil, "", fmt.Errorf("read deliveries of webhook %s: %w", webhook, err)
	}
	rows, next = cut(rows, p.limit(), func(r *db.DeliveriesRow) string { return cursor("deliveries", r.DeliveryID) })
	deliveries, err = all(rows, decodeDelivery)
	return deliveries, next, err
}

func decodeDelivery(r *db.DeliveriesRow) (Delivery, error) {
	return Delivery{
		ID: r.DeliveryID, Webhook: r.Webhook, Status: r.Status, Attempts: int(r.Attempts), Events: int(r.Events), CreatedAt: r.CreatedAt.Time,
		NextAt: r.NextAt.Time, DeliveredAt: r.DeliveredAt.Time, LastError: r.LastError,
	}, nil
}

// ReplayDelivery has a delivery made once more, with the same id and body, and adds the entry to the audit in the same transaction.
// ErrNotFound, or ErrDeliveryPending: nothing was changed.
func (s *Store) ReplayDelivery(ctx context.Context, webhook, id string, giveUpAfter time.Duration, e AuditEntry) (_ Delivery, err error) {
	var failed error // to be refused is none
	ctx, done := s.call(ctx, "replay_delivery", callTimeout, &failed)
	defer done()
	if e, err = e.storable(); err != nil {
		return Delivery{}, err
	}
	if err := s.needSchema(ctx, schemaRetention, "webhooks"); err != nil {
		return Delivery{}, err
	}
	var d Delivery
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		n, err := s.q.ReplayDelivery(ctx, tx, db.ReplayDeliveryParams{Webhook: webhook, DeliveryID: text(id), GiveUpAfter: giveUpAfter})
		if err != nil {
			return err
		}
		row, err := s.q.Delivery(ctx, tx, db.DeliveryParams{Webhook: webhook, DeliveryID: text(id)})
		if err != nil {
			return notFound(err, "delivery", id)
		}
		if n == 0 {
			return ErrDeliveryPending
		}
		if d, err = decodeDelivery((*db.DeliveriesRow)(&row)); err != nil {
			return err
		}
		return s.writeAudits(ctx, tx, []AuditEntry{e})
	})
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDeliveryPending) {
		failed = err
	}
	return d, wrap(err, "replay delivery "+id)
}

func (s *Store) pruneDeliveries(ctx context.Context) (int64, error) {
	if ok, err := s.hasSchema(ctx, schemaRetention); err != nil || !ok {
		return 0, err
	}
	return s.q.PruneDeliveries(ctx, s.leader, db.PruneDeliveriesParams{Dead: deadAge, Delivered: deliveredAge, MaxRows: pruneBatch})
}
