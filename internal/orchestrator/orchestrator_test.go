package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// A leader renews, runs its readers, and gives the lease back when it is stopped, so that the next one begins within a
// second or so.
func TestLeadsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		synctest.Wait()
		require.True(t, a.Status().Deciding)
		b := start(t, "b", m)
		defer b.stop()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.True(t, a.Status().Leading)
		require.False(t, b.Status().Leading)
		require.EqualValues(t, 1, a.people.running.Load())
		require.Zero(t, b.people.runs.Load(), "only the leader reads")
		epoch := a.Status().Epoch

		a.stop()
		require.Zero(t, a.people.running.Load()+a.distributions.running.Load())
		require.False(t, a.Status().Leading)
		stopped := time.Now()
		until(t, 2*time.Second, "the other leads", func() bool { return b.Status().Deciding })
		require.Greater(t, b.Status().Epoch, epoch)
		require.Less(t, time.Since(stopped), 1500*time.Millisecond)
	})
}

// R19: a leader whose renewals hang steps down before its lease can be taken, and another one decides within 15 s.
func TestR19StepsDownWhenRenewalsHang(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]time.Duration{"for longer than the lease": time.Hour, "for a while": 6 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				cut := &frozen{memory: m}
				a := start(t, "a", cut)
				synctest.Wait()
				require.True(t, a.Status().Deciding)
				b := start(t, "b", m)
				defer func() {
					cut.thaw()
					a.stop()
					b.stop()
				}()
				time.Sleep(20 * time.Second)
				synctest.Wait()
				cut.freeze(hang)
				begun := time.Now()
				for time.Since(begun) < 15*time.Second {
					m.mu.Lock()
					free := !time.Now().Before(m.expires)
					m.mu.Unlock()
					if free {
						require.False(t, a.Status().Leading, "it leads although its lease has expired")
						require.Zero(t, a.people.running.Load())
					}
					time.Sleep(50 * time.Millisecond)
					synctest.Wait()
				}
				if hang < 7*time.Second {
					require.True(t, a.Status().Deciding, "it came back in time")
				} else {
					require.True(t, b.Status().Deciding)
					require.False(t, a.Status().Leading)
				}
			})
		})
	}
}

// R19: a leader that has been replaced steps down as soon as it hears of it, whichever call tells.
func TestR19StepsDownWhenFenced(t *testing.T) {
	t.Parallel()
	for _, tells := range []string{"commit", "renewal"} {
		t.Run(tells, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				a := start(t, "a", m)
				defer a.stop()
				synctest.Wait()
				a.floor("one")
				commits := len(m.commits)
				m.with(func() { m.epoch++; m.holder, m.expires = "other", time.Now().Add(time.Hour) })
				if tells == "commit" {
					a.distribute(west)
					synctest.Wait()
				} else {
					time.Sleep(renewEvery + time.Millisecond)
					synctest.Wait()
				}
				require.False(t, a.Status().Leading)
				require.Zero(t, a.people.running.Load())
				require.Len(t, m.commits, commits, "a fenced leader commits nothing")
				require.Contains(t, a.Status().LastError, "another leader")
			})
		})
	}
}

// What was observed goes through the core into the store, and what the core wants read goes to the readers.
func TestDecides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		defer a.stop()
		synctest.Wait()
		a.floor("idle", "busy")
		a.people.say <- on("busy", "call")
		synctest.Wait()
		a.distribute(west)
		synctest.Wait()
		require.Len(t, a.people.lastWork().Drain, 2)
		a.people.say <- read("idle")
		a.people.say <- on("busy", "call")
		synctest.Wait()
		require.Equal(t, []failover.EventType{failover.EventFailoverDetected, failover.EventFailoverCompleted}, types(m.events(), "idle"))
		require.Equal(t, []failover.EventType{failover.EventFailoverDetected, failover.EventFailoverPending}, types(m.events(), "busy"))
		a.people.say <- read("busy")
		synctest.Wait()
		require.Equal(t, failover.EventFailoverCompleted, types(m.events(), "busy")[2])
		require.Empty(t, a.people.lastWork().Drain)
	})
}

// R3: a change missed while nobody led is detected at the start, and nothing is detected twice.
func TestR3RestartDetectsWhatWasMissed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		synctest.Wait()
		a.floor("one")
		a.stop()
		b := start(t, "b", m)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, tdgID, b.distributions.known[0].ID, "distributions are read at once, of the groups that are stored")
		b.distribute(west)
		synctest.Wait()
		require.Equal(t, []failover.EventType{failover.EventFailoverDetected}, types(m.events(), "one"))
		b.stop()
		c := start(t, "c", m)
		defer c.stop()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		c.distribute(west)
		synctest.Wait()
		require.Len(t, c.people.lastWork().Drain, 1)
		c.people.say <- read("one")
		synctest.Wait()
		require.Equal(t, []failover.EventType{failover.EventFailoverDetected, failover.EventFailoverCompleted}, types(m.events(), "one"))
	})
}

