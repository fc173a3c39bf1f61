package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tokenbudget/tokenbudget/internal/apikeys"
	"github.com/tokenbudget/tokenbudget/internal/config"
)

var hashKeyCommand = command{
	name:  "hash-key",
	args:  "-config FILE < KEY",
	short: "hashes an API key for api_keys in the configuration",
	long: `It reads a key from standard input, and prints its hash under api_keys.secret of FILE
and the line to paste under api_keys.subjects. The key is never an argument, which
others could see, and is not kept:

  read -rs KEY && printf %s "$KEY" | tokenbudget hash-key -config FILE`,
	setup: func(fs *flag.FlagSet) func(context.Context, env, []string) error {
		path := configFlag(fs)
		return func(_ context.Context, e env, args []string) error {
			if len(args) > 0 {
				return usagef("the key is read from standard input, not from arguments, which others can see") // and which are not repeated
			}
			c, err := loadRemote(e, *path)
			if err != nil {
				return err
			}
			if c.APIKeys.Secret == "" {
				return errors.New(`the file has no api_keys.secret; add api_keys: {secret: "${TOKENBUDGET_API_KEY_SECRET}"}, with a secret such as openssl rand -hex 32 makes`)
			}
			key, err := readKey(e.stdin)
			if err != nil {
				return err
			}
			return printHash(e, c, key)
		}
	},
}

// shortKey is the length below which a key can be guessed, in bytes.
const shortKey = 20

// readKey reads a key, with or without a line break at its end. Errors repeat nothing of it.
func readKey(r io.Reader) ([]byte, error) {
	key, err := io.ReadAll(io.LimitReader(r, apikeys.MaxKey+3))
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	key = bytes.TrimSuffix(bytes.TrimSuffix(key, []byte("\n")), []byte("\r"))
	switch {
	case len(key) == 0:
		return nil, errors.New("standard input has no key")
	case len(key) > apikeys.MaxKey:
		return nil, fmt.Errorf("the key is longer than %d bytes", apikeys.MaxKey)
	case bytes.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }):
		return nil, errors.New("a key has printable ASCII characters without spaces and commas; send it alone, without Bearer, on one line")
	}
	return key, nil
}

func printHash(e env, c *config.Config, key []byte) error {
	hash := apikeys.HashOf([]byte(c.APIKeys.Secret), key)
	for _, s := range c.APIKeys.Subjects {
		if s.Hash == hash {
			fmt.Fprintln(e.stderr, "the file has a subject with this hash already")
		}
	}
	if len(key) < shortKey {
		fmt.Fprintf(e.stderr, "warning: the key has less than %d characters and can be guessed\n", shortKey)
	}
	var names []string
	for _, id := range c.Identities {
		for _, s := range id.Sources {
			if name := s.APIKey + ": NAME"; s.APIKey != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	values := cmp.Or(strings.Join(names, ", "), "team: NAME")
	_, err := fmt.Fprintf(e.stdout, "%s\n\nUnder api_keys.subjects, with a name in place of NAME:\n\n    - {hash: %q, %s}\n", hash, hash, values)
	return err
}

// knownKeys are the API keys of a configuration; nil if it has no such section, and then no
// identity reads any.
func knownKeys(c config.APIKeys) *apikeys.Keys {
	if c.Secret == "" {
		return nil
	}
	subjects := make(map[apikeys.Hash]*apikeys.Subject, len(c.Subjects))
	for _, s := range c.Subjects {
		values := apikeys.Subject(s.Values)
		subjects[s.Hash] = &values
	}
	return apikeys.New([]byte(c.Secret), subjects)
}
