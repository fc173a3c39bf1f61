package budget

import (
	"archive/zip"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ruled returns a zone from Go's own data, which lists a change of the clock only
// until it recurs by a rule. A system's data often lists decades of them.
func ruled(t *testing.T, name string) *time.Location {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	zones, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer zones.Close()
	f, err := zones.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	loc, err := time.LoadLocationFromTZData(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// Where a zone goes on by a rule, the time package is wrong about its changes on the
// last day of a leap year.
func TestWindowByRule(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Adelaide"} {
		t.Run(strings.ReplaceAll(zone, "/", "_"), func(t *testing.T) {
			t.Parallel()
			loc := ruled(t, zone)
			for _, year := range []int{2028, 2096} {
				turn := time.Date(year+1, 1, 1, 0, 0, 0, 0, time.UTC)
				walk(t, turn.Add(-72*time.Hour), turn.Add(48*time.Hour), loc)
				noon := time.Date(year, 7, 1, 12, 0, 0, 0, loc)
				want := Window{Start: time.Date(year, 1, 1, 0, 0, 0, 0, loc), End: time.Date(year+1, 1, 1, 0, 0, 0, 0, loc)}
				if got := Year.Window(noon, loc); got != want {
					t.Errorf("the year of %v is %v, want %v", noon, got, want)
				}
			}
		})
	}
}
