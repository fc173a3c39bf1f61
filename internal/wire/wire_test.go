package wire

import (
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
)

func headers(pairs ...string) *extprocv3.HttpHeaders {
	m := &corev3.HeaderMap{}
	for i := 0; i < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return &extprocv3.HttpHeaders{Headers: m}
}

// requests are what Envoy sends of a usual exchange.
func requests() []*extprocv3.ProcessingRequest {
	config := &extprocv3.ProtocolConfiguration{
		RequestBodyMode: filterv3.ProcessingMode_BUFFERED, ResponseBodyMode: filterv3.ProcessingMode_FULL_DUPLEX_STREAMED,
	}
	jwt, err := structpb.NewStruct(map[string]any{"claims": map[string]any{"sub": "ann"}})
	if err != nil {
		panic(err)
	}
	return []*extprocv3.ProcessingRequest{
		{
			Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: headers(":method", "POST", ":path", "/v1/chat/completions",
				"content-type", "application/json", "x-team", "search", "x-odd", "\xff\x00", "x-long", strings.Repeat("long", 100))},
			MetadataContext: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.filters.http.jwt_authn": jwt}},
			ProtocolConfig:  config,
		},
		{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: []byte(`{"model":"gpt-4o"}`), EndOfStream: true}}},
		{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: headers(":status", "200", "content-type", "application/json")}},
		{Request: &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: &extprocv3.HttpBody{Body: []byte(`{"choices":[]}`)}}},
		{Request: &extprocv3.ProcessingRequest_ResponseBody{ResponseBody: &extprocv3.HttpBody{EndOfStream: true}}},
	}
}

// responses are what the server sends of a usual exchange.
func responses() []*extprocv3.ProcessingResponse {
	set := func(pairs ...string) (all []*corev3.HeaderValueOption) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, &corev3.HeaderValueOption{
				Header:       &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			})
		}
		return all
	}
	outcome, err := structpb.NewStruct(map[string]any{"tokenbudget": map[string]any{
		"api": "openai-chat", "stream": true, "limit": "", "input_tokens": 1234, "held": 0, "team": "Größe", "ttft_ms": 1.5,
	}})
	if err != nil {
		panic(err)
	}
	return []*extprocv3.ProcessingResponse{
		{Response: &extprocv3.ProcessingResponse_RequestHeaders{RequestHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{
			HeaderMutation: &extprocv3.HeaderMutation{RemoveHeaders: []string{"accept-encoding", "x-other"}},
		}}}},
		{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{}}},
		{Response: &extprocv3.ProcessingResponse_RequestBody{RequestBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{
			BodyMutation:   &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_Body{Body: []byte(`{"model":"gpt-4o"}`)}},
			HeaderMutation: &extprocv3.HeaderMutation{SetHeaders: set("content-length", "18")},
		}}}},
		{Response: &extprocv3.ProcessingResponse_ResponseHeaders{ResponseHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{
			HeaderMutation: &extprocv3.HeaderMutation{
				SetHeaders:    set("ratelimit", `"team";r=100`, "x-ratelimit-remaining-tokens", "100", "x-empty", ""),
				RemoveHeaders: []string{"content-length"},
			},
		}}}},
		{
			Response: &extprocv3.ProcessingResponse_ResponseBody{ResponseBody: &extprocv3.BodyResponse{Response: &extprocv3.CommonResponse{
				BodyMutation: &extprocv3.BodyMutation{Mutation: &extprocv3.BodyMutation_StreamedResponse{StreamedResponse: &extprocv3.StreamedBodyResponse{
					Body: []byte(strings.Repeat("data: {}\n\n", 50)), EndOfStream: true,
				}}},
			}}},
			DynamicMetadata: outcome,
		},
	}
}

// used has had other messages before.
var used Memory

// What Envoy sends is read here, not by package proto, and comes to the same.
func TestUnmarshal(t *testing.T) {
	for i, want := range requests() {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			data, err := proto.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			var got extprocv3.ProcessingRequest
			used.Reset()
			if !request(data, &got, &used) {
				t.Error("is left to package proto")
			}
			if !proto.Equal(&got, want) {
				t.Errorf("read %v, want %v", &got, want)
			}
		})
	}
}

// What was in a message before is gone.
func TestUnmarshalResets(t *testing.T) {
	all := requests()
	data, err := proto.Marshal(all[4])
	if err != nil {
		t.Fatal(err)
	}
	got := all[0]
	if err := Unmarshal(data, got, &used); err != nil || !proto.Equal(got, all[4]) {
		t.Errorf("read %v and %v, want %v", got, err, all[4])
	}
}

