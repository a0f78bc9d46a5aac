// Package migrations holds the database's schema as a sequence of SQL migrations for goose, embedded into the program.
// store.Migrate applies them, under a lock, so that replicas that start together do not disturb one another.
//
// # Rules for a new migration
//
// During a rolling update two versions of the program work on one database, in either order of program and schema:
// the first new replica migrates while old ones still serve, or, with database.migrate: false, new programs start before
// somebody migrates. So:
//
//   - A migration is never changed once it is released. What it did is put right by the next one.
//   - The running version must work on the new schema: a migration adds tables, adds columns that are nullable or have
//     a default, adds indexes and functions. It renames and removes nothing that the version before it reads or writes;
//     that is done one release later.
//   - The new version must work on the schema one migration older: it reads a new column only where store.SchemaVersion says
//     that it is there, or one release later. store.CheckSchema refuses a schema that is older still.
//   - New members of a jsonb column have a usable zero value, unknown ones are ignored, and none changes its meaning.
//   - A migration that does take away what older programs need, one release after the last that needed it, sets schema_programs.oldest to the
//     version of the schema that a program has to know. store.CheckSchema refuses to work with one that is too new.
//   - There is no way down: an older program works on the newer schema, so there is no need for one.
//   - A migration takes no lock for long: it runs while commits do. Large tables are filled in batches by the program,
//     indexes on them are made CONCURRENTLY (with NO TRANSACTION). A lock that others wait behind has a lock_timeout. With
//     NO TRANSACTION every statement can run again.
//   - A SECURITY DEFINER function has a search_path with pg_temp at its end: without that its caller's temporary tables, and the
//     triggers on them, come first.
package migrations
