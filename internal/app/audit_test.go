package app

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"changeover/internal/config"
	"changeover/internal/logtest"
	"changeover/internal/postgres/postgrestest"
	"changeover/internal/store"
)

func TestVerifyAudit(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Database.URL = config.Secret(postgrestest.NewDatabase(t))
	s, err := store.Open(t.Context(), store.Options{URL: string(c.Database.URL)})
	require.NoError(t, err)
	defer s.Close()
	for range 3 {
		require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "operator", Action: "forceFailover"}))
	}
	verify := func(anchors ...string) (string, error) {
		var out bytes.Buffer
		err := VerifyAudit(t.Context(), c, anchors, logtest.New(nil), &out)
		return out.String(), err
	}
	out, err := verify()
	require.NoError(t, err)
	require.Regexp(t, `^CHECK +RESULT +DETAIL\nentries +ok +3, of them 0 from before the chain\nchain +ok .*\nanchors +ok +0 anchors found in it\nhead +ok +3:[0-9a-f]{64}\n$`, out)
	head := regexp.MustCompile(`3:[0-9a-f]{64}`).FindString(out)
	require.NoError(t, s.AppendAudit(t.Context(), store.AuditEntry{Subject: "later"}))
	out, err = verify(head)
	require.NoError(t, err)
	require.Contains(t, out, "1 anchor found")

	conn, err := pgx.Connect(t.Context(), string(c.Database.URL))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `SET session_replication_role = replica; UPDATE audit SET subject = 'nobody' WHERE audit_id = 2`)
	require.NoError(t, err)
	out, err = verify()
	require.ErrorIs(t, err, ErrCheck)
	require.Regexp(t, `\nentry 2 +FAULT +does not follow from the entry before it`, out)
	require.NotContains(t, out, "head", "nobody should note this one")

	_, err = verify("3:abc")
	require.ErrorContains(t, err, "anchor")
	c.Database.URL = config.Secret(postgrestest.NewEmptyDatabase(t))
	_, err = verify()
	require.ErrorIs(t, err, store.ErrOldSchema)
	require.ErrorContains(t, err, "server migrate")
}
