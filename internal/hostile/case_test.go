package hostile

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

func TestExpand(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"plain {} $ text":                 "plain {} $ text",
		`a${3*"\"x"}b${"\xff\n"}${0*"y"}`: "a\"x\"x\"xb\xff\n",
		`${2*"${"}`:                       "${${",
	} {
		if got, err := Expand(in); err != nil || string(got) != want {
			t.Errorf("%s: got %q, error %v", in, got, err)
		}
	}
	for _, in := range []string{"${", "${}", `${x*"y"}`, `${"y"`, `${-1*"y"}`, `${99999999999*"y"}`, `${67108864*"xx"}`} {
		if got, err := Expand(in); err == nil {
			t.Errorf("%s: got %d bytes", in, len(got))
		}
	}
}

func TestParse(t *testing.T) {
	parse := func(cmd, input string) (*Case, error) {
		name, title, _ := strings.Cut(cmd, " ")
		d := &datadriven.TestData{Cmd: name, Input: input}
		for w := range strings.FieldsSeq(title) {
			d.CmdArgs = append(d.CmdArgs, datadriven.CmdArg{Key: w})
		}
		return Parse(d)
	}
	c, err := parse("answer so it is", "header x-a:  b\nunary\nsay \"hi\"\ndata {}\nraw ${2*\"x\"}\nend")
	if err != nil {
		t.Fatal(err)
	}
	if c.Title != "so it is" || !c.Unary || c.Path != ChatPath || len(c.Steps) != 5 || !bytes.Contains(c.Body(), []byte("gpt-4o")) {
		t.Errorf("%+v", c)
	}
	if name, value := c.Steps[0].Header(); name != "x-a" || value != " b" {
		t.Errorf("header %q %q", name, value)
	}
	var all []byte
	for _, s := range c.Steps {
		b, _ := s.Bytes()
		all = append(all, b...)
	}
	if want := "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"hi\\\"\"}}]}\n\ndata: {}\n\nxx"; string(all) != want {
		t.Errorf("%q", all)
	}
	for _, bad := range [][2]string{{"request", "body x"}, {"requests of many", "body x"}, {"request with a typo", "bodi x"}, {"request with an end", "end"}, {"answer with a macro", "raw ${"}} {
		if c, err := parse(bad[0], bad[1]); err == nil {
			t.Errorf("%q gives %+v", bad, c)
		}
	}
}
