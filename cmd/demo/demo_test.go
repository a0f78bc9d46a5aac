package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"changeover/internal/config"
	"changeover/internal/connectsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick is a demo that is over in seconds, in a folder of its own.
func quick(t *testing.T) *demo {
	dir := t.TempDir()
	command := filepath.Join(dir, "connectsim")
	out, err := exec.Command("go", "build", "-o", command, "../connectsim").CombinedOutput()
	require.NoError(t, err, "%s", out)
	floor := quickFloor
	floor.CallsPerHour, floor.Talk, floor.AfterContactWork = 600, connectsim.Duration(2*time.Second), connectsim.Duration(time.Second)
	floor.ChatsPerHour, floor.Missed, floor.Hold = 0, -1, -1 // these take longer
	return &demo{
		Agents: 20, Listen: "127.0.0.1:0", Sim: "127.0.0.1:0", Panels: []string{"127.0.0.1:0", "127.0.0.1:0"}, Page: "127.0.0.1:0", Dir: dir, command: command, floor: floor, every: 100 * time.Millisecond,
		poll: "poll: {distributionInterval: 2s, agentInterval: 2s, drainInterval: 1s}",
	}
}

func TestShiftToTheEnd(t *testing.T) {
	d := quick(t)
	d.Shift, d.After = true, time.Second
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	require.NoError(t, d.run(ctx, &out))
	require.NoError(t, ctx.Err(), "it did not come to its end:\n%s", out.String())
	text := out.String()
	require.Contains(t, text, "curl -N -H 'Accept: text/event-stream' http://127.0.0.1:")
	require.Contains(t, text, "aws connect update-traffic-distribution")
	require.Contains(t, text, "All 20 agents work in us-west-2.")
	require.Regexp(t, `UpdateTrafficDistribution to completed +20 +\d+\.\d s`, text)

	// The configuration that it leaves is one that an operator could have written.
	_, err := config.Load(filepath.Join(d.Dir, "demo.yaml"), nil)
	require.NoError(t, err)
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "changeover-demo-*"))
	require.NoError(t, err)
	require.Empty(t, left, "the database's folder is still there")
}

func TestInterruptedAndOnTakenPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	d := quick(t)
	d.Listen, d.Sim = taken.Addr().String(), taken.Addr().String()
	ctx, interrupt := context.WithCancel(t.Context())
	out := &interrupter{on: "Ctrl-C ends everything", interrupt: interrupt}
	began := time.Now()
	require.NoError(t, d.run(ctx, out))
	require.NotContains(t, out.String(), taken.Addr().String())
	require.Less(t, time.Since(began), 30*time.Second)
}

// interrupter is the person at the terminal, who has read it and presses Ctrl-C.
type interrupter struct {
	bytes.Buffer
	on        string
	interrupt context.CancelFunc
}

func (i *interrupter) Write(b []byte) (int, error) {
	n, err := i.Buffer.Write(b)
	if strings.Contains(i.String(), i.on) {
		i.interrupt()
	}
	return n, err
}
