package store_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"changeover/internal/failover"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	want := store.AuditEntry{
		Subject: "operator@example.com", Roles: []string{"operator", "viewer"}, Action: "force", Target: "failover-1", Reason: "customer waits",
		RequestID: "request-1", Outcome: "done", Details: []byte(`{"max":   1}`), Before: []byte(`{"status": "pending"}`),
		After: []byte(`{"status": "completed", "text": "\u0000 \ud800"}`),
	}
	require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "first"}))
	require.NoError(t, s.AppendAudit(t.Context(), want))
	id, err := s.Submit(t.Context(), store.CommandForce, failover.Force{FailoverID: "f"}, store.AuditEntry{Subject: "third", RequestID: "request-3"})
	require.NoError(t, err)
	commands, err := s.PendingCommands(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, commands, 1)
	require.Equal(t, []any{id, "third", "request-3"}, []any{commands[0].ID, commands[0].By, commands[0].RequestID})

	entries, _, err := s.Audit(t.Context(), store.AuditFilter{}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, []string{"third", "operator@example.com", "first"}, idsOf(entries, func(e store.AuditEntry) string { return e.Subject }))
	require.True(t, slices.IsSortedFunc(entries, func(a, b store.AuditEntry) int { return b.At.Compare(a.At) }))
	got := entries[1]
	require.WithinDuration(t, time.Now(), got.At, time.Minute)
	require.Len(t, got.Hash, sha256.Size)
	want.ID, want.At, want.Hash = 2, got.At, got.Hash
	require.Equal(t, want, got)
}

// A caller's words end up in the audit, whatever they are; what is no JSON is refused alone.
func TestAuditTakesEverything(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "a\x00b\xff", Roles: []string{"\xff", "{\",\"}", ""}, Details: []byte("\"\xff\"")}))
	for _, bad := range []store.AuditEntry{{Details: []byte("{")}, {Before: []byte("")}, {After: []byte("nothing")}} {
		require.ErrorContains(t, s.AppendAudit(t.Context(), bad), "is not JSON")
		_, err := s.Submit(t.Context(), "force", "x", bad)
		require.ErrorContains(t, err, "is not JSON")
	}
	entries, _, err := s.Audit(t.Context(), store.AuditFilter{}, store.Page{})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "ab\uFFFD", entries[0].Subject)
	require.Equal(t, []string{"\uFFFD", "{\",\"}", ""}, entries[0].Roles)
	verified(t, s, 1)
}

// verified fails the test unless the audit is whole and has n entries.
func verified(t testing.TB, s *store.Store, n int) store.AuditReport {
	t.Helper()
	report, err := s.VerifyAudit(t.Context())
	require.NoError(t, err)
	require.Zero(t, report.Bad, report.Faults)
	require.Zero(t, report.FirstBad)
	require.Equal(t, int64(n), report.Entries)
	return report
}

// The program computes the hashes that the database made, of whatever is in an entry.
func TestHashesOfEveryEntry(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "'", `\`, `"`, "é", "𝄞", "\r\n"}))
		details := rapid.OneOf(rapid.Just[[]byte](nil), rapid.SampledFrom([][]byte{[]byte("null"), []byte(" { } "), []byte(`"\u0000"`), []byte(`{"a":1,"a":2}`)}))
		e := store.AuditEntry{
			Subject: word.Draw(rt, "subject"), Roles: rapid.SliceOfN(word, 0, 4).Draw(rt, "roles"), Action: word.Draw(rt, "action"),
			Target: word.Draw(rt, "target"), Reason: word.Draw(rt, "reason"), RequestID: word.Draw(rt, "request"), Outcome: word.Draw(rt, "outcome"),
			Details: details.Draw(rt, "details"), Before: details.Draw(rt, "before"), After: details.Draw(rt, "after"),
		}
		require.NoError(rt, s.AppendAudit(t.Context(), e))
		n++
	})
	// What the service never writes, and who adds entries by hand could.
	exec(t, conn, `INSERT INTO audit (subject, roles, action, target, reason, request_id, outcome, at) VALUES ('', '{{a,b},{c,d}}', '', '', '', '', '', 'infinity')`)
	verified(t, s, n+1)
}

