package app

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/postgres/postgrestest"
)

// A failover that is open when the service stops goes on when it starts again, and a desktop that resumes hears the rest
// once and in order.
func TestResumeAfterARestart(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	agent := floor.agent(0)
	voice := floor.call(t, agent, connectsim.ChannelVoice)
	c := configuration(floor, postgrestest.NewDatabase(t))
	first := start(t, c)
	first.untilHolds(t, agent, 1)
	d := watch(t, first.Addr(), "/v1/agents/"+agent+"/events", "")
	d.opened(t)
	floor.shift(t, west)
	detected := d.next(t, "failoverDetected")
	pending := d.next(t, "failoverPending")

	began := time.Now()
	first.stop(t)
	require.Less(t, time.Since(began), 10*time.Second)
	d.next(t, "draining")
	_, open := <-d.frames
	require.False(t, open, "a stopped replica closes its streams")

	require.NoError(t, floor.ClearContact(voice))

	second := start(t, c)
	resumed := watch(t, second.Addr(), "/v1/agents/"+agent+"/events", d.last)
	end := resumed.next(t, "failoverCompleted")
	require.Equal(t, pending.data["failoverId"], end.data["failoverId"])
	second.untilWorksIn(t, agent, west)

	// A third client, with the cursor of the detection, hears the rest in order: no frame is lost or repeated.
	late := watch(t, second.Addr(), "/v1/agents/"+agent+"/events", detected.id)
	require.Equal(t, pending.id, late.next(t, "failoverPending").id)
	require.Equal(t, end.id, late.next(t, "failoverCompleted").id)

	// A cursor that was made up, and one of another log.
	for _, cursor := range []string{"nonsense", "0123456789ab-1-1", d.last + "9"} {
		other := watch(t, second.Addr(), "/v1/agents/"+agent+"/events", cursor)
		other.next(t, "reset")
		require.Equal(t, west, other.next(t, "snapshot").data["activeRegion"])
		other.close()
	}
}

func TestAnotherReplicaTakesOver(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	agent := floor.agent(0)
	c := configuration(floor, postgrestest.NewDatabase(t))
	leader := start(t, c)
	leader.untilWorksIn(t, agent, east)
	follower := start(t, c)
	follower.untilWorksIn(t, agent, east)
	require.True(t, leader.Leading())
	require.False(t, follower.Leading())

	d := watch(t, follower.Addr(), "/v1/agents/"+agent+"/events", "")
	d.opened(t)
	leader.stop(t)
	floor.shift(t, west)
	d.next(t, "failoverDetected")
	d.next(t, "failoverCompleted")
	require.True(t, follower.Leading())
}

// A replica that starts before its database waits for it, and says so.
func TestDatabaseIsAwayAtTheStart(t *testing.T) {
	t.Parallel()
	database := postgrestest.Start(t)
	database.Stop()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	s := start(t, configuration(floor, database.URL()))
	status, body := s.request(t, http.MethodGet, "/readyz", nil)
	require.Equal(t, http.StatusServiceUnavailable, status, "%s", body)
	require.Contains(t, string(body), `"loading"`)
	database.Start()
	until(t, s, "/readyz", func(r contract.Readiness) bool { return r.Status == contract.ReadinessStatusReady })
	s.untilWorksIn(t, floor.agent(0), east)
}

// The schema is made by the program once, and kept by the embedded database.
func TestEmbeddedDatabaseKeepsWhatItKnows(t *testing.T) {
	t.Parallel()
	floor := newFloor(t, connectsim.Config{Agents: 1})
	agent := floor.agent(0)
	c := configuration(floor, config.Embedded)
	dir, err := os.MkdirTemp("", "changeover-app") //nolint:usetesting // t.TempDir is closed to the user who runs PostgreSQL for root
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	c.Database.DataDir = filepath.Join(dir, "postgres")
	first := start(t, c)
	first.untilWorksIn(t, agent, east)
	_, err = New(t.Context(), c, Options{Log: first.App.log})
	require.ErrorContains(t, err, "database.url embedded", "a second service in the same folder is refused")
	first.stop(t)

	floor.shift(t, west)
	second := start(t, c)
	second.untilWorksIn(t, agent, west)
	failovers := get[contract.FailoverList](t, second, "/v1/failovers")
	require.Len(t, failovers.Items, 1, "the change while it was down is a failover, not a first observation")
}

