// Package failover decides. It is the core of Changeover: a pure function from what is known and what was
// observed to what is known now and what has to be told.
//
//	state + observation + now  --Step-->  state + effects
//
// It reads no clock, opens no socket, writes no log and starts no goroutine: the same state and the same
// observations give the same effects, so every rule of docs/rules.md (R1 to R20) is a readable scenario in testdata
// and an invariant in the property tests.
//
// # Contract with the caller
//
// One goroutine owns a [State] (there are no locks). It feeds observations to [State.Step] in the order in which
// they were made, and commits the returned [Effects] in one transaction per agent, before anybody hears of them. When a commit
// fails, the State is ahead of the database and must be thrown away: load it again and feed [Started].
//
// Rules are level-triggered: whatever was missed while nobody was watching is found by the next observation.
//
// # Two regions per agent
//
// The target is where Amazon Connect wants the agent, the active region is where the agent works; a failover is the
// way from one to the other. No public Amazon Connect API tells an agent's active region on demand, so both carry
// their source and time, and every completion its evidence.
package failover