// A message may come in several parts, which are one after another: package proto
// merges them, and so it must come out.
func TestUnmarshalParts(t *testing.T) {
	fields := map[string]func(i int) *extprocv3.ProcessingRequest{
		"metadata": func(i int) *extprocv3.ProcessingRequest {
			return &extprocv3.ProcessingRequest{MetadataContext: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{fmt.Sprint(i): {}}}}
		},
		"config": func(i int) *extprocv3.ProcessingRequest {
			c := &extprocv3.ProtocolConfiguration{RequestBodyMode: filterv3.ProcessingMode_BUFFERED}
			if i > 0 {
				c = &extprocv3.ProtocolConfiguration{ResponseBodyMode: filterv3.ProcessingMode_FULL_DUPLEX_STREAMED}
			}
			return &extprocv3.ProcessingRequest{ProtocolConfig: c}
		},
		"headers": func(i int) *extprocv3.ProcessingRequest {
			return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: headers(fmt.Sprint(i), "x")}}
		},
		"header maps": func(i int) *extprocv3.ProcessingRequest {
			h := &extprocv3.HttpHeaders{EndOfStream: i > 0}
			if i == 0 {
				h = headers("x", "y")
			}
			return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: h}}
		},
		"body": func(i int) *extprocv3.ProcessingRequest {
			return &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{
				Body: []byte("body"[:4*(1-i)]), EndOfStream: i > 0,
			}}}
		},
	}
	for name, part := range fields {
		t.Run(name, func(t *testing.T) {
			var data []byte
			for i := range 2 {
				var err error
				if data, err = (proto.MarshalOptions{}).MarshalAppend(data, part(i)); err != nil {
					t.Fatal(err)
				}
			}
			var got, want extprocv3.ProcessingRequest
			if err := proto.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			if err := Unmarshal(data, &got, &used); err != nil || !proto.Equal(&got, &want) {
				t.Errorf("read %v and %v, want %v", &got, err, &want)
			}
		})
	}
}

// Metadata may be nested as deeply as package proto reads it, and no deeper.
func TestUnmarshalDepth(t *testing.T) {
	within := func(m []byte, fields ...protowire.Number) []byte {
		for _, number := range fields {
			m = protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), m)
		}
		return m
	}
	read, refused := 0, 0
	for n := protowire.DefaultRecursionLimit/2 - 5; n < protowire.DefaultRecursionLimit/2; n++ {
		for _, value := range [][]byte{nil, within(nil, 6)} { // nothing, or an empty list
			for range n {
				value = within(value, 1, 6) // a list of one value, which is a value
			}
			// The value of a field of a struct, which the metadata have under a name.
			data := within(value, 2, 1, 2, 1, 8)
			var got, want extprocv3.ProcessingRequest
			err, wantErr := Unmarshal(data, &got, &used), proto.Unmarshal(data, &want)
			if (err == nil) != (wantErr == nil) {
				t.Errorf("%d lists: %v, package proto: %v", n, err, wantErr)
			}
			if wantErr == nil {
				read++
			} else {
				refused++
			}
		}
	}
	if read == 0 || refused == 0 {
		t.Errorf("%d are read, %d refused", read, refused)
	}
}

// write writes m and reads it again, by package proto; nil if it cannot be written here.
func write(t *testing.T, m *extprocv3.ProcessingResponse) *extprocv3.ProcessingResponse {
	t.Helper()
	n, ok := Size(m)
	if !ok {
		return nil
	}
	b := make([]byte, n)
	MarshalTo(b, m)
	var got extprocv3.ProcessingResponse
	if err := proto.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v: package proto cannot read %q: %v", m, b, err)
	}
	return &got
}

// What the server sends is written here, in as few bytes as package proto needs.
func TestMarshal(t *testing.T) {
	for i, want := range responses() {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			got := write(t, want)
			if got == nil {
				t.Fatal("is left to package proto")
			}
			if !proto.Equal(got, want) {
				t.Errorf("wrote %v, want %v", got, want)
			}
			if n, _ := Size(want); n != proto.Size(want) {
				t.Errorf("wrote %d bytes, package proto %d", n, proto.Size(want))
			}
		})
	}
}

// Text that protobuf does not allow is left to package proto, which refuses it.
func TestMarshalInvalid(t *testing.T) {
	m := responses()[0]
	m.GetRequestHeaders().GetResponse().GetHeaderMutation().RemoveHeaders[0] = "\xff"
	if _, ok := Size(m); ok {
		t.Error("a text that is not UTF-8 was written")
	}
	if _, err := proto.Marshal(m); err == nil {
		t.Error("package proto writes a text that is not UTF-8")
	}
}

