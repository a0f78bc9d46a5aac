package api

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	"changeover/internal/api/contract"
	"changeover/internal/store"
	"changeover/internal/webhook"
)

// ListWebhooks implements GET /v1/webhooks.
func (s *Server) ListWebhooks(ctx context.Context, _ contract.ListWebhooksRequestObject) (contract.ListWebhooksResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	stored, err := s.store.Webhooks(ctx)
	if err != nil {
		return nil, err
	}
	items := make([]contract.Webhook, len(s.webhooks))
	for i, h := range s.webhooks {
		w := store.Webhook{Name: h.Name} // what is configured is there before it was served
		if j := slices.IndexFunc(stored, func(w store.Webhook) bool { return w.Name == h.Name }); j >= 0 {
			w = stored[j]
		}
		items[i] = contract.Webhook{
			Name: h.Name, Origin: origin(h.URL), Events: orEmpty(h.Events), FailoverGroups: orEmpty(h.Groups), Behind: int(w.Behind), Pending: w.Pending,
			Dead: w.Dead, LastSuccessAt: moment(w.LastSuccessAt), LastError: text(w.LastError), LastErrorAt: moment(w.LastErrorAt),
		}
	}
	slices.SortFunc(items, func(a, b contract.Webhook) int { return strings.Compare(a.Name, b.Name) })
	return contract.ListWebhooks200JSONResponse{Items: items}, nil
}

// origin is an address without what may hold a token.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil { // the configuration has been checked
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// hook says whether a webhook is configured.
func (s *Server) hook(name string) bool {
	return slices.ContainsFunc(s.webhooks, func(h webhook.Hook) bool { return h.Name == name })
}

// ListWebhookDeliveries implements GET /v1/webhooks/{webhook}/deliveries.
func (s *Server) ListWebhookDeliveries(ctx context.Context, r contract.ListWebhookDeliveriesRequestObject) (contract.ListWebhookDeliveriesResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if !s.hook(r.Webhook) {
		return nil, notFound("webhook", r.Webhook)
	}
	deliveries, next, err := s.store.Deliveries(ctx, r.Webhook, string(value(r.Params.Status)), page(r.Params.Limit, r.Params.Cursor))
	if err != nil {
		return nil, err
	}
	return contract.ListWebhookDeliveries200JSONResponse{Items: each(deliveries, delivery), NextCursor: text(next)}, nil
}

func delivery(d *store.Delivery) contract.Delivery {
	out := contract.Delivery{
		DeliveryID: d.ID, Webhook: d.Webhook, Status: contract.DeliveryStatus(d.Status), Attempts: d.Attempts, Events: d.Events,
		CreatedAt: utc(d.CreatedAt), DeliveredAt: moment(d.DeliveredAt), LastError: text(d.LastError),
	}
	if d.Status == store.DeliveryPending {
		out.NextAttemptAt = moment(d.NextAt)
	}
	return out
}

// ReplayWebhookDelivery implements POST /v1/webhooks/{webhook}/deliveries/{deliveryId}/replay.
func (s *Server) ReplayWebhookDelivery(ctx context.Context, r contract.ReplayWebhookDeliveryRequestObject) (contract.ReplayWebhookDeliveryResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	target := "webhooks/" + r.Webhook + "/deliveries/" + clip(r.DeliveryID)
	if !s.hook(r.Webhook) {
		return nil, s.refuse(ctx, target, "", nil, notFound("webhook", r.Webhook))
	}
	d, err := s.store.ReplayDelivery(ctx, r.Webhook, r.DeliveryID, webhook.GiveUpAfter, callOf(ctx).entry(target, "", nil, outcomeDone))
	switch {
	case isNotFound(err):
		return nil, s.refuse(ctx, target, "", nil, notFound("delivery", r.DeliveryID))
	case errors.Is(err, store.ErrDeliveryPending):
		return nil, s.refuse(ctx, target, "", nil, problemf(kindDeliveryPending, "The delivery is pending; it is tried anyway."))
	case err != nil:
		return nil, err
	}
	return contract.ReplayWebhookDelivery202JSONResponse(delivery(&d)), nil
}
