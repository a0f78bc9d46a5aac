// Package resilience holds Changeover to what it promises when replicas and PostgreSQL fail. It has no code of its own, only tests:
// the program itself in several processes, real PostgreSQL servers, the simulated Amazon Connect on a port, and desktops that follow
// their streams from replica to replica.
//
// Whatever a test breaks, in the end every desktop has heard what the log has after its first cursor, all of it, once and in order;
// the log has no gap and its epochs only rise; each failover has one end; and everybody is known to work where the floor has them.
package resilience
