package resilience

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// faster is how much faster than committed the rules run, and the scrapes with them: by it are divided every "for", every range, and what
// an age is compared with. What is counted, a share, and a time that is measured and not waited for (of a detection, of a delivery) stay.
const faster = 30

// scrape is the interval of scrapes and evaluations: 15 s, divided.
const scrape = 15 * time.Second / faster

// The times in the rules.
var (
	waits  = regexp.MustCompile(`(?m)^(\s+for: )([0-9]+[smh])$`)
	ranges = regexp.MustCompile(`(\[)([0-9]+[smh])(\])`)
	ages   = regexp.MustCompile(`(_age_seconds[^\n]* > )([0-9]+)\b`)
)

// hurry makes rules run faster.
func hurry(t testing.TB, rules string) string {
	t.Helper()
	divide := func(text string, of *regexp.Regexp) string {
		return of.ReplaceAllStringFunc(text, func(found string) string {
			m := of.FindStringSubmatch(found)
			d, err := time.ParseDuration(m[2])
			if err != nil { // seconds
				seconds, err := strconv.ParseFloat(m[2], 64)
				require.NoError(t, err)
				return m[1] + fmt.Sprint(seconds/faster)
			}
			return m[1] + fmt.Sprint((d / faster).Milliseconds()) + "ms" + strings.Join(m[3:], "")
		})
	}
	return divide(divide(divide(rules, waits), ranges), ages)
}

func TestHurry(t *testing.T) {
	t.Parallel()
	committed, err := os.ReadFile("../../deploy/prometheus/rules.yaml")
	require.NoError(t, err)
	rules := hurry(t, string(committed))
	for _, of := range []*regexp.Regexp{waits, ranges} { // none of the times is left
		require.Regexp(t, of, string(committed))
		require.NotRegexp(t, of, rules)
	}
	require.Contains(t, rules, `changeover_observation_age_seconds:min{source="sweep"}[4000ms]) > 30`)
	require.Contains(t, rules, "for: 30000ms")
	require.Contains(t, rules, "last_over_time(job:changeover_failover_oldest_pending_age_seconds:min[4000ms]) > 60\n")
	require.Contains(t, rules, "rate(changeover_failover_detection_seconds_bucket[20000ms]))) > 15\n")
	require.Len(t, strings.Split(rules, "\n"), len(strings.Split(string(committed), "\n")))
}

// prometheus is a real one that scrapes the replicas.
type prometheus struct {
	c     *cluster
	url   string
	began time.Time
}

// prometheus starts the program that PROMETHEUS names, with the committed rules in a hurry.
func (c *cluster) prometheus() *prometheus {
	c.t.Helper()
	committed, err := os.ReadFile("../../deploy/prometheus/rules.yaml")
	require.NoError(c.t, err)
	dir := c.t.TempDir()
	require.NoError(c.t, os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(hurry(c.t, string(committed))), 0o600))
	var targets []string
	for _, r := range c.replicas {
		targets = append(targets, strconv.Quote(r.address))
	}
	require.NoError(c.t, os.WriteFile(filepath.Join(dir, "prometheus.yml"), fmt.Appendf(nil, `
global: {scrape_interval: %[1]dms, scrape_timeout: %[1]dms, evaluation_interval: %[1]dms}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: changeover
    static_configs: [{targets: [%[2]s]}]
`, scrape.Milliseconds(), strings.Join(targets, ", ")), 0o600))
	p := &prometheus{c: c, began: time.Now()}
	address := freeAddress(c.t)
	p.url = "http://" + address
	var said bytes.Buffer
	process := exec.Command(os.Getenv("PROMETHEUS"), "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--query.lookback-delta="+(5*time.Minute/faster).String(), "--log.level=warn")
	process.Stdout, process.Stderr = &said, &said
	require.NoError(c.t, process.Start())
	c.t.Cleanup(func() {
		_ = process.Process.Kill() // it ends with the test, and its data with it
		_ = process.Wait()
		if c.t.Failed() {
			c.t.Logf("Prometheus:\n%s", said.String())
		}
	})
	c.until("Prometheus has scraped every replica", func() bool {
		up, err := p.ask("query", url.Values{"query": {"sum(up)"}})
		return err == nil && len(up) == 1 && up[0].last() == float64(len(c.replicas))
	})
	return p
}

// series is a time series that a query returned.
type series struct {
	Metric map[string]string
	Value  [2]any   // of an instant
	Values [][2]any // of a range
}

// number is the value of a sample.
func number(sample [2]any) float64 {
	text, _ := sample[1].(string)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

func (s series) last() float64 { return number(s.Value) }

// any says whether there is a number in it.
func (s series) any() bool {
	for _, v := range s.Values {
		if !math.IsNaN(number(v)) {
			return true
		}
	}
	return false
}

// ask runs a query.
func (p *prometheus) ask(kind string, q url.Values) ([]series, error) {
	answer, err := http.PostForm(p.url+"/api/v1/"+kind, q)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var body struct {
		Status, Error string
		Data          struct{ Result []series }
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil {
		return nil, err
	}
	if body.Status != "success" {
		return nil, fmt.Errorf("%s %v: %s", kind, q, body.Error)
	}
	return body.Data.Result, nil
}

// firing returns the names of the alerts that fire.
func (p *prometheus) firing() map[string]bool {
	p.c.t.Helper()
	list, err := p.ask("query", url.Values{"query": {`ALERTS{alertstate="firing"}`}})
	require.NoError(p.c.t, err)
	alerts := map[string]bool{}
	for _, s := range list {
		alerts[s.Metric["alertname"]] = true
	}
	return alerts
}

// post sends JSON to a replica.
func (r *replica) post(path string, body any) {
	r.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(r.t, err)
	answer, err := r.c.client.Post("http://"+r.address+path, "application/json", bytes.NewReader(text))
	require.NoError(r.t, err)
	defer answer.Body.Close()
	require.Equal(r.t, http.StatusAccepted, answer.StatusCode, path)
}

func readJSON(t testing.TB, file string, v any) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, v))
}

// unix is a time as Prometheus takes it.
func unix(at time.Time) string { return strconv.FormatFloat(float64(at.UnixMilli())/1000, 'f', 3, 64) }