// Replicas that write at the same time, old ones among them, make one chain: no gap, no fork, in the order of time. What is rolled back
// leaves nothing behind.
func TestReplicasMakeOneChain(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	url := conn.Config().ConnString()
	const replicas, each = 4, 50
	var wg sync.WaitGroup
	for r := range replicas {
		replica, old := open(t, url), connect(t, url)
		wg.Go(func() {
			for i := range each {
				tx, err := old.Begin(t.Context())
				if err == nil {
					_, err = tx.Exec(t.Context(), "INSERT INTO audit (subject, roles, action, target, reason, request_id, outcome) VALUES ('old', '{}', '', '', '', '', '')")
				}
				if err == nil && i%2 == 0 {
					err = tx.Commit(t.Context())
				} else if err == nil {
					err = tx.Rollback(t.Context())
				}
				if err != nil {
					t.Errorf("old replica %d: %v", r, err)
				}
			}
		})
		for i := range each {
			wg.Go(func() {
				if err := replica.AppendAudit(t.Context(), store.AuditEntry{Subject: fmt.Sprint(r, i)}); err != nil {
					t.Errorf("append: %v", err)
				}
			})
			wg.Go(func() {
				if _, err := replica.Submit(t.Context(), store.CommandReport, i, store.AuditEntry{Subject: fmt.Sprint(r, i)}); err != nil {
					t.Errorf("submit: %v", err)
				}
			})
		}
	}
	wg.Go(func() {
		for range 10 { // while it grows
			if report, err := s.VerifyAudit(t.Context()); err != nil || report.Bad > 0 {
				t.Errorf("verify: %v %v", report.Faults, err)
			}
		}
	})
	wg.Wait()
	const n = replicas * (each/2 + each + each)
	report := verified(t, s, n)
	require.Equal(t, int64(n), report.Head.ID)
	require.Equal(t, 0, query[int](t, conn, "SELECT count(*) FROM (SELECT audit_id - lag(audit_id, 1, 0::bigint) OVER w AS step, at < lag(at) OVER w AS back FROM audit WINDOW w AS (ORDER BY audit_id)) x WHERE step <> 1 OR back"))
	require.Equal(t, replicas*each, query[int](t, conn, "SELECT count(*) FROM inbox"))
}

// A herd of reports is a few transactions, and each caller gets the id of its own command.
func TestSubmitInBatches(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	w := newWire(t, url)
	s, conn := open(t, w.url), connect(t, url)
	const n = 5000
	ids := make([]int64, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			id, err := s.Submit(t.Context(), store.CommandReport, i, store.AuditEntry{Subject: fmt.Sprintf("agent-%d", i), RequestID: fmt.Sprint(i)})
			if err != nil {
				t.Errorf("submit: %v", err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	require.Less(t, w.executed.Load(), int64(200))
	t.Logf("%d reports were %d statements", n, w.executed.Load())
	commands, err := s.PendingCommands(t.Context(), 0, n)
	require.NoError(t, err)
	require.Len(t, commands, n)
	for _, c := range commands {
		i := slices.Index(ids, c.ID)
		require.Equal(t, []string{fmt.Sprint(i), fmt.Sprintf("agent-%d", i), fmt.Sprint(i)}, []string{string(c.Payload), c.By, c.RequestID})
	}
	verified(t, s, n)
	require.Equal(t, n, query[int](t, conn, "SELECT count(*) FROM audit a JOIN inbox i ON a.subject = i.sent_by AND a.request_id = i.request_id"))
}

// One entry that PostgreSQL refuses, for whatever reason, is refused alone.
func TestOneRefusedEntryDoesNotSpoilTheOthers(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	exec(t, conn, "ALTER TABLE audit ADD CONSTRAINT no_poison CHECK (subject <> 'poison')")
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			subject := "fine"
			if i%10 == 7 {
				subject = "poison"
			}
			err := s.AppendAudit(t.Context(), store.AuditEntry{Subject: subject})
			_, err2 := s.Submit(t.Context(), store.CommandReport, i, store.AuditEntry{Subject: subject})
			if subject == "poison" && (err == nil || err2 == nil) || subject == "fine" && (err != nil || err2 != nil) {
				t.Errorf("%s: %v, %v", subject, err, err2)
			}
		})
	}
	wg.Wait()
	verified(t, s, 180)
	require.Equal(t, 90, query[int](t, conn, "SELECT count(*) FROM inbox"))
}

// A replica that is frozen just before it commits holds the head of the chain. The others get by in a few seconds.
func TestAFrozenReplicaDoesNotHoldUpTheAudit(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewDatabase(t)
	w := newWire(t, url)
	frozen, s := open(t, w.url), open(t, url)
	_, err := frozen.Submit(t.Context(), store.CommandForce, "x", store.AuditEntry{Subject: "before"})
	require.NoError(t, err)
	freeze := func(kind byte, size int) bool { return kind == 'Q' && size == len("commit\x00") }
	w.freeze.Store(&freeze)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := frozen.Submit(ctx, store.CommandForce, "x", store.AuditEntry{Subject: "frozen"})
		failed <- err
	}()
	<-w.frozen
	_, err = s.Submit(t.Context(), store.CommandForce, "x", store.AuditEntry{Subject: "after"})
	require.NoError(t, err)
	cancel()
	require.Error(t, <-failed)
	entries, _, err := s.Audit(t.Context(), store.AuditFilter{}, store.Page{})
	require.NoError(t, err)
	require.Equal(t, []string{"after", "before"}, idsOf(entries, func(e store.AuditEntry) string { return e.Subject }))
	verified(t, s, 2)
}

