package changeover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"changeover/clients/go/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const agent = "87654321-1111-2222-3333-444455556666"

// network answers requests inside of a testing/synctest bubble.
type network func(*http.Request) (*http.Response, error)

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return n(r)
}

func dial(t *testing.T, n network, o Options) *Client {
	t.Helper()
	if o.Endpoints == nil {
		o.Endpoints = []string{"https://a.example"}
	}
	o.HTTPClient = &http.Client{Transport: n}
	c, err := New(o)
	require.NoError(t, err)
	return c
}

func answer(status int, header map[string]string, body io.Reader) *http.Response {
	h := http.Header{}
	for k, v := range header {
		h.Set(k, v)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(body)}
}

// stream answers with what write writes; the connection stays open until write returns or the client goes.
func stream(r *http.Request, write func(w io.Writer) error) (*http.Response, error) {
	in, out := io.Pipe()
	stop := context.AfterFunc(r.Context(), func() { _ = in.CloseWithError(r.Context().Err()) })
	go func() {
		defer stop()
		_ = out.CloseWithError(write(out))
	}()
	return answer(200, map[string]string{"Content-Type": "text/event-stream"}, in), nil
}

func text(n int) string {
	return fmt.Sprintf("id: log-1-%d\nevent: failoverDetected\ndata: {\"agentId\":%q,\"time\":\"2026-11-22T10:00:00Z\",\"failoverId\":\"f%d\",\"nextActiveRegion\":\"us-west-2\"}\n\n", n, agent, n)
}

// position is the number in an id of text; 0: none.
func position(id string) int {
	n, _ := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
	return n
}

// silent holds a connection open.
func silent(r *http.Request) error { <-r.Context().Done(); return nil }

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var path, last string
		c := dial(t, func(r *http.Request) (*http.Response, error) {
			path, last = r.URL.String(), r.Header.Get("Last-Event-ID")
			return stream(r, func(w io.Writer) error {
				_, _ = io.WriteString(w, "retry: 4000\n\n: heartbeat\n\n"+
					"id: log-1-0\r\nevent: snapshot\r\ndata: {\"agentId\":\""+agent+"\",\"time\":\"2026-11-22T10:00:00Z\",\"state\":\"active\",\"activeRegion\":\"us-east-1\",\r\ndata: \"activeCcpUrl\":null,\"configureErrors\":[]}\r\n\r\n"+
					text(1)+"event: nobodyKnows\nid: log-1-2\n:comment\ndata:{\"agentId\":null,\"time\":\"2026-11-22T10:00:00Z\"}\nnonsense\n\n")
				return silent(r)
			})
		}, Options{Endpoints: []string{"https://a.example/base/"}})
		var states []State
		var events []Event
		for e, err := range c.Follow(t.Context(), Subscription{AgentID: agent, After: "log-1-0", OnState: func(s State) { states = append(states, s) }}) {
			require.NoError(t, err)
			if events = append(events, e); len(events) == 3 {
				break
			}
		}
		require.Equal(t, "https://a.example/base/v1/agents/"+agent+"/events", path)
		require.Equal(t, "log-1-0", last)
		s, err := Data[rest.SnapshotData](events[0])
		require.NoError(t, err)
		require.Equal(t, rest.AgentStateActive, s.State)
		require.Nil(t, s.ActiveCcpURL)
		require.Equal(t, Event{
			ID: "log-1-1", Type: FailoverDetected, AgentID: agent, FailoverID: "f1", Time: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Data: events[1].Data,
		}, events[1])
		d, err := Data[rest.FailoverDetectedData](events[1])
		require.NoError(t, err)
		require.Equal(t, "us-west-2", d.NextActiveRegion)
		require.Equal(t, EventType("nobodyKnows"), events[2].Type)
		require.Empty(t, events[2].AgentID)
		require.Equal(t, []Phase{Connecting, Open, Closed}, []Phase{states[0].Phase, states[1].Phase, states[2].Phase})
		require.NoError(t, states[2].Reason)
		_, err = Data[[]int](events[0])
		require.ErrorContains(t, err, "snapshot log-1-0")
	})
}

