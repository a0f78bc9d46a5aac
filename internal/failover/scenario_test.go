package failover

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
)

// TestScenarios plays testdata/*.txt, which README.md there explains. `go test -run Scenarios -rewrite` writes what came
// out into the files: commit that only if every changed line is what the rule says.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			var s *stage
			datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
				if d.Cmd == "floor" {
					s = &stage{}
				} else if s == nil {
					d.Fatalf(t, "a scenario begins with floor")
				}
				return s.play(t, d)
			})
		})
	}
}

// stage is a contact centre in which a scenario is played: what Amazon Connect would answer, and the service.
type stage struct {
	*service
	people   map[string]*person
	down     map[string]bool      // Regions that answer nothing
	streams  map[string]time.Time // since when
	command  int64
	lines    []string
	states   map[string]string // agents as last shown
	passedAt map[string]int64
}

// person is an agent as Amazon Connect has it.
type person struct {
	profile string
	in      map[string]*presence // by Region
}

type presence struct {
	offline  bool
	contacts []Contact
}

// arguments are those of a command, in order of appearance.
type arguments struct {
	t     *testing.T
	d     *datadriven.TestData
	words []string // without a value
	left  []datadriven.CmdArg
}

// newArguments reads `from both` and the like as from=both.
func newArguments(t *testing.T, d *datadriven.TestData, pairs ...string) *arguments {
	a := &arguments{t: t, d: d}
	for i := 0; i < len(d.CmdArgs); i++ {
		arg := d.CmdArgs[i]
		switch {
		case len(arg.Vals) > 0:
			a.left = append(a.left, arg)
		case slices.Contains(pairs, arg.Key) && i+1 < len(d.CmdArgs):
			i++
			a.left = append(a.left, datadriven.CmdArg{Key: arg.Key, Vals: []string{d.CmdArgs[i].Key}})
		default:
			a.words = append(a.words, arg.Key)
		}
	}
	return a
}

// vals takes the values of a key.
func (a *arguments) vals(key string) ([]string, bool) {
	for i, arg := range a.left {
		if arg.Key == key {
			a.left = slices.Delete(a.left, i, i+1)
			return arg.Vals, true
		}
	}
	return nil, false
}

func (a *arguments) str(key, otherwise string) string {
	if v, ok := a.vals(key); ok {
		return v[0]
	}
	return otherwise
}

func (a *arguments) must(key string) string {
	v, ok := a.vals(key)
	if !ok {
		a.d.Fatalf(a.t, "%s needs %s=", a.d.Cmd, key)
	}
	return v[0]
}

func (a *arguments) duration(key string, otherwise time.Duration) time.Duration {
	v, ok := a.vals(key)
	if !ok {
		return otherwise
	}
	d, err := time.ParseDuration(v[0])
	require.NoError(a.t, err)
	return d
}

func (a *arguments) float(key string) float64 {
	v, ok := a.vals(key)
	if !ok {
		return 0
	}
	f, err := strconv.ParseFloat(v[0], 64)
	require.NoError(a.t, err)
	return f
}

// word takes a word that has no value.
func (a *arguments) word(word string) bool {
	i := slices.Index(a.words, word)
	if i >= 0 {
		a.words = slices.Delete(a.words, i, i+1)
	}
	return i >= 0
}

// end refuses what nobody has taken.
func (a *arguments) end() {
	if len(a.words)+len(a.left) > 0 {
		a.d.Fatalf(a.t, "%s does not know %v %v", a.d.Cmd, a.words, a.left)
	}
}

