package acceptance

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"changeover/internal/connect"
	"changeover/internal/connectsim"
)

// reads are the names of operations that change nothing.
var reads = regexp.MustCompile(`^(Get|List|Describe)[A-Z]`)

// requireReads fails if Amazon Connect was asked for anything but the operations that are said to be all, every one of which reads.
func requireReads(t *testing.T, sim *connectsim.Sim) {
	t.Helper()
	for _, call := range sim.Calls() {
		if call.Operation == "" { // half a request, of a process that was killed
			require.Equal(t, "SerializationException", call.Error, "%s", call.Path)
		}
	}
	for call := range sim.CallCounts() {
		if call.Operation == "" {
			continue
		}
		require.Contains(t, connect.Operations, call.Operation)
		require.Regexp(t, reads, call.Operation)
	}
}
