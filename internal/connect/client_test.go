package connect

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"changeover/internal/logtest"
)

const distribution = `{"AgentConfig":{"Distributions":[{"Region":"us-east-1","Percentage":100},{"Region":"us-west-2","Percentage":0}]}}`

// switchedTransport answers as its present mode says and counts the requests.
type switchedTransport struct {
	mu    sync.Mutex
	next  http.RoundTripper
	count int
}

func (s *switchedTransport) set(next http.RoundTripper) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = next
}

func (s *switchedTransport) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *switchedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.count++
	next := s.next
	s.mu.Unlock()
	return next.RoundTrip(req)
}

// answering gives one answer to everything.
func answering(status int, errorType, body string) roundTripper {
	return func(req *http.Request) (*http.Response, error) {
		return answer(req, write(status, errorType, body)), nil
	}
}

var (
	healthyTransport  = answering(200, "", distribution)
	refusingTransport = roundTripper(func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	})
	hangingTransport = roundTripper(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	})
)

// newSwitched returns a Client over a transport that can be changed; change is applied to its options.
func newSwitched(t *testing.T, next http.RoundTripper, change func(*Options)) (*Client, *switchedTransport) {
	transport := &switchedTransport{next: next}
	return newClient(t, func(o *Options) {
		o.Transport = transport
		if change != nil {
			change(o)
		}
	}), transport
}

func TestBreakerOpensAfterThreeFailuresAndRecoversQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, transport := newSwitched(t, refusingTransport, nil)
		for range downAfter {
			require.NotErrorIs(t, get(t, c), ErrCircuitOpen)
		}
		require.Equal(t, StateDown, c.HealthOf(OpGetTrafficDistribution).State)
		failedAt := c.HealthOf(OpGetTrafficDistribution).LastErrorAt
		for range 100 {
			time.Sleep(time.Millisecond)
			err := get(t, c)
			require.ErrorIs(t, err, ErrCircuitOpen)
			require.Equal(t, Unavailable, KindOf(err))
		}
		require.Equal(t, downAfter, transport.requests(), "nothing is sent while the breaker is open")
		require.Equal(t, failedAt, c.HealthOf(OpGetTrafficDistribution).LastErrorAt, "a rejection is no new evidence")

		_, err := c.ListUsers(t.Context(), testInstance, "")
		require.NotErrorIs(t, err, ErrCircuitOpen, "operations do not share a breaker")

		transport.set(healthyTransport)
		start := time.Now()
		for get(t, c) != nil {
			time.Sleep(10 * time.Millisecond)
		}
		require.Less(t, time.Since(start), 5*time.Second)
		require.NoError(t, get(t, c))
		require.Equal(t, StateHealthy, c.HealthOf(OpGetTrafficDistribution).State)
	})
}

// Requests that are not sent do not use up the rate: it is there when the Region is back.
func TestBreakerRejectsWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newSwitched(t, refusingTransport, func(o *Options) { o.RequestsPerSecond, o.Burst = 0.1, downAfter })
		for range downAfter {
			require.NotErrorIs(t, get(t, c), ErrCircuitOpen)
		}
		start := time.Now()
		for range 20 {
			require.ErrorIs(t, get(t, c), ErrCircuitOpen)
		}
		require.Zero(t, time.Since(start))
	})
}

// With the longest outage and the worst timing, a request that is under way when the Region comes back, recovery is noticed
// within one request timeout and one breaker delay.
func TestBreakerDelaysRecoveryByLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, transport := newSwitched(t, hangingTransport, func(o *Options) { o.RequestTimeout = 4 * time.Second })
		recovered := make(chan time.Time)
		go func() {
			for get(t, c) != nil {
				time.Sleep(100 * time.Millisecond)
			}
			recovered <- time.Now()
		}()
		time.Sleep(time.Hour)
		transport.set(healthyTransport)
		back := time.Now()
		require.LessOrEqual(t, (<-recovered).Sub(back), 4*time.Second+breakerDelay+200*time.Millisecond)
	})
}

