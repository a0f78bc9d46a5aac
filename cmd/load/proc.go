//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of CPU time in /proc: USER_HZ, 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// stat are the fields of /proc/PID/stat from the state on (field 3 of proc(5)).
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:])), nil
}

// machine is the CPU time that everything on the machine used, and what its host took from it.
func machine() (used, stolen time.Duration) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, text := range strings.Fields(line)[1:] {
		n, _ := strconv.ParseInt(text, 10, 64)
		switch i {
		case 3, 4: // idle, waiting for a disk
		case 7:
			stolen = time.Duration(n) * tick
		case 0, 1, 2, 5, 6:
			used += time.Duration(n) * tick
		}
	}
	return used, stolen
}

func parent(pid int) (int, error) {
	f, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(f[1])
}

// cpu is the CPU time of a process, of its children that have ended and, with tree, of those that live.
func cpu(pid int, tree bool) (time.Duration, error) {
	f, err := stat(pid)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, i := range []int{11, 12, 13, 14} { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		sum += time.Duration(n) * tick
	}
	if tree {
		for _, child := range children(pid) {
			if d, err := cpu(child, false); err == nil { // else it has just ended and is counted in its parent
				sum += d
			}
		}
	}
	return sum, nil
}

func children(pid int) []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		if p, err := parent(child); err == nil && p == pid {
			pids = append(pids, child)
		}
	}
	return pids
}

// kib reads a field of a file of /proc/PID that is told in KiB, in bytes.
func kib(pid int, file, field string) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), field+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/%s has no %s", pid, file, field)
}

// component is one of the things that run, in one process or several.
type component struct {
	pids []int
	tree bool // the processes' children belong to it and share its memory: PostgreSQL
}

func (c *component) cpu() (sum time.Duration) {
	for _, pid := range c.pids {
		if d, err := cpu(pid, c.tree); err == nil {
			sum += d
		}
	}
	return sum
}

// resident is the resident memory; of processes that share some, each page once.
func (c *component) resident() (sum int64) {
	for _, pid := range c.pids {
		if !c.tree {
			n, _ := kib(pid, "status", "VmRSS")
			sum += n
			continue
		}
		for _, p := range append(children(pid), pid) {
			n, _ := kib(p, "smaps_rollup", "Pss")
			sum += n
		}
	}
	return sum
}

// peak is the most memory that was ever resident.
func (c *component) peak() (sum int64) {
	for _, pid := range c.pids {
		n, _ := kib(pid, "status", "VmHWM")
		sum += n
	}
	return sum
}

// reserved are the open files of a process that are no streams.
const reserved = 1000

// streamsPerProcess is how many streams a process may have under the limit of open files, which is raised as far as it may be.
func streamsPerProcess() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	const wanted = 1 << 20
	for _, hard := range []uint64{max(l.Max, wanted), l.Max} { // only root may raise the hard limit
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: hard, Max: hard}); err == nil {
			l.Max = hard
			break
		}
	}
	if l.Max < 2*reserved {
		return 0, fmt.Errorf("a process may open %d files (ulimit -Hn), at least %d expected", l.Max, 2*reserved)
	}
	return int(l.Max) - reserved, nil
}
