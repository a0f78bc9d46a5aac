package nemesis

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"changeover/internal/connectsim"
)

// A scene is what a sequence may begin with, while nothing else happens: things that break a rule only if they meet within tenths of a second, which
// random steps hardly ever do.
type scene int

const (
	noScene scene = iota
	curt
	downInPause
	downForHeir
	inPause
	dismissals
	thawed
	deposed
	away
)

// scenes are taken one after the other, by the seed, so that a few sequences have seen what matters most and a minute nearly all.
var scenes = []scene{
	deposed, away, curt, inPause, deposed, noScene, curt, dismissals, downInPause, deposed, away, thawed, curt, downForHeir, noScene,
}

// planScene returns when everything else may begin.
func (s *sequence) planScene() time.Duration {
	switch s.scene {
	case curt:
		return s.planCurt()
	case downInPause:
		return s.planDownInPause()
	case downForHeir:
		return s.planDownForHeir()
	case inPause:
		return s.planInPause()
	case dismissals:
		return s.planDismissals()
	case thawed:
		return s.planThawed()
	case deposed:
		return s.planDeposed()
	case away:
		return s.planAway()
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
	up := limit + unasked
	s.add(0, func() {
		s.ask(at, "POST", "/v1/failover-groups/main/pause", "", map[string]any{"reason": "scene", "ttlSeconds": 20})
	}, "completions are held")
	s.add(200*time.Millisecond, func() {
		_ = s.amazon.SetRegionDown(s.amazon.Agents()[0].ActiveRegion, connectsim.DownUnavailable)
		from = s.everybodyLeaves()
	}, "everybody leaves a Region that is down")
	s.add(up, func() { _ = s.amazon.SetRegionDown(from, connectsim.Up) }, "it is up")
	resume := up + unasked + slack + s.duration(0, limit/2)
	s.add(resume, func() { s.busy.Go(func() { s.resume(at) }) }, "completions go on")
	return resume + 500*time.Millisecond
}

// unasked is longer than a Region that does not answer is left alone.
const unasked = 2500 * time.Millisecond

// planDownForHeir: the leader is killed soon after everybody has left a Region that is down. The next one did not look before it began (R9).
func (s *sequence) planDownForHeir() time.Duration {
	from := ""
	s.add(0, func() {
		_ = s.amazon.SetRegionDown(s.amazon.Agents()[0].ActiveRegion, connectsim.DownUnavailable)
		from = s.everybodyLeaves()
	}, "everybody leaves a Region that is down")
	limit := s.config.Failover.RegionDownAfter
	killed := limit/4 + s.duration(0, limit/4)
	s.planEndOfLeader(killed)
	up := killed + limit + unasked
	s.add(up, func() { _ = s.amazon.SetRegionDown(from, connectsim.Up) }, "it is up")
	return up - limit/2
}

// planEndOfLeader kills the leader, whose lease is free at once.
func (s *sequence) planEndOfLeader(at time.Duration) {
	s.add(at, func() {
		s.busy.Go(func() {
			r := s.notSpared(s.leader())
			r.kill()
			s.freeLease()
			r.start()
		})
	}, "the leader is killed")
}

// planInPause: completions are held while everybody leaves, some of them after a call that ends meanwhile; perhaps the leader is killed. The pause
// holds them for the next leader, too, and when it ends everybody is read again (R8).
func (s *sequence) planInPause() time.Duration {
	at, killed := s.rng.IntN(len(s.replicas)), s.rng.IntN(2) == 0
	resume := s.duration(3*time.Second, 4*time.Second)
	for _, n := range s.rng.Perm(agents)[:3] {
		contact := -1
		s.add(0, func() { contact = s.call(n, "VOICE", "", "") }, "VOICE for agent %d", n)
		s.add(resume-s.duration(200*time.Millisecond, 2*time.Second), func() { s.clear(contact) }, "cleared by agent %d", n)
	}
	s.add(300*time.Millisecond, func() { s.everybodyLeaves() }, "everybody leaves")
	var held pause
	s.add(500*time.Millisecond, func() {
		if status, _ := s.ask(at, "POST", "/v1/failover-groups/main/pause", "", map[string]any{"reason": "scene", "ttlSeconds": 20}); status == 202 {
			held.from = time.Now()
		}
	}, "completions are held")
	if killed {
		s.planEndOfLeader(s.duration(600*time.Millisecond, 1500*time.Millisecond))
	}
	s.add(resume, func() {
		if held.until = time.Now(); !held.from.IsZero() {
			s.mu.Lock()
			s.pauses = append(s.pauses, held)
			s.mu.Unlock()
		}
		s.busy.Go(func() { s.resume(at) })
	}, "completions go on")
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

// planThawed: a leader who was frozen sees everybody leave when it wakes, as the one does who leads meanwhile, and can commit nothing of it (R19).
func (s *sequence) planThawed() time.Duration {
	s.add(0, func() {
		old := s.leader()
		old.freeze()
		s.freeLease()
		within(4*time.Second, func() bool { return s.leader() != old })
		s.everybodyLeaves()
		old.thaw()
	}, "the leader is frozen; when there is another one it is thawed, and everybody leaves")
	return 2500 * time.Millisecond
}

// planDeposed: a leader's commit is under way, held up before it reaches PostgreSQL, when the lease is lost and the next leader decides. Then it arrives,
// and the old leader has heard nothing of all that. The old leader has told nothing in its term, so that nothing but the lease tells its events
// from those of a leader (R19).
func (s *sequence) planDeposed() time.Duration {
	frozen := s.rng.IntN(4) == 0
	s.add(0, func() {
		s.nextTerm()
		old := s.leader()
		s.everybodyLeaves()
		old.proxy.hangInCommit()
		within(2*time.Second, old.proxy.hangs)
		if frozen {
			old.freeze()
		}
		s.freeLease()
		epoch := s.epoch()
		within(4*time.Second, func() bool { return s.leader() != old && s.logEpoch() > epoch })
		old.thaw()
		old.proxy.spare()
		<-time.After(500 * time.Millisecond)
		old.proxy.mend()
	}, "a commit is held up, until another one leads and has told something; its leader is frozen: %t", frozen)
	return 3 * time.Second
}

// nextTerm has some replica begin a term.
func (s *sequence) nextTerm() {
	before := s.epoch()
	within(4*time.Second, func() bool { // a leader may renew its lease before another one sees that it is free
		s.freeLease()
		<-time.After(200 * time.Millisecond)
		return s.epoch() != before
	})
}

// planAway: all clients are away while everybody leaves and chats hold some. They come back while events go on, some to a replica that was
// restarted meanwhile, which has to read for them what they missed.
func (s *sequence) planAway() time.Duration {
	const length = 2300 * time.Millisecond
	var restarted *replica
	s.add(0, func() {
		for _, d := range s.desktops {
			d.leave()
		}
	}, "all clients leave")
	for _, n := range s.rng.Perm(agents)[:3] {
		contact := -1
		s.add(0, func() { contact = s.call(n, "VOICE", "", "") }, "VOICE for agent %d", n)
		s.add(length+s.duration(0, time.Second), func() { s.clear(contact) }, "cleared by agent %d", n)
		for at := 500 * time.Millisecond; at < length; at += 240 * time.Millisecond {
			chat := -1
			s.add(at, func() { chat = s.call(n, "CHAT", "", "") }, "CHAT for agent %d", n)
			s.add(at+120*time.Millisecond, func() { s.clear(chat) }, "cleared by agent %d", n)
		}
	}
	s.add(200*time.Millisecond, func() { s.everybodyLeaves() }, "everybody leaves")
	s.add(length-time.Second, func() {
		leader := s.leader().n
		restarted = s.replicas[(leader+1)%len(s.replicas)]
		if restarted.n == s.spared {
			restarted = s.replicas[(leader+2)%len(s.replicas)]
		}
		s.busy.Go(func() { restarted.kill(); restarted.start() })
	}, "one who follows is killed")
	s.add(length, func() {
		within(2*time.Second, func() bool {
			status, _ := s.ask(restarted.n, "GET", "/v1/agents", "", nil)
			return status == 200
		})
		for i, d := range s.desktops {
			next := restarted.n
			if i%2 == 0 {
				next = (next + 1 + i/2%(len(s.replicas)-1)) % len(s.replicas)
			}
			d.come(next)
		}
	}, "all clients come back")
	return length
}

// epoch is that of the last leader.
func (s *sequence) epoch() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reigns) == 0 {
		return 0
	}
	return s.reigns[len(s.reigns)-1].epoch
}

// logEpoch is that of the last event.
func (s *sequence) logEpoch() (epoch int64) {
	_ = s.query(func(ctx context.Context, conn *pgx.Conn) error { // what is not told now is the next time
		return conn.QueryRow(ctx, "SELECT epoch FROM event_log").Scan(&epoch)
	})
	return epoch
}

// within waits for something, and no longer than it may take.
func within(limit time.Duration, is func() bool) {
	for deadline := time.Now().Add(limit); !is() && time.Now().Before(deadline); {
		<-time.After(20 * time.Millisecond)
	}
}