// TestFaults sends two hundred random sequences of faults at a reader, in half of which something blocks streams for a while: what it reads is the log, in
// order, each event once.
func TestFaults(t *testing.T) {
	var polled, back int // sequences in which events were polled, and in which streams came back
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rng := &lockedRand{r: rand.New(rand.NewPCG(seed, 1))}
			const events = 40
			var rejected atomic.Bool
			var tokens atomic.Int32
			began := time.Now()
			blockedFor, how := time.Duration(0), rng.IntN(4)
			if rng.IntN(2) == 0 {
				blockedFor = time.Duration(rng.IntN(10)) * time.Minute
			}
			fault := func(r *http.Request) (*http.Response, error) {
				switch rng.IntN(10) {
				case 0:
					return nil, errors.New("connection refused")
				case 1:
					<-r.Context().Done() // no answer
					return nil, r.Context().Err()
				case 2:
					if rejected.CompareAndSwap(false, true) { // twice in a row would be the end: then the token is bad
						return answer(401, nil, strings.NewReader(`{"detail":"expired"}`)), nil
					}
				case 3:
					return answer(429, map[string]string{"Retry-After": "7"}, strings.NewReader("")), nil
				case 4:
					return answer(503, map[string]string{"Retry-After": time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)}, strings.NewReader("")), nil
				case 5:
					return answer(200, map[string]string{"Content-Type": "text/html"}, strings.NewReader("<h1>Sign in to the Wi-Fi</h1>")), nil
				}
				rejected.Store(false)
				return nil, nil
			}
			// What the log has grown to by a time; a poll waits for it, as the service does.
			grown := func() int { return int(time.Since(began) / (20 * time.Second)) }
			poll := func(r *http.Request) (*http.Response, error) {
				q := r.URL.Query()
				wait, err := time.ParseDuration(q.Get("wait"))
				require.NoError(t, err)
				from := position(q.Get("after"))
				until := time.Now().Add(wait)
				for grown() <= from && time.Now().Before(until) && r.Context().Err() == nil {
					time.Sleep(time.Second)
				}
				upto := min(events, grown(), from+1+rng.IntN(12))
				body := strings.Builder{}
				for n := max(1, from+1-rng.IntN(2)); n <= upto; n++ {
					fmt.Fprintf(&body, `,{"id":"log-1-%d","event":"failoverDetected","data":{"agentId":%q,"time":"2026-11-22T10:00:00Z"}}`, n, agent)
				}
				text := fmt.Sprintf(`{"items":[%s],"nextCursor":"log-1-%d"}`, strings.TrimPrefix(body.String(), ","), max(from, upto))
				if rng.IntN(8) == 0 {
					text = text[:rng.IntN(len(text))]
				}
				return answer(200, map[string]string{"Content-Type": "application/json"}, strings.NewReader(text)), r.Context().Err()
			}
			c := dial(t, func(r *http.Request) (*http.Response, error) {
				streaming := r.Header.Get("Accept") == "text/event-stream"
				if streaming && time.Since(began) < blockedFor {
					switch how {
					case 0:
						<-r.Context().Done()
						return nil, r.Context().Err()
					case 1:
						return answer(406, nil, strings.NewReader("")), nil
					case 2:
						return answer(200, map[string]string{"Content-Type": "text/html"}, strings.NewReader("no streams here")), nil
					}
					return stream(r, func(w io.Writer) error { _, _ = io.WriteString(w, "retry: 3000\n\n"); return silent(r) })
				}
				if a, err := fault(r); a != nil || err != nil {
					return a, err
				}
				if !streaming {
					return poll(r)
				}
				from := position(r.Header.Get("Last-Event-ID"))
				count, how := rng.IntN(12), rng.IntN(5)
				repeat := rng.IntN(3)
				return stream(r, func(w io.Writer) error {
					_, _ = io.WriteString(w, "retry: 3000\n\n")
					for n := max(1, from+1-repeat); n <= min(events, from+count); n++ {
						time.Sleep(time.Duration(rng.IntN(30)) * time.Second)
						if _, err := io.WriteString(w, text(n)); err != nil {
							return err
						}
					}
					switch cut := text(min(events, from+count) + 1); how {
					case 0: // in good order
						_, _ = io.WriteString(w, "id: log-1-"+strconv.Itoa(min(events, from+count))+"\nevent: draining\nretry: 1500\ndata: {\"agentId\":null,\"time\":\"2026-11-22T10:00:00Z\",\"reason\":\"shutdown\"}\n\n")
						return nil
					case 1: // in the middle of a frame
						_, _ = io.WriteString(w, cut[:rng.IntN(len(cut)-1)])
						return io.ErrUnexpectedEOF
					case 2: // the same, and it looks like the end
						_, _ = io.WriteString(w, cut[:len(cut)-1-rng.IntN(20)])
						return nil
					case 3: // half open
						return silent(r)
					}
					return errors.New("connection reset")
				})
			}, Options{
				Endpoints: []string{"https://a.example", "https://b.example"},
				Token:     func(context.Context) (string, error) { return strconv.Itoa(int(tokens.Add(1))), nil },
			})
			var got []int
			var phases []Phase
			for e, err := range c.Follow(t.Context(), Subscription{AgentID: agent, OnState: func(s State) { phases = append(phases, s.Phase) }}) {
				require.NoError(t, err)
				if got = append(got, position(e.ID)); len(got) == events {
					break
				}
			}
			want := make([]int, events)
			for i := range want {
				want[i] = i + 1
			}
			require.Equal(t, want, got, "seed %d", seed)
			if i := slices.Index(phases, Polling); i >= 0 {
				polled++
				if slices.Contains(phases[i:], Open) {
					back++
				}
			}
			synctest.Wait()
		})
	}
	require.Greater(t, polled, 60, "or this says nothing about polls")
	require.Greater(t, back, 20)
}

