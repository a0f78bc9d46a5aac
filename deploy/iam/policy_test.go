// Package iam holds the AWS policy; its test keeps it what the service needs and no more.
package iam

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"changeover/internal/connect"
)

// oneOrMore is a string or a list of strings, as IAM has it.
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(o))
}

// The policy names exactly the operations that the service calls, each once, and never everything.
func TestPolicyIsWhatTheServiceCalls(t *testing.T) {
	t.Parallel()
	file, err := os.Open("changeover.json")
	require.NoError(t, err)
	defer file.Close()
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	var policy struct {
		Version   string
		Statement []struct {
			Sid, Effect      string
			Action, Resource oneOrMore
		}
	}
	require.NoError(t, decoder.Decode(&policy))
	require.Equal(t, "2012-10-17", policy.Version)

	resource := regexp.MustCompile(`^arn:aws:connect:(SOURCE|REPLICA)_REGION:ACCOUNT:(traffic-distribution-group/\*|instance/INSTANCE_ID(/(agent|queue|routing-profile|contact)/\*)?)$`)
	var allowed []string
	for _, s := range policy.Statement {
		require.Equal(t, "Allow", s.Effect, s.Sid)
		require.NotEmpty(t, s.Resource, s.Sid)
		for _, r := range s.Resource {
			require.Regexp(t, resource, r, s.Sid)
		}
		allowed = append(allowed, s.Action...)
	}
	var called []string
	for _, operation := range connect.Operations {
		called = append(called, "connect:"+operation)
	}
	require.ElementsMatch(t, called, allowed)
}
