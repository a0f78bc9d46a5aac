package acceptance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/postgres"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/servertest"
)

// herdTime is in which a herd comes back.
const herdTime = 2 * time.Second

// A floor comes back within two seconds, to a replica that does not lead: its statements are those that desktops bring about. Each desktop asks for a ticket with its token and opens its stream with ticket and cursor. All of
// them get what they missed, from memory, and the database sees fewer than fifty statements for it. Then the same after a restart, when
// memory holds none of it: few queries that serve many cursors each.
//
// 2,000 desktops; `make herd` has 20,000, or as many as a process may have files.
func TestHerd(t *testing.T) {
	t.Parallel()
	desktops := 2000
	if n := os.Getenv("HERD"); n != "" {
		var err error
		desktops, err = strconv.Atoi(n)
		require.NoError(t, err)
		desktops = min(desktops, openFiles(t)-600)
	}
	statements := newCountingDatabase(t)
	h := &herd{issuer: servertest.NewIssuer(t)}
	sim := connectsim.New(connectsim.Config{Seed: 1, Agents: desktops, RoutingProfiles: 50, MoveDelay: -1})
	s := newService(t, sim, func(c *config.Config) {
		c.Database.URL = config.Secret(statements.url)
		c.Auth.Mode, c.Auth.JWKSFile = config.AuthJWT, h.issuer.File
		c.Poll.DistributionInterval, c.Poll.AgentInterval, c.Poll.DrainInterval = time.Second, 15*time.Second, 5*time.Second
	})
	s.database = statements.url
	s.start(t)
	desk := s.replica(t, func(c *config.Config) { c.Database.URL = config.Secret(statements.desk) })
	desk.start(t)
	h.address, h.viewer = desk.address, h.issuer.Token(t, "", time.Hour, "viewer")
	s.until(t, "the floor is known", func() bool {
		var summary contract.Summary
		return h.get(t, "/v1/summary", &summary) && len(summary.Items) == 1 && summary.Items[0].Agents == desktops
	})
	require.NoError(t, sim.Shift("default", west, 100))
	s.until(t, "everybody has moved", func() bool {
		var summary contract.Summary
		return h.get(t, "/v1/summary", &summary) && summary.Items[0].ByState.Active == desktops &&
			slices.ContainsFunc(summary.Items[0].ByActiveRegion, func(r contract.RegionCount) bool {
				return r.ActiveRegion != nil && *r.ActiveRegion == west && r.Count == desktops
			})
	})
	// Each desktop was told of its failover, and then went away.
	away := map[string]*returning{}
	var after string
	for {
		var page contract.EventList
		require.True(t, h.get(t, "/v1/events?limit=1000&type=failoverDetected&type=failoverCompleted&after="+after, &page))
		for _, e := range page.Items {
			var d struct{ AgentID string }
			require.NoError(t, json.Unmarshal(e.Data, &d))
			switch e.Event {
			case "failoverDetected":
				away[d.AgentID] = &returning{agent: d.AgentID, cursor: e.ID, token: h.issuer.Token(t, d.AgentID, time.Hour, "agent")}
			case "failoverCompleted":
				away[d.AgentID].missed = e.ID
				h.desktops = append(h.desktops, away[d.AgentID])
			}
		}
		if len(page.Items) == 0 {
			break
		}
		after = page.NextCursor
	}
	require.Len(t, h.desktops, desktops)

	began := time.Now()
	herd := statements.count(t, func() { h.comeBack(t); <-time.After(herdTime) })
	idle := statements.count(t, func() { <-time.After(time.Since(began)) })
	t.Logf("from memory: %d desktops were told what they missed %v after the first came; %d statements, %d in as long while nothing happens", desktops, h.took, herd.total(), idle.total())
	more := herd.beyond(idle)
	require.Less(t, more.total(), 50, "%v", more)
	require.Zero(t, herd.of(replay), "memory holds what they missed")

	desk.kill(t)
	h.leave()
	desk.start(t)
	s.until(t, "the service is back", func() bool {
		var summary contract.Summary
		return h.get(t, "/v1/summary", &summary)
	})
	herd = statements.count(t, func() { h.comeBack(t); <-time.After(herdTime) })
	replays := herd.of(replay)
	t.Logf("from the database: %d desktops were told what they missed %v after the first came; %d statements, %d of them replays", desktops, h.took, herd.total(), replays)
	require.Positive(t, replays)
	require.Less(t, replays, 20+desktops/200, "one query serves many cursors")
	h.leave()
}

// replay is in the text of the statement that reads for streams what memory does not hold.
const replay = "-- name: AgentEvents "

// returning is a desktop that comes back.
type returning struct {
	agent, token   string
	cursor, missed string // ids: of what it heard last, and of what came then
}

// herd is a floor of desktops of others than the service.
type herd struct {
	issuer   *servertest.Issuer
	address  string
	viewer   string
	desktops []*returning

	took  time.Duration // until the last one had heard
	mu    sync.Mutex
	conns []net.Conn
}

