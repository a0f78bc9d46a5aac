package connectsim

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// modelRequests makes requests of an operation from the model.
type modelRequests struct {
	m    *smithyModel
	s    *Sim
	name string
	op   *shape
	in   *shape
	h    httpTrait
}

// sample is a valid value for a member; the model knows shapes, not which ids exist.
func (g *modelRequests) sample(path, target string, depth int) (any, bool) {
	id, a := g.s.InstanceID(), g.s.Agents()[0]
	last := path[strings.LastIndex(path, ".")+1:]
	tdg := DefaultTDGID
	switch g.name {
	case "DeleteTrafficDistributionGroup", "AssociateTrafficDistributionGroupUser":
		tdg = secondTDG
		a = g.s.Agents()[29] // made a member of none
	}
	switch last {
	case "InstanceId":
		return id, true
	case "Id", "TrafficDistributionGroupId":
		return tdg, true
	case "UserId", "Agents":
		if last == "Agents" {
			return []any{a.ID}, true
		}
		return a.ID, true
	case "ContactId":
		return strings.TrimPrefix(examples(g.s)["DescribeContact"].path, "/contacts/"+id+"/"), true
	case "NextToken", "ClientToken":
		return nil, false // given by an answer, or at random
	case "Name":
		return "generated", true
	case "Queues":
		return nil, false // one of four is allowed: Agents stands for them here, the others have a test
	case "RoutingProfiles", "UserHierarchyGroups":
		return nil, false
	case "FieldName":
		return "Username", true
	case "Region":
		return east, true
	}
	s := g.m.shape(target)
	if depth > 6 {
		return nil, false
	}
	switch s.Type {
	case "structure":
		out := map[string]any{}
		for name, mem := range s.Members {
			if v, ok := g.sample(path+"."+name, mem.Target, depth+1); ok {
				out[name] = v
			}
		}
		return out, true
	case "list":
		v, ok := g.sample(path, s.Member.Target, depth+1)
		if !ok {
			return nil, false
		}
		list := []any{v}
		if d, isMap := v.(map[string]any); isMap && d["Region"] == east { // both Regions, and the whole in one
			other := maps.Clone(d)
			other["Region"] = west
			if _, ok := d["Percentage"]; ok {
				d["Percentage"], other["Percentage"] = 100, 0
			}
			list = append(list, other)
		}
		return list, true
	case "map":
		return map[string]any{"team": "night"}, true
	case "enum":
		return g.m.enum(s)[0], true
	case "string":
		return "x", true
	case "integer", "long":
		return 1, true
	case "boolean":
		return true, true
	}
	panic("no sample for " + path + " of type " + s.Type)
}

// send makes the HTTP request of an input.
func (g *modelRequests) send(t *testing.T, input map[string]any) rawAnswer {
	t.Helper()
	path := g.h.URI
	q := url.Values{}
	body := map[string]any{}
	hasBody := false
	for name, mem := range g.in.Members {
		v, given := input[name]
		var query string
		switch {
		case mem.Traits.has("httpLabel"):
			path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(fmt.Sprint(v)))
		case mem.Traits.get("httpQuery", &query):
			if given {
				q.Set(query, fmt.Sprint(v))
			}
		default:
			hasBody = true
			if given {
				body[name] = v
			}
		}
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	text := ""
	if hasBody {
		b, err := json.Marshal(body)
		require.NoError(t, err)
		text = string(b)
	}
	return send(t, g.s, east, g.h.Method, path, text)
}

// mutation is a way to break the model's rules at one place of an input.
type mutation struct {
	what  string
	apply func(input map[string]any)
}

