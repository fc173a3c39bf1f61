package config

import (
	"slices"
	"strings"
)

// maxSuggest is the longest word, in bytes, for which a similar one is looked up.
const maxSuggest = 64

// didYouMean returns a hint that names the word most similar to the given one, or ""
// if none is similar.
func didYouMean(word string, words []string) string {
	if len(word) > maxSuggest {
		return ""
	}
	// One slip in every three letters is a typing error; more is another word.
	best, distance := "", max(1, len(word)/3)+1
	for _, w := range slices.Sorted(slices.Values(words)) {
		if d := editDistance(strings.ToLower(word), strings.ToLower(w)); d < distance {
			best, distance = w, d
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "?"
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b, no letter being touched twice (optimal string
// alignment). It compares bytes, which is right for the ASCII names of keys.
func editDistance(a, b string) int {
	// Three rows of the table are enough, because a swap looks back two rows.
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			replace := last[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(replace, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
