package reference

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/tokenbudget/tokenbudget/internal/config"
)

// checker is the schema, ready to be used.
var checker = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("schema.json")
})

// bySchema returns what the schema says of a file.
func bySchema(t testing.TB, text string) error {
	t.Helper()
	s, err := checker()
	if err != nil {
		t.Fatal(err)
	}
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil {
		return err
	}
	if len(n.Content) == 0 {
		return errors.New("empty")
	}
	v, err := asJSON(n.Content[0])
	if err != nil {
		return err
	}
	return s.Validate(v)
}

var (
	whole      = regexp.MustCompile(`^[-+]?[0-9]+$`)
	otherWhole = regexp.MustCompile(`^0o[0-7]+$|^0x[0-9a-fA-F]+$`)
	fraction   = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
)

// asJSON is what editors make of YAML: the core schema of YAML 1.2 (section 10.3.2), which
// differs in details from that of our parser.
func asJSON(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.MappingNode:
		m := make(map[string]any)
		for i := 0; i < len(n.Content); i += 2 {
			k := n.Content[i]
			if k.Kind != yaml.ScalarNode {
				return nil, errors.New("a key that is no scalar")
			}
			v, err := asJSON(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			if _, twice := m[k.Value]; twice {
				return nil, errors.New("a key that occurs twice")
			}
			m[k.Value] = v
		}
		return m, nil
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := asJSON(c)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.ScalarNode:
	default:
		return nil, errors.New("an alias")
	}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return n.Value, nil
	}
	switch n.Value {
	case "", "~", "null", "Null", "NULL":
		return nil, nil //nolint:nilnil // which is the value
	case "true", "True", "TRUE":
		return true, nil
	case "false", "False", "FALSE":
		return false, nil
	}
	switch s := n.Value; {
	case whole.MatchString(s):
		digits := strings.TrimLeft(strings.TrimLeft(s, "-+"), "0")
		if digits == "" {
			digits = "0"
		}
		if s[0] == '-' {
			digits = "-" + digits
		}
		return json.Number(digits), nil
	case otherWhole.MatchString(s):
		if v, err := strconv.ParseInt(s, 0, 64); err == nil {
			return v, nil
		}
	case fraction.MatchString(s):
		if v, err := strconv.ParseFloat(s, 64); err == nil {
			return v, nil
		}
	}
	return n.Value, nil
}

// byDecoder returns the mistakes that the decoder finds in a file. Certificates are not
// looked at.
func byDecoder(t testing.TB, dir, text string) (*config.Config, config.Errors) {
	t.Helper()
	var c *config.Config
	var err error
	if strings.Contains(text, "cert") {
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err = config.LoadRemote(file)
	} else {
		c, err = config.Parse("config.yaml", []byte(text), os.LookupEnv)
	}
	var errs config.Errors
	if err != nil && !errors.As(err, &errs) {
		t.Fatal(err)
	}
	return c, errs
}

// prepare goes to a folder with what the examples name.
func prepare(t *testing.T) (dir string) {
	t.Helper()
	tokenizer, err := os.ReadFile(filepath.Join("..", "testdata", "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "llama3.json"), tokenizer, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("TOKENBUDGET_ADMIN_TOKEN", "0123456789abcdef")
	t.Setenv("TOKENBUDGET_API_KEY_SECRET", "0123456789abcdef0123456789abcdef")
	return dir
}

// chosen are names that the files here choose.
var chosen = map[string]string{
	"identity.NAME": "branch", "budgets[].match.NAME": "team", "budgets[].match.header.NAME": "x-env",
	"api_keys.subjects[].NAME": "team", "budgets[].overrides.NAME": "search", "budgets[].overrides[].NAME": "team",
}

// around is what mappings need besides one key, which takes the place of the line that
// begins alike.
func around(path, key string) []string {
	switch path {
	case "":
		if key == "identity" {
			return []string{"api_keys: {secret: 0123456789abcdef}"}
		}
		return []string{"identity: {team: [{jwt: team}], user: [{jwt: sub}]}", "budgets: [{name: all, limit: 1M tokens, period: day}]"}
	case "listen.tls", "listen.extproc.tls", "listen.admin.tls":
		return []string{"cert: a.crt", "key: a.key"}
	case "budgets[]":
		if key == "on_input" {
			return []string{"name: a", "limit: 1k tokens", "per: request"}
		}
		if key == "max_delay" {
			return []string{"name: a", "limit: 1M tokens", "period: minute", "action: throttle"}
		}
		return []string{"name: a", "limit: 1M tokens", "period: day", "per: team"}
	case "api_keys":
		return []string{"secret: 0123456789abcdef"}
	case "api_keys.subjects[]":
		return []string{"hash: 5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", "team: ads"}
	case "timeouts":
		if key == "idle" {
			return []string{"exchange: 24h"}
		}
		if key == "drain_delay" {
			return []string{"drain: 10m"}
		}
	case "budgets[].overrides[]":
		return []string{"team: ads", "limit: 3M tokens"}
	case "models[]":
		if key == "encoding" || key == "tokenizer" {
			return []string{"match: m"}
		}
		return []string{"match: m", "as: gpt-4o"}
	case "identity.NAME[]":
		switch key {
		case "jwt", "header", "api_key":
			return nil
		}
		return []string{"header: x-a"}
	}
	return nil
}

// fileWith returns a file that has value at path and is right otherwise, and the line in
// which value begins.
func fileWith(path, value string) (text string, line int) {
	var b strings.Builder
	indent, at := "", ""
	parts := strings.Split(path, ".")
	for i, part := range parts {
		key, element := strings.CutSuffix(part, "[]")
		parent := at
		if at != "" {
			at += "."
		}
		at += key
		if name, ok := chosen[at]; ok {
			key = name
		}
		dash := ""
		if strings.HasSuffix(parent, "[]") {
			dash = "- "
		}
		write := func(s string) {
			fmt.Fprintf(&b, "%s%s%s\n", indent, dash, s)
			dash = strings.Repeat(" ", len(dash))
		}
		for _, other := range around(parent, key) {
			if !strings.HasPrefix(other, key+":") {
				write(other)
			}
		}
		line = strings.Count(b.String(), "\n") + 1
		if i == len(parts)-1 {
			if element {
				value = "[" + value + "]"
			}
			write(key + ": " + value)
			break
		}
		write(key + ":")
		indent += dash + "  "
		if parent == "" && key == "budgets" {
			write("- {name: all, limit: 50M tokens, period: day}") // which others may name
		}
		if element {
			at += "[]"
		}
	}
	if !strings.HasPrefix(path, "budgets") && !strings.Contains(b.String(), "\nbudgets:") && !strings.HasPrefix(b.String(), "budgets:") {
		b.WriteString("budgets: [{name: all, limit: 1M tokens, period: day}]\n")
	}
	return b.String(), line
}

// refused returns the mistakes of a file in a line.
func refused(errs config.Errors, line int) (found []string) {
	for _, e := range errs {
		if e.Line == line {
			found = append(found, e.Msg+" ("+e.Hint+")")
		}
	}
	return found
}