func (s *stage) play(t *testing.T, d *datadriven.TestData) string {
	s.lines = nil
	if s.service != nil {
		s.t = t
	}
	pairs := []string{"from", "region", "of", "in", "agent"}
	if d.Cmd == "show" {
		pairs = nil
	}
	a := newArguments(t, d, pairs...)
	switch d.Cmd {
	case "floor":
		s.floor(t, a)
	case "advance":
		s.advance(a)
	case "distribution":
		s.distribution(a)
	case "distributions":
		s.distributions(a)
	case "contacts":
		s.contacts(a)
	case "works":
		s.works(a)
	case "leaves":
		s.leaves(a)
	case "profile":
		s.people[a.must("agent")].profile = a.must("is")
	case "sweep":
		s.sweep(a)
	case "page":
		s.page(a)
	case "chunk":
		s.chunk(a)
	case "pass":
		s.pass(a)
	case "region":
		s.region(a)
	case "unanswered":
		s.do(ContactsUnavailable{Group: "main", Region: a.must("region"), At: s.now})
	case "report":
		s.report(a)
	case "force":
		s.force(a)
	case "plan":
		s.plan(a)
	case "drill":
		s.drill(a)
	case "pause":
		s.pause(a)
	case "resume":
		s.resume(a)
	case "bulk-force":
		s.bulkForce(a)
	case "streams":
		before := s.streams
		s.streams = map[string]time.Time{}
		for _, id := range a.words {
			s.streams[id] = s.now
			if since, open := before[id]; open {
				s.streams[id] = since
			}
		}
		a.words = nil
		s.do(Streaming{Since: s.streams})
	case "groups":
		s.listGroups(a)
	case "members":
		s.members(a)
	case "users":
		s.users(a)
	case "located":
		s.do(ContactLocated{AgentID: a.must("agent"), ContactID: a.must("contact"), Region: a.str("region", "")})
	case "setup":
		o := SetupObserved{Group: "main", TDG: a.str("tdg", ""), Code: a.must("code"), Repaired: a.word("repaired")}
		a.word("message")
		o.Message = strings.Join(a.words, " ")
		a.words = nil
		s.do(o)
	case "configure":
		s.configure(a)
	case "restart":
		s.now = s.now.Add(a.duration("away", 0))
		s.note(s.restart(Streaming{Since: s.streams}))
	case "show":
		s.show(a)
	default:
		d.Fatalf(t, "no command %q", d.Cmd)
	}
	a.end()
	if len(s.lines) == 0 {
		return "nothing"
	}
	return strings.Join(s.lines, "\n")
}

