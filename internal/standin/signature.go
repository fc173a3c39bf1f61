package standin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// SigningKey is the pair of names under which clients sign their requests.
type SigningKey struct{ ID, Secret string }

const sigV4 = "AWS4-HMAC-SHA256"

// verify says what is wrong with the signature of a request: AWS Signature Version 4, in the
// header authorization or in the query. It follows "Create a signed AWS API request" in
// the IAM User Guide, and shares nothing with those who sign in the tests. It does not look
// at the clock, and knows no version 4a.
func (k SigningKey) verify(r *http.Request, body []byte) error {
	query := r.URL.Query()
	var credential, signed, signature, date string
	presigned := query.Has("X-Amz-Signature")
	if presigned {
		if a := query.Get("X-Amz-Algorithm"); a != sigV4 {
			return fmt.Errorf("the algorithm is %q", a)
		}
		credential, signed, signature, date = query.Get("X-Amz-Credential"), query.Get("X-Amz-SignedHeaders"), query.Get("X-Amz-Signature"), query.Get("X-Amz-Date")
		query.Del("X-Amz-Signature")
	} else {
		fields, ok := strings.CutPrefix(r.Header.Get("Authorization"), sigV4+" ")
		if !ok {
			return errors.New("the request is not signed")
		}
		for f := range strings.SplitSeq(fields, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
			switch name {
			case "Credential":
				credential = value
			case "SignedHeaders":
				signed = value
			case "Signature":
				signature = value
			}
		}
		date = r.Header.Get("X-Amz-Date")
	}
	id, scope, _ := strings.Cut(credential, "/")
	parts := strings.Split(scope, "/") // day, region, service, aws4_request
	switch {
	case id != k.ID:
		return errors.New("the key is not known")
	case len(parts) != 4 || parts[3] != "aws4_request" || !strings.HasPrefix(date, parts[0]):
		return errors.New("the scope of the credential makes no sense")
	case !slices.Contains(strings.Split(signed, ";"), "host"):
		return errors.New("the host is not signed")
	}
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	switch stated := r.Header.Get("X-Amz-Content-Sha256"); stated {
	case "", payload:
	case "UNSIGNED-PAYLOAD":
		payload = stated
	default:
		return errors.New("x-amz-content-sha256 is not the body's")
	}
	var headers strings.Builder
	for name := range strings.SplitSeq(signed, ";") {
		headers.WriteString(name + ":" + canonicalHeader(r, name) + "\n")
	}
	canonical := strings.Join([]string{
		r.Method, awsEscape(r.URL.EscapedPath(), "/"), canonicalQuery(query), headers.String(), signed, payload,
	}, "\n")
	hashed := sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + k.Secret)
	for _, p := range parts {
		key = mac(key, p)
	}
	want := mac(key, sigV4+"\n"+date+"\n"+scope+"\n"+hex.EncodeToString(hashed[:]))
	if got, err := hex.DecodeString(signature); err != nil || !hmac.Equal(got, want) {
		return errors.New("the signature does not match the request")
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text)) // which never fails
	return h.Sum(nil)
}

// canonicalHeader is the value of a header as it is signed: trimmed, runs of spaces as one, and
// what comes several times joined by commas.
func canonicalHeader(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}

// canonicalQuery is a query as it is signed: sorted, and everything escaped.
func canonicalQuery(query url.Values) string {
	var all []string
	for name, values := range query {
		for _, v := range values {
			all = append(all, awsEscape(name, "")+"="+awsEscape(v, ""))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "&")
}

// awsEscape escapes all but unreserved characters (RFC 3986) and those of keep.
func awsEscape(s, keep string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', strings.IndexByte("-_.~"+keep, c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
