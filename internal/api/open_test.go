package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
)

// During a shift an operator sees who waits for what, and forces the ones chosen.
func TestOpenFailovers(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	require.Empty(t, read[contract.OpenFailoverList](t, s.get("/v1/open-failovers"), http.StatusOK).Items)

	const many = 5 // beside jane, whose call holds her
	users := failover.UsersListed{Group: "main", Region: east}
	page := failover.RosterPage{Group: "main", TDG: tdgID, Pass: 2}
	id := func(n int) string { return fmt.Sprintf("87654321-1111-2222-3333-1%011d", n) }
	for i := range many {
		users.Users = append(users.Users, failover.User{ID: id(i), Username: fmt.Sprintf("Agent-%d", many-i)})
		page.UserIDs = append(page.UserIDs, id(i))
	}
	s.leader.step(users, page)
	s.leader.shift() // joe is completed, jane pending, the others detected
	s.leader.now = s.leader.now.Add(time.Minute)
	s.leader.answer()

	list := func(query string) contract.OpenFailoverList {
		return read[contract.OpenFailoverList](t, s.get("/v1/open-failovers"+query), http.StatusOK)
	}
	all := list("?failoverGroup=main&fromRegion=" + east)
	require.Equal(t, contract.OpenFailoverTotals{Failovers: many + 1, Pending: 1, Live: 1}, all.Totals)
	require.Len(t, all.Items, many+1)
	janes := list("?status=pending")
	require.Len(t, janes.Items, 1)
	j := janes.Items[0]
	require.Equal(t, []string{jane, "jane.doe", east, west}, []string{j.AgentID, *j.Username, j.FromRegion, j.ToRegion})
	require.Equal(t, s.leader.openFailover(jane), j.FailoverID)
	require.Len(t, j.Contacts, 1)
	require.Equal(t, []string{"VOICE", "CONNECTED"}, []string{j.Contacts[0].Channel, j.Contacts[0].State})
	require.NotNil(t, j.Contacts[0].StateSince)
	require.Equal(t, j.FailoverID, all.Items[len(all.Items)-1].FailoverID, "she is pending since later than the others are detected")
	require.Equal(t, j.FailoverID, list("?order=shortest&limit=1").Items[0].FailoverID)

	for query, want := range map[string]int{
		"?phase=talking": 1, "?phase=afterContactWork": 0, "?channel=VOICE": 1, "?channel=CHAT": 0, "?stale=true": 0, "?stale=false": many + 1,
		"?status=detected": many, "?failoverGroup=spare": 0, "?fromRegion=" + west: 0, "?tdgId=" + tdgID: many + 1,
	} {
		l := list(query)
		require.Len(t, l.Items, want, query)
		require.Equal(t, want, l.Totals.Failovers, query)
	}
	// A bulk force matches what the list does, and says how many; to try, hardly anybody may be forced.
	for query, narrow := range map[string]map[string]any{
		"?phase=talking": {"phase": "talking"}, "?phase=afterContactWork": {"phase": "afterContactWork"}, "?channel=VOICE": {"channel": "VOICE"}, "?channel=CHAT": {"channel": "CHAT"},
		"?stale=true": {"onlyStale": true}, "?stale=false": {"onlyFresh": true}, "?status=detected": {"status": "detected"},
		"?status=pending&channel=VOICE&fromRegion=" + east: {"status": "pending", "channel": "VOICE", "fromRegion": east}, "?status=detected&phase=talking": {"status": "detected", "phase": "talking"},
	} {
		want := list(query).Totals.Failovers
		narrow["failoverGroup"], narrow["reason"], narrow["maxFraction"] = "main", "test", 0.0001
		if answer := s.post("/v1/failovers/force", narrow); want == 0 {
			require.Zero(t, *read[contract.BulkForceAccepted](t, answer, http.StatusAccepted).Matched, query)
		} else {
			require.Contains(t, read[contract.Problem](t, answer, http.StatusUnprocessableEntity).Detail, fmt.Sprintf("maxFraction: %d of the %d agents", want, many+2), query)
		}
	}
	require.Equal(t, http.StatusBadRequest, s.post("/v1/failovers/force", map[string]any{"failoverGroup": "main", "reason": "test", "phase": "asleep"}).status)
	require.Equal(t, http.StatusBadRequest, s.post("/v1/failovers/force", map[string]any{"failoverGroup": "main", "reason": "test", "channel": "voice"}).status)
	for _, order := range []string{"longest", "shortest", "username"} {
		var got []string
		cursor := ""
		for {
			l := list("?limit=2&order=" + order + cursor)
			require.Equal(t, many+1, l.Totals.Failovers, "of all, not of the page")
			for _, f := range l.Items {
				got = append(got, *f.Username)
			}
			if l.NextCursor == nil {
				break
			}
			cursor = "&cursor=" + *l.NextCursor
			require.Equal(t, http.StatusBadRequest, s.get("/v1/open-failovers?order=other").status)
		}
		require.Len(t, got, many+1)
		if order == "username" {
			require.Equal(t, []string{"Agent-1", "Agent-2", "Agent-3", "Agent-4", "Agent-5", "jane.doe"}, got)
		}
	}
	longest := list("?limit=2")
	require.Equal(t, http.StatusBadRequest, s.get("/v1/open-failovers?limit=2&order=username&cursor="+*longest.NextCursor).status, "a cursor is of one order")

	// Two of them are forced by name; somebody else's id matches nothing, and a fifth of seven is one.
	body := map[string]any{"failoverGroup": "main", "reason": "test", "failoverIds": []string{j.FailoverID, all.Items[0].FailoverID, "none"}}
	p := read[contract.Problem](t, s.post("/v1/failovers/force", body), http.StatusUnprocessableEntity)
	require.Equal(t, "urn:changeover:problem:rule-refused", p.Type)
	require.Equal(t, many+1, list("").Totals.Failovers)
	body["maxFraction"] = 0.5
	done := read[contract.BulkForceAccepted](t, s.post("/v1/failovers/force", body), http.StatusAccepted)
	require.Equal(t, []int{2, 2}, []int{*done.Matched, *done.Forced})
	require.Equal(t, contract.OpenFailoverTotals{Failovers: many - 1}, list("").Totals)
	body["failoverIds"] = []string{}
	read[contract.Problem](t, s.post("/v1/failovers/force", body), http.StatusBadRequest)

	// Progress: all were detected in the first second, one became pending, two (and joe) are completed a minute later.
	shift := read[contract.Summary](t, s.get("/v1/summary"), http.StatusOK).Items[0].Shifts[0]
	progress := read[contract.ShiftProgress](t, s.get("/v1/shifts/"+*shift.ShiftID+"/progress"), http.StatusOK)
	require.Equal(t, shift.StartedAt, progress.StartedAt)
	require.LessOrEqual(t, len(progress.Points), 240)
	last := progress.Points[len(progress.Points)-1]
	require.Equal(t, []int{many + 2, 0, 3, 0}, []int{last.Detected, last.Pending, last.Completed, last.Cancelled})
	most := 0
	for i, point := range progress.Points {
		most = max(most, point.Pending)
		require.False(t, point.At.After(progress.Until))
		if i > 0 {
			require.GreaterOrEqual(t, point.Detected, progress.Points[i-1].Detected)
			require.True(t, point.At.After(progress.Points[i-1].At))
		}
	}
	require.Equal(t, 1, most)
	for _, nothing := range []string{"1", "99", "999999999999999999"} { // the first that is known is no shift
		require.Equal(t, http.StatusNotFound, s.get("/v1/shifts/"+nothing+"/progress").status)
	}

	// People are found by how their name begins.
	found := func(query string) (names []string) {
		for _, a := range read[contract.AgentList](t, s.get("/v1/agents?"+query), http.StatusOK).Items {
			names = append(names, *a.Username)
		}
		return names
	}
	require.Equal(t, []string{"jane.doe"}, found("search=JANE"))
	require.Equal(t, []string{"Agent-5", "Agent-4", "Agent-3", "Agent-2", "Agent-1"}, found("search=agent-"), "by id")
	require.Equal(t, []string{"Agent-5"}, found("search="+id(0)))
	require.Equal(t, []string{"Agent-3"}, found("username=Agent-3&search=agent"))
	require.Empty(t, found("username=Agent-3&search=jane"))
	require.Empty(t, found("search=%25"))
}
