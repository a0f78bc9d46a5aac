package acceptance

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/connectsim"
)

// story is a shift there and back of a small floor with a call, a chat, and a task, as every agent's desktop hears it.
type story map[string][]string

// tell plays the story with a leader that dies in the given commit (0: never), before it or with its answer lost, and is
// started again at once. told are the numbers of the commits with events.
func tell(t *testing.T, view connectsim.View, killAt int, late bool) (heard story, told []int) {
	f := newFloor(t, connectsim.Config{Seed: 5, View: view, Agents: 6, RoutingProfiles: 2, RatePerSecond: 2, Burst: 5, Lag: 2 * time.Second})
	s := f.store.connect()
	s.killAt, s.late = killAt, late
	f.run(s)
	live := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); f.pass(100 * time.Millisecond) {
			select {
			case <-s.killed:
				f.stop()
				s = f.store.connect()
				f.run(s)
			default:
			}
		}
	}
	live(10 * time.Second)
	call, chat := f.contact(f.id(0), connectsim.ChannelVoice), f.contact(f.id(1), connectsim.ChannelChat)
	f.contact(f.id(2), connectsim.ChannelTask)
	live(20 * time.Second)
	f.shift(west)
	live(35 * time.Second)
	second := f.contact(f.id(1), connectsim.ChannelChat)
	live(25 * time.Second)
	require.NoError(t, f.ClearContact(call))
	require.NoError(t, f.ClearContact(chat))
	live(25 * time.Second)
	f.shift(east) // the chat goes on, so that is cancelled
	live(40 * time.Second)
	require.NoError(t, f.ClearContact(second))
	live(20 * time.Second)
	require.True(t, f.settled())
	require.Len(t, f.store.changes, 3, "of the distribution: the first observation, there, and back")

	heard = story{}
	names := map[string]string{call: "call", chat: "chat", second: "second chat"}
	for _, e := range f.store.events(0) {
		line := fmt.Sprintf("%s %s%s%s", e.Type, e.ActiveRegion, e.NextRegion, e.Evidence)
		for _, c := range e.ContactIDs {
			line += " " + names[c]
		}
		name := f.username(e.AgentID)
		heard[name] = append(heard[name], line)
	}
	return heard, s.told
}

// A leader that dies in any commit that tells something, or in one of the others, at either side of it, and starts again: every desktop hears the same story, from the first
// observation to the last completion, as if nothing had happened. No failover is lost, none doubled.
func TestKilledAtACommit(t *testing.T) {
	t.Parallel()
	for _, view := range []connectsim.View{connectsim.Regional, connectsim.Global} {
		t.Run(string(view), func(t *testing.T) {
			t.Parallel()
			var whole story
			var told []int
			synctest.Test(t, func(t *testing.T) { whole, told = tell(t, view, 0, false) })
			require.Len(t, whole, 6)
			require.Len(t, whole["agent00001"], 6, "%v", whole["agent00001"]) // snapshot, there: detected, pending, completed, and back: detected, completed
			t.Logf("the caller hears %q, the chatter %q", whole["agent00001"], whole["agent00002"])
			points := slices.Clone(told)
			if view == connectsim.Regional { // and where nothing is told
				points = append(points, 1, 2, 3, 4, told[len(told)-1]-1, told[len(told)-1]+1)
			}
			slices.Sort(points)
			for _, n := range slices.Compact(points) {
				for _, late := range []bool{false, true} {
					t.Run(fmt.Sprintf("commit %d/answer lost %t", n, late), func(t *testing.T) {
						t.Parallel()
						synctest.Test(t, func(t *testing.T) {
							heard, _ := tell(t, view, n, late)
							require.Equal(t, whole, heard)
						})
					})
				}
			}
		})
	}
}
