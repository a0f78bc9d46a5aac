package prometheus

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// mutation is a rule that is a little wrong.
type mutation struct {
	what string
	rule rule
}

var (
	comparison = regexp.MustCompile(`([<>]) (bool )?(-?[0-9.]+)?`)
	fraction   = regexp.MustCompile(`\b0\.[0-9]+\b`)
	gap        = regexp.MustCompile(`(last_over_time\([^\[]*)\[[0-9]+[smh]\]`)
	unless     = regexp.MustCompile(`\sunless\s[^)]*\) > 0`)
)

// replaced is the expression with its i-th match changed.
func replaced(expr string, at []int, by string) string { return expr[:at[0]] + by + expr[at[1]:] }

// mutations are the ways in which a rule may be wrong: without its wait or with half or twice of it, with half or twice of a threshold or of a
// fraction, with a comparison that is turned round or that holds at the limit too, with a minimum for a maximum, without what bridges a missed scrape, and
// without an exception.
func mutations(t *testing.T, r rule) (all []mutation) {
	t.Helper()
	expr := func(what, expr string) {
		m := r
		m.Expr = expr
		all = append(all, mutation{what, m})
	}
	if r.For != "" {
		d, err := time.ParseDuration(r.For)
		require.NoError(t, err)
		for what, f := range map[string]time.Duration{"no for": 0, "half the for": d / 2, "twice the for": 2 * d} {
			m := r
			m.For = strconv.Itoa(int(f.Seconds())) + "s"
			all = append(all, mutation{what, m})
		}
	}
	for _, at := range comparison.FindAllStringSubmatchIndex(r.Expr, -1) {
		op := r.Expr[at[2]:at[3]]
		expr("turned round: "+r.Expr[at[0]:at[1]], replaced(r.Expr, at[2:4], map[string]string{"<": ">", ">": "<"}[op]))
		if at[6] < 0 {
			continue
		}
		n, err := strconv.ParseFloat(r.Expr[at[6]:at[7]], 64)
		require.NoError(t, err)
		if n > 0 && n < 1 {
			continue // a fraction, below
		}
		if n == 0 || op == "<" { // what is counted
			expr("at the limit too: "+r.Expr[at[0]:at[1]], replaced(r.Expr, at[2:4], op+"="))
			continue
		}
		expr("half of "+r.Expr[at[0]:at[1]], replaced(r.Expr, at[6:8], fmt.Sprint(n/2)))
		expr("twice of "+r.Expr[at[0]:at[1]], replaced(r.Expr, at[6:8], fmt.Sprint(n*2)))
	}
	for _, at := range fraction.FindAllStringIndex(r.Expr, -1) {
		n, err := strconv.ParseFloat(r.Expr[at[0]:at[1]], 64)
		require.NoError(t, err)
		expr("half of "+r.Expr[at[0]:at[1]], replaced(r.Expr, at, fmt.Sprint(n/2)))
		if strings.Contains(r.Expr, "quantile("+r.Expr[at[0]:at[1]]) {
			continue // of which there is no twice
		}
		expr("twice of "+r.Expr[at[0]:at[1]], replaced(r.Expr, at, fmt.Sprint(n*2)))
	}
	if gap.MatchString(r.Expr) && !strings.Contains(r.Expr, "[1h]") {
		expr("a missed scrape is not bridged", gap.ReplaceAllString(r.Expr, "${1}[1s]"))
	}
	if at := unless.FindStringIndex(r.Expr); at != nil {
		expr("no exception", replaced(r.Expr, at, ""))
	}
	for from, to := range map[string]string{"min by": "max by", "max by": "min by"} {
		if strings.HasPrefix(r.Expr, from) {
			expr(from+" as "+to, to+strings.TrimPrefix(r.Expr, from))
		}
	}
	return all
}

// A rule that is a little wrong is caught by promtool with rules_test.yaml. With PROMTOOL, the program; make test/alerts.
func TestMutations(t *testing.T) {
	t.Parallel()
	promtool := os.Getenv("PROMTOOL")
	if promtool == "" {
		t.Skip("PROMTOOL names no promtool: make test/alerts")
	}
	groups := readRules(t)
	var played struct {
		EvaluationInterval string           `yaml:"evaluation_interval"`
		RuleFiles          []string         `yaml:"rule_files"`
		Tests              []map[string]any `yaml:"tests"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "rules_test.yaml")), &played))
	// Only the tests that name the alert, or what is recorded from, are played, and the first and the last, in which nothing may fire.
	tests := func(r rule) (of []map[string]any) {
		names := []string{r.Alert}
		if r.Alert == "" {
			names = metric.FindAllString(r.Expr, -1)
		}
		for i, test := range played.Tests {
			text, err := yaml.Marshal(test)
			require.NoError(t, err)
			if i == 0 || i == len(played.Tests)-1 ||
				slices.ContainsFunc(names, func(name string) bool { return strings.Contains(string(text), name) }) {
				of = append(of, test)
			}
		}
		return of
	}
	count := 0
	for g := range groups {
		for i, original := range groups[g].Rules {
			all := mutations(t, original)
			require.True(t, len(all) > 0 || original.Expr == "absent(changeover_leader)" || strings.HasPrefix(original.Expr, "sum by"), original.Record)
			count += len(all)
			for _, m := range all {
				changed := slices.Clone(groups)
				changed[g].Rules = slices.Clone(groups[g].Rules)
				changed[g].Rules[i] = m.rule
				t.Run(original.Alert+original.Record+"/"+m.what, func(t *testing.T) {
					t.Parallel()
					dir := t.TempDir()
					write := func(name string, content any) {
						text, err := yaml.Marshal(content)
						require.NoError(t, err)
						require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
					}
					write("rules.yaml", map[string]any{"groups": changed})
					some := played
					some.Tests = tests(original)
					write("test.yaml", some)
					out, err := exec.Command(promtool, "test", "rules", filepath.Join(dir, "test.yaml")).CombinedOutput()
					var failed *exec.ExitError
					require.ErrorAs(t, err, &failed, "rules_test.yaml passes with: %s for %q", m.rule.Expr, m.rule.For)
					require.Contains(t, string(out), "exp:", "it did not fail by what is expected: %s", out)
				})
			}
		}
	}
	require.Greater(t, count, 100)
}
