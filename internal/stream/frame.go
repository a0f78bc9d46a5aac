package stream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/r3labs/sse/v2"

	"changeover/internal/failover"
	"changeover/internal/store"
)

// The frames that belong to a connection and are not in the log.
const (
	eventReset    = "reset"
	eventDraining = "draining"
)

// Why a stream starts anew: the reasons of `reset`.
const (
	resetMalformed = "malformed" // no cursor of ours
	resetOtherLog  = "other_log" // of another stack, or of a database before it was restored
	resetUnknown   = "unknown"   // names an event that this log does not hold
	resetPruned    = "pruned"    // events after it are older than the retention
	resetLost      = "lost"      // the log lost its last events; the stream may have told some of them
)

// heartbeat is the comment that says that a stream is alive.
var heartbeat = newPiece([]byte(": heartbeat\n\n"))

// endOfStream makes the library's handler return: it takes an event without data and comment as the end.
var endOfStream = &sse.Event{}

// frame is an event of the log, ready to be sent. One frame is shared by every connection that gets it, and by the memory, which holds
// so many that each byte counts.
type frame struct {
	piece
	name      string // of the event; empty: the row cannot be sent
	id        int    // length of the cursor
	position  store.Position
	agentID   string
	committed int64     // Unix time in nanoseconds
	delivery  *delivery // nil: nothing is traced
}

// The fields of an event, as the library writes them: id, data, event, each on a line of its own.
const (
	fieldID, fieldData, fieldEvent = "id: ", "\ndata: ", "\nevent: "
	frameEnd                       = "\n\n"
)

// item is the event as JSON history shows it.
func (f *frame) item() Item {
	b := f.body()
	data := len(fieldID) + f.id + len(fieldData)
	return Item{
		ID: string(b[len(fieldID) : len(fieldID)+f.id]), Event: f.name,
		Data: b[data : len(b)-len(frameEnd)-len(f.name)-len(fieldEvent)],
	}
}

// eventOf makes the event of a row of the log, nil if it cannot be sent: such a row would break the stream of whoever reads it, so
// only position and view go on. It is the last guard against forged frames: whatever the row holds, what comes out is one id,
// one event name and one line of data. The caller has found out whether the data is JSON.
func (h *Hub) eventOf(logID string, row *store.LogEvent, valid bool) *sse.Event {
	name, err := eventName(string(row.Type))
	var data []byte
	if err == nil {
		data, err = oneLine(row.Data, valid)
	}
	if err != nil {
		h.log.Error("event of the log cannot be sent", "seq", row.Seq, "error", err)
		return nil
	}
	return newEvent(Cursor{LogID: logID, Epoch: row.Epoch, Seq: row.Seq}, name, data)
}

// eventsOf makes the events of rows; those that cannot be sent are nil.
func (h *Hub) eventsOf(logID string, rows []store.LogEvent) []*sse.Event {
	events := make([]*sse.Event, len(rows))
	for i := range rows {
		events[i] = h.eventOf(logID, &rows[i], json.Valid(rows[i].Data))
	}
	return events
}

// framesOf makes the frames of rows and their events.
func (h *Hub) framesOf(rows []store.LogEvent, events []*sse.Event) []*frame {
	good := slices.DeleteFunc(slices.Clone(events), func(e *sse.Event) bool { return e == nil })
	pieces := h.encoder.pieces(good)
	frames := make([]*frame, len(rows))
	for i := range rows {
		f := &frame{position: store.Position{Epoch: rows[i].Epoch, Seq: rows[i].Seq}, agentID: rows[i].AgentID, committed: rows[i].CommittedAt.UnixNano()}
		if e := events[i]; e != nil {
			f.piece, pieces = pieces[0], pieces[1:]
			f.name, f.id = sharedName(rows[i].Type), len(e.ID)
		}
		frames[i] = f
	}
	return frames
}

func newEvent(id Cursor, name, data []byte) *sse.Event {
	return &sse.Event{ID: id.append(make([]byte, 0, maxCursor)), Event: name, Data: data}
}

