// Package postgres runs a private PostgreSQL from the binaries that a machine has: for database.url "embedded", for the demo and
// for tests. It owns one folder, and everything that lives in it:
//
//	lock          held by the program that runs the server; a second program is refused, with the first one's process id
//	data          the cluster, made by initdb
//	run           the Unix socket; there is no TCP port, and nobody but the owner reaches it
//	postgres.log  what the server says
//
// PostgreSQL refuses to run as root; for root everything in the folder belongs to the user postgres, or nobody, and the folder
// must be one that this user can reach.
//
// # Life and death
//
// A small shell process is the server's parent. It holds one end of a pipe whose other end only this program has: when the
// program ends, however it ends, the shell stops the server. What a kill -9 leaves behind is a server that is stopping; [Start]
// waits for it. When the server dies alone it is started again.
//
// A Server may be used by many goroutines. It has one goroutine of its own, which ends in Stop.
package postgres
