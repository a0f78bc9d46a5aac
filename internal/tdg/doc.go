// Package tdg reads the traffic distribution groups of a failover group from both of its Regions. It only reads and
// times: which distribution is true is decided by the core, with rule R14.
//
// # What it emits
//
//   - [failover.DistributionRound]: what the Regions answered to GetTrafficDistribution of one group. A round ends when both
//     have answered, and at the latest one second after its tick: a Region that is silent by then has no vote. Its answer, when it
//     comes, makes a second round together with what the other Region said last.
//   - [failover.TDGsListed]: the groups of the instance, at the start and every minute. A group is listed if any Region lists
//     it, and only complete lists count. While a Region does not answer, nothing is missing: a group cannot be
//     deleted then, because that takes the source Region, so a list without it shows the outage and no deletion.
//   - [failover.SetupObserved]: access denied, or a group not found, when every Region that answers says so. Silence,
//     throttling, 5xx and malformed answers are no evidence, neither of an error nor of its repair. ACCESS_DENIED of a failover
//     group (its list) and of a traffic distribution group (its distribution) is told and repaired by this package alone.
//
// # Timing
//
//	tick        first answer      both answered
//	 │──────────────│───────────────────│                    one round with both
//	 │──────────────│──────────────── 1 s │ · · · · │        a round with the first, then one with both
//	 │······ 1 s ······· first answer ───── 1 s │            both late (our own request rate): the same again
//
// Reads of one group are made in both Regions at the same moment, and of different groups one after the other, spread so
// that neither a group nor a Region ever waits for the request rate. Where there are too many groups for it (more than
// twelve at the default of 1.2 requests a second and 10 s), the interval is stretched.
//
// # Concurrency and failure
//
// In each Region at most one request for a group is under way: one that hangs is not piled up upon, and holds up neither the other
// Region nor other groups. Errors change nothing; the last good values are the core's to keep. A group is read until it is
// neither listed nor found any more, so one odd list stops nothing. [Reader.Run] returns when all its goroutines have ended.
package tdg
