package contract

import (
	"bytes"
	"encoding/json"
)

// Optional is a member of a JSON object for which missing and null say different things.
type Optional[T any] struct {
	Set   bool // it was there
	Value *T   // nil: it was null
}

// MarshalJSON writes the value or null; a field that is not set is left out by its tag, omitzero.
func (o Optional[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.Value) }

// UnmarshalJSON is called only for a member that is there, null included.
func (o *Optional[T]) UnmarshalJSON(b []byte) error {
	o.Set, o.Value = true, nil
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	o.Value = new(T)
	return json.Unmarshal(b, o.Value)
}

// LoggedEvent is an event of the log as JSON history shows it: the id, name and data of the stream's frame.
type LoggedEvent struct {
	ID    string          `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}
