package examples

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tokenbudget/tokenbudget/internal/envoyrun"
)

// tourTime bounds one run.sh; it only matters when something is wrong.
const tourTime = 5 * time.Minute

// outputMark stands in a README in front of the block that shows what run.sh prints.
const outputMark = "<!-- what ./run.sh prints -->\n"

// TestTours runs every run.sh, from a folder that is not its own. Each checks what it shows
// and fails if it did not happen. What the README says that it prints must be that, but for
// numbers; afterwards no process and no file may be left.
func TestTours(t *testing.T) {
	if testing.Short() {
		t.Skip("runs real Envoys")
	}
	tours, err := filepath.Glob(filepath.Join("*", "run.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if len(tours) < 4 {
		t.Fatalf("only %q found", tours)
	}
	envoyPath, err := envoyrun.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	binary := buildServer(t)
	for _, tour := range tours {
		t.Run(filepath.Dir(tour), func(t *testing.T) {
			script, err := filepath.Abs(tour)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), tourTime)
			defer cancel()
			cmd := exec.CommandContext(ctx, script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "TMPDIR="+dir, "TOKENBUDGET_BIN="+binary, "ENVOY_BIN="+envoyPath)
			cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // its trap ends what it started
			cmd.WaitDelay = time.Minute
			var stderr strings.Builder
			cmd.Stderr = &stderr
			stdout, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v\n%s\n%s", tour, err, stdout, stderr.String())
			}
			readme := filepath.Join(filepath.Dir(tour), "README.md")
			compareOutput(t, readme, string(stdout))
			nothingLeft(t, dir)
		})
	}
}

// TestTourInterrupted: a run.sh that is interrupted ends all that it has started.
func TestTourInterrupted(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a real Envoy")
	}
	envoyPath, err := envoyrun.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), tourTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", `
		source lib.sh
		find_tools
		read -r upstream < <(free_ports 1)
		start_upstream "$upstream"
		start sleeping sleep 600
		kill -TERM $$
		sleep 60`)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "TOKENBUDGET_BIN=true", "ENVOY_BIN="+envoyPath)
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 143 {
		t.Errorf("exit code %d, %v\n%s", code, err, out)
	}
	nothingLeft(t, dir)
}

// buildServer builds tokenbudget from this tree.
func buildServer(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "tokenbudget")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/tokenbudget/tokenbudget/cmd/tokenbudget").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// compareOutput compares a README's block with what was printed, after -update has written it.
func compareOutput(t *testing.T, readme, printed string) {
	t.Helper()
	raw, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(raw), outputMark+"```\n")
	shown, after, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatalf("%s does not show what run.sh prints: it lacks %q and a block behind it", readme, outputMark)
	}
	printed = strings.TrimSpace(printed) + "\n"
	if masked(shown) == masked(printed) {
		return
	}
	if *update {
		if err := os.WriteFile(readme, []byte(before+outputMark+"```\n"+printed+"```\n"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s shows what run.sh does not print; run go test ./examples -run TestTours -update and look at the difference. Printed:\n%s\nmasked:\n%s\nshown, masked:\n%s",
		readme, printed, masked(printed), masked(shown))
}

var (
	uuids       = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	completions = regexp.MustCompile(`chatcmpl-\w+`)
	numbers     = regexp.MustCompile(`[0-9]+(?:[-.:T][0-9]+)*Z?(?:[hms]+[0-9hms]*)?`)
	spaces      = regexp.MustCompile(`[ ]+`)
)

// masked is a text without what is different each time: numbers, times, ids, addresses and
// the width of columns.
func masked(text string) string {
	text = uuids.ReplaceAllString(text, "ID")
	text = completions.ReplaceAllString(text, "ID")
	text = numbers.ReplaceAllString(text, "N")
	return spaces.ReplaceAllString(text, " ")
}

// nothingLeft fails if there are files in a folder, or processes that it is named to.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("files are left: %v (%v)", files, err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*") // where there is no /proc, nothing is found
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		command, _ := os.ReadFile(filepath.Join(p, "cmdline")) // it may have ended
		folder, _ := os.Readlink(filepath.Join(p, "cwd"))
		if strings.Contains(string(command), dir) || strings.HasPrefix(folder, dir+"/") {
			t.Errorf("%s still runs: %q", filepath.Base(p), strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
}