// say adds a line to what comes out.
func (s *stage) say(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// do makes an observation and tells what came of it.
func (s *stage) do(o Observation) { s.note(s.step(o)) }

// note tells effects: events with all their data but the agent's id, then agents who are in another state than before.
func (s *stage) note(eff Effects) {
	clock := s.now.Format(time.TimeOnly)
	for _, c := range eff.Changes {
		conflict := ""
		if c.Conflict {
			conflict = ", against the other Region"
		}
		for _, part := range []struct {
			name          string
			before, after Distribution
		}{{"telephony", c.Before.Telephony, c.After.Telephony}, {"agents", c.Before.Agents, c.After.Agents}, {"sign-in", c.Before.SignIn, c.After.SignIn}} {
			if !slices.Equal(part.before, part.after) {
				s.say("%s distribution of %s: %s %s, by %s%s", clock, c.TDG, part.name, shares(part.after), c.ObservedBy, conflict)
			}
		}
	}
	for _, name := range sortedKeys(eff.Conflicts) {
		s.say("%s conflicts of %s: +%d", clock, name, eff.Conflicts[name])
	}
	for _, e := range eff.Events {
		s.say("%s %s %s%s", clock, e.AgentID, e.Type, readable(s.t, e))
	}
	for _, r := range eff.Results {
		line := fmt.Sprintf("%s answer: %s", clock, r.Outcome)
		if r.Matched > 0 {
			line += fmt.Sprintf(", %d match, %d forced", r.Matched, r.Forced)
		}
		if r.Detail != "" {
			line += ": " + r.Detail
		}
		s.say("%s", line)
	}
	for _, d := range eff.Drills {
		if !d.EndedAt.IsZero() {
			s.showDrill(d)
		}
	}
	for _, id := range eff.RemovedAgents {
		s.say("%s %s is removed", clock, id)
		delete(s.states, id)
	}
	changed := map[string]bool{}
	for _, a := range eff.Agents {
		changed[a.ID] = true
	}
	for _, id := range sortedIDs(changed) {
		if is := describe(s.state.Agent(id)); is != s.states[id] {
			s.states[id] = is
			s.say("%s %s is %s", clock, id, is)
		}
	}
}

// readable gives the data line of an event, but for what every one has: agentId, time, and the constant clear.
func readable(t tester, e *Event) string {
	d := json.NewDecoder(strings.NewReader(string(e.AppendData(nil))))
	_, err := d.Token()
	require.NoError(t, err)
	var b strings.Builder
	for d.More() {
		key, err := d.Token()
		require.NoError(t, err)
		var raw json.RawMessage
		require.NoError(t, d.Decode(&raw))
		if key == "agentId" || key == "time" || key == "clear" {
			continue
		}
		fmt.Fprintf(&b, " %s=%s", key, strings.ReplaceAll(string(raw), `"`, ""))
	}
	return b.String()
}

// describe says in a few words where an agent is.
func describe(a *Agent) string {
	if a.TDG == "" {
		return where(a) + ", in no group"
	}
	return where(a)
}

func where(a *Agent) string {
	f := a.Failover
	switch {
	case f != nil && f.Status == Pending:
		stale := ""
		if !f.StaleSince.IsZero() {
			stale = ", stale"
		}
		return fmt.Sprintf("pending %s -> %s, held by %v%s", f.From, f.To, f.ContactIDs, stale)
	case f != nil && !f.StaleSince.IsZero():
		return fmt.Sprintf("detected %s -> %s, stale", f.From, f.To)
	case f != nil:
		return fmt.Sprintf("detected %s -> %s", f.From, f.To)
	case a.ActiveRegion != "":
		return fmt.Sprintf("active in %s (%s)", a.ActiveRegion, a.RegionSource)
	}
	return "unknown"
}

func shares(d Distribution) string {
	var parts []string
	for _, s := range d {
		parts = append(parts, fmt.Sprintf("%s=%d", s.Region, s.Percent))
	}
	return strings.Join(parts, " ")
}

// floor makes a new contact centre. Unless told otherwise it has one traffic distribution group, "default", which sends
// everybody to us-east-1, where everybody works without contacts; the service knows that and has swept both Regions.
func (s *stage) floor(t *testing.T, a *arguments) {
	set := defaults()
	for key, to := range map[string]*time.Duration{
		"conflictAfter": &set.ConflictAfter, "regionDownAfter": &set.RegionDownAfter, "contactsMaxAge": &set.ContactsMaxAge,
		"configureErrorAfter": &set.ConfigureErrorAfter, "staleRelease": &set.StaleRelease, "confirmWithin": &set.ConfirmWithin,
		"drainInterval": &set.DrainInterval, "maxUnknown": &set.MaxUnknown,
	} {
		*to = a.duration(key, *to)
	}
	set.Pace = a.float("pace")
	if n := a.float("confirmations"); n > 0 {
		set.Confirmations = int(n)
	}
	group := mainGroup(Routing(a.str("routing", string(Regional))))
	group.TDGs, _ = a.vals("configured")
	if region := a.str("noCcpUrl", ""); region != "" {
		for i := range group.Instances {
			if group.Instances[i].Region == region {
				group.Instances[i].CCPURL = ""
			}
		}
	}
	tdgs, ok := a.vals("groups")
	if !ok {
		tdgs = []string{"default"}
	}
	empty := a.word("unread")
	agents := a.words
	a.words = nil

	s.service = newService(t, set, group)
	s.people, s.down, s.states, s.passedAt = map[string]*person{}, map[string]bool{}, map[string]string{}, map[string]int64{}
	for _, id := range agents {
		s.people[id] = &person{profile: "sales", in: map[string]*presence{east: {}}}
	}
	s.do(Started{})
	if empty {
		return
	}
	list := TDGsListed{Group: "main", At: s.now}
	for _, id := range tdgs {
		list.TDGs = append(list.TDGs, TDGInfo{ID: id, ARN: "arn:" + id, Name: id, Status: "ACTIVE", IsDefault: id == tdgs[0]})
	}
	s.do(list)
	users := UsersListed{Group: "main", Region: east, StartedAt: s.now, Last: true}
	for _, id := range agents {
		users.Users = append(users.Users, User{id, id})
	}
	s.do(users)
	if len(tdgs) > 1 { // all of them begin in the first group
		s.do(RosterPage{Group: "main", TDG: tdgs[0], Pass: 1, Last: true, UserIDs: agents})
		for _, id := range tdgs[1:] {
			s.do(RosterPage{Group: "main", TDG: id, Pass: 1, Last: true})
		}
	}
	for _, id := range tdgs {
		s.do(DistributionRound{Group: "main", TDG: id, TickAt: s.now, Answers: []RegionAnswer{
			{Region: east, Agents: Distribution{{east, 100}, {west, 0}}}, {Region: west, Agents: Distribution{{east, 100}, {west, 0}}},
		}})
	}
	s.sweepRegion(east, s.now)
	s.sweepRegion(west, s.now)
	s.now = s.now.Add(time.Second)
	s.lines = nil
	for _, id := range sortedKeys(s.state.agents) {
		s.states[id] = describe(s.state.agents[id])
		s.say("%s %s is %s", s.now.Format(time.TimeOnly), id, s.states[id])
	}
}

// advance lets time pass, a Tick each second. Regions that are down fail a contacts read every five.
func (s *stage) advance(a *arguments) {
	if len(a.words) != 1 {
		a.d.Fatalf(a.t, "advance needs a duration")
	}
	d, err := time.ParseDuration(a.words[0])
	require.NoError(a.t, err)
	a.words = nil
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = s.now.Add(time.Second)
		if s.now.Unix()%5 == 0 {
			for _, region := range sortedKeys(s.down) {
				if s.down[region] {
					s.do(ContactsUnavailable{Group: "main", Region: region, At: s.now})
				}
			}
		}
		s.do(Tick{})
	}
}

