package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"changeover/internal/failover"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
	"changeover/internal/webhook"
)

func TestMain(m *testing.M) {
	logtest.Secret(secret)
	postgrestest.Main(m)
}

const (
	secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	soon   = 20 * time.Second
	tick   = 10 * time.Millisecond
)

// bench is a database with an event log, and whoever looks at it from outside.
type bench struct {
	t     *testing.T
	store *store.Store
	conn  *pgx.Conn
	epoch int64
	seq   int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	url := postgrestest.NewDatabase(t)
	s, err := store.Open(t.Context(), store.Options{URL: url})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	lease, ok, err := s.AcquireLease(t.Context(), "test", time.Hour)
	require.NoError(t, err)
	require.True(t, ok)
	return &bench{t: t, store: s, conn: conn, epoch: lease.Epoch}
}

// events commits events of these types and returns the agents that they are about, one each.
func (b *bench) events(group string, types ...failover.EventType) (agents []string) {
	b.t.Helper()
	var e failover.Effects
	for _, typ := range types {
		b.seq++
		id := fmt.Sprintf("agent-%05d", b.seq)
		agents = append(agents, id)
		e.Events = append(e.Events, &failover.Event{Type: typ, AgentID: id, Group: group, FailoverID: uuid.NewString(), Time: time.Now(), NextRegion: "us-west-2"})
	}
	_, err := b.store.Commit(context.Background(), b.epoch, e)
	require.NoError(b.t, err)
	return agents
}

func (b *bench) sql(query string, args ...any) {
	b.t.Helper()
	_, err := b.conn.Exec(b.t.Context(), query, args...)
	require.NoError(b.t, err)
}

// dispatch runs a dispatcher until the returned function is called.
func (b *bench) dispatch(holder string, hooks ...webhook.Hook) (stop func()) {
	b.t.Helper()
	for i := range hooks {
		h := &hooks[i]
		if h.Secret == nil {
			var err error
			h.Secret, err = webhook.ParseSecret(secret)
			require.NoError(b.t, err)
		}
		if h.Events == nil {
			h.Events = webhook.EventNames
		}
	}
	d := webhook.New(webhook.Options{
		Store: b.store, Hooks: hooks, Holder: holder, Changed: func() <-chan struct{} { return nil },
		Metrics: webhook.NewMetrics(prometheus.NewRegistry()), Log: logtest.New(nil),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	b.t.Cleanup(stop)
	return stop
}

// begins waits until a webhook is served, so that what comes now is told.
func (b *bench) begins(names ...string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		hooks, err := b.store.Webhooks(b.t.Context())
		return err == nil && len(hooks) >= len(names)
	}, soon, tick)
}

// receiver is a real HTTP server that answers as it is told.
type receiver struct {
	t   *testing.T
	url string
	mu  sync.Mutex
	got []received
}

type received struct {
	id     string
	events []told
}

type told struct {
	ID            string
	Event         string
	FailoverGroup string
	Data          struct {
		AgentID   string
		Region    string
		LastError string
	}
}

// newReceiver makes one. answer says what is done with the nth request (from 1); what it accepts by a status below 300 counts.
func newReceiver(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	t.Helper()
	v := &receiver{t: t}
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		v.mu.Lock()
		n++
		nth := n
		v.mu.Unlock()
		check, err := standard.NewWebhook(secret)
		if err == nil {
			err = check.Verify(body, r.Header)
		}
		if err != nil {
			t.Errorf("the signature of %s: %v", r.Header.Get("Webhook-Id"), err)
		}
		var d struct {
			DeliveryID, Webhook string
			Events              []told
		}
		if err := json.Unmarshal(body, &d); err != nil || d.DeliveryID != r.Header.Get("Webhook-Id") {
			t.Errorf("the body of %s: %v: %s", r.Header.Get("Webhook-Id"), err, body)
		}
		seen := &statusWriter{ResponseWriter: w, status: 200}
		if answer != nil {
			answer(nth, seen, r)
		}
		if seen.status < 300 {
			v.mu.Lock()
			v.got = append(v.got, received{d.DeliveryID, d.Events})
			v.mu.Unlock()
		}
	}))
	v.url = server.URL
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return v
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// agents are those whom what was accepted is about, in the order of coming.
func (v *receiver) agents() (agents []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.got {
		for _, e := range r.events {
			agents = append(agents, e.Data.AgentID)
		}
	}
	return agents
}

