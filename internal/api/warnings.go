package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"changeover/internal/api/contract"
	"changeover/internal/failover"
)

// warnings lists what an operator should know of a traffic distribution group before or during a shift: set-up errors first,
// then what its distributions say about one another.
func warnings(t *failover.TDG) []contract.Warning {
	list := []contract.Warning{}
	add := func(code string, since time.Time, format string, args ...any) {
		list = append(list, contract.Warning{Code: code, Message: fmt.Sprintf(format, args...), Since: moment(since)})
	}
	for _, e := range t.Setup {
		add(e.Code, e.Since, "%s", e.Message)
	}
	agents, telephony, signIn := t.Agents.Adopted, t.Telephony.Adopted, t.SignIn.Adopted
	if agents == nil {
		add("NOT_OBSERVED", time.Time{}, "No Region has told yet how agents are distributed, so no failover of this group can be detected.")
	}
	for _, v := range []struct {
		name string
		vote *failover.Vote
	}{{"telephony", &t.Telephony}, {"agents", &t.Agents}, {"sign-in", &t.SignIn}} {
		if said, differ := disagreement(v.vote); differ {
			add("REGIONS_DISAGREE", v.vote.DisagreeAt, "The Regions answer differently about %s: %s. Nothing changes until they agree or one answer is the newer one for long enough.", v.name, said)
		}
	}
	if agents != nil && telephony != nil && !slices.Equal(agents, telephony) {
		add("TELEPHONY_DIFFERS", latest(t.Agents.AdoptedAt, t.Telephony.AdoptedAt),
			"Calls are distributed %s, agents %s: calls arrive where their agents are not.", percentages(telephony), percentages(agents))
	}
	for _, s := range agents {
		if s.Percent > 0 && signIn != nil && !enabled(signIn, s.Region) {
			add("SIGN_IN_DIFFERS", latest(t.Agents.AdoptedAt, t.SignIn.AdoptedAt),
				"Agents are sent to %s, whose sign-in is off; while the other Region is down nobody can sign in.", s.Region)
		}
	}
	if !t.SplitAt.IsZero() {
		add("SPLIT", t.SplitAt, "Agents are split %s. Amazon Connect does not tell who works where; desktops and presence do.", percentages(agents))
	}
	return list
}

// disagreement says whether two Regions' last answers differ, and how.
func disagreement(v *failover.Vote) (string, bool) {
	var regions []string
	for region, answer := range v.Answers {
		if answer.Value != nil {
			regions = append(regions, region)
		}
	}
	slices.Sort(regions)
	var parts []string
	differ := false
	for _, region := range regions {
		value := v.Answers[region].Value
		parts = append(parts, region+" says "+percentages(value))
		differ = differ || !slices.Equal(value, v.Answers[regions[0]].Value)
	}
	return strings.Join(parts, ", "), differ
}

func percentages(d failover.Distribution) string {
	parts := make([]string, len(d))
	for i, s := range d {
		parts[i] = fmt.Sprintf("%s %d", s.Region, s.Percent)
	}
	return strings.Join(parts, " / ")
}

func enabled(d failover.Distribution, region string) bool {
	return slices.ContainsFunc(d, func(s failover.Share) bool { return s.Region == region && s.Percent > 0 })
}
