// Package config reads the configuration file: strictly, and with a position for
// every mistake.
//
// [Load] reads a file and [Parse] reads bytes. Both return either a [Config] that
// is complete, with every default filled in, or [Errors]: all the mistakes of the
// file, sorted by position, each with what to do about it. [Config.Warnings] lists
// what is allowed but probably not meant. [Starter] is a commented file to begin
// with; it names every key and its default.
//
// # The file
//
// The smallest useful file is one budget:
//
//	budgets:
//	  - name: everyone
//	    limit: 50M tokens
//	    period: month
//
// The file is YAML, UTF-8, at most 1 MiB, one document, indented with spaces. What
// makes YAML surprising is refused: keys that occur twice, unknown keys, anchors
// and aliases, tags, deep nesting, a key without a value, and a number or true
// where text is meant (quote it).
//
// # Environment variables
//
// ${NAME} in a value stands for the environment variable NAME, $$ for one dollar
// sign; any other dollar sign stands for itself. A variable that is not set is an
// error. What a variable holds is text and is not expanded again. Keys and comments
// are not expanded. Inside {…} and […] YAML wants quotes: {dir: "${DATA}"}.
//
// # Amounts, sizes and times
//
// Amounts are a number and a unit, such as "20k tokens" or "60 requests"; k is a
// thousand, M a million and B a billion ([ParseAmount]). Sizes are bytes or have a
// binary unit, such as 16MiB ([ParseSize]). Times have the form of
// [time.ParseDuration], such as 90s or 1h30m. Decimals are exact: 1.5k is 1500, and
// what does not come out whole is an error.
//
// # Caveats
//
//   - Keys of the product that this version does not act on yet are refused with "is
//     not supported yet"; nothing is ignored in silence.
//   - Of malformed YAML only the first mistake is reported, because nothing after it
//     can be trusted; its line is the first one that cannot be read (in files of more
//     than about a thousand lines it may be a later one), its column the start of
//     that line's text.
//   - After 100 mistakes the rest is only counted.
//   - Relative paths count from the working directory. This package opens the file
//     itself, tokenizers and, unless asked by [LoadRemote], certificates.
//   - The admin token is part of [Config]. It appears in no error, no warning and no
//     JSON, but formatting a Config with %v would show it.
package config
