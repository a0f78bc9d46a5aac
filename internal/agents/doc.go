// Package agents reads who the agents of a failover group are, in which Region each is present, and which contacts
// they have. It decides nothing: what it reads it emits as observations of the core.
package agents