// Observations that wait share a commit. A detection is committed at once, by itself, and the readers hear of it before.
func TestQueuedObservationsShareACommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		defer a.stop()
		synctest.Wait()
		ids := numbered("agent-", 60)
		a.floor(ids...)
		gate := make(chan struct{})
		m.with(func() {
			m.before = func(operation string) {
				if operation == "commit" {
					<-gate
				}
			}
		})
		a.people.say <- on(ids[0], "first")
		synctest.Wait() // its commit waits at the gate
		commits := len(m.commits)
		for i, id := range ids[1:41] {
			a.people.say <- on(id, fmt.Sprint("call-", i))
		}
		synctest.Wait()
		gate <- struct{}{}
		synctest.Wait()
		gate <- struct{}{}
		synctest.Wait()
		require.Len(t, m.commits, commits+2, "forty pages in one commit")
		require.Len(t, m.commits[commits+1].Agents, 40)

		a.people.say <- on(ids[41], "another")
		time.Sleep(time.Millisecond) // what was read before the detection is no evidence
		synctest.Wait()
		works := len(a.people.work)
		for _, id := range ids[42:50] {
			a.people.say <- on(id, "call-of-"+id)
		}
		a.distribute(west)
		synctest.Wait()
		gate <- struct{}{}
		synctest.Wait()
		require.Greater(t, len(a.people.work), works, "the readers are told before the commit")
		require.Len(t, a.people.lastWork().Drain, 60)
		gate <- struct{}{}
		synctest.Wait()
		last := m.commits[len(m.commits)-1]
		// Of all but the agent whose row the commit before wrote: that one's follows.
		require.Equal(t, 59, len(last.Events), "the detection went before the pages that were observed earlier") //nolint:testifylint // Len would print them all
		m.with(func() { m.before = nil })
		close(gate)
	})
}

// The number of transactions of a shift, each a fixed number of statements (package store tests that), grows with the batches, not with
// the agents.
func TestTransactionsOfAShift(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		defer a.stop()
		synctest.Wait()
		ids := numbered("agent-", 5*maxAgents)
		a.floor(ids...)
		commits := len(m.commits)
		a.distribute(west)
		time.Sleep(time.Millisecond)
		a.people.say <- failover.PassComplete{Group: group, Region: east, StartedAt: time.Now(), FinishedAt: time.Now(), Filtered: true}
		synctest.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		require.LessOrEqual(t, len(m.commits)-commits, 10, "five for the detection, five for the completion")
		heard := map[string][]failover.EventType{}
		for _, e := range m.commits[commits:] {
			require.LessOrEqual(t, len(e.Agents), maxAgents)
			for _, ev := range e.Events {
				heard[ev.AgentID] = append(heard[ev.AgentID], ev.Type)
			}
		}
		for _, id := range ids {
			if !slices.Equal(heard[id], []failover.EventType{failover.EventFailoverDetected, failover.EventFailoverCompleted}) {
				t.Fatalf("%s heard %v", id, heard[id])
			}
		}
	})
}

// A full queue makes its readers wait, and loses nothing.
func TestFullQueueMakesReadersWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		defer a.stop()
		synctest.Wait()
		ids := numbered("agent-", 500)
		a.floor(ids...)
		gate := make(chan struct{})
		m.with(func() {
			m.before = func(operation string) {
				if operation == "commit" {
					<-gate
				}
			}
		})
		before := a.people.emitted.Load()
		for _, id := range ids {
			a.people.say <- on(id, "call-of-"+id)
		}
		synctest.Wait()
		require.LessOrEqual(t, a.people.emitted.Load()-before, int32(maxSteps+queued+1))
		close(gate)
		synctest.Wait()
		require.EqualValues(t, 500, a.people.emitted.Load()-before)
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, id := range ids {
			require.Contains(t, string(m.agents[id]), "call-of-"+id)
		}
	})
}

// After a failed commit memory is thrown away with everything that was observed for it: a read that claims to be complete may
// have lost a page.
func TestFailedCommitDiscardsMemoryAndObservations(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"the commit", "only its answer"} {
		t.Run(lost, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				a := start(t, "a", m)
				defer a.stop()
				synctest.Wait()
				a.floor("one", "two")
				loads, runs, epoch := m.loads, a.people.runs.Load(), a.Status().Epoch
				once := func() func(int, failover.Effects) error {
					failed := false
					return func(int, failover.Effects) error {
						if failed {
							return nil
						}
						failed = true
						return errors.New("connection reset")
					}
				}()
				m.with(func() {
					if lost == "the commit" {
						m.failCommit = once
					} else {
						m.afterCommit = once
					}
				})
				a.distribute(west)
				synctest.Wait()
				require.Equal(t, loads+1, m.loads)
				require.Equal(t, runs+1, a.people.runs.Load(), "the readers begin anew")
				require.True(t, a.Status().Leading && a.Status().Deciding)
				require.Contains(t, a.Status().LastError, "connection reset")
				require.Greater(t, a.Status().Epoch, epoch, "what the database kept is not known: its numbers count in a new epoch")
				a.distribute(west)
				synctest.Wait()
				for _, id := range []string{"one", "two"} {
					require.Equal(t, []failover.EventType{failover.EventFailoverDetected}, types(m.events(), id), "neither lost nor doubled")
				}
			})
		})
	}
}

