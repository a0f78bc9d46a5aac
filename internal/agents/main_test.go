package agents

import (
	"testing"

	"changeover/internal/logtest"
	"changeover/internal/servertest"
)

func TestMain(m *testing.M) {
	servertest.Environment()
	logtest.Main(m)
}
