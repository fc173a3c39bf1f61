package config

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// ReadFile reads a configuration file for [Parse]: at most a byte more than it may have,
// which is enough to see that it is too much.
func ReadFile(path string) ([]byte, error) { return read(path, os.O_RDONLY) }

// ReadRunning is ReadFile for a server that runs and looks at its file again and again. It
// takes regular files only, and never waits: a pipe in the file's place would be read for
// as long as nobody writes to it.
func ReadRunning(path string) ([]byte, error) { return read(path, os.O_RDONLY|syscall.O_NONBLOCK) }

func read(path string, flags int) ([]byte, error) {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	if flags&syscall.O_NONBLOCK != 0 {
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is no regular file", path)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the configuration: %w", err)
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return data, nil
}

// ParseRunning is [Parse] for a server that runs and whose file has changed, with the
// environment of this process. The certificates' files are not looked at: the server
// watches them itself, and has good ones in memory when bad ones have come.
func ParseRunning(name string, data []byte) (*Config, error) {
	return parse(name, data, os.LookupEnv, true)
}

// ParseSubject reads the value that a budget's subject has for one name it is counted
// per, as limits see it: models in lower case. The error is an *[Error] without a
// position, and quotes nothing.
func ParseSubject(name, value string) (string, error) {
	if !nameForm.MatchString(name) {
		return "", mistake("", "the name has 1 to 64 characters of a-z A-Z 0-9 . _ -")
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r == 0 }) {
		return "", mistake("", "it has a zero byte")
	}
	return parseSubject(name)(value)
}
