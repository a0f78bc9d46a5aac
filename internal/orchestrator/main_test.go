package orchestrator

import (
	"testing"

	"changeover/internal/servertest"
)

func TestMain(m *testing.M) { servertest.Main(m) }
