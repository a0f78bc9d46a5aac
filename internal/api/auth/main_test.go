package auth

import (
	"testing"

	"changeover/internal/logtest"
)

func TestMain(m *testing.M) { logtest.Main(m) }

// testLog is the logger of everything that the tests make; TestMain looks through what it got for what went through secret.
var (
	logged  logtest.Buffer
	testLog = logtest.New(&logged)
)

// secret notes that s must not be logged, and returns it.
func secret(s string) string {
	if s == "" { // of a cookie that is dropped
		return s
	}
	return logtest.Secret(s)
}
