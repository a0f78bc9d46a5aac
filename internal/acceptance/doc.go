// Package acceptance holds Changeover to its promises, over several rooms at once. It has no code of its own, only tests:
//
//   - in virtual time (testing/synctest): the simulated Amazon Connect, the real clients, both readers, the leader and the core; only the
//     database is in memory, and it checks the contract of each commit. Every fault, every operation, every Region and both
//     routings; Regions that go down in the middle of a shift and come back with yesterday's distribution; Amazon's default quotas
//     with ten thousand agents; a leader that dies in the middle of its commits.
//   - in processes: the program itself, a real PostgreSQL, the simulator on a port, desktops that resume their streams, and kill -9
//     at moments that a seed chooses.
//   - a herd of desktops with tickets and cursors, and what the database is asked for it; make herd has 20,000 of them.
//   - benchmarks: what idle streams cost the whole program in memory, and in processor time while nothing happens.
//
// What one room promises by itself is tested there.
package acceptance
