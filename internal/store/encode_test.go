package store

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"changeover/internal/failover"
)

// What is written without reflection is what encoding/json writes.
func TestMemoriesAreEncodedAsJSON(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 9, 0, 0, 120_000_000, time.UTC)
	e := &encoder{}
	var got, want []string
	for _, lists := range [][]failover.ContactList{
		nil, {{Region: "us-east-1", ReadAt: at, Present: true, SeenAt: at}},
		{{Region: "", ReadAt: at, Offline: true}, {Region: "us-west-2"}}, {{Region: `a"\b`, ReadAt: at}},
	} {
		for _, m := range []agentMemory{
			{}, {SeenPass: 7}, {SeenPass: -1, PresenceRegion: "us-east-1", PresenceCount: 2}, {Aliases: map[string]string{"us-west-2": "b"}},
			{NoTDGSince: at}, {Desktop: failover.Desktop{At: at}},
		} {
			m.Lists = lists
			got = append(got, string(e.agentMemory(&m)))
			b, err := json.Marshal(m)
			require.NoError(t, err)
			want = append(want, string(b))
		}
	}
	for _, m := range []failoverMemory{
		{}, {SignedIn: true}, {LastOldAt: at, SignedIn: true}, {ClearedAt: at, EvidenceAt: at.Add(time.Microsecond)}, {ForceAt: at},
	} {
		got = append(got, string(e.failoverMemory(&m)))
		b, err := json.Marshal(m)
		require.NoError(t, err)
		want = append(want, string(b))
	}
	require.NoError(t, e.err)
	require.Equal(t, want, got, "also after the values behind them")
}
