package tdg

import (
	"log/slog"

	"changeover/internal/connect"
	"changeover/internal/failover"
)

// outcome is the end of one Region's request; done is false for one that is silent so far.
type outcome struct {
	done bool
	err  error
}

func outcomes[T any](results []result[T]) []outcome {
	out := make([]outcome, len(results))
	for i, r := range results {
		out[i] = outcome{r.done, r.err}
	}
	return out
}

// code is the set-up error that the outcome tells; empty: none.
func (o outcome) code() string {
	switch connect.KindOf(o.err) {
	case connect.Denied:
		return failover.CodeAccessDenied
	case connect.NotFound:
		return failover.CodeTDGNotFound
	}
	return ""
}

// says whether the Region has given an answer, be it that it must not or cannot give one.
func (o outcome) says() bool { return o.done && (o.err == nil || o.code() != "") }

// verdict is what the Regions together say about a set-up.
type verdict struct {
	answers int    // good ones
	code    string // of the set-up error that every Region which answers tells; empty: none
}

// judge finds what every Region that answers says.
func judge(outcomes []outcome) verdict {
	var v verdict
	codes := map[string]bool{}
	for _, out := range outcomes {
		switch {
		case !out.says():
		case out.err == nil:
			v.answers++
		default:
			v.code = out.code()
			codes[v.code] = true
		}
	}
	if v.answers > 0 || len(codes) > 1 {
		v.code = ""
	}
	return v
}

// denial is what was told of a denied access.
type denial int

const (
	unsaid   denial = iota // nothing; an earlier leader may have told that it is denied
	isDenied               // it is denied
	allowed                // it is not, or no more
)

// tell returns the observation that access is denied, in each round in which it is, or that it is not, once.
func (d *denial) tell(v verdict, tell failover.SetupObserved, what, operation string) (failover.SetupObserved, bool) {
	tell.Code = failover.CodeAccessDenied
	switch {
	case v.code == failover.CodeAccessDenied:
		*d = isDenied
		// Without the Regions: agents are told again when the text changes.
		tell.Message = what + " cannot be read: access is denied; the service's role has to allow connect:" + operation
		return tell, true
	case v.answers > 0 && *d != allowed:
		*d = allowed
		tell.Repaired = true
		return tell, true
	}
	return failover.SetupObserved{}, false
}

// complaints logs, by Region, the first of several failures of one kind in a row, and the recovery. That a Region is silent or
// throttles is told by its client and its metrics.
type complaints struct {
	log   *slog.Logger
	kinds map[string]connect.Kind
}

func newComplaints(log *slog.Logger) complaints { return complaints{log, map[string]connect.Kind{}} }

func (c complaints) hear(r *Reader, outcomes []outcome) {
	for i, out := range outcomes {
		region := r.o.Instances[i].Client.Region()
		kind := connect.KindOf(out.err)
		switch {
		case !out.done, kind == c.kinds[region], kind == connect.Throttled, kind == connect.Unavailable:
			continue
		case out.err == nil:
			c.log.Info("amazon connect can be read again", "region", region)
		case kind != "":
			c.log.Warn("amazon connect cannot be read, last known values are kept", "region", region, "kind", string(kind), "error", out.err)
		}
		c.kinds[region] = kind
	}
}
