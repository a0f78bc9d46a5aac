package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"changeover/internal/config"
	"changeover/internal/store"
)

// VerifyAudit computes the audit's chain of hashes again, compares it with the anchors that earlier runs printed as its head, and
// prints a table of what it found. It returns ErrCheck if something is wrong. The embedded database is started for it.
func VerifyAudit(ctx context.Context, c *config.Config, anchors []string, log *slog.Logger, out io.Writer) error {
	heads := make([]store.AuditHead, len(anchors))
	for i, s := range anchors {
		var err error
		if heads[i], err = store.ParseAuditHead(s); err != nil {
			return fmt.Errorf("anchor: %w", err)
		}
	}
	a := &App{config: c, log: log, life: lifecycle{log: log}}
	url, err := a.database(ctx)
	if err == nil {
		err = verifyAudit(ctx, url, heads, log, out)
	}
	return errors.Join(err, a.life.stop(context.WithoutCancel(ctx)))
}

func verifyAudit(ctx context.Context, url string, anchors []store.AuditHead, log *slog.Logger, out io.Writer) error {
	s, err := store.Open(ctx, store.Options{URL: url, MaxConns: 1, Log: log})
	if err != nil {
		return fmt.Errorf("database.url: %w", err)
	}
	defer s.Close()
	report, err := s.VerifyAudit(ctx, anchors...)
	if err != nil {
		return err
	}
	t := &table{w: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t.w, "CHECK\tRESULT\tDETAIL")
	t.row("entries", fmt.Sprintf("%d, of them %d from before the chain", report.Entries, report.Old), nil)
	if report.Pruned > 0 {
		t.row("removed for their age", fmt.Sprintf("entries up to %d", report.Pruned), nil)
	}
	for _, f := range report.Faults {
		t.row(fmt.Sprintf("entry %d", f.ID), "", func() (string, error) { return "", errors.New(f.Problem) })
	}
	if more := report.Bad - int64(len(report.Faults)); more > 0 {
		t.row("more", "", func() (string, error) { return "", fmt.Errorf("something is wrong at %d further places", more) })
	}
	if report.Bad == 0 {
		t.row("chain", "every entry follows from the one before it", nil)
		t.row("anchors", plural(len(anchors), "anchor")+" found in it", nil)
	}
	if report.Bad == 0 && report.Head.ID > 0 { // of a chain with faults nobody should make an anchor
		t.row("head", report.Head.String(), nil)
	}
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	if t.faults > 0 {
		return ErrCheck
	}
	return nil
}
