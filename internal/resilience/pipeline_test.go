package resilience

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/connectsim"
	"changeover/internal/postgres/postgrestest"
)

// holding makes PostgreSQL stop commits of the leader when it is told to: before they get to the head of the log, or at their COMMIT.
const holding = `
CREATE TABLE hold (point text NOT NULL);
INSERT INTO hold VALUES ('');
CREATE SEQUENCE held;
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	-- Only transactions of the shift count, each once: when it counts itself, or when it sets the head.
	IF (SELECT point FROM hold) = TG_NAME AND (CASE TG_NAME
		WHEN 'before_the_head' THEN NEW.seq = OLD.seq AND (SELECT count(*) FROM failovers WHERE xmin = pg_current_xact_id()::xid) >= 500
		ELSE NEW.seq - OLD.seq >= 500
	END) AND nextval('held') = 2 THEN
		WHILE (SELECT point FROM hold) = TG_NAME LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER before_the_head BEFORE UPDATE ON event_log FOR EACH ROW EXECUTE FUNCTION hold();
CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON event_log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold();
`

// A leader is lost while three transactions of a shift are really under way, all held where they are: what is left has all or nothing of each, in order, and the
// next leader does the rest, once.
func TestALeaderLostWithCommitsUnderWay(t *testing.T) {
	thorough(t)
	t.Parallel()
	const people, batch, underWayAtOnce = 4500, 1000, 3
	// The first transaction of a shift, with the group's new distribution, has no other beside it. So the second is held, while the third and the fourth are under way.
	for _, tt := range []struct {
		name, point string
		kept        int // transactions
	}{
		{"all before the head of the log", "before_the_head", 1},
		{"one at its COMMIT", "at_commit", 2},
	} {
		for _, lost := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
			t.Run(fmt.Sprintf("%s, %s", tt.name, lost), func(t *testing.T) {
				url := postgrestest.NewDatabase(t)
				execute(t, url, holding)
				c := newCluster(t, connectsim.Config{Seed: 1, Agents: people, RoutingProfiles: 20, UpdateWindow: 1}, url)
				c.start(2, url, func(cfg *config.Config) { // what is written of a group or a Region has no other transaction beside it, either
					cfg.Poll.DistributionInterval, cfg.Poll.AgentInterval = 5*time.Second, time.Minute
				})
				c.open(20)
				leader := c.leader()
				before := query[int64](t, url, "SELECT seq FROM event_log")
				detected := func() int {
					return query[int](t, url, "SELECT count(*) FROM events WHERE seq > $1 AND type = 'failoverDetected'", before)
				}
				var sessions []int32
				underWay := func() bool {
					sessions = query[[]int32](t, url, `SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE datname = current_database()
						AND backend_xid IS NOT NULL AND (wait_event = 'PgSleep' OR state = 'idle in transaction')`)
					return len(sessions) == underWayAtOnce && query[bool](t, url, "SELECT last_value = 2 FROM held") && detected() == batch
				}
				for tries := 1; ; tries++ { // if a Region's state has to be written, too, they come one after the other
					execute(t, url, "UPDATE hold SET point = $1", tt.point)
					c.shift()
					for deadline := time.Now().Add(12 * time.Second); !underWay() && time.Now().Before(deadline); {
						pause(5 * time.Millisecond)
					}
					if underWay() {
						break
					}
					require.Less(t, tries, 5, "%d transactions never were under way", underWayAtOnce)
					execute(t, url, "UPDATE hold SET point = ''")
					c.ready()
					execute(t, url, "ALTER SEQUENCE held RESTART")
					leader, before = c.leader(), query[int64](t, url, "SELECT seq FROM event_log")
				}
				leader.signal(lost)
				if lost == syscall.SIGKILL {
					leader.wait()
				}
				execute(t, url, "UPDATE hold SET point = ''")
				c.until("none is under way any more", func() bool { // PostgreSQL ends what a frozen leader left
					return query[int](t, url, "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ($1) AND backend_xid IS NOT NULL", sessions) == 0
				})
				require.Equal(t, tt.kept*batch, detected())
				require.Equal(t, tt.kept*batch, query[int](t, url, "SELECT count(*) FROM agents WHERE next_region <> '' OR active_region = $1", c.to))

				c.within(takeover, "the next leader detects the rest", func() bool { return detected() == people })
				if lost == syscall.SIGSTOP {
					leader.signal(syscall.SIGCONT)
				} else {
					leader.start()
				}
				c.ready()
				require.Equal(t, people, detected())
				require.Equal(t, people, query[int](t, url, "SELECT count(DISTINCT agent_id) FROM events WHERE seq > $1 AND type = 'failoverCompleted'", before))
				c.settle()
				for _, d := range c.desktops {
					require.Empty(t, d.reasons(), "the desktop of %q was reset", d.agent)
				}
			})
		}
	}
}
