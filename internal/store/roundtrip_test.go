package store_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// TestLoadGivesBackWhatWasCommitted holds for every field of the core's types, also those that do not exist yet: the
// generator goes through them by reflection. A new field that the store does not keep fails here.
func TestLoadGivesBackWhatWasCommitted(t *testing.T) {
	t.Parallel()
	s, conn := newStore(t)
	epoch := lead(t, s).Epoch
	rapid.Check(t, func(rt *rapid.T) {
		exec(t, conn, "TRUNCATE agents, contacts, failovers, traffic_distribution_groups, failover_groups, distribution_changes")
		groups, tdgs, agents := map[string]*failover.Group{}, map[string]*failover.TDG{}, map[string]*failover.Agent{}
		failovers, written := map[string]*failover.Failover{}, map[string]bool{}
		var changes []failover.Change
		for range rapid.IntRange(1, 3).Draw(rt, "commits") {
			var e failover.Effects
			for _, id := range someOf(rt, "groups", 2) {
				g := generate[failover.Group](rt, "group")
				g.Name = id
				groups[id] = g
				e.Groups = append(e.Groups, g)
			}
			for _, id := range someOf(rt, "tdgs", 2) {
				tdg := generate[failover.TDG](rt, "tdg")
				tdg.ID = id
				tdgs[id] = tdg
				e.TDGs = append(e.TDGs, tdg)
			}
			for _, id := range someOf(rt, "removed", 4) {
				delete(agents, id)
				e.RemovedAgents = append(e.RemovedAgents, id)
			}
			for _, id := range someOf(rt, "agents", 4) {
				if slices.Contains(e.RemovedAgents, id) {
					continue
				}
				a := agent(rt, id, failovers)
				agents[id] = a
				e.Agents = append(e.Agents, a)
				if a.Failover != nil {
					e.Failovers = append(e.Failovers, a.Failover)
				}
			}
			for _, id := range someOf(rt, "other failovers", 2) {
				f := generateFailover(rt, "other "+id, failovers)
				e.Failovers = append(e.Failovers, f)
			}
			for range rapid.IntRange(0, 1).Draw(rt, "changes") {
				c := generate[failover.Change](rt, "change")
				c.TDG, c.ObservedAt = "tdg", start
				changes = append(changes, *c)
				e.Changes = append(e.Changes, *c)
			}
			for _, f := range e.Failovers {
				if !written[f.ID] && rapid.Bool().Draw(rt, "created") {
					e.Created = append(e.Created, f)
				}
			}
			commit(t, s, epoch, e)
			for id := range failovers {
				written[id] = true
			}
		}

		snap, err := s.Load(t.Context())
		require.NoError(t, err)
		require.Equal(t, stored(sorted(groups)), stored(snap.Groups))
		require.Equal(t, stored(sorted(tdgs)), stored(snap.TDGs))
		require.Equal(t, stored(sorted(agents)), stored(snap.Agents))
		for _, id := range slices.Sorted(maps.Keys(failovers)) {
			f, err := s.Failover(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, stored(failovers[id]), stored(f))
		}
		slices.Reverse(changes)
		got, _, err := s.Changes(t.Context(), "tdg", store.Page{})
		require.NoError(t, err)
		var back []failover.Change
		for _, c := range got {
			back = append(back, c.Change)
		}
		require.Equal(t, stored(changes), stored(back))
	})
}

// agent has ids and lists as the core makes them: one list for each Region, contacts sorted by id.
func agent(rt *rapid.T, id string, failovers map[string]*failover.Failover) *failover.Agent {
	a := generate[failover.Agent](rt, "agent")
	a.ID = id
	if a.Failover != nil {
		a.Failover = generateFailover(rt, "open "+id, failovers)
	}
	if a.Last != nil {
		a.Last = generateFailover(rt, "last "+id, failovers)
	}
	for i := range a.Lists {
		a.Lists[i].Region = []string{"", "us-east-1", "us-west-2"}[i]
		for j := range a.Lists[i].Contacts {
			a.Lists[i].Contacts[j].ID = fmt.Sprintf("contact-%d", j)
		}
	}
	return a
}

func generateFailover(rt *rapid.T, id string, all map[string]*failover.Failover) *failover.Failover {
	f := generate[failover.Failover](rt, "failover")
	f.ID = id
	if f.DetectedAt.IsZero() {
		f.DetectedAt = start
	}
	all[id] = f
	return f
}