// takeShares takes region=percent arguments.
func (s *stage) takeShares(a *arguments) Distribution {
	var d Distribution
	for i := 0; i < len(a.left); {
		percent, err := strconv.Atoi(a.left[i].Vals[0])
		if err != nil || strings.Count(a.left[i].Key, "-") < 2 {
			i++
			continue
		}
		d = append(d, Share{a.left[i].Key, percent})
		a.left = slices.Delete(a.left, i, i+1)
	}
	slices.SortFunc(d, func(x, y Share) int { return strings.Compare(x.Region, y.Region) })
	return d
}

// distribution is one round in which the Regions that answer say the same of the agents' distribution.
func (s *stage) distribution(a *arguments) {
	o := DistributionRound{Group: "main", TDG: a.str("tdg", "default"), TickAt: s.now}
	from := a.str("from", "both")
	d := s.takeShares(a)
	if a.word("missing") {
		d = nil
	}
	for _, region := range []string{east, west} {
		if from == "both" || from == region {
			o.Answers = append(o.Answers, RegionAnswer{Region: region, Agents: d})
		}
	}
	// The transaction of these agents does not come through any more: the leader dies before.
	lost, _ := a.vals("lost")
	var undo []func()
	for _, id := range lost {
		row, settled, seen := s.db.agents[id], s.db.settled[id], *s.witness.agents[id]
		undo = append(undo, func() { s.db.agents[id], s.db.settled[id], *s.witness.agents[id] = row, settled, seen })
	}
	s.do(o)
	for _, undo := range undo {
		undo()
	}
}

// distributions is one round of which the input has a line for each Region that answers.
func (s *stage) distributions(a *arguments) {
	o := DistributionRound{Group: "main", TDG: a.str("tdg", "default"), TickAt: s.now.Add(a.duration("began", 0))}
	for line := range strings.Lines(a.d.Input) {
		words := strings.Fields(line)
		if len(words) < 2 || words[1] != "answers" {
			a.d.Fatalf(a.t, "not a Region's answer: %s", line)
		}
		answer := RegionAnswer{Region: words[0]}
		to := &answer.Agents
		for _, word := range words[2:] {
			switch word {
			case "telephony:":
				to = &answer.Telephony
			case "agents:":
				to = &answer.Agents
			case "sign-in:":
				to = &answer.SignIn
			default:
				region, percent, _ := strings.Cut(word, "=")
				n, err := strconv.Atoi(percent)
				require.NoError(a.t, err)
				*to = append(*to, Share{region, n})
			}
		}
		o.Answers = append(o.Answers, answer)
	}
	s.do(o)
}

func (s *stage) person(id string) *person {
	p := s.people[id]
	if p == nil {
		p = &person{profile: "sales", in: map[string]*presence{}}
		s.people[id] = p
	}
	return p
}

