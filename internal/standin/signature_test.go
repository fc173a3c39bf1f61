package standin

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// What AWS's own signer has signed is verified, and nothing that differs in a byte.
func TestVerify(t *testing.T) {
	key := SigningKey{"AKID", "secret"}
	const path = "/model/a%3Ab/x?b=2&a=%20c+d"
	const body = `{"model":"gpt-4o","messages":[]}`
	creds := aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	fresh := func(t *testing.T) *http.Request {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://bedrock.test:8080"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("content-type", "application/json")
		req.Header.Set("accept-encoding", "gzip,  deflate")
		req.Header["X-Twice"] = []string{"a", " b  c "}
		return req
	}
	received := func(t *testing.T, req *http.Request, change func(string) string) (*http.Request, []byte) {
		t.Helper()
		var wire bytes.Buffer
		if err := req.Write(&wire); err != nil {
			t.Fatal(err)
		}
		r, body := readRequest(t, change(wire.String()))
		return r, body
	}
	forms := map[string]func(t *testing.T) *http.Request{
		"header": func(t *testing.T) *http.Request {
			req := fresh(t)
			if err := v4.NewSigner().SignHTTP(t.Context(), creds, req, hash, "bedrock", "us-east-1", time.Now()); err != nil {
				t.Fatal(err)
			}
			return req
		},
		"query": func(t *testing.T) *http.Request {
			req := fresh(t)
			url, headers, err := v4.NewSigner().PresignHTTP(t.Context(), creds, req, hash, "bedrock", "us-east-1", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			signed, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			signed.Header = headers
			return signed
		},
	}
	for name, form := range forms {
		for change, tt := range map[string]struct {
			old, with string
			good      bool
		}{
			"nothing":           {"", "", true},
			"the body":          {`"gpt-4o"`, `"gpt-4p"`, false},
			"space in it":       {`[]}`, `[]} `, false},
			"a header":          {"gzip,  deflate", "gzip", false},
			"the host":          {"bedrock.test", "bedrock.tess", false},
			"the path":          {"/model/", "/modem/", false},
			"the query":         {"b=2", "b=3", false},
			"the method":        {"POST", "PUT", false},
			"the key":           {"AKID", "AKIE", false},
			"the region":        {"us-east-1", "us-east-2", false},
			"an unsigned space": {"X-Twice: a\r\n", "X-Twice:   a  \r\n", true},
		} {
			t.Run(name+"/"+change, func(t *testing.T) {
				r, body := received(t, form(t), func(wire string) string {
					if change == "space in it" {
						wire = strings.Replace(wire, "Content-Length: 32", "Content-Length: 33", 1)
					}
					changed := strings.Replace(wire, tt.old, tt.with, 1)
					if tt.old != "" && changed == wire {
						t.Fatalf("nothing to change in\n%s", wire)
					}
					return changed
				})
				if err := key.verify(r, body); (err == nil) != tt.good {
					t.Errorf("verify: %v", err)
				}
			})
		}
	}
	if err := key.verify(fresh(t), []byte(body)); err == nil {
		t.Error("a request without a signature is taken")
	}
	if err := (SigningKey{key.ID, "other"}).verify(forms["header"](t), []byte(body)); err == nil {
		t.Error("a signature under another secret is taken")
	}
}

func readRequest(t *testing.T, wire string) (*http.Request, []byte) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, body
}
