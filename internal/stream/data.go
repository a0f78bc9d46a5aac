package stream

import (
	"bytes"
	"encoding/json"
	"errors"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// eventData is what views take from the data that desktops get, so a view can hold nothing that they were not told.
type eventData struct {
	ActiveRegion     string                `json:"activeRegion"`
	State            failover.AgentState   `json:"state"`
	NextActiveRegion string                `json:"nextActiveRegion"`
	ContactIDs       []string              `json:"contactIds"`
	Errors           []failover.SetupError `json:"configureErrors"`
	Code             string                `json:"code"`
	Message          string                `json:"message"`
	Reason           string                `json:"reason"`
	Until            string                `json:"until"`

	plain spans
}

// spans are where members stand in data that are plain.
type spans struct{ agentID, time, failoverID, contactIDs span }

// span is a part of an event's data; the zero span is none.
type span struct{ from, to int32 }

func (s span) of(data []byte) []byte { return data[s.from:s.to] }

// readData reads an event's data, and says whether it is JSON at all. Those of a newer version may not be readable: they are nil, and change
// nothing until the next snapshot tells.
func readData(row *store.LogEvent) (d *eventData, valid bool) {
	d = &eventData{}
	if p := (plainJSON{row.Data, len(row.Data)}); p.event(d) {
		return d, true
	}
	*d = eventData{}
	err := json.Unmarshal(row.Data, d)
	if err == nil {
		return d, true
	}
	var other *json.UnmarshalTypeError
	return nil, errors.As(err, &other)
}

// plainJSON reads, from its beginning, JSON as the events of a shift have it: an object without white space, of members that are known here, with
// texts of printable ASCII without escapes. Whatever else there is, it gives up; encoding/json, which takes seven times as long, reads that. In a
// shift each replica reads every event.
type plainJSON struct {
	rest []byte
	size int // of the whole
}

func (p *plainJSON) event(d *eventData) bool {
	if !p.next('{') {
		return false
	}
	for {
		name, ok := p.text()
		if !ok || !p.next(':') {
			return false
		}
		switch string(name) {
		case "agentId":
			ok = p.span(&d.plain.agentID)
		case "time":
			ok = p.span(&d.plain.time)
		case "failoverId":
			ok = p.span(&d.plain.failoverID)
		case "activeCcpUrl", "previousRegion", "cancelledRegion", "evidence", "forced":
			ok = p.literal() || p.string(nil)
		case "activeRegion":
			ok = p.null() || p.string(&d.ActiveRegion)
		case "nextActiveRegion":
			ok = p.null() || p.string(&d.NextActiveRegion)
		case "state":
			ok = p.string((*string)(&d.State))
		case "configureErrors":
			d.Errors = []failover.SetupError{}
			ok = p.word("[]")
		case "contactIds":
			d.ContactIDs = []string{}
			from := p.size - len(p.rest)
			ok = p.list(&d.ContactIDs)
			d.plain.contactIDs = span{int32(from), int32(p.size - len(p.rest))} //nolint:gosec // no event has two gigabytes
		case "clear":
			ok = p.list(nil)
		default:
			ok = false
		}
		switch {
		case !ok:
			return false
		case p.next(','):
		default:
			return p.next('}') && len(p.rest) == 0
		}
	}
}

// next takes a character, if it is that one.
func (p *plainJSON) next(c byte) bool {
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *plainJSON) text() ([]byte, bool) {
	if !p.next('"') {
		return nil, false
	}
	for i, c := range p.rest {
		switch {
		case c == '"':
			text := p.rest[:i]
			p.rest = p.rest[i+1:]
			return text, true
		case c < ' ' || c >= 0x7f || c == '\\':
			return nil, false
		}
	}
	return nil, false
}

// string takes a text; nil: it is not needed.
func (p *plainJSON) string(to *string) bool {
	text, ok := p.text()
	if ok && to != nil {
		*to = string(text)
	}
	return ok
}

// span takes a text, and notes where it stands.
func (p *plainJSON) span(to *span) bool {
	text, ok := p.text()
	if end := p.size - len(p.rest) - 1; ok {
		*to = span{int32(end - len(text)), int32(end)} //nolint:gosec // as above
	}
	return ok
}

func (p *plainJSON) null() bool { return p.word("null") }

func (p *plainJSON) literal() bool { return p.null() || p.word("true") || p.word("false") }

func (p *plainJSON) word(word string) bool {
	rest, ok := bytes.CutPrefix(p.rest, []byte(word))
	p.rest = rest
	return ok
}

// list takes a list of texts; nil: it is not needed.
func (p *plainJSON) list(to *[]string) bool {
	if !p.next('[') {
		return false
	}
	if p.next(']') {
		return true
	}
	for {
		text, ok := p.text()
		switch {
		case !ok:
			return false
		case to != nil:
			*to = append(*to, string(text))
		}
		if !p.next(',') {
			return p.next(']')
		}
	}
}