// kill -9 while a busy floor is shifted there and back: no failover is lost and none doubled, and a client that resumes by
// its cursor hears everything once.
func TestKilledInTheMiddleOfAShift(t *testing.T) {
	t.Parallel()
	busy := connectsim.Floor{
		CallsPerHour: 900, ChatsPerHour: 300, Ring: connectsim.Duration(50 * time.Millisecond), Talk: connectsim.Duration(time.Second),
		Chat: connectsim.Duration(time.Second), AfterContactWork: connectsim.Duration(300 * time.Millisecond),
	}
	floor := newFloor(t, connectsim.Config{Seed: 5, Agents: 40, Floor: busy})
	c := configuration(floor, postgrestest.NewDatabase(t))
	c.HTTP.Listen = freeAddress(t)
	file := filepath.Join(t.TempDir(), "changeover.yaml")
	text, err := yaml.Marshal(c)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))

	heard := make(chan []frame, 1)
	stop := make(chan struct{})
	process := startProcess(t, file)
	go func() { heard <- listen(c.HTTP.Listen, stop) }()
	client := &service{App: &App{listener: fixedAddress(c.HTTP.Listen)}, client: http.DefaultClient}
	until(t, client, "/v1/agents", func(l contract.AgentList) bool { return len(l.Items) == 40 })

	floor.shift(t, west)
	until(t, client, "/v1/failovers", func(l contract.FailoverList) bool { return len(l.Items) > 0 })
	process.kill(t)
	process = startProcess(t, file)
	until(t, client, "/v1/failovers?status=completed", func(l contract.FailoverList) bool { return len(l.Items) > 10 })
	floor.shift(t, east)
	process.kill(t)
	process = startProcess(t, file)
	busy.CallsPerHour, busy.ChatsPerHour = 0, 0 // nobody gets new contacts; those that there are end
	require.NoError(t, floor.SetFloor(busy))
	until(t, client, "/v1/agents?activeRegion="+east+"&state=active", func(l contract.AgentList) bool { return len(l.Items) == 40 })
	events := allEvents(t, client)
	close(stop)
	frames := <-heard
	process.kill(t)

	// Each failover: detected first, then perhaps pending with updates, then exactly one end.
	open := map[string]string{}
	ended := 0
	for _, e := range events {
		var data struct{ AgentID, FailoverID string }
		require.NoError(t, json.Unmarshal(e.Data, &data))
		switch e.Event {
		case "failoverDetected":
			require.Empty(t, open[data.AgentID], "a second failover of an agent who has one")
			open[data.AgentID] = data.FailoverID
		case "failoverPending", "failoverPendingUpdated":
			require.Equal(t, open[data.AgentID], data.FailoverID)
		case "failoverCompleted", "failoverCancelled":
			require.Equal(t, open[data.AgentID], data.FailoverID, "an end without its beginning, or a second one")
			delete(open, data.AgentID)
			ended++
		}
	}
	require.Empty(t, open, "failovers without an end")
	require.GreaterOrEqual(t, ended, 40)

	var want, got []string
	for _, e := range events {
		if e.Event != "snapshot" {
			want = append(want, e.ID)
		}
	}
	for _, f := range frames {
		if f.event != "snapshot" && f.event != "draining" {
			require.NotEqual(t, "reset", f.event, "the cursor was good: %v", f.data)
			got = append(got, f.id)
		}
	}
	require.Equal(t, want, got, "the client that resumed heard something else than what is in the log")
}

// allEvents pages through the whole history.
func allEvents(t *testing.T, s *service) []contract.LoggedEvent {
	var all []contract.LoggedEvent
	for path := "/v1/events?limit=1000"; ; {
		page := get[contract.EventList](t, s, path)
		all = append(all, page.Items...)
		if len(page.Items) == 0 {
			return all
		}
		path = "/v1/events?limit=1000&after=" + page.NextCursor
	}
}

// listen follows the stream of all agents over every break, as an EventSource does, until stop is closed.
func listen(address string, stop <-chan struct{}) []frame {
	var all []frame
	last := ""
	for {
		select {
		case <-stop:
			return all
		default:
		}
		r, err := http.NewRequest(http.MethodGet, "http://"+address+"/v1/events", nil)
		if err != nil {
			return all
		}
		r.Header.Set("Accept", "text/event-stream")
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		transport := &http.Transport{DisableKeepAlives: true}
		answer, err := transport.RoundTrip(r)
		if err != nil { // the process is down
			<-time.After(50 * time.Millisecond)
			continue
		}
		broken := make(chan struct{})
		go func() {
			select {
			case <-stop:
				answer.Body.Close()
			case <-broken:
			}
		}()
		readFrames(answer.Body, func(f frame) bool {
			if f.id != "" {
				last = f.id
			}
			all = append(all, f)
			return true
		})
		close(broken)
		answer.Body.Close()
	}
}

// process is the service in a process of its own.
type process struct{ *exec.Cmd }

func startProcess(t *testing.T, file string) *process {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveVariable+"="+file)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	started := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		var log strings.Builder
		for lines.Scan() {
			fmt.Fprintln(&log, lines.Text())
			if strings.Contains(lines.Text(), `"msg":"started"`) {
				break
			}
		}
		started <- log.String()
		_, _ = io.Copy(io.Discard, stderr)
	}()
	p := &process{cmd}
	t.Cleanup(func() { _ = p.Process.Kill() })
	select {
	case log := <-started:
		require.Contains(t, log, `"msg":"started"`)
	case <-time.After(patience):
		require.Fail(t, "the process did not start")
	}
	return p
}

func (p *process) kill(t *testing.T) {
	require.NoError(t, p.Process.Signal(syscall.SIGKILL))
	_ = p.Wait() // killed, as it says
}

// freeAddress is a port that a killed process and its successor can both have.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// fixedAddress is an address in the form of a listener.
type fixedAddress string

func (fixedAddress) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (fixedAddress) Close() error              { return nil }
func (a fixedAddress) Addr() net.Addr          { return netAddress(a) }

type netAddress string

func (netAddress) Network() string  { return "tcp" }
func (a netAddress) String() string { return string(a) }
