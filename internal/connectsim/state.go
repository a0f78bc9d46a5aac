package connectsim

import (
	"time"
)

// State is what the simulator is doing, for people and for tests that wait.
type State struct {
	Now        time.Time     `json:"now"`
	InstanceID string        `json:"instanceId"`
	View       View          `json:"view"`
	Regions    []RegionState `json:"regions"`
	TDGs       []TDGState    `json:"trafficDistributionGroups"`
	Agents     int           `json:"agents"`
	SignedIn   int           `json:"signedIn"`
	Floor      Floor         `json:"floor"`
	Faults     []FaultRule   `json:"faults"`
}

// RegionState is a Region.
type RegionState struct {
	Region     string         `json:"region"`
	InstanceID string         `json:"instanceId"`
	AccessURL  string         `json:"accessUrl"`
	Down       DownMode       `json:"down"`
	Agents     int            `json:"agents"`   // active there
	Contacts   map[string]int `json:"contacts"` // by channel, not cleared
	Requests   int            `json:"requests"`
}

// TDGState is a traffic distribution group.
type TDGState struct {
	ID        string             `json:"id"`
	ARN       string             `json:"arn"`
	Name      string             `json:"name"`
	IsDefault bool               `json:"isDefault"`
	Status    string             `json:"status"`
	InEffect  Distributions      `json:"inEffect"`
	Views     map[string]TDGView `json:"views"` // by Region: what it answers
	Members   int                `json:"members"`
	ToMove    int                `json:"toMove"`  // members whose target is not their Region
	Waiting   int                `json:"waiting"` // of those, for contacts to be cleared
}

// TDGView is what a Region knows of a group.
type TDGView struct {
	Status        string        `json:"status"` // empty: the Region does not know the group
	Distributions Distributions `json:"distributions"`
	Frozen        bool          `json:"frozen"`
}

// State tells what the simulator is doing.
func (s *Sim) State() State {
	faults := s.FaultRules()
	s.lock()
	defer s.mu.Unlock()
	st := State{
		Now: s.time(s.now), InstanceID: s.cfg.InstanceID, View: s.cfg.View, Floor: s.floor, Faults: faults,
		Agents: len(s.agents), Regions: make([]RegionState, len(s.cfg.Regions)), TDGs: make([]TDGState, 0, len(s.tdgs)),
	}
	for i, r := range s.cfg.Regions {
		st.Regions[i] = RegionState{Region: r, InstanceID: s.cfg.InstanceID, AccessURL: s.accessURL(i), Down: s.down[i], Contacts: map[string]int{}}
	}
	for k, n := range s.calls.counts {
		if i := s.regionIndex(k.Region); i >= 0 {
			st.Regions[i].Requests += n
		}
	}
	for _, a := range s.agents {
		st.Regions[a.region].Agents++
		if a.status != StatusOffline {
			st.SignedIn++
		}
		for _, c := range a.contacts {
			st.Regions[c.region].Contacts[c.channel]++
		}
	}
	for _, t := range s.tdgs {
		if t.deleted {
			continue
		}
		ts := TDGState{
			ID: t.id, ARN: s.tdgARN(t), Name: t.name, IsDefault: t.isDefault, Status: t.status, InEffect: t.dist.clone(),
			Views: make(map[string]TDGView, len(t.views)), Members: len(t.members),
		}
		for i, v := range t.views {
			ts.Views[s.cfg.Regions[i]] = TDGView{Status: v.status, Distributions: v.dist.clone(), Frozen: v.frozen}
		}
		for _, a := range t.members {
			if to := s.target(a); to >= 0 && to != a.region {
				ts.ToMove++
				if a.waiting {
					ts.Waiting++
				}
			}
		}
		st.TDGs = append(st.TDGs, ts)
	}
	return st
}