// gets waits until exactly these agents' events have come, each once, in any order.
func (v *receiver) gets(want []string) {
	v.t.Helper()
	slices.Sort(want)
	require.Eventually(v.t, func() bool {
		have := v.agents()
		slices.Sort(have)
		return slices.Equal(have, want)
	}, soon, tick, "want %v", want)
}

func TestDelivers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.events("main", failover.EventFailoverDetected) // from before the webhook was configured
	all, some := newReceiver(t, nil), newReceiver(t, nil)
	b.dispatch("one",
		webhook.Hook{Name: "all", URL: all.url},
		webhook.Hook{Name: "some", URL: some.url, Events: []string{"failoverCompleted"}, Groups: []string{"main"}},
	)
	b.begins("all", "some")
	first := b.events("main", failover.EventFailoverDetected, failover.EventFailoverCompleted, failover.EventConfigureError, failover.EventFailoverStalled)
	other := b.events("spare", failover.EventFailoverCompleted, failover.EventFailoverCancelled)
	all.gets([]string{first[0], first[1], first[3], other[0], other[1]})
	some.gets([]string{first[1]})
	require.Equal(t, []string{first[0], first[1], first[3], other[0], other[1]}, all.agents(), "in the order of the log, while all goes well")
	state, err := b.store.LogState(t.Context())
	require.NoError(t, err)
	last := all.got[len(all.got)-1].events
	require.Equal(t, fmt.Sprintf("%s-%d-%d", state.LogID, b.epoch, state.Head.Seq), last[len(last)-1].ID, "the ids are those of the streams")
	require.Equal(t, "spare", last[len(last)-1].FailoverGroup)

	var hooks []store.Webhook
	require.Eventually(t, func() bool { // what was accepted is noted after it
		hooks, err = b.store.Webhooks(t.Context())
		return err == nil && hooks[0].Pending == 0
	}, soon, tick, "%v", err)
	require.Zero(t, hooks[0].Dead)
	require.False(t, hooks[0].LastSuccessAt.IsZero())
}

// A shift of a floor is a few requests, not one for each agent.
func TestBatches(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	v := newReceiver(t, nil)
	b.dispatch("one", webhook.Hook{Name: "hook", URL: v.url})
	b.begins("hook")
	types := make([]failover.EventType, 1000)
	for i := range types {
		types[i] = failover.EventFailoverDetected
	}
	v.gets(b.events("main", types...))
	require.LessOrEqual(t, len(v.got), 6)
}

