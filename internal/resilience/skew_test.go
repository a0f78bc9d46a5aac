package resilience

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/postgres/postgrestest"
)

// skewVariable is by how many seconds the clock of a program that buildSkewed made is ahead.
const skewVariable = "TEST_CLOCK_AHEAD"

// buildSkewed makes the program with another package time, whose Now is wrong by what the environment says: all clocks of the process are,
// those of libraries too, and its timers are not. (Go asks the kernel itself, so that libfaketime cannot help.)
func buildSkewed(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	require.NoError(t, err)
	folder := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	source, err := os.ReadFile(filepath.Join(folder, "time.go"))
	require.NoError(t, err)
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	require.Contains(t, string(source), now)
	dir := t.TempDir()
	replaced := map[string]string{}
	for name, text := range map[string]string{
		"time.go": strings.Replace(string(source), now, now+"\tsec += skew\n", 1),
		"skew.go": fmt.Sprintf(`package time

import "syscall"

var skew = func() (n int64) {
	text, _ := syscall.Getenv(%q)
	negative := len(text) > 0 && text[0] == '-'
	for _, c := range text {
		if c >= '0' && c <= '9' {
			n = 10*n + int64(c-'0')
		}
	}
	if negative {
		n = -n
	}
	return n
}()
`, skewVariable),
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		replaced[filepath.Join(folder, name)] = path
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	require.NoError(t, err)
	file := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o600))
	program := filepath.Join(dir, "server")
	out, err = exec.Command("go", "build", "-overlay", file, "-o", program, "changeover/cmd/server").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return program
}

// A replica whose clock is minutes wrong leads as any other. Windows that begin under one clock and end under another are as long as they
// should be, whoever takes over from whom; what is written has the database's time.
func TestALeaderWhoseClockIsWrong(t *testing.T) {
	thorough(t)
	t.Parallel()
	program := buildSkewed(t)
	for name, ahead := range map[string]time.Duration{"ahead": 7 * time.Minute, "behind": -7 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const confirm, pauseFor, downAfter = 8 * time.Second, 10 * time.Second, 6 * time.Second
			url := postgrestest.NewDatabase(t)
			c := newCluster(t, connectsim.Config{Seed: 1, Agents: 20, RoutingProfiles: 2, MoveDelay: 200 * time.Millisecond, UpdateWindow: 50 * time.Millisecond}, url)
			change := func(cfg *config.Config) {
				cfg.Failover.ConfirmWithin, cfg.Failover.RegionDownAfter = confirm, downAfter
			}
			wrong, right := c.add(url, change), c.add(url, change)
			wrong.program, wrong.environment = program, []string{fmt.Sprintf("%s=%d", skewVariable, int(ahead.Seconds()))}
			wrong.start()
			wrong.worksIn(east)
			right.start()
			c.ready()
			c.open(10)
			require.Equal(t, wrong, c.leader())
			_, metrics := wrong.try("/metrics")
			measured := regexp.MustCompile(`(?m)^changeover_clock_ahead_seconds (\S+)$`).FindSubmatch(metrics)
			require.NotNil(t, measured)
			seconds, err := strconv.ParseFloat(string(measured[1]), 64)
			require.NoError(t, err)
			require.InDelta(t, ahead.Seconds(), seconds, 3)
			require.Contains(t, wrong.text(), "the clocks of this machine and of PostgreSQL's differ")

			// There and back: from the wrong clock to the right one, and the other way round.
			for _, roles := range [][2]*replica{{wrong, right}, {right, wrong}} {
				leader, next := roles[0], roles[1]
				require.Equal(t, leader, c.leader())
				handOver := func() {
					leader.stop()
					c.until("the next one decides", func() bool { return c.leader() == next })
				}

				// An agent's desktop says that it stays, so that the completion waits for confirmWithin.
				agent := c.sim.Agents()[0].ID
				report(t, leader, agent, c.to)
				c.until("it is taken", func() bool { return query[int](t, url, "SELECT count(*) FROM inbox WHERE done_at IS NULL") == 0 })
				c.shift()
				began := time.Now()
				c.until("all others are there", func() bool {
					return query[int](t, url, "SELECT count(*) FROM agents WHERE active_region = $1", c.to) == 19
				})
				handOver()
				c.until("the desktop is not waited for any more", func() bool {
					return query[string](t, url, "SELECT active_region FROM agents WHERE agent_id = $1", agent) == c.to
				})
				requireBetween(t, confirm, confirm+6*time.Second, time.Since(began), "confirmWithin")
				leader.start()
				leader.serves()
				leader, next = next, leader

				// A pause holds all until it ends by itself.
				status, body := post(t, leader, "/v1/failover-groups/main/pause", fmt.Sprintf(`{"reason":"test","ttlSeconds":%d}`, int(pauseFor.Seconds())))
				began = time.Now()
				require.Equal(t, http.StatusAccepted, status, "%s", body)
				c.shift()
				pause(time.Second)
				handOver()
				c.until("the pause is over", func() bool {
					return query[int](t, url, "SELECT count(*) FROM agents WHERE active_region = $1", c.to) == 20
				})
				requireBetween(t, pauseFor-time.Second, pauseFor+6*time.Second, time.Since(began), "the pause")
				leader.start()
				leader.serves()
				leader, next = next, leader

				// A Region that is down: who was idle is let go after regionDownAfter, by the leader of the moment.
				require.NoError(t, c.sim.SetRegionDown(c.to, connectsim.DownUnavailable))
				down := c.to
				c.shift()
				c.until("all are let go", func() bool {
					return query[int](t, url, "SELECT count(*) FROM agents WHERE active_region = $1", c.to) == 20
				})
				require.NoError(t, c.sim.SetRegionDown(down, connectsim.Up))
				require.Equal(t, 20, query[int](t, url, `SELECT count(*) FROM failovers WHERE evidence = 'lastKnown' AND from_region = $1
					AND completed_at - detected_at BETWEEN $2 AND $2::interval + interval '14 s'`, down, downAfter))
				handOver()
				leader.start()
				leader.serves()
			}
			c.settle()
			require.Zero(t, query[int](t, url, "SELECT count(*) FROM events WHERE abs(extract(epoch FROM time - committed_at)) > 2"))
			require.Zero(t, query[int](t, url, `SELECT count(*) FROM (SELECT time - lag(time) OVER (PARTITION BY agent_id ORDER BY seq) AS step FROM events) e
				WHERE step < interval '0'`), "time goes back")
			for _, d := range c.desktops {
				require.Empty(t, d.reasons(), "the desktop of %q was reset", d.agent)
			}
		})
	}
}

func requireBetween(t *testing.T, least, most, took time.Duration, what string) {
	t.Helper()
	require.GreaterOrEqual(t, took, least, what)
	require.LessOrEqual(t, took, most, what)
}

func report(t *testing.T, r *replica, agent, region string) {
	t.Helper()
	status, body := post(t, r, "/v1/agents/"+agent+"/reports", fmt.Sprintf(`{"activeRegion":%q}`, region))
	require.Equal(t, http.StatusAccepted, status, "%s", body)
}

func post(t *testing.T, r *replica, path, body string) (status int, answer []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.address+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	return r.send(request)
}