// filled is a store with an audit of n entries.
func filled(t *testing.T, n int) (*store.Store, func(sql string, args ...any)) {
	t.Helper()
	s, conn := newStore(t)
	exec(t, conn, `INSERT INTO audit (subject, roles, action, target, reason, request_id, outcome, details, before, after)
		SELECT 'subject ' || i, '{operator,viewer}', 'force', 'target', 'reason', 'request', 'accepted', '{"a": 1}', '{"b": 1}', NULL FROM generate_series(1, $1) i`, n)
	verified(t, s, n)
	return s, func(sql string, args ...any) {
		t.Helper()
		// What the owner of the tables can do who means it.
		exec(t, conn, "SET session_replication_role = replica")
		exec(t, conn, sql, args...)
	}
}

func TestAuditFilters(t *testing.T) {
	t.Parallel()
	s, _ := filled(t, 3)
	require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "subject 2", Action: "pause", Target: "group", Outcome: "done"}))
	all, _, err := s.Audit(t.Context(), store.AuditFilter{}, store.Page{})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		filter store.AuditFilter
		want   []string
	}{
		"everything":   {store.AuditFilter{}, []string{"4", "3", "2", "1"}},
		"a subject":    {store.AuditFilter{Subject: "subject 2"}, []string{"4", "2"}},
		"an action":    {store.AuditFilter{Action: "force"}, []string{"3", "2", "1"}},
		"a target":     {store.AuditFilter{Target: "group"}, []string{"4"}},
		"an outcome":   {store.AuditFilter{Outcome: "accepted", Subject: "subject 3"}, []string{"3"}},
		"since then":   {store.AuditFilter{Since: all[0].At}, []string{"4"}},
		"part of it":   {store.AuditFilter{Subject: "subject"}, nil},
		"after it all": {store.AuditFilter{Since: all[0].At.Add(time.Second)}, nil},
	} {
		entries, next, err := s.Audit(t.Context(), c.filter, store.Page{})
		require.NoError(t, err, name)
		require.Empty(t, next, name)
		require.Equal(t, c.want, idsOf(entries, func(e store.AuditEntry) string { return strconv.FormatInt(e.ID, 10) }), name)
	}
	first, next, err := s.Audit(t.Context(), store.AuditFilter{Action: "force"}, store.Page{Limit: 2})
	require.NoError(t, err)
	require.Len(t, first, 2)
	rest, next, err := s.Audit(t.Context(), store.AuditFilter{Action: "force"}, store.Page{Limit: 2, Cursor: next})
	require.NoError(t, err)
	require.Len(t, rest, 1)
	require.Empty(t, next)
}

