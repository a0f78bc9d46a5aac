package nemesis

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// start is when the story of the tests below begins.
var start = time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)

// after is a moment of that story.
func after(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

const (
	testLog = "0123456789ab"
	testTDG = "group"
)

// sound is a record of which nothing is wrong. Agent a is on a call when everybody is shifted to the west, is pending, and completed
// when the call is over; b is idle and completed at once; c is forced. The leader is replaced in the midst of it. Later the east is down
// when everybody is shifted to the west again, after a shift back that was cancelled for a.
func sound() *record {
	r := &record{
		regions: [2]string{east, west}, ccpURLs: map[string]string{east: ccpURL(east), west: ccpURL(west)}, logID: testLog,
		confirmWithin: 2 * time.Second, regionDownAfter: 3 * time.Second,
		reigns: []reign{{100, 0, start, 0}, {200, 1, after(5), 0}},
	}
	type fields map[string]any
	log := func(at float64, event, agent, failover string, more fields) {
		data := fields{"agentId": agent, "time": after(at)}
		if failover != "" {
			data["failoverId"] = failover
		}
		for k, v := range more {
			data[k] = v
		}
		b, err := json.Marshal(data)
		if err != nil {
			panic(err)
		}
		epoch := int64(100)
		if at >= 5 {
			epoch = 200
		}
		r.log = append(r.log, logged{int64(len(r.log) + 1), epoch, after(at), event, agent, failover, string(b)})
	}
	completed := func(to, evidence string) fields {
		return fields{"activeRegion": to, "activeCcpUrl": ccpURL(to), "previousRegion": other(to), "forced": evidence == "forced", "evidence": evidence}
	}
	for _, agent := range []string{"a", "b", "c"} {
		log(0, "snapshot", agent, "", fields{"activeRegion": east, "activeCcpUrl": ccpURL(east), "state": "active", "configureErrors": []any{}})
	}
	for _, agent := range []string{"a", "b", "c"} {
		log(2, "failoverDetected", agent, "1"+agent, fields{"nextActiveRegion": west})
	}
	log(2.2, "failoverPending", "a", "1a", fields{"nextActiveRegion": west, "contactIds": []string{"call"}})
	log(2.3, "failoverCompleted", "b", "1b", completed(west, "inferred"))
	log(3, "failoverPendingUpdated", "a", "1a", fields{"nextActiveRegion": west, "contactIds": []string{"call", "chat"}})
	log(3.5, "failoverCompleted", "c", "1c", completed(west, "forced"))
	log(6, "failoverPendingUpdated", "a", "1a", fields{"nextActiveRegion": west, "contactIds": []string{"call"}})
	log(8, "failoverCompleted", "a", "1a", completed(west, "inferred"))
	log(10, "failoverDetected", "a", "2a", fields{"nextActiveRegion": east})
	log(11, "failoverCancelled", "a", "2a", fields{"activeRegion": west, "cancelledRegion": east})
	log(12, "failoverStalled", "a", "1a", fields{"activeRegion": east})
	log(20, "failoverDetected", "b", "2b", fields{"nextActiveRegion": east})
	log(24, "failoverCompleted", "b", "2b", completed(east, "lastKnown"))
	log(25, "configureError", "b", "", fields{"code": "ACCESS_DENIED", "message": "no"})
	log(26, "configureErrorCleared", "b", "", fields{"code": "ACCESS_DENIED"})
	log(27, "failoverDetected", "b", "3b", fields{"nextActiveRegion": west})
	log(28, "failoverCompleted", "b", "3b", completed(west, "desktop"))

	for _, agent := range []string{"a", "b", "c"} {
		r.floor = append(r.floor, person{agent, west, west, "profile", testTDG})
		r.agents = append(r.agents, agentRow{agent, west, "active", ""})
	}
	row := func(id, from, status, evidence string) {
		r.failovers = append(r.failovers, failoverRow{
			id: id, agent: id[1:], from: from, to: other(from), status: status, cause: "distribution", evidence: evidence,
			forced: evidence == "forced", reason: map[bool]string{true: "why"}[evidence == "forced"],
		})
	}
	row("1a", east, "completed", "inferred")
	row("1b", east, "completed", "inferred")
	row("1c", east, "completed", "forced")
	row("2a", west, "cancelled", "")
	row("2b", west, "completed", "lastKnown")
	row("3b", east, "completed", "desktop")

	r.contacts = []contact{
		{"call", "a", "VOICE", east, after(1), after(7)},
		{"chat", "a", "CHAT", east, after(2.5), after(5.5)},
		{"mail", "b", "EMAIL", east, after(1), time.Time{}},
		{"hold", "c", "VOICE", east, after(1), after(30)},
	}
	// Both Regions are read every half of a second, by whoever leads; the west is down from 20.2 on.
	for at := 0.1; at < 29; at += 0.5 {
		replica := 0
		if at > 5 {
			replica = 1
		}
		for _, region := range []string{east, west} {
			if region == west && at > 20.2 && at < 25 {
				continue
			}
			x := read{
				replica: replica, region: region, begun: after(at), end: after(at + 0.01), last: true,
				agents: map[string]bool{}, profiles: map[string]bool{"profile": true}, shown: map[string][]shown{}, offline: map[string]bool{},
			}
			for _, k := range r.contacts {
				if k.region == region && k.since.Before(x.begun) && (k.until.IsZero() || k.until.After(x.begun)) {
					x.shown[k.agent] = append(x.shown[k.agent], shown{k.id, k.channel})
				}
			}
			r.reads = append(r.reads, x)
			target := east
			for _, to := range []struct {
				from float64
				to   string
			}{{1.9, west}, {9.9, east}, {10.9, west}, {19.9, east}, {26.9, west}} {
				if at > to.from-0.5 {
					target = to.to
				}
			}
			r.targets = append(r.targets, distribution{replica, region, testTDG, after(at), after(at + 0.01), target})
		}
	}
	r.reports = []report{{agent: "b", looked: after(27.5), sent: after(27.6), region: west, taken: true}}
	r.forces = []force{{failover: "1c", reason: "why", sent: after(3.4), answers: []answered{{0, "", ""}, {503, "unavailable", "{}"}, {202, "", "done"}, {202, "", "done"}}}}
	r.audit = []audited{{"forceFailover", "failovers/1c", "why", "accepted"}, {"forceFailover", "failovers/1c", "why", "done"}, {"reportObservation", "agents/b", "", "accepted"}}

	// A desktop of each agent, and a console. Each comes back once, elsewhere.
	for _, agent := range []string{"a", "b", "c", ""} {
		h := heard{name: "desktop of " + agent, agent: agent}
		if agent == "" {
			h.name = "console"
		}
		first := connection{replica: 0, opened: after(1)}
		for _, who := range []string{"a", "b", "c"} {
			if agent == "" || agent == who {
				id := testLog + "-0-3" // of nowhere
				if agent != "" || who == "c" {
					id = testLog + "-100-3"
				}
				first.frames = append(first.frames, frame{id, "snapshot", fmt.Sprintf(
					`{"agentId":%q,"time":"2026-11-22T11:00:01Z","activeRegion":%q,"activeCcpUrl":%q,"state":"active","configureErrors":[]}`, who, east, ccpURL(east))})
			}
		}
		second := connection{replica: 1, opened: after(4)}
		for _, e := range r.log[3:] {
			if agent == "" || e.agent == agent {
				f := frame{fmt.Sprintf("%s-%d-%d", testLog, e.epoch, e.seq), e.event, e.data}
				if e.seq < 9 {
					first.frames = append(first.frames, f)
				} else {
					second.frames = append(second.frames, f)
				}
			}
		}
		second.cursor = first.frames[len(first.frames)-1].id
		h.connections = []connection{first, second}
		r.clients = append(r.clients, h)
	}
	return r
}

func TestCheckerFindsNothingWrong(t *testing.T) {
	require.Empty(t, check(sound()))
	r := sound()
	dismissed(r)
	require.Empty(t, check(r))
	r.clients = []heard{startedSince(r, 23.6)}
	require.Empty(t, check(r), "nobody knows them any more")
}

// startedSince is a desktop of agent b that had waited for a replica to start, which knew nothing of b then.
func startedSince(r *record, at float64) heard {
	return heard{name: "desktop of b", agent: "b", connections: []connection{{opened: after(23), frames: []frame{{
		fmt.Sprintf("%s-%d-%d", testLog, r.log[len(r.log)-1].epoch, len(r.log)), "snapshot",
		fmt.Sprintf(`{"agentId":"b","time":%q,"activeRegion":null,"activeCcpUrl":null,"state":"unknown","configureErrors":[]}`, after(at).Format(time.RFC3339Nano)),
	}}}}}
}

// dismissed has agent b removed while the second failover is open, which is cancelled. What came after that never was.
func dismissed(r *record) {
	cut := len(r.log) - 5
	r.log = r.log[:cut]
	e := r.log[cut-1]
	e.seq, e.event, e.at = int64(cut+1), "failoverCancelled", after(24)
	e.data = fmt.Sprintf(`{"agentId":"b","failoverId":"2b","time":"2026-11-22T11:00:24Z","activeRegion":%q,"cancelledRegion":%q}`, west, east)
	r.log = append(r.log, e)
	r.clients = nil
	r.gone = []leaver{{r.floor[1], after(23.5), after(24.5)}}
	r.floor = slices.Delete(r.floor, 1, 2)
	r.agents = slices.Delete(r.agents, 1, 2)
	r.failovers[4].status, r.failovers[4].evidence = "cancelled", ""
	r.failovers = r.failovers[:5]
}

// The checker notices whatever is done to a good record; each of these is one way in which the service could break its word.
func TestCheckerFinds(t *testing.T) {
	// frames are those of a connection of the desktop of an agent.
	frames := func(r *record, client, connection int) *[]frame {
		return &r.clients[client].connections[connection].frames
	}
	const a, b, console = 0, 1, 3
	// replaced changes a text in the log, and in what was heard.
	replaced := func(r *record, seq int64, old, now string) {
		e := &r.log[seq-1]
		if !strings.Contains(e.data, old) {
			panic(e.data)
		}
		before := e.data
		e.data = strings.ReplaceAll(e.data, old, now)
		for i := range r.clients {
			for j := range r.clients[i].connections {
				for k := range r.clients[i].connections[j].frames {
					if f := &r.clients[i].connections[j].frames[k]; f.data == before {
						f.data = e.data
					}
				}
			}
		}
	}
	// gone takes an event away, as if it had never been.
	gone := func(r *record, seq int64) {
		r.log = slices.Delete(r.log, int(seq-1), int(seq))
		for i := int(seq) - 1; i < len(r.log); i++ {
			r.log[i].seq--
		}
		r.clients = r.clients[:0]
	}
	cases := []struct {
		name   string
		rule   string
		doctor func(r *record)
	}{
		{"a gap in the log", "log: ", func(r *record) { r.log = slices.Delete(r.log, 5, 6) }},
		{"an event of an old term after a new one", "R19", func(r *record) { r.log[12].epoch = 100 }},
		{"a term that nobody began", "R19", func(r *record) { r.reigns = r.reigns[:1] }},
		{"an event of another agent in the log", "log: ", func(r *record) { r.log[6].agent = "b" }},
		{"an event that is older than the one before it", "R18", func(r *record) { r.log[8].at = after(2.1) }},
		{"a failover without a baseline", "R3", func(r *record) { gone(r, 1) }},
		{"a Region that changes without a failover", "R3", func(r *record) {
			r.log[15].event, r.log[15].failover = "snapshot", ""
			r.log[15].data = `{"agentId":"b","activeRegion":"us-east-1","state":"active"}`
		}},
		{"pending before detected", "R18", func(r *record) { r.log[3], r.log[6] = r.log[6], r.log[3]; r.log[3].seq, r.log[6].seq = 4, 7 }},
		{"pending told twice", "R7", func(r *record) { r.log[8].event = "failoverPending" }},
		{"pending without a contact", "R7", func(r *record) { replaced(r, 7, `["call"]`, `[]`) }},
		{"an update that says nothing new", "R7", func(r *record) { replaced(r, 9, `["call","chat"]`, `["call"]`) }},
		{"an update before pending", "R7", func(r *record) { gone(r, 7) }},
		{"a contact of another agent", "R5", func(r *record) { replaced(r, 7, `"call"`, `"hold"`) }},
		{"a contact that nobody had", "R5", func(r *record) { replaced(r, 7, `"call"`, `"ghost"`) }},
		{"a mail that holds", "R5", func(r *record) { r.contacts[0].channel = "EMAIL" }},
		{"a contact of the other Region", "R5", func(r *record) { r.contacts[0].region = west }},
		{"a failover without an end", "R18", func(r *record) { gone(r, 12) }},
		{"two ends", "R18", func(r *record) { r.log[14].event = "failoverCancelled" }},
		{"a failover that begins again", "R4", func(r *record) { r.log[15].failover = "1b"; replaced(r, 16, `"2b"`, `"1b"`) }},
		{"a failover to where the agent is", "R4", func(r *record) { replaced(r, 16, east, west) }},
		{"completed to another Region", "R8", func(r *record) { replaced(r, 8, `"activeRegion":"us-west-2"`, `"activeRegion":"us-east-1"`) }},
		{"completed with another Region's address", "R8", func(r *record) { replaced(r, 8, ccpURL(west), ccpURL(east)) }},
		{"cancelled to another Region", "R10", func(r *record) { replaced(r, 14, `"activeRegion":"us-west-2"`, `"activeRegion":"us-east-1"`) }},
		{"forced, but not called so", "R11", func(r *record) { replaced(r, 10, `"forced":true`, `"forced":false`) }},
		{"stalled too early", "R12", func(r *record) { r.confirmWithin = time.Minute }},
		{"stalled twice", "R12", func(r *record) {
			e := r.log[14]
			e.seq = int64(len(r.log)) + 1
			e.at = after(29)
			r.log = append(r.log, e)
		}},
		{"a set-up error told twice", "R17", func(r *record) {
			r.log[18].event = "configureError"
			replaced(r, 19, `"code"`, `"message":"no","code"`)
		}},
		{"a set-up error repaired that was not told", "R17", func(r *record) { gone(r, 18) }},
		{"detected although no Region said so", "R4", func(r *record) {
			for i := range r.targets {
				if r.targets[i].begun.Before(after(9)) {
					r.targets[i].target = east
				}
			}
		}},
		{"detected by a witness who is not asked outside of a split", "R4", func(r *record) {
			for i := range r.targets {
				if r.targets[i].begun.Before(after(9)) {
					r.targets[i].target = east
				}
			}
			for i := range r.failovers {
				r.failovers[i].cause = "presence"
			}
		}},
		{"cancelled although no Region said so", "R10", func(r *record) {
			for i := range r.targets {
				if r.targets[i].begun.After(after(6)) {
					r.targets[i].target = east
				}
			}
		}},
		{"completed during a call", "R8", func(r *record) { r.contacts[0].until = after(9) }},
		{"completed during a call that was never cleared", "R8", func(r *record) { r.contacts[0].until = time.Time{} }},
		{"completed during a call, by the desktop", "R8", func(r *record) {
			r.contacts = append(r.contacts, contact{"late", "b", "VOICE", east, after(26), after(29)})
		}},
		{"completed without a fresh read", "R6", func(r *record) {
			r.reads = slices.DeleteFunc(r.reads, func(x read) bool { return x.begun.After(after(2)) && x.begun.Before(after(2.3)) })
		}},
		{"completed by a page that is not the last", "R6", func(r *record) {
			for i := range r.reads {
				r.reads[i].last = r.reads[i].begun.Before(after(2)) || r.reads[i].begun.After(after(9))
			}
		}},
		{"completed by a read of other profiles", "R6", func(r *record) {
			for i := range r.reads {
				if r.reads[i].begun.After(after(2)) && r.reads[i].begun.Before(after(8)) {
					r.reads[i].profiles = map[string]bool{"another": true}
				}
			}
		}},
		{"completed against the last answers", "R8", func(r *record) {
			for i := range r.reads {
				if x := &r.reads[i]; x.region == east && x.begun.After(after(7)) {
					x.shown["a"] = []shown{{"chat", "CHAT"}}
				}
			}
			for i := range r.reads { // while an older one showed none
				if x := &r.reads[i]; x.region == east && x.begun.After(after(5)) && x.begun.Before(after(5.5)) {
					x.shown["a"] = nil
				}
			}
		}},
		{"a Region that answered counts as down", "R9", func(r *record) {
			r.reads = append(r.reads, read{replica: 1, region: west, begun: after(22), end: after(22.1), last: true})
		}},
		{"let go too soon after the detection", "R9", func(r *record) { r.log[16].at = after(22.9) }},
		{"let go too soon after the leader began", "R9", func(r *record) {
			heir := reign{after(21.5).UnixMilli(), 0, after(21.5), 0}
			r.reigns = append(r.reigns, heir)
			for i := range r.log[16:] {
				r.log[16+i].epoch = heir.epoch
			}
		}},
		{"let go although the last list was not empty", "R9", func(r *record) {
			for i := range r.reads {
				if x := &r.reads[i]; x.region == west && x.begun.Before(after(20.2)) {
					x.shown["b"] = []shown{{"call", "VOICE"}}
				}
			}
		}},
		{"let go although no list was ever read", "R9", func(r *record) {
			r.reads = slices.DeleteFunc(r.reads, func(x read) bool { return x.region == west && x.begun.Before(after(24)) })
		}},
		{"by a desktop that never reported", "R8", func(r *record) { r.reports = nil }},
		{"forced by nobody", "R11", func(r *record) { r.forces = nil }},
		{"forced before anybody asked", "R11", func(r *record) { r.forces[0].sent = after(9) }},
		{"a force that the audit does not know", "audit", func(r *record) { r.audit = r.audit[1:] }},
		{"a force that was handed over twice", "idempotency", func(r *record) { r.audit = append(r.audit, r.audit[0]) }},
		{"another answer under the same key", "idempotency", func(r *record) { r.forces[0].answers[3].body = "another" }},
		{"a force that is refused as malformed", "R11", func(r *record) { r.forces[0].answers[3].status = 400 }},
		{"a report that the audit does not know", "audit", func(r *record) { r.audit = r.audit[:2] }},
		{"a broken chain", "audit", func(r *record) { r.chain = "entry 2" }},
		{"a command without an answer", "inbox", func(r *record) { r.waiting = 1 }},
		{"a process that ended by itself", "process", func(r *record) { r.broken = []string{"it ended"} }},

		{"completed during a pause", "R8", func(r *record) { r.pauses = []pause{{after(7.5), after(8.5)}} }},
		{"completed after it was told that it is paused", "R8", func(r *record) {
			r.log[11].event = "failoverPaused"
			replaced(r, 12, `"agentId"`, `"reason":"why","agentId"`)
		}},
		{"resumed without a pause", "R8", func(r *record) { r.log[11].event = "failoverResumed" }},
		{"completed after a pause without another read", "R8", func(r *record) {
			r.log[8].event, r.log[10].event = "failoverPaused", "failoverResumed"
			replaced(r, 9, `"agentId"`, `"reason":"why","agentId"`)
			r.reads = slices.DeleteFunc(r.reads, func(x read) bool { return x.begun.After(after(4)) && x.begun.Before(after(9)) })
			r.contacts[0].until = after(3.9)
			for i := range r.reads {
				delete(r.reads[i].shown, "a")
			}
		}},

		{"a lost event", "stream", func(r *record) { f := frames(r, a, 1); *f = slices.Delete(*f, 1, 2) }},
		{"a lost event after a break", "stream", func(r *record) { f := frames(r, a, 1); *f = slices.Delete(*f, 0, 1) }},
		{"a lost event at the end", "stream", func(r *record) { f := frames(r, a, 1); *f = (*f)[:len(*f)-1] }},
		{"a doubled event", "stream", func(r *record) { f := frames(r, a, 1); *f = slices.Insert(*f, 1, (*f)[0]) }},
		{"a doubled event with another id", "stream", func(r *record) {
			f := frames(r, a, 1)
			again := (*f)[0]
			again.id = testLog + "-100-10"
			*f = slices.Insert(*f, 1, again)
		}},
		{"an event that comes again after a break", "stream", func(r *record) {
			f, before := frames(r, a, 1), frames(r, a, 0)
			*f = slices.Insert(*f, 0, (*before)[len(*before)-1])
		}},
		{"reordered events", "stream", func(r *record) { f := frames(r, a, 1); (*f)[0], (*f)[1] = (*f)[1], (*f)[0] }},
		{"an event of another agent", "stream", func(r *record) { f := frames(r, a, 1); *f = slices.Insert(*f, 0, (*frames(r, b, 1))[0]) }},
		{"an event with other data", "stream", func(r *record) { f := frames(r, a, 1); (*f)[0].data = strings.ReplaceAll((*f)[0].data, west, east) }},
		{"an event with another name", "stream", func(r *record) { f := frames(r, a, 1); (*f)[0].event = "failoverCancelled" }},
		{"an event with another id", "stream", func(r *record) { f := frames(r, a, 1); (*f)[0].id = testLog + "-100-8" }},
		{"an id of another log", "stream", func(r *record) { f := frames(r, a, 1); (*f)[0].id = "ba9876543210-100-9" }},
		{"a reset of a good cursor", "stream", func(r *record) {
			f := frames(r, a, 1)
			*f = slices.Insert(*f, 0, frame{testLog + "-0-9", "reset", `{"agentId":"a","reason":"unknown"}`})
		}},
		{"a reset without a snapshot", "stream", func(r *record) {
			r.clients[a].connections[1].spoiled = true
			f := frames(r, a, 1)
			*f = slices.Insert(*f, 0, frame{testLog + "-0-9", "reset", `{"agentId":"a","reason":"unknown"}`})
		}},
		{"a bad cursor that is taken", "stream", func(r *record) {
			r.clients[a].connections[1].spoiled = true
			r.clients[a].connections[1].cursor = "garbage"
		}},
		{"a cursor that forgets", "stream", func(r *record) { r.clients[a].connections[1].cursor = testLog + "-100-8" }},
		{"no snapshot", "stream", func(r *record) { f := frames(r, a, 0); *f = (*f)[1:] }},
		{"a snapshot with another Region", "stream", func(r *record) { f := frames(r, a, 0); (*f)[0].data = strings.ReplaceAll((*f)[0].data, east, west) }},
		{"a snapshot with a wrong state", "stream", func(r *record) {
			f := frames(r, a, 0)
			(*f)[0].data = strings.ReplaceAll((*f)[0].data, `"active"`, `"detected"`)
		}},
		{"a snapshot with an error that is not there", "stream", func(r *record) {
			f := frames(r, a, 0)
			(*f)[0].data = strings.ReplaceAll((*f)[0].data, `"configureErrors":[]`, `"configureErrors":[{"code":"X","message":"y"}]`)
		}},
		{"a snapshot for a place that it does not tell of", "stream", func(r *record) {
			f := frames(r, a, 0)
			(*f)[0].id = testLog + "-100-7"
			*f = (*f)[:1]
			r.clients[a].connections[1].cursor = (*f)[0].id
			*frames(r, a, 1) = slices.DeleteFunc(*frames(r, a, 1), func(x frame) bool { return x.id == testLog+"-100-7" })
		}},
		{"draining at a place that was not told", "stream", func(r *record) {
			f := frames(r, a, 0)
			*f = append(*f, frame{testLog + "-100-9", "draining", `{"agentId":"a","reason":"shutdown"}`})
			r.clients[a].connections[1].cursor = testLog + "-100-9"
			*frames(r, a, 1) = (*frames(r, a, 1))[1:]
		}},
		{"an agent of whom nothing is known before they are gone", "stream", func(r *record) { dismissed(r); r.clients = []heard{startedSince(r, 23.4)} }},
		{"a console without the snapshot of somebody", "stream", func(r *record) { f := frames(r, console, 0); *f = (*f)[1:] }},
		{"a console that misses an event", "stream", func(r *record) { f := frames(r, console, 1); *f = slices.Delete(*f, 3, 4) }},
		{"a client that was never let in", "stream", func(r *record) { r.clients[a].connections = nil }},

		{"an agent who is not where Amazon Connect wants them", "end", func(r *record) { r.floor[0].target, r.floor[0].region = east, east }},
		{"an agent who did not move", "end", func(r *record) { r.floor[0].region = east }},
		{"REST that says something else", "end", func(r *record) { r.agents[0].region = east }},
		{"an agent whom REST does not know", "end", func(r *record) { r.agents = r.agents[1:] }},
		{"an agent whom the log does not know", "R3", func(r *record) { r.floor = append(r.floor, person{"d", west, west, "profile", testTDG}) }},
		{"an agent who does not exist", "R2", func(r *record) { r.floor = r.floor[1:] }},
		{"a failover that goes on when its agent is gone", "R18", func(r *record) { dismissed(r); gone(r, int64(len(r.log))) }},
		{"something told of an agent who is forgotten", "R2", func(r *record) { dismissed(r); r.gone[0].noted = after(23) }},
		{"an agent in REST who is gone", "R2", func(r *record) { dismissed(r); r.agents = append(r.agents, agentRow{"b", east, "active", ""}) }},
		{"an agent who is forgotten before being removed", "R10", func(r *record) { dismissed(r); r.gone[0].at, r.gone[0].noted = after(25), after(26) }},
		{"a failover that REST does not know", "end", func(r *record) { r.failovers = r.failovers[1:] }},
		{"a failover that REST tells otherwise", "end", func(r *record) { r.failovers[0].evidence = "desktop" }},
		{"a failover that the log does not know", "end", func(r *record) { r.failovers[3].id = "9a" }},
		{"a failover that is open in REST", "end", func(r *record) { r.failovers[3].status = "pending" }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := sound()
			c.doctor(r)
			faults := check(r)
			require.NotEmpty(t, faults)
			require.Condition(t, func() bool {
				return slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, c.rule) })
			}, "nothing about %s in %q", c.rule, faults)
		})
	}
}

