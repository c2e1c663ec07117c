package httpauth

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestDropAuthorization_Header(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = http.Header{
		"Authorization":       {"Basic x", "Negotiate y"},
		"Proxy-Authorization": {"Basic p"},
		"Accept":              {"*/*"},
	}
	DropAuthorization(r)
	if want := (http.Header{"Proxy-Authorization": {"Basic p"}, "Accept": {"*/*"}}); !reflect.DeepEqual(r.Header, want) {
		t.Fatalf("left %v", r.Header)
	}
}

func TestDropAuthorization_Connection(t *testing.T) {
	for _, tc := range []struct{ in, want []string }{
		{[]string{"Authorization"}, nil},
		{[]string{" authorization ", "AUTHORIZATION,"}, nil},
		{[]string{"close, Authorization, X-Foo"}, []string{"close, X-Foo"}},
		{[]string{"Upgrade", "Authorization"}, []string{"Upgrade"}},
		{[]string{"keep-alive,  Upgrade"}, []string{"keep-alive,  Upgrade"}}, // untouched
		{[]string{"X-Authorization"}, []string{"X-Authorization"}},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Connection"] = tc.in
		DropAuthorization(r)
		if got := r.Header["Connection"]; !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q became %q, want %q", tc.in, got, tc.want)
		}
	}
}

// received returns the trailer that a server behind the guard sees.
func received(t *testing.T, guard func(*http.Request), request string) (trailer http.Header) {
	t.Helper()
	got := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		guard(r)
		r = r.WithContext(r.Context()) // handlers on the way copy the request
		if b, err := io.ReadAll(r.Body); err != nil || string(b) != "hello" {
			t.Errorf("body %q, %v", b, err)
		}
		got <- r.Trailer
	}))
	defer server.Close()
	conn := must.OK(net.Dial("tcp", server.Listener.Addr().String()))(t)
	defer conn.Close()
	fmt.Fprint(conn, strings.ReplaceAll(request, "\n", "\r\n"))
	resp := must.OK(http.ReadResponse(bufio.NewReader(conn), nil))(t)
	defer resp.Body.Close()
	return <-got
}

func TestDropAuthorization_Trailer(t *testing.T) {
	const declared = "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTrailer: Authorization, X-Sum\n\n5\nhello\n0\nAuthorization: Negotiate x\nX-Sum: 1\n\n"
	const undeclared = "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTrailer: X-Sum\n\n5\nhello\n0\nauthorization: Negotiate x\nX-Sum: 1\n\n"
	for name, request := range map[string]string{"declared": declared, "undeclared": undeclared} {
		if got := received(t, func(*http.Request) {}, request); got.Get("Authorization") == "" {
			t.Errorf("%s: the request does not show the danger: %v", name, got)
		}
		got := received(t, DropAuthorization, request)
		if _, ok := got["Authorization"]; ok || got.Get("X-Sum") != "1" {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// reverse_proxy fills the map of the request it gave to its transport when the
// body ends, and net/http sends that map.
func TestDropAuthorization_TrailerFilledLate(t *testing.T) {
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got = r.Trailer
	}))
	defer server.Close()
	for _, guarded := range []bool{false, true} {
		in := must.OK(http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil))(t)
		in.Trailer = http.Header{}
		in.ContentLength = -1
		in.Header.Set("Authorization", "the client's")
		in.Body = io.NopCloser(&fillAtEnd{Reader: strings.NewReader("hello"), at: func() {
			in.Trailer["Authorization"] = []string{"Negotiate x"}
			in.Trailer["X-Sum"] = []string{"1"}
		}})
		out := in
		if guarded {
			out = CloneRequest(t.Context(), in)
			DropAuthorization(out)
		}
		resp := must.OK(http.DefaultTransport.RoundTrip(out))(t)
		resp.Body.Close()
		if (got.Get("Authorization") == "") != guarded || got.Get("X-Sum") != "1" {
			t.Errorf("guarded %v: the upstream received %v", guarded, got)
		}
		if in.Header.Get("Authorization") == "" {
			t.Error("the caller's header was changed")
		}
	}
}

type fillAtEnd struct {
	io.Reader
	at func()
}

func (f *fillAtEnd) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		f.at()
	}
	return n, err
}

func TestDropAuthorization_NoBody(t *testing.T) {
	for _, body := range []io.ReadCloser{nil, http.NoBody} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Body = body
		DropAuthorization(r)
		if r.Body != body {
			t.Errorf("%v became %v", body, r.Body)
		}
	}
}

func BenchmarkDropAuthorization(b *testing.B) {
	r := httptest.NewRequest("GET", "/", nil)
	for _, name := range []string{"Accept", "Accept-Encoding", "Accept-Language", "Cookie", "User-Agent", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Via"} {
		r.Header.Set(name, "value")
	}
	r.Header.Set("Connection", "keep-alive")
	b.ReportAllocs()
	for b.Loop() {
		DropAuthorization(r)
	}
}