// names are the bytes of the event names, so that frames share them.
var names = func() map[string][]byte {
	m := make(map[string][]byte)
	for _, t := range []failover.EventType{
		failover.EventSnapshot, failover.EventFailoverDetected, failover.EventFailoverPending,
		failover.EventPendingUpdated, failover.EventFailoverCompleted, failover.EventFailoverCancelled,
		failover.EventFailoverStalled, failover.EventConfigureError, failover.EventConfigureErrorCleared,
		eventReset, eventDraining,
	} {
		m[string(t)] = []byte(t)
	}
	return m
}()

// sharedName is the name of an event as all frames have it: each row of the log brings a text of its own.
func sharedName(t failover.EventType) string {
	if name, ok := sharedNames[t]; ok {
		return name
	}
	return string(t)
}

var sharedNames = func() map[failover.EventType]string {
	m := make(map[failover.EventType]string)
	for name := range names {
		m[failover.EventType(name)] = name
	}
	return m
}()

// eventName admits letters alone. Names of a newer version pass: in a rolling upgrade its leader may write them already.
func eventName(name string) ([]byte, error) {
	if known, ok := names[name]; ok {
		return known, nil
	}
	if name == "" || len(name) > 64 {
		return nil, fmt.Errorf("event name %q: 1 to 64 letters expected", name)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return nil, fmt.Errorf("event name %q: letters expected", name)
		}
	}
	return []byte(name), nil
}

// oneLine returns a JSON object without line breaks. Both CR and LF end a line of a stream; inside a JSON string
// neither can stand, so what is dropped is white space.
func oneLine(data []byte, valid bool) ([]byte, error) {
	if !valid {
		return nil, fmt.Errorf("no JSON: %.80q", data)
	}
	if bytes.IndexByte(data, '\n') >= 0 || bytes.IndexByte(data, '\r') >= 0 || data[0] != '{' {
		var b bytes.Buffer
		if err := json.Compact(&b, data); err != nil {
			return nil, err
		}
		data = b.Bytes()
	}
	if len(data) == 0 || data[0] != '{' {
		return nil, fmt.Errorf("no JSON object: %.80q", data)
	}
	return data, nil
}

// snapshotEvent tells all that is known of an agent; id says where its log continues.
func snapshotEvent(id Cursor, view *store.AgentView, ccpURL string, now time.Time) *sse.Event {
	e := failover.Event{
		Type:         failover.EventSnapshot,
		AgentID:      view.AgentID,
		FailoverID:   view.FailoverID,
		Time:         now,
		ActiveRegion: view.ActiveRegion,
		ActiveCCPURL: ccpURL,
		State:        view.State,
		NextRegion:   view.NextActiveRegion,
		ContactIDs:   view.ContactIDs,
		Reason:       view.PauseReason,
		Until:        view.PausedUntil,
		Errors:       view.Errors,
	}
	return newEvent(id, names[string(failover.EventSnapshot)], e.AppendData(make([]byte, 0, 256)))
}

// resetEvent says that what came before this frame does not count any more. A snapshot follows.
func resetEvent(logID string, at store.Position, agentID, reason string, now time.Time) *sse.Event {
	return newEvent(nowhere(logID, at), names[eventReset], noticeData(agentID, reason, now))
}

// drainingEvent announces the end of the connection. Its id is that of what was told last, so that nothing is lost or
// repeated; retry is when to come back, 0 leaves that to what the connection was told first.
func drainingEvent(id Cursor, agentID, reason string, retry time.Duration, now time.Time) *sse.Event {
	e := newEvent(id, names[eventDraining], noticeData(agentID, reason, now))
	if retry > 0 {
		e.Retry = strconv.AppendInt(nil, retry.Milliseconds(), 10)
	}
	return e
}

// noticeData is the data of reset and draining. On the stream of all agents there is no agent to name: null.
func noticeData(agentID, reason string, now time.Time) []byte {
	notice := struct {
		AgentID *string `json:"agentId"`
		Time    string  `json:"time"`
		Reason  string  `json:"reason"`
	}{Time: failover.FormatTime(now), Reason: reason}
	if agentID != "" {
		notice.AgentID = &agentID
	}
	data, err := json.Marshal(notice)
	if err != nil { // strings marshal
		panic(err)
	}
	return data
}