// Ten groups are read at the same tick after an outage. All are answered, not only the one whose request was the trial.
func TestBreakerHalfOpenLetsOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, transport := newSwitched(t, refusingTransport, nil)
		read := func() (failures []error) {
			var mu sync.Mutex
			var group sync.WaitGroup
			for range 10 {
				group.Go(func() {
					if _, err := c.GetTrafficDistribution(t.Context(), testTDG); err != nil {
						mu.Lock()
						defer mu.Unlock()
						failures = append(failures, err)
					}
				})
			}
			group.Wait()
			return failures
		}
		require.Len(t, read(), 10)
		time.Sleep(10 * time.Second)

		slow := make(chan struct{})
		transport.set(roundTripper(func(req *http.Request) (*http.Response, error) {
			<-slow
			return refusingTransport(req)
		}))
		before := transport.requests()
		go func() {
			time.Sleep(time.Second)
			close(slow)
		}()
		require.Len(t, read(), 10)
		require.Equal(t, before+1, transport.requests(), "one trial for all ten")

		time.Sleep(10 * time.Second)
		transport.set(healthyTransport)
		require.Empty(t, read())
	})
}

// The caller of the trial request gives up. The next one gets its turn instead of waiting for a result that never comes.
func TestBreakerTrialCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, transport := newSwitched(t, refusingTransport, nil)
		for range downAfter {
			_, err := c.GetTrafficDistribution(t.Context(), testTDG)
			require.Error(t, err)
		}
		time.Sleep(breakerDelay)
		transport.set(hangingTransport)
		ctx, cancel := context.WithCancel(t.Context())
		trial := make(chan error)
		go func() { _, err := c.GetTrafficDistribution(ctx, testTDG); trial <- err }()
		synctest.Wait()
		waiting := make(chan error)
		go func() { _, err := c.GetTrafficDistribution(t.Context(), testTDG); waiting <- err }()
		synctest.Wait()
		transport.set(healthyTransport)
		cancel()
		require.ErrorIs(t, <-trial, context.Canceled)
		require.NoError(t, <-waiting)
	})
}

// Whoever waits for the trial's result can give up, too.
func TestBreakerWaitCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, transport := newSwitched(t, refusingTransport, nil)
		for range downAfter {
			_, _ = c.GetTrafficDistribution(t.Context(), testTDG)
		}
		time.Sleep(breakerDelay)
		transport.set(hangingTransport)
		trial := make(chan error)
		go func() { _, err := c.GetTrafficDistribution(t.Context(), testTDG); trial <- err }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := c.GetTrafficDistribution(ctx, testTDG)
		require.ErrorIs(t, err, ErrCircuitOpen)
		require.Equal(t, Unavailable, KindOf(<-trial))
	})
}

// Everything but silence is an answer: however often it comes, it opens no breaker.
func TestBreakerIgnoresAnswers(t *testing.T) {
	for name, transport := range map[string]http.RoundTripper{
		"throttled": answering(429, "ThrottlingException", `{"Message":"Rate exceeded"}`),
		"untyped":   answering(429, "", `{}`),
		"denied":    answering(403, "AccessDeniedException", `{}`),
		"not found": answering(404, "ResourceNotFoundException", `{}`),
		"invalid":   answering(400, "InvalidRequestException", `{}`),
		"malformed": answering(200, "", `{"AgentConfig":`),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, counted := newSwitched(t, transport, nil)
				for range 50 {
					_, err := c.GetTrafficDistribution(t.Context(), testTDG)
					require.Error(t, err)
					require.NotErrorIs(t, err, ErrCircuitOpen)
				}
				require.Equal(t, 50, counted.requests())
			})
		})
	}
}

// Two failures, an answer, two failures: never three in a row.
func TestBreakerCountsConsecutiveFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, transport := newSwitched(t, nil, nil)
		for range 20 {
			for _, next := range []http.RoundTripper{refusingTransport, hangingTransport, answering(429, "", "")} {
				transport.set(next)
				_, err := c.GetTrafficDistribution(t.Context(), testTDG)
				require.NotErrorIs(t, err, ErrCircuitOpen)
			}
			require.NotEqual(t, StateDown, c.Health().State)
		}
	})
}

func TestRequestTimeoutIsPerRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newSwitched(t, hangingTransport, func(o *Options) { o.RequestTimeout = 4 * time.Second })
		start := time.Now()
		_, err := c.GetTrafficDistribution(t.Context(), testTDG)
		require.Equal(t, Unavailable, KindOf(err))
		require.ErrorContains(t, err, "no answer within 4s")
		require.Equal(t, 4*time.Second, time.Since(start))
	})
}

// StartedAt is what evidence is judged by: a read that waited for its turn began when it left, not when it was asked for.
func TestStartedAtIsAfterTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newSwitched(t, answering(200, "", `{"UserDataList":[]}`), func(o *Options) { o.RequestsPerSecond, o.Burst = 1, 1 })
		q := UserDataQuery{InstanceID: testInstance, AgentIDs: []string{"u"}}
		_, err := c.CurrentUserData(t.Context(), Sweep, q)
		require.NoError(t, err)
		asked := time.Now()
		page, err := c.CurrentUserData(t.Context(), Drain, q)
		require.NoError(t, err)
		require.InDelta(t, time.Second, page.StartedAt.Sub(asked), float64(tolerance))
	})
}

// The caller's deadline ends while the request waits for its turn: Amazon was not asked, so nothing is held against it.
func TestDeadlineWhileWaitingForTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, transport := newSwitched(t, healthyTransport, func(o *Options) { o.RequestsPerSecond, o.Burst = 0.01, 1 })
		_, err := c.GetTrafficDistribution(t.Context(), testTDG)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = c.GetTrafficDistribution(ctx, testTDG)
		require.Equal(t, Throttled, KindOf(err))
		require.Equal(t, StateHealthy, c.Health().State)
		require.Equal(t, 1, transport.requests())
	})
}

// A 429 slows down the operation that got it, and no other.
func TestThrottlingSlowsItsOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, transport := newSwitched(t, answering(429, "", ""), func(o *Options) { o.RequestsPerSecond, o.Burst = 1, 4 })
		_, err := c.GetTrafficDistribution(t.Context(), testTDG)
		require.Equal(t, Throttled, KindOf(err))
		transport.set(healthyTransport)
		start := time.Now()
		_, err = c.GetTrafficDistribution(t.Context(), testTDG)
		require.NoError(t, err)
		require.InDelta(t, 2*time.Second, time.Since(start), float64(200*time.Millisecond), "the burst is spent and the rate halved")
		start = time.Now()
		_, _ = c.ListUsers(t.Context(), testInstance, "")
		require.Zero(t, time.Since(start))
	})
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		c, transport := newSwitched(t, nil, func(o *Options) { o.Metrics = NewMetrics(registry) })
		for _, next := range []http.RoundTripper{
			healthyTransport, healthyTransport, answering(429, "", ""), answering(403, "AccessDeniedException", "{}"), answering(200, "", "{}"),
			answering(404, "ResourceNotFoundException", "{}"), answering(400, "InvalidRequestException", "{}"),
			refusingTransport, hangingTransport, refusingTransport, healthyTransport, // the last one meets an open breaker
		} {
			transport.set(next)
			_, _ = c.GetTrafficDistribution(t.Context(), testTDG)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		_, _ = c.ListUsers(cancelled, testInstance, "")

		want := strings.Builder{}
		want.WriteString("# HELP changeover_connect_requests_total Requests to Amazon Connect by result: " +
			"ok, throttled, unavailable, denied, not_found, invalid, malformed.\n# TYPE changeover_connect_requests_total counter\n")
		for code, n := range map[string]int{"ok": 2, "throttled": 1, "denied": 1, "malformed": 1, "not_found": 1, "invalid": 1, "unavailable": 3} {
			fmt.Fprintf(&want, "changeover_connect_requests_total{code=%q,operation=\"GetTrafficDistribution\",region=\"us-west-2\"} %d\n", code, n)
		}
		require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(want.String()), "changeover_connect_requests_total"))
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, family := range families {
			if family.GetName() == "changeover_connect_request_seconds" {
				h := family.GetMetric()[0].GetHistogram()
				require.EqualValues(t, 10, h.GetSampleCount())
				require.InDelta(t, 2, h.GetSampleSum(), 0.01, "the one that hung")
			}
		}
	})
}

