package stream

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"changeover/internal/store"
)

// Cursor names a position in one event log. On the wire it is `<log id>-<epoch>-<seq>`, opaque to clients: the id of
// the event at that position, and what a client gives back to be told everything after it.
//
// The epoch is the term of the leader that wrote the event. It makes a cursor of events that Postgres lost in an
// asynchronous failover tell itself from one of the events that took their numbers.
type Cursor struct {
	LogID string
	Epoch int64
	Seq   int64
}

// ErrMalformed is the error of [ParseCursor].
var ErrMalformed = errors.New("malformed cursor")

const (
	maxLogID  = 64
	maxCursor = maxLogID + 2*(1+19) // two dashes and two int64
)

// ParseCursor reads the wire form. It accepts exactly what [Cursor.String] writes; anything else is [ErrMalformed].
func ParseCursor(s string) (Cursor, error) {
	if len(s) > maxCursor {
		return Cursor{}, fmt.Errorf("%w: %d bytes, at most %d expected", ErrMalformed, len(s), maxCursor)
	}
	rest, seq, ok := cutNumber(s)
	if !ok {
		return Cursor{}, fmt.Errorf("%w: %q does not end in -<seq>", ErrMalformed, s)
	}
	logID, epoch, ok := cutNumber(rest)
	if !ok {
		return Cursor{}, fmt.Errorf("%w: %q has no epoch", ErrMalformed, s)
	}
	if !validLogID(logID) {
		return Cursor{}, fmt.Errorf("%w: %q has no log id", ErrMalformed, s)
	}
	return Cursor{LogID: logID, Epoch: epoch, Seq: seq}, nil
}

// cutNumber splits s at its last dash and reads the number behind it, which must be in its only decimal form.
func cutNumber(s string) (rest string, n int64, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i < 0 {
		return "", 0, false
	}
	digits := s[i+1:]
	if digits == "" || (len(digits) > 1 && digits[0] == '0') {
		return "", 0, false
	}
	for _, d := range []byte(digits) {
		if d < '0' || d > '9' {
			return "", 0, false
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return s[:i], n, err == nil
}

// validLogID says whether a log id may stand in a frame and in a header: it can hold no line break, no space and
// nothing else that means something there.
func validLogID(id string) bool {
	if id == "" || len(id) > maxLogID {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// String returns the wire form.
func (c Cursor) String() string { return string(c.append(make([]byte, 0, maxCursor))) }

func (c Cursor) append(b []byte) []byte {
	b = append(b, c.LogID...)
	b = append(b, '-')
	b = strconv.AppendInt(b, c.Epoch, 10)
	b = append(b, '-')
	return strconv.AppendInt(b, c.Seq, 10)
}

func (c Cursor) position() store.Position { return store.Position{Epoch: c.Epoch, Seq: c.Seq} }

// nowhere is a well-formed cursor that is in no log (no event was written in epoch 0), so whoever resumes from it is
// reset. It is the id of frames that must not be taken as told in full: a reset whose snapshot has not come yet.
func nowhere(logID string, at store.Position) Cursor {
	if logID == "" { // before the first load
		logID = "none"
	}
	return Cursor{LogID: logID, Epoch: 0, Seq: max(at.Seq, 1)}
}
