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
	for call := range sim.CallCounts() {
		require.Contains(t, connect.Operations, call.Operation)
		require.Regexp(t, reads, call.Operation)
	}
}
