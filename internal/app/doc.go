// Package app owns the process: it makes every part from a configuration, starts and stops them, and checks a configuration
// against the world.
//
// [New] makes all parts and starts nothing but the embedded PostgreSQL; [App.Start] listens and begins to work; [App.Stop]
// undoes everything in reverse, each step bounded in time:
//
//  1. /readyz answers 503, so that no new clients are sent here
//  2. the streams are closed, spread over stream.drain, each with a draining event
//  3. the listeners are closed, and connections on which nothing was asked; requests under way have a few seconds
//  4. the leader stops, and releases its lease for another replica
//  5. the log's tail, the connections to Amazon Connect, to PostgreSQL and the embedded PostgreSQL end
//
// What the network sees is in front.go: http.listen with every limit of package edge, over TLS where there is a certificate, and
// http.metricsListen, which is plain HTTP.
//
// There is no global state: several Apps live in one process, each with its own registry of metrics. A database that is away
// at the start is waited for, with /readyz at 503, because an orchestrator of containers starts everything at once.
package app