// A receiver that fails, in all the ways that there are: each delivery comes in the end, with the id that it had at first.
func TestReceiverThatFails(t *testing.T) {
	t.Parallel()
	elsewhere := newReceiver(t, nil)
	for name, wrong := range map[string]func(w http.ResponseWriter, r *http.Request){
		"500": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"410": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) },
		// Attack: to send its caller to a service that only the caller can reach.
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.url, http.StatusTemporaryRedirect)
		},
		"closes": func(w http.ResponseWriter, _ *http.Request) {
			w.(*statusWriter).status = 500
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		},
		"speaks no HTTP": func(w http.ResponseWriter, _ *http.Request) {
			w.(*statusWriter).status = 500
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				fmt.Fprint(conn, "220 mail.example ESMTP\r\n")
				conn.Close()
			}
		},
		// Attack: to have its words, the secret of its own address among them, written to logs and terminals.
		"malformed headers": func(w http.ResponseWriter, r *http.Request) {
			w.(*statusWriter).status = 500
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n\x1b[2Jhttp://%s/token %s\r\n\r\n", r.Host, strings.Repeat("long ", 1000))
				conn.Close()
			}
		},
		"huge headers": func(w http.ResponseWriter, _ *http.Request) {
			w.(*statusWriter).status = 500
			for i := range 100 {
				w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat("x", 1000))
			}
			w.(*statusWriter).ResponseWriter.WriteHeader(http.StatusOK) // it does not count
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			var mu sync.Mutex
			ids := map[string]int{}
			v := newReceiver(t, func(n int, w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				ids[r.Header.Get("Webhook-Id")]++
				mu.Unlock()
				if n <= 2 {
					wrong(w, r)
				}
			})
			b.dispatch("one", webhook.Hook{Name: "hook", URL: v.url})
			b.begins("hook")
			v.gets(b.events("main", failover.EventFailoverDetected))
			mu.Lock()
			require.Len(t, ids, 1, "one id for all attempts")
			for _, n := range ids {
				require.Equal(t, 3, n)
			}
			mu.Unlock()
			hooks, err := b.store.Webhooks(t.Context())
			require.NoError(t, err)
			require.NotEmpty(t, hooks[0].LastError)
			require.Less(t, len(hooks[0].LastError), 300)
			require.NotContains(t, hooks[0].LastError, "\x1b")
			require.NotContains(t, hooks[0].LastError, "/token")
			require.NotContains(t, hooks[0].LastError, "127.0.0.1:"+portOf(t, elsewhere.url), "it was not called")
		})
	}
	t.Cleanup(func() { require.Empty(t, elsewhere.agents(), "redirects are not followed") })
}

func portOf(t *testing.T, url string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(url[len("http://"):])
	require.NoError(t, err)
	return port
}

// A receiver that says yes and then never stops talking got its delivery.
func TestReceiverWithAnEndlessAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	v := newReceiver(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	b.dispatch("one", webhook.Hook{Name: "hook", URL: v.url})
	b.begins("hook")
	want := b.events("main", failover.EventFailoverDetected)
	v.gets(want)
	want = append(want, b.events("main", failover.EventFailoverCompleted)...)
	v.gets(want)
}

// A receiver that hangs, and one whose name leads nowhere, hold up nobody but themselves, and lose nothing: what they did not take is
// there for when they do.
func TestReceiverThatHangsBlocksNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	release := make(chan struct{})
	hanging := newReceiver(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
			w.(*statusWriter).status = 500
		}
	})
	good := newReceiver(t, nil)
	b.dispatch("one",
		webhook.Hook{Name: "hangs", URL: hanging.url},
		webhook.Hook{Name: "nowhere", URL: "http://changeover.invalid/"},
		webhook.Hook{Name: "works", URL: good.url},
	)
	b.begins("hangs", "nowhere", "works")
	var want []string
	for range 5 {
		want = append(want, b.events("main", failover.EventFailoverDetected)...)
		began := time.Now()
		good.gets(slices.Clone(want))
		require.Less(t, time.Since(began), 8*time.Second, "it waits for nobody's time limit")
	}
	require.Empty(t, hanging.agents())
	close(release)
	hanging.gets(want)
}

// Two replicas: one serves the webhook at a time, and each event is told once. When it stops, the other goes on where it was.
func TestReplicas(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	v := newReceiver(t, nil)
	stop := b.dispatch("one", webhook.Hook{Name: "hook", URL: v.url})
	b.begins("hook")
	b.dispatch("two", webhook.Hook{Name: "hook", URL: v.url})
	var want []string
	for range 10 {
		want = append(want, b.events("main", failover.EventFailoverDetected, failover.EventFailoverCompleted)...)
	}
	v.gets(slices.Clone(want))
	stop()
	want = append(want, b.events("main", failover.EventFailoverStalled)...)
	v.gets(want)
}