func TestVerifyAuditFinds(t *testing.T) {
	t.Parallel()
	const n = 12
	altered := "does not follow from the entry before it"
	for name, c := range map[string]struct {
		sql      string
		firstBad int64
		bad      int64
		problem  string
	}{
		"a time":                       {"UPDATE audit SET at = at + interval '1 microsecond' WHERE audit_id = 5", 5, 1, altered},
		"a subject":                    {"UPDATE audit SET subject = 'nobody' WHERE audit_id = 5", 5, 1, altered},
		"roles":                        {"UPDATE audit SET roles = '{viewer,operator}' WHERE audit_id = 5", 5, 1, altered},
		"no roles":                     {"UPDATE audit SET roles = '{}' WHERE audit_id = 5", 5, 1, altered},
		"a role that is null":          {"UPDATE audit SET roles = roles || NULL::text WHERE audit_id = 5", 5, 1, altered},
		"an action":                    {"UPDATE audit SET action = 'read' WHERE audit_id = 5", 5, 1, altered},
		"a target":                     {"UPDATE audit SET target = 'other' WHERE audit_id = 5", 5, 1, altered},
		"a reason":                     {"UPDATE audit SET reason = '' WHERE audit_id = 5", 5, 1, altered},
		"a request id":                 {"UPDATE audit SET request_id = 'other' WHERE audit_id = 5", 5, 1, altered},
		"an outcome":                   {"UPDATE audit SET outcome = 'refused' WHERE audit_id = 5", 5, 1, altered},
		"a space in details":           {`UPDATE audit SET details = '{"a":  1}' WHERE audit_id = 5`, 5, 1, altered},
		"what was before":              {"UPDATE audit SET before = NULL WHERE audit_id = 5", 5, 1, altered},
		"what was after":               {"UPDATE audit SET after = 'null' WHERE audit_id = 5", 5, 1, altered},
		"text moved to another column": {"UPDATE audit SET reason = 'reaso', request_id = 'nrequest' WHERE audit_id = 5", 5, 1, altered},
		"a hash":                       {"UPDATE audit SET hash = sha256(hash) WHERE audit_id = 5", 5, 2, altered},
		"a hash taken away":            {"UPDATE audit SET hash = NULL WHERE audit_id = 5", 5, 1, altered},
		"a short hash":                 {"UPDATE audit SET hash = '\\x00' WHERE audit_id = 5", 5, 1, altered},
		"the first entry":              {"UPDATE audit SET subject = 'nobody' WHERE audit_id = 1", 1, 1, altered},
		"the last entry":               {"UPDATE audit SET subject = 'nobody' WHERE audit_id = 12", 12, 1, altered},
		"the last entry with a hash":   {"UPDATE audit a SET subject = 'nobody', hash = sha256('x') WHERE audit_id = 12", 12, 2, altered},
		"an entry and its hash":        {"UPDATE audit a SET subject = 'nobody', hash = audit_hash((SELECT hash FROM audit WHERE audit_id = 4), ROW(5, at, 'nobody', roles, action, target, reason, request_id, outcome, details, before, after, NULL)) WHERE audit_id = 5", 6, 1, altered},
		"two exchanged":                {"ALTER TABLE audit ALTER audit_id DROP IDENTITY; UPDATE audit SET audit_id = -5 WHERE audit_id = 5; UPDATE audit SET audit_id = 5 WHERE audit_id = 7; UPDATE audit SET audit_id = 7 WHERE audit_id = -5", 5, 4, altered},
		"an entry removed":             {"DELETE FROM audit WHERE audit_id = 5", 5, 1, "entry 5 is gone"},
		"several removed":              {"DELETE FROM audit WHERE audit_id BETWEEN 5 AND 7", 5, 1, "entries 5 to 7 are gone"},
		"the first removed":            {"DELETE FROM audit WHERE audit_id = 1", 1, 1, "entry 1 is gone"},
		"the end cut off":              {"DELETE FROM audit WHERE audit_id > 9", 10, 1, "entries 10 to 12 are gone from the end"},
		"everything removed":           {"DELETE FROM audit", 1, 1, "entries 1 to 12 are gone from the end"},
		"an entry put behind the head": {"INSERT INTO audit (audit_id, subject, roles, action, target, reason, request_id, outcome, hash) OVERRIDING SYSTEM VALUE VALUES (13, '', '{}', '', '', '', '', '', sha256('x'))", 13, 1, "stands behind the head"},
		"an entry put before the first": {"INSERT INTO audit (audit_id, subject, roles, action, target, reason, request_id, outcome, hash) OVERRIDING SYSTEM VALUE VALUES (0, '', '{}', '', '', '', '', '', sha256('x'))", 0, 1,
			"entry 0 is from before the chain and not sealed in it"},
		"the head rewritten":   {"UPDATE audit_head SET hash = sha256('x')", 12, 1, "is not the entry that the head of the chain names"},
		"the head removed":     {"DELETE FROM audit_head", 0, 1, "the head of the chain is gone"},
		"the head moved back":  {"UPDATE audit_head SET audit_id = 11, hash = (SELECT hash FROM audit WHERE audit_id = 11)", 12, 1, "stands behind the head"},
		"entries declared old": {"UPDATE audit_head SET before = 5", 1, 2, "not sealed in it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, tamper := filled(t, n)
			tamper(c.sql)
			report, err := s.VerifyAudit(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.bad, report.Bad, report.Faults)
			require.Equal(t, c.firstBad, report.FirstBad)
			require.Contains(t, report.Faults[0].Problem, c.problem)
		})
	}
}

func TestVerifyAuditNamesTheFirstFaults(t *testing.T) {
	t.Parallel()
	s, tamper := filled(t, 2500) // several pages
	tamper("DELETE FROM audit WHERE audit_id % 50 = 0")
	tamper("UPDATE audit SET reason = '' WHERE audit_id = 1203")
	report, err := s.VerifyAudit(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(2450), report.Entries)
	require.Equal(t, int64(51), report.Bad)
	require.Equal(t, int64(50), report.FirstBad)
	require.Len(t, report.Faults, 20)
	require.True(t, slices.IsSortedFunc(report.Faults, func(a, b store.AuditFault) int { return int(a.ID - b.ID) }))
}

