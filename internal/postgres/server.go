package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// User is the superuser of the cluster; nobody else is in it.
	User = "changeover"
	// Database exists once Start has returned.
	Database = "changeover"

	port = "5432" // only part of the socket's name
)

// Options of a private server.
type Options struct {
	DataDir  string   // made if need be; only one program at a time can use it
	Binaries Binaries // zero: those that FindBinaries finds, of the version that the folder was made by
	// Settings of postgresql.conf, besides those that keep the server private.
	Settings map[string]string
	// Temporary removes the folder when the server has stopped, also if this program was killed.
	Temporary bool
	Log       *slog.Logger // nil: none
}

// Server is a running private PostgreSQL.
type Server struct {
	opts      Options
	log       *slog.Logger
	owner     owner
	folder    *folder
	socket    string
	tmpSocket bool

	life    context.Context // ends with Stop
	cancel  context.CancelFunc
	stopped chan struct{} // closed when the server and its goroutine are gone

	mu      sync.Mutex
	process *process
}

// Start makes the cluster if there is none, starts its server and returns when it answers and [Database] exists. It waits for a server
// that a killed program has left behind.
func Start(ctx context.Context, opts Options) (_ *Server, err error) {
	s := &Server{opts: opts, log: opts.Log, stopped: make(chan struct{})}
	s.life, s.cancel = context.WithCancel(context.Background())
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if opts.DataDir == "" {
		return nil, errors.New("start PostgreSQL: no data folder was named")
	}
	if s.owner, err = serverUser(); err != nil {
		return nil, err
	}
	if s.folder, err = openFolder(opts.DataDir, s.owner); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.cleanUp()
		}
	}()
	if s.socket, s.tmpSocket, err = s.folder.socketDir(s.owner); err != nil {
		return nil, err
	}
	if err := s.cluster(ctx); err != nil {
		return nil, err
	}
	if s.process, err = s.launch(ctx); err != nil {
		return nil, err
	}
	if err := s.createDatabase(ctx); err != nil {
		s.process.end(ctx)
		return nil, err
	}
	go s.supervise(s.process)
	return s, nil
}

// URL is the address of a database of the server. It stays the same over a stop and start in the same folder, unless the folder's
// path is too long for a socket.
func (s *Server) URL(database string) string {
	q := url.Values{"host": {s.socket}, "port": {port}, "user": {User}}
	return "postgres:///" + url.PathEscape(database) + "?" + q.Encode()
}

// Stop ends the server and returns when it is gone: without waiting for clients, and, when ctx ends before that is done, as
// abruptly as a crash, from which the next start recovers. It may be called more than once.
func (s *Server) Stop(ctx context.Context) {
	s.cancel()
	s.mu.Lock()
	p := s.process
	s.mu.Unlock()
	p.end(ctx)
	<-s.stopped
}

// supervise starts the server again when it dies by itself.
func (s *Server) supervise(p *process) {
	defer close(s.stopped)
	defer s.cleanUp()
	for {
		<-p.done
		if s.life.Err() != nil {
			return
		}
		p.pipe.Close()
		s.log.Error("private postgresql has died, starting it again", "error", p.err, "log", s.folder.log())
		for {
			if pause(s.life, time.Second) != nil {
				return
			}
			next, err := s.launch(s.life)
			if err == nil {
				p = next
				break
			}
			s.log.Error("private postgresql does not start", "error", err)
		}
		s.mu.Lock()
		s.process = p
		s.mu.Unlock()
		if s.life.Err() != nil { // Stop may have ended the one before
			p.end(s.life)
		}
	}
}

// cleanUp frees the folder.
func (s *Server) cleanUp() {
	if s.tmpSocket {
		os.RemoveAll(s.socket)
	}
	if s.opts.Temporary {
		os.RemoveAll(s.folder.path)
	}
	s.folder.unlock()
}

// cluster makes the cluster, or finds the programs for the one that is there.
func (s *Server) cluster(ctx context.Context) error {
	made, err := os.ReadFile(filepath.Join(s.folder.data(), "PG_VERSION"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		if s.opts.Binaries == (Binaries{}) {
			if s.opts.Binaries, err = FindBinaries(); err != nil {
				return err
			}
		}
		return s.initdb(ctx)
	case err != nil:
		return fmt.Errorf("read the version of the cluster: %w", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(made)))
	if err != nil {
		return fmt.Errorf("read the version of the cluster in %s: %w", s.folder.data(), err)
	}
	if s.opts.Binaries == (Binaries{}) {
		s.opts.Binaries, err = findBinaries(major)
	} else if s.opts.Binaries.Major != major {
		err = fmt.Errorf("the programs are of version %d", s.opts.Binaries.Major)
	}
	if err != nil {
		return fmt.Errorf("the cluster in %s was made by PostgreSQL %d: %w", s.folder.data(), major, err)
	}
	return nil
}

func (s *Server) initdb(ctx context.Context) error {
	// Made apart: what an initdb that was killed leaves behind looks like a cluster.
	unfinished := s.folder.data() + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("remove an unfinished cluster: %w", err)
	}
	args := []string{"--pgdata", unfinished, "--username", User, "--encoding", "UTF8", "--locale", "C",
		"--auth-local", "trust", "--auth-host", "reject"}
	if s.opts.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	cmd := s.command(ctx, filepath.Join(s.opts.Binaries.Dir, "initdb"), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make a cluster in %s with %s/initdb: %w\n%s", s.folder.path, s.opts.Binaries.Dir, err, bytes.TrimSpace(out))
	}
	if err := os.Rename(unfinished, s.folder.data()); err != nil {
		return fmt.Errorf("make the cluster: %w", err)
	}
	return nil
}

// command prepares a program for the server's user, in a clean environment and a session of its own: Ctrl-C in the terminal is for this
// program, which then stops the server.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.folder.path
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=" + s.folder.path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.owner.credential()}
	return cmd
}

func (s *Server) createDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return fmt.Errorf("reach the private PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", Database).Scan(&exists); err != nil {
		return fmt.Errorf("look for the database %s: %w", Database, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{Database}.Sanitize()); err != nil {
		return fmt.Errorf("create the database %s: %w", Database, err)
	}
	return nil
}

// tail is the end of the server's log since an offset.
func (s *Server) tail(from int64) string {
	file, err := os.Open(s.folder.log())
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		from = max(from, size-4096)
	}
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return err.Error()
	}
	b, _ := io.ReadAll(file)
	return string(bytes.TrimSpace(b))
}
