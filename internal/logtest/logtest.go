// Package logtest looks through everything that a test binary's parts log for the secrets that its tests used.
//
// Tests take their loggers from [New], what programs print goes to [Output] too, and each token, cookie, ticket, password and key that a
// test makes or gets is told to [Secret]. [Main], or [Verify] in a TestMain of one's own, fails the binary when a secret is in the log.
// The secrets that travel over HTTP are told by package apitest, those of test databases by postgrestest.
//
// The log goes to a temporary file, because the acceptance tests write a great deal and measure memory.
package logtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// shortest is the length of the shortest secret that is looked for: a shorter one would be found by chance.
const shortest = 12

var state struct {
	mu      sync.Mutex
	file    *os.File // nil: nothing was logged
	secrets map[string]bool
}

// New returns a logger of everything, debug messages included. w gets what a service at the level info would write, as text; nil:
// nothing.
func New(w io.Writer) *slog.Logger {
	all := slog.NewJSONHandler(sink{}, &slog.HandlerOptions{Level: slog.LevelDebug})
	if w == nil {
		return slog.New(all)
	}
	return slog.New(slog.NewMultiHandler(slog.NewTextHandler(w, nil), all))
}

// Output takes what programs of the suite write: their logs, and what they print.
func Output() io.Writer { return sink{} }

// Buffer collects what several write, and can be read meanwhile. The zero value is empty and ready to use.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is what has been written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type sink struct{}

// Write implements io.Writer.
func (sink) Write(p []byte) (int, error) {
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.file == nil {
		f, err := os.CreateTemp("", "changeover-log-")
		if err != nil {
			return 0, err
		}
		state.file = f
	}
	return state.file.Write(p)
}

// Secret notes that s must not be logged, and returns it. Of a JWT that holds for its claims and its signature, each alone; its header
// is the same for many. A secret shorter than 12 characters cannot be looked for, and panics.
func Secret(s string) string {
	if len(s) < shortest {
		panic(fmt.Sprintf("the secret %q is too short to be looked for", s))
	}
	note(s)
	if parts := strings.Split(s, "."); len(parts) == 3 {
		for _, part := range parts[1:] {
			if len(part) >= shortest {
				note(part)
			}
		}
	}
	return s
}

func note(s string) {
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.secrets == nil {
		state.secrets = make(map[string]bool)
	}
	state.secrets[s] = true
}

// found returns a line of the log with a secret in it; empty: there is none. A secret counts in the ways that logs write it: as it is,
// quoted, and as a part of a URL.
func found() (line string, err error) {
	state.mu.Lock()
	defer state.mu.Unlock()
	if state.file == nil {
		return "", nil
	}
	log, err := os.ReadFile(state.file.Name())
	if err != nil {
		return "", err
	}
	return search(log, state.secrets), nil
}

func search(log []byte, secrets map[string]bool) string {
	for secret := range secrets {
		quoted, _ := json.Marshal(secret) // a string
		for _, form := range []string{secret, string(quoted[1 : len(quoted)-1]), url.QueryEscape(secret), url.PathEscape(secret)} {
			at := bytes.Index(log, []byte(form))
			if at < 0 {
				continue
			}
			begin := bytes.LastIndexByte(log[:at], '\n') + 1
			end := len(log)
			if n := bytes.IndexByte(log[at:], '\n'); n >= 0 {
				end = at + n
			}
			return string(log[begin:end])
		}
	}
	return ""
}

// Verify is for the end of a TestMain: it returns code, or 1 if a secret was logged.
func Verify(code int) int {
	line, err := found()
	state.mu.Lock()
	if state.file != nil {
		state.file.Close()
		os.Remove(state.file.Name())
		state.file = nil
	}
	state.mu.Unlock()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "read the log of the tests:", err)
		return 1
	case line != "":
		fmt.Fprintln(os.Stderr, "a secret of the tests was logged:", line)
		return 1
	}
	return code
}

// Main is a TestMain: it runs the tests, and fails when goroutines were left behind or a secret was logged.
func Main(m *testing.M, leaks ...goleak.Option) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(leaks...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(Verify(code))
}