// Who owns the tables can write the chain anew from any entry on, or cut it off with its head. The database alone then looks fine: it takes
// an anchor that was noted elsewhere.
func TestAnAnchorTellsAForgedChain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, problem string }{
		"written anew": {`
			UPDATE audit SET reason = 'forged' WHERE audit_id = 5;
			DO $$ DECLARE e audit; h bytea := (SELECT hash FROM audit WHERE audit_id = 4); BEGIN
				FOR e IN SELECT * FROM audit WHERE audit_id >= 5 ORDER BY audit_id LOOP
					h := audit_hash(h, e);
					UPDATE audit SET hash = h WHERE audit_id = e.audit_id;
				END LOOP;
				UPDATE audit_head SET hash = h;
			END $$`, "is not the entry of the anchor"},
		"cut off": {`
			DELETE FROM audit WHERE audit_id > 8;
			UPDATE audit_head SET audit_id = 8, hash = (SELECT hash FROM audit WHERE audit_id = 8)`, "is not in the chain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, tamper := filled(t, 10)
			anchor := verified(t, s, 10).Head
			entries, _, err := s.Audit(t.Context(), store.AuditFilter{}, store.Page{Limit: 8})
			require.NoError(t, err)
			early := store.AuditHead{ID: 3, Hash: [sha256.Size]byte(entries[7].Hash)}
			require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "later"}))
			report, err := s.VerifyAudit(t.Context(), anchor, early)
			require.NoError(t, err)
			require.Zero(t, report.Bad, report.Faults)

			tamper(c.sql)
			report, err = s.VerifyAudit(t.Context())
			require.NoError(t, err)
			require.Zero(t, report.Bad, "nobody can tell")
			report, err = s.VerifyAudit(t.Context(), anchor, early)
			require.NoError(t, err)
			require.Equal(t, int64(1), report.Bad, report.Faults)
			require.Equal(t, int64(10), report.FirstBad)
			require.Contains(t, report.Faults[0].Problem, c.problem)
		})
	}
}

func TestAuditHeads(t *testing.T) {
	t.Parallel()
	s, _ := filled(t, 3)
	head := verified(t, s, 3).Head
	got, err := store.ParseAuditHead(head.String())
	require.NoError(t, err)
	require.Equal(t, head, got)
	for _, bad := range []string{"", ":", "3", "3:", "3:00", "x" + head.String(), head.String() + "00", "-" + head.String(), "0" + head.String()[1:], "99999999999999999999" + head.String()[1:]} {
		_, err := store.ParseAuditHead(bad)
		require.ErrorContains(t, err, "hexadecimal", bad)
	}
}

// old fills the audit of a database of the first version, with gaps where transactions were rolled back.
func old(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	exec(t, conn, `INSERT INTO audit (audit_id, subject, roles, action, target, reason, request_id, outcome, details) OVERRIDING SYSTEM VALUE
		SELECT i, 'old ' || i, '{operator}', 'force', 'target', 'reason', 'request', 'accepted', '{"a":   1}' FROM generate_series(1, $1::bigint) i WHERE i % 7 <> 0`, n)
	exec(t, conn, "SELECT setval(pg_get_serial_sequence('audit', 'audit_id'), $1)", n)
}

// What was in the audit before there was a chain is sealed in it.
func TestTheMigrationTakesOldEntriesIntoTheChain(t *testing.T) {
	t.Parallel()
	const n, gaps = 2503, 2503 / 7
	altered, gone := "was altered", "entries 1000 to 1999 are gone"
	for name, c := range map[string]struct {
		sql      string
		firstBad int64
		problem  string
	}{
		"nothing":  {},
		"an entry": {"UPDATE audit SET reason = 'better' WHERE audit_id = 1500", 1000, altered},
		"a time":   {"UPDATE audit SET at = at - interval '1 hour' WHERE audit_id = 2500", 2000, altered},
		"removed":  {"DELETE FROM audit WHERE audit_id = 1500", 1000, "there were 857 and are 856"},
		"added": {"INSERT INTO audit (audit_id, subject, roles, action, target, reason, request_id, outcome) OVERRIDING SYSTEM VALUE VALUES (7, '', '{}', '', '', '', '', '')",
			1, "there were 857 and are 858"},
		"renumbered":            {"ALTER TABLE audit ALTER audit_id DROP IDENTITY; UPDATE audit SET audit_id = 7 WHERE audit_id = 8", 1, altered},
		"all of a seal removed": {"DELETE FROM audit WHERE audit_id BETWEEN 1000 AND 1999", 1000, gone},
		"the seal removed":      {"DELETE FROM audit WHERE audit_id = 2504", 1, "not sealed"},
		"the seal altered":      {`UPDATE audit SET details = '{}' WHERE audit_id = 2504`, 1, "not sealed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := postgrestest.NewEmptyDatabase(t)
			migrateTo(t, url, 1)
			conn := connect(t, url)
			old(t, conn, n)
			migrate(t, url)
			s := open(t, url)
			require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "new"}))
			report := verified(t, s, n-gaps+3+1) // as many seals, and the new one
			require.Equal(t, int64(n-gaps), report.Old)
			require.Equal(t, int64(n+3+1), report.Head.ID)
			if c.sql == "" {
				return
			}
			exec(t, conn, "SET session_replication_role = replica")
			exec(t, conn, c.sql)
			report, err := s.VerifyAudit(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.firstBad, report.FirstBad, report.Faults)
			require.Contains(t, report.Faults[0].Problem, c.problem)
		})
	}
}