// takeContacts takes CHANNEL:id:STATE words; none says that there are none.
func (s *stage) takeContacts(a *arguments) []Contact {
	began := s.now.Add(a.duration("contactBegan", -time.Minute))
	var contacts []Contact
	for _, word := range a.words {
		contacts = append(contacts, contact(a.t, word, began)...)
	}
	a.words = nil
	return contacts
}

func contact(t *testing.T, word string, began time.Time) []Contact {
	if word == "none" {
		return nil
	}
	parts := strings.Split(word, ":")
	require.Len(t, parts, 3, "a contact is CHANNEL:id:STATE")
	return []Contact{{ID: parts[1], Channel: parts[0], State: parts[2], StateSince: began, Began: began}}
}

// contacts is a complete read of an agent by id: there with these contacts, or absent from the answer.
func (s *stage) contacts(a *arguments) {
	id, region := a.must("agent"), a.must("region")
	o := UserData{Group: "main", Region: region, StartedAt: s.now.Add(a.duration("began", 0))}
	p := s.person(id)
	if a.word("absent") {
		delete(p.in, region)
		o.Absent = []string{id}
	} else {
		there := p.in[region]
		if there == nil {
			there = &presence{}
			p.in[region] = there
		}
		there.contacts = s.takeContacts(a)
		o.Users = []UserRecord{{ID: id, RoutingProfile: p.profile, Offline: there.offline, Contacts: there.contacts}}
	}
	s.do(o)
}

// works tells Amazon Connect, not the service, that an agent is signed in to a Region, and its contacts there.
func (s *stage) works(a *arguments) {
	p, region := s.person(a.must("agent")), a.must("region")
	if !a.word("too") {
		clear(p.in)
	}
	p.in[region] = &presence{offline: a.word("offline")}
	p.in[region].contacts = s.takeContacts(a)
}

// leaves signs an agent out of a Region, or of both.
func (s *stage) leaves(a *arguments) {
	p := s.person(a.must("agent"))
	if region, ok := a.vals("region"); ok {
		delete(p.in, region[0])
	} else {
		clear(p.in)
	}
}

func (s *stage) records(region string, filtered bool, profiles []string) []UserRecord {
	var users []UserRecord
	for _, id := range sortedKeys(s.people) {
		p := s.people[id]
		there := p.in[region]
		if there == nil || filtered && len(there.contacts) == 0 || profiles != nil && !slices.Contains(profiles, p.profile) {
			continue
		}
		users = append(users, UserRecord{ID: id, RoutingProfile: p.profile, Offline: there.offline, Contacts: there.contacts})
	}
	return users
}

// sweep is a complete unfiltered pass of the Regions that answer.
func (s *stage) sweep(a *arguments) {
	only := a.str("region", "")
	began := s.now.Add(a.duration("began", 0))
	for _, region := range []string{east, west} {
		switch {
		case only != "" && only != region:
		case s.down[region]:
			s.do(ContactsUnavailable{Group: "main", Region: region, At: s.now})
		default:
			s.sweepRegion(region, began)
		}
	}
}

func (s *stage) sweepRegion(region string, began time.Time) {
	all := map[string]bool{}
	for _, p := range s.people {
		all[p.profile] = true
	}
	s.do(UserData{Group: "main", Region: region, StartedAt: began, Users: s.records(region, false, nil)})
	s.do(ChunkComplete{Group: "main", Region: region, StartedAt: began, Profiles: sortedIDs(all)})
	s.do(PassComplete{Group: "main", Region: region, StartedAt: began, FinishedAt: s.now})
}

// page is one page of a pass; its chunk is not complete yet.
func (s *stage) page(a *arguments) {
	region, filtered := a.must("region"), a.word("filtered")
	profiles, _ := a.vals("profiles")
	began := s.now.Add(a.duration("began", 0))
	s.do(UserData{Group: "main", Region: region, StartedAt: began, Users: s.records(region, filtered, profiles)})
}

// chunk is the end of a set of routing profiles; its pages came before.
func (s *stage) chunk(a *arguments) {
	o := ChunkComplete{Group: "main", Region: a.must("region"), Filtered: a.word("filtered"), StartedAt: s.now.Add(a.duration("began", 0))}
	o.Profiles, _ = a.vals("profiles")
	s.do(o)
}

