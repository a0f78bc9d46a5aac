package store

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
)

const (
	noLimit = math.MaxInt64
	maxRows = math.MaxInt32

	defaultPage = 100
	largestPage = 1000
)

// Page asks for a part of a list.
type Page struct {
	Limit  int    // 1 to 1000; 0: 100
	Cursor string // that the page before gave; empty: the first page
}

func (p Page) limit() int {
	if p.Limit <= 0 {
		return defaultPage
	}
	return min(p.Limit, largestPage)
}

// keys returns the keys of the last row of the page before, nil for the first page. A cursor belongs to one list.
func (p Page) keys(list string, n int) ([]string, error) {
	if p.Cursor == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil {
		return nil, ErrBadCursor
	}
	var parts []string
	if json.Unmarshal(b, &parts) != nil || len(parts) != n+1 || parts[0] != list ||
		slices.ContainsFunc(parts, func(s string) bool { return s != text(s) }) {
		return nil, ErrBadCursor
	}
	return parts[1:], nil
}

func cursor(list string, keys ...string) string {
	b, err := json.Marshal(append([]string{list}, keys...))
	if err != nil { // strings always marshal
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// cut takes the row off that was read to see whether there are more, and makes the cursor of the next page.
func cut[T any](rows []T, limit int, next func(last *T) string) ([]T, string) {
	if len(rows) <= limit {
		return rows, ""
	}
	rows = rows[:limit]
	return rows, next(&rows[limit-1])
}

func rowLimit(n int) int32 { return int32(max(0, min(n, maxRows))) }
