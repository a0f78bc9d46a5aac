package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
)

func vote(adopted failover.Distribution, answers ...failover.Answer) failover.Vote {
	v := failover.Vote{Adopted: adopted, Answers: map[string]failover.Answer{}}
	for i, a := range answers {
		v.Answers[[]string{"us-east-1", "us-west-2"}[i]] = a
	}
	return v
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	d := func(east, west int) failover.Distribution {
		return failover.Distribution{{Region: "us-east-1", Percent: east}, {Region: "us-west-2", Percent: west}}
	}
	says := func(east, west int) failover.Answer { return failover.Answer{Value: d(east, west)} }
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	fine := vote(d(100, 0), says(100, 0), says(100, 0))
	for name, c := range map[string]struct {
		tdg  failover.TDG
		want []string
	}{
		"all is well":                {failover.TDG{Agents: fine, Telephony: fine, SignIn: vote(d(1, 1))}, nil},
		"not read yet":               {failover.TDG{}, []string{"NOT_OBSERVED"}},
		"no telephony, no sign-in":   {failover.TDG{Agents: fine}, nil},
		"one Region has not said":    {failover.TDG{Agents: vote(d(100, 0), says(100, 0), failover.Answer{})}, nil},
		"Regions disagree":           {failover.TDG{Agents: vote(d(100, 0), says(100, 0), says(0, 100))}, []string{"REGIONS_DISAGREE"}},
		"calls go elsewhere":         {failover.TDG{Agents: fine, Telephony: vote(d(0, 100))}, []string{"TELEPHONY_DIFFERS"}},
		"sign-in is elsewhere":       {failover.TDG{Agents: fine, SignIn: vote(d(0, 1))}, []string{"SIGN_IN_DIFFERS"}},
		"sign-in of an empty Region": {failover.TDG{Agents: fine, SignIn: vote(d(1, 0))}, nil},
		"split":                      {failover.TDG{Agents: vote(d(70, 30)), Telephony: vote(d(70, 30)), SplitAt: at}, []string{"SPLIT"}},
		"set-up": {failover.TDG{Agents: fine, Setup: []failover.SetupError{{Code: failover.CodeTDGNotActive, Message: "it is deleted", Since: at}}},
			[]string{"TDG_NOT_ACTIVE"}},
	} {
		var got []string
		for _, w := range warnings(&c.tdg) {
			got = append(got, w.Code)
			require.NotEmpty(t, w.Message, name)
		}
		require.Equal(t, c.want, got, name)
	}
	w := warnings(&failover.TDG{Agents: vote(d(100, 0), says(100, 0), says(0, 100))})[0]
	require.Contains(t, w.Message, "us-east-1 says us-east-1 100 / us-west-2 0, us-west-2 says us-east-1 0 / us-west-2 100")
}

func TestFieldPath(t *testing.T) {
	t.Parallel()
	require.Equal(t, "contacts[0].state", fieldPath([]string{"contacts", "0", "state"}))
	require.Empty(t, fieldPath(nil))
}

// checkJSON lets every JSON text through that it has no reason to refuse, and says nothing about schemas.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":[1,{"b":null}],"c":"d"}`, `[[],{}]`, `7`, `"x"`, `{"a":1,"a":2}`, `{"a":{"a":1},"b":{"a":1}}`, `{`, `[}`, ``, ` `, `{"a":"\u0000"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fault := checkJSON([]byte(text))
		if fault == nil {
			require.True(t, json.Valid([]byte(text)), "%q is no JSON and is let through", text)
			require.NotContains(t, text, "\x00")
		}
	})
}

// body is what a desktop reports on each change.
const body = `{"activeRegion":"us-east-1","nextActiveRegion":"us-west-2","contacts":[{"contactId":"4f3e2d1c-0000-4000-8000-000000000001",
	"channel":"VOICE","state":"CONNECTED"}],"contactsRegion":"us-east-1","standby":{"region":"us-west-2","ready":true},"configureError":null}`

