package auth

import (
	"bytes"
	"sync"
	"testing"

	"changeover/internal/logtest"
)

func TestMain(m *testing.M) { logtest.Main(m) }

// testLog is the logger of everything that the tests make; TestMain looks through what it got for what went through secret.
var (
	logged  syncBuffer
	testLog = logtest.New(&logged)
)

// secret notes that s must not be logged, and returns it.
func secret(s string) string {
	if s == "" { // of a cookie that is dropped
		return s
	}
	return logtest.Secret(s)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
