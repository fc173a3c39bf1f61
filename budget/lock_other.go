//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package budget

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock that the operating system gives back after a
// crash, two processes could count in one folder.
func lockFile(path string) (*os.File, error) {
	return nil, &os.PathError{Op: "lock", Path: path, Err: errors.ErrUnsupported}
}

// lockDir refuses, too.
func lockDir(dir string, _ bool) (*os.File, error) { return lockFile(dir) }

// lockReadOnly refuses as well.
func lockReadOnly(path string) (*os.File, error) { return lockFile(path) }
