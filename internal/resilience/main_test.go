package resilience

import (
	"os"
	"testing"

	"changeover/internal/servertest"
)

const (
	east = "us-east-1"
	west = "us-west-2"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// thorough skips what the default run has no time for: most of these tests wait for real time-outs.
func thorough(t *testing.T) {
	t.Helper()
	if os.Getenv("FAULTS") == "" {
		t.Skip("takes its time: make test/faults")
	}
}