// The migration is not one transaction. Where it was interrupted before old entries were sealed, new ones are added to the chain
// already, and the next try seals.
func TestAnInterruptedMigrationGoesOn(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewEmptyDatabase(t)
	migrateTo(t, url, 1)
	conn := connect(t, url)
	old(t, conn, 100)
	exec(t, conn, "CREATE FUNCTION interrupt() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.action = 'sealAudit' THEN RAISE 'interrupted'; END IF; RETURN NEW; END $$")
	exec(t, conn, "CREATE TRIGGER a_interrupt BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION interrupt()")
	require.ErrorContains(t, store.Migrate(t.Context(), url, discard), "interrupted")
	s := open(t, url)
	require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "meanwhile"}))
	exec(t, conn, "DROP TRIGGER a_interrupt ON audit")
	migrateTo(t, url, 2)
	exec(t, conn, "DELETE FROM goose_db_version WHERE version_id = 2")
	migrate(t, url) // and again
	report := verified(t, s, 100-100/7+2)
	require.Equal(t, int64(102), report.Head.ID)
}

// Somebody reads the audit for long, a backup perhaps: the migration does not stand in line for the table, with everybody else
// behind it, but gives up and can be tried again.
func TestTheMigrationDoesNotBlockTheAudit(t *testing.T) {
	t.Parallel()
	url := postgrestest.NewEmptyDatabase(t)
	migrateTo(t, url, 1)
	conn := connect(t, url)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT * FROM audit")
	require.NoError(t, err)
	err = store.Migrate(t.Context(), url, discard)
	require.ErrorContains(t, err, "lock timeout")
	require.NoError(t, tx.Rollback(t.Context()))
	migrate(t, url)
}

// The service's own role, in the hands of an attacker who has its password: what was written stays, and what is written is chained.
func TestTheServicesRoleCannotRewriteTheAudit(t *testing.T) {
	t.Parallel()
	s, service, owner := newServiceStore(t)
	require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "operator", Reason: "mine"}))

	// Straight at the tables.
	for _, sql := range []string{
		"UPDATE audit SET subject = 'nobody'", "DELETE FROM audit", "TRUNCATE audit", "DROP TABLE audit", "ALTER TABLE audit DISABLE TRIGGER ALL",
		"DROP TRIGGER audit_chain ON audit", "ALTER TABLE audit DROP COLUMN hash", "MERGE INTO audit a USING audit b ON a.audit_id = b.audit_id WHEN MATCHED THEN DELETE",
		"INSERT INTO audit (audit_id, subject, roles, action, target, reason, request_id, outcome) OVERRIDING SYSTEM VALUE VALUES (1, '', '{}', '', '', '', '', '') ON CONFLICT (audit_id) DO UPDATE SET subject = 'nobody'",
		"UPDATE audit_head SET audit_id = 0", "DELETE FROM audit_head", "TRUNCATE audit_head", "SELECT * FROM audit_head FOR UPDATE", "LOCK TABLE audit_head IN EXCLUSIVE MODE",
		"INSERT INTO audit_head (one, before, audit_id, hash) VALUES (true, 0, 0, sha256('x')) ON CONFLICT (one) DO UPDATE SET audit_id = 0",
		"SET session_replication_role = replica", "CREATE OR REPLACE FUNCTION chain_audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
		"ALTER FUNCTION chain_audit SET search_path = pg_temp", "DROP FUNCTION chain_audit", "GRANT ALL ON audit TO PUBLIC WITH GRANT OPTION", "ALTER TABLE audit OWNER TO current_user",
	} {
		_, err := service.Exec(t.Context(), sql)
		require.Error(t, err, sql)
	}
	// The owner, by mistake.
	for _, sql := range []string{"UPDATE audit SET subject = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"} {
		_, err := owner.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "append-only", sql)
	}

	// An entry of its own choosing: number, time and hash are the database's.
	exec(t, service, `INSERT INTO audit (audit_id, at, subject, roles, action, target, reason, request_id, outcome, hash) OVERRIDING SYSTEM VALUE
		VALUES (1000000, '2001-01-01', 'forger', '{}', '', '', '', '', '', sha256('x'))`)
	entries, _, err := s.Audit(t.Context(), store.AuditFilter{}, store.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, int64(2), entries[0].ID)
	require.WithinDuration(t, time.Now(), entries[0].At, time.Minute)
	verified(t, s, 2)

	// The head moved on without an entry: the chain's trigger put on another table.
	exec(t, service, "CREATE TEMP TABLE bait (LIKE audit)")
	_, err = service.Exec(t.Context(), "CREATE TRIGGER chain BEFORE INSERT ON bait FOR EACH ROW EXECUTE FUNCTION chain_audit()")
	require.ErrorContains(t, err, "permission denied")

	// Another head, and code that is run as the owner: tables of the session's own, which PostgreSQL finds first unless told otherwise.
	exec(t, service, "CREATE TEMP TABLE audit_head (one boolean, before bigint, audit_id bigint, hash bytea)")
	exec(t, service, "INSERT INTO pg_temp.audit_head VALUES (true, 0, 500, sha256('x'))")
	exec(t, service, "CREATE TEMP TABLE event_log (LIKE event_log)")
	exec(t, service, "CREATE TEMP TABLE terms (LIKE terms)")
	exec(t, service, "INSERT INTO pg_temp.event_log VALUES (true, 'x', 0, 0, 1, 0)")
	exec(t, service, "CREATE TEMP TABLE loot (who text)")
	exec(t, service, "GRANT ALL ON loot TO PUBLIC")
	exec(t, service, "CREATE FUNCTION pg_temp.rob() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO pg_temp.loot VALUES (current_user); RETURN NEW; END'")
	for _, table := range []string{"audit_head", "event_log", "terms"} {
		exec(t, service, "CREATE TRIGGER rob BEFORE INSERT OR UPDATE OR DELETE ON pg_temp."+table+" FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.rob()")
	}
	exec(t, service, "INSERT INTO public.audit (subject, roles, action, target, reason, request_id, outcome) VALUES ('robber', '{}', '', '', '', '', '')")
	exec(t, service, "SELECT maintain_event_partitions('1 day', 1)")
	require.Zero(t, query[int](t, service, "SELECT count(*) FROM loot"))
	require.Equal(t, int64(3), verified(t, s, 3).Head.ID)

	// A seal of its own, to raise the alarm over entries that are as they were.
	exec(t, service, `INSERT INTO public.audit (subject, roles, action, target, reason, request_id, outcome, details) VALUES ('changeover', '{}', 'sealAudit', '', '', '', '', '{"first": 1, "last": 2, "entries": 1}')`)
	verified(t, s, 4)
}