type lockedRand struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (l *lockedRand) IntN(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.IntN(n)
}

// TestPolling: streams are held back, so the log is polled; when they get through again, that is found out beside the polls, and nothing is missed in between.
func TestPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		held := 90 * time.Second
		var afters []string
		c := dial(t, func(r *http.Request) (*http.Response, error) {
			require.Equal(t, "/v1/agents/"+agent+"/events", r.URL.Path)
			if r.Header.Get("Accept") == "application/json" {
				q := r.URL.Query()
				afters = append(afters, q.Get("after")+" "+q.Get("wait"))
				wait, err := time.ParseDuration(q.Get("wait"))
				require.NoError(t, err)
				if q.Get("after") == "-" {
					data := `"data":{"agentId":"` + agent + `","time":"2026-11-22T10:00:00Z"}`
					return answer(200, nil, strings.NewReader(`{"items":[{"id":"nowhere","event":"reset",`+data+`},{"id":"log-1-7","event":"snapshot",`+data+`}],"nextCursor":"log-1-7"}`)), nil
				}
				select {
				case <-time.After(wait):
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
				return answer(200, nil, strings.NewReader(`{"items":[],"nextCursor":"log-1-9"}`)), nil
			}
			if time.Since(began) < held {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			require.Equal(t, "log-1-9", r.Header.Get("Last-Event-ID"))
			return stream(r, func(w io.Writer) error {
				_, _ = io.WriteString(w, "retry: 3000\n\n")
				time.Sleep(15 * time.Second)
				_, err := io.WriteString(w, text(10))
				return errors.Join(err, silent(r))
			})
		}, Options{})
		var phases []Phase
		var got []string
		for e, err := range c.Follow(t.Context(), Subscription{AgentID: agent, OnState: func(s State) { phases = append(phases, s.Phase) }}) {
			require.NoError(t, err)
			if got = append(got, string(e.Type)+" "+e.ID); len(got) == 3 {
				break
			}
		}
		require.Equal(t, []string{"reset nowhere", "snapshot log-1-7", "failoverDetected log-1-10"}, got)
		require.Equal(t, []Phase{Connecting, Waiting, Polling, Connecting, Open, Closed}, phases, "streams are tried beside the polls")
		require.Equal(t, []string{"- 1s", "log-1-7 20s", "log-1-9 20s"}, afters[:3])
	})
}

