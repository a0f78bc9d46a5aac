//go:build linux

package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a run measured. Times are in seconds, memory in bytes.
type report struct {
	At               time.Time `json:"at"`
	CPUModel         string    `json:"cpuModel"`
	Cores            int       `json:"cores"`
	Agents           int       `json:"agents"`
	Contacts         float64   `json:"contacts"`
	Quotas           string    `json:"quotas"`
	Replicas         int       `json:"replicas"`
	MemLimit         string    `json:"memLimit"` // GOMEMLIMIT of each replica; empty: none
	DesktopProcesses int       `json:"desktopProcesses"`

	Idle       window `json:"idle"`
	Shift      window `json:"shift"`
	PeakMemory int64  `json:"peakMemory"` // of the service, resident: the sum of each replica's
	// From the poll that saw the shift to its last event: CPU seconds by component, of everything else, and how long that was.
	MovingCPU     map[string]float64 `json:"movingCpu"`
	MovingOthers  float64            `json:"movingOthers"`
	MovingSeconds float64            `json:"movingSeconds"`

	// Since the poll that saw the shift.
	UpdateToPoll  float64  `json:"updateToPoll"`
	Detected      delivery `json:"detected"`
	Completed     delivery `json:"completed"` // of agents without a contact
	Pending       delivery `json:"pending"`
	PendingByRead delivery `json:"pendingByRead"` // since the contacts read that showed it
	PassEnd       float64  `json:"passEnd"`       // when the simulator got the last read of those
	Commits       int64    `json:"commits"`

	Floor  floorReport `json:"floor"`
	Faults []string    `json:"faults"`
}

// window is what a stretch of time needed.
type window struct {
	Seconds    float64            `json:"seconds"`
	CPU        map[string]float64 `json:"cpu"`    // seconds, by component
	Memory     map[string]int64   `json:"memory"` // resident at its end, by component
	Others     float64            `json:"others"` // CPU seconds of what does not belong to this measurement, the kernel's own included
	Stolen     float64            `json:"stolen"` // CPU seconds that the machine's host gave to others
	Statements []statement        `json:"statements"`
}

// statement is a kind of SQL statement that was executed.
type statement struct {
	Calls   int64   `json:"calls"`
	Seconds float64 `json:"seconds"`
	WAL     int64   `json:"wal"`    // bytes
	Images  int64   `json:"images"` // of whole pages, in it
	Text    string  `json:"text"`
}

func (w *window) statements() (n int64) {
	for _, s := range w.Statements {
		n += s.Calls
	}
	return n
}

