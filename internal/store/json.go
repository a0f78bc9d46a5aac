package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// text makes a string storable. PostgreSQL refuses the character NUL and what is not UTF-8, and names, messages and ids come from
// elsewhere: one of them must not keep a leader from committing for ever.
func text(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
}

// object is the JSON of a value of ours for a jsonb column, which refuses the character NUL as well.
func object(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return withoutNUL(b), nil
}

var escapedNUL = []byte(`\u0000`)

func withoutNUL(b []byte) []byte {
	if !bytes.Contains(b, escapedNUL) {
		return b
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] != '\\':
			out = append(out, b[i])
		case bytes.HasPrefix(b[i:], escapedNUL):
			i += len(escapedNUL) - 1
		default: // an escape of another character: the next byte belongs to it, also if it is a backslash
			out = append(out, b[i], b[i+1])
			i++
		}
	}
	return out
}

// micros is a time as the database keeps it.
func micros(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// timestamp is a time for a column, null for the zero time.
func timestamp(t time.Time) pgtype.Timestamptz {
	return pgtype.Timestamptz{Time: micros(t), Valid: !t.IsZero()}
}