// Postgres away: nothing is decided; within 5 s of its return the leader decides again, also after its lease has expired.
func TestRecoversWithin5sOfTheDatabase(t *testing.T) {
	t.Parallel()
	for _, away := range []time.Duration{3 * time.Second, 20 * time.Second, 10 * time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				a := start(t, "a", m)
				defer a.stop()
				synctest.Wait()
				a.floor("one")
				m.with(func() { m.away = true })
				a.distribute(west)
				time.Sleep(away)
				synctest.Wait()
				require.False(t, a.Status().Deciding)
				require.Zero(t, a.people.running.Load(), "nothing is read for nobody")
				m.with(func() { m.away = false })
				back := time.Now()
				until(t, 10*time.Second, "it decides", func() bool { return a.Status().Deciding })
				require.Less(t, time.Since(back), 5*time.Second)
				a.distribute(west)
				synctest.Wait()
				require.Equal(t, []failover.EventType{failover.EventFailoverDetected}, types(m.events(), "one"))
			})
		})
	}
}

// Commands are answered once each, in order, malformed ones with what is wrong.
func TestInbox(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		defer a.stop()
		synctest.Wait()
		a.floor("one", "two")
		a.people.say <- on("one", "call")
		a.people.say <- on("two", "chat")
		synctest.Wait()
		a.distribute(west)
		synctest.Wait()
		id := ""
		for _, e := range m.events() {
			if e.AgentID == "one" && e.Type == failover.EventFailoverDetected {
				id = e.FailoverID
			}
		}
		command := func(n int64, kind string, payload any) store.Command {
			b, err := json.Marshal(payload)
			require.NoError(t, err)
			return store.Command{ID: n, Kind: kind, Payload: b, By: "operator"}
		}
		m.with(func() {
			m.inbox = []store.Command{
				{ID: 1, Kind: store.CommandForce, Payload: json.RawMessage(`{"FailoverID":17}`)},
				{ID: 2, Kind: store.CommandForce, Payload: json.RawMessage(`{}`)},
				{ID: 3, Kind: "shutdown", Payload: json.RawMessage(`{}`)},
				{ID: 4, Kind: store.CommandReport, Payload: json.RawMessage(`[]`)},
				{ID: 5, Kind: store.CommandReport, Payload: json.RawMessage(`{"ActiveRegion":"us-east-1"}`)},
				{ID: 6, Kind: store.CommandBulkForce, Payload: json.RawMessage(`{"MaxFraction":-1}`)},
				{ID: 7, Kind: store.CommandBulkForce, Payload: json.RawMessage(`"all"`)},
				{ID: 17, Kind: store.CommandForceSelected, Payload: json.RawMessage(`{"Group":"main"}`)},
				{ID: 18, Kind: store.CommandBulkForce, Payload: json.RawMessage(`{"FailoverIDs":["x"]}`)},
				{ID: 19, Kind: store.CommandBulkForce, Payload: json.RawMessage(`{"Channel":"CHAT"}`)},
				{ID: 20, Kind: store.CommandForceSelected, Payload: json.RawMessage(`{"FailoverIDs":["x"],"Phase":"talking"}`)},
				{ID: 21, Kind: store.CommandForceNarrow, Payload: json.RawMessage(`{"FailoverIDs":["x"]}`)},
				command(8, store.CommandForce, failover.Force{CommandID: 99, FailoverID: id, By: "somebody else", Reason: "tea"}),
				command(9, store.CommandForce, failover.Force{FailoverID: id}),
				command(10, store.CommandReport, failover.Report{AgentID: "nobody"}),
				command(11, store.CommandReport, failover.Report{AgentID: "two", ActiveRegion: east}),
				command(12, store.CommandBulkForce, failover.BulkForce{Group: group, Reason: "fire", MaxFraction: 1}),
				{ID: 13, Kind: store.CommandPause, Payload: json.RawMessage(`{"Group":"main","TTL":0}`)},
				command(14, store.CommandPause, failover.PauseGroup{Group: group, TTL: time.Minute, By: "somebody else", Reason: "smoke"}),
				command(15, store.CommandResume, failover.ResumeGroup{Group: group}),
				command(16, store.CommandResume, failover.ResumeGroup{Group: "another"}),
			}
		})
		a.doorbell <- struct{}{}
		synctest.Wait()
		require.Len(t, m.results, 21)
		for n := int64(1); n <= 7; n++ {
			require.Equal(t, failover.OutcomeRefused, m.results[n].Outcome)
			require.NotEmpty(t, m.results[n].Detail)
		}
		require.Equal(t, failover.OutcomeDone, m.results[8].Outcome)
		require.Equal(t, failover.OutcomeConflict, m.results[9].Outcome, "forced already")
		require.Equal(t, failover.OutcomeNotFound, m.results[10].Outcome)
		require.Equal(t, failover.OutcomeDone, m.results[11].Outcome)
		require.Equal(t, 1, m.results[12].Forced, "the one that is left")
		for n, want := range map[int64]failover.Outcome{
			13: failover.OutcomeRefused, 17: failover.OutcomeRefused, 18: failover.OutcomeRefused, 19: failover.OutcomeRefused, 20: failover.OutcomeRefused, 21: failover.OutcomeRefused, 14: failover.OutcomeDone, 15: failover.OutcomeDone, 16: failover.OutcomeNotFound,
		} {
			require.Equal(t, want, m.results[n].Outcome, n)
		}
		forced := 0
		for _, e := range m.events() {
			if e.FailoverID == id && e.Forced {
				forced++
			}
		}
		require.Equal(t, 1, forced)
		last := m.commits[len(m.commits)-1].Failovers
		i := slices.IndexFunc(last, func(f *failover.Failover) bool { return f.ID == id })
		require.Equal(t, "operator", last[i].ForcedBy, "who it was is taken from the inbox")
		require.Equal(t, "tea", last[i].ForcedReason)
	})
}