// A client that asks for JSON has the log from its beginning, and may ask from behind the events of others.
func TestCheckerFollowsHistory(t *testing.T) {
	history := func(r *record) *heard {
		h := heard{name: "poller", agent: "b", history: true}
		for _, e := range r.log {
			if e.agent != "b" {
				continue
			}
			k := connection{frames: []frame{{fmt.Sprintf("%s-%d-%d", testLog, e.epoch, e.seq), e.event, e.data}}}
			if n := len(h.connections); n > 0 {
				k.cursor = h.connections[n-1].frames[0].id
			}
			h.connections = append(h.connections, k)
		}
		r.clients = []heard{h}
		return &r.clients[0]
	}
	r := sound()
	history(r)
	require.Empty(t, check(r))
	history(r).connections[2].cursor = testLog + "-100-7" // of another agent
	require.Empty(t, check(r))
	for name, doctor := range map[string]func(h *heard){
		"the first event":   func(h *heard) { h.connections = h.connections[1:] },
		"one in the middle": func(h *heard) { h.connections = slices.Delete(h.connections, 2, 3) },
		"the last one":      func(h *heard) { h.connections = h.connections[:len(h.connections)-1] },
		"one that was skipped by its cursor": func(h *heard) {
			h.connections[2].cursor = h.connections[2].frames[0].id
			h.connections[2].frames = nil
		},
	} {
		r := sound()
		doctor(history(r))
		require.NotEmpty(t, check(r), name)
	}
}