// pass is the end of a pass; its chunks came before.
func (s *stage) pass(a *arguments) {
	s.do(PassComplete{
		Group: "main", Region: a.must("region"), Filtered: a.word("filtered"),
		StartedAt: s.now.Add(a.duration("began", 0)), FinishedAt: s.now,
	})
}

// region makes a Region fail all contacts reads from now on, or answer again.
func (s *stage) region(a *arguments) {
	if len(a.words) != 2 || a.words[1] != "unavailable" && a.words[1] != "available" {
		a.d.Fatalf(a.t, "region NAME unavailable|available")
	}
	s.down[a.words[0]] = a.words[1] == "unavailable"
	a.words = nil
}

func (s *stage) report(a *arguments) {
	s.command++
	o := Report{
		CommandID: s.command, AgentID: a.must("agent"), At: s.now.Add(a.duration("made", 0)), ActiveRegion: a.str("active", ""),
		NextActiveRegion: a.str("next", ""), ContactsRegion: a.str("in", ""),
	}
	if o.NextActiveRegion == "none" {
		o.NextActiveRegion, o.ClearNext = "", true
	}
	if words, ok := a.vals("contacts"); ok {
		o.HasContacts = true
		for _, word := range words {
			for _, c := range contact(a.t, word, time.Time{}) {
				o.Contacts = append(o.Contacts, ReportedContact{c.ID, c.Channel, c.State})
			}
		}
	}
	if standby, ok := a.vals("standby"); ok {
		ready := standby[1] == "ready"
		o.Standby = &Standby{Region: standby[0], Ready: &ready, ReportedAt: o.At}
		if !ready {
			o.Standby.Reason = standby[1]
		}
	}
	if e, ok := a.vals("error"); ok {
		o.HasConfigError = true
		if e[0] != "none" {
			o.ConfigCode, o.ConfigMessage = e[0], e[1]
		}
	}
	s.do(o)
}

func (s *stage) force(a *arguments) {
	s.command++
	o := Force{CommandID: s.command, FailoverID: a.str("failover", ""), By: a.str("by", "olga"), Reason: a.str("reason", "drill")}
	if id, ok := a.vals("agent"); ok && s.state.Agent(id[0]).Failover != nil {
		o.FailoverID = s.state.Agent(id[0]).Failover.ID
	}
	s.do(o)
}

// plan asks what a shift would mean, and makes sure that asking changes nothing.
func (s *stage) plan(a *arguments) {
	before := s.everything()
	planned := Plan(s.set, s.state.Group("main"), s.state.AgentsOf("main"), a.str("tdg", ""), a.must("to"), s.now)
	require.Equal(a.t, before, s.everything())
	for _, p := range planned {
		line := p.AgentID + ": " + string(p.Outcome)
		if p.Evidence != "" {
			line += ", " + string(p.Evidence)
		}
		for _, c := range p.Contacts {
			line += fmt.Sprintf(", %s %s", c.Channel, c.ID)
		}
		for _, x := range []struct {
			is   bool
			word string
		}{{p.Stale, "stale"}, {p.Streaming, "streaming"}, {p.Reports, "reports"}} {
			if x.is {
				line += ", " + x.word
			}
		}
		s.say("%s", line)
	}
}

// everything that is known, as one text.
func (s *stage) everything() string {
	var b strings.Builder
	for _, name := range sortedKeys(s.state.groups) {
		b.Write(encode(s.t, s.state.groups[name]))
	}
	for _, id := range sortedKeys(s.state.agents) {
		b.Write(encode(s.t, s.state.agents[id]))
	}
	return b.String()
}

// drill tells a shift; what came of it for each agent is shown by `show drill`.
func (s *stage) drill(a *arguments) {
	s.command++
	o := StartDrill{CommandID: s.command, DrillID: fmt.Sprintf("d%d", s.command), Group: a.str("group", "main"), TTL: a.duration("for", 0), By: "olga", AgentIDs: a.words}
	a.words = nil
	s.do(o)
}

