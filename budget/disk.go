package budget

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// disk is what a file store does to its folder when it writes. Tests put one in its
// place that fails.
type disk interface {
	create(path string) (diskFile, error)   // or truncate
	openEnd(path string) (diskFile, error)  // for writing at its end
	truncate(path string, size int64) error // and make that durable
	rename(from, to string) error
	remove(path string) error
	syncDir(path string) error
}

type diskFile interface {
	io.WriteCloser
	Sync() error
}

// osDisk is the disk of the operating system.
type osDisk struct{}

func (osDisk) create(path string) (diskFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
}

func (osDisk) openEnd(path string) (diskFile, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
}

func (osDisk) truncate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (osDisk) rename(from, to string) error { return os.Rename(from, to) }

func (osDisk) remove(path string) error { return os.Remove(path) }

func (osDisk) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDir makes dir and the folders above it that are absent, for good: what is in a folder
// is of no use after a power failure if the folder's own name is gone.
func makeDir(d disk, dir string) error {
	var parents []string
	for at := filepath.Clean(dir); at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Stat(at); !notExist(err) {
			break
		}
		parents = append(parents, filepath.Dir(at))
	}
	err := os.MkdirAll(dir, 0o700)
	for _, p := range parents {
		if err == nil {
			err = d.syncDir(p)
		}
	}
	return err
}

// ReplaceFile gives the file name in dir, which exists, the content data, in one step
// and for good: after a crash at any moment it has the old content or the new one;
// once it returns nil, the new one. It is how the file store writes its snapshots,
// for what is kept beside them. Nobody else may be writing to the file.
func ReplaceFile(dir, name string, data []byte) error {
	return replaceFile(osDisk{}, dir, name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// replaceFile gives the file name in dir the content that fill writes, so that after a
// crash at any moment it has either the old content or the new one; once it returns
// nil, the new one. After an error it may have either.
//
// Each call writes a file of its own. So a failed fsync, after which an operating
// system may take unwritten pages for written, cannot spoil the next attempt.
func replaceFile(d disk, dir, name string, fill func(io.Writer) error) error {
	path := filepath.Join(dir, name)
	temp := path + tempSuffix
	err := writeFile(d, temp, fill)
	if err == nil {
		err = d.rename(temp, path)
	}
	if err != nil {
		if rerr := d.remove(temp); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return err
	}
	return d.syncDir(dir)
}

func writeFile(d disk, path string, fill func(io.Writer) error) error {
	f, err := d.create(path)
	if err != nil {
		return err
	}
	if err := fill(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
