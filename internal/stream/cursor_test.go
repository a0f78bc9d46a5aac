package stream

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"changeover/internal/store"
)

func TestParseCursor(t *testing.T) {
	for _, c := range []Cursor{
		{"4f3c2b1a0d9e", 1_770_000_000_000, 42},
		{"4f3c2b1a0d9e", 0, 0},
		{"a-b-7", 1, 2}, // a log id may hold dashes and numbers
		{strings.Repeat("x", maxLogID), math.MaxInt64, math.MaxInt64},
	} {
		parsed, err := ParseCursor(c.String())
		require.NoError(t, err, c.String())
		require.Equal(t, c, parsed)
	}
	for name, s := range map[string]string{
		"empty":               "",
		"number":              "42",
		"no log id":           "1-2",
		"empty log id":        "-1-2",
		"no seq":              "log-1-",
		"no epoch":            "log--1",
		"negative seq":        "log-1--2",
		"sign":                "log-1-+2",
		"leading zero":        "log-01-2",
		"hexadecimal":         "log-1-0x2",
		"too large":           "log-1-9223372036854775808",
		"space":               "log-1-2 ",
		"line break":          "log-1-2\n",
		"line break in it":    "l\nog-1-2",
		"carriage return":     "l\rog-1-2",
		"not ASCII":           "lög-1-2",
		"digits of elsewhere": "log-1-٢",
		"NUL":                 "log\x00-1-2",
		"quote":               `log"-1-2`,
		"too long":            strings.Repeat("x", maxLogID+1) + "-1-2",
		"far too long":        strings.Repeat("x", 1<<20),
	} {
		_, err := ParseCursor(s)
		require.ErrorIs(t, err, ErrMalformed, name)
	}
}

func TestNowhereIsInNoLog(t *testing.T) {
	for _, at := range []store.Position{{}, {Epoch: 7, Seq: 1}, {Epoch: 7, Seq: 9}} {
		state := store.LogState{LogID: "log", Head: at, OldestSeq: 1}
		if at.Seq > 0 {
			state.Terms = []store.Term{{Epoch: 7, FirstSeq: 1}}
		}
		c, err := ParseCursor(nowhere("log", at).String())
		require.NoError(t, err)
		v := newMemory(state, nil, at, 1).check(c)
		require.True(t, v.reset == resetUnknown || v.ahead, "%v: %+v", at, v)
	}
}

// FuzzParseCursor: a client sends what it likes. What is accepted is exactly what is written, so a cursor that was parsed
// can go into a header or a frame.
func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{"", "log-1-2", "4f3c2b1a0d9e-1770000000000-42", "a-b-7-1-2", "log-01-2", "log-1-2\nid: x", "-1-2", "log-1--2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCursor(s)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.Equal(t, s, c.String())
		require.NotContains(t, s, "\n")
		require.NotContains(t, s, "\r")
		require.GreaterOrEqual(t, c.Seq, int64(0))
		require.GreaterOrEqual(t, c.Epoch, int64(0))
	})
}
