package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
)

func reason(r string) map[string]any { return map[string]any{"reason": r} }

func TestForceFailover(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	s.leader.answer()
	id := s.leader.openFailover(jane)

	f := read[contract.Failover](t, s.post("/v1/failovers/"+id+"/force", reason("the caller agreed"), "X-Request-Id", "req-1"), http.StatusAccepted)
	require.Equal(t, contract.FailoverStatusCompleted, f.Status, "the answer waits for the leader")
	require.True(t, f.Forced)
	require.Equal(t, "local", *f.ForcedBy)
	require.Equal(t, "the caller agreed", *f.ForcedReason)
	require.Equal(t, contract.EvidenceForced, *f.Evidence)

	again := read[contract.Problem](t, s.post("/v1/failovers/"+id+"/force", reason("once more")), http.StatusConflict)
	require.Equal(t, "urn:changeover:problem:failover-not-open", again.Type)
	require.Contains(t, again.Detail, "completed")

	entries := read[contract.AuditList](t, s.get("/v1/audit"), http.StatusOK).Items
	require.Len(t, entries, 3)
	require.Equal(t, "failover-not-open", entries[0].Outcome)
	require.Equal(t, "once more", *entries[0].Reason)
	done := entries[1]
	require.Equal(t, "done", done.Outcome)
	require.Equal(t, "req-1", done.RequestID)
	var before, after contract.Failover
	require.NoError(t, json.Unmarshal(done.Before, &before))
	require.NoError(t, json.Unmarshal(done.After, &after))
	require.Contains(t, []contract.FailoverStatus{contract.FailoverStatusDetected, contract.FailoverStatusPending}, before.Status)
	require.Equal(t, contract.FailoverStatusCompleted, after.Status)
	accepted := entries[2]
	require.Equal(t, "accepted", accepted.Outcome)
	require.Equal(t, "forceFailover", accepted.Action)
	require.Equal(t, "failovers/"+id, accepted.Target)
	require.Equal(t, "local", accepted.Subject)
	require.Equal(t, []string{"admin"}, accepted.Roles)
	require.Equal(t, "req-1", accepted.RequestID)
}

// The leader decides: between the look at the failover and the command it may have ended.
func TestForceLosesTheRace(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	id := s.leader.openFailover(jane)
	done := make(chan answer)
	go func() { done <- s.post("/v1/failovers/"+id+"/force", reason("too late")) }()
	require.Eventually(t, func() bool {
		commands, err := s.leader.store.PendingCommands(t.Context(), 0, 10)
		return err == nil && len(commands) == 1
	}, 5*time.Second, time.Millisecond)
	s.leader.contacts() // the call is cleared, so it completes by itself
	require.Equal(t, 1, s.leader.answerOnce(t.Context()))
	p := read[contract.Problem](t, <-done, http.StatusConflict)
	require.Equal(t, "urn:changeover:problem:failover-not-open", p.Type)
	outcomes := []string{}
	for _, e := range read[contract.AuditList](t, s.get("/v1/audit"), http.StatusOK).Items {
		outcomes = append(outcomes, e.Outcome)
	}
	require.Equal(t, []string{"failover-not-open", "accepted"}, outcomes)
}

// Without a leader the answer shows the failover as it stands after two seconds; the command is not lost.
func TestForceWithoutALeader(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.shift()
	id := s.leader.openFailover(jane)
	var wg sync.WaitGroup
	wg.Go(func() {
		f := read[contract.Failover](t, s.post("/v1/failovers/"+id+"/force", reason("nobody leads")), http.StatusAccepted)
		require.Equal(t, contract.FailoverStatusPending, f.Status)
	})
	wg.Go(func() {
		b := read[contract.BulkForceAccepted](t, s.post("/v1/failovers/force", bodies["forceFailovers"]), http.StatusAccepted)
		require.Nil(t, b.Matched)
		require.Nil(t, b.Forced)
	})
	wg.Wait()
	require.Equal(t, 2, s.leader.answerOnce(t.Context()))
	f := read[contract.Failover](t, s.get("/v1/failovers/"+id), http.StatusOK)
	require.Equal(t, contract.FailoverStatusCompleted, f.Status)
	entries := read[contract.AuditList](t, s.get("/v1/audit"), http.StatusOK).Items
	require.Len(t, entries, 2, "both were asked for; nobody heard what came of them")
	for _, e := range entries {
		if e.Action == "forceFailover" {
			var before contract.Failover
			require.NoError(t, json.Unmarshal(e.Before, &before))
			require.Equal(t, contract.FailoverStatusPending, before.Status)
		}
	}
}

