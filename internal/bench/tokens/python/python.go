// Package python runs the reference, Python tiktoken, for the benchmark and for the campaign that compares
// internal/tokens with it.
//
//	ref, err := python.Prepare(ctx, ".cache/bench-tokens") // a virtual environment, once, and the rank files
//	o, err := ref.Start(ctx)                               // a process
//	ids, err := o.Encode("o200k_base", texts)
//
// It works without a network once the package is installed: the rank files are those that tiktoken-go-loader
// embeds, laid where tiktoken looks for what it has fetched before, and tiktoken checks their hashes itself.
package python

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/pkoukk/tiktoken-go-loader/assets"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// Version is the release of tiktoken that internal/tokens follows.
const Version = "0.14.0"

// ErrNone says that there is no Python at all. What else can go wrong is not worth a skip.
var ErrNone = errors.New("python3 is not on PATH; install Python 3 with its venv module")

// Encodings are the names that Start's process knows.
var Encodings = []string{"o200k_base", "cl100k_base"}

// A Reference is an interpreter that has tiktoken and its rank files.
type Reference struct {
	python string
	ranks  string
}

// Prepare installs tiktoken into the user's cache directory if need be, and writes the rank files below dir.
// The error is ErrNone if there is no Python.
func Prepare(ctx context.Context, dir string) (*Reference, error) {
	if _, err := exec.LookPath("python3"); err != nil {
		return nil, ErrNone
	}
	python, err := envoyrun.PythonVenv(ctx, "tiktoken", "tiktoken=="+Version)
	if err != nil {
		return nil, err
	}
	ranks, err := filepath.Abs(filepath.Join(dir, "ranks"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(ranks, 0o755); err != nil {
		return nil, err
	}
	for _, name := range Encodings {
		data, err := assets.Assets.ReadFile(name + ".tiktoken")
		if err != nil {
			return nil, fmt.Errorf("python: the rank file is not embedded: %w", err)
		}
		// tiktoken/load.py: the SHA-1 of the address.
		sum := sha1.Sum([]byte("https://openaipublic.blob.core.windows.net/encodings/" + name + ".tiktoken"))
		if err := writeOnce(filepath.Join(ranks, hex.EncodeToString(sum[:])), data); err != nil {
			return nil, err
		}
	}
	return &Reference{python: python, ranks: ranks}, nil
}

// writeOnce writes a file whole or not at all, unless it is there with that length.
func writeOnce(file string, data []byte) error {
	if info, err := os.Stat(file); err == nil && info.Size() == int64(len(data)) {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

// Command is a command that runs the interpreter with these arguments, and finds the rank files.
func (r *Reference) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.python, args...)
	cmd.Env = append(slices.Clone(os.Environ()), "TIKTOKEN_CACHE_DIR="+r.ranks)
	return cmd
}