// Without a doorbell the inbox is looked at each second; more commands than one batch are taken without a pause.
func TestInboxIsPolled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		defer a.stop()
		synctest.Wait()
		a.floor("one")
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		m.with(func() {
			for n := range int64(3*inboxBatch + 1) {
				m.inbox = append(m.inbox, store.Command{ID: n + 1, Kind: store.CommandReport, Payload: json.RawMessage(`{"AgentID":"one"}`)})
			}
		})
		time.Sleep(inboxEvery)
		synctest.Wait()
		require.Len(t, m.results, 3*inboxBatch+1)
		m.with(func() { m.polled = 0 })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.InDelta(t, 10, m.polled, 1)
	})
}

// R2: members are listed where there are several traffic distribution groups; one has every user as its member.
func TestR2RostersAreListedWhereTheyMatter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		synctest.Wait()
		a.floor("one")
		for _, told := range a.people.rosters {
			require.Empty(t, told)
		}
		list := failover.TDGsListed{Group: group, At: time.Now(), TDGs: []failover.TDGInfo{
			{ID: tdgID, ARN: "arn:1", Status: "ACTIVE", IsDefault: true}, {ID: "second", ARN: "arn:2", Status: "ACTIVE"},
		}}
		a.distributions.say <- list
		synctest.Wait()
		told := a.people.rosters[len(a.people.rosters)-1]
		require.Len(t, told, 2)
		n := len(a.people.rosters)
		a.people.say <- failover.RosterPage{Group: group, TDG: "second", Pass: 1, NextToken: "page-2", UserIDs: []string{"two"}}
		a.distributions.say <- list
		synctest.Wait()
		require.Len(t, a.people.rosters, n, "told again only when it changes")
		a.stop()

		b := start(t, "b", m)
		defer b.stop()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		told = b.people.rosters[0]
		i := slices.IndexFunc(told, func(r agentsRoster) bool { return r.TDG == "second" })
		require.Equal(t, "page-2", told[i].Progress.NextToken, "it goes on where the last leader stopped")
	})
}

// R12: which agents have an open stream is asked every few seconds, and stands while it cannot be asked.
func TestR12StreamingAgents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		defer a.stop()
		synctest.Wait()
		a.floor("one", "two")
		m.with(func() { m.stream = map[string]time.Time{"one": time.Now()} })
		time.Sleep(streamingEvery + time.Second)
		synctest.Wait()
		a.distribute(west)
		synctest.Wait()
		a.people.say <- read("one")
		a.people.say <- read("two")
		synctest.Wait()
		signedIn := map[string]bool{}
		for _, c := range m.commits {
			for _, f := range c.Failovers {
				if f.Status == failover.Completed {
					signedIn[f.AgentID] = f.SignedIn
				}
			}
		}
		require.Equal(t, map[string]bool{"one": true, "two": false}, signedIn)
	})
}

// R12: a new leader knows who has an open stream before it judges anybody: what was missed is found, and perhaps completed, at once.
func TestR12StreamingAgentsAreKnownAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		synctest.Wait()
		a.floor("one")
		a.stop()
		var did []string
		m.with(func() {
			m.stream = map[string]time.Time{"one": time.Now()}
			m.before = func(operation string) { m.with(func() { did = append(did, operation) }) }
		})
		b := start(t, "b", m)
		defer b.stop()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		b.distribute(west)
		synctest.Wait()
		b.people.say <- read("one")
		synctest.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		streaming := slices.Index(did, "streaming")
		require.Greater(t, streaming, slices.Index(did, "load"))
		require.Less(t, streaming, slices.Index(did, "commit"))
		f := m.commits[len(m.commits)-1].Failovers
		require.Equal(t, failover.Completed, f[0].Status)
		require.True(t, f[0].SignedIn)
	})
}

