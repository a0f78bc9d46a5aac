package connectsim

import (
	"encoding/json"
	"fmt"
)

// UpdateTrafficDistribution does what the operation does when it is called in a Region, with all its rules; only
// quotas, latency and faults do not apply. The group is given by name, id or ARN; empty: the default one. Errors of
// the operation are of type [*Error].
func (s *Sim) UpdateTrafficDistribution(region, tdg string, d Distributions) error {
	r, err := s.mustRegion(region)
	if err != nil {
		return err
	}
	var in struct {
		TelephonyConfig, AgentConfig *wireShares
		SignInConfig                 *wireSignIns
	}
	in.TelephonyConfig, in.AgentConfig = sharesOut(d.Telephony), sharesOut(d.Agents)
	if d.SignIn != nil {
		in.SignInConfig = &wireSignIns{}
		for _, si := range d.SignIn {
			in.SignInConfig.Distributions = append(in.SignInConfig.Distributions, wireSignIn{&si.Region, &si.Enabled})
		}
	}
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the distribution: %w", err)
	}
	s.lock()
	defer s.mu.Unlock()
	t := s.namedTDG(tdg)
	if t == nil {
		return errNoTDG(tdg)
	}
	_, err = updateDistribution(s, &request{region: r, label: map[string]string{"Id": s.tdgARN(t)}, body: body}, false)
	return err
}

// Shift gives a Region a percentage of a group's telephony and agents, and opens sign-in where there is a part,
// as Amazon Connect's documentation advises: in one call, made in the Region that is to take over.
func (s *Sim) Shift(tdg, to string, percent int) error {
	r, err := s.mustRegion(to)
	if err != nil {
		return err
	}
	s.lock()
	t := s.namedTDG(tdg)
	s.mu.Unlock()
	if t == nil {
		return errNoTDG(tdg)
	}
	return s.UpdateTrafficDistribution(to, tdg, s.distributionsFor(r, percent, t.isDefault))
}
