package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/count"
)

const (
	factorsName  = "factors.json"         // beside the balances
	factorsAside = factorsName + ".bad"   // what could not be read; one is kept
	factorsEvery = time.Minute            // how often they are written, if they have changed
	learnsAnew   = "learning starts anew" // what an unreadable file leads to: it is no money
)

// keptFactors are learned factors that outlive the process.
type keptFactors struct {
	count.Factors

	dir   string
	log   *zap.Logger
	saved uint64 // lessons that the file has
}

// loadFactors reads the factors that an earlier process has left in dir. A file
// that cannot be used is set aside, with a warning in the log.
func loadFactors(dir string, log *zap.Logger) *keptFactors {
	f := &keptFactors{dir: dir, log: log}
	path := filepath.Join(dir, factorsName)
	data, err := readAtMost(path, count.MaxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return f
	case err != nil:
		log.Warn("learned factors cannot be read; "+learnsAnew, zap.Error(err))
		return f
	}
	if err := f.Load(data); err != nil {
		aside := filepath.Join(dir, factorsAside)
		log.Warn("learned factors are set aside; "+learnsAnew, zap.String("file", path), zap.String("aside", aside), zap.NamedError("error", errors.Join(err, os.Rename(path, aside))))
	}
	f.saved = f.Lessons()
	return f
}

// readAtMost reads a file of at most n bytes, or n + 1 bytes of a longer one.
func readAtMost(path string, n int64) ([]byte, error) {
	// Opening a pipe would wait for somebody to write to it.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, n+1))
}

// run writes what was learned now and then, and at the end of ctx. It returns nil:
// a failure costs what was learned since, and is only logged.
func (f *keptFactors) run(ctx context.Context) error {
	tick := time.NewTicker(factorsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.write()
		case <-ctx.Done():
			f.write()
			return nil
		}
	}
}

// write writes the file if something was learned since.
func (f *keptFactors) write() {
	lessons := f.Lessons() // of what is learned from here on, nothing may be taken for written
	if lessons == f.saved {
		return
	}
	if err := budget.ReplaceFile(f.dir, factorsName, f.Save()); err != nil {
		f.log.Warn("learned factors cannot be written; they are kept in memory and tried again", zap.Error(fmt.Errorf("writing %s: %w", filepath.Join(f.dir, factorsName), err)))
		return
	}
	f.saved = lessons
}
