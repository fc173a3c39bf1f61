package bench

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Quantile is the value below which the part q (0 to 1) of some values lies, by rank, without interpolation; of
// none, the zero value. It sorts them.
func Quantile[T cmp.Ordered](values []T, q float64) (v T) {
	if len(values) == 0 {
		return v
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

// Spread is a figure that was measured several times.
type Spread struct{ Low, Median, High float64 } // the quartiles; of four or fewer, the least and the greatest

// NewSpread sums up figures. It leaves out those that are not numbers, and is of NaN if none is left.
func NewSpread(figures []float64) Spread {
	all := slices.DeleteFunc(slices.Clone(figures), func(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) })
	if len(all) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	slices.Sort(all)
	middle := all[len(all)/2]
	if len(all)%2 == 0 {
		middle = (all[len(all)/2-1] + middle) / 2
	}
	if len(all) <= 4 {
		return Spread{all[0], middle, all[len(all)-1]}
	}
	return Spread{all[len(all)/4], middle, all[len(all)-1-len(all)/4]}
}

// Number shows a figure with three digits or more, and "–" if it is none.
func Number(f float64) string {
	switch {
	case math.IsNaN(f):
		return "–"
	case math.Abs(f) < 10:
		return fmt.Sprintf("%.2f", f)
	case math.Abs(f) < 100:
		return fmt.Sprintf("%.1f", f)
	}
	s := fmt.Sprintf("%.0f", f)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