// TestWaits looks at the times between attempts.
func TestWaits(t *testing.T) {
	type attempt struct {
		host string
		wait time.Duration
	}
	// run makes attempts until there are so many, with answers by their number.
	run := func(t *testing.T, endpoints []string, n int, answers func(i int, r *http.Request) (*http.Response, error)) []attempt {
		var got []attempt
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			last := time.Now()
			c := dial(t, func(r *http.Request) (*http.Response, error) {
				got = append(got, attempt{r.URL.Host, time.Since(last)})
				if last = time.Now(); len(got) == n {
					cancel()
					return nil, ctx.Err()
				}
				return answers(len(got)-1, r)
			}, Options{Endpoints: endpoints})
			for e, err := range c.Follow(ctx, Subscription{}) {
				require.ErrorIs(t, err, context.Canceled, "%v", e)
			}
		})
		return got
	}
	one, two := []string{"https://a.example"}, []string{"https://a.example", "https://b.example"}
	refused := func(int, *http.Request) (*http.Response, error) { return nil, errors.New("refused") }

	got := run(t, one, 12, refused)
	for i, a := range got[1:] {
		ceiling := min(firstBackoff<<i, maxBackoff)
		require.GreaterOrEqual(t, a.wait, ceiling/2, "attempt %d", i)
		require.Less(t, a.wait, ceiling, "attempt %d", i)
	}
	got = run(t, two, 5, refused)
	require.Equal(t, []string{"a.example", "b.example", "a.example", "b.example", "a.example"}, []string{got[0].host, got[1].host, got[2].host, got[3].host, got[4].host})
	require.Zero(t, got[1].wait, "the other endpoint is tried at once")
	require.NotZero(t, got[2].wait)
	require.Zero(t, got[3].wait)

	got = run(t, one, 3, func(i int, _ *http.Request) (*http.Response, error) {
		return answer(503-74*i, map[string]string{"Retry-After": "40"}, strings.NewReader("")), nil
	})
	for _, a := range got[1:] {
		require.GreaterOrEqual(t, a.wait, 40*time.Second)
		require.LessOrEqual(t, a.wait, 50*time.Second)
	}
	got = run(t, two, 3, func(_ int, r *http.Request) (*http.Response, error) { // overload: EventSource survives only 200
		return stream(r, func(w io.Writer) error { _, _ = io.WriteString(w, ": overload\nretry: 45000\n\n"); return nil })
	})
	require.Equal(t, []attempt{{"a.example", 45 * time.Second}, {"a.example", 45 * time.Second}}, got[1:])
	got = run(t, two, 3, func(_ int, r *http.Request) (*http.Response, error) { // nothing comes
		return stream(r, func(w io.Writer) error { _, _ = io.WriteString(w, "retry: 3000\n\n: heartbeat\n\n"); return silent(r) })
	})
	require.Equal(t, []attempt{{"b.example", 37500 * time.Millisecond}, {"a.example", 37500 * time.Millisecond}}, got[1:])
	got = run(t, two, 2, func(_ int, r *http.Request) (*http.Response, error) { // no answer
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	require.Equal(t, attempt{"b.example", connectTimeout}, got[1])
	got = run(t, one, 4, func(_ int, r *http.Request) (*http.Response, error) { // a proxy that ends every stream at once
		return stream(r, func(io.Writer) error { return nil })
	})
	require.Greater(t, got[3].wait, got[1].wait, "it is not asked ever and ever again")
}

// TestSlowReader stays away for long in its loop: the silence is its own.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connections := 0
		c := dial(t, func(r *http.Request) (*http.Response, error) {
			connections++
			return stream(r, func(w io.Writer) error { _, _ = io.WriteString(w, text(1)+text(2)); return silent(r) })
		}, Options{})
		var n int
		for _, err := range c.Follow(t.Context(), Subscription{}) {
			require.NoError(t, err)
			if n++; n == 2 {
				break
			}
			time.Sleep(time.Hour)
		}
		require.Equal(t, 1, connections)
	})
}

