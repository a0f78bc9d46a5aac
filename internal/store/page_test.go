package store

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A cursor comes from a client: whatever it holds is refused or is a cursor that the list could have made.
func FuzzCursor(f *testing.F) {
	f.Add(cursor("failovers", "1764000000000000", "0199a1c2-0000-7000-8000-000000000000"))
	f.Add(cursor("agents", "agent"))
	f.Add("")
	f.Add("WyJmYWlsb3ZlcnMiLCJ4IiwieSJd")
	f.Fuzz(func(t *testing.T, c string) {
		keys, err := Page{Cursor: c}.keys("failovers", 2)
		if err != nil {
			require.ErrorIs(t, err, ErrBadCursor)
			require.Nil(t, keys)
			return
		}
		if c == "" {
			require.Nil(t, keys)
			return
		}
		require.Len(t, keys, 2)
		again, err := Page{Cursor: cursor("failovers", keys...)}.keys("failovers", 2)
		require.NoError(t, err)
		require.Equal(t, keys, again)
	})
}

func TestWithoutNUL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"a"`:               `"a"`,
		`"\u0000"`:          `""`,
		`"a\u0000\u0000b"`:  `"ab"`,
		`"\\u0000"`:         `"\\u0000"`,
		`"\\\u0000"`:        `"\\"`,
		`"\\\\u0000\u0000"`: `"\\\\u0000"`,
		`"\n\u0001\u0000"`:  `"\n\u0001"`,
	} {
		require.Equal(t, want, string(withoutNUL([]byte(in))), in)
	}
}

func TestLatestSchema(t *testing.T) {
	t.Parallel()
	version, err := latestSchema()
	require.NoError(t, err)
	require.Positive(t, version)
}
