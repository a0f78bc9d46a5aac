package agents

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the table of docs/capacity.md again")

// TestCapacityPage keeps the table of docs/capacity.md what the sweep and the plan of the immediate reads make of its floors; -update writes it.
func TestCapacityPage(t *testing.T) {
	t.Parallel()
	const file, begin, end = "../../docs/capacity.md", "-update -->\n", "<!-- /capacity -->"
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(b), begin)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	page := before + begin + capacityTable(t) + end + after
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(page), 0o644))
		return
	}
	require.Equal(t, page, string(b), "go test ./internal/agents -run TestCapacityPage -update")
}

func capacityTable(t *testing.T) string {
	const inProfile, onContact = 250, 0.3
	var table strings.Builder
	table.WriteString("| agents | `requestsPerSecond`, `burst` | calls of the pass | first released | half | last | those on a contact are read again each | sweep |\n|---|---|---|---|---|---|---|---|\n")
	for _, quota := range []struct {
		rate  float64
		burst int
	}{{1.2, 4}, {20, 40}} {
		for _, agents := range []int{500, 5000, 20_000, 50_000} {
			items, list, known := floor(agents/inProfile, inProfile, onContact)
			jobs := plan(items, list, known)
			calls := 0
			for _, j := range jobs {
				calls += j.calls
			}
			at := func(n int) string { return seconds(max(0, float64(n-quota.burst)/quota.rate)) }
			free := released(jobs, items)
			require.Len(t, free, agents-int(onContact*float64(agents)))

			// The formula of the page, which rounds less.
			formula := math.Ceil(onContact * float64(agents) / pageSize)
			require.LessOrEqual(t, formula, float64(calls))
			require.LessOrEqual(t, float64(calls), 1.4*formula+1)

			p := &pass{g: &region{o: Options{RequestsPerSecond: quota.rate}, list: list, profiles: known}, interval: 15 * time.Second, tries: map[*chunk]int{}}
			require.Equal(t, len(list), p.prepare(false))
			sweep := 0
			for _, c := range p.todo {
				sweep += 1 + c.busy/pageSize
			}
			took := float64(sweep) * p.spacing.Seconds()
			require.InDelta(t, max(0.9*15, 1.1*float64(sweep)/quota.rate), took, 0.01)

			again := max(5, math.Ceil(onContact*float64(agents)/pageSize)/quota.rate)
			fmt.Fprintf(&table, "| %d | %g, %d | %d | %s | %s | %s | %s | %s |\n",
				agents, quota.rate, quota.burst, calls, at(free[0]), at(free[len(free)/2]), at(free[len(free)-1]), seconds(again), seconds(took))
		}
	}
	return table.String()
}

func seconds(s float64) string {
	switch {
	case s < 0.05:
		return "at once"
	case s < 10:
		return fmt.Sprintf("%.1f", s)
	}
	return fmt.Sprintf("%.0f", s)
}
