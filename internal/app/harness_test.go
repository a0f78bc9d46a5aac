package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	changeover "changeover/clients/go"
	"changeover/internal/api/apitest"
	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/servertest"
)

const (
	east = "us-east-1"
	west = "us-west-2"

	// patience is for things that take milliseconds on an idle machine.
	patience = 30 * time.Second
)

func TestMain(m *testing.M) { servertest.Main(m) }

// floor is a simulated pair of linked instances behind a real socket.
type floor struct {
	*connectsim.Sim
	url string
}

// newFloor has agents who do nothing by themselves and follow a shift at once.
func newFloor(t *testing.T, c connectsim.Config) *floor {
	if c.MoveDelay == 0 {
		c.MoveDelay = -1
	}
	sim := connectsim.New(c)
	server := httptest.NewServer(sim.Handler())
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return &floor{sim, server.URL}
}

// agent is the n-th agent.
func (f *floor) agent(n int) string { return f.Agents()[n].ID }

// call gives an agent a contact, and returns its id.
func (f *floor) call(t *testing.T, agent, channel string) string {
	id, err := f.StartContact(agent, channel)
	require.NoError(t, err)
	return id
}

func (f *floor) shift(t *testing.T, to string) {
	require.NoError(t, f.Shift("default", to, 100))
}

// configuration is that of a service that polls the floor as fast as tests like it.
func configuration(f *floor, databaseURL string) *config.Config {
	return servertest.Config(f.Sim, f.url, databaseURL)
}

// Leading says whether this replica leads and decides.
func (a *App) Leading() bool { return a.orchestrator.Status().Deciding }

// service is a running App with a client of its REST API, whose every answer is held against api/openapi.yaml.
type service struct {
	*App
	client *http.Client
	log    *bytes.Buffer
}

func start(t *testing.T, c *config.Config) *service {
	s := &service{client: &http.Client{Transport: apitest.NewTransport(t, &http.Transport{DisableKeepAlives: true})}, log: &bytes.Buffer{}}
	a, err := New(t.Context(), c, Options{Log: logtest.New(s.log)})
	require.NoError(t, err)
	s.App = a
	t.Cleanup(func() {
		s.stop(t)
		if t.Failed() {
			t.Log("log of the service:\n" + s.log.String())
		}
	})
	require.NoError(t, a.Start(t.Context()))
	return s
}

// stop as a second replica or a new process would need it: everything ends in time and without errors.
func (s *service) stop(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
}

func (s *service) request(t *testing.T, method, path string, body any) (int, []byte) {
	var b bytes.Buffer
	if body != nil {
		require.NoError(t, json.NewEncoder(&b).Encode(body))
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, &b)
	require.NoError(t, err)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := s.client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, content
}

// get decodes the answer of a GET that has to succeed.
func get[T any](t *testing.T, s *service, path string) T {
	status, body := s.request(t, http.MethodGet, path, nil)
	require.Equal(t, http.StatusOK, status, "GET %s: %s", path, body)
	var v T
	require.NoError(t, json.Unmarshal(body, &v))
	return v
}

// until polls a resource that another process changes, until it is as it should be.
func until[T any](t *testing.T, s *service, path string, ok func(T) bool) T {
	t.Helper()
	var last string
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for time.Now().Before(deadline) {
		status, body := s.request(t, http.MethodGet, path, nil)
		var v T
		if last = fmt.Sprintf("%d %s", status, body); status == http.StatusOK {
			require.NoError(t, json.Unmarshal(body, &v))
			if ok(v) {
				return v
			}
		}
		<-ticker.C
	}
	require.FailNow(t, "still not so: GET "+path, last)
	panic("unreachable")
}

// untilWorksIn waits until an agent's active region is known to be that one.
func (s *service) untilWorksIn(t *testing.T, agent, region string) {
	t.Helper()
	until(t, s, "/v1/agents/"+agent, func(a contract.Agent) bool { return a.ActiveRegion != nil && *a.ActiveRegion == region })
}