// kill -9 between any two steps: a delivery that was taken and never noted is made again, with its id, and no event is lost or in two deliveries.
func TestKilled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	v := newReceiver(t, nil)
	_, ok, err := b.store.HoldWebhook(t.Context(), "hook", "dead", time.Hour)
	require.NoError(t, err)
	require.True(t, ok)
	hold, _, err := b.store.HoldWebhook(t.Context(), "hook", "dead", time.Hour)
	require.NoError(t, err)
	want := b.events("main", failover.EventFailoverDetected)

	// The dead one had filled, and begun an attempt.
	id := uuid.Must(uuid.NewV7()).String()
	body := fmt.Sprintf(`{"deliveryId":"%s","events":[{"data":{"agentId":"%s"}}]}`, id, want[0])
	for range 2 { // the second time the cursor is elsewhere
		ok, err = b.store.AppendDeliveries(t.Context(), "hook", "dead", hold.Cursor, hold.Cursor+1, nil, []store.Delivery{{ID: id, Events: 1, Body: []byte(body)}}, time.Hour)
		require.NoError(t, err)
		id, body = uuid.NewString(), "{}"
	}
	require.False(t, ok, "nothing is delivered twice because a step was repeated")
	taken, err := b.store.TakeDelivery(t.Context(), "hook", time.Hour)
	require.NoError(t, err)
	require.NotNil(t, taken)
	again, err := b.store.TakeDelivery(t.Context(), "hook", time.Hour)
	require.NoError(t, err)
	require.Nil(t, again, "an attempt is made by one")
	want = append(want, b.events("main", failover.EventFailoverCompleted)...)

	b.sql("UPDATE webhooks SET held_until = clock_timestamp(); UPDATE webhook_deliveries SET next_at = clock_timestamp()")
	b.dispatch("alive", webhook.Hook{Name: "hook", URL: v.url})
	v.gets(want)
	v.mu.Lock()
	require.Equal(t, taken.ID, v.got[0].id)
	v.mu.Unlock()
	ok, err = b.store.AppendDeliveries(t.Context(), "hook", "dead", hold.Cursor+1, hold.Cursor+2, nil, nil, time.Hour)
	require.NoError(t, err)
	require.False(t, ok, "whoever was taken for dead changes nothing any more")
}

// After a day a delivery is dead. It can be replayed, and keeps its id.
func TestDeadLettersCanBeReplayed(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	accept := make(chan struct{})
	v := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		select {
		case <-accept:
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	b.dispatch("one", webhook.Hook{Name: "hook", URL: v.url})
	b.begins("hook")
	want := b.events("main", failover.EventFailoverDetected)
	list := func(status string) []store.Delivery {
		deliveries, _, err := b.store.Deliveries(t.Context(), "hook", status, store.Page{})
		require.NoError(t, err)
		return deliveries
	}
	require.Eventually(t, func() bool { return len(list(store.DeliveryPending)) == 1 }, soon, tick)
	id := list("")[0].ID
	replay := func(id string) error {
		_, err := b.store.ReplayDelivery(t.Context(), "hook", id, time.Hour, store.AuditEntry{Subject: "olga", Action: "replay"})
		return err
	}
	require.ErrorIs(t, replay(id), store.ErrDeliveryPending)
	require.ErrorIs(t, replay(uuid.NewString()), store.ErrNotFound)
	b.sql("UPDATE webhook_deliveries SET give_up_at = clock_timestamp(), next_at = clock_timestamp()")
	require.Eventually(t, func() bool { return len(list(store.DeliveryDead)) == 1 }, soon, tick)
	require.Equal(t, "the receiver answered 503", list("")[0].LastError)
	close(accept)
	require.NoError(t, replay(id))
	v.gets(want)
	require.Eventually(t, func() bool { return len(list(store.DeliveryDelivered)) == 1 }, soon, tick)
	require.Equal(t, id, list("")[0].ID)
	entries, _, err := b.store.Audit(t.Context(), store.AuditFilter{}, store.Page{})
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestRegions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	v, deaf := newReceiver(t, nil), newReceiver(t, nil)
	b.dispatch("one", webhook.Hook{Name: "hook", URL: v.url}, webhook.Hook{Name: "deaf", URL: deaf.url, Events: []string{"failoverDetected"}})
	b.begins("hook", "deaf")
	health := func(state, lastError string) {
		require.NoError(t, b.store.SaveHealth(context.Background(), b.epoch, []store.RegionHealth{
			{Group: "main", Region: "us-east-1", State: state, Since: time.Now(), LastError: lastError}, {Group: "main", Region: "us-west-2", State: "healthy"},
		}))
	}
	events := func() (names []string) {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, r := range v.got {
			for _, e := range r.events {
				names = append(names, e.Event+" "+e.FailoverGroup+" "+e.Data.Region+" "+e.Data.LastError)
			}
		}
		return names
	}
	health("degraded", "throttled")
	health("down", "timed out")
	down := []string{"regionUnhealthy main us-east-1 timed out"}
	require.Eventually(t, func() bool { return slices.Equal(events(), down) }, soon, tick)
	health("down", "refused") // still
	health("healthy", "refused")
	require.Eventually(t, func() bool { return slices.Equal(events(), append(down, "regionRecovered main us-east-1 ")) }, soon, tick)
	require.Empty(t, deaf.agents())
}

// Attack: a name that leads to the metadata service of the machine, which gives its credentials to whoever asks.
func TestLinkLocalAddressesAreNotCalled(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"http://169.254.169.254/latest/", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/", "http://0.0.0.0:1/"} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.dispatch("one", webhook.Hook{Name: "hook", URL: url})
			b.begins("hook")
			b.events("main", failover.EventFailoverDetected)
			require.Eventually(t, func() bool {
				hooks, err := b.store.Webhooks(t.Context())
				return err == nil && hooks[0].LastError != ""
			}, soon, tick)
			hooks, err := b.store.Webhooks(t.Context())
			require.NoError(t, err)
			require.Contains(t, hooks[0].LastError, "is not called")
		})
	}
}