func TestHealthIsSaved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		defer a.stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.InDelta(t, 20, m.health, 2)
		m.with(func() { m.epoch++; m.expires = time.Now().Add(time.Hour) })
		time.Sleep(healthEvery)
		synctest.Wait()
		require.False(t, a.Status().Leading, "also this tells that another one leads")
	})
}

// The leader keeps the database tidy each hour: partitions of the event log, and what nobody asks for any more.
func TestTidiesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		calls := map[string]int{}
		m.before = func(operation string) { m.with(func() { calls[operation]++ }) }
		a := start(t, "a", m)
		time.Sleep(5 * time.Hour)
		a.stop()
		for _, operation := range []string{"partitions", "prune"} {
			require.GreaterOrEqual(t, calls[operation], 4, operation)
			require.LessOrEqual(t, calls[operation], 8, operation)
		}
	})
}

// The gauges of state come from the leader alone; the counters stay.
func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		synctest.Wait()
		a.floor("idle", "busy", "back")
		a.people.say <- on("busy", "call", "second")
		synctest.Wait()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		a.distribute(west)
		synctest.Wait()
		a.people.say <- on("busy", "call")
		a.people.say <- read("idle")
		synctest.Wait()
		compare := func(names []string, want string) {
			t.Helper()
			want = strings.ReplaceAll(want, "\t", "")
			require.NoError(t, testutil.GatherAndCompare(a.registry, strings.NewReader(want), names...))
		}
		gauges := []string{"changeover_agents", "changeover_failovers_pending", "changeover_failovers_stalled", "changeover_open_contacts", "changeover_distribution_mismatch"}
		compare(gauges, `
			# HELP changeover_agents Agents by state and active region; an empty region is not known.
			# TYPE changeover_agents gauge
			changeover_agents{active_region="",failover_group="main",state="unknown"} 0
			changeover_agents{active_region="us-east-1",failover_group="main",state="active"} 0
			changeover_agents{active_region="us-east-1",failover_group="main",state="detected"} 1
			changeover_agents{active_region="us-east-1",failover_group="main",state="pending"} 1
			changeover_agents{active_region="us-west-2",failover_group="main",state="active"} 1
			# HELP changeover_distribution_mismatch 1 while telephony and agents of a traffic distribution group are distributed differently.
			# TYPE changeover_distribution_mismatch gauge
			changeover_distribution_mismatch{failover_group="main",tdg="0aaaaaaa-0000-0000-0000-000000000001"} 0
			# HELP changeover_failovers_pending Failovers that open voice or chat contacts hold.
			# TYPE changeover_failovers_pending gauge
			changeover_failovers_pending{failover_group="main",to_region="us-east-1"} 0
			changeover_failovers_pending{failover_group="main",to_region="us-west-2"} 1
			# HELP changeover_failovers_stalled Completed failovers whose agents were not seen in the new region in time, and not since.
			# TYPE changeover_failovers_stalled gauge
			changeover_failovers_stalled{failover_group="main"} 0
			# HELP changeover_open_contacts Contacts in the agents' lists; with global routing an empty region is not told.
			# TYPE changeover_open_contacts gauge
			changeover_open_contacts{channel="VOICE",failover_group="main",region="us-east-1"} 1
		`)
		oldest := func(at int64) {
			t.Helper()
			compare([]string{"changeover_failover_oldest_pending_timestamp_seconds"}, fmt.Sprintf(`
				# HELP changeover_failover_oldest_pending_timestamp_seconds When the failover that has been pending longest became pending. 0: none is.
				# TYPE changeover_failover_oldest_pending_timestamp_seconds gauge
				changeover_failover_oldest_pending_timestamp_seconds{failover_group="main"} %d
			`, at))
		}
		pendingAt := time.Now().Unix()
		time.Sleep(time.Minute)
		synctest.Wait()
		oldest(pendingAt)
		a.distribute(east)
		synctest.Wait()
		oldest(0)
		compare([]string{"changeover_failovers_total", "changeover_leader", "changeover_distribution_conflicts_total"}, `
			# HELP changeover_distribution_conflicts_total Disagreements of the two Regions about a distribution that time had to settle.
			# TYPE changeover_distribution_conflicts_total counter
			changeover_distribution_conflicts_total{failover_group="main"} 0
			# HELP changeover_failovers_total Failovers that ended, by outcome: completed, forced, cancelled.
			# TYPE changeover_failovers_total counter
			changeover_failovers_total{failover_group="main",from_region="us-east-1",outcome="cancelled",to_region="us-west-2"} 2
			changeover_failovers_total{failover_group="main",from_region="us-east-1",outcome="completed",to_region="us-west-2"} 1
			# HELP changeover_leader 1 while this replica holds the lease.
			# TYPE changeover_leader gauge
			changeover_leader 1
		`)
		families := func() (names []string) {
			all, err := a.registry.Gather()
			require.NoError(t, err)
			for _, f := range all {
				names = append(names, f.GetName())
			}
			return names
		}
		all, err := a.registry.Gather()
		require.NoError(t, err)
		for _, f := range all {
			switch f.GetName() {
			case "changeover_failover_detection_seconds":
				require.EqualValues(t, 4, f.Metric[0].Histogram.GetSampleCount(), "three, and the way back of the one that had completed")
				require.GreaterOrEqual(t, f.Metric[0].Histogram.GetSampleSum(), 30.0, "10 s since the old value was last seen")
			case "changeover_failover_pending_seconds":
				require.EqualValues(t, 1, f.Metric[0].Histogram.GetSampleCount())
				require.InDelta(t, 60, f.Metric[0].Histogram.GetSampleSum(), 0.01)
			}
		}
		require.Contains(t, families(), "changeover_observation_last_success_timestamp_seconds")
		a.stop()
		for _, name := range append(gauges, "changeover_observation_last_success_timestamp_seconds") {
			require.NotContains(t, families(), name, "a replica that leads no more drops it")
		}
		require.Contains(t, families(), "changeover_failovers_total")
		require.Zero(t, testutil.ToFloat64(a.o.Metrics.leader))
	})
}

