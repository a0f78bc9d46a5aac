package main

import (
	"context"
	"log/slog"
	"os"

	"changeover/internal/app"
)

type audit struct {
	Verify verifyAudit `cmd:"" help:"Compute the chain of hashes again, print a table. Note its head where the database's owner cannot write."`
}

type verifyAudit struct {
	file
	Anchor []string `help:"A head that was noted earlier and has to be in the chain." placeholder:"NUMBER:HASH"`
}

func (v verifyAudit) Run(ctx context.Context, log *slog.Logger) error {
	c, err := v.load()
	if err != nil {
		return err
	}
	return app.VerifyAudit(ctx, c, v.Anchor, log, os.Stdout)
}
