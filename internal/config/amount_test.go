package config

import (
	"fmt"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tokenbudget/tokenbudget/budget"
)

func TestParseAmount(t *testing.T) {
	for _, test := range []struct {
		in   string
		n    int64
		unit budget.Unit
		err  string // part of the error
	}{
		{in: "50M tokens", n: 50_000_000, unit: budget.Tokens},
		{in: "20k tokens", n: 20_000, unit: budget.Tokens},
		{in: "1.5M tokens", n: 1_500_000, unit: budget.Tokens},
		{in: "2B tokens", n: 2_000_000_000, unit: budget.Tokens},
		{in: "60 requests", n: 60, unit: budget.Requests},
		{in: "3 streams", n: 3, unit: budget.Streams},
		{in: "1 stream", n: 1, unit: budget.Streams},
		{in: "1 request", n: 1, unit: budget.Requests},
		{in: "1 token", n: 1, unit: budget.Tokens},
		{in: "0.001k tokens", n: 1, unit: budget.Tokens},
		{in: "0.000000001B tokens", n: 1, unit: budget.Tokens},
		{in: "1.0 tokens", n: 1, unit: budget.Tokens},
		{in: "007 tokens", n: 7, unit: budget.Tokens},
		{in: "  5   tokens ", n: 5, unit: budget.Tokens},
		{in: "0.3M tokens", n: 300_000, unit: budget.Tokens}, // 0.3 has no exact double
		{in: "999999.999999999B tokens", n: 999_999_999_999_999, unit: budget.Tokens},
		{in: "1000000B tokens", n: MaxAmount, unit: budget.Tokens},

		{in: "", err: "amount is missing"},
		{in: "5", err: "unit is missing"},
		{in: "5tokens", err: "unit is missing"},
		{in: "5 apples", err: `"apples" is not a unit`},
		{in: "5 Tokens", err: "not a unit"},
		{in: "5 input tokens", err: "not a unit"},
		{in: "5 k tokens", err: "not a unit"},
		{in: "0 tokens", err: "more than zero"},
		{in: "0.0M tokens", err: "more than zero"},
		{in: "-5 tokens", err: "more than zero"},
		{in: "+5 tokens", err: "not a plain decimal"},
		{in: "1.5 tokens", err: "whole number"},
		{in: "1.0005k tokens", err: "whole number"},
		{in: "0.0000000001B tokens", err: "whole number"},
		{in: "1000000.000000001B tokens", err: "more than 1000000000000000"},
		{in: "9223372036854775807 tokens", err: "more than 1000000000000000"},
		{in: "9223372036854775808 tokens", err: "more than 1000000000000000"},
		{in: "18446744073709551617 tokens", err: "more than 1000000000000000"}, // 1 modulo 2⁶⁴
		{in: strings.Repeat("9", 1000) + " tokens", err: "not a plain decimal"},
		{in: "5K tokens", err: "write k"},
		{in: "5m tokens", err: "write M"},
		{in: "5G tokens", err: "write B"},
		{in: "5x tokens", err: `"x" does not belong`},
		{in: "5kk tokens", err: "does not belong"},
		{in: "5k5 tokens", err: "not a plain decimal"},
		{in: "1e3 tokens", err: "not a plain decimal"},
		{in: "0x10 tokens", err: "not a plain decimal"},
		{in: "1/2 tokens", err: "not a plain decimal"},
		{in: "1_000 tokens", err: "not a plain decimal"},
		{in: "1,000 tokens", err: "not a plain decimal"},
		{in: "5. tokens", err: "not a plain decimal"},
		{in: ".5k tokens", err: "not a plain decimal"},
		{in: "1.2.3k tokens", err: "not a plain decimal"},
		{in: "٥ tokens", err: "not a plain decimal"}, // a digit, but not an ASCII one
		{in: "k tokens", err: "not a plain decimal"},
		{in: "$500", err: "dollars is not supported yet"},
		{in: "500 dollars", err: "dollars is not supported yet"},
		{in: "1.5k USD", err: "dollars is not supported yet"},
		{in: "500 tokns", err: `"tokns" is not a unit`},
	} {
		n, unit, err := ParseAmount(test.in)
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%.40q: got %d %s, error %v; want an error with %q", test.in, n, unit, err, test.err)
			}
		case err != nil || n != test.n || unit != test.unit:
			t.Errorf("%q: got %d %s, error %v; want %d %s", test.in, n, unit, err, test.n, test.unit)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, test := range []struct {
		in  string
		n   int64
		err string
	}{
		{in: "1048576", n: 1 << 20},
		{in: "512KiB", n: 512 << 10},
		{in: "16MiB", n: 16 << 20},
		{in: "1.5MiB", n: 3 << 19},
		{in: "0.0009765625GiB", n: 1 << 20},
		{in: "1024GiB", n: 1 << 40},
		{in: "1024.5GiB", err: "more than 1099511627776"},
		{in: "0.1MiB", err: "whole number"},
		{in: "0", err: "more than zero"},
		{in: "-1", err: "more than zero"},
		{in: "", err: "not a plain decimal"},
		{in: "16MB", err: "write MiB"},
		{in: "16M", err: "write MiB"},
		{in: "16 MiB", err: "does not belong"},
		{in: "16mib", err: "does not belong"},
		{in: "1e6", err: "not a plain decimal"},
	} {
		n, err := ParseSize(test.in)
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q: got %d, error %v; want an error with %q", test.in, n, err, test.err)
			}
		case err != nil || n != test.n:
			t.Errorf("%q: got %d, error %v; want %d", test.in, n, err, test.n)
		}
	}
}

// Whatever number is written out in full with decimals comes back as it was.
func TestAmountExact(t *testing.T) {
	decimals := map[string]int{"": 0, "k": 3, "M": 6, "B": 9}
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.Int64Range(1, MaxAmount).Draw(t, "n") >> rapid.IntRange(0, bits.Len64(MaxAmount)-1).Draw(t, "shift")
		want = max(want, 1)
		suffix := rapid.SampledFrom([]string{"", "k", "M", "B"}).Draw(t, "suffix")
		d := decimals[suffix]
		text := fmt.Sprintf("%0*d", d+1, want) // at least one digit before the point
		if d > 0 {
			text = text[:len(text)-d] + "." + text[len(text)-d:]
		}
		got, unit, err := ParseAmount(text + suffix + " requests")
		if err != nil || got != want || unit != budget.Requests {
			t.Fatalf("%s%s: got %d %s, error %v; want %d", text, suffix, got, unit, err, want)
		}
	})
}