// age makes entries older, and the chain as if they had been written then.
func age(t *testing.T, owner *pgx.Conn, upto int, by time.Duration) {
	t.Helper()
	exec(t, owner, "SET session_replication_role = replica")
	exec(t, owner, "UPDATE audit SET at = at - $1::interval WHERE audit_id <= $2", by, upto)
	exec(t, owner, `DO $$ DECLARE e audit; h bytea := (SELECT pruned_hash FROM audit_head); BEGIN
		FOR e IN SELECT * FROM audit ORDER BY audit_id LOOP
			h := audit_hash(h, e);
			UPDATE audit SET hash = h WHERE audit_id = e.audit_id;
		END LOOP;
		UPDATE audit_head SET hash = h;
	END $$`)
	exec(t, owner, "RESET session_replication_role")
}

const day = 24 * time.Hour

// agedStore has ten entries, of which six are a hundred days old, and keeps them for ninety.
func agedStore(t *testing.T) (s *store.Store, service, owner *pgx.Conn) {
	t.Helper()
	s, service, owner = newServiceStore(t)
	for i := range 10 {
		require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: fmt.Sprint(i + 1)}))
	}
	age(t, owner, 6, 100*day)
	verified(t, s, 10)
	require.NoError(t, store.SetAuditRetention(t.Context(), owner.Config().ConnString(), 90*day))
	return s, service, owner
}

