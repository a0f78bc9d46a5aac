package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"changeover/internal/failover"
	"changeover/internal/store"
	"changeover/internal/stream"
)

// The events of Regions, beside those of the log that [EventNames] lists.
const (
	EventRegionUnhealthy = "regionUnhealthy"
	EventRegionRecovered = "regionRecovered" // told to whoever is told of the other
)

// EventNames are the events that a webhook can be told, in the words of the configuration.
var EventNames = []string{
	string(failover.EventFailoverDetected), string(failover.EventFailoverPending), string(failover.EventFailoverCompleted),
	string(failover.EventFailoverCancelled), string(failover.EventFailoverStalled), EventRegionUnhealthy,
}

// GiveUpAfter is how long a delivery is tried.
const GiveUpAfter = 24 * time.Hour

// The rhythm of delivering.
const (
	holdFor      = 30 * time.Second // of a webhook; a replica that dies is replaced after it
	holdAgain    = 5 * time.Second  // how often a replica that does not serve a webhook asks for it
	look         = time.Second      // at the log without a doorbell
	attemptTime  = 10 * time.Second // of one request, from the look-up of the name to the status
	takenFor     = 3 * attemptTime  // until an attempt of a process that died is made again
	batch        = 200              // events of one delivery at most
	backoff      = time.Second      // after the first failure of a delivery; twice as long after each other one
	longest      = 5 * time.Minute  // between attempts of a delivery
	rest         = 30 * time.Second // at most, between attempts at a receiver that answers nothing
	failureAgain = 5 * time.Second  // after an error of the database
)

// Store is what webhooks need of the database; *store.Store has it.
type Store interface {
	LogState(ctx context.Context) (store.LogState, error)
	EventsAfter(ctx context.Context, seq int64, limit int) ([]store.LogEvent, error)
	Health(ctx context.Context) ([]store.RegionHealth, error)
	HoldWebhook(ctx context.Context, name, holder string, ttl time.Duration) (store.WebhookHold, bool, error)
	ReleaseWebhook(ctx context.Context, name, holder string) error
	AppendDeliveries(ctx context.Context, name, holder string, from, to int64, health map[string]string, deliveries []store.Delivery,
		giveUpAfter time.Duration) (bool, error)
	TakeDelivery(ctx context.Context, webhook string, takenFor time.Duration) (*store.Delivery, error)
	DeliveryDone(ctx context.Context, d *store.Delivery) error
	DeliveryFailed(ctx context.Context, d *store.Delivery, reason string, again time.Duration, dead bool) error
}

// Hook is a webhook as it is configured.
type Hook struct {
	Name   string
	URL    string
	Secret []byte   // of the signatures
	Events []string // of EventNames
	Groups []string // failover groups; empty: all
}

// Options make a [Dispatcher]. All are needed.
type Options struct {
	Store   Store
	Hooks   []Hook
	Holder  string                 // names this replica; different for each
	Changed func() <-chan struct{} // closed when the log has grown
	Metrics *Metrics
	Log     *slog.Logger
}

// Dispatcher serves the webhooks that no other replica serves.
type Dispatcher struct{ o Options }

// New makes a Dispatcher.
func New(o Options) *Dispatcher { return &Dispatcher{o} }

