// Package config owns the configuration: the file, the environment over it, the defaults and every rule that a value has to keep.
//
// Loading is strict and complete: an unknown key, a value of another type or one out of range is a [Fault] that names
// its key path, where it stands and what is expected, and all faults are reported at once, so that one start is enough to
// repair a file. A [Config] that [Load] returned is valid; nobody checks it again.
//
// The structs below are the reference: docs/configuration.md is generated from their comments and from [Default], and a test
// fails when it is stale. The package has no state and is safe for concurrent use.
package config
