package migrations

import "embed"

// FS holds the migrations, in the form and order that goose applies them.
//
//go:embed *.sql
var FS embed.FS
