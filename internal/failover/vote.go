package failover

import (
	"slices"
	"time"
)

// target is the Region that gets everything, or "" for a split or an unknown distribution (R1).
func (d Distribution) target() string {
	for _, s := range d {
		if s.Percent == 100 {
			return s.Region
		}
	}
	return ""
}

// percentages says whether the shares are a distribution of 100 %: anything else is malformed and no answer (R13).
func (d Distribution) percentages() bool {
	sum := 0
	for _, s := range d {
		if s.Percent < 0 {
			return false
		}
		sum += s.Percent
	}
	return len(d) > 0 && sum == 100
}

// round takes the answers of one round and says whether another value was adopted, and whether that settled a
// conflict. This is R14:
//
//	a Region's own answer changed  | all voters agree          | adopted, `confirmations` times in a row
//	a Region's own answer changed  | voters disagree           | nothing, until conflictAfter: then the last change wins
//	no answer changed              | whatever                  | nothing (a Region that comes back with its old answer)
//	nothing is adopted yet         | all voters agree          | adopted
//
// Voters are the Regions in answers, the source first, so a silent one has no vote. The source wins a tie: when both changed at
// once, or nothing has ever changed, as it can only at a first observation. tick tells rounds from the late answers of
// the same round, which confirm nothing anew.
func (v *Vote) round(answers []vote, tick time.Time, set *Settings, now time.Time) (adopted, conflict bool) {
	if len(answers) == 0 {
		return false, false
	}
	if v.Answers == nil {
		v.Answers = make(map[string]Answer, len(answers))
	}
	changed := false
	for _, in := range answers {
		a, known := v.Answers[in.region]
		if known && !slices.Equal(a.Value, in.value) {
			a.OldAt, a.ChangedAt = a.At, now
			changed = true
		}
		a.Value, a.At = in.value, now
		v.Answers[in.region] = a
	}

	agreed := answers[0].value
	for _, in := range answers[1:] {
		if !slices.Equal(in.value, agreed) {
			v.Candidate, v.Count = nil, 0
			if v.DisagreeAt.IsZero() || v.Conflicted && changed {
				v.DisagreeAt, v.Conflicted = now, false
			}
			return v.settle(answers, set, now)
		}
	}
	v.DisagreeAt, v.Conflicted = time.Time{}, false
	if slices.Equal(agreed, v.Adopted) {
		v.Candidate, v.Count = nil, 0
		return false, false
	}
	by := v.bringer(answers)
	if by == "" && v.Adopted != nil {
		v.Candidate, v.Count = nil, 0
		return false, false
	}
	if !slices.Equal(v.Candidate, agreed) {
		v.Candidate, v.Count = agreed, 0
	}
	if v.Count == 0 || !tick.Equal(v.counted) {
		v.Count++
		v.counted = tick
	}
	if v.Count < max(1, set.Confirmations) {
		return false, false
	}
	if by == "" {
		by = answers[0].region
	}
	v.adopt(agreed, by, now)
	return true, false
}

// settle ends a disagreement that has lasted for conflictAfter: the answer that changed last wins.
func (v *Vote) settle(answers []vote, set *Settings, now time.Time) (adopted, conflict bool) {
	if v.Conflicted || now.Sub(v.DisagreeAt) < set.ConflictAfter {
		return false, false
	}
	by := v.bringer(answers)
	if by == "" && v.Adopted == nil {
		by = answers[0].region
	}
	v.Conflicted = true
	if by == "" || slices.Equal(v.Answers[by].Value, v.Adopted) {
		return false, true // the one that changed last is what is adopted already
	}
	v.adopt(v.Answers[by].Value, by, now)
	return true, true
}

// bringer is the voter whose own answer changed last, since the last adoption; "" if none did.
func (v *Vote) bringer(answers []vote) string {
	by := ""
	for _, in := range answers {
		at := v.Answers[in.region].ChangedAt
		if at.IsZero() || at.Before(v.AdoptedAt) {
			continue
		}
		if by == "" || at.After(v.Answers[by].ChangedAt) {
			by = in.region
		}
	}
	return by
}

func (v *Vote) adopt(d Distribution, by string, now time.Time) {
	v.LastOldAt = v.Answers[by].OldAt
	v.Adopted, v.AdoptedAt, v.AdoptedBy = d, now, by
	v.Candidate, v.Count = nil, 0
}

// vote is one Region's answer in a round.
type vote struct {
	region string
	value  Distribution
}