func TestBulkForce(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()
	s.leader.distribute(0) // both are detected; nobody knows of contacts since
	s.leader.answer()

	body := map[string]any{"failoverGroup": "main", "fromRegion": east, "reason": "drill", "maxFraction": 0.5, "maxPerSecond": 10}
	p := read[contract.Problem](t, s.post("/v1/failovers/force", body), http.StatusUnprocessableEntity)
	require.Equal(t, "urn:changeover:problem:rule-refused", p.Type)
	require.Contains(t, p.Detail, "maxFraction")
	s.leader.openFailover(jane)
	s.leader.openFailover(joe) // nothing was forced

	stale := read[contract.BulkForceAccepted](t, s.post("/v1/failovers/force", map[string]any{"failoverGroup": "main", "onlyStale": true, "reason": "drill"}), http.StatusAccepted)
	require.Zero(t, *stale.Matched)
	body["maxFraction"] = 1
	body["tdgId"] = tdgID
	delete(body, "maxPerSecond")
	all := read[contract.BulkForceAccepted](t, s.post("/v1/failovers/force", body), http.StatusAccepted)
	require.Equal(t, 2, *all.Matched)
	require.Equal(t, 2, *all.Forced)
	require.Nil(t, s.leader.agent(jane).Failover)

	entries := read[contract.AuditList](t, s.get("/v1/audit?limit=2"), http.StatusOK).Items
	require.Equal(t, "done", entries[0].Outcome)
	require.JSONEq(t, `{"matched":2,"forced":2}`, string(entries[0].After))
	entry := entries[1]
	require.Equal(t, "accepted", entry.Outcome)
	require.Equal(t, "failover-groups/main", entry.Target)
	require.JSONEq(t, `{"failoverGroup":"main","fromRegion":"us-east-1","maxFraction":1,"reason":"drill","tdgId":"`+tdgID+`"}`, string(entry.Details))
}