func (s *stage) showDrill(d *Drill) {
	s.say("%s %s by %s from %s until %s", s.now.Format(time.TimeOnly), d.ID, d.By, d.StartedAt.Format(time.TimeOnly), d.Until.Format(time.TimeOnly))
	for _, p := range d.Agents {
		line := fmt.Sprintf("  %s: %s", p.AgentID, p.Outcome)
		if p.Detail != "" {
			line += ", " + p.Detail
		}
		if len(p.ContactIDs) > 0 {
			line += fmt.Sprintf(", held by %v", p.ContactIDs)
		}
		if p.Streaming {
			line += ", streaming"
		}
		s.say("%s", line)
	}
}

func (s *stage) pause(a *arguments) {
	s.command++
	s.do(PauseGroup{CommandID: s.command, Group: a.str("group", "main"), TTL: a.duration("for", 0), By: a.str("by", "olga"), Reason: a.str("reason", "")})
}

func (s *stage) resume(a *arguments) {
	s.command++
	s.do(ResumeGroup{CommandID: s.command, Group: a.str("group", "main")})
}

func (s *stage) bulkForce(a *arguments) {
	s.command++
	ids, _ := a.vals("failovers")
	s.do(BulkForce{
		CommandID: s.command, Group: a.str("group", "main"), TDG: a.str("tdg", ""), From: a.str("from", ""), OnlyStale: a.word("onlyStale"),
		OnlyFresh: a.word("onlyFresh"), Status: Status(a.str("status", "")), Channel: a.str("channel", ""), Phase: Phase(a.str("phase", "")),
		By: a.str("by", "olga"), Reason: a.str("reason", "drill"), MaxPerSecond: a.float("maxPerSecond"), MaxFraction: a.float("maxFraction"),
		FailoverIDs: ids,
	})
}

// listGroups is a complete list of the traffic distribution groups: name=STATUS.
func (s *stage) listGroups(a *arguments) {
	o := TDGsListed{Group: "main", At: s.now}
	for i, arg := range a.left {
		o.TDGs = append(o.TDGs, TDGInfo{ID: arg.Key, ARN: "arn:" + arg.Key, Name: arg.Key, Status: arg.Vals[0], IsDefault: i == 0})
	}
	a.left = nil
	s.do(o)
}

// members is a page of a group's members.
func (s *stage) members(a *arguments) {
	o := RosterPage{Group: "main", TDG: a.must("of"), Last: a.word("last")}
	pass := a.str("pass", "")
	if pass == "" {
		a.d.Fatalf(a.t, "members needs pass=")
	}
	n, err := strconv.ParseInt(pass, 10, 64)
	require.NoError(a.t, err)
	o.Pass, o.UserIDs = n, a.words
	if !o.Last {
		o.NextToken = "token"
	}
	a.words = nil
	s.do(o)
}

// users is a page of ListUsers: names, or name=id.
func (s *stage) users(a *arguments) {
	o := UsersListed{Group: "main", Region: a.must("region"), Last: a.word("last"), StartedAt: s.now.Add(a.duration("began", 0))}
	for _, name := range a.words {
		o.Users = append(o.Users, User{name, name})
	}
	for _, arg := range a.left {
		o.Users = append(o.Users, User{arg.Vals[0], arg.Key})
	}
	a.words, a.left = nil, nil
	s.do(o)
}

// configure changes the configuration; it counts from the next restart.
func (s *stage) configure(a *arguments) {
	g := &s.groups[0]
	if tdgs, ok := a.vals("groups"); ok {
		g.TDGs = tdgs
	}
	if url, ok := a.vals("ccpUrl"); ok {
		for i := range g.Instances {
			if g.Instances[i].Region == url[0] {
				g.Instances[i].CCPURL = url[1]
			}
		}
	}
	if swap, ok := a.vals("instances"); ok {
		g.Instances = []Instance{{swap[0], "https://east.example/ccp-v2/"}, {swap[1], "https://west.example/ccp-v2/"}}
	}
}

