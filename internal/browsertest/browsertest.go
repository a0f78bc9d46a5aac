// Package browsertest plays scripts for playwright in Chromium, on this machine's Node.
package browsertest

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Wanted skips a test unless BROWSER_TESTS is set, as make test does: plain go test ./... needs no browser.
func Wanted(t testing.TB) {
	t.Helper()
	if os.Getenv("BROWSER_TESTS") == "" {
		t.Skip("make test drives the browser, or BROWSER_TESTS=1")
	}
}

// Chromium returns the path of the browser. A test without it fails: scripts/setup installs it.
func Chromium(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("Chromium is not installed. Run scripts/setup")
	return ""
}

// Packages installs what the package-lock.json of the test's folder names. root is the way from there to the module's.
func Packages(t testing.TB, root string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), root+"/scripts/npm-ci").CombinedOutput()
	if err != nil {
		t.Fatalf("scripts/npm-ci needs Node 20 with npm, and the npm registry once: run scripts/setup: %v\n%s", err, out)
	}
}

// Play runs a script and returns what it wrote. In its environment it finds the browser as CHROMIUM, and stack as STACK. The error says
// that it failed, or was not at its end within patience.
func Play(t testing.TB, patience time.Duration, browser, stack, script string, args ...string) (out []byte, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "CHROMIUM="+browser, "STACK="+stack)
	cmd.WaitDelay = 10 * time.Second
	return cmd.CombinedOutput()
}
