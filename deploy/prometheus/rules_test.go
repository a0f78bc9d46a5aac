// Package prometheus holds the alerts; its test keeps them, and the dashboard beside them, about metrics that exist, and each alert explained
// in docs/runbook.md.
package prometheus

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

type rule struct {
	Record      string            `yaml:"record,omitempty"`
	Alert       string            `yaml:"alert,omitempty"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

type group struct {
	Name  string
	Rules []rule
}

func readRules(t *testing.T) []group {
	t.Helper()
	file, err := os.Open("rules.yaml")
	require.NoError(t, err)
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	var content struct{ Groups []group }
	require.NoError(t, decoder.Decode(&content))
	return content.Groups
}

func rules(t *testing.T) (all []rule) {
	t.Helper()
	for _, g := range readRules(t) {
		all = append(all, g.Rules...)
	}
	require.NotEmpty(t, all)
	return all
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(content)
}

var metric = regexp.MustCompile(`[a-z:]*changeover_[a-z_:]+`)

// exported are the metrics that docs/metrics.md has; internal/app keeps that page what the program registers.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(changeover_[a-z_]+)`").FindAllStringSubmatch(read(t, "../../docs/metrics.md"), -1) {
		known[m[1]] = true
	}
	require.NotEmpty(t, known)
	return known
}

// Every query of the dashboard is of metrics that exist.
func TestDashboard(t *testing.T) {
	t.Parallel()
	var dashboard struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "../grafana/changeover.json")), &dashboard))
	known, queries := exported(t), 0
	for _, p := range dashboard.Panels {
		require.Equal(t, p.Type == "row", len(p.Targets) == 0, p.Title)
		for _, q := range p.Targets {
			queries++
			names := metric.FindAllString(q.Expr, -1)
			require.True(t, len(names) > 0 || strings.Contains(q.Expr, "process_"), "%s: %s", p.Title, q.Expr)
			for _, n := range names {
				require.True(t, known[n] || known[strings.TrimSuffix(n, "_bucket")], "%s: there is no %s", p.Title, n)
			}
		}
	}
	require.NotZero(t, queries)
}

// Every name in an expression is a metric that exists, or is recorded by an earlier rule; and every recorded one serves an alert.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	known := exported(t)
	used := map[string]bool{}
	var recorded []string
	for _, r := range rules(t) {
		for _, n := range metric.FindAllString(r.Expr, -1) {
			used[n] = true
			require.True(t, known[n] || known[strings.TrimSuffix(n, "_bucket")], "%s%s: there is no %s", r.Alert, r.Record, n)
		}
		if r.Record != "" {
			known[r.Record] = true
			recorded = append(recorded, r.Record)
		}
	}
	for _, n := range recorded {
		require.True(t, used[n], "%s is recorded for nothing", n)
	}
}

// Every alert says how bad it is, what it is and where it is explained; the runbook explains nothing else, and rules_test.yaml sees each fire.
func TestAlertsAreExplained(t *testing.T) {
	t.Parallel()
	runbook, played := read(t, "../../docs/runbook.md"), read(t, "rules_test.yaml")
	var alerts []string
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		alerts = append(alerts, r.Alert)
		require.Contains(t, []string{"critical", "warning"}, r.Labels["severity"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		require.NotEmpty(t, r.Annotations["description"], r.Alert)
		require.Equal(t, "docs/runbook.md#"+strings.ToLower(r.Alert), r.Annotations["runbook_url"])
		require.Contains(t, played, `ALERTS{alertname="`+r.Alert+`",alertstate="firing",severity="`+r.Labels["severity"]+`"`)
	}
	var sections []string
	for _, section := range strings.Split(runbook, "\n## ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		if !strings.HasPrefix(title, "Changeover") {
			continue
		}
		sections = append(sections, title)
		for _, part := range []string{"**Means:**", "**Look at:**", "**Do:**", "**Force:**"} {
			require.Contains(t, text, part, title)
		}
	}
	require.ElementsMatch(t, alerts, sections)
}
