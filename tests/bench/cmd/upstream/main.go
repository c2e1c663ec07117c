// Command upstream is the web server behind every measured Caddy. It sends the same
// short page for every path, except for /authorization, where it returns the
// Authorization header, and /connections, where it returns how many connections it has
// accepted, how many of them resumed a TLS session, and how many are open. It prints its
// address.
package main

import (
	"bytes"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
	}
	os.Exit(1)
}

// connections counts those of the server.
type connections struct{ accepted, resumed, open atomic.Int64 }

func (c *connections) state(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.accepted.Add(1)
		c.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		c.open.Add(-1)
	}
}

func (c *connections) verify(state tls.ConnectionState) error {
	if state.DidResume {
		c.resumed.Add(1)
	}
	return nil
}

func serve() error {
	cert := flag.String("cert", "", "certificate, PEM: the server speaks TLS")
	key := flag.String("key", "", "its private key, PEM")
	keys := flag.String("keytab", "", "keytab: requests are authenticated, and the tokens proven")
	flag.Parse()

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	var counts connections
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{
			Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, VerifyConnection: counts.verify,
		})
	}
	var page http.Handler = http.HandlerFunc(sendPage)
	if *keys != "" {
		content, err := os.ReadFile(*keys)
		if err != nil {
			return err
		}
		acceptor, err := kdctest.NewAcceptor(kdctest.AcceptorConfig{Keytab: content})
		if err != nil {
			return err
		}
		page = acceptor.Protect(page)
	}
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.HandleFunc("/authorization", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Authorization"))
	})
	mux.HandleFunc("/connections", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		fmt.Fprint(w, counts.accepted.Load(), counts.resumed.Load(), counts.open.Load())
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, ConnState: counts.state}
	return server.Serve(listener)
}

var pageText = bytes.Repeat([]byte("all the same to everyone\n"), 40)

func sendPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(pageText)
}