// What one Step after another changed is committed once, as the last one left it.
func TestQueueJoinsSteps(t *testing.T) {
	t.Parallel()
	agent := func(id string) *failover.Agent { return &failover.Agent{ID: id} }
	a, b, again := agent("a"), agent("b"), agent("a")
	g, tdg := &failover.Group{GroupConfig: failover.GroupConfig{Name: group}}, &failover.TDG{ID: tdgID}
	f := &failover.Failover{ID: "f", AgentID: "a"}
	event := func(id, code string) *failover.Event { return &failover.Event{AgentID: id, Code: code} }
	q := newQueue()
	require.True(t, q.empty())
	require.Nil(t, q.take(10, nil))
	q.add(failover.Effects{Conflicts: map[string]int{group: 1}})
	q.add(failover.Effects{Agents: []*failover.Agent{a, b}, Failovers: []*failover.Failover{f}, Created: []*failover.Failover{f}, Groups: []*failover.Group{g}, Events: []*failover.Event{event("a", "1"), event("b", "1")}, Conflicts: map[string]int{group: 1}})
	q.add(failover.Effects{Agents: []*failover.Agent{a}, Failovers: []*failover.Failover{f}, Groups: []*failover.Group{g}, TDGs: []*failover.TDG{tdg}, Events: []*failover.Event{event("a", "2")}})
	require.Nil(t, q.take(10, map[string]bool{"a": true, "b": true}), "their rows are being written")
	p := q.take(10, map[string]bool{"c": true})
	require.Equal(t, []*failover.Agent{a, b}, p.Agents)
	require.Equal(t, []*failover.Failover{f}, p.Failovers)
	require.Equal(t, []*failover.Failover{f}, p.Created, "and changed since: still in no transaction before")
	require.Equal(t, []*failover.Group{g}, p.Groups)
	require.Equal(t, []*failover.TDG{tdg}, p.TDGs)
	require.Equal(t, []*failover.Event{event("a", "1"), event("a", "2"), event("b", "1")}, p.Events)
	require.Equal(t, 2, p.Conflicts[group])
	require.True(t, q.empty())

	q.add(failover.Effects{Agents: []*failover.Agent{a, b}})
	answered := false
	q.then(func() { answered = true })
	q.take(10, map[string]bool{"a": true}).done()
	require.False(t, answered, "one of the two waits")
	q.take(10, nil).done()
	require.True(t, answered)

	q.add(failover.Effects{Agents: []*failover.Agent{a, b}})
	q.add(failover.Effects{RemovedAgents: []string{"a"}})
	q.add(failover.Effects{Agents: []*failover.Agent{again}})
	q.add(failover.Effects{RemovedAgents: []string{"b", "c"}})
	p = q.take(10, nil)
	require.Equal(t, []*failover.Agent{again}, p.Agents)
	require.Equal(t, []string{"b", "c"}, p.RemovedAgents)
}

