package resilience

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"changeover/internal/connectsim"
	"changeover/internal/postgres/postgrestest"
)

// holding makes PostgreSQL stop commits of the leader when it is told to: before they get to the head of the log, or at their COMMIT.
const holding = `
CREATE TABLE hold (point text NOT NULL, at bigint NOT NULL);
INSERT INTO hold VALUES ('', 0);
CREATE SEQUENCE held;
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT point FROM hold) = TG_NAME AND (TG_NAME = 'before_the_head' OR NEW.seq - OLD.seq >= 500) AND nextval('held') = (SELECT at FROM hold) THEN
		WHILE (SELECT point FROM hold) = TG_NAME LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER before_the_head BEFORE UPDATE ON event_log FOR EACH ROW EXECUTE FUNCTION hold();
CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON event_log DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold();
`

// A leader is lost while two transactions of a shift are really under way, both held where they are: what is left has all or nothing of each, in order, and the
// next leader does the rest, once.
func TestALeaderLostWithTwoCommitsUnderWay(t *testing.T) {
	thorough(t)
	t.Parallel()
	const people, batch = 2500, 1000
	for _, tt := range []struct {
		name  string
		point string
		at    int // which commit of the shift is held there
		kept  int // commits
	}{
		{"both before the head of the log", "before_the_head", 1, 0},
		{"the first at its COMMIT", "at_commit", 1, 1},
		{"the second at its COMMIT", "at_commit", 2, 2},
	} {
		for _, lost := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
			t.Run(fmt.Sprintf("%s, %s", tt.name, lost), func(t *testing.T) {
				url := postgrestest.NewDatabase(t)
				execute(t, url, holding)
				c := newCluster(t, connectsim.Config{Seed: 1, Agents: people, RoutingProfiles: 20, UpdateWindow: 1}, url)
				c.start(2, url)
				c.open(20)
				leader := c.leader()
				before := query[int64](t, url, "SELECT seq FROM event_log")
				detected := func() int {
					return query[int](t, url, "SELECT count(*) FROM events WHERE seq > $1 AND type = 'failoverDetected'", before)
				}

				execute(t, url, "UPDATE hold SET point = $1, at = $2", tt.point, tt.at)
				c.shift()
				c.until("one is held, another one is under way", func() bool {
					return query[int](t, url, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL
						AND application_name = 'changeover'`) == 2 && query[bool](t, url, "SELECT is_called AND last_value >= $1 FROM held", tt.at)
				})
				require.Equal(t, max(tt.at-1, 0)*batch, detected(), "what is held is not to be seen")
				leader.signal(lost)
				if lost == syscall.SIGKILL {
					leader.wait()
				}
				execute(t, url, "UPDATE hold SET point = ''")
				c.until("nothing of it is under way any more", func() bool { // PostgreSQL ends what a frozen leader left
					return query[int](t, url, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xid IS NOT NULL
						AND application_name = 'changeover' AND pid <> pg_backend_pid()`) == 0
				})
				require.Equal(t, tt.kept*batch, detected())
				for _, table := range []string{"agents WHERE next_region <> '' OR active_region = '" + c.to + "'", "failovers"} {
					require.Equal(t, tt.kept*batch, query[int](t, url, "SELECT count(*) FROM "+table), table)
				}

				c.within(takeover, "the next leader detects the rest", func() bool { return detected() == people })
				if lost == syscall.SIGSTOP {
					leader.signal(syscall.SIGCONT)
				} else {
					leader.start()
				}
				c.ready()
				require.Equal(t, people, query[int](t, url, "SELECT count(DISTINCT agent_id) FROM failovers WHERE status = 'completed'"))
				require.Equal(t, people, query[int](t, url, "SELECT count(*) FROM failovers"))
				c.settle()
				for _, d := range c.desktops {
					require.Empty(t, d.reasons(), "the desktop of %q was reset", d.agent)
				}
			})
		}
	}
}
