package stream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// Without a receiver of traces a delivery allocates nothing for them; with one, nothing for each stream.
func TestTracesCostDeliveriesNothing(t *testing.T) {
	h := New(Options{})
	c := &conn{hub: h}
	frames := []*frame{{name: string(failover.EventFailoverDetected), position: store.Position{Seq: 1}, committed: time.Now().UnixNano()}}
	rows := []store.LogEvent{{Seq: 1}}
	var begun *delivery
	require.Zero(t, testing.AllocsPerRun(100, func() {
		h.Expect(store.TracedCommit{First: store.Position{Seq: 1}, Last: store.Position{Seq: 1}})
		begun = h.tracing.begin(rows)
		h.sent(c, frames)
	}))
	require.Nil(t, begun)
	require.Empty(t, h.tracing.commits)

	frames[0].delivery = &delivery{}
	require.Zero(t, testing.AllocsPerRun(100, func() { h.sent(c, frames) }))
	require.NotZero(t, frames[0].delivery.writes.Load())
}
