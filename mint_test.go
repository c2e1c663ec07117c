package caddynegotiate

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
)

// Requests without a token are not sent, and over HTTP/2 other requests of the connection
// are not affected.
func TestPreventSending(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		var arrived atomic.Int64
		release := make(chan struct{})
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			arrived.Add(1)
			_ = http.NewResponseController(w).Flush()
			<-release
			_, _ = io.WriteString(w, r.Proto)
		}))
		server.EnableHTTP2 = http2
		server.StartTLS()
		client := server.Client()
		first, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}

		header := make(http.Header)
		trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { preventSending(info.Conn, header, false) },
		})
		r, err := http.NewRequestWithContext(trace, http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		if res, err := client.Do(r); err == nil {
			res.Body.Close()
			t.Errorf("http2 %t: the request was sent", http2)
		}

		close(release)
		body, err := io.ReadAll(first.Body)
		if err != nil || string(body) != first.Proto {
			t.Errorf("http2 %t: the other request: %q, %v", http2, body, err)
		}
		first.Body.Close()
		if n := arrived.Load(); n != 1 {
			t.Errorf("http2 %t: %d requests arrived, want 1", http2, n)
		}
		if state := first.TLS; (state.NegotiatedProtocol == "h2") != http2 {
			t.Errorf("spoke %q", state.NegotiatedProtocol)
		}
		client.CloseIdleConnections()
		server.Close()
	}
}

var _ tlsConn = (*tls.Conn)(nil)