// All of an agent is in one transaction, in its order, and nothing is left out.
func TestQueueInParts(t *testing.T) {
	t.Parallel()
	var e failover.Effects
	for i := range 25 {
		id := fmt.Sprintf("agent-%02d", i)
		e.Agents = append(e.Agents, &failover.Agent{ID: id})
		e.Failovers = append(e.Failovers, &failover.Failover{ID: "f-" + id, AgentID: id})
	}
	e.Created = e.Failovers[:20]
	for n := range 2 {
		for i := 24; i >= 0; i-- {
			e.Events = append(e.Events, &failover.Event{AgentID: fmt.Sprintf("agent-%02d", i), Code: fmt.Sprint(n)})
		}
	}
	e.RemovedAgents = []string{"gone-1", "gone-2"}
	e.Events = append(e.Events, &failover.Event{AgentID: "gone-1", Type: failover.EventFailoverCancelled})
	e.TDGs = []*failover.TDG{{ID: tdgID, Roster: failover.RosterPass{Pass: 7}}}
	e.Groups = []*failover.Group{{}}
	e.Changes = []failover.Change{{TDG: tdgID}}
	e.Results = []failover.Result{{CommandID: 1}}
	q := newQueue()
	q.listed[tdgID] = failover.RosterPass{Pass: 6}
	q.add(e)
	done := 0
	q.then(func() { done++ })
	q.add(failover.Effects{Agents: []*failover.Agent{{ID: "later"}}})
	var parts []*part
	for p := q.take(10, nil); p != nil; p = q.take(10, nil) {
		p.done()
		parts = append(parts, p)
		require.Equal(t, len(parts) == 3, done == 1, "once, when the last of them is committed")
	}
	require.Len(t, parts, 3)
	agents, failovers, created, events, removed := 0, 0, 0, 0, 0
	for i, p := range parts {
		require.LessOrEqual(t, len(p.Agents)+len(p.RemovedAgents), 10)
		in := map[string]bool{}
		for _, a := range p.Agents {
			in[a.ID] = true
		}
		for _, id := range p.RemovedAgents {
			in[id] = true
		}
		require.Len(t, p.agents, len(in))
		created += len(p.Created)
		for _, f := range p.Created {
			require.Contains(t, p.Failovers, f)
		}
		last := map[string]string{}
		for _, ev := range p.Events {
			require.True(t, in[ev.AgentID])
			require.LessOrEqual(t, last[ev.AgentID], ev.Code)
			last[ev.AgentID] = ev.Code
		}
		for _, f := range p.Failovers {
			require.True(t, in[f.AgentID])
		}
		agents, failovers, events, removed = agents+len(p.Agents), failovers+len(p.Failovers), events+len(p.Events), removed+len(p.RemovedAgents)
		require.Equal(t, i == 0, len(p.Changes) > 0)
		require.Equal(t, i == 0, len(p.Groups) > 0)
		require.Equal(t, i == 2, len(p.Results) > 0)
	}
	require.Equal(t, []int{26, 25, 51, 2}, []int{agents, failovers, events, removed})
	require.EqualValues(t, 6, parts[0].TDGs[0].Roster.Pass, "how far it has come is not told before it has")
	require.Empty(t, parts[1].TDGs)
	require.Same(t, e.TDGs[0], parts[2].TDGs[0])
	require.EqualValues(t, 7, q.listed[tdgID].Pass)
	require.True(t, q.empty())
}

// slowStore takes its time for each commit and load.
type slowStore struct {
	*memory
	takes atomic.Int64 // a time.Duration
}

func (s *slowStore) Commit(ctx context.Context, epoch int64, e failover.Effects) (store.Committed, error) {
	if !sleep(ctx, time.Duration(s.takes.Load())) {
		return store.Committed{}, ctx.Err()
	}
	return s.memory.Commit(ctx, epoch, e)
}

func (s *slowStore) Begin(ctx context.Context, epoch int64, e failover.Effects, _ store.Wait) store.Wait {
	return over(s.Commit(ctx, epoch, e))
}

func (s *slowStore) Load(ctx context.Context) (failover.Snapshot, error) {
	if !sleep(ctx, time.Duration(s.takes.Load())) {
		return failover.Snapshot{}, ctx.Err()
	}
	return s.memory.Load(ctx)
}

// replaced lets a replica lead, another one join it, and a shift come when the way of the first becomes slow. It returns when the other decides, in time
// for that to be within 15 s.
func replaced(t *testing.T, m *memory, way Store, slow func()) (next *replica) {
	first := start(t, "first", way)
	t.Cleanup(first.stop)
	synctest.Wait()
	first.floor("one")
	next = start(t, "next", m)
	t.Cleanup(next.stop)
	time.Sleep(time.Second)
	slow()
	first.distribute(west)
	until(t, 9*time.Second, "the other decides", func() bool { return next.Status().Deciding })
	require.False(t, first.Status().Leading)
	return next
}

// A leader whose commits take too long leaves the lease to another replica.
func TestASlowLeaderStandsAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		way := &slowStore{memory: m}
		next := replaced(t, m, way, func() { way.takes.Store(int64(8 * time.Second)) })
		time.Sleep(time.Hour)
		synctest.Wait()
		require.True(t, next.Status().Deciding, "and goes on")
	})
}

// brokenStore breaks off each commit and load after a while, and takes its time for the next term.
type brokenStore struct {
	*memory
	breaks, succeeds atomic.Int64 // a time.Duration; 0: neither
}

