package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/tokenbudget/tokenbudget/budget"
	"github.com/tokenbudget/tokenbudget/internal/admin"
	"github.com/tokenbudget/tokenbudget/internal/overrides"
)

const overridesName = "overrides.json" // beside the balances

// loadOverrides reads the overrides that an earlier process has left in dir. What cannot
// be used is an error: budgets must not change because a file is damaged.
func loadOverrides(dir string) (*overrides.Set, error) {
	path := filepath.Join(dir, overridesName)
	data, err := readAtMost(path, overrides.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return new(overrides.Set), nil
	}
	var set *overrides.Set
	if err == nil {
		set, err = overrides.Parse(data)
	}
	if err != nil {
		return nil, fmt.Errorf("the overrides of the admin API in %s cannot be used: %w; put a good copy in its place, or move it away and set them again: "+
			"without it the amounts of the configuration count", path, err)
	}
	return set, nil
}

// List implements [admin.Overrides].
func (l *live) List() []overrides.Shown {
	now := l.now.Load()
	return now.overrides.List(now.config.Budgets)
}

// Put implements [admin.Overrides].
func (l *live) Put(name string, r overrides.Request, by admin.Author) (shown overrides.Shown, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now.Load()
	o, err := r.Resolve(name, now.config.Budgets)
	if err != nil {
		return shown, err
	}
	o.Who, o.At = by.Who, time.Now().UTC().Truncate(time.Second)
	next, err := now.overrides.Put(o)
	if err != nil {
		return shown, err
	}
	if err := l.override(next, o, by); err != nil {
		return shown, err
	}
	return next.Show(o, now.config.Budgets), nil
}

// Delete implements [admin.Overrides].
func (l *live) Delete(name string, r overrides.Request, by admin.Author) (shown overrides.Shown, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now.Load()
	subject, err := r.NormalSubject()
	if err != nil {
		return shown, err
	}
	o, ok := now.overrides.Get(name, subject)
	if !ok {
		return shown, fmt.Errorf("%w; GET /v1/overrides lists those that there are", admin.ErrAbsent)
	}
	o.Reason = r.Reason
	next := now.overrides.Delete(name, subject)
	if err := l.override(next, o, by); err != nil {
		return shown, err
	}
	return next.Show(o, now.config.Budgets), nil
}

// override keeps another set of overrides, puts it into effect and tells the log. o is
// what differs. The caller holds the lock.
func (l *live) override(set *overrides.Set, o overrides.Override, by admin.Author) error {
	now := l.now.Load()
	next := &ruling{now.config, set}
	if _, err := l.settings(next); err != nil {
		return err
	}
	data, err := set.Marshal()
	if err != nil {
		return err
	}
	if err := budget.ReplaceFile(now.config.Store.File.Dir, overridesName, data); err != nil {
		l.log.Error("overrides cannot be written", zap.Error(err))
		return fmt.Errorf("%w: it could not be written, and does not count: %w; look at the disk, and try again", admin.ErrNotKept, err)
	}
	if err := l.apply(context.Background(), next); err != nil {
		l.log.Error("an override was written and could not be put into effect", zap.Error(err))
		return fmt.Errorf("%w: it is written, and will count after a restart: %w", admin.ErrNotKept, err)
	}
	before, after := overrides.Amounts(now.limits(), o.Budget, o.Subject), overrides.Amounts(next.limits(), o.Budget, o.Subject)
	l.log.Info("override", zap.String("budget", o.Budget), zap.Any("subject", o.Subject),
		zap.String("old", amountsText(before)), zap.String("new", amountsText(after)),
		zap.String("reason", o.Reason), zap.String("who", by.Who), zap.String("remote", by.Remote))
	return nil
}