// Run serves until ctx ends, and returns when all goroutines are gone and other replicas may take over.
func (d *Dispatcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, h := range d.o.Hooks {
		w := &worker{Dispatcher: d, hook: h, client: newClient(), log: d.o.Log.With("webhook", h.Name)}
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
}

// worker serves one webhook.
type worker struct {
	*Dispatcher
	hook     Hook
	client   *http.Client
	log      *slog.Logger
	failures int       // in a row, of whatever delivery
	resting  time.Time // no attempt before this
	failing  bool      // the database; logged once
}

func (w *worker) run(ctx context.Context) {
	defer w.client.CloseIdleConnections()
	defer w.release(ctx)
	for _, outcome := range []string{"delivered", "failed", "dead"} {
		w.o.Metrics.deliveries.WithLabelValues(w.hook.Name, outcome) // there before the first, or no increase is seen by it
	}
	for ctx.Err() == nil {
		changed := w.o.Changed() // before the look, so that nothing falls in between
		wait, err := w.turn(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !w.failing {
				w.log.Warn("the webhook is not served, trying again", "error", err)
			}
			w.failing, wait, changed = true, failureAgain, nil
		default:
			w.failing = false
		}
		if wait <= 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (w *worker) release(ctx context.Context) {
	w.o.Metrics.dropped(w.hook.Name)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := w.o.Store.ReleaseWebhook(ctx, w.hook.Name, w.o.Holder); err != nil {
		w.log.Warn("the webhook is not given back and has to wait for the end of the hold", "error", err)
	}
}

// turn takes what is new in the log and makes one attempt, and says how long there is nothing to do.
func (w *worker) turn(ctx context.Context) (time.Duration, error) {
	hold, ok, err := w.o.Store.HoldWebhook(ctx, w.hook.Name, w.o.Holder, holdFor)
	if err != nil {
		return 0, err
	}
	if !ok {
		w.o.Metrics.dropped(w.hook.Name)
		return holdAgain, nil
	}
	more, err := w.fill(ctx, hold)
	if err != nil {
		return 0, err
	}
	attempted := false
	if !time.Now().Before(w.resting) {
		if attempted, err = w.attempt(ctx); err != nil {
			return 0, err
		}
	}
	if more || attempted {
		return 0, nil
	}
	return look, nil
}

// fill makes deliveries of the events that are new, at most of a batch, and says whether there may be more.
func (w *worker) fill(ctx context.Context, hold store.WebhookHold) (more bool, err error) {
	state, err := w.o.Store.LogState(ctx)
	if err != nil {
		return false, err
	}
	from, to := hold.Cursor, hold.Cursor
	var told []event
	if from > state.Head.Seq { // the database lost its last commits
		w.log.Error("the event log ends before the webhook's cursor; it goes on at its end", "cursor", from, "head", state.Head.Seq)
		to = state.Head.Seq
	}
	if from < state.OldestSeq-1 { // nobody served it for as long as events are kept
		w.log.Error("events were dropped before the webhook was told of them", "from", from+1, "to", state.OldestSeq-1)
		to = state.OldestSeq - 1
	}
	if to == from && from < state.Head.Seq {
		events, err := w.o.Store.EventsAfter(ctx, from, batch)
		if err != nil {
			return false, err
		}
		for i := range events {
			to = events[i].Seq
			if w.wants(string(events[i].Type), events[i].Group) {
				told = append(told, logged(state.LogID, &events[i]))
			}
		}
	}
	regions, health, err := w.regions(ctx, hold.Health)
	if err != nil {
		return false, err
	}
	if to == from && len(regions) == 0 {
		return false, nil
	}
	var deliveries []store.Delivery
	if told = append(told, regions...); len(told) > 0 {
		deliveries = []store.Delivery{w.delivery(told)}
	}
	ok, err := w.o.Store.AppendDeliveries(ctx, w.hook.Name, w.o.Holder, from, to, health, deliveries, GiveUpAfter)
	return ok && to < state.Head.Seq, err
}

func (w *worker) wants(event, group string) bool {
	return slices.Contains(w.hook.Events, event) && (len(w.hook.Groups) == 0 || slices.Contains(w.hook.Groups, group))
}

// event is one as receivers get it.
type event struct {
	ID            string          `json:"id"` // of the log: the cursor, as on streams
	Event         string          `json:"event"`
	FailoverGroup string          `json:"failoverGroup"`
	Data          json.RawMessage `json:"data"`
}

func logged(logID string, e *store.LogEvent) event {
	return event{
		ID: stream.Cursor{LogID: logID, Epoch: e.Epoch, Seq: e.Seq}.String(), Event: string(e.Type), FailoverGroup: e.Group, Data: e.Data,
	}
}

// regionData is the data of the events of Regions.
type regionData struct {
	Region    string `json:"region"`
	State     string `json:"state"`
	Time      string `json:"time"`
	LastError string `json:"lastError,omitempty"`
}

// stateDown is a Region that answers nothing, as the leader saves it.
const stateDown = "down"

// regions tells which Regions went down or came back since they were last told of, and what has been told then.
func (w *worker) regions(ctx context.Context, told map[string]string) (events []event, health map[string]string, err error) {
	health = make(map[string]string, len(told))
	for k, v := range told {
		health[k] = v
	}
	list, err := w.o.Store.Health(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, h := range list {
		key := h.Group + "/" + h.Region
		down, was := h.State == stateDown, health[key] == stateDown
		if down == was || !w.wants(EventRegionUnhealthy, h.Group) {
			continue
		}
		e := event{ID: fmt.Sprintf("%s-%d-%s", key, h.Since.UnixMilli(), h.State), Event: EventRegionUnhealthy, FailoverGroup: h.Group}
		data := regionData{Region: h.Region, State: h.State, Time: failover.FormatTime(h.Since), LastError: h.LastError}
		if down {
			health[key] = stateDown
		} else {
			e.Event, data.LastError = EventRegionRecovered, ""
			delete(health, key)
		}
		if e.Data, err = json.Marshal(data); err != nil {
			return nil, nil, err
		}
		events = append(events, e)
	}
	return events, health, nil
}

func (w *worker) delivery(events []event) store.Delivery {
	id := uuid.Must(uuid.NewV7()).String()
	body, err := json.Marshal(struct {
		DeliveryID string    `json:"deliveryId"`
		Webhook    string    `json:"webhook"`
		CreatedAt  time.Time `json:"createdAt"`
		Events     []event   `json:"events"`
	}{id, w.hook.Name, time.Now().UTC().Truncate(time.Millisecond), events})
	if err != nil { // data of the log is JSON
		panic(err)
	}
	return store.Delivery{ID: id, Events: len(events), Body: body}
}

// attempt tries the next delivery that is due, if there is one.
func (w *worker) attempt(ctx context.Context) (bool, error) {
	d, err := w.o.Store.TakeDelivery(ctx, w.hook.Name, takenFor)
	if err != nil || d == nil {
		return false, err
	}
	if err = w.send(ctx, d); ctx.Err() != nil {
		return false, nil // it was this process that ended; the next one tries again
	}
	if err == nil {
		w.failures, w.resting = 0, time.Time{}
		w.o.Metrics.deliveries.WithLabelValues(w.hook.Name, "delivered").Inc()
		w.o.Metrics.succeeded(w.hook.Name)
		return true, w.o.Store.DeliveryDone(ctx, d)
	}
	w.failures++
	w.resting = time.Now().Add(jitter(min(backoff<<min(w.failures-1, 10), rest)))
	outcome := "failed"
	if d.LastChance {
		outcome = "dead"
	}
	w.o.Metrics.deliveries.WithLabelValues(w.hook.Name, outcome).Inc()
	w.log.Warn("webhook not delivered", "delivery_id", d.ID, "attempt", d.Attempts, "given_up", d.LastChance, "error", err)
	again := jitter(min(backoff<<min(d.Attempts-1, 20), longest))
	return true, w.o.Store.DeliveryFailed(ctx, d, err.Error(), again, d.LastChance)
}

// send makes one attempt. Its error says what went wrong without the address, which may hold a token.
func (w *worker) send(ctx context.Context, d *store.Delivery) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.hook.URL, bytes.NewReader(d.Body))
	if err != nil {
		return errors.New("the address is none")
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Changeover")
	r.Header.Set("Webhook-Id", d.ID)
	r.Header.Set("Webhook-Timestamp", now)
	r.Header.Set("Webhook-Signature", Sign(w.hook.Secret, d.ID, now, d.Body))
	resp, err := w.client.Do(r)
	if err != nil {
		if failed := (*url.Error)(nil); errors.As(err, &failed) {
			err = failed.Err
		}
		return plain(err)
	}
	resp.Body.Close() // it is not read: nothing in it is wanted, and it may have no end
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the receiver answered %d", resp.StatusCode)
	}
	return nil
}

// longestError is how much is kept of what went wrong, in bytes.
const longestError = 256

// plain keeps what a receiver wrote out of an error: it may hold the address, and what a terminal acts on. Who did not get a connection, or lost it, is
// told why; what is no answer as HTTP has it is not repeated.
func plain(err error) error {
	var network net.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &network), errors.As(err, &certificate), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, http.ErrSchemeMismatch):
	default:
		return errors.New("the receiver's answer is not one of HTTP")
	}
	text := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, err.Error())
	if len(text) > longestError {
		text = strings.ToValidUTF8(text[:longestError], "") + "…"
	}
	return errors.New(text)
}