func (s *brokenStore) broken(ctx context.Context) error {
	if after := time.Duration(s.breaks.Load()); after > 0 {
		sleep(ctx, after)
		return errAway
	}
	return nil
}

func (s *brokenStore) Begin(ctx context.Context, epoch int64, e failover.Effects, after store.Wait) store.Wait {
	if err := s.broken(ctx); err != nil {
		return over(store.Committed{}, err)
	}
	return s.memory.Begin(ctx, epoch, e, after)
}

func (s *brokenStore) Load(ctx context.Context) (failover.Snapshot, error) {
	if err := s.broken(ctx); err != nil {
		return failover.Snapshot{}, err
	}
	return s.memory.Load(ctx)
}

func (s *brokenStore) SucceedLease(ctx context.Context, lease store.Lease, holder string, ttl time.Duration) (store.Lease, bool, error) {
	sleep(ctx, time.Duration(s.succeeds.Load()))
	return s.memory.SucceedLease(ctx, lease, holder, ttl)
}

// A leader whose way is so slow that PostgreSQL ends its transactions does not begin one term after the other: what fails has to be made up for in the
// time of one call.
func TestALeaderThatIsBrokenOffStandsAside(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ breaks, succeeds time.Duration }{
		"the next term comes too late":       {4 * time.Second, 3600 * time.Millisecond},
		"what is loaded then comes too late": {3 * time.Second, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				way := &brokenStore{memory: m}
				replaced(t, m, way, func() {
					way.succeeds.Store(int64(test.succeeds))
					way.breaks.Store(int64(test.breaks))
				})
			})
		})
	}
}

// After an outage the leader goes on: no other replica knows better. It does not stand aside, however long the outage was.
func TestALeaderGoesOnAfterAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		broken := &brokenStore{memory: m}
		a := start(t, "a", broken)
		defer a.stop()
		synctest.Wait()
		a.floor("one")
		broken.breaks.Store(int64(2 * time.Second))
		a.distribute(west)
		time.Sleep(30 * time.Second)
		broken.breaks.Store(0)
		until(t, 5*time.Second, "it decides again", func() bool { return a.Status().Deciding })
	})
}

// Where all replicas are as slow, one of them gets it done all the same.
func TestPatienceGrows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		slow := &slowStore{memory: m}
		slow.takes.Store(int64(12 * time.Second))
		a, b := start(t, "a", slow), start(t, "b", slow)
		defer a.stop()
		defer b.stop()
		until(t, time.Minute, "one of them decides", func() bool { return a.Status().Deciding || b.Status().Deciding })
	})
}

// BenchmarkQueue takes the detection of 50,000 agents, and their completion while they wait, in transactions.
func BenchmarkQueue(b *testing.B) {
	const n = 50_000
	var found, gone failover.Effects
	for i := range n {
		id := fmt.Sprintf("agent-%05d", i)
		a, f := &failover.Agent{ID: id}, &failover.Failover{ID: "f-" + id, AgentID: id}
		for _, e := range []*failover.Effects{&found, &gone} {
			e.Agents, e.Failovers = append(e.Agents, a), append(e.Failovers, f)
		}
		found.Events = append(found.Events, &failover.Event{Type: failover.EventFailoverDetected, AgentID: id})
		gone.Events = append(gone.Events, &failover.Event{Type: failover.EventFailoverCompleted, AgentID: id})
	}
	b.ReportAllocs()
	for b.Loop() {
		q := newQueue()
		q.add(found)
		q.add(gone)
		for q.take(maxAgents, nil) != nil {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/agent")
}

// The leader before had a clock that was ten minutes ahead, and all that it left is from the future. The next one believes its own reads all
// the same, at once. (A bubble's clock always begins at the same time.)
func TestALeaderWhoseClockIsBehind(t *testing.T) {
	t.Parallel()
	left := newMemory()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		a := start(t, "a", m)
		defer a.stop()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		a.floor("idle", "busy")
		a.people.say <- on("busy", "call")
		synctest.Wait()
		a.distribute(west)
		synctest.Wait()
		a.people.say <- on("busy", "call")
		synctest.Wait()
		left.epoch, left.agents, left.tdgs, left.groups = m.epoch, m.agents, m.tdgs, m.groups
	})
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.epoch, m.agents, m.tdgs, m.groups = left.epoch, left.agents, left.tdgs, left.groups
		b := start(t, "b", m)
		defer b.stop()
		synctest.Wait()
		b.distribute(west)
		time.Sleep(time.Second)
		b.people.say <- read("idle")
		b.people.say <- read("busy")
		synctest.Wait()
		require.Equal(t, []failover.EventType{failover.EventFailoverCompleted}, types(m.events(), "idle"))
		require.Equal(t, []failover.EventType{failover.EventFailoverCompleted}, types(m.events(), "busy"))
		b.distribute(east)
		synctest.Wait()
		require.Equal(t, failover.EventFailoverDetected, types(m.events(), "idle")[1])
	})
}
