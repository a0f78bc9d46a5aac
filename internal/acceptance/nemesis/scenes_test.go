package nemesis

import (
	"time"

	"changeover/internal/connectsim"
)

// planScene draws what a sequence may begin with, while nothing else happens: things that break a rule only if they meet within tenths of a second, which
// random steps hardly ever do. It returns when everything else may begin.
func (s *sequence) planScene() time.Duration {
	scene := s.rng.IntN(10)
	if s.amazon.State().View == connectsim.Global && scene < 5 {
		return 0 // where both Regions show everybody, an answer always tells of those who have left
	}
	switch {
	case scene < 3:
		return s.planCurt()
	case scene < 5:
		return s.planDownInPause()
	case scene < 7:
		return s.planDismissals()
	}
	return 0
}

// everybodyLeaves shifts all groups to where the first agent is not, and tells from where.
func (s *sequence) everybodyLeaves() (from string) {
	from = s.amazon.Agents()[0].ActiveRegion
	for _, g := range s.amazon.State().TDGs {
		s.shift(g.Name, other(from), 100)
	}
	return from
}

// planCurt: the Region that everybody leaves goes on answering, but nothing that tells of those who left; then it is down. However long ago they
// left, it is silent only since its last answer (R9).
func (s *sequence) planCurt() time.Duration {
	from, mode := "", pick(s.rng, []connectsim.DownMode{connectsim.DownRefuse, connectsim.DownHang, connectsim.DownUnavailable})
	limit := s.config.Failover.RegionDownAfter
	down := s.duration(limit/2, 2*limit)
	up := down + s.duration(0, 2*limit)
	s.add(0, func() {
		s.amazon.beCurt(s.amazon.Agents()[0].ActiveRegion)
		from = s.everybodyLeaves()
	}, "everybody leaves, and the Region that is left answers nothing about them")
	s.add(down, func() { _ = s.amazon.SetRegionDown(from, mode); s.amazon.beCurt("") }, "that Region is down: %s", mode)
	s.add(up, func() { _ = s.amazon.SetRegionDown(from, connectsim.Up) }, "it is up")
	return down + limit/4
}

// planDownInPause: a Region is taken for down while completions are held, and answers before they go on: what it showed last says nothing any
// more (R8, R9).
func (s *sequence) planDownInPause() time.Duration {
	from, at := "", s.rng.IntN(len(s.replicas))
	limit := s.config.Failover.RegionDownAfter
	// The operation is left alone for two seconds when three requests have had no answer; the next that fails tells that the Region is down.
	up := max(limit, 2*time.Second) + 1500*time.Millisecond
	s.add(0, func() {
		s.ask(at, "POST", "/v1/failover-groups/main/pause", "", map[string]any{"reason": "scene", "ttlSeconds": 20})
	}, "completions are held")
	s.add(200*time.Millisecond, func() {
		_ = s.amazon.SetRegionDown(s.amazon.Agents()[0].ActiveRegion, connectsim.DownUnavailable)
		from = s.everybodyLeaves()
	}, "everybody leaves a Region that is down")
	s.add(up, func() { _ = s.amazon.SetRegionDown(from, connectsim.Up) }, "it is up")
	resume := up + s.duration(1500*time.Millisecond, 2500*time.Millisecond)
	s.add(resume, func() { s.busy.Go(func() { s.resume(at) }) }, "completions go on")
	return resume + 500*time.Millisecond
}

// planDismissals: users are removed while they are on a call that holds their failover, while it is only detected, and while they have none.
func (s *sequence) planDismissals() time.Duration {
	n := s.rng.Perm(agents)
	contact := -1
	s.add(0, func() { contact = s.call(n[0], "VOICE", "", "") }, "VOICE for agent %d", n[0])
	s.add(300*time.Millisecond, func() { s.everybodyLeaves() }, "everybody leaves")
	s.add(300*time.Millisecond+s.duration(0, 100*time.Millisecond), func() { s.dismiss(n[1]) }, "agent %d is removed, as they leave", n[1])
	at := 300*time.Millisecond + s.duration(500*time.Millisecond, 1500*time.Millisecond)
	s.add(at, func() { s.dismiss(n[0]) }, "agent %d is removed in a call", n[0])
	s.add(at, func() { s.dismiss(n[2]) }, "agent %d is removed", n[2])
	s.add(at+s.duration(0, time.Second), func() { s.clear(contact) }, "cleared by agent %d", n[0])
	return at
}