// Old entries go, the chain says so, and what is left is proved as before.
func TestAuditRetention(t *testing.T) {
	t.Parallel()
	s, service, owner := agedStore(t)
	url := owner.Config().ConnString()
	anchor := func(id int) store.AuditHead {
		return store.AuditHead{ID: int64(id), Hash: [sha256.Size]byte(query[[]byte](t, owner, fmt.Sprintf("SELECT hash FROM audit WHERE audit_id = %d", id)))}
	}
	third, sixth, eighth := anchor(3), anchor(6), anchor(8)

	require.NoError(t, store.SetAuditRetention(t.Context(), url, 0))
	require.NoError(t, s.Prune(t.Context()))
	verified(t, s, 10)
	require.NoError(t, store.SetAuditRetention(t.Context(), url, 100*day-time.Hour))
	require.NoError(t, s.Prune(t.Context()))
	verified(t, s, 10) // too old, but not for a day yet

	require.NoError(t, store.SetAuditRetention(t.Context(), url, 90*day))
	require.Equal(t, int64(2), query[int64](t, service, "SELECT prune_audit(2)"))
	require.NoError(t, s.Prune(t.Context()))
	report := verified(t, s, 4+2)
	require.Equal(t, int64(6), report.Pruned)
	require.Equal(t, int64(12), report.Head.ID)
	require.NoError(t, s.Prune(t.Context()))
	require.Equal(t, report, verified(t, s, 4+2), "it does not feed itself")
	entries, _, err := s.Audit(t.Context(), store.AuditFilter{}, store.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"changeover", "pruneAudit", "removed"}, []string{entries[0].Subject, entries[0].Action, entries[0].Outcome})
	require.JSONEq(t, fmt.Sprintf(`{"first": 3, "last": 6, "entries": 4, "sha256": "%x"}`, sixth.Hash), string(entries[0].Details))

	report, err = s.VerifyAudit(t.Context(), sixth, eighth, report.Head)
	require.NoError(t, err)
	require.Zero(t, report.Bad, report.Faults)
	report, err = s.VerifyAudit(t.Context(), third, store.AuditHead{ID: 6, Hash: third.Hash})
	require.NoError(t, err)
	require.Equal(t, int64(2), report.Bad)
	require.Equal(t, "the entry of the anchor was removed: compare with a later one", report.Faults[0].Problem)
	require.Contains(t, report.Faults[1].Problem, "written anew")

	// All that there is may be old: the head stays.
	age(t, owner, 12, 100*day)
	require.NoError(t, s.Prune(t.Context()))
	verified(t, s, 2)
}

// Rewriting history by the way on which it is removed: the service's role cannot have more removed than the owner wants, nor the owner
// remove entries without leaving a trace.
func TestPruningIsNoWayToRewriteTheAudit(t *testing.T) {
	t.Parallel()
	s, service, owner := agedStore(t)
	for _, sql := range []string{
		"UPDATE audit_head SET retention = '0'", "SET changeover.pruning = 'audit'; DELETE FROM audit", "SET changeover.pruning = 'audit'; TRUNCATE audit",
		"UPDATE audit_head SET pruned_id = 8", "CREATE OR REPLACE FUNCTION prune_audit(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'",
	} {
		_, err := service.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "SQLSTATE 42501", sql)
	}
	exec(t, service, "RESET changeover.pruning")
	exec(t, service, "CREATE TEMP TABLE audit (LIKE audit)")
	exec(t, service, "CREATE TEMP TABLE audit_head (LIKE audit_head)")
	exec(t, service, "INSERT INTO pg_temp.audit_head VALUES (true, 0, 500, sha256('x'), '0', 0, sha256('x'))")
	require.Equal(t, int64(6), query[int64](t, service, "SELECT prune_audit(1000000)"))
	require.Zero(t, query[int64](t, service, "SELECT prune_audit(1000000)"))
	require.Zero(t, query[int64](t, service, "SELECT prune_audit(-1)+prune_audit(0)"))
	verified(t, s, 4+1)
	exec(t, service, `INSERT INTO public.audit (subject, roles, action, target, reason, request_id, outcome, details) VALUES ('changeover', '{}', 'pruneAudit', 'audit', '', '', '', '{"last": 8}')`)
	verified(t, s, 4+2) // it says so, and nothing is gone
	for _, sql := range []string{"DELETE FROM audit", "SET changeover.pruning = 'audit'; TRUNCATE audit", "SET changeover.pruning = 'audit'; UPDATE audit SET subject = ''"} {
		_, err := owner.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "append-only", sql)
	}

	for name, c := range map[string]struct{ sql, problem string }{
		"the first that is left":  {"DELETE FROM audit WHERE audit_id = 7", "entry 7 is gone"},
		"one that was removed":    {"INSERT INTO audit (audit_id, subject, roles, action, target, reason, request_id, outcome) OVERRIDING SYSTEM VALUE VALUES (6, '', '{}', '', '', '', '', '')", "stands before entry 6"},
		"removed, and the head":   {"UPDATE audit_head SET pruned_id = 7, pruned_hash = (SELECT hash FROM audit WHERE audit_id = 7); DELETE FROM audit WHERE audit_id = 7", "entries up to 7 are gone, and none that is left tells"},
		"another hash to go from": {"UPDATE audit_head SET pruned_hash = sha256('x')", "none that is left tells"},
		"what tells of it":        {"DELETE FROM audit WHERE audit_id = 11", "none that is left tells"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, owner := agedStore(t)
			require.NoError(t, s.Prune(t.Context()))
			verified(t, s, 4+1)
			exec(t, owner, "SET session_replication_role = replica")
			exec(t, owner, c.sql)
			report, err := s.VerifyAudit(t.Context())
			require.NoError(t, err)
			require.NotZero(t, report.Bad)
			require.Contains(t, fmt.Sprint(report.Faults), c.problem)
		})
	}
}
