package failover

import (
	"slices"
	"strings"
)

// The codes of set-up errors (R17). LOGIN_URL_MISSING, LILY_AGENT_CONFIG_MISSING and LILY_AGENT_CONFIG_PARSE_ERROR are
// Streams' own and come from desktops only.
const (
	CodeTDGNotFound           = "TDG_NOT_FOUND"
	CodeTDGNotActive          = "TDG_NOT_ACTIVE"
	CodeAgentNotInTDG         = "AGENT_NOT_IN_TDG"
	CodeRegionNotConfigured   = "REGION_NOT_CONFIGURED"
	CodeAccessDenied          = "ACCESS_DENIED"
	CodeSecondaryCCPURL       = "SECONDARY_CCP_URL_MISSING"
	CodeStandbyNotInitialized = "STANDBY_NOT_INITIALIZED"
)

// errorKind says where an agent's set-up error comes from, so that one origin does not repair another's.
type errorKind int

const (
	groupErrors   errorKind = iota // of its failover group or traffic distribution group
	ownErrors                      // its own
	desktopErrors                  // reported by its desktop
)

func (e *SetupError) kind() errorKind {
	switch {
	case e.Desktop:
		return desktopErrors
	case e.Own:
		return ownErrors
	}
	return groupErrors
}

// setError tells an agent of a set-up error, once until it changes.
func (st *step) setError(a *Agent, e SetupError) {
	i := slices.IndexFunc(a.Errors, func(x SetupError) bool { return x.Code == e.Code && x.kind() == e.kind() })
	switch {
	case i >= 0 && a.Errors[i].Message == e.Message:
		return
	case i >= 0:
		a.Errors[i].Message = e.Message
	default:
		e.Since = st.now
		a.Errors = append(a.Errors, e)
	}
	st.touch(a)
	st.emit(a, Event{Type: EventConfigureError, Code: e.Code, Message: e.Message})
}

// clearError tells an agent that a set-up error was repaired, if it had been told of it.
func (st *step) clearError(a *Agent, code string, kind errorKind) {
	i := slices.IndexFunc(a.Errors, func(x SetupError) bool { return x.Code == code && x.kind() == kind })
	if i < 0 {
		return
	}
	a.Errors = slices.Delete(a.Errors, i, i+1)
	st.touch(a)
	st.emit(a, Event{Type: EventConfigureErrorCleared, Code: code})
}

// desktopError takes the error that a desktop reports of itself; "" says that there is none.
func (st *step) desktopError(a *Agent, code, message string) {
	for _, e := range slices.Clone(a.Errors) {
		if e.kind() == desktopErrors && e.Code != code && e.Code != CodeStandbyNotInitialized {
			st.clearError(a, e.Code, desktopErrors)
		}
	}
	if code != "" {
		st.setError(a, SetupError{Code: code, Message: message, Own: true, Desktop: true})
	}
}

// setupObserved takes a set-up error that a reader met, or its repair.
func (st *step) setupObserved(o SetupObserved) {
	g, t := st.groups[o.Group], st.tdgs[o.TDG]
	if g == nil || o.TDG != "" && (t == nil || t.Group != o.Group) {
		return
	}
	setup := &g.Setup
	if t != nil {
		setup = &t.Setup
	}
	var changed bool
	if o.Repaired {
		changed = st.repairSetup(setup, o.Code)
	} else {
		changed = st.setSetup(setup, SetupError{Code: o.Code, Message: o.Message})
	}
	switch {
	case !changed: // readers repeat themselves
	case t != nil:
		st.touchTDG(t)
		st.announceTDG(t)
	default:
		st.touchGroup(g)
		st.announceGroup(g)
	}
}

// checkCCPURLs finds instances without the address of their CCP, to which no desktop could be sent.
func (st *step) checkCCPURLs(g *Group) {
	var without []string
	for _, i := range g.Instances {
		if i.CCPURL == "" {
			without = append(without, i.Region)
		}
	}
	var changed bool
	if len(without) == 0 {
		changed = st.repairSetup(&g.Setup, CodeSecondaryCCPURL)
	} else {
		changed = st.setSetup(&g.Setup, SetupError{
			Code: CodeSecondaryCCPURL, Message: "no ccpUrl is configured for the instance in " + strings.Join(without, " and "),
		})
	}
	if changed {
		st.touchGroup(g)
	}
	st.announceGroup(g)
}

// setSetup notes an error, and says whether it is new or has another message.
func (st *step) setSetup(setup *[]SetupError, e SetupError) bool {
	i := slices.IndexFunc(*setup, func(x SetupError) bool { return x.Code == e.Code })
	switch {
	case i < 0:
		e.Since = st.now
		*setup = append(*setup, e)
	case (*setup)[i].Message == e.Message:
		return false
	default:
		(*setup)[i].Message = e.Message
	}
	return true
}

// repairSetup forgets an error, and says whether there was one.
func (st *step) repairSetup(setup *[]SetupError, code string) bool {
	had := len(*setup)
	*setup = slices.DeleteFunc(*setup, func(x SetupError) bool { return x.Code == code })
	return len(*setup) != had
}

// announceSetup tells the agents of a failover group about errors that have lasted for configureErrorAfter.
func (st *step) announceSetup(g *Group) {
	st.announceGroup(g)
	for _, t := range st.tdgsOf[g.Name] {
		st.announceTDG(t)
	}
}

func (st *step) announceGroup(g *Group) {
	if st.due(g.Setup, &g.Announced) {
		st.touchGroup(g)
		for _, a := range st.byGroup[g.Name] {
			st.syncSetup(a)
		}
	}
}

func (st *step) announceTDG(t *TDG) {
	if st.due(t.Setup, &t.Announced) {
		st.touchTDG(t)
		for _, a := range st.byGroup[t.Group] {
			if a.TDG == t.ID {
				st.syncSetup(a)
			}
		}
	}
}

// due brings the errors that agents are told in line with those that there are, and says whether any agent has to
// hear of it. An announced error is listed with its message, so that a change of it is told as well.
func (st *step) due(setup []SetupError, announced *[]SetupError) bool {
	var now []SetupError
	for _, e := range setup {
		known := slices.ContainsFunc(*announced, func(x SetupError) bool { return x.Code == e.Code })
		if known || st.now.Sub(e.Since) >= st.set.ConfigureErrorAfter {
			now = append(now, e)
		}
	}
	if slices.EqualFunc(now, *announced, func(x, y SetupError) bool { return x.Code == y.Code && x.Message == y.Message }) {
		return false
	}
	*announced = now
	return true
}

// syncSetup tells an agent which announced errors of its groups are new, changed or repaired.
func (st *step) syncSetup(a *Agent) {
	announced := st.groups[a.Group].Announced
	if t := st.tdgs[a.TDG]; t != nil && len(t.Announced) > 0 {
		announced = slices.Concat(announced, t.Announced)
	}
	if len(announced) == 0 && len(a.Errors) == 0 {
		return
	}
	for _, e := range slices.Clone(a.Errors) {
		gone := !slices.ContainsFunc(announced, func(x SetupError) bool { return x.Code == e.Code })
		if e.kind() == groupErrors && gone {
			st.clearError(a, e.Code, groupErrors)
		}
	}
	for i, e := range announced {
		// The group's own word for a code goes before that of the traffic distribution group.
		if slices.IndexFunc(announced, func(x SetupError) bool { return x.Code == e.Code }) == i {
			st.setError(a, SetupError{Code: e.Code, Message: e.Message})
		}
	}
}
