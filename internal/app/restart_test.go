package app

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
