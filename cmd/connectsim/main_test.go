package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// started runs `connectsim serve` and returns its address; it is stopped, and its exit code checked, at the end of
// the test.
func started(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	code := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		code <- run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...), w, &stderr)
		w.Close()
	}()
	first := make([]byte, 500)
	n, err := r.Read(first)
	require.NoError(t, err, "%s", &stderr)
	var rest sync.WaitGroup
	rest.Go(func() { _, _ = io.Copy(io.Discard, r) })
	url := regexp.MustCompile(`http://[0-9.:]+`).FindString(string(first[:n]))
	require.NotEmpty(t, url, "%s", first[:n])
	t.Cleanup(func() {
		cancel()
		require.Zero(t, <-code, "%s", &stderr)
		rest.Wait()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return url
}

// command runs connectsim and returns what it prints.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestServeShiftStatus(t *testing.T) {
	url := started(t, "--agents", "12", "--tdg", "default=2", "--tdg", "second=1", "--update-window", "0", "--lag", "0", "--move-delay", "0",
		"--calls-per-hour", "0", "--chats-per-hour", "0", "--tasks-per-hour", "0", "--rate", "0", "--burst", "0")
	code, out, errs := command(t, "status", "--endpoint", url)
	require.Zero(t, code, errs)
	require.Regexp(t, `us-east-1 +up +12 `, out)
	require.Regexp(t, `default +ACTIVE +us-east-1 100 %, us-west-2 0 % +8 +0 +0`, out)

	code, out, errs = command(t, "shift", "--endpoint", url, "--to", "us-west-2")
	require.Zero(t, code, errs)
	require.Contains(t, out, "default is on its way: us-west-2 100 %, us-east-1 0 %")
	code, _, errs = command(t, "shift", "--endpoint", url, "--to", "us-west-2", "--tdg", "second", "--percent", "50")
	require.Zero(t, code, errs, "a group without sign-in")
	_, out, _ = command(t, "status", "--endpoint", url)
	require.Regexp(t, `default +ACTIVE +us-east-1 0 %, us-west-2 100 % +8 +0 +0`, out)
	require.Regexp(t, `second +ACTIVE +us-east-1 50 %, us-west-2 50 % +4 +0 +0`, out)
	_, out, _ = command(t, "status", "--endpoint", url, "--json")
	require.Contains(t, out, `"waiting": 0`)
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	url := started(t, "--agents", "1")
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"no command":        {[]string{}, 2, []string{"expected one of"}},
		"unknown flag":      {[]string{"serve", "--agent", "3"}, 2, []string{"--agent"}},
		"no target":         {[]string{"shift"}, 2, []string{"--to"}},
		"one Region":        {[]string{"serve", "--regions", "us-east-1"}, 1, []string{"--regions"}},
		"weight":            {[]string{"serve", "--tdg", "a=b"}, 1, []string{`--tdg "a=b"`}},
		"all faults":        {[]string{"serve", "--regions", "us,eu-west-2", "--lag=-1s"}, 1, []string{`region "us"`, "lag -1s"}},
		"address":           {[]string{"serve", "--listen", "127.0.0.1:99999"}, 1, []string{"127.0.0.1:99999"}},
		"unknown Region":    {[]string{"shift", "--endpoint", url, "--to", "eu-west-2"}, 1, []string{"valid region"}},
		"unknown group":     {[]string{"shift", "--endpoint", url, "--to", "us-west-2", "--tdg", "night"}, 1, []string{`"night"`, "default"}},
		"odd percent":       {[]string{"shift", "--endpoint", url, "--to", "us-west-2", "--percent", "55"}, 1, []string{"InvalidRequestException", "increments of 10"}},
		"nobody there":      {[]string{"status", "--endpoint", "http://127.0.0.1:1"}, 1, []string{"ask the simulator"}},
		"not a simulator":   {[]string{"status", "--endpoint", url + "/instance"}, 1, []string{"is no simulator"}},
		"impossible status": {[]string{"status", "--endpoint", "::"}, 1, []string{"--endpoint"}},
	} {
		code, _, errs := command(t, c.args...)
		require.Equal(t, c.code, code, "%s: %s", name, errs)
		for _, w := range c.want {
			require.Contains(t, errs, w, name)
		}
	}
	code, out, _ := command(t, "--help")
	require.Zero(t, code)
	require.True(t, strings.Contains(out, "serve") && strings.Contains(out, "shift") && strings.Contains(out, "status"), out)
}
