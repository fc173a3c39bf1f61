package config

import (
	"math/big"
	"regexp"
	"strings"

	"github.com/tokenbudget/tokenbudget/budget"
)

// MaxAmount is the largest amount a limit may have, in its unit. It leaves the
// ledger room to add without overflow, and is a whole number even to a reader of
// the admin API whose JSON numbers are IEEE 754 doubles (exact up to 2⁵³).
const MaxAmount = 1_000_000_000_000_000

// maxSize is the largest size ParseSize returns, in bytes: 1 TiB.
const maxSize = 1 << 40

// maxDigits bounds the length of a number, in bytes.
const maxDigits = 64

const (
	amountHint = "write it like 20k tokens, 1.5M tokens, 60 requests or 3 streams"
	sizeHint   = "write it like 16MiB, 512KiB or 1048576"
)

// ParseAmount reads an amount such as "50M tokens", "1.5k tokens", "60 requests" or
// "3 streams". k is 10³, M 10⁶, B 10⁹. Decimals are exact; what does not come out
// as a whole number from 1 to [MaxAmount] is an error. The error is an *[Error]
// without a position; it quotes at most the part of s that is wrong.
func ParseAmount(s string) (n int64, unit budget.Unit, err error) {
	dollars := mistake("limit tokens, requests or streams", "a limit in dollars is not supported yet")
	if strings.HasPrefix(s, "$") {
		return 0, 0, dollars
	}
	words := strings.Fields(s)
	if len(words) == 0 {
		return 0, 0, mistake(amountHint, "the amount is missing")
	}
	if len(words) == 1 {
		return 0, 0, mistake(amountHint, "the unit is missing")
	}
	switch name := strings.Join(words[1:], " "); name {
	case "token", "tokens":
		unit = budget.Tokens
	case "request", "requests":
		unit = budget.Requests
	case "stream", "streams":
		unit = budget.Streams
	case "dollar", "dollars", "USD", "usd":
		return 0, 0, dollars
	default:
		return 0, 0, mistake("the units are tokens, requests and streams; "+amountHint, "%s is not a unit", quote(name))
	}
	n, err = scaled(words[0], amountFactors, MaxAmount, amountHint)
	return n, unit, err
}

// ParseSize reads a size in bytes, such as "16MiB", "512KiB" or "1048576". KiB is
// 2¹⁰, MiB 2²⁰, GiB 2³⁰ bytes. Decimals are exact; what does not come out as a whole
// number from 1 to 2⁴⁰ is an error. The error is an *[Error] without a position;
// it quotes at most the part of s that is wrong.
func ParseSize(s string) (int64, error) {
	return scaled(s, sizeFactors, maxSize, sizeHint)
}

// factors are suffixes of numbers; one that would be mistaken for another has a
// word instead of a factor.
type factors map[string]struct {
	factor  int64
	instead string
}

var amountFactors = factors{
	"":  {factor: 1},
	"k": {factor: 1e3},
	"M": {factor: 1e6},
	"B": {factor: 1e9},
	"K": {instead: "k (a thousand)"},
	"m": {instead: "M (a million)"},
	"b": {instead: "B (a billion)"},
	"G": {instead: "B (a billion)"},
}

var sizeFactors = factors{
	"":    {factor: 1},
	"KiB": {factor: 1 << 10},
	"MiB": {factor: 1 << 20},
	"GiB": {factor: 1 << 30},
	"K":   {instead: "KiB"}, "KB": {instead: "KiB"}, "kB": {instead: "KiB"}, "k": {instead: "KiB"},
	"M": {instead: "MiB"}, "MB": {instead: "MiB"}, "m": {instead: "MiB"},
	"G": {instead: "GiB"}, "GB": {instead: "GiB"},
}

// decimal is a number without sign, exponent or separators.
var decimal = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)

// scaled reads a decimal number with a suffix as a whole number from 1 to most.
func scaled(s string, known factors, most int64, hint string) (int64, error) {
	end := strings.LastIndexAny(s, "0123456789.") + 1
	number, suffix := s[:end], s[end:]
	f, ok := known[suffix]
	switch {
	case strings.HasPrefix(number, "-"):
		return 0, mistake(hint, "it must be more than zero")
	case !decimal.MatchString(number) || len(number) > maxDigits:
		return 0, mistake(hint, "%s is not a plain decimal number", quote(number))
	case !ok:
		return 0, mistake(hint, "%s does not belong after a number", quote(suffix))
	case f.instead != "":
		return 0, mistake("write "+f.instead, "%s does not belong after a number", quote(suffix))
	}

	n, _ := new(big.Rat).SetString(number) // cannot fail: number matches decimal
	n.Mul(n, new(big.Rat).SetInt64(f.factor))
	switch {
	case n.Sign() == 0:
		return 0, mistake(hint, "it must be more than zero")
	case n.Cmp(new(big.Rat).SetInt64(most)) > 0:
		return 0, mistake("", "it is more than %d", most)
	case !n.IsInt():
		return 0, mistake("use fewer decimals", "it does not come out as a whole number")
	}
	return n.Num().Int64(), nil
}
