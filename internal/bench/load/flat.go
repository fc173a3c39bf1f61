package load

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Measure is one of a sample's figures, and how much of it is noise.
type Measure struct {
	Name  string
	Of    func(Sample) int64
	Unit  int64 // in which it is shown
	slack int64 // growth that means nothing
}

// Measures are those that must stay flat.
var Measures = []Measure{
	{"resident memory, MiB", func(s Sample) int64 { return s.RSS }, 1 << 20, 24 << 20},
	{"live heap, MiB", func(s Sample) int64 { return s.Live }, 1 << 20, 6 << 20},
	{"stacks, MiB", func(s Sample) int64 { return s.Stacks }, 1 << 20, 12 << 20},
	{"goroutines", func(s Sample) int64 { return s.Goroutines }, 1, 60},
	{"open files", func(s Sample) int64 { return s.Files }, 1, 20},
	{"open exchanges", func(s Sample) int64 { return s.Exchanges }, 1, 20},
	{"buffered bytes", func(s Sample) int64 { return s.Buffered }, 1, 1 << 20},
}

// minSamples are needed to say whether something grows.
const minSamples = 8

// Flat is an error if the median of the last quarter of the samples exceeds that of the
// second by more than a tenth and what is noise. In the first the server fills its caches.
func Flat(samples []Sample) error {
	if len(samples) < minSamples {
		return fmt.Errorf("there are %d samples, and %d are needed", len(samples), minSamples)
	}
	var faults []error
	for _, m := range Measures {
		second, last := m.quarter(samples, 1), m.quarter(samples, 3)
		if last > second+second/10+m.slack {
			faults = append(faults, fmt.Errorf("%s: %d in the second quarter, %d in the last", m.Name, second/m.Unit, last/m.Unit))
		}
	}
	return errors.Join(faults...)
}

// quarter is the median of one of the quarters, counted from 0.
func (m *Measure) quarter(samples []Sample, q int) int64 {
	part := samples[len(samples)*q/4 : len(samples)*(q+1)/4]
	values := make([]int64, len(part))
	for i, s := range part {
		values[i] = m.Of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// Quarter is the median of one of the quarters, in the measure's unit.
func (m *Measure) Quarter(samples []Sample, q int) float64 {
	return float64(m.quarter(samples, q)) / float64(m.Unit)
}

// PerHour is the slope of the second half of the samples, by least squares, in the
// measure's unit.
func (m *Measure) PerHour(samples []Sample) float64 {
	half := samples[len(samples)/2:]
	var n, sx, sy, sxx, sxy float64
	for _, s := range half {
		x, y := s.At.Sub(half[0].At).Seconds()/time.Hour.Seconds(), float64(m.Of(s))/float64(m.Unit)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; d > 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
