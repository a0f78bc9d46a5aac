package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/servertest"
)

// patience is for things that take milliseconds on an idle machine.
const patience = 30 * time.Second

// service is the program in a process of its own, with its database and its floor.
type service struct {
	program, file, address, database string
	config                           *config.Config
	tls                              bool // it has a certificate that nobody knows
	client                           *http.Client
	process                          *exec.Cmd
	done                             chan struct{} // closed when the process has ended and all that it said is read

	mu   sync.Mutex
	said bytes.Buffer // since the last start
	all  tail
}

func newService(t testing.TB, sim *connectsim.Sim, change ...func(*config.Config)) *service {
	t.Helper()
	floor := httptest.NewServer(sim.Handler())
	t.Cleanup(func() { floor.CloseClientConnections(); floor.Close() })
	s := &service{
		program: servertest.Build(t, "", "server"), database: postgrestest.NewDatabase(t), address: freeAddress(t),
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: anyServer.Clone()}, Timeout: patience},
	}
	c := servertest.Config(sim, floor.URL, s.database)
	c.HTTP.Listen = s.address
	c.Connect = config.Connect{RequestsPerSecond: 200, Burst: 200, RequestTimeout: 2 * time.Second}
	c.Poll.DistributionInterval, c.Poll.AgentInterval, c.Poll.DrainInterval = 100*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
	for _, f := range change {
		f(c)
	}
	s.tls, s.config = c.HTTP.TLSCert != "", c
	s.file = filepath.Join(t.TempDir(), "changeover.yaml")
	s.reconfigure(t)
	s.endWith(t)
	return s
}

// replica is another process of the same service, on the same database.
func (s *service) replica(t testing.TB, change ...func(*config.Config)) *service {
	t.Helper()
	c := *s.config
	other := &service{program: s.program, database: s.database, address: freeAddress(t), client: s.client, config: &c, tls: s.tls}
	c.HTTP.Listen = other.address
	other.file = filepath.Join(t.TempDir(), "changeover.yaml")
	other.reconfigure(t, change...)
	other.endWith(t)
	return other
}

// endWith kills the process when the test ends.
func (s *service) endWith(t testing.TB) {
	t.Cleanup(func() {
		if s.process != nil {
			s.kill(t)
		}
		if t.Failed() {
			t.Logf("the service's last words:\n%s", s.all.String())
		}
	})
}

// reconfigure changes the configuration of the next start.
func (s *service) reconfigure(t testing.TB, change ...func(*config.Config)) {
	t.Helper()
	for _, f := range change {
		f(s.config)
	}
	text, err := yaml.Marshal(s.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.file, text, 0o600))
}

// anyServer trusts every certificate: those of the tests are made up.
var anyServer = &tls.Config{InsecureSkipVerify: true}

// url is where a path of the service is.
func (s *service) url(path string) string {
	if s.tls {
		return "https://" + s.address + path
	}
	return "http://" + s.address + path
}

// freeAddress is a port that a killed process and its successor can both have.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// check runs `server check`.
func (s *service) check(t testing.TB) {
	t.Helper()
	out, err := exec.Command(s.program, "check", "--config", s.file).CombinedOutput()
	_, _ = logtest.Output().Write(out)
	require.NoError(t, err, "%s", out)
}

// start runs `server serve` and returns when it listens.
func (s *service) start(t testing.TB) {
	t.Helper()
	s.process = exec.Command(s.program, "serve", "--config", s.file)
	stderr, err := s.process.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, s.process.Start())
	s.mu.Lock()
	s.said.Reset()
	s.mu.Unlock()
	s.done = make(chan struct{})
	started := make(chan struct{})
	go func() {
		defer close(s.done)
		open := started
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			s.mu.Lock()
			fmt.Fprintln(io.MultiWriter(&s.said, &s.all, logtest.Output()), lines.Text())
			s.mu.Unlock()
			if open != nil && strings.Contains(lines.Text(), `"msg":"started"`) {
				close(open)
				open = nil
			}
		}
	}()
	select {
	case <-started:
	case <-s.done:
		require.Fail(t, "the process ended", s.text())
	case <-time.After(patience):
		require.Fail(t, "the process did not start", s.text())
	}
}