// untilHolds waits until so many contacts of an agent are known.
func (s *service) untilHolds(t *testing.T, agent string, contacts int) {
	t.Helper()
	until(t, s, "/v1/agents/"+agent+"/contacts", func(l contract.ContactList) bool { return len(l.Items) == contacts })
}

// frame is an event as it came.
type frame struct {
	id, event string
	data      map[string]any
}

// desktop reads a stream.
type desktop struct {
	frames <-chan frame
	close  context.CancelFunc
	last   string // id
}

// watch opens a stream, as curl -N would; lastEventID resumes.
func watch(t *testing.T, address, path, lastEventID string) *desktop {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	require.NoError(t, err)
	r.Header.Set("Accept", "text/event-stream")
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "text/event-stream", strings.Split(answer.Header.Get("Content-Type"), ";")[0])

	frames := make(chan frame)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(frames)
		defer answer.Body.Close()
		readFrames(answer.Body, func(f frame) bool {
			select {
			case frames <- f:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	d := &desktop{frames: frames, close: func() { cancel(); <-done }, last: lastEventID}
	t.Cleanup(d.close)
	return d
}

// follow reads the events of an agent with the Go client, which goes on by itself whatever becomes of a connection.
func follow(t *testing.T, agent string, services ...*service) *desktop {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var endpoints []string
	for _, s := range services {
		endpoints = append(endpoints, "http://"+s.Addr())
	}
	client, err := changeover.New(changeover.Options{Endpoints: endpoints, HTTPClient: &http.Client{Transport: apitest.NewTransport(t, &http.Transport{DisableKeepAlives: true})}})
	require.NoError(t, err)
	frames, done := make(chan frame), make(chan struct{})
	go func() {
		defer close(done)
		defer close(frames)
		for e, err := range client.Follow(ctx, changeover.Subscription{AgentID: agent}) {
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("follow agent %s: %v", agent, err)
				}
				return
			}
			f := frame{id: e.ID, event: string(e.Type)}
			if err := json.Unmarshal(e.Data, &f.data); err != nil {
				t.Errorf("data of %s: %v", e.Type, err)
			}
			select {
			case frames <- f:
			case <-ctx.Done():
				return
			}
		}
	}()
	d := &desktop{frames: frames, close: func() { cancel(); <-done }}
	t.Cleanup(d.close)
	return d
}

// readFrames parses a stream until it ends or got returns false. Frames without data (retry, comments) are left out.
func readFrames(r io.Reader, got func(frame) bool) {
	var f frame
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			f.id = value
		case "event":
			f.event = value
		case "data":
			if json.Unmarshal([]byte(value), &f.data) != nil {
				f.data = map[string]any{"not JSON": value}
			}
		case "":
			if lines.Text() == "" {
				if f.data != nil && !got(f) {
					return
				}
				f = frame{}
			}
		}
	}
}

// next returns the next event, which has to be this one.
func (d *desktop) next(t *testing.T, event string) frame {
	t.Helper()
	select {
	case f, open := <-d.frames:
		require.True(t, open, "the stream ended instead of %s", event)
		require.Equal(t, event, f.event, "%v", f.data)
		if f.id != "" {
			d.last = f.id
		}
		return f
	case <-time.After(patience):
		require.FailNow(t, "nothing came, expected "+event)
		panic("unreachable")
	}
}

// opened reads the first snapshot of an agent whose active region the database knows already; the replica may be about to read that.
func (d *desktop) opened(t *testing.T) frame {
	t.Helper()
	f := d.next(t, "snapshot")
	if f.data["activeRegion"] == nil {
		f = d.next(t, "snapshot")
	}
	return f
}

// silence fails when an event comes within a time, although nothing has happened. First snapshots are not events.
func (d *desktop) silence(t *testing.T, within time.Duration) {
	t.Helper()
	over := time.After(within)
	for {
		select {
		case f, open := <-d.frames:
			require.True(t, open, "the stream ended")
			require.Equal(t, "snapshot", f.event, "%v", f.data)
		case <-over:
			return
		}
	}
}
