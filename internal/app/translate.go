package app

import (
	"fmt"
	"os"
	"strings"

	"changeover/internal/api"
	"changeover/internal/config"
	"changeover/internal/failover"
	"changeover/internal/webhook"
)

// What follows says the configuration in the words of each part, so that no part but this one knows package config.

func settings(c *config.Config) failover.Settings {
	return failover.Settings{
		Confirmations:       c.Poll.Confirmations,
		ConflictAfter:       c.Poll.ConflictAfter,
		RegionDownAfter:     c.Failover.RegionDownAfter,
		ContactsMaxAge:      c.Failover.ContactsMaxAge,
		MaxUnknown:          c.Failover.MaxUnknown,
		ConfigureErrorAfter: c.Failover.ConfigureErrorAfter,
		StaleRelease:        c.Failover.StaleRelease,
		ConfirmWithin:       c.Failover.ConfirmWithin,
		DrainInterval:       c.Poll.DrainInterval,
		Pace:                c.Failover.Pace,
	}
}

func groupConfigs(groups []config.FailoverGroup) []failover.GroupConfig {
	var all []failover.GroupConfig
	for _, g := range groups {
		f := failover.GroupConfig{Name: g.Name, Routing: failover.Routing(g.Routing)}
		for _, in := range g.Instances {
			f.Instances = append(f.Instances, failover.Instance{Region: in.Region, CCPURL: in.CCPURL})
		}
		for _, tdg := range g.TrafficDistributionGroups {
			f.TDGs = append(f.TDGs, bareID(tdg))
		}
		all = append(all, f)
	}
	return all
}

// bareID is the id in an ARN, or what is an id already.
func bareID(idOrARN string) string { return idOrARN[strings.LastIndexByte(idOrARN, '/')+1:] }

// webhooks reads the keys that are in files.
func webhooks(c *config.Config) ([]webhook.Hook, error) {
	var all []webhook.Hook
	for i, w := range c.Webhooks {
		at := fmt.Sprintf("webhooks[%d]", i)
		secret := string(w.SigningKey)
		if w.SigningKeyFile != "" {
			at += ".signingKeyFile"
			b, err := os.ReadFile(w.SigningKeyFile)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", at, err)
			}
			if secret = strings.TrimSpace(string(b)); len(secret) < config.LeastSigningKey {
				return nil, fmt.Errorf("%s: the key in %s is too short; expected %d characters or more", at, w.SigningKeyFile, config.LeastSigningKey)
			}
		} else {
			at += ".signingKey"
		}
		key, err := webhook.ParseSecret(secret)
		if err != nil {
			return nil, fmt.Errorf("%s: the key %w", at, err)
		}
		events := w.Events
		if len(events) == 0 {
			events = []string{
				string(failover.EventFailoverDetected), string(failover.EventFailoverCompleted), string(failover.EventFailoverStalled), webhook.EventRegionUnhealthy,
			}
		}
		all = append(all, webhook.Hook{Name: w.Name, URL: string(w.URL), Secret: key, Events: events, Groups: w.FailoverGroups})
	}
	return all, nil
}

func apiGroups(groups []config.FailoverGroup) []api.Group {
	var all []api.Group
	for _, g := range groups {
		a := api.Group{Name: g.Name, Routing: failover.Routing(g.Routing)}
		for _, in := range g.Instances {
			a.Instances = append(a.Instances, api.Instance{Region: in.Region, InstanceID: in.InstanceID, CCPURL: in.CCPURL})
		}
		all = append(all, a)
	}
	return all
}

// ccpURLs looks up the address of a group's Contact Control Panel in a Region; empty: not configured.
func ccpURLs(groups []config.FailoverGroup) func(group, region string) string {
	type key struct{ group, region string }
	urls := map[key]string{}
	for _, g := range groups {
		for _, in := range g.Instances {
			urls[key{g.Name, in.Region}] = in.CCPURL
		}
	}
	return func(group, region string) string { return urls[key{group, region}] }
}
