package failover

import (
	"encoding/json"
	"strconv"
	"time"
)

// timeLayout is RFC 3339 in UTC with milliseconds, as everywhere in the API.
const timeLayout = "2006-01-02T15:04:05.000Z"

// FormatTime writes a time as the API does: RFC 3339, UTC, milliseconds.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// clear names what a desktop has to drop after a change of Region: ids and ARNs of the Region that was left.
// Streams' documentation asks for the same after onFailoverCompleted.
const clearOnCompletion = `["agentStateArns","queueArns","quickConnects","routingProfile","contacts"]`

// AppendData appends the event's data to b: one line of JSON with the field names of amazon-connect-streams.
func (e *Event) AppendData(b []byte) []byte {
	b = append(b, `{"agentId":`...)
	b = appendString(b, e.AgentID)
	b = append(b, `,"time":"`...)
	b = e.Time.UTC().AppendFormat(b, timeLayout)
	b = append(b, '"')
	if e.FailoverID != "" {
		b = append(b, `,"failoverId":`...)
		b = appendString(b, e.FailoverID)
	}
	switch e.Type {
	case EventSnapshot:
		b = appendField(b, "activeRegion", e.ActiveRegion, true)
		b = appendField(b, "activeCcpUrl", e.ActiveCCPURL, true)
		b = appendField(b, "state", string(e.State), false)
		if e.NextRegion != "" {
			b = appendField(b, "nextActiveRegion", e.NextRegion, false)
		}
		if e.State == AgentPending {
			b = appendIDs(b, e.ContactIDs)
		}
		if !e.Until.IsZero() {
			b = append(b, `,"paused":{"reason":`...)
			b = appendString(b, e.Reason)
			b = append(b, `,"until":"`...)
			b = e.Until.UTC().AppendFormat(b, timeLayout)
			b = append(b, `"}`...)
		}
		b = append(b, `,"configureErrors":[`...)
		for i := range e.Errors {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"code":`...)
			b = appendString(b, e.Errors[i].Code)
			b = appendField(b, "message", e.Errors[i].Message, false)
			b = append(b, '}')
		}
		b = append(b, ']')
	case EventFailoverDetected:
		b = appendField(b, "nextActiveRegion", e.NextRegion, false)
	case EventFailoverPending, EventPendingUpdated:
		b = appendField(b, "nextActiveRegion", e.NextRegion, false)
		b = appendIDs(b, e.ContactIDs)
	case EventFailoverCompleted:
		b = appendField(b, "activeRegion", e.ActiveRegion, true)
		b = appendField(b, "activeCcpUrl", e.ActiveCCPURL, true)
		b = appendField(b, "previousRegion", e.PreviousRegion, true)
		b = append(b, `,"forced":`...)
		b = strconv.AppendBool(b, e.Forced)
		b = appendField(b, "evidence", string(e.Evidence), false)
		b = append(b, `,"clear":`...)
		b = append(b, clearOnCompletion...)
	case EventFailoverCancelled:
		b = appendField(b, "activeRegion", e.ActiveRegion, true)
		b = appendField(b, "cancelledRegion", e.CancelledRegion, false)
	case EventFailoverStalled:
		b = appendField(b, "activeRegion", e.ActiveRegion, true)
	case EventDrillDetected, EventDrillPending, EventDrillCompleted, EventDrillCancelled:
		b = e.appendDrill(b)
	case EventFailoverPaused:
		b = appendField(b, "nextActiveRegion", e.NextRegion, false)
		b = appendField(b, "reason", e.Reason, false)
		b = append(b, `,"until":"`...)
		b = e.Until.UTC().AppendFormat(b, timeLayout)
		b = append(b, '"')
	case EventFailoverResumed:
		b = appendField(b, "nextActiveRegion", e.NextRegion, false)
	case EventConfigureError:
		b = appendField(b, "code", e.Code, false)
		b = appendField(b, "message", e.Message, false)
	case EventConfigureErrorCleared:
		b = appendField(b, "code", e.Code, false)
	}
	return append(b, '}')
}

// appendDrill appends the data of a drill's event, which says in each that it is one.
func (e *Event) appendDrill(b []byte) []byte {
	b = append(b, `,"drill":true`...)
	b = appendField(b, "drillId", e.DrillID, false)
	switch e.Type {
	case EventDrillCompleted:
		b = appendField(b, "activeRegion", e.ActiveRegion, false)
		b = appendField(b, "previousRegion", e.PreviousRegion, false)
	case EventDrillCancelled:
		b = appendField(b, "activeRegion", e.ActiveRegion, false)
		b = appendField(b, "cancelledRegion", e.CancelledRegion, false)
	case EventDrillPending:
		b = appendField(b, "nextActiveRegion", e.NextRegion, false)
		b = appendIDs(b, e.ContactIDs)
	default:
		b = appendField(b, "nextActiveRegion", e.NextRegion, false)
	}
	return b
}

func appendIDs(b []byte, ids []string) []byte {
	b = append(b, `,"contactIds":[`...)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, id)
	}
	return append(b, ']')
}

// appendField appends a member; an empty value is null where nullable.
func appendField(b []byte, name, value string, nullable bool) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	if value == "" && nullable {
		return append(b, "null"...)
	}
	return appendString(b, value)
}

// appendString appends a JSON string. Ids are plain ASCII, so the encoder is needed for messages at most.
func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil { // a string always marshals
				panic(err)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
