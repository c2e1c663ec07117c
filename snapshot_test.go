package caddynegotiate

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
)

func TestHeaderSnapshot_Restore(t *testing.T) {
	request := func() *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/a?b=c", nil)
		r.Header = http.Header{"Accept": {"text/html", "*/*"}, "X-Empty": nil, "Cookie": {"a=b"}}
		return r
	}
	response := func() http.Header { return http.Header{"Server": {"Caddy"}, "Date": nil} }
	for range 3 { // snapshots are reused
		r, w := request(), httptest.NewRecorder()
		maps.Copy(w.Header(), response())
		s := takeSnapshot(w, r)
		r.Method, r.RequestURI, r.Host, r.URL.Path, r.URL.RawQuery = http.MethodPut, "/x", "other", "/x", ""
		r.Header["Accept"][0] = "changed" // in place, as Caddy's header operations do
		r.Header.Add("Accept", "more")
		r.Header.Del("Cookie")
		r.Header.Set("Authorization", "Negotiate x")
		w.Header().Set("Server", "other")
		w.Header().Set("Www-Authenticate", "Negotiate")
		s.restoreRequest(r)
		s.restoreResponse(w)
		s.release()
		later := takeSnapshot(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/later", nil))
		if want := request(); !reflect.DeepEqual(r.Header, want.Header) || *r.URL != *want.URL || r.Method != want.Method || r.Host != want.Host || r.RequestURI != want.RequestURI {
			t.Errorf("restored %s %s %s %v", r.Method, r.URL, r.Host, r.Header)
		}
		if got := w.Header(); !reflect.DeepEqual(got, response()) {
			t.Errorf("the response's header is %v", got)
		}
		later.release()
	}
}

func TestHeaderSnapshot_ReleaseKeepsNothing(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Cookie", "secret")
	for i := range maxReused {
		s := takeSnapshot(httptest.NewRecorder(), r)
		s.release()
		for _, value := range s.header.values[:cap(s.header.values)] {
			if value != "" {
				t.Fatalf("kept %q", value)
			}
		}
		if n := cap(s.header.values) + cap(s.header.fields); n > maxReused {
			t.Fatalf("reuses memory for %d strings", n)
		}
		r.Header.Add(fmt.Sprintf("X-%d", i), "x")
	}
}