// Two Clients of different Regions: one hangs in every request, the other does not notice.
func TestRegionsShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead, _ := newSwitched(t, hangingTransport, nil)
		alive, _ := newSwitched(t, healthyTransport, func(o *Options) { o.Region = "us-east-1" })
		for range 100 {
			go func() { _, _ = dead.GetTrafficDistribution(t.Context(), testTDG) }()
		}
		synctest.Wait()
		start := time.Now()
		for range 100 {
			_, err := alive.GetTrafficDistribution(t.Context(), testTDG)
			require.NoError(t, err)
		}
		require.Zero(t, time.Since(start))
		require.Equal(t, "us-east-1", alive.Region())
		require.Equal(t, StateHealthy, alive.Health().State)
	})
}

// The breaker tells the log when it opens and closes, and nothing for every request in between.
func TestOutageIsLoggedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c, transport := newSwitched(t, refusingTransport, func(o *Options) { o.Log = logtest.New(&log) })
		for range 600 {
			_, _ = c.GetTrafficDistribution(t.Context(), testTDG)
			time.Sleep(100 * time.Millisecond)
		}
		transport.set(healthyTransport)
		for range 100 {
			_, _ = c.GetTrafficDistribution(t.Context(), testTDG)
			time.Sleep(100 * time.Millisecond)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		require.Len(t, lines, 2, log.String())
		require.Contains(t, lines[0], "amazon connect does not answer")
		require.Contains(t, lines[1], "amazon connect answers again")
	})
}

func TestNewRefuses(t *testing.T) {
	good := Options{Region: "us-east-1", RequestsPerSecond: 1.2, Burst: 4, RequestTimeout: time.Second}
	for name, change := range map[string]func(*Options){
		"no Region":            func(o *Options) { o.Region = "" },
		"no rate":              func(o *Options) { o.RequestsPerSecond = 0 },
		"no burst":             func(o *Options) { o.Burst = 0 },
		"no timeout":           func(o *Options) { o.RequestTimeout = 0 },
		"endpoint of a name":   func(o *Options) { o.Endpoint = "connect.example" },
		"endpoint of a file":   func(o *Options) { o.Endpoint = "file:///etc/passwd" },
		"endpoint not a URL":   func(o *Options) { o.Endpoint = "http://[::1" },
		"endpoint with nobody": func(o *Options) { o.Endpoint = "https://" },
	} {
		o := good
		change(&o)
		c, err := New(t.Context(), o)
		require.Error(t, err, name)
		require.Nil(t, c, name)
	}
	c, err := New(t.Context(), good)
	require.NoError(t, err)
	c.Close()
}

// A proxy that inspects TLS needs its own certificate authority, which AWS_CA_BUNDLE names. An HTTP/2 connection is not
// made even where the server would have one.
func TestCustomCertificateAuthority(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("the request came by %s", r.Proto)
		}
		write(200, "", distribution)(w, r)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	endpoint := func(o *Options) { o.Endpoint = server.URL }

	err := get(t, newClient(t, endpoint))
	require.Equal(t, Unavailable, KindOf(err))
	require.ErrorContains(t, err, "certificate")

	bundle := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	t.Setenv("AWS_CA_BUNDLE", bundle)
	require.NoError(t, get(t, newClient(t, endpoint)))

	t.Setenv("AWS_CA_BUNDLE", bundle+".missing")
	_, err = New(t.Context(), Options{Region: "us-east-1", RequestsPerSecond: 1, Burst: 1, RequestTimeout: time.Second})
	require.ErrorContains(t, err, "ca.pem.missing")
}

func TestErrorUnwraps(t *testing.T) {
	cause := errors.New("cause")
	err := fmt.Errorf("roster: %w", &Error{Kind: Invalid, Region: "us-east-1", Operation: OpListUsers, Err: cause})
	require.ErrorIs(t, err, cause)
	require.Equal(t, Invalid, KindOf(err))
}
