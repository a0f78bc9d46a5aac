package postgres

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// DefaultDataDir is the folder for database.dataDir "": changeover/postgres in the user's cache directory. Root has
// /var/lib/changeover/postgres, because the user who runs the server for root cannot reach root's own.
func DefaultDataDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/changeover/postgres", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache directory, set database.dataDir instead: %w", err)
	}
	return filepath.Join(dir, "changeover", "postgres"), nil
}

// owner is who runs the server.
type owner struct {
	name     string
	uid, gid int
	other    bool // not who runs this program
}

// serverUser is the user of this program, or for root somebody whom PostgreSQL accepts.
func serverUser() (owner, error) {
	if os.Geteuid() != 0 {
		return owner{uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return owner{}, fmt.Errorf("user %s: %w", name, err)
		}
		return owner{name: name, uid: uid, gid: gid, other: true}, nil
	}
	return owner{}, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody to run it as")
}

// credential is nil for the user of this program.
func (o owner) credential() *syscall.Credential {
	if !o.other {
		return nil
	}
	return &syscall.Credential{Uid: uint32(o.uid), Gid: uint32(o.gid)}
}

// folder is a data folder that this program holds the lock of.
type folder struct {
	path string
	lock *os.File
}

// unlock frees the folder. Closing the file is not enough at once: a process that this program is starting has it open too until its own
// program takes over.
func (f *folder) unlock() {
	_ = syscall.Flock(int(f.lock.Fd()), syscall.LOCK_UN) // closing it does the same a little later
	f.lock.Close()
}

func (f *folder) data() string { return filepath.Join(f.path, "data") }
func (f *folder) log() string  { return filepath.Join(f.path, "postgres.log") }

// openFolder makes the folder if need be, gives it to its owner and locks it. Closing the lock, which the death of the program does
// too, frees it.
func openFolder(path string, o owner) (_ *folder, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("read the data folder: %w", err)
	}
	ours := len(entries) == 0
	for _, e := range entries {
		ours = ours || e.Name() == "lock"
	}
	if !ours {
		return nil, fmt.Errorf("data folder %s: it holds something else; name a folder that is empty or does not exist yet", path)
	}
	f := &folder{path: path}
	// The folder may belong to another user: follow no link that this one might have put there.
	f.lock, err = os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	defer func() {
		if err != nil {
			f.unlock()
		}
	}()
	if err := syscall.Flock(int(f.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			pid, _ := io.ReadAll(io.LimitReader(f.lock, 32))
			return nil, fmt.Errorf("data folder %s is in use by process %s: stop that one, or name another folder", path, strings.TrimSpace(string(pid)))
		}
		return nil, fmt.Errorf("lock the data folder %s: %w", path, err)
	}
	if err := f.lock.Truncate(0); err != nil {
		return nil, fmt.Errorf("lock the data folder %s: %w", path, err)
	}
	if _, err := f.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return nil, fmt.Errorf("lock the data folder %s: %w", path, err)
	}
	if o.other {
		if err := reachable(path, o); err != nil {
			return nil, err
		}
		if err := os.Lchown(path, o.uid, o.gid); err != nil {
			return nil, fmt.Errorf("give the data folder to user %s: %w", o.name, err)
		}
	}
	return f, nil
}

// reachable says whether the server's user can get to a folder.
func reachable(path string, o owner) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("data folder %s: %w", path, err)
		}
		mode, st := info.Mode().Perm(), info.Sys().(*syscall.Stat_t)
		bit := os.FileMode(0o001)
		switch {
		case int(st.Uid) == o.uid:
			bit = 0o100
		case int(st.Gid) == o.gid:
			bit = 0o010
		}
		if mode&bit == 0 {
			return fmt.Errorf("data folder %s: PostgreSQL does not run as root, and user %s, who runs it, may not enter %s; name another folder", path, o.name, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// socketDir makes the folder for the Unix socket: within the data folder, or, where its path would be too long for a socket's
// address (107 bytes on Linux, 103 on macOS), a temporary one.
func (f *folder) socketDir(o owner) (dir string, temporary bool, err error) {
	const longest = 103 - len("/.s.PGSQL.5432")
	dir = filepath.Join(f.path, "run")
	if len(dir) <= longest {
		err = os.Mkdir(dir, 0o700)
		if errors.Is(err, os.ErrExist) {
			err = nil
		}
	} else {
		dir, err = os.MkdirTemp("/tmp", "changeover-pg-") // not TMPDIR, which is long too on macOS
		temporary = true
	}
	if err == nil && o.other {
		err = os.Lchown(dir, o.uid, o.gid)
	}
	if err != nil {
		return "", false, fmt.Errorf("make the folder for the socket: %w", err)
	}
	return dir, temporary, nil
}

// openLog opens the server's log to append to; one of more than 10 MB begins anew.
func (f *folder) openLog() (*os.File, error) {
	if info, err := os.Lstat(f.log()); err == nil && info.Size() > 10<<20 {
		if err := os.Rename(f.log(), f.log()+".1"); err != nil {
			return nil, fmt.Errorf("put the server's old log aside: %w", err)
		}
	}
	file, err := os.OpenFile(f.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	return file, nil
}
