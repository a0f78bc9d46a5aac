package auth

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// claims are those of a verified token.
type claims map[string]any

// find returns the claim that path names. The path is a claim's name as it is, dots included, or names of nested objects with
// dots between them: realm_access.roles. The longest name wins, so that namespaced claims (https://example.com/roles) and
// clients with a dot in their name are found too.
func (c claims) find(path string) (any, bool) {
	if v, ok := c[path]; ok {
		return v, true
	}
	for i := strings.LastIndexByte(path, '.'); i > 0; i = strings.LastIndexByte(path[:i], '.') {
		if nested, ok := c[path[:i]].(map[string]any); ok {
			if v, ok := claims(nested).find(path[i+1:]); ok {
				return v, true
			}
		}
	}
	return nil, false
}

// text returns the claim if it is a string that can be shown and written down.
func (c claims) text(name string) string {
	s, _ := c[name].(string)
	if !presentable(s) {
		return ""
	}
	return s
}

// presentable says whether a name from outside can be shown in a table and written into logs and headers of reports.
func presentable(s string) bool {
	return s != "" && len(s) <= 255 && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// latest is the last moment that RFC 3339 can name: later ones are mistakes.
var latest = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

// time returns a NumericDate (RFC 7519 §2). ok is false for what is none; a claim that is missing is zero and ok.
func (c claims) time(name string) (t time.Time, ok bool) {
	v, there := c[name]
	if !there {
		return time.Time{}, true
	}
	seconds, ok := v.(float64)
	if !ok || seconds < 0 || seconds > float64(latest.Unix()) {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// mapping says which claims make a caller what it is.
type mapping struct {
	agent, roles string
	instances    []string // whose agents an ARN may name; empty: any
}

// What is wrong with a claim that names no agent or no role. The text goes to the log, without the claim.
const (
	agentNotText    = "it is neither a string nor a list of one"
	agentNotID      = "it is neither an Amazon Connect user id nor an agent's ARN"
	agentElsewhere  = "it is the ARN of an agent of another Amazon Connect instance"
	rolesNotStrings = "it is neither a string nor a list of strings"
)

// identity reads who the token is about, and notes which claims are there and make no sense.
//
// The agent's id alone makes its bearer an agent: it says whose desktop this is, and the role gives no more than that desktop's
// own affairs, so that an identity provider need not know roles for the thousands who have none. A role agent without an id
// would be about nobody, and is left out. Every other role has to be named.
func (m mapping) identity(c claims, note func(claim, why string)) Identity {
	id := Identity{Subject: c.text("sub")}
	for _, name := range []string{"preferred_username", "email", "upn", "name"} {
		if id.Name = c.text(name); id.Name != "" {
			break
		}
	}
	if v, ok := c.find(m.agent); ok {
		var why string
		if id.AgentID, why = m.agentID(v); why != "" {
			note(m.agent, why)
		}
	}
	if id.AgentID != "" {
		id.Roles = append(id.Roles, Agent)
	}
	if v, ok := c.find(m.roles); ok {
		named, ok := words(v)
		if !ok {
			note(m.roles, rolesNotStrings)
		}
		for _, role := range []Role{Viewer, Operator, Admin} {
			if slices.Contains(named, string(role)) || slices.Contains(named, rolePrefix+string(role)) {
				id.Roles = append(id.Roles, role)
			}
		}
	}
	return id
}

// rolePrefix may stand before a role, for claims that list the groups of a whole company, where a bare "admin" means
// something else.
const rolePrefix = "changeover-"

// words returns the strings of a claim that is a list of strings, or a string with spaces between them as in scope
// (RFC 8693 §4.2). A list with anything else in it is none at all.
func words(v any) ([]string, bool) {
	switch v := v.(type) {
	case string:
		return strings.Fields(v), true
	case []any:
		list := make([]string, len(v))
		for i, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			list[i] = s
		}
		return list, true
	default:
		return nil, false
	}
}

// A user id of Amazon Connect is a UUID; its API promises 1 to 256 characters. An ARN's parts are fixed.
var (
	userID   = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,255}$`)
	agentARN = regexp.MustCompile(`^arn:aws(?:-[a-z]+)*:connect:[a-z]{2,}(?:-[a-z]+)+-[0-9]+:[0-9]{12}:instance/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/agent/([0-9A-Za-z][0-9A-Za-z_-]{0,255})$`)
)

// agentID returns the user id in the value of the agent claim, or why there is none. A list of one is what
// some identity providers make of an attribute that could have several values; several would be several agents.
func (m mapping) agentID(v any) (id, why string) {
	if list, ok := v.([]any); ok && len(list) == 1 {
		v = list[0]
	}
	s, ok := v.(string)
	switch {
	case !ok:
		return "", agentNotText
	case s == "":
		return "", "" // how some identity providers say that a person has none
	case userID.MatchString(s):
		return s, ""
	}
	arn := agentARN.FindStringSubmatch(s)
	switch {
	case arn == nil:
		return "", agentNotID
	case len(m.instances) > 0 && !slices.Contains(m.instances, arn[1]):
		return "", agentElsewhere
	}
	return arn[2], ""
}
