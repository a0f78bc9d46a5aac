package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"changeover/internal/api/contract"
	"changeover/internal/connectsim"
)

// follower tells what a shift does, as the REST API shows it to everybody.
type follower struct {
	out    io.Writer
	sim    *connectsim.Sim // only for when the administrator called
	url    string
	agents int
	every  time.Duration
	client *http.Client

	held, desktop string // an agent whose call a person has to end, and where
}

func get[T any](ctx context.Context, f *follower, path string) (v T, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url+path, nil)
	if err != nil {
		return v, fmt.Errorf("GET %s: %w", path, err)
	}
	answer, err := f.client.Do(r)
	if err != nil {
		return v, fmt.Errorf("GET %s: %w", path, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return v, fmt.Errorf("GET %s: HTTP %d", path, answer.StatusCode)
	}
	if err := json.NewDecoder(answer.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("GET %s: %w", path, err)
	}
	return v, nil
}

// summary is that of the only failover group. The service may not have loaded yet; then nothing is known.
func (f *follower) summary(ctx context.Context) contract.GroupSummary {
	s, err := get[contract.Summary](ctx, f, "/v1/summary")
	if err != nil || len(s.Items) == 0 {
		return contract.GroupSummary{}
	}
	return s.Items[0]
}

// poll calls done with a summary every interval until it says so or ctx ends.
func (f *follower) poll(ctx context.Context, interval time.Duration, done func(contract.GroupSummary) bool) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for !done(f.summary(ctx)) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	return nil
}

// knownWithin is far more than it takes: an agent is known when the first distribution and the first list of users are.
const knownWithin = 2 * time.Minute

func (f *follower) untilKnown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	if err := f.poll(ctx, 100*time.Millisecond, func(s contract.GroupSummary) bool { return s.ByState.Active == f.agents }); err != nil {
		return fmt.Errorf("wait until all %d agents are known: %w", f.agents, err)
	}
	return nil
}

