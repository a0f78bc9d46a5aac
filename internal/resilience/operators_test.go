package resilience

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/connectsim"
	"changeover/internal/postgres/postgrestest"
)

// Operators at work at once, at two replicas: two bulk forces that overstep the rule together, one that is sent many times with one Idempotency-Key, one
// whose sender goes away in the middle, and one whose leader is killed. Each agent is forced once, by one of them, and the audit says so in one whole chain.
func TestOperatorsAtOnce(t *testing.T) {
	thorough(t)
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	c := newCluster(t, connectsim.Config{Seed: 1, Agents: 100, RoutingProfiles: 2, MoveDelay: 200 * time.Millisecond, UpdateWindow: 50 * time.Millisecond}, url)
	c.start(2, url)
	for _, a := range c.sim.Agents()[:60] {
		_, err := c.sim.StartContact(a.ID, connectsim.ChannelVoice)
		require.NoError(t, err)
	}
	c.shift()
	c.until("those who talk wait", func() bool {
		return query[int](t, url, "SELECT count(*) FROM failovers WHERE status = 'pending'") == 60
	})
	open := get[contract.OpenFailoverList](c.replicas[0], "/v1/open-failovers?limit=1000").Items
	body := func(reason string, fraction float64, some []contract.OpenFailover) string {
		ids := make([]string, len(some))
		for i, f := range some {
			ids[i] = f.FailoverID
		}
		b, err := json.Marshal(map[string]any{"failoverGroup": "main", "reason": reason, "failoverIds": ids, "maxFraction": fraction})
		require.NoError(t, err)
		return string(b)
	}
	forced := func(reason string) int {
		return query[int](t, url, "SELECT count(*) FROM failovers WHERE forced AND forced_reason = $1 AND status = 'completed'", reason)
	}
	accepted := func(reason string) int {
		return query[int](t, url, "SELECT count(*) FROM audit WHERE reason = $1 AND outcome = 'accepted'", reason)
	}
	send := func(r *replica, body, key string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.address+"/v1/failovers/force", strings.NewReader(body))
		if err != nil {
			return 0, err.Error()
		}
		request.Header.Set("Content-Type", "application/json")
		if key != "" {
			request.Header.Set("Idempotency-Key", key)
		}
		status, answer := r.send(request)
		return status, string(answer)
	}
	atOnce := func(n int, do func(i int) (int, string)) map[int]int {
		var mu sync.Mutex
		statuses := map[int]int{}
		var all sync.WaitGroup
		begin := make(chan struct{})
		for i := range n {
			all.Go(func() {
				<-begin
				status, _ := do(i)
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			})
		}
		close(begin)
		all.Wait()
		return statuses
	}

	// 15 and 15 of 100, where 20 are allowed.
	statuses := atOnce(2, func(i int) (int, string) {
		return send(c.replicas[i], body(fmt.Sprint("operator ", i), 0.2, open[15*i:15*i+15]), "")
	})
	require.Equal(t, map[int]int{http.StatusAccepted: 1, http.StatusUnprocessableEntity: 1}, statuses)
	require.ElementsMatch(t, []int{0, 15}, []int{forced("operator 0"), forced("operator 1")})

	// One key, ten times at each replica.
	once := body("once", 1, open[30:35])
	statuses = atOnce(20, func(i int) (int, string) { return send(c.replicas[i%2], once, "key-1") })
	require.Equal(t, 20, statuses[http.StatusAccepted]+statuses[http.StatusConflict], "%v", statuses)
	require.NotZero(t, statuses[http.StatusAccepted])
	require.Equal(t, []int{5, 1}, []int{forced("once"), accepted("once")})
	status, answer := send(c.replicas[1], once, "key-1")
	require.Equal(t, http.StatusAccepted, status, answer)
	require.Contains(t, answer, `"forced":5`)

	// The sender goes away as soon as it has sent, and comes back to the other replica.
	gone := body("gone", 1, open[35:40])
	conn, err := net.Dial("tcp", c.replicas[0].address)
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "POST /v1/failovers/force HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nIdempotency-Key: key-2\r\nContent-Length: %d\r\n\r\n%s", c.replicas[0].address, len(gone), gone)
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
	require.NoError(t, conn.Close())
	c.until("the answer is there for whoever asks again", func() bool {
		status, answer = send(c.replicas[1], gone, "key-2")
		return status == http.StatusAccepted && strings.Contains(answer, `"forced":5`)
	})
	require.Equal(t, []int{5, 1}, []int{forced("gone"), accepted("gone")})

	// The leader is killed while it is asked, by way of the other one.
	leader, follower := c.leader(), c.followers()[0]
	killed := body("killed", 1, open[40:60])
	statuses = atOnce(2, func(i int) (int, string) {
		if i == 0 {
			leader.kill()
			return 0, ""
		}
		return send(follower, killed, "key-3")
	})
	require.Equal(t, 1, statuses[http.StatusAccepted], "%v", statuses)
	c.until("they are forced by the next one", func() bool { return forced("killed") == 20 })
	require.Equal(t, 1, accepted("killed"))
	leader.start()
	c.until("both serve", func() bool { status, _ := leader.try("/readyz"); return status == http.StatusOK })

	require.Zero(t, query[int](t, url, "SELECT count(*) FROM (SELECT 1 FROM events WHERE type = 'failoverCompleted' GROUP BY data ->> 'failoverId' HAVING count(*) > 1) twice"))
	require.Equal(t, 45, query[int](t, url, "SELECT count(*) FROM failovers WHERE forced"))
	out, err := exec.Command(leader.program, "audit", "verify", "--config", leader.file).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
