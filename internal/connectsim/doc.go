// Package connectsim simulates the part of Amazon Connect that Changeover reads and an administrator shifts: two linked
// instances in two Regions, their traffic distribution groups, and a floor of agents who take calls, chats and tasks.
// It speaks Amazon Connect's wire protocol (restJson1, both Regions on one port, the Region from the scope of the
// signature), so that real SDKs, the AWS CLI and Changeover itself use it as they use the real service.
//
// # What it keeps to
//
// Ids or ARNs, where a bare group id only resolves in the Region that made the group; page limits; a token bucket per
// Region and operation with the exact 429; percentages in steps of 10 that add up to 100; sign-in on the default group
// alone; refusal of reads and updates while a group is UPDATE_IN_PROGRESS; the lag with which the other Region sees
// a change; regional and global views of GetCurrentUserData; contacts that stay in the list as ENDED until they are
// cleared; agents who change Region when no voice or chat contact holds them. Every answer is checked against
// Amazon's Smithy model in the tests. Where the behaviour of the real service is not documented, the comment at the
// place says what was chosen.
//
// [Sim.CCP] serves each Region's Contact Control Panel, a page that answers amazon-connect-streams as Amazon's does, so that the
// unmodified library and real desktops run against the simulated floor.
//
// # Time and concurrency
//
// Everything that happens is an event in one heap; the state is a function of the configuration, the calls made and
// the time, which comes from the time package alone, so that a simulator made inside a testing/synctest bubble lives on
// the bubble's clock. One mutex guards the state; nothing waits while holding it. There is no goroutine but those of
// the callers: [Sim.Run] only keeps the floor up to date while nobody asks.
//
// # What it is not
//
// Signatures are not verified, nothing is stored, media and contact flows do not exist. A Region that is down
// ([Sim.SetRegionDown]) has lost its API, not its floor.
package connectsim
