package caddynegotiate

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
)

func TestMemoryGivesBackWhatWas(t *testing.T) {
	ask := func() *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/a?b=c", nil)
		r.Header = http.Header{"Accept": {"text/html", "*/*"}, "X-Empty": nil, "Cookie": {"a=b"}}
		return r
	}
	answer := func() http.Header { return http.Header{"Server": {"Caddy"}, "Date": nil} }
	for range 3 { // memory is used again
		r, w := ask(), httptest.NewRecorder()
		for name, values := range answer() {
			w.Header()[name] = values
		}
		m := remember(w, r)
		r.Method, r.RequestURI, r.Host, r.URL.Path, r.URL.RawQuery = http.MethodPut, "/x", "other", "/x", ""
		r.Header["Accept"][0] = "changed" // in place, as Caddy's header operations do
		r.Header.Add("Accept", "more")
		r.Header.Del("Cookie")
		r.Header.Set("Authorization", "Negotiate x")
		w.Header().Set("Server", "other")
		w.Header().Set("Www-Authenticate", "Negotiate")
		m.restoreRequest(r)
		m.answer.restore(w.Header())
		m.forget()
		later := remember(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/later", nil))
		if want := ask(); !reflect.DeepEqual(r.Header, want.Header) || *r.URL != *want.URL || r.Method != want.Method || r.Host != want.Host || r.RequestURI != want.RequestURI {
			t.Errorf("restored %s %s %s %v", r.Method, r.URL, r.Host, r.Header)
		}
		if got := w.Header(); !reflect.DeepEqual(got, answer()) {
			t.Errorf("the answer's header is %v", got)
		}
		later.forget()
	}
}

func TestMemoryKeepsNothingOfARequest(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Cookie", "secret")
	for i := range maxKept {
		m := remember(httptest.NewRecorder(), r)
		m.forget()
		for _, value := range m.header.values[:cap(m.header.values)] {
			if value != "" {
				t.Fatalf("kept %q", value)
			}
		}
		if n := cap(m.header.values) + cap(m.header.list); n > maxKept {
			t.Fatalf("kept memory for %d strings", n)
		}
		r.Header.Add(fmt.Sprintf("X-%d", i), "x")
	}
}
