package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/tokens"
)

// startup measures how long an encoding takes to load in a process that has just begun, and what it takes of
// the heap and of the binary.
func startup(ctx context.Context) (string, error) {
	const processes = 7
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	t := newTable("what", "o200k_base", "cl100k_base", "o200k_harmony")
	load, heap := []string{"load, ms"}, []string{"heap, MB"}
	for _, name := range []string{"o200k_base", "cl100k_base", "o200k_harmony"} {
		var ms, mb []float64
		for range processes {
			cmd := exec.CommandContext(ctx, self, "-load", name)
			cmd.WaitDelay = time.Second
			out, err := cmd.Output()
			if err != nil {
				return "", fmt.Errorf("loading %s: %w", name, err)
			}
			var ns, bytes float64
			if _, err := fmt.Sscan(string(out), &ns, &bytes); err != nil {
				return "", fmt.Errorf("loading %s: %w", name, err)
			}
			ms, mb = append(ms, ns/1e6), append(mb, bytes/1e6)
		}
		load, heap = append(load, spread(ms)), append(heap, number(quantile(mb, 0.5)))
	}
	t.row(load...)
	t.row(heap...)
	size, err := binarySize(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("### Start-up\n\nEach in a fresh process, %d of them, by the wall clock. o200k_harmony shares its tables with o200k_base. The binary of tokenbudget has %s MB, "+
		"with the rank files of four encodings in it.\n\n", processes, number(float64(size)/1e6)) + t.String(), nil
}

// printLoad loads an encoding, and prints the time in nanoseconds and the heap in bytes.
func printLoad(name string) error {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	begin := time.Now()
	enc, err := tokens.Get(name)
	spent := time.Since(begin)
	if err != nil {
		return err
	}
	after := heap()
	if enc.CountString("one two") != 2 {
		return errors.New("it does not count")
	}
	fmt.Println(spent.Nanoseconds(), after-min(before, after))
	return nil
}

// binarySize builds tokenbudget as make build does.
func binarySize(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	file := filepath.Join(cacheDir, "tokenbudget")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "./cmd/tokenbudget")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building tokenbudget: %w\n%s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