// Sign makes the signature of a delivery: HMAC-SHA256 over its id, the time in Unix seconds and the body, as standardwebhooks.com has
// it.
func Sign(secret []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// ParseSecret takes a secret as people write it: whsec_ and base64, as the standard has it, or any text.
func ParseSecret(secret string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(secret, "whsec_")
	if !ok {
		return []byte(secret), nil
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("begins with whsec_ and is not base64 after it")
	}
	return b, nil
}

// newClient makes a client for one receiver, so that no other waits for its connections.
func newClient() *http.Client {
	dialer := &net.Dialer{Timeout: attemptTime, ControlContext: allowed}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: attemptTime, MaxResponseHeaderBytes: 16 << 10,
		},
		// A receiver that sends its callers elsewhere is not the one that was configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// errForbidden is the error of an address that no receiver has.
var errForbidden = errors.New("the receiver's name leads to a link-local, multicast or unspecified address, which is not called")

// allowed looks at the address that a name has led to, when it has: the metadata service of a cloud machine gives credentials to
// whoever can make it be called.
func allowed(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := at.Addr().Unmap()
	if ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || ip == netip.MustParseAddr("fd00:ec2::254") {
		return errForbidden
	}
	return nil
}

func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// Metrics are those of webhooks.
type Metrics struct {
	deliveries *prometheus.CounterVec
	success    *prometheus.GaugeVec
}

// NewMetrics registers the metrics of webhooks.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "changeover_webhook_attempts_total",
			Help: "Attempts of this replica at deliveries, by outcome: delivered, failed (tried again), dead (given up).",
		}, []string{"webhook", "outcome"}),
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "changeover_webhook_last_success_timestamp_seconds",
			Help: "When a receiver last accepted a delivery of the replica that serves the webhook.",
		}, []string{"webhook"}),
	}
	reg.MustRegister(m.deliveries, m.success)
	return m
}

func (m *Metrics) succeeded(hook string) { m.success.WithLabelValues(hook).SetToCurrentTime() }

// dropped: another replica serves it.
func (m *Metrics) dropped(hook string) { m.success.DeleteLabelValues(hook) }
