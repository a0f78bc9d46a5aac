// Package agents reads who the agents of a failover group are, in which Region each of them is, and which contacts they have. It
// decides nothing: what it reads becomes observations of the core, and what has to be read next it is told
// ([Reader.SetWork]).
//
// # What is read
//
//	drain    GetCurrentUserData by agent id, or filtered to agents with contacts    agents with an open failover
//	sweep    GetCurrentUserData by routing profile                                  everybody who is signed in
//	users    ListUsers, a thousand a page                                           names; who is an agent at all
//	members  ListTrafficDistributionGroupUsers, ten a page                          which group each agent belongs to
//	lookups  DescribeContact                                                        the Region of a contact (R20)
//
// Contacts reads share one quota per Region, 2 a second by default, in which the client lets the drain go before the
// sweep. Everything else has quotas of its own.
//
// # At a detection
//
// Agents whose failover was detected and who have not been read since are read at once (R6): "no contacts" counts only from
// a read that began after the detection. With 10,000 of them and 1.2 calls a second it matters who comes first. The file plan.go
// weighs the ways: by id, by chunks of routing profiles filtered to agents with contacts, or a mixture; the one with the
// least waiting in sum is taken, and within it the reads that release most people per call go first. Each chunk is emitted as
// soon as it is complete. A chunk settles those who had no contacts when last seen, and those whom it shows. Who was on contact and is not
// shown may have changed routing profile: the completion of the pass over all profiles settles them, or a read by id.
// Agents who are detected in the midst of this are read by what begins after their detection.
//
// After that they are read by id each drain interval, oldest read first. If that is more than the quota allows, they
// take turns, and every sixth call is left to the sweep.
//
// # The sweep
//
// Each Region by itself reads all its routing profiles once per agent interval, or as often as the quota allows, in
// chunks that show about a page of agents. Its calls are spread over the interval, a little slower than the quota, so
// that the burst is there for a detection. With global routing both Regions show the same, and they take turns.
//
// # Failures
//
// A page that fails leaves its chunk incomplete (R13): its pages say what they show, the completion is not emitted, and the
// chunk is read again from its beginning. Timeouts, broken connections and 5xx are emitted as unavailability (R9);
// throttled, denied and malformed answers are logged, once until they change, and are visible in the client's health. An agent or a
// routing profile that is refused is isolated, so that it holds up no other, and nothing is concluded about it. The last good list
// of routing profiles is used until there is a newer one.
//
// Listing members is resumed where the last leader stopped: page token and pass number travel through the core's state. A
// token belongs to the Region that gave it and is stored with its name; one that is refused begins the pass anew. Members are
// asked for in the source Region, and in the other one when the source has not answered for two minutes.
//
// # Concurrency
//
// Regions share nothing: each has goroutines of its own, and one that is dead or hangs delays only itself. Nothing piles up: every
// goroutine has at most one call under way, and emit may make it wait. Where the rate has been raised so far that the
// latency of answers would limit it, several goroutines read contacts at once. [Reader.Run] returns when all are gone.
package agents
