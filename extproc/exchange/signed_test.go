package exchange

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

func rawHeaders(pairs ...string) (h headers) {
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return h
}

func TestSignatureOf(t *testing.T) {
	const v4 = "AWS4-HMAC-SHA256 Credential=A/20260301/us-east-1/bedrock/aws4_request,SignedHeaders=host;X-Amz-Date,Signature=00"
	for _, tt := range []struct {
		name string
		h    headers
		want signature
	}{
		{"none", rawHeaders(":path", "/v1/chat/completions"), signature{}},
		{"a key", rawHeaders("authorization", "Bearer AWS4-HMAC-SHA256"), signature{}},
		{"short", rawHeaders("authorization", "AWS4"), signature{}},
		{"version 4", rawHeaders("authorization", v4), signature{true, "host;x-amz-date"}},
		{"lower case", rawHeaders("authorization", strings.ToLower(v4[:16])+v4[16:]), signature{true, "host;x-amz-date"}},
		{"version 4a", rawHeaders("authorization", "AWS4-ECDSA-P256-SHA256 Credential=A, SignedHeaders=host;x-amz-region-set, Signature=00"), signature{true, "host;x-amz-region-set"}},
		{"the second", rawHeaders("authorization", "Bearer k", "authorization", v4), signature{true, "host;x-amz-date"}},
		{"no headers", rawHeaders("authorization", "AWS4-HMAC-SHA256"), signature{true, ""}},
		{"presigned", rawHeaders(":path", "/v1?a=b&X-Amz-SignedHeaders=host%3Baccept-encoding&X-Amz-Signature=00"), signature{true, "host;accept-encoding"}},
		{"presigned, no headers", rawHeaders(":path", "/v1?X-Amz-Signature=00"), signature{true, ""}},
		{"in the path", rawHeaders(":path", "/X-Amz-Signature=00"), signature{}},
	} {
		if got := signatureOf(tt.h); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	s := signature{true, "host;x-accept-encoding"}
	if s.covers("accept-encoding") || !s.covers("host") {
		t.Error("covers takes a part of a name for a name")
	}
}

// What most requests have is looked through without a copy.
func TestSignatureOfAllocates(t *testing.T) {
	h := rawHeaders(":path", "/v1/chat/completions?a=b", "authorization", "Bearer sk-0123456789", "x-user", "ann")
	if n := testing.AllocsPerRun(100, func() { signatureOf(h) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzSignature: whatever authorization and path are, a signature is found where there is
// one, and its list of headers is part of what came.
func FuzzSignature(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A, SignedHeaders=host, Signature=0", "/v1?X-Amz-SignedHeaders=host%3B%zz&X-Amz-Signature=")
	f.Add("aws4-", "?X-Amz-Signature=&X-Amz-SignedHeaders=%41")
	f.Fuzz(func(t *testing.T, authorization, path string) {
		s := signatureOf(rawHeaders("authorization", authorization, ":path", path))
		scheme := len(authorization) >= 5 && strings.EqualFold(authorization[:5], "AWS4-")
		_, query, _ := strings.Cut(path, "?")
		if want := scheme || strings.Contains(query, "X-Amz-Signature="); s.signed != want {
			t.Fatalf("signed: %v", s.signed)
		}
		if !s.signed && s.headers != "" || strings.ContainsAny(s.headers, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			t.Fatalf("headers: %q", s.headers)
		}
		s.covers("accept-encoding")
	})
}

// TestSignedIdentity: identity is no compression, however it is written.
func TestSignedIdentity(t *testing.T) {
	for value, readable := range map[string]bool{"": true, "identity": true, "Identity": true, "identity, identity": true, "gzip": false, "identity, br": false, "unknown": false} {
		h := headers{{Key: "content-encoding", RawValue: []byte(value)}}
		if got := unreadableSigned(h, signature{signed: true}); (got == "") != readable {
			t.Errorf("content-encoding %q: %q", value, got)
		}
	}
}
