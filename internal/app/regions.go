package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"changeover/internal/config"
	"changeover/internal/connect"
	"changeover/internal/store"
)

// regions are the clients of Amazon Connect. Instances with the same Region, endpoint and role share one, because they share
// Amazon's quotas.
type regions struct {
	clients map[regionKey]*connect.Client
	groups  []config.FailoverGroup
}

type regionKey struct{ region, endpoint, role string }

func keyOf(in config.Instance) regionKey { return regionKey{in.Region, in.Endpoint, in.RoleARN} }

func newRegions(
	ctx context.Context, c *config.Config, transport func(region string) http.RoundTripper, metrics *connect.Metrics, log *slog.Logger,
) (*regions, error) {
	r := &regions{clients: map[regionKey]*connect.Client{}, groups: c.FailoverGroups}
	for i, g := range c.FailoverGroups {
		for j, in := range g.Instances {
			if r.clients[keyOf(in)] != nil {
				continue
			}
			o := connect.Options{
				Region: in.Region, Endpoint: in.Endpoint, RoleARN: in.RoleARN,
				RequestsPerSecond: c.Connect.RequestsPerSecond, Burst: c.Connect.Burst, RequestTimeout: c.Connect.RequestTimeout,
				Metrics: metrics, Log: log,
			}
			if transport != nil {
				o.Transport = transport(in.Region)
			}
			client, err := connect.New(ctx, o)
			if err != nil {
				r.close()
				return nil, fmt.Errorf("failoverGroups[%d].instances[%d]: %w", i, j, err)
			}
			r.clients[keyOf(in)] = client
		}
	}
	return r, nil
}

func (r *regions) client(in config.Instance) *connect.Client { return r.clients[keyOf(in)] }

// sharers counts the failover groups that call through a client of this one's, itself included; of its two clients that with more.
func (r *regions) sharers(g config.FailoverGroup) int {
	most := 0
	for _, in := range g.Instances {
		n := 0
		for _, other := range r.groups {
			if r.client(other.Instances[0]) == r.client(in) || r.client(other.Instances[1]) == r.client(in) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// health is how each Region of each failover group answers.
func (r *regions) health() []store.RegionHealth {
	var all []store.RegionHealth
	for _, g := range r.groups {
		for _, in := range g.Instances {
			h := r.client(in).Health()
			all = append(all, store.RegionHealth{
				Group: g.Name, Region: in.Region, State: h.State, Since: h.Since,
				LastSuccess: h.LastSuccess, LastError: h.LastError, LastErrorAt: h.LastErrorAt,
			})
		}
	}
	return all
}

func (r *regions) close() {
	for _, c := range r.clients {
		c.Close()
	}
}
