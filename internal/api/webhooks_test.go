package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/store"
)

// deliver makes a delivery of the webhook that was accepted.
func (s *service) deliver(id string) {
	s.t.Helper()
	ctx := s.t.Context()
	hold, ok, err := s.leader.store.HoldWebhook(ctx, "pager", "test", time.Hour)
	require.NoError(s.t, err)
	require.True(s.t, ok)
	ok, err = s.leader.store.AppendDeliveries(ctx, "pager", "test", hold.Cursor, hold.Cursor, nil,
		[]store.Delivery{{ID: id, Events: 3, Body: []byte(`{}`)}}, time.Hour)
	require.NoError(s.t, err)
	require.True(s.t, ok)
	require.NoError(s.t, s.leader.store.DeliveryDone(ctx, &store.Delivery{ID: id, Webhook: "pager"}))
}

func TestWebhooks(t *testing.T) {
	t.Parallel()
	s := newService(t)
	list := read[contract.WebhookList](t, s.get("/v1/webhooks"), http.StatusOK).Items
	require.Len(t, list, 1, "also before it was ever served")
	require.Equal(t, "https://pager.example", list[0].Origin, "the path may hold a token")
	require.Empty(t, read[contract.DeliveryList](t, s.get("/v1/webhooks/pager/deliveries"), http.StatusOK).Items)

	const other = "019aa4a1-5f2a-7c3e-9b1d-0a1b2c3d4e60"
	s.deliver(deliveryID)
	s.deliver(other)
	require.NoError(t, s.leader.store.DeliveryFailed(t.Context(), &store.Delivery{ID: other, Webhook: "pager"}, "the receiver answered 500", time.Minute, false))
	w := read[contract.WebhookList](t, s.get("/v1/webhooks"), http.StatusOK).Items[0]
	require.NotNil(t, w.LastSuccessAt)
	require.Equal(t, "the receiver answered 500", *w.LastError)

	path := "/v1/webhooks/pager/deliveries"
	all := read[contract.DeliveryList](t, s.get(path), http.StatusOK).Items
	require.Len(t, all, 2)
	require.Equal(t, other, all[0].DeliveryID, "the latest first")
	require.Equal(t, contract.DeliveryStatusDelivered, all[1].Status)
	require.Equal(t, 3, all[1].Events)
	page := read[contract.DeliveryList](t, s.get(path+"?limit=1"), http.StatusOK)
	require.Equal(t, all[1:], read[contract.DeliveryList](t, s.get(path+"?limit=1&cursor="+*page.NextCursor), http.StatusOK).Items)
	require.Empty(t, read[contract.DeliveryList](t, s.get(path+"?status=dead"), http.StatusOK).Items)

	replayed := read[contract.Delivery](t, s.post(path+"/"+deliveryID+"/replay", nil, "Idempotency-Key", "again"), http.StatusAccepted)
	require.Equal(t, contract.DeliveryStatusPending, replayed.Status)
	require.NotNil(t, replayed.NextAttemptAt)
	read[contract.Delivery](t, s.post(path+"/"+deliveryID+"/replay", nil, "Idempotency-Key", "again"), http.StatusAccepted)
	p := read[contract.Problem](t, s.post(path+"/"+deliveryID+"/replay", nil), http.StatusConflict)
	require.Equal(t, "urn:changeover:problem:delivery-pending", p.Type)
	require.Equal(t, http.StatusNotFound, s.post(path+"/019aa4a1-5f2a-7c3e-9b1d-000000000000/replay", nil).status)
	require.Equal(t, http.StatusNotFound, s.post("/v1/webhooks/none/deliveries/"+deliveryID+"/replay", nil).status)
	require.Equal(t, http.StatusNotFound, s.get("/v1/webhooks/none/deliveries").status)
	require.Equal(t, http.StatusBadRequest, s.post(path+"/1/replay", nil).status)

	var outcomes []string
	for _, e := range read[contract.AuditList](t, s.get("/v1/audit"), http.StatusOK).Items {
		require.Equal(t, "replayWebhookDelivery", e.Action)
		outcomes = append(outcomes, e.Outcome)
	}
	require.Equal(t, []string{"not-found", "not-found", "delivery-pending", "done"}, outcomes)
}
