package resilience

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/postgres/postgrestest"
)

// withPrometheus skips a test where there is none.
func withPrometheus(t *testing.T) {
	t.Helper()
	if os.Getenv("PROMETHEUS") == "" {
		t.Skip("PROMETHEUS names no program: make e2e-prometheus")
	}
}

// alertsIn lists the alerts of the committed rules.
func alertsIn(t *testing.T) (names []string) {
	t.Helper()
	rules, err := os.ReadFile("../../deploy/prometheus/rules.yaml")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`(?m)- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1) {
		names = append(names, m[1])
	}
	return names
}

// A real Prometheus scrapes two replicas; a fault is made for each alert, and it is seen firing, and resolving when the fault is over. The rules
// are those that are committed, thirty times as fast; the replicas, PostgreSQL and their clocks are as they are.
func TestAlerts(t *testing.T) {
	withPrometheus(t)
	skewed := buildSkewed(t)
	database := postgrestest.Start(t)
	floor := connectsim.Config{
		Seed: 1, Agents: 300, RoutingProfiles: 3, MoveDelay: 200 * time.Millisecond, Lag: 50 * time.Millisecond, UpdateWindow: 50 * time.Millisecond,
		TDGs: []connectsim.TDGConfig{{Name: "floor", Default: true, Agents: 1}, {Name: "split", Percent: 50}},
	}
	c := newCluster(t, floor, database.URL())
	c.start(2, database.URL(), func(cfg *config.Config) {
		cfg.Poll.MembershipInterval, cfg.Poll.ConflictAfter = time.Second, time.Second
		cfg.Failover.ConfirmWithin, cfg.Failover.RegionDownAfter = 3*time.Second, 2*time.Minute
		cfg.Stream.WriteTimeout = time.Second
	})
	c.open(12)
	p := c.prometheus()
	agents := c.sim.Agents()

	pause(10 * time.Second) // five minutes of health
	for alert := range p.firing() {
		require.Fail(t, "in health there is "+alert)
	}
	fired := map[string]bool{}
	play := func(what string, begin, end func(), alerts ...string) {
		t.Helper()
		began := time.Now()
		begin()
		for _, a := range alerts {
			require.False(t, fired[a], a)
			fired[a] = true
			c.within(2*time.Minute, what+": "+a+" fires", func() bool { return p.firing()[a] })
			t.Logf("%s: %s after %v", what, a, time.Since(began).Round(100*time.Millisecond))
		}
		began = time.Now()
		end()
		for _, a := range alerts {
			c.within(2*time.Minute, what+": "+a+" is resolved", func() bool { return !p.firing()[a] })
			t.Logf("%s: %s resolved after %v", what, a, time.Since(began).Round(100*time.Millisecond))
		}
	}
	works := func(id, region string) func() bool {
		return func() bool {
			a := get[contract.Agent](c.replicas[0], "/v1/agents/"+id)
			return a.State == "active" && a.ActiveRegion != nil && *a.ActiveRegion == region
		}
	}
	sim := func(err error) { t.Helper(); require.NoError(t, err) }

	var unknown []string
	play("a split, and agents who are signed in nowhere", func() {
		for n := range 20 {
			id, err := c.sim.AddAgent(fmt.Sprint("new-", n), "split")
			sim(err)
			sim(c.sim.SetAgentStatus(id, connectsim.StatusOffline))
			unknown = append(unknown, id)
		}
	}, func() {
		for _, id := range unknown {
			sim(c.sim.RemoveAgent(id))
		}
	}, "ChangeoverAgentRegionUnknown")

	standby := func(ready bool) func() {
		return func() {
			for _, a := range agents[20:30] {
				c.replicas[1].post("/v1/agents/"+a.ID+"/reports", map[string]any{
					"standby": map[string]any{"region": other(c.to), "ready": ready, "reason": "third-party cookies are blocked"},
				})
			}
		}
	}
	play("panels that do not come up", standby(false), standby(true), "ChangeoverStandbyNotReady")

	telephony := func(region string) func() {
		return func() {
			c.until("the distribution can be updated", func() bool {
				return c.sim.UpdateTrafficDistribution(c.to, "", connectsim.Distributions{
					Telephony: []connectsim.Share{{Region: region, Percent: 100}, {Region: other(region), Percent: 0}},
				}) == nil
			})
		}
	}
	play("calls are sent elsewhere than agents", telephony(west), telephony(east), "ChangeoverDistributionsDisagree")

	held := agents[40].ID
	var call string
	play("a call that does not end", func() {
		var err error
		call, err = c.sim.StartContact(held, connectsim.ChannelVoice)
		sim(err)
		c.shift()
	}, func() {
		sim(c.sim.EndContact(call))
		sim(c.sim.ClearContact(call))
	}, "ChangeoverPendingTooOld")
	c.ready()

	late := agents[0].ID // who has a desktop
	play("a desktop that stays behind", func() {
		from := c.to
		sim(c.sim.SetAgentStatus(late, connectsim.StatusOffline))
		c.shift()
		c.until("the failover is completed", works(late, c.to))
		done := time.Now()
		c.until("it is time that it works there", func() bool { return time.Since(done) > 4*time.Second })
		c.replicas[0].post("/v1/agents/"+late+"/reports", map[string]any{"activeRegion": from})
	}, func() {
		sim(c.sim.SetAgentStatus(late, connectsim.StatusAvailable))
		c.replicas[0].post("/v1/agents/"+late+"/reports", map[string]any{"activeRegion": c.to})
	}, "ChangeoverShiftStalled")
	c.ready()

	play("the distribution cannot be read, and is changed meanwhile", func() {
		began := time.Now()
		sim(c.sim.SetFault("*", "GetTrafficDistribution", connectsim.FaultInternal))
		for _, a := range []string{"ChangeoverDistributionUnread", "ChangeoverPollerWithoutSuccess"} {
			c.within(2*time.Minute, a+" fires", func() bool { return p.firing()[a] })
			t.Logf("the distribution cannot be read: %s after %v", a, time.Since(began).Round(100*time.Millisecond))
			fired[a] = true
		}
		c.until("it is later than the budget allows", func() bool { return time.Since(began) > 17*time.Second })
		c.shift()
		pause(time.Second)
		c.sim.ClearFaults()
	}, func() {
		for _, a := range []string{"ChangeoverDistributionUnread", "ChangeoverPollerWithoutSuccess"} {
			c.within(2*time.Minute, a+" is resolved", func() bool { return !p.firing()[a] })
		}
	}, "ChangeoverDetectionOverBudget")
	c.ready()

	play("the agents of a Region cannot be read, and are sent away", func() {
		sim(c.sim.SetFault(c.to, "GetCurrentUserData", connectsim.FaultUnavailable))
		c.shift()
	}, c.sim.ClearFaults, "ChangeoverRegionUnhealthy", "ChangeoverShiftStuck")
	c.ready()

	play("a Region that keeps its old answer", func() {
		sim(c.sim.Freeze(c.to, ""))
		c.shift()
	}, func() { sim(c.sim.Thaw(other(c.to), "")) }, "ChangeoverRegionsDisagree")
	c.ready()

	frozen := c.followers()[0]
	play("a replica is frozen for a moment, and tells late", func() {
		frozen.signal(syscall.SIGSTOP)
		c.shift()
		pause(4 * time.Second)
		frozen.signal(syscall.SIGCONT)
	}, func() {}, "ChangeoverEventDeliverySlow")
	c.ready()

	history := c.console().first()
	var deaf []net.Conn
	play("clients that do not read", func() {
		for range 40 {
			deaf = append(deaf, c.replicas[0].deaf("/v1/events", history))
		}
	}, func() {
		for _, conn := range deaf {
			_ = conn.Close()
		}
	}, "ChangeoverStreamsDropping")

	play("PostgreSQL is stopped", database.Stop, database.Start, "ChangeoverStoreErrors")
	c.ready()

	leader := c.leader()
	play("the leader is killed", leader.kill, leader.start, "ChangeoverNoLeader", "ChangeoverReplicaDown")
	c.ready()

	wrong := c.followers()[0]
	right := wrong.program
	play("the clock of a replica's machine is minutes wrong", func() {
		wrong.stop()
		wrong.program, wrong.environment = skewed, []string{skewVariable + "=-420"}
		wrong.start()
	}, func() {
		wrong.stop()
		wrong.program, wrong.environment = right, nil
		wrong.start()
	}, "ChangeoverClockWrong")
	c.ready()

	all := func(s syscall.Signal) func() {
		return func() {
			for _, r := range c.replicas {
				r.signal(s)
			}
		}
	}
	play("no replica answers", all(syscall.SIGSTOP), all(syscall.SIGCONT), "ChangeoverTargetMissing")
	c.ready()

	c.until("nothing fires", func() bool { return len(p.firing()) == 0 })
	require.ElementsMatch(t, alertsIn(t), slices.Collect(maps.Keys(fired)))
}

// deaf opens the stream of all agents, from a cursor on, and never reads.
func (r *replica) deaf(path, after string) net.Conn {
	r.t.Helper()
	dialer := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	conn, err := dialer.DialContext(r.t.Context(), "tcp", r.address)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+r.address+"\r\nAccept: text/event-stream\r\nLast-Event-ID: "+after+"\r\n\r\n")
	require.NoError(r.t, err)
	return conn
}

// Every query of the dashboard has data while a floor is shifted: with calls that hold, desktops, a webhook, and an agent whose standby is not ready.
func TestDashboard(t *testing.T) {
	withPrometheus(t)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(receiver.Close)
	database := postgrestest.NewDatabase(t)
	c := newCluster(t, busyFloor(100), database)
	c.start(2, database, func(cfg *config.Config) {
		cfg.Webhooks = []config.Webhook{{Name: "pager", URL: config.Secret(receiver.URL), SigningKey: config.Secret(strings.Repeat("key", 8))}}
	})
	c.open(12)
	p := c.prometheus()
	c.replicas[0].post("/v1/agents/"+c.sim.Agents()[0].ID+"/reports", map[string]any{
		"standby": map[string]any{"region": west, "ready": false, "reason": "third-party cookies are blocked"},
	})
	c.shift()
	c.settle()
	pause(10 * scrape) // for what is seen over time

	var dashboard struct {
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	readJSON(t, "../../deploy/grafana/changeover.json", &dashboard)
	variables := strings.NewReplacer("$__rate_interval", (4 * scrape).String(), "$job", ".*", "$group", ".*")
	for _, v := range dashboard.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(v.Definition)
		require.NotNil(t, m, v.Definition)
		found, err := p.ask("query", url.Values{"query": {"count by (" + m[2] + ") (" + variables.Replace(m[1]) + ")"}})
		require.NoError(t, err)
		require.NotEmpty(t, found, "the variable %s", v.Name)
		require.NotEmpty(t, found[0].Metric[m[2]], "the variable %s", v.Name)
	}
	queries := 0
	for _, panel := range dashboard.Panels {
		for _, q := range panel.Targets {
			queries++
			expr := variables.Replace(q.Expr)
			require.NotContains(t, expr, "$")
			found, err := p.ask("query_range", url.Values{
				"query": {expr}, "start": {unix(p.began)}, "end": {unix(time.Now())}, "step": {scrape.String()},
			})
			require.NoError(t, err, panel.Title)
			require.True(t, slices.ContainsFunc(found, series.any), "%s has no data: %s", panel.Title, expr)
			for _, label := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(q.LegendFormat, -1) {
				require.True(t, slices.ContainsFunc(found, func(s series) bool { return s.Metric[label[1]] != "" }), "%s names %s, which is not there", panel.Title, label[1])
			}
		}
	}
	t.Logf("%d queries", queries)
	require.Empty(t, p.firing(), "while a floor is shifted as it should be")
	c.metricsPage()
}

// metricsPage compares what the replicas tell with docs/metrics.md: names, labels, words.
func (c *cluster) metricsPage() {
	c.t.Helper()
	type entry struct {
		labels, help string
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(c.t, err)
	page := map[string]entry{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(changeover_[a-z_]+)` \\| (.*) \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		page[m[1]] = entry{strings.ReplaceAll(m[2], "`", ""), m[3]}
	}
	require.NotEmpty(c.t, page)
	silent := maps.Clone(page)
	for _, r := range c.replicas {
		status, body := r.try("/metrics")
		require.Equal(c.t, http.StatusOK, status)
		for _, m := range regexp.MustCompile(`(?m)^# HELP (changeover_[a-z_]+) (.*)$`).FindAllStringSubmatch(string(body), -1) {
			require.Contains(c.t, page, m[1])
			require.Equal(c.t, page[m[1]].help, m[2], m[1])
			samples := regexp.MustCompile(`(?m)^`+m[1]+`(?:_bucket)?(?:{(.*)})? `).FindAllStringSubmatch(string(body), -1)
			require.NotEmpty(c.t, samples, m[1])
			for _, sample := range samples {
				names := []string{}
				for _, l := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(sample[1], -1) {
					if l[1] != "le" {
						names = append(names, l[1])
					}
				}
				want := strings.FieldsFunc(page[m[1]].labels, func(r rune) bool { return r == ',' || r == ' ' })
				require.ElementsMatch(c.t, want, names, m[1])
			}
			delete(silent, m[1])
		}
	}
	require.Empty(c.t, slices.Collect(maps.Keys(silent)), "in docs/metrics.md, and nobody tells them")
}