func TestForceInput(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for name, c := range map[string]struct {
		path, body, field string
	}{
		"no reason":           {"/v1/failovers/x/force", `{}`, "reason"},
		"empty reason":        {"/v1/failovers/x/force", `{"reason":""}`, "reason"},
		"blank reason":        {"/v1/failovers/x/force", `{"reason":"   "}`, "reason"},
		"null reason":         {"/v1/failovers/x/force", `{"reason":null}`, "reason"},
		"reason is no text":   {"/v1/failovers/x/force", `{"reason":7}`, "reason"},
		"endless reason":      {"/v1/failovers/x/force", `{"reason":"` + strings.Repeat("x", 501) + `"}`, "reason"},
		"no group":            {"/v1/failovers/force", `{"reason":"x"}`, "failoverGroup"},
		"fraction of nothing": {"/v1/failovers/force", `{"reason":"x","failoverGroup":"main","maxFraction":0}`, "maxFraction"},
		"more than all":       {"/v1/failovers/force", `{"reason":"x","failoverGroup":"main","maxFraction":1.01}`, "maxFraction"},
		"a negative pace":     {"/v1/failovers/force", `{"reason":"x","failoverGroup":"main","maxPerSecond":-1}`, "maxPerSecond"},
		"no Region":           {"/v1/failovers/force", `{"reason":"x","failoverGroup":"main","fromRegion":"east"}`, "fromRegion"},
		"not an object":       {"/v1/failovers/force", `[]`, ""},
		"nothing":             {"/v1/failovers/force", ``, ""},
	} {
		p := read[contract.Problem](t, s.post(c.path, c.body), http.StatusBadRequest)
		require.Equal(t, c.field, p.Errors[0].Field, "%s: %v", name, p.Errors)
		require.Equal(t, contract.FieldErrorInBody, p.Errors[0].In, name)
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.leader.floor()

	sent := func() (r failover.Report) {
		t.Helper()
		commands, err := s.leader.store.PendingCommands(t.Context(), 0, 1000)
		require.NoError(t, err)
		last := commands[len(commands)-1]
		require.Equal(t, "report", last.Kind)
		require.NoError(t, json.Unmarshal(last.Payload, &r))
		return r
	}
	path := "/v1/agents/" + jane + "/reports"
	accepted := read[contract.ReportAccepted](t, s.post(path, `{"activeRegion":"us-east-1","nextActiveRegion":"us-west-2",
		"contacts":[{"contactId":"c1","channel":"VOICE","state":"CONNECTED"}],"contactsRegion":"us-east-1",
		"standby":{"region":"us-west-2","ready":false,"reason":"not signed in"},
		"configureError":{"code":"LOGIN_URL_MISSING","message":"set loginUrl"}}`), http.StatusAccepted)
	r := sent()
	require.WithinDuration(t, time.Now(), r.At, time.Minute)
	require.Equal(t, accepted.ReceivedAt, r.At.UTC().Truncate(time.Millisecond))
	no := false
	require.Equal(t, failover.Report{
		AgentID: jane, At: r.At, ActiveRegion: east, NextActiveRegion: west, HasContacts: true,
		Contacts:       []failover.ReportedContact{{ContactID: "c1", Channel: "VOICE", State: "CONNECTED"}},
		ContactsRegion: east, Standby: &failover.Standby{Region: west, Ready: &no, Reason: "not signed in", ReportedAt: r.At},
		HasConfigError: true, ConfigCode: "LOGIN_URL_MISSING", ConfigMessage: "set loginUrl",
	}, r)

	// Null says something, and so does an empty list; a missing field does not.
	require.Equal(t, http.StatusAccepted, s.post(path, `{"nextActiveRegion":null,"configureError":null,"contacts":[],"standby":{"region":"us-west-2","ready":null}}`).status)
	r = sent()
	require.True(t, r.ClearNext)
	require.True(t, r.HasConfigError)
	require.Empty(t, r.ConfigCode)
	require.True(t, r.HasContacts)
	require.Empty(t, r.Contacts)
	require.Nil(t, r.Standby.Ready)
	require.Equal(t, http.StatusAccepted, s.post(path, `{"activeRegion":"us-east-1"}`).status)
	r = sent()
	require.False(t, r.ClearNext)
	require.False(t, r.HasConfigError)
	require.False(t, r.HasContacts)

	for name, c := range map[string]struct{ body, field string }{
		"nothing":                 {`{}`, ""},
		"null Region":             {`{"activeRegion":null}`, "activeRegion"},
		"foreign Region":          {`{"activeRegion":"eu-west-2"}`, "activeRegion"},
		"foreign next Region":     {`{"nextActiveRegion":"eu-west-2"}`, "nextActiveRegion"},
		"foreign standby":         {`{"standby":{"region":"eu-west-2","ready":true}}`, "standby.region"},
		"foreign contacts":        {`{"contacts":[],"contactsRegion":"eu-west-2"}`, "contactsRegion"},
		"unknown code":            {`{"configureError":{"code":"NOPE","message":""}}`, "configureError.code"},
		"contact without state":   {`{"contacts":[{"contactId":"c1","channel":"VOICE"}]}`, "contacts[0].state"},
		"unknown contact field":   {`{"contacts":[{"contactId":"c1","channel":"VOICE","state":"CONNECTED","region":"x"}]}`, "contacts[0].region"},
		"id with a line break":    {`{"contacts":[{"contactId":"c1\r\nevent: x","channel":"VOICE","state":"CONNECTED"}]}`, "contacts[0].contactId"},
		"too many contacts":       {`{"contacts":[` + strings.Repeat(`{"contactId":"c","channel":"V","state":"C"},`, 100) + `{"contactId":"c","channel":"V","state":"C"}]}`, "contacts"},
		"a line break in a text":  {`{"standby":{"region":"us-west-2","ready":true,"reason":"a\nb"}}`, "standby.reason"},
		"ready without a Region":  {`{"standby":{"ready":true}}`, "standby.region"},
		"contacts are not a list": {`{"contacts":null}`, "contacts"},
	} {
		p := read[contract.Problem](t, s.post(path, c.body), http.StatusBadRequest)
		require.Equal(t, c.field, p.Errors[0].Field, "%s: %v", name, p.Errors)
	}
	entries := read[contract.AuditList](t, s.get("/v1/audit"), http.StatusOK).Items
	require.Len(t, entries, 3, "each report that was taken")
	require.Equal(t, "agents/"+jane, entries[0].Target)
	require.JSONEq(t, `{"activeRegion":"us-east-1"}`, string(entries[0].Details))
}