// Every field that the messages have, set alone, is written, or left to package proto:
// so no field is lost that a later go-control-plane brings.
func TestEveryField(t *testing.T) {
	checked := 0
	root := (&extprocv3.ProcessingResponse{}).ProtoReflect()
	eachField(root, func() {
		m := root.Interface().(*extprocv3.ProcessingResponse)
		if got := write(t, m); got != nil && !proto.Equal(got, m) {
			t.Errorf("wrote %v, want %v", got, m)
		}
		checked++
	}, 0)
	if checked < 100 {
		t.Errorf("only %d messages were tried", checked)
	}
	t.Log(checked, "messages")

	checked = 0
	in := (&extprocv3.ProcessingRequest{}).ProtoReflect()
	eachField(in, func() {
		want := in.Interface().(*extprocv3.ProcessingRequest)
		data, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got extprocv3.ProcessingRequest
		if err := Unmarshal(data, &got, &used); err != nil || !proto.Equal(&got, want) {
			t.Errorf("read %v and %v, want %v", &got, err, want)
		}
		checked++
	}, 0)
	if checked < 50 {
		t.Errorf("only %d messages were tried", checked)
	}
	t.Log(checked, "messages")
}

// eachField sets one field of m after the other, and within those that are messages
// one of their fields after the other, and calls f each time.
func eachField(m protoreflect.Message, f func(), depth int) {
	const deepest = 9
	f()
	if depth == deepest {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		d := fields.Get(i)
		switch {
		case d.IsMap():
			entries := m.Mutable(d).Map()
			v := entries.NewValue()
			key := protoreflect.ValueOfString("key").MapKey()
			entries.Set(key, v)
			if d.MapValue().Message() != nil {
				eachField(entries.Get(key).Message(), f, depth+1)
			} else {
				f()
			}
		case d.IsList() && d.Message() != nil:
			eachField(m.Mutable(d).List().AppendMutable().Message(), f, depth+1)
		case d.IsList():
			m.Mutable(d).List().Append(some(d))
			f()
		case d.Message() != nil:
			eachField(m.Mutable(d).Message(), f, depth+1)
		default:
			m.Set(d, some(d))
			f()
		}
		m.Clear(d)
	}
}

// some is a value that a field does not have by default.
func some(d protoreflect.FieldDescriptor) protoreflect.Value {
	switch d.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(-1) // an unknown one, which is to be kept
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("some")
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("some"))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(-7)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(-7)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(7)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(7)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(7.5)
	}
	panic("a field of a kind that no message had so far: " + d.Kind().String())
}

// FuzzUnmarshal: package proto reads the same, or refuses the same.
func FuzzUnmarshal(f *testing.F) {
	for _, m := range requests() {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, data...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want extprocv3.ProcessingRequest
		err, wantErr := Unmarshal(data, &got, &used), proto.Unmarshal(data, &want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, package proto's is %v", err, wantErr)
		}
		if err == nil && !proto.Equal(&got, &want) {
			t.Fatalf("read %v, package proto %v", &got, &want)
		}
	})
}

// FuzzMarshal: package proto reads what was written.
func FuzzMarshal(f *testing.F) {
	for _, m := range responses() {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want extprocv3.ProcessingResponse
		if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, &want) != nil {
			return
		}
		if got := write(t, &want); got != nil && !proto.Equal(got, &want) {
			t.Fatalf("wrote %v, want %v", got, &want)
		}
	})
}

// Ceilings of what reading a usual message allocates, in allocations.
func TestAllocations(t *testing.T) {
	most := []float64{2, 1, 1, 0, 0}
	for i, m := range requests() {
		m.MetadataContext = nil // package proto reads it
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var got extprocv3.ProcessingRequest
		n := testing.AllocsPerRun(100, func() {
			if err := Unmarshal(data, &got, &used); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("request %d: %v", i, n)
		if n > most[i] {
			t.Errorf("request %d: %v allocations, more than %v", i, n, most[i])
		}
	}
	buf := make([]byte, 4096)
	for i, m := range responses() {
		if n := testing.AllocsPerRun(100, func() {
			n, _ := Size(m)
			MarshalTo(buf[:n], m)
		}); n != 0 {
			t.Errorf("response %d: %v allocations, want none", i, n)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	var all [][]byte
	for _, m := range requests() {
		m.MetadataContext = nil
		data, err := proto.Marshal(m)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, data)
	}
	for name, read := range map[string]func([]byte, *extprocv3.ProcessingRequest) error{
		"wire": func(data []byte, m *extprocv3.ProcessingRequest) error { return Unmarshal(data, m, &used) }, "proto": func(data []byte, m *extprocv3.ProcessingRequest) error { return proto.Unmarshal(data, m) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, data := range all {
					if err := read(data, new(extprocv3.ProcessingRequest)); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkMarshal(b *testing.B) {
	all := responses()
	b.Run("wire", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, m := range all {
				n, _ := Size(m)
				MarshalTo(make([]byte, n), m)
			}
		}
	})
	b.Run("proto", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, m := range all {
				if _, err := proto.Marshal(m); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
