package api_test

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
)

func TestShifts(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	require.Empty(t, read[contract.ShiftList](t, s.get("/v1/shifts"), http.StatusOK).Items, "the first that is known is no shift")
	s.leader.shift() // joe is completed, jane pending
	s.leader.now = s.leader.now.Add(time.Minute)
	s.leader.answer()
	read[contract.Failover](t, s.post("/v1/failovers/"+s.leader.openFailover(jane)+"/force", reason("=HYPERLINK(1)")), http.StatusAccepted)
	s.leader.distribute(100)

	list := read[contract.ShiftList](t, s.get("/v1/shifts?failoverGroup=main&tdgId="+tdgID), http.StatusOK)
	require.Len(t, list.Items, 2)
	back, first := list.Items[0], list.Items[1]
	require.Nil(t, back.EndedAt)
	require.Equal(t, back.StartedAt, *first.EndedAt)
	require.Equal(t, 2, back.Failovers)
	require.Equal(t, 2, back.Detected)
	require.Equal(t, 2, first.Failovers)
	require.Equal(t, 2, first.Completed)
	require.Equal(t, 1, first.Forced)
	require.Equal(t, west, first.After[1].Region)
	require.Equal(t, 100, first.After[1].Percent)
	page := read[contract.ShiftList](t, s.get("/v1/shifts?limit=1"), http.StatusOK)
	require.Equal(t, list.Items[:1], page.Items)
	require.Equal(t, list.Items[1:], read[contract.ShiftList](t, s.get("/v1/shifts?limit=1&cursor="+*page.NextCursor), http.StatusOK).Items)
	require.Empty(t, read[contract.ShiftList](t, s.get("/v1/shifts?failoverGroup=spare"), http.StatusOK).Items)

	report := read[contract.ShiftReport](t, s.get("/v1/shifts/"+first.ShiftID), http.StatusOK)
	require.Equal(t, first, report.Shift)
	require.Equal(t, []contract.ForcedByCount{{By: "local", Count: 1}}, report.ForcedBy)
	require.Equal(t, []contract.EvidenceCount{{Evidence: contract.EvidenceInferred, Count: 1}, {Evidence: contract.EvidenceForced, Count: 1}}, report.ByEvidence)
	require.Equal(t, 2, report.Phases.Detection.Count)
	require.Equal(t, 1, report.Phases.Release.Count)
	require.InDelta(t, 1, *report.Phases.Release.MaxSeconds, 0.001)
	require.Equal(t, 1, report.Phases.Pending.Count)
	require.InDelta(t, 61, *report.Phases.Pending.P50Seconds, 0.001)
	require.Equal(t, 2, report.Phases.Total.Count)
	require.InDelta(t, (1+62)/2.0, *report.Phases.Total.P50Seconds, 0.001)
	require.InDelta(t, 62, *report.Phases.Total.MaxSeconds, 0.001)
	require.Zero(t, report.Phases.Confirmation.Count)
	require.Nil(t, report.Phases.Confirmation.P95Seconds)

	a := s.get("/v1/shifts/" + first.ShiftID + "/failovers.csv")
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.Equal(t, `attachment; filename="shift-`+first.ShiftID+`-failovers.csv"`, a.header.Get("Content-Disposition"))
	lines, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 3)
	of := map[string]map[string]string{}
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, name := range lines[0] {
			row[name] = line[i]
		}
		of[row["agentId"]] = row
	}
	require.Equal(t, "true", of[jane]["forced"])
	// Attack: a reason that a spreadsheet would run.
	require.Equal(t, "'=HYPERLINK(1)", of[jane]["forcedReason"])
	require.Equal(t, call, of[jane]["initialContactIds"])
	require.Equal(t, "61.000", of[jane]["pendingSeconds"])
	require.Equal(t, "inferred", of[joe]["evidence"])
	require.Equal(t, "1.000", of[joe]["totalSeconds"])
	require.Empty(t, of[joe]["pendingAt"])

	for _, path := range []string{"/v1/shifts/999999", "/v1/shifts/999999/failovers.csv"} {
		require.Equal(t, http.StatusNotFound, s.get(path).status, path)
	}
	for _, path := range []string{"/v1/shifts/0", "/v1/shifts/x", "/v1/shifts/-1", "/v1/shifts/1e3"} {
		require.Equal(t, http.StatusBadRequest, s.get(path).status, path)
	}
}

// A shift of more agents than one page of the database.
func TestShiftOfManyAsCSV(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	const many = 2500
	users := failover.UsersListed{Group: "main", Region: east}
	page := failover.RosterPage{Group: "main", TDG: tdgID, Pass: 2}
	for i := range many {
		id := fmt.Sprintf("87654321-1111-2222-3333-1%011d", i)
		users.Users = append(users.Users, failover.User{ID: id, Username: fmt.Sprintf("u%d", i)})
		page.UserIDs = append(page.UserIDs, id)
	}
	s.leader.step(users, page)
	s.leader.distribute(0)
	shift := read[contract.ShiftList](t, s.get("/v1/shifts"), http.StatusOK).Items[0]
	require.Equal(t, many+2, shift.Failovers)
	lines, err := csv.NewReader(strings.NewReader(s.get("/v1/shifts/" + shift.ShiftID + "/failovers.csv").body)).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, many+3)
	seen := map[string]bool{}
	for _, line := range lines {
		require.False(t, seen[line[0]], "no failover twice")
		seen[line[0]] = true
	}
}
