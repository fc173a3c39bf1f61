//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package budget

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile opens the file at path and locks it until it is closed, or the process
// ends in whatever way. It returns [ErrLocked] if somebody else holds the lock.
func lockFile(path string) (*os.File, error) { return lock(path, os.O_RDWR|os.O_CREATE, unix.LOCK_EX) }

// lockReadOnly is lockFile for a file that exists, changes nothing, and may be done by
// several at a time.
func lockReadOnly(path string) (*os.File, error) { return lock(path, os.O_RDONLY, unix.LOCK_SH) }

// lockDir locks the folder itself, as lockFile and lockReadOnly lock the file in it, which
// somebody may remove while it is locked. It returns nil where folders cannot be locked;
// over NFS they cannot.
func lockDir(dir string, shared bool) (*os.File, error) {
	how := unix.LOCK_EX
	if shared {
		how = unix.LOCK_SH
	}
	f, err := lock(dir, os.O_RDONLY, how)
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EISDIR) || errors.Is(err, errors.ErrUnsupported) {
		return nil, nil //nolint:nilnil // no lock, and no reason to stop: there is the file's
	}
	return f, err
}

func lock(path string, flags, how int) (*os.File, error) {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	_ = f.Close() // the lock was not had; that is the error
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, ErrLocked
	}
	return nil, &os.PathError{Op: "lock", Path: path, Err: err}
}
