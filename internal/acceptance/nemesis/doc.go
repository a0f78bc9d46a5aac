// Package nemesis tries to make Changeover break its promises. It has no code of its own, only tests:
//
//   - the nemesis: random sequences, each made from a seed, of everything that goes wrong at once. Shifts, whole, split, back and
//     in quick succession; calls, chats and after-contact work; users hired and removed; every fault of Amazon Connect; replicas killed,
//     frozen and restarted; PostgreSQL cut off, silent and restarted; desktops that come back elsewhere, report, and force with retries. Most
//     sequences begin with a set piece, in which things meet that chance hardly ever brings together: see scene. Three replicas of
//     the program itself run against a real PostgreSQL and the simulated Amazon Connect. Then everything is
//     mended and comes to rest, clients come that read all of it again from every replica, and a checker looks at what is left: see check.
//   - the soak: those sequences for as long as one likes, and beside them one service that is never made anew, whose memory,
//     goroutines and open files must not grow.
//   - two stacks, one in each Region, of which one is lost.
//
// The checker shares no code with what it checks. It was written from docs/rules.md alone, takes plain data, and has tests of
// its own that doctor a good record in every way that it has to notice.
package nemesis