// A client that comes late hears everything that follows the place with which it begins.
func TestCheckerFollowsReaders(t *testing.T) {
	reader := func(r *record, agent, from string, seq int64) *heard {
		h := heard{name: "reader", agent: agent, from: from, connections: []connection{{cursor: from}}}
		for _, e := range r.log {
			if e.seq > seq && (agent == "" || e.agent == agent) {
				h.connections[0].frames = append(h.connections[0].frames, frame{fmt.Sprintf("%s-%d-%d", testLog, e.epoch, e.seq), e.event, e.data})
			}
		}
		r.clients = []heard{h}
		return &r.clients[0]
	}
	for from, seq := range map[string]int64{testLog + "-0-0": 0, testLog + "-100-7": 7} {
		for _, agent := range []string{"", "b"} {
			r := sound()
			reader(r, agent, from, seq)
			require.Empty(t, check(r), from)
			for name, doctor := range map[string]func(k *connection){
				"the first event":   func(k *connection) { k.frames = k.frames[1:] },
				"one in the middle": func(k *connection) { k.frames = slices.Delete(k.frames, 2, 3) },
				"the last one":      func(k *connection) { k.frames = k.frames[:len(k.frames)-1] },
				"everything":        func(k *connection) { k.frames = nil },
				"one comes twice":   func(k *connection) { k.frames = slices.Insert(k.frames, 2, k.frames[2]) },
			} {
				r := sound()
				doctor(&reader(r, agent, from, seq).connections[0])
				require.NotEmpty(t, check(r), "%s, %s of %q", from, name, agent)
			}
		}
	}
}