// mutations walks an input and returns everything that the model forbids about it, one at a time.
func (g *modelRequests) mutations(path string, s *shape, in map[string]any, at func(root map[string]any) map[string]any) (out []mutation) {
	for _, name := range slices.Sorted(maps.Keys(s.Members)) {
		mem := s.Members[name]
		v, given := in[name]
		add := func(what string, bad any) {
			out = append(out, mutation{path + name + " " + what, func(root map[string]any) { at(root)[name] = bad }})
		}
		label := mem.Traits.has("httpLabel")
		if mem.Traits.has("required") && !label {
			out = append(out, mutation{path + name + " missing", func(root map[string]any) { delete(at(root), name) }})
		}
		ms := g.m.shape(mem.Target)
		var b bounds
		hasLength := mem.Traits.get("length", &b) || ms.Traits.get("length", &b)
		var r bounds
		hasRange := mem.Traits.get("range", &r) || ms.Traits.get("range", &r)
		var pattern string
		switch ms.Type {
		case "string", "enum":
			if hasLength && b.Max != nil {
				add("too long", strings.Repeat("x", int(*b.Max)+1))
			}
			if hasLength && b.Min != nil && *b.Min > 0 && !label {
				add("empty", "")
			}
			if ms.Traits.get("pattern", &pattern) {
				add("against its pattern", " § ")
			}
			if ms.Type == "enum" {
				add("unknown", "FAX")
			}
			if !label && !mem.Traits.has("httpQuery") {
				add("a number", 7)
			}
		case "integer":
			if hasRange {
				add("too small", int(*r.Min)-1)
				add("too large", int(*r.Max)+1)
			}
			add("a text", "many")
		case "boolean":
			add("a text", "yes")
		case "map":
			many := map[string]any{}
			for i := range int(*b.Max) + 1 {
				many["k"+strconv.Itoa(i)] = "v"
			}
			add("too many", many)
			add("a list", []any{})
			if b.Min != nil && *b.Min > 0 {
				add("empty", map[string]any{})
			}
		case "list":
			add("a text", "many")
			if !given {
				continue
			}
			list := v.([]any)
			if hasLength && b.Max != nil {
				add("too many", slices.Repeat(list[:1], int(*b.Max)+1))
			}
			if hasLength && b.Min != nil && *b.Min > 0 {
				add("empty", []any{})
			}
			item := g.m.shape(ms.Member.Target)
			if first, ok := list[0].(map[string]any); ok && item.Type == "structure" {
				out = append(out, g.mutations(path+name+"[0].", item, first, func(root map[string]any) map[string]any {
					return at(root)[name].([]any)[0].(map[string]any)
				})...)
			}
			if item.Type == "enum" {
				add("with an unknown one", []any{"FAX"})
			}
		case "structure":
			add("a list", []any{1})
			if sub, ok := v.(map[string]any); ok {
				out = append(out, g.mutations(path+name+".", ms, sub, func(root map[string]any) map[string]any {
					return at(root)[name].(map[string]any)
				})...)
			}
		}
	}
	return out
}

// deepCopy of an input.
func deepCopy(t *testing.T, in map[string]any) map[string]any {
	b, err := json.Marshal(in)
	require.NoError(t, err)
	var out map[string]any
	require.NoError(t, json.Unmarshal(b, &out))
	return out
}

// TestRequestsOfTheModel makes requests from the model alone: with every member, with the required ones only, and at
// the bounds they are accepted; with any single rule of the model broken they are refused with an error that the
// operation has.
func TestRequestsOfTheModel(t *testing.T) {
	m, err := loadModel()
	require.NoError(t, err)
	if m == nil {
		t.Skip("no Smithy model of Amazon Connect: set CONNECT_MODEL to its file")
	}
	for _, name := range OperationNames() {
		t.Run(name, func(t *testing.T) {
			fresh := func() *modelRequests {
				s := newChecked(t, exampleConfig())
				s.mu.Lock()
				s.leave(s.agents[29])
				s.mu.Unlock()
				g := &modelRequests{m: m, s: s, name: name, op: m.operation(name)}
				g.in = m.shape(g.op.Input.Target)
				g.op.Traits.get("http", &g.h)
				return g
			}
			g := fresh()
			v, _ := g.sample(name, g.op.Input.Target, 0)
			full := v.(map[string]any)
			a := g.send(t, full)
			require.Equal(t, http.StatusOK, a.status, "with every member: %v: %s", full, a.raw)

			minimal := map[string]any{}
			for n, mem := range g.in.Members {
				if mem.Traits.has("required") {
					minimal[n] = full[n]
				}
			}
			a = fresh().send(t, minimal)
			require.Equal(t, http.StatusOK, a.status, "with the required members: %v: %s", minimal, a.raw)

			if mem := g.in.Members["MaxResults"]; mem != nil {
				var r bounds
				m.shape(mem.Target).Traits.get("range", &r)
				for _, n := range []float64{*r.Min, *r.Max} {
					in := deepCopy(t, full)
					in["MaxResults"] = int(n)
					require.Equal(t, http.StatusOK, fresh().send(t, in).status, "MaxResults %v", n)
				}
			}
			for _, mut := range g.mutations("", g.in, full, func(root map[string]any) map[string]any { return root }) {
				in := deepCopy(t, full)
				mut.apply(in)
				a := fresh().send(t, in)
				require.True(t, a.status >= 400 && a.status < 500, "%s: status %d", mut.what, a.status)
			}
		})
	}
}