func TestTheEnd(t *testing.T) {
	last := func(t *testing.T, n network, o Options) (err error) {
		synctest.Test(t, func(t *testing.T) {
			for _, err = range dial(t, n, o).Follow(t.Context(), Subscription{AgentID: agent}) {
				require.Error(t, err)
			}
		})
		return err
	}
	status := func(code int) network {
		return func(*http.Request) (*http.Response, error) {
			return answer(code, nil, strings.NewReader(`{"detail":"there is no such agent"}`)), nil
		}
	}
	for _, code := range []int{400, 403, 404, 405, 501 - 92} {
		err := last(t, status(code), Options{})
		require.ErrorIs(t, err, ErrRefused)
		require.ErrorContains(t, err, "there is no such agent")
		require.ErrorContains(t, err, strconv.Itoa(code))
	}
	err := last(t, status(401), Options{})
	require.ErrorIs(t, err, ErrUnauthenticated)
	err = last(t, status(401), Options{Token: func(context.Context) (string, error) { return "SECRET", nil }})
	require.ErrorIs(t, err, ErrUnauthenticated)
	require.ErrorContains(t, err, "there is no such agent")
	require.NotContains(t, err.Error(), "SECRET")

	// A token that has expired is replaced, however often.
	var tokens, refused atomic.Int32
	synctest.Test(t, func(t *testing.T) {
		c := dial(t, func(r *http.Request) (*http.Response, error) {
			if refused.Add(1) <= 3 {
				return status(401)(r)
			}
			require.Equal(t, "Bearer 4", r.Header.Get("Authorization"))
			return stream(r, func(w io.Writer) error { _, _ = io.WriteString(w, text(1)); return silent(r) })
		}, Options{Token: func(context.Context) (string, error) { return strconv.Itoa(int(tokens.Add(1))), nil }})
		for e, err := range c.Follow(t.Context(), Subscription{}) {
			require.NoError(t, err)
			require.Equal(t, "log-1-1", e.ID)
			break
		}
	})

	// So is an identity provider that is away for a while.
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := dial(t, func(r *http.Request) (*http.Response, error) {
			return stream(r, func(w io.Writer) error { _, _ = io.WriteString(w, text(1)); return silent(r) })
		}, Options{Token: func(context.Context) (string, error) {
			if n++; n < 4 {
				return "", errors.New("the provider is away")
			}
			return "t", nil
		}})
		var waits []string
		for _, err := range c.Follow(t.Context(), Subscription{OnState: func(s State) {
			if s.Phase == Waiting {
				waits = append(waits, s.Reason.Error())
			}
		}}) {
			require.NoError(t, err)
			break
		}
		require.Equal(t, slices.Repeat([]string{"get a token: the provider is away"}, 3), waits)
	})
}

// TestReset gives reset and snapshots whatever their ids, and resumes from the last of them.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		notice := func(event, id string) string {
			return "id: " + id + "\nevent: " + event + "\ndata: {\"agentId\":\"" + agent + "\",\"time\":\"2026-11-22T10:00:00Z\"}\n\n"
		}
		c := dial(t, func(r *http.Request) (*http.Response, error) {
			if n++; n > 1 {
				require.Equal(t, "log-2-7", r.Header.Get("Last-Event-ID"))
			}
			return stream(r, func(w io.Writer) error {
				if n == 1 {
					_, _ = io.WriteString(w, notice("snapshot", "log-1-1")+text(1)+text(1)+notice("reset", "nowhere")+notice("snapshot", "log-2-7"))
					return nil
				}
				_, _ = io.WriteString(w, notice("snapshot", "log-2-7"))
				return silent(r)
			})
		}, Options{})
		var got []EventType
		for e, err := range c.Follow(t.Context(), Subscription{AgentID: agent}) {
			require.NoError(t, err)
			if got = append(got, e.Type); len(got) == 5 {
				break
			}
		}
		require.Equal(t, []EventType{Snapshot, FailoverDetected, Reset, Snapshot, Snapshot}, got)
	})
}

// TestHostileStreams have no end, or nothing that can be read.
func TestHostileStreams(t *testing.T) {
	for name, body := range map[string]string{
		"a line without end": "data: " + strings.Repeat("x", maxLine+10_000),
		"no JSON":            "id: log-1-1\nevent: failoverDetected\ndata: {\n\n",
		"no object":          "id: log-1-1\nevent: failoverDetected\ndata: []\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				c := dial(t, func(r *http.Request) (*http.Response, error) {
					if n++; n == 1 {
						return stream(r, func(w io.Writer) error { _, err := io.WriteString(w, body); return errors.Join(err, silent(r)) })
					}
					return stream(r, func(w io.Writer) error { _, _ = io.WriteString(w, text(1)); return silent(r) })
				}, Options{})
				for e, err := range c.Follow(t.Context(), Subscription{}) {
					require.NoError(t, err)
					require.Equal(t, "log-1-1", e.ID)
					break
				}
				require.Equal(t, 2, n)
			})
		})
	}
}
