package api

import (
	"slices"
	"time"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
)

// This file turns what the store and the core know into what the document shows. Empty texts and zero times are null there.

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// utc is a time as the API shows it: UTC, milliseconds.
func utc(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = utc(t)
	return &t
}

// orEmpty makes a list that is [] rather than null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func each[A, B any](list []A, f func(*A) B) []B {
	out := make([]B, len(list))
	for i := range list {
		out[i] = f(&list[i])
	}
	return out
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func setupError(e *failover.SetupError) contract.ConfigureError {
	return contract.ConfigureError{Code: contract.ConfigureErrorCode(e.Code), Message: e.Message, Since: moment(e.Since)}
}

func standby(s *failover.Standby) *contract.Standby {
	if s == nil {
		return nil
	}
	return &contract.Standby{Region: s.Region, Ready: s.Ready, Reason: text(s.Reason), ReportedAt: utc(s.ReportedAt)}
}

func failoverOf(f *failover.Failover) contract.Failover {
	out := contract.Failover{
		FailoverID: f.ID, AgentID: f.AgentID, FailoverGroup: f.Group, TdgID: text(f.TDG), FromRegion: f.From, ToRegion: f.To,
		Status: contract.FailoverStatus(f.Status), Cause: contract.RegionSource(f.Cause),
		DetectedAt: utc(f.DetectedAt), PendingAt: moment(f.PendingAt), CompletedAt: moment(f.CompletedAt),
		CancelledAt: moment(f.CancelledAt), ConfirmedAt: moment(f.ConfirmedAt), StalledAt: moment(f.StalledAt),
		StaleSince: moment(f.StaleSince),
		Forced:     f.Forced, ForcedBy: text(f.ForcedBy), ForcedReason: text(f.ForcedReason),
		ContactIds: orEmpty(f.ContactIDs), InitialContactIds: orEmpty(f.InitialContactIDs),
	}
	if f.Evidence != "" {
		evidence := contract.Evidence(f.Evidence)
		out.Evidence = &evidence
	}
	return out
}

func shares(d failover.Distribution) []contract.Share {
	if d == nil {
		return nil
	}
	return each(d, func(s *failover.Share) contract.Share { return contract.Share{Region: s.Region, Percent: s.Percent} })
}

func signIns(d failover.Distribution) []contract.SignInShare {
	if d == nil {
		return nil
	}
	return each(d, func(s *failover.Share) contract.SignInShare {
		return contract.SignInShare{Region: s.Region, Enabled: s.Percent > 0}
	})
}

func distributions(d failover.Distributions) contract.Distributions {
	return contract.Distributions{Telephony: shares(d.Telephony), Agent: shares(d.Agents), SignIn: signIns(d.SignIn)}
}

func tdgOf(t *failover.TDG) contract.TrafficDistributionGroup {
	out := contract.TrafficDistributionGroup{
		TdgID: t.ID, Arn: t.ARN, Name: t.Name, FailoverGroup: t.Group, Status: t.Status, IsDefault: t.IsDefault,
		Telephony: shares(t.Telephony.Adopted), Agent: shares(t.Agents.Adopted), SignIn: signIns(t.SignIn.Adopted),
		ObservedAt: moment(t.ObservedAt), SplitSince: moment(t.SplitAt), MembersReadAt: moment(t.Roster.CompletedAt),
		Warnings: warnings(t), Answers: []contract.RegionAnswer{},
	}
	for _, region := range answerers(t) {
		telephony, agents, signIn := t.Telephony.Answers[region], t.Agents.Answers[region], t.SignIn.Answers[region]
		out.Answers = append(out.Answers, contract.RegionAnswer{
			Region: region, ObservedAt: moment(latest(telephony.At, agents.At, signIn.At)),
			Telephony: shares(telephony.Value), Agent: shares(agents.Value), SignIn: signIns(signIn.Value),
		})
	}
	return out
}

// answerers are the Regions that have ever answered about a group, sorted.
func answerers(t *failover.TDG) []string {
	var regions []string
	for _, v := range []*failover.Vote{&t.Telephony, &t.Agents, &t.SignIn} {
		for region := range v.Answers {
			if !slices.Contains(regions, region) {
				regions = append(regions, region)
			}
		}
	}
	slices.Sort(regions)
	return regions
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
