package load

import (
	"context"
	"os"
	"testing"
	"time"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tokenbudget-load-test-")
	if err != nil {
		panic(err)
	}
	code := 1
	defer func() {
		_ = os.RemoveAll(dir) // of the system's folder for such files
		os.Exit(code)
	}()
	code = run(m, dir)
}

func run(m *testing.M, dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var err error
	if binary, err = Build(ctx, dir); err != nil {
		println(err.Error())
		return 1
	}
	return m.Run()
}

// TestSoak is a sample of the campaign's.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a real Envoy")
	}
	r, err := Soak(t.Context(), SoakOptions{Binary: binary, Lasts: 20 * time.Second, Sample: time.Second, Seed: uint64(time.Now().UnixNano()), Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range Measures {
		t.Logf("%s: %.1f, %.1f, %.1f", m.Name, m.Quarter(r.Samples, 0), m.Quarter(r.Samples, 1), m.Quarter(r.Samples, 3))
	}
	if r.Reloads == 0 || r.Restarts == 0 {
		t.Errorf("the file was changed %d times, Envoy started again %d times", r.Reloads, r.Restarts)
	}
	for _, k := range kinds {
		if r.Exchanges[k.name] == 0 {
			t.Errorf("%s has not happened", k.name)
		}
	}
}

// TestStreams is a sample of the campaign's.
func TestStreams(t *testing.T) {
	for name, o := range map[string]StreamsOptions{
		"direct": {Streams: 1000},
		"envoy":  {Streams: 500, Envoy: true},
	} {
		t.Run(name, func(t *testing.T) {
			if o.Envoy && testing.Short() {
				t.Skip("starts a real Envoy")
			}
			o.Binary, o.Logf = binary, t.Logf
			r, err := Streams(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d streams, %d cut, %d aborted, %d events, turned away %d times; %d bytes each, %d live; %v",
				r.Streams, r.Cut, r.Aborted, r.Events, r.Shed, r.PerStream(), r.LivePerStream(), r.Took)
		})
	}
}