// A replica that has not read the log yet tells a client its cursor back when it drains, a bad one too.
func TestCheckerKnowsWhatANewReplicaTellsBack(t *testing.T) {
	told := func(id string) *record {
		r := sound()
		c := &r.clients[0].connections[1]
		late := *c
		c.spoiled, c.cursor = true, "0123456789ff-1-1"
		c.frames = []frame{{id, "draining", `{"agentId":"a","reason":"shutdown"}`}}
		late.cursor, late.spoiled = id, true
		late.frames = append([]frame{
			{testLog + "-0-9", "reset", `{"agentId":"a","reason":"otherLog"}`},
			{testLog + "-100-8", "snapshot", fmt.Sprintf(`{"agentId":"a","activeRegion":%q,"activeCcpUrl":%q,"state":"pending","nextActiveRegion":%q,"failoverId":"1a","contactIds":["call"]}`,
				east, ccpURL(east), west)},
		}, late.frames...)
		r.clients[0].connections = append(r.clients[0].connections, late)
		return r
	}
	require.Empty(t, check(told("0123456789ff-1-1")))
	require.NotEmpty(t, check(told("0123456789ff-1-2")))
}

// In a split the agent's desktop takes back what a distribution began, and nobody else does (R1, R10).
func TestCheckerKnowsWhoCancelsInASplit(t *testing.T) {
	r := sound()
	for i := range r.targets {
		if x := &r.targets[i]; x.begun.After(after(7)) && x.begun.Before(after(11)) && x.target == west {
			x.target = ""
		}
	}
	require.NotEmpty(t, check(r))
	r.reports = append(r.reports, report{agent: "b", looked: after(10.5), sent: after(10.6), region: west})
	require.NotEmpty(t, check(r))
	r.reports = append(r.reports, report{agent: "a", looked: after(10.5), sent: after(10.6), region: west})
	require.Empty(t, check(r))
}

// With global routing a call that turns out to be the new Region's does not hold (R20); with regional routing there is no such thing.
func TestCheckerKnowsGlobalRouting(t *testing.T) {
	r := sound()
	r.contacts = append(r.contacts, contact{"new", "a", "VOICE", west, after(5), after(30)})
	for i := range r.reads {
		if x := &r.reads[i]; x.region == east && x.begun.After(after(6)) && x.begun.Before(after(9)) {
			x.shown["a"] = append(x.shown["a"], shown{"new", "VOICE"})
		}
	}
	require.NotEmpty(t, check(r))
	r.global = true
	require.Empty(t, check(r))
}