// delivery sums up when an event reached desktops.
type delivery struct {
	Count int     `json:"count"`
	First float64 `json:"first"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Last  float64 `json:"last"`
}

func summarize(seconds []float64) delivery {
	if len(seconds) == 0 {
		return delivery{}
	}
	slices.Sort(seconds)
	at := func(q float64) float64 { return seconds[min(int(q*float64(len(seconds))), len(seconds)-1)] }
	return delivery{Count: len(seconds), First: seconds[0], P50: at(0.5), P99: at(0.99), Last: seconds[len(seconds)-1]}
}

// floorReport is what the machine can do. Written counts from when the processes were told to write.
type floorReport struct {
	Copy    copied   `json:"copy"`
	Written delivery `json:"written"` // each desktop's last frame
}

func (f *floorReport) evaluate(times []received, began time.Time) {
	var last []float64
	for _, t := range times {
		last = append(last, time.Unix(0, max(t[detected], t[completed], t[pending])).Sub(began).Seconds())
	}
	f.Written = summarize(last)
}

// last is how long rows and frames take one after the other.
func (f *floorReport) last() float64 { return f.Copy.Seconds + f.Written.Last }

// window measures what happens during f.
func (r *run) window(ctx context.Context, components map[string]*component, f func() error) (w window, err error) {
	if _, err := r.sql.Exec(ctx, "SELECT pg_stat_statements_reset()"); err != nil {
		return w, fmt.Errorf("count statements: %w", err)
	}
	before := map[string]time.Duration{}
	for name, c := range components {
		before[name] = c.cpu()
	}
	used, stolen := machine()
	began := time.Now()
	if err := f(); err != nil {
		return w, err
	}
	usedAfter, stolenAfter := machine()
	w.Others, w.Stolen = (usedAfter - used).Seconds(), (stolenAfter - stolen).Seconds()
	w.Seconds = time.Since(began).Seconds()
	w.CPU, w.Memory = map[string]float64{}, map[string]int64{}
	for name, c := range components {
		w.CPU[name] = (c.cpu() - before[name]).Seconds()
		w.Memory[name] = c.resident()
		w.Others -= w.CPU[name]
	}
	rows, err := r.sql.Query(ctx, `SELECT calls, total_exec_time / 1000, wal_bytes::bigint, wal_fpi, query FROM pg_stat_statements WHERE query !~ 'pg_stat_statements' ORDER BY total_exec_time DESC`)
	if err != nil {
		return w, fmt.Errorf("count statements: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var s statement
		if err := rows.Scan(&s.Calls, &s.Seconds, &s.WAL, &s.Images, &s.Text); err != nil {
			return w, err
		}
		s.Text = strings.Join(strings.Fields(s.Text), " ")
		s.Text = s.Text[:min(len(s.Text), 100)]
		w.Statements = append(w.Statements, s)
	}
	return w, rows.Err()
}

// sample is how much CPU time had been used at a moment.
type sample struct {
	at      time.Time
	cpu     map[string]time.Duration // by component
	machine time.Duration
}

const sampleEvery = 100 * time.Millisecond

// record takes samples until ctx ends.
func record(ctx context.Context, components map[string]*component) <-chan []sample {
	done := make(chan []sample, 1)
	go func() {
		var samples []sample
		for err := error(nil); err == nil; err = pause(ctx, sampleEvery) {
			s := sample{at: time.Now(), cpu: map[string]time.Duration{}}
			s.machine, _ = machine()
			for name, c := range components {
				s.cpu[name] = c.cpu()
			}
			samples = append(samples, s)
		}
		done <- samples
	}()
	return done
}

// moving sums up what was used between two moments, to the nearest samples around them.
func (r *report) moving(samples []sample, from, to time.Time) {
	first := max(slices.IndexFunc(samples, func(s sample) bool { return s.at.After(from) }), 1) - 1
	last := slices.IndexFunc(samples, func(s sample) bool { return s.at.After(to) })
	if last < 0 {
		last = len(samples) - 1
	}
	a, b := samples[first], samples[last]
	r.MovingSeconds, r.MovingOthers, r.MovingCPU = b.at.Sub(a.at).Seconds(), (b.machine - a.machine).Seconds(), map[string]float64{}
	for name := range b.cpu {
		r.MovingCPU[name] = (b.cpu[name] - a.cpu[name]).Seconds()
		r.MovingOthers -= r.MovingCPU[name]
	}
}

// simulated is a call as the simulator tells it.
type simulated struct {
	At                time.Time
	Region, Operation string
	Busy              []string
}

// evaluate finds the poll that saw the shift and counts from there.
func (r *run) evaluate(ctx context.Context, out *report, t tally, samples []sample, shifted time.Time) error {
	var calls struct{ Recent []simulated }
	if err := r.control(ctx, http.MethodGet, "/_control/calls?recent=10000", nil, &calls); err != nil {
		return err
	}
	first := int64(0)
	for _, times := range t.Received {
		if d := times[detected]; d != 0 && (first == 0 || d < first) {
			first = d
		}
	}
	if first == 0 {
		out.Faults = append(out.Faults, "no desktop heard of the shift")
		return nil
	}
	poll := map[string]time.Time{}
	update := shifted
	for _, c := range calls.Recent {
		switch {
		case c.Operation == "UpdateTrafficDistribution":
			update = c.At
		case c.Operation == "GetTrafficDistribution" && c.At.Before(time.Unix(0, first)):
			poll[c.Region] = c.At
		}
	}
	var saw time.Time
	for _, at := range poll {
		if at.After(saw) {
			saw = at
		}
	}
	shown := map[string]time.Time{}
	for _, c := range calls.Recent {
		if c.Operation != "GetCurrentUserData" || c.At.Before(saw) {
			continue
		}
		for _, id := range c.Busy {
			if _, known := shown[id]; !known {
				shown[id] = c.At
				out.PassEnd = max(out.PassEnd, c.At.Sub(saw).Seconds())
			}
		}
	}
	out.UpdateToPoll = saw.Sub(update).Seconds()
	var lists [kinds][]float64
	var byRead []float64
	missing := 0
	for i, id := range r.agents {
		want := completed
		if r.busy[id] {
			want = pending
		}
		if t.Received[i][want] == 0 {
			missing++
		}
		for k, at := range t.Received[i] {
			if at == 0 {
				continue
			}
			if k == completed && r.busy[id] {
				out.Faults = append(out.Faults, "agent "+id+" completed on a call")
				continue
			}
			lists[k] = append(lists[k], time.Unix(0, at).Sub(saw).Seconds())
			if k == pending {
				byRead = append(byRead, time.Unix(0, at).Sub(shown[id]).Seconds())
			}
		}
	}
	if missing > 0 && r.Quotas == "raised" {
		out.Faults = append(out.Faults, fmt.Sprintf("%d desktops did not hear where they are", missing))
	}
	out.Detected, out.Completed, out.Pending = summarize(lists[detected]), summarize(lists[completed]), summarize(lists[pending])
	out.PendingByRead = summarize(byRead)
	out.moving(samples, saw, saw.Add(time.Duration(max(out.Completed.Last, out.Pending.Last)*float64(time.Second))))
	for _, s := range out.Shift.Statements {
		if strings.Contains(s.Text, "UpsertAgents") {
			out.Commits += s.Calls
		}
	}
	return nil
}

// profile takes a CPU profile of every replica from now on for 15 seconds, if it is asked for, and then one of its memory.
func (r *run) profile(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	if !r.Profile {
		done <- nil
		return done
	}
	go func() {
		results := make(chan error)
		for i, address := range r.profiles {
			go func() {
				results <- cmp.Or(
					fetch(ctx, "http://"+address+"/debug/pprof/profile?seconds=15", filepath.Join(r.Out, fmt.Sprintf("cpu-%d.pprof", i))),
					fetch(ctx, "http://"+address+"/debug/pprof/heap", filepath.Join(r.Out, fmt.Sprintf("heap-%d.pprof", i))))
			}()
		}
		var err error
		for range r.profiles {
			err = cmp.Or(err, <-results)
		}
		done <- err
	}()
	return done
}

func fetch(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer answer.Body.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, answer.Body)
	return err
}

var components = []string{"service", "postgres", "simulator", "desktops"}

// print writes the table for people.
func (r *report) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 4, 2, ' ', tabwriter.AlignRight)
	p := func(format string, args ...any) { fmt.Fprintf(w, format, args...) }
	fmt.Fprintf(to, "\n%d agents with a stream each, %.0f %% on a call, %s quotas, %d replicas, %d cores (%s), %s\n\n",
		r.Agents, 100*r.Contacts, r.Quotas, r.Replicas, r.Cores, r.CPUModel, r.At.Format(time.RFC3339))
	if r.MemLimit != "" {
		fmt.Fprintf(to, "GOMEMLIMIT=%s for each replica\n\n", r.MemLimit)
	}
	p("seconds since\tevent\tdesktops\tfirst\tp50\tp99\tlast\t\n")
	for _, row := range []struct {
		since, event string
		delivery
	}{
		{"the poll that saw it", "failoverDetected", r.Detected}, {"the poll that saw it", "failoverCompleted", r.Completed},
		{"the poll that saw it", "failoverPending", r.Pending}, {"the contacts read that showed it", "failoverPending", r.PendingByRead},
		{"told to write", "floor: raw frames", r.Floor.Written},
	} {
		p("%s\t%s\t%d\t%.3f\t%.3f\t%.3f\t%.3f\t\n", row.since, row.event, row.Count, row.First, row.P50, row.P99, row.Last)
	}
	w.Flush()
	fmt.Fprintf(to, "\nFloor: COPY of %d rows (%d MiB) %.3f s, and then the frames: %.3f s; the last failoverCompleted took %.2f times as long.\n",
		sum(r.Floor.Copy.Rows), r.Floor.Copy.Bytes>>20, r.Floor.Copy.Seconds, r.Floor.last(), r.Completed.Last/r.Floor.last())
	fmt.Fprintf(to, "The poll came %.1f s after UpdateTrafficDistribution; the last contacts read that showed somebody %.3f s after the poll.\n\n", r.UpdateToPoll, r.PassEnd)
	for _, name := range components {
		p("\t%s", name)
	}
	p("\t\n")
	line := func(title string, value func(name string) string) {
		p("%s", title)
		for _, name := range components {
			p("\t%s", value(name))
		}
		p("\t\n")
	}
	line("idle, % of a core", func(n string) string { return fmt.Sprintf("%.1f", 100*r.Idle.CPU[n]/r.Idle.Seconds) })
	line("idle, MiB resident", func(n string) string { return fmt.Sprint(r.Idle.Memory[n] >> 20) })
	line("shift, CPU seconds", func(n string) string { return fmt.Sprintf("%.2f", r.Shift.CPU[n]) })
	line("of those from the poll to the last event", func(n string) string { return fmt.Sprintf("%.2f", r.MovingCPU[n]) })
	line("the same, µs per agent", func(n string) string { return fmt.Sprintf("%.0f", 1e6*r.MovingCPU[n]/float64(r.Agents)) })
	line("above what it uses at rest, µs per agent", func(n string) string {
		return fmt.Sprintf("%.0f", 1e6*(r.MovingCPU[n]-r.MovingSeconds*r.Idle.CPU[n]/r.Idle.Seconds)/float64(r.Agents))
	})
	line("after it, MiB resident", func(n string) string { return fmt.Sprint(r.Shift.Memory[n] >> 20) })
	w.Flush()
	fmt.Fprintf(to, "\nDuring the shift everything else on the machine used %.1f CPU seconds, %.1f of them in the %.1f s from the poll to the last event, and its host took %.1f; all should be small.\n",
		r.Shift.Others, r.MovingOthers, r.MovingSeconds, r.Shift.Stolen)
	fmt.Fprintf(to, "The service's memory was at most %d MiB. Shift: %.1f s, %d SQL statements, %d commits with agents; idle: %.1f statements a second. The slowest of the shift:\n",
		r.PeakMemory>>20, r.Shift.Seconds, r.Shift.statements(), r.Commits, float64(r.Idle.statements())/r.Idle.Seconds)
	for _, s := range r.Shift.Statements[:min(10, len(r.Shift.Statements))] {
		p("%d\t%.3f s\t%.1f MiB WAL\t%d page images\t\t%s\n", s.Calls, s.Seconds, float64(s.WAL)/(1<<20), s.Images, s.Text[:min(len(s.Text), 60)])
	}
	w.Flush()
	for _, f := range r.Faults {
		fmt.Fprintln(to, "FAULT:", f)
	}
}

func sum(m map[string]int64) (n int64) {
	for v := range maps.Values(m) {
		n += v
	}
	return n
}

// cpuModel names the machine's processor.
func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "model name"); ok {
			return strings.TrimLeft(name, "\t :")
		}
	}
	return "unknown"
}
