package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// nurse is the server's parent. It stops the server when descriptor 3 comes to its end, which it does when the program that has the other
// end closes it or is gone. $1 is the folder to remove at last, or empty; the rest is the server's command line.
const nurse = `
remove=$1; shift
"$@" 3<&- &
server=$!
(read -r _ <&3; kill -INT $server) 2>/dev/null &
watch=$!
wait $server
status=$?
kill $watch 2>/dev/null
[ -z "$remove" ] || rm -rf "$remove"
exit $status`

// process is one life of the server.
type process struct {
	cmd  *exec.Cmd
	pipe *os.File // closing it stops the server
	pid  func() int
	done chan struct{} // closed when it is gone
	err  error         // valid then
}

// launch starts the server and returns when it answers.
func (s *Server) launch(ctx context.Context) (*process, error) {
	for deadline := time.Now().Add(10 * time.Second); ; {
		p, retry, err := s.launchOnce(ctx)
		if err == nil {
			return p, nil
		}
		if !retry || time.Now().After(deadline) {
			return nil, err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (s *Server) launchOnce(ctx context.Context) (_ *process, retry bool, err error) {
	if err := s.endOrphan(ctx); err != nil {
		return nil, false, err
	}
	// The socket's lock file has the same weakness as the cluster's (see endOrphan).
	os.Remove(filepath.Join(s.socket, ".s.PGSQL."+port+".lock"))
	log, err := s.folder.openLog()
	if err != nil {
		return nil, false, err
	}
	defer log.Close()
	var from int64
	if info, err := log.Stat(); err == nil {
		from = info.Size()
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, false, fmt.Errorf("make a pipe: %w", err)
	}
	defer read.Close()

	remove := ""
	if s.opts.Temporary {
		remove = s.folder.path
	}
	args := []string{"-c", nurse, "nurse", remove, filepath.Join(s.opts.Binaries.Dir, "postgres"), "-D", s.folder.data(),
		"-c", "listen_addresses=", "-c", "unix_socket_directories=" + s.socket, "-c", "unix_socket_permissions=0700", "-c", "port=" + port,
		"-c", "logging_collector=off", "-c", "log_destination=stderr"}
	for name, value := range s.opts.Settings {
		args = append(args, "-c", name+"="+value)
	}
	cmd := s.command(context.WithoutCancel(ctx), "/bin/sh", args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{read}
	if err := cmd.Start(); err != nil {
		write.Close()
		return nil, false, fmt.Errorf("start %s/postgres: %w", s.opts.Binaries.Dir, err)
	}
	p := &process{cmd: cmd, pipe: write, done: make(chan struct{}), pid: s.postmasterPID}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := s.answers(ctx, p); err != nil {
		p.end(ctx)
		said := s.tail(from)
		// Backends that have outlived a killed server are gone in a moment.
		return nil, strings.Contains(said, "pre-existing shared memory block"), fmt.Errorf("start PostgreSQL in %s: %w\n%s", s.folder.path, err, said)
	}
	return p, false, nil
}

// answers waits until the server takes connections.
func (s *Server) answers(ctx context.Context, p *process) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		conn, err := pgconn.Connect(attempt, s.URL("postgres"))
		if err == nil {
			err = conn.Close(attempt)
			cancel()
			return err
		}
		cancel()
		select {
		case <-p.done:
			return fmt.Errorf("the server ended: %w", p.err)
		case <-ctx.Done():
			return fmt.Errorf("wait for the server: %w", errors.Join(ctx.Err(), err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// end stops the server, at once when ctx has ended, and waits until it is gone.
func (p *process) end(ctx context.Context) {
	p.pipe.Close()
	select {
	case <-p.done:
		return
	case <-ctx.Done():
	}
	if pid := p.pid(); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGQUIT) // it may have gone this moment
	}
	select {
	case <-p.done:
	case <-time.After(5 * time.Second): // a server that does not even react to that
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// postmasterPID is the process id in the cluster's lock file, 0 when there is none.
func (s *Server) postmasterPID() int {
	b, err := os.ReadFile(filepath.Join(s.folder.data(), "postmaster.pid"))
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil || pid < 2 {
		return 0
	}
	return pid
}

// endOrphan stops the server that a killed program has left in the folder. We have the folder's lock, so that program is gone.
func (s *Server) endOrphan(ctx context.Context) error {
	pid := s.postmasterPID()
	if pid == 0 {
		return nil
	}
	if !s.ours(pid) {
		// Most likely the number is unused, and PostgreSQL finds that out by itself. After the restart of a container, where the
		// numbers are always the same, it may be another program's, and PostgreSQL would refuse to start for ever.
		if err := syscall.Kill(pid, 0); err == nil || errors.Is(err, syscall.EPERM) {
			s.log.Info("removing the lock file of a server that is gone; its process id is another program's now", "pid", pid)
			if err := os.Remove(filepath.Join(s.folder.data(), "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove the lock file of a server that is gone: %w", err)
			}
		}
		return nil
	}
	s.log.Warn("stopping a server that was left behind", "pid", pid, "data_dir", s.folder.path)
	signal := syscall.SIGINT
	for began := time.Now(); s.ours(pid); {
		if time.Since(began) > 10*time.Second {
			signal = syscall.SIGQUIT
		}
		_ = syscall.Kill(pid, signal) // it may have gone this moment
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("wait for the server that was left behind in %s, process %d: %w", s.folder.path, pid, err)
		}
	}
	return nil
}

// ours says whether a process is a server of this folder.
func (s *Server) ours(pid int) bool {
	if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		args := strings.Split(string(cmdline), "\x00")
		at := slices.Index(args, "-D")
		return at >= 0 && at+1 < len(args) && args[at+1] == s.folder.data()
	}
	if _, err := os.Stat("/proc/self"); err == nil {
		return false // there is a /proc, and the process is not in it
	}
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "postgres -D "+s.folder.data()+" ")
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