// show tells what there is, without changing it.
func (s *stage) show(a *arguments) {
	if len(a.words) == 0 {
		a.words = []string{"agents"}
	}
	what := a.words[0]
	a.words = a.words[1:]
	switch what {
	case "agent":
		s.showAgent(s.state.Agent(a.words[0]))
		a.words = a.words[1:]
	case "work":
		w := s.state.Work(s.now)
		for _, d := range w.Drain {
			line := fmt.Sprintf("read %s in %s", d.AgentID, d.Region)
			if d.UserID != d.AgentID {
				line += " as " + d.UserID
			}
			if !d.Fresh {
				line += ", at once"
			}
			if d.KnownEmpty {
				line += ", without contacts last time"
			}
			s.say("%s", line)
		}
		for _, l := range w.Lookups {
			s.say("look up contact %s of %s in %s", l.ContactID, l.AgentID, l.Region)
		}
	case "group":
		g := s.state.Group("main")
		if p := g.Pause; p != nil {
			s.say("paused by %s from %s until %s: %s", p.By, p.Since.Format(time.TimeOnly), p.Until.Format(time.TimeOnly), p.Reason)
		}
		for _, e := range g.Setup {
			s.say("set-up error %s since %s: %s", e.Code, e.Since.Format(time.TimeOnly), e.Message)
		}
		for _, t := range s.state.TDGsOf("main") {
			s.say("%s: %s, agents %s", t.ID, t.Status, shares(t.Agents.Adopted))
			for _, e := range t.Setup {
				s.say("  set-up error %s since %s: %s", e.Code, e.Since.Format(time.TimeOnly), e.Message)
			}
		}
	default:
		a.d.Fatalf(a.t, "nothing to show of %q", what)
	}
}

func (s *stage) showAgent(a *Agent) {
	if a == nil {
		s.say("no such agent")
		return
	}
	s.say("%s is %s", a.ID, describe(a))
	if a.Username != a.ID {
		s.say("  username %q", a.Username)
	}
	for _, region := range sortedKeys(a.Aliases) {
		s.say("  known in %s as %s", region, a.Aliases[region])
	}
	if a.TDG != "default" && a.TDG != "" {
		s.say("  member of %s", a.TDG)
	}
	s.showFailover("failover", a.Failover)
	s.showFailover("waits for confirmation of", a.Last)
	for _, l := range a.Lists {
		for _, c := range l.Contacts {
			line := fmt.Sprintf("  contact %s: %s %s", c.ID, c.Channel, c.State)
			if c.Region != "" {
				line += " in " + c.Region
			} else {
				line += ", Region not told"
			}
			for _, is := range []struct {
				word string
				true bool
			}{{"blocking", c.Blocking}, {"surfaced", c.Surfaced}, {"suppressed", !c.Surfaced}, {"stale", !c.StaleSince.IsZero()}, {"from the desktop", c.Desktop}} {
				if is.true {
					line += ", " + is.word
				}
			}
			s.say("%s", line)
		}
	}
	if sb := a.Standby; sb != nil {
		ready := "not ready"
		if *sb.Ready {
			ready = "ready"
		}
		s.say("  standby in %s %s %s", sb.Region, ready, sb.Reason)
	}
	for _, e := range a.Errors {
		s.say("  set-up error %s: %s", e.Code, e.Message)
	}
}

func (s *stage) showFailover(what string, f *Failover) {
	if f == nil {
		return
	}
	line := fmt.Sprintf("  %s %s: %s, cause %s", what, f.ID, f.Status, f.Cause)
	for _, at := range []struct {
		what string
		time time.Time
	}{{"detected", f.DetectedAt}, {"pending", f.PendingAt}, {"completed", f.CompletedAt}, {"stalled", f.StalledAt}, {"stale since", f.StaleSince}} {
		if !at.time.IsZero() {
			line += fmt.Sprintf(", %s %s", at.what, at.time.Format(time.TimeOnly))
		}
	}
	if f.Evidence != "" {
		line += fmt.Sprintf(", evidence %s", f.Evidence)
	}
	if f.ForcedBy != "" {
		line += fmt.Sprintf(", forced by %s: %s", f.ForcedBy, f.ForcedReason)
	}
	if len(f.InitialContactIDs) > 0 {
		line += fmt.Sprintf(", began with %v", f.InitialContactIDs)
	}
	if len(f.ContactIDs) > 0 {
		line += fmt.Sprintf(", still open %v", f.ContactIDs)
	}
	s.say("%s", line)
}
