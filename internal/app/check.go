package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"changeover/internal/config"
	"changeover/internal/connect"
	"changeover/internal/edge"
	"changeover/internal/postgres"
	"changeover/internal/store"
)

// checkTimeout is for each thing that is reached.
const checkTimeout = 10 * time.Second

// ErrCheck says that Check found something wrong; what it is stands in the table.
var ErrCheck = errors.New("the check found faults")

// Migrate brings the schema of the configured database up to date. The embedded one is started for it.
func Migrate(ctx context.Context, c *config.Config, log *slog.Logger) error {
	a := &App{config: c, log: log, life: lifecycle{log: log}}
	url, err := a.database(ctx)
	if err == nil {
		err = migrate(ctx, c.Database, url, log)
	}
	return errors.Join(err, a.life.stop(context.WithoutCancel(ctx)))
}

// Check reaches everything that a valid configuration names, changing nothing, and prints a table of what it found. With endpoint
// it also asks the service that runs with this configuration, at an address of its callers (https://changeover.example.com). It returns
// ErrCheck if something is wrong.
func Check(ctx context.Context, c *config.Config, endpoint string, o Options, out io.Writer) error {
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t.w, "CHECK\tRESULT\tDETAIL")
	t.row("configuration", plural(len(c.FailoverGroups), "failover group"), nil)
	t.row("database", "", func() (string, error) { return checkDatabase(ctx, c.Database, o.Log) })
	if c.HTTP.TLSCert != "" {
		t.row("TLS certificate", "", func() (string, error) { return checkCertificate(c.HTTP, o.Log) })
	}

	if endpoint != "" {
		t.row("service", "", func() (string, error) { return checkService(ctx, endpoint, c.Auth.Mode) })
	}

	regions, err := newRegions(ctx, c, o.Transport, nil, o.Log)
	if err != nil {
		t.row("AWS configuration", "", func() (string, error) { return "", err })
	} else {
		defer regions.close()
		for _, g := range c.FailoverGroups {
			for i, in := range g.Instances {
				t.instance(ctx, regions.client(in), g, i)
			}
		}
	}
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	if t.faults > 0 {
		return ErrCheck
	}
	return nil
}

type table struct {
	w      *tabwriter.Writer
	faults int
}

// row prints a check's result; check nil: it is fine, and detail says what there is.
func (t *table) row(name, detail string, check func() (string, error)) {
	result := "ok"
	if check != nil {
		var err error
		if detail, err = check(); err != nil {
			result, detail = "FAULT", strings.Join(strings.Fields(err.Error()), " ")
			t.faults++
		}
	}
	fmt.Fprintf(t.w, "%s\t%s\t%s\n", name, result, detail)
}

// instance checks one instance of a failover group: that it is there, linked with the other as configured, and that its traffic
// distribution groups can be listed.
func (t *table) instance(ctx context.Context, client *connect.Client, g config.FailoverGroup, i int) {
	in, other := g.Instances[i], g.Instances[1-i]
	name := g.Name + " " + in.Region
	t.row(name+" instance", "", func() (string, error) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		info, err := client.DescribeInstance(ctx, in.InstanceID)
		if err != nil {
			return "", err
		}
		return replication(info, in, other, i == 0)
	})
	t.row(name+" traffic distribution groups", "", func() (string, error) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		groups, err := client.ListTrafficDistributionGroups(ctx, in.InstanceID)
		if err != nil {
			return "", err
		}
		return configuredGroups(groups, g.TrafficDistributionGroups)
	})
}

// replication compares what an instance says of its replication with the configuration.
func replication(info connect.InstanceInfo, in, other config.Instance, source bool) (string, error) {
	switch {
	case info.SourceRegion == "":
		return "", errors.New("the instance is not replicated; Global Resiliency needs a linked instance in another Region")
	case source && info.SourceRegion != in.Region:
		return "", fmt.Errorf("the source is %s; list that instance first", info.SourceRegion)
	case !source && info.SourceRegion != other.Region:
		return "", fmt.Errorf("its source is %s and not %s", info.SourceRegion, other.Region)
	}
	detail := "status " + info.Status
	if !source {
		return detail + ", replica of " + info.SourceRegion, nil
	}
	for _, r := range info.Replicas {
		switch {
		case r.Region != other.Region:
		case r.Status != "INSTANCE_REPLICATION_COMPLETE":
			return "", fmt.Errorf("the replication to %s is %s %s", r.Region, r.Status, r.Reason)
		default:
			return detail + ", source, replicated to " + r.Region, nil
		}
	}
	return "", fmt.Errorf("it is not replicated to %s", other.Region)
}

// configuredGroups says which traffic distribution groups there are, or which of the configured ones are not.
func configuredGroups(groups []connect.TDGSummary, configured []string) (string, error) {
	var names, missing []string
	there := map[string]bool{}
	for _, g := range groups {
		there[g.ID] = true
		names = append(names, g.Name+" ("+g.Status+")")
	}
	for _, id := range configured {
		if !there[bareID(id)] {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("there is no traffic distribution group %s", strings.Join(missing, ", "))
	}
	if len(groups) == 0 {
		return "", errors.New("there is none")
	}
	return strings.Join(names, ", "), nil
}

// checkDatabase reaches the database; of the embedded one it only says which binaries there are, because it may be in use.
func checkDatabase(ctx context.Context, c config.Database, log *slog.Logger) (string, error) {
	if c.URL == config.Embedded {
		binaries, err := postgres.FindBinaries()
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("embedded, PostgreSQL %d in %s", binaries.Major, binaries.Dir), nil
	}
	s, err := store.Open(ctx, store.Options{URL: string(c.URL), MaxConns: 1, Log: log})
	if err != nil {
		return "", err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	version, err := s.SchemaVersion(ctx)
	switch {
	case err != nil:
		return "", err
	case version == 0 && c.Migrate:
		return "reached, empty; serve makes the tables", nil
	case !c.Migrate:
		if err := s.CheckSchema(ctx); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("reached, schema version %d", version), nil
}

// checkService asks a running service whether it is ready, and for something that takes a token, without one: whoever gets that has found a
// service that asks nobody, or a proxy that answers by itself.
func checkService(ctx context.Context, endpoint, mode string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	// Inside of a cluster the service has another name than its certificate. Nothing secret is sent, and nothing of the answer is believed.
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	locked := http.StatusUnauthorized
	if mode == config.AuthNone {
		locked = http.StatusOK
	}
	for _, q := range []struct {
		path string
		want int
	}{{"/readyz", http.StatusOK}, {"/v1/summary", locked}} {
		url := strings.TrimSuffix(endpoint, "/") + q.path
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return "", fmt.Errorf("--endpoint: %w", err)
		}
		answer, err := client.Do(r)
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(io.LimitReader(answer.Body, 1024))
		answer.Body.Close()
		switch {
		case err != nil:
			return "", fmt.Errorf("read the answer of %s: %w", url, err)
		case answer.StatusCode != q.want:
			return "", fmt.Errorf("GET %s without a token: expected %d, and it says %s: %s", url, q.want, answer.Status, body)
		}
	}
	return "ready at " + endpoint, nil
}

func checkCertificate(c config.HTTP, log *slog.Logger) (string, error) {
	certificates, err := edge.LoadCertificates(c.TLSCert, c.TLSKey, log, nil)
	if err != nil {
		return "", err
	}
	until := certificates.NotAfter().UTC().Format(time.RFC3339)
	if time.Now().After(certificates.NotAfter()) {
		return "", fmt.Errorf("it expired at %s", until)
	}
	return "valid until " + until, nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
