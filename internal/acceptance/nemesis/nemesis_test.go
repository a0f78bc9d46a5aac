package nemesis

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/servertest"
)

// What can be changed from outside:
//
//	NEMESIS=1m            for how long sequences are begun; a few seconds by default
//	NEMESIS_SEED=4711     that sequence alone
//	NEMESIS_PARALLEL=2    sequences at once
const (
	lengthVariable   = "NEMESIS"
	seedVariable     = "NEMESIS_SEED"
	parallelVariable = "NEMESIS_PARALLEL"
)

// Random sequences of everything that goes wrong, against three replicas: see the package's documentation, and check for what has to hold.
func TestNemesis(t *testing.T) {
	t.Parallel()
	program := servertest.Build(t, "", "server")
	if seed := os.Getenv(seedVariable); seed != "" {
		n, err := strconv.ParseUint(seed, 10, 64)
		require.NoError(t, err, seedVariable)
		t.Run("seed="+seed, func(t *testing.T) { runSequence(t, program, n) })
		return
	}
	sequences(t, program, duration(t, lengthVariable, 8*time.Second), number(t, parallelVariable, 2))
	t.Log(ran.String())
}

// sequences runs one after the other, so many at once, for a time; it stops at the first that fails.
func sequences(t *testing.T, program string, length time.Duration, parallel int) {
	// Other sequences each time; what fails tells its seed.
	first := uint64(time.Now().UnixMilli())
	first -= first % uint64(len(scenes))
	var begun atomic.Uint64
	deadline := time.Now().Add(length)
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for time.Now().Before(deadline) && !t.Failed() {
				seed := first + begun.Add(1) - 1
				t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runSequence(t, program, seed) })
			}
		})
	}
	workers.Wait()
}

// runSequence runs one, and tells how to run it again if it fails.
func runSequence(t *testing.T, program string, seed uint64) {
	s := newSequence(t, program, seed)
	s.begin()
	defer s.end()
	faults := s.round(s.duration(2*time.Second, 6*time.Second))
	ran.add(s)
	if len(faults) > 0 {
		s.tell(faults)
		t.Errorf("once more:\n\n\t%s=%d go test -run 'TestNemesis$' ./internal/acceptance/nemesis\n", seedVariable, seed)
	}
}

// tell says what is wrong, and leaves what is needed to understand it.
func (s *sequence) tell(faults []string) {
	t, seed := s.t, s.seed
	for i, f := range faults {
		if i == 20 {
			t.Errorf("… and %d more", len(faults)-i)
			break
		}
		t.Error(f)
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("changeover-nemesis-%d", seed))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, r := range s.replicas {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("replica-%d.log", r.n)), []byte(r.text()), 0o600))
	}
	_, log, _ := s.readLog()
	text := ""
	for _, e := range log {
		text += fmt.Sprintf("%d %d %s %s %s\n", e.seq, e.epoch, e.at.Format(clock), e.event, e.data)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "events.log"), []byte(text), 0o600))
	text = ""
	s.amazon.mu.Lock()
	for _, a := range s.amazon.targets {
		text += fmt.Sprintf("%s %s replica %d %s %s %q\n", a.begun.Format(clock), a.end.Format(clock), a.replica, a.region, a.tdg, a.target)
	}
	s.amazon.mu.Unlock()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "targets.txt"), []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "steps.txt"), []byte(s.story()), 0o600))
	var open []byte
	_ = s.query(func(ctx context.Context, conn *pgx.Conn) error { // what is missing tells nothing more
		return conn.QueryRow(ctx, "SELECT coalesce(json_agg(json_build_array(a, f)), '[]') FROM agents a JOIN failovers f USING (failover_id)").Scan(&open)
	})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "open.json"), open, 0o600))
	t.Errorf("what happened is in %s", dir)
}

// sums counts what all sequences had.
type sums struct{ sequences, events, failovers, ends, frozen atomic.Int64 }

var ran sums

func (n *sums) add(s *sequence) {
	n.sequences.Add(1)
	n.events.Add(int64(s.events))
	n.failovers.Add(int64(s.failovers))
	n.ends.Add(int64(len(s.reigns)))
	n.frozen.Add(int64(len(s.cluster.frozen)))
}

func (n *sums) String() string {
	return fmt.Sprintf("%d sequences, %d events, %d failovers, %d terms of leaders, %d times frozen", n.sequences.Load(), n.events.Load(),
		n.failovers.Load(), n.ends.Load(), n.frozen.Load())
}

func failoverIDs(status int, body []byte) (ids []string) {
	var page struct {
		Items []struct{ FailoverID, Status string }
	}
	if status != http.StatusOK || json.Unmarshal(body, &page) != nil {
		return nil
	}
	for _, f := range page.Items {
		ids = append(ids, f.FailoverID)
	}
	return ids
}

func duration(t testing.TB, variable string, def time.Duration) time.Duration {
	t.Helper()
	if os.Getenv(variable) == "" {
		return def
	}
	d, err := time.ParseDuration(os.Getenv(variable))
	require.NoError(t, err, variable)
	return d
}

func number(t testing.TB, variable string, def int) int {
	t.Helper()
	if os.Getenv(variable) == "" {
		return def
	}
	n, err := strconv.Atoi(os.Getenv(variable))
	require.NoError(t, err, variable)
	return n
}
