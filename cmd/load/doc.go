//go:build linux

// Command load measures a shift of a whole floor: the service's own program, a private PostgreSQL with its usual settings, the
// simulated Amazon Connect and the desktops, each in processes of their own, on one machine. `make load` builds and runs it.
//
//	sequence   PostgreSQL, simulator, contacts, service ─► everybody is known ─► a stream per agent ─► idle ─► shift ─► floor
//
// Times count from the poll that saw the new distribution: the later of the two Regions' last GetTrafficDistribution before the first
// event was delivered, as the simulator got it. A contacts read counts from when the simulator got the first one after that
// which showed the agent with a contact. Deliveries are when a desktop's process read the frame from its socket.
//
// The floor is what the machine can do at best with the same data, right afterwards: the rows that the shift wrote, by COPY into empty tables
// without indexes, and then the frames of the same events, written to as many sockets by processes that do nothing else, read by
// the same desktops.
//
// A process may open only so many files; where the limit is lower than the number of agents, the service runs as several replicas,
// and desktops and floor as several processes. Memory and CPU of a component are those of all its processes.
package main
