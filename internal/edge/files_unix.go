//go:build unix

package edge

import (
	"math"
	"syscall"
)

// maxOpenFiles is how many files and sockets the process may have open (the Go runtime raises the soft limit to the hard one);
// 0: not known, or no limit.
func maxOpenFiles() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}