// comeBack returns when each desktop has heard what it missed, and nothing else.
func (h *herd) comeBack(t *testing.T) {
	t.Helper()
	began := time.Now()
	var heard, again atomic.Int64
	var all sync.WaitGroup
	for i, d := range h.desktops {
		all.Go(func() {
			<-time.After(herdTime * time.Duration(i) / time.Duration(len(h.desktops)))
			err := h.open(d)
			for ; err != nil && !errors.Is(err, errWrong) && time.Since(began) < patience; err = h.open(d) {
				again.Add(1)
				<-time.After(time.Second) // as desktops do that are turned away
			}
			if err != nil {
				t.Errorf("desktop of agent %s: %v", d.agent, err)
				return
			}
			heard.Add(1)
		})
	}
	all.Wait()
	h.took = time.Since(began).Round(time.Millisecond)
	if n := again.Load(); n > 0 {
		t.Logf("%d attempts were turned away", n)
	}
	require.EqualValues(t, len(h.desktops), heard.Load())
}

var errWrong = errors.New("not what was missed")

// open asks for a ticket, opens the stream with it, and reads what was missed.
func (h *herd) open(d *returning) error {
	conn, err := net.Dial("tcp", h.address)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.conns = append(h.conns, conn)
	h.mu.Unlock()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	fmt.Fprintf(conn, "POST /v1/agents/%s/stream-tickets HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n", d.agent, h.address, d.token)
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return fmt.Errorf("ask for a ticket: %w", err)
	}
	var ticket contract.StreamTicket
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("ask for a ticket: %w", err)
	}
	if err := json.Unmarshal(body, &ticket); err != nil || answer.StatusCode != http.StatusCreated {
		return fmt.Errorf("ask for a ticket: %s: %s", answer.Status, body)
	}
	fmt.Fprintf(conn, "GET /v1/agents/%s/events?ticket=%s&lastEventId=%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", d.agent, ticket.Ticket, d.cursor, h.address)
	if answer, err = http.ReadResponse(in, nil); err != nil {
		return fmt.Errorf("open the stream: %w", err)
	}
	for lines := bufio.NewReader(answer.Body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			if id = strings.TrimSpace(id); id != d.missed {
				return fmt.Errorf("%w: %s came, %s was missed", errWrong, id, d.missed)
			}
			return nil
		}
	}
}

func (h *herd) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.conns {
		_ = c.Close()
	}
	h.conns = nil
}

// get decodes the answer to a viewer; false: the service is not ready.
func (h *herd) get(t *testing.T, path string, v any) bool {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.address+path, nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+h.viewer)
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusServiceUnavailable {
		return false
	}
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.NoError(t, json.NewDecoder(answer.Body).Decode(v))
	return true
}

// countingDatabase is a PostgreSQL of its own that counts what it executes.
type countingDatabase struct {
	url  string
	desk string // for the role whose statements are counted
	conn *pgx.Conn
}

func newCountingDatabase(t *testing.T) *countingDatabase {
	t.Helper()
	server := postgrestest.StartWith(t, postgres.Options{Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}})
	d := &countingDatabase{url: server.URL()}
	var err error
	d.conn, err = pgx.Connect(t.Context(), d.url)
	require.NoError(t, err)
	t.Cleanup(func() { d.conn.Close(context.Background()) })
	_, err = d.conn.Exec(t.Context(), "CREATE EXTENSION pg_stat_statements")
	require.NoError(t, err)
	_, err = d.conn.Exec(t.Context(), "CREATE ROLE desk LOGIN IN ROLE "+pgx.Identifier{d.conn.Config().User}.Sanitize())
	require.NoError(t, err)
	d.desk = d.url + "&user=desk"
	if u, err := url.Parse(d.url); err == nil && u.User != nil {
		u.User = url.User("desk")
		d.desk = u.String()
	}
	return d
}

// statements are how often each was executed.
type statements map[string]int

// count returns what the desk executes during f.
func (d *countingDatabase) count(t *testing.T, f func()) statements {
	t.Helper()
	_, err := d.conn.Exec(t.Context(), "SELECT pg_stat_statements_reset()")
	require.NoError(t, err)
	f()
	rows, err := d.conn.Query(t.Context(), "SELECT query, calls FROM pg_stat_statements WHERE userid = 'desk'::regrole")
	require.NoError(t, err)
	counted := statements{}
	var query string
	var calls int
	_, err = pgx.ForEachRow(rows, []any{&query, &calls}, func() error { counted[query] += calls; return nil })
	require.NoError(t, err)
	return counted
}

func (s statements) total() (n int) {
	for _, calls := range s {
		n += calls
	}
	return n
}

// of counts those with a text in them.
func (s statements) of(text string) (n int) {
	for query, calls := range s {
		if strings.Contains(query, text) {
			n += calls
		}
	}
	return n
}

// beyond is what was executed more often than at another time.
func (s statements) beyond(other statements) statements {
	more := statements{}
	for query, calls := range s {
		if calls > other[query] {
			more[query] = calls - other[query]
		}
	}
	return more
}
