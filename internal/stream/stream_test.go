package stream

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.know(activeIn(east, "agent-1")...)
		h := newHarness(t, s)
		c := h.connect("/agents/agent-1")
		s.commit(detected("agent-1", "f1"), completed("agent-1", "f1"))
		for _, m := range c.all() {
			t.Log(m)
		}
		require.Equal(t, []string{"snapshot", "failoverDetected", "failoverCompleted"}, c.names())
	})
}