// A webhook that nobody served for longer than events are kept goes on with what there is; one whose database lost its last commits, too.
func TestLogThatDoesNotFitTheCursor(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	v := newReceiver(t, nil)
	stop := b.dispatch("one", webhook.Hook{Name: "hook", URL: v.url})
	b.begins("hook")
	stop()
	b.events("main", failover.EventFailoverDetected, failover.EventFailoverDetected)
	b.sql("DELETE FROM events; UPDATE event_log SET oldest_seq = 3")
	b.dispatch("two", webhook.Hook{Name: "hook", URL: v.url})
	want := b.events("main", failover.EventFailoverDetected)
	v.gets(slices.Clone(want))

	b.sql("UPDATE webhooks SET cursor_seq = 1000")
	require.Eventually(t, func() bool {
		hooks, err := b.store.Webhooks(t.Context())
		return err == nil && hooks[0].Behind == 0 && hooks[0].Pending == 0 && b.cursor() < 1000
	}, soon, tick)
	v.gets(append(want, b.events("main", failover.EventFailoverDetected)...))
}

func (b *bench) cursor() (seq int64) {
	b.t.Helper()
	require.NoError(b.t, b.conn.QueryRow(b.t.Context(), "SELECT cursor_seq FROM webhooks").Scan(&seq))
	return seq
}

func TestParseSecret(t *testing.T) {
	t.Parallel()
	plain, err := webhook.ParseSecret("a secret of any kind")
	require.NoError(t, err)
	require.Equal(t, "a secret of any kind", string(plain))
	_, err = webhook.ParseSecret("whsec_???")
	require.ErrorContains(t, err, "base64")
}

// The example of the standard's specification.
func TestSign(t *testing.T) {
	t.Parallel()
	key, err := webhook.ParseSecret(secret)
	require.NoError(t, err)
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", webhook.Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)))
}

func TestNothingIsLeftBehind(t *testing.T) {
	b := newBench(t)
	before := goleak.IgnoreCurrent()
	stop := b.dispatch("one", webhook.Hook{Name: "hook", URL: "http://127.0.0.1:1/"})
	b.begins("hook")
	b.events("main", failover.EventFailoverDetected)
	stop()
	goleak.VerifyNone(t, before)
}
