//go:build linux

package main

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSmallFloor is make load with 200 agents, so that it cannot rot. What it measures says nothing on a busy machine.
func TestSmallFloor(t *testing.T) {
	programs := t.TempDir()
	out, err := exec.Command("go", "build", "-o", programs, "changeover/cmd/server", "changeover/cmd/connectsim", "changeover/cmd/load").CombinedOutput()
	require.NoError(t, err, "%s", out)
	r := &run{
		Agents: 200, Contacts: 0.3, Quotas: "default", Replicas: 2, Heartbeat: time.Second, Poll: time.Second, Idle: 2 * time.Second, Wait: 30 * time.Second,
		Programs: programs, Out: t.TempDir(), self: programs + "/load",
	}
	report, err := r.measure(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Faults)
	require.Equal(t, 200, report.Detected.Count)
	require.Equal(t, 140, report.Completed.Count)
	require.Equal(t, 60, report.Pending.Count)
	require.Equal(t, 60, report.PendingByRead.Count)
	require.Equal(t, 200, report.Floor.Written.Count)
	require.Positive(t, report.Floor.Written.First)
	require.Equal(t, int64(400), report.Floor.Copy.Rows["events"])
	require.Positive(t, report.Detected.First, "nobody hears before the poll")
	require.Less(t, report.Detected.Last, report.Completed.Last)
	require.Positive(t, report.PendingByRead.First)
	require.Positive(t, report.Commits)
	for _, name := range components {
		require.Greater(t, report.Idle.Memory[name], int64(1<<20), name)
	}
	require.Positive(t, report.Shift.CPU["service"])
	require.Positive(t, report.MovingSeconds)
	require.LessOrEqual(t, report.MovingCPU["service"], report.Shift.CPU["service"]+0.1)
	require.NotPanics(t, func() { report.print(t.Output()) })
}