// follow tells about each shift that somebody makes, until ctx ends.
func (f *follower) follow(ctx context.Context) error {
	told := time.Now()
	for {
		shift := f.lastShift()
		if shift.at.After(told) {
			told = shift.at
			if err := f.toTheEnd(ctx, shift); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// shift is a call of UpdateTrafficDistribution.
type shift struct {
	at time.Time
	to string // the Region that gets all agents; empty: it is a split
}

// lastShift is the last call that the simulator accepted; zero: there was none.
func (f *follower) lastShift() shift {
	for _, call := range slices.Backward(f.sim.Calls()) {
		if call.Operation != "UpdateTrafficDistribution" || call.Status != http.StatusOK {
			continue
		}
		var body struct {
			AgentConfig struct {
				Distributions []struct {
					Region     string
					Percentage int
				}
			}
		}
		if json.Unmarshal([]byte(call.Body), &body) != nil {
			continue
		}
		s := shift{at: call.At}
		for _, share := range body.AgentConfig.Distributions {
			if share.Percentage == 100 {
				s.to = share.Region
			}
		}
		return s
	}
	return shift{}
}

// confirmedWithin is how long the summary waits for agents to be seen in their new Region: more than two sweeps.
const confirmedWithin = 40 * time.Second

// toTheEnd tells about one shift until all agents work in its Region, and sums it up; or until there is another one.
func (f *follower) toTheEnd(ctx context.Context, now shift) error {
	if now.to == "" {
		fmt.Fprint(f.out, "\nThe floor was split: only those agents fail over who are seen in the other Region (docs/rules.md, R1).\n")
		return nil
	}
	fmt.Fprintf(f.out, "\n%9s %9s %9s %10s   agents, on their way to %s\n", "", "detected", "pending", "completed", now.to)
	last, again, hinted := "", false, false
	if err := f.poll(ctx, f.every, func(s contract.GroupSummary) bool {
		moved := 0
		for _, c := range s.ByActiveRegion {
			if c.ActiveRegion != nil && *c.ActiveRegion == now.to && c.State == contract.AgentStateActive {
				moved += c.Count
			}
		}
		if line := fmt.Sprintf("%9d %9d %10d", s.Detected, s.Pending, moved); line != last {
			fmt.Fprintf(f.out, "%7.1f s %s\n", time.Since(now.at).Seconds(), line)
			last = line
		}
		if f.held != "" && moved == f.agents-1 && s.Pending == 1 && !hinted {
			if hinted = true; f.holds(f.held) {
				fmt.Fprintf(f.out, "\nThe last one is on the call that you have to end, and clear: %s\n", f.desktop)
			}
		}
		again = f.lastShift().at.After(now.at)
		return again || moved == f.agents
	}); err != nil {
		return err
	}
	if again {
		fmt.Fprint(f.out, "\nThe floor is shifted again.\n")
		return nil
	}

	fmt.Fprintf(f.out, "\nAll %d agents work in %s. Waiting until they have been seen there.\n", f.agents, now.to)
	deadline := time.Now().Add(confirmedWithin)
	var failovers []contract.Failover
	if err := f.poll(ctx, time.Second, func(contract.GroupSummary) bool {
		var err error
		if failovers, err = f.failovers(ctx, now); err != nil {
			return false
		}
		unseen := slices.ContainsFunc(failovers, func(f contract.Failover) bool { return f.ConfirmedAt == nil })
		return !unseen || time.Now().After(deadline)
	}); err != nil {
		return err
	}
	f.sumUp(failovers, now.at)
	return nil
}

// holds says whether an agent has an open contact.
func (f *follower) holds(agent string) bool {
	a, err := f.sim.Agent(agent)
	return err == nil && len(a.Contacts) > 0
}

// failovers are the completed ones of a shift.
func (f *follower) failovers(ctx context.Context, of shift) ([]contract.Failover, error) {
	query := url.Values{
		"status": {"completed"}, "toRegion": {of.to}, "since": {of.at.UTC().Format(time.RFC3339Nano)}, "limit": {"1000"},
	}
	var all []contract.Failover
	for {
		page, err := get[contract.FailoverList](ctx, f, "/v1/failovers?"+query.Encode())
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.NextCursor == nil {
			return all, nil
		}
		query.Set("cursor", *page.NextCursor)
	}
}

// sumUp prints how long each phase took.
func (f *follower) sumUp(failovers []contract.Failover, called time.Time) {
	var detected, idle, held, all, seen []time.Duration
	for _, f := range failovers {
		detected = append(detected, f.DetectedAt.Sub(called))
		all = append(all, f.CompletedAt.Sub(called))
		if f.PendingAt == nil {
			idle = append(idle, f.CompletedAt.Sub(f.DetectedAt))
		} else {
			held = append(held, f.CompletedAt.Sub(*f.PendingAt))
		}
		if f.ConfirmedAt != nil {
			seen = append(seen, f.ConfirmedAt.Sub(*f.CompletedAt))
		}
	}
	w := tabwriter.NewWriter(f.out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\nphase\tagents\tp50\tp95\tmax\t")
	row := func(name string, times []time.Duration) {
		if len(times) == 0 {
			fmt.Fprintf(w, "%s\t0\t\t\t\t\n", name)
			return
		}
		slices.Sort(times)
		fmt.Fprintf(w, "%s\t%d\t%.1f s\t%.1f s\t%.1f s\t\n", name, len(times),
			percentile(times, 50).Seconds(), percentile(times, 95).Seconds(), times[len(times)-1].Seconds())
	}
	row("UpdateTrafficDistribution to detected", detected)
	row("detected to completed, without a contact", idle)
	row("pending to completed, held by contacts", held)
	row("UpdateTrafficDistribution to completed", all)
	row("completed to seen in the new Region", seen)
	_ = w.Flush()
	fmt.Fprintln(f.out)
}

// percentile is the smallest value that p percent of the sorted values do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
