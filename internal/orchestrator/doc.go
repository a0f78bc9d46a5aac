// Package orchestrator leads: it holds the lease, keeps all agents in memory, feeds what is observed to the core, and
// commits what the core decides.
package orchestrator
