package auth

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines leaked:", err)
			code = 1
		}
		if found := leaked(); found != "" {
			fmt.Fprintln(os.Stderr, "a secret of the tests is in the log:", found)
			code = 1
		}
	}
	os.Exit(code)
}

// What the tests used that nobody may read in a log, and everything that was logged.
var (
	secretsMu sync.Mutex
	secrets   = make(map[string]bool)
	logged    syncBuffer
)

// testLog is the logger of everything that the tests make; TestMain looks through what it got.
var testLog = slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))

// secret notes that s must not be logged, and returns it. Of a JWT that holds for each of its parts but the header.
func secret(s string) string {
	secretsMu.Lock()
	defer secretsMu.Unlock()
	for i, part := range strings.Split(s, ".") {
		if len(part) >= 16 && (i > 0 || !strings.Contains(s, ".")) {
			secrets[part] = true
		}
	}
	return s
}

func leaked() string {
	secretsMu.Lock()
	defer secretsMu.Unlock()
	all := logged.String()
	for s := range secrets {
		if strings.Contains(all, s) {
			return s
		}
	}
	return ""
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