func someOf(rt *rapid.T, label string, n int) []string {
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("%s-%d", strings.TrimSuffix(strings.Replace(label, "removed", "agents", 1), "s"), i))
	}
	return rapid.SliceOfDistinct(rapid.SampledFrom(ids), rapid.ID[string]).Draw(rt, label)
}

func sorted[T any](m map[string]*T) []*T {
	var out []*T
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// generate fills every exported field.
func generate[T any](rt *rapid.T, label string) *T {
	v := new(T)
	fill(rt, reflect.ValueOf(v).Elem(), label)
	return v
}

var timeType = reflect.TypeFor[time.Time]()

func fill(rt *rapid.T, v reflect.Value, label string) {
	if v.Type() == timeType {
		// Nanoseconds and other zones: the store cuts and moves them.
		if rapid.Bool().Draw(rt, label+" set") {
			at := start.Add(time.Duration(rapid.Int64Range(-1e18, 1e18).Draw(rt, label)))
			v.Set(reflect.ValueOf(at.In(time.FixedZone("", 3600*rapid.IntRange(-12, 12).Draw(rt, label+" zone")))))
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.StringOf(rapid.SampledFrom([]rune("ab\\\"'<&\x00\n\u2028é😀{}u0"))).Draw(rt, label))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(rt, label))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(rt, label))
	case reflect.Float64:
		v.SetFloat(rapid.Float64Range(-1e9, 1e9).Draw(rt, label))
	case reflect.Pointer:
		if rapid.Bool().Draw(rt, label+" set") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rt, v.Elem(), label)
		}
	case reflect.Slice:
		n := rapid.IntRange(-1, 2).Draw(rt, label+" length")
		if n < 0 {
			return // nil
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rt, v.Index(i), fmt.Sprintf("%s[%d]", label, i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"us-east-1", "us-west-2"}), rapid.ID[string]).Draw(rt, label+" keys") {
			e := reflect.New(v.Type().Elem()).Elem()
			fill(rt, e, label+"["+key+"]")
			v.SetMapIndex(reflect.ValueOf(key), e)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(rt, v.Field(i), label+"."+f.Name)
			}
		}
	default:
		rt.Fatalf("%s: the generator knows no %s", label, v.Type())
	}
}

// stored is a copy as the database keeps it: times in microseconds and UTC, no character NUL, and no difference between empty
// and none, except in what is a distribution's answer.
func stored[T any](v T) T {
	out := reflect.New(reflect.TypeFor[T]()).Elem()
	normalize(out, reflect.ValueOf(&v).Elem())
	return out.Interface().(T)
}

func normalize(to, from reflect.Value) {
	if from.Type() == timeType {
		if at := from.Interface().(time.Time); !at.IsZero() {
			to.Set(reflect.ValueOf(at.UTC().Truncate(time.Microsecond)))
		}
		return
	}
	switch from.Kind() {
	case reflect.String:
		to.SetString(strings.ReplaceAll(from.String(), "\x00", ""))
	case reflect.Pointer:
		if !from.IsNil() {
			to.Set(reflect.New(from.Type().Elem()))
			normalize(to.Elem(), from.Elem())
		}
	case reflect.Slice:
		if from.Len() == 0 && (from.IsNil() || from.Type() != reflect.TypeFor[failover.Distribution]()) {
			return
		}
		to.Set(reflect.MakeSlice(from.Type(), from.Len(), from.Len()))
		for i := range from.Len() {
			normalize(to.Index(i), from.Index(i))
		}
	case reflect.Map:
		if from.Len() == 0 {
			return
		}
		to.Set(reflect.MakeMap(from.Type()))
		for _, key := range from.MapKeys() {
			e := reflect.New(from.Type().Elem()).Elem()
			normalize(e, from.MapIndex(key))
			to.SetMapIndex(key, e)
		}
	case reflect.Struct:
		for i := range from.NumField() {
			if from.Type().Field(i).IsExported() {
				normalize(to.Field(i), from.Field(i))
			}
		}
	default:
		to.Set(from)
	}
	// The candidate is a distribution that is no answer: nothing tells an empty one from none.
	if vote, ok := to.Addr().Interface().(*failover.Vote); ok && len(vote.Candidate) == 0 {
		vote.Candidate = nil
	}
}