func (s *service) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

// kill is kill -9.
func (s *service) kill(t testing.TB) {
	t.Helper()
	require.NoError(t, s.process.Process.Signal(syscall.SIGKILL))
	<-s.done
	_ = s.process.Wait() // killed, as it says
	s.process = nil
	require.NotContains(t, s.text(), "DATA RACE")
	require.NotContains(t, s.text(), "panic:")
}

// freeLease lets the ten seconds pass for which a killed leader's lease holds.
func (s *service) freeLease(t testing.TB) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "UPDATE leases SET expires_at = '-infinity'")
	require.NoError(t, err)
}

// head is the number of the last event of the log.
func (s *service) head(t testing.TB) (seq int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT seq FROM event_log").Scan(&seq))
	return seq
}

// until waits for something that only time brings.
func (s *service) until(t testing.TB, what string, so func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); !so(); <-ticker.C {
		require.True(t, time.Now().Before(deadline), "still not so: %s", what)
	}
}

// get decodes the answer of a GET, which has to succeed as soon as the service is ready.
func get[T any](t testing.TB, s *service, path string) (v T) {
	t.Helper()
	s.until(t, path, func() bool {
		answer, err := s.client.Get(s.url(path))
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		if answer.StatusCode == http.StatusServiceUnavailable { // the log is being loaded
			return false
		}
		require.Equal(t, http.StatusOK, answer.StatusCode, "%s: %s", path, body)
		require.NoError(t, json.Unmarshal(body, &v))
		return true
	})
	return v
}

// history reads the log after a cursor to its end.
func (s *service) history(t testing.TB, path, after string) []contract.LoggedEvent {
	t.Helper()
	all := []contract.LoggedEvent{}
	for {
		query := path + "?limit=1000"
		if after != "" {
			query += "&after=" + after
		}
		page := get[contract.EventList](t, s, query)
		all = append(all, page.Items...)
		if len(page.Items) == 0 {
			return all
		}
		after = page.NextCursor
	}
}

// listener is a desktop, or the console if agent is empty: it follows its stream as an EventSource does, over every break.
type listener struct {
	agent  string
	cancel context.CancelFunc
	done   chan struct{}

	mu        sync.Mutex
	snapshots int    // that the stream begins with and that are still to come
	cursor    string // of the last of them
	heard     []contract.LoggedEvent
}

// listen opens a stream that begins with so many snapshots.
func (s *service) listen(agent string, snapshots int) *listener {
	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{agent: agent, cancel: cancel, done: make(chan struct{}), snapshots: snapshots, heard: []contract.LoggedEvent{}}
	path := "/v1/events"
	if agent != "" {
		path = "/v1/agents/" + agent + "/events"
	}
	go func() {
		defer close(l.done)
		last := ""
		for ctx.Err() == nil {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(path), nil)
			if err != nil {
				panic(err) // it is ours
			}
			r.Header.Set("Accept", "text/event-stream")
			if last != "" {
				r.Header.Set("Last-Event-ID", last)
			}
			answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
			if err == nil {
				last = l.read(answer, last)
				answer.Body.Close()
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // the process is down
			}
		}
	}()
	return l
}

// read follows one connection to its end and returns the last cursor.
func (l *listener) read(answer *http.Response, last string) string {
	var f contract.LoggedEvent
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == "" {
			if f.Data != nil {
				if f.ID != "" {
					last = f.ID
				}
				l.hear(f)
			}
			f = contract.LoggedEvent{}
			continue
		}
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			f.ID = value
		case "event":
			f.Event = value
		case "data":
			f.Data = json.RawMessage(value)
		}
	}
	return last
}

func (l *listener) hear(f contract.LoggedEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.snapshots > 0 {
		if l.snapshots--; l.snapshots == 0 {
			l.cursor = f.ID
		}
		return
	}
	l.heard = append(l.heard, f)
}

// first is the cursor of what the stream began with; empty: that is not complete.
func (l *listener) first() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cursor
}

func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.heard)
}

// stop ends the listener and returns what it heard after the first snapshot.
func (l *listener) stop() []contract.LoggedEvent {
	l.cancel()
	<-l.done
	return l.heard
}