// BenchmarkValidate is why requests are not validated by kin-openapi's JSON Schema 2020-12 validator: it compiles the schema for
// each value.
func BenchmarkValidate(b *testing.B) {
	ops, err := loadOperations()
	require.NoError(b, err)
	b.Run("report", func(b *testing.B) {
		op := ops["POST /v1/agents/{agentId}/reports"]
		b.ReportAllocs()
		for b.Loop() {
			r := httptest.NewRequest(http.MethodPost, "/v1/agents/a/reports", bytes.NewReader([]byte(body)))
			require.NoError(b, op.validate(r, map[string]string{"agentId": "a"}, []byte(body)))
		}
	})
	b.Run("stream", func(b *testing.B) {
		op := ops["GET /v1/agents/{agentId}/events"]
		b.ReportAllocs()
		for b.Loop() {
			r := httptest.NewRequest(http.MethodGet, "/v1/agents/a/events?lastEventId=x", nil)
			require.NoError(b, op.validate(r, map[string]string{"agentId": "a"}, nil))
		}
	})
	b.Run("report body by JSON Schema 2020-12", func(b *testing.B) {
		op := ops["POST /v1/agents/{agentId}/reports"]
		value := decoded(b, body)
		b.ReportAllocs()
		for b.Loop() {
			require.NoError(b, op.body.VisitJSON(value, openapi3.EnableJSONSchema2020()))
		}
	})
}

// Both validators must agree on what a request may be.
func TestValidatorsAgree(t *testing.T) {
	t.Parallel()
	ops, err := loadOperations()
	require.NoError(t, err)
	for _, c := range []struct {
		op, body string
	}{
		{"reports", body},
		{"reports", `{}`},
		{"reports", `{"nextActiveRegion":null}`},
		{"reports", `{"activeRegion":null}`},
		{"reports", `{"configureError":null}`},
		{"reports", `{"configureError":{}}`},
		{"reports", `{"configureError":{"code":"LOGIN_URL_MISSING","message":""}}`},
		{"reports", `{"configureError":{"code":"LOGIN_URL_MISSING","message":"","x":1}}`},
		{"reports", `{"contactsRegion":"x"}`},
		{"reports", `{"standby":{"region":"us-west-2","ready":null,"reason":null}}`},
		{"reports", `{"standby":{"region":"us-west-2","ready":"yes"}}`},
		{"reports", `{"contacts":[]}`},
		{"reports", `{"contacts":[` + strings.TrimSuffix(strings.Repeat(`{"contactId":"a","channel":"A","state":"A"},`, 101), ",") + `]}`},
		{"force", `{"failoverGroup":"main","reason":"x","maxPerSecond":0}`},
		{"force", `{"failoverGroup":"main","reason":"x","maxPerSecond":0.1,"maxFraction":1}`},
		{"force", `{"failoverGroup":"main","reason":"x","maxFraction":1.5}`},
		{"force", `{"failoverGroup":"main","reason":" "}`},
		{"force", `{"failoverGroup":"main","reason":"` + strings.Repeat("é", 500) + `"}`},
		{"force", `{"failoverGroup":"main","reason":"` + strings.Repeat("é", 501) + `"}`},
	} {
		op := ops["POST /v1/agents/{agentId}/reports"]
		if c.op == "force" {
			op = ops["POST /v1/failovers/force"]
		}
		value := decoded(t, c.body)
		ours := op.body.VisitJSON(value, openapi3.VisitAsRequest())
		theirs := op.body.VisitJSON(value, openapi3.VisitAsRequest(), openapi3.EnableJSONSchema2020())
		require.Equal(t, theirs == nil, ours == nil, "%.200s: %v, %v", c.body, ours, theirs)
	}
}

func decoded(t testing.TB, text string) (v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &v))
	return v
}
