package kdctest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Header limits of common servers, in bytes: of a header line in Apache
// (LimitRequestFieldSize), and of a field in http.sys.
const (
	ApacheHeaderLimit  = 8190
	HTTPSysHeaderLimit = 16384
)

// UpstreamConfig configures an Upstream.
type UpstreamConfig struct {
	// Acceptor authenticates the requests.
	Acceptor *Acceptor
	// Certificate enables TLS; SetCertificate renews it.
	Certificate *tls.Certificate
	// TLSVersion is the highest version of TLS, such as tls.VersionTLS12; zero: no bound.
	TLSVersion uint16
	// HeaderLimit is the size in bytes above which a header line is answered
	// 400, before authentication; zero means only net/http's limit.
	HeaderLimit int
	// IdleTimeout bounds how long idle connections stay open; zero: no bound.
	IdleTimeout time.Duration
	// Handler serves what is not one of the paths below; WhoHandler if nil.
	Handler http.Handler
	// Host is the address to listen on; 127.0.0.1 if empty.
	Host string
}

// Upstream is an HTTP server that requires Negotiate authentication. Its paths:
//
//	/          the client, as text; as JSON if accepted or at /json
//	/echo      the request's body as it arrives, trailers included
//	/stream    the lines of Push
//	/ws        a WebSocket echo
//	/cut       half of a body, then the connection is closed
//	/forbidden 401 for every user, as if not authorized
type Upstream struct {
	cfg   UpstreamConfig
	cert  atomic.Pointer[tls.Certificate]
	conns Connections
	lines chan string

	// Requests counts all requests, refused ones included; TooLarge those refused
	// for a long header line; Connections the accepted connections, Open those of them that
	// are open; FullHandshakes and Resumptions those of TLS.
	Requests, TooLarge, Connections, Open, FullHandshakes, Resumptions atomic.Int64

	mu      sync.Mutex
	addr    string
	release func() // releases the address that Interrupt reserved
	server  *http.Server
	done    chan struct{}
	stop    context.CancelFunc
}

// NewUpstream returns a server that does not listen yet.
func NewUpstream(cfg UpstreamConfig) *Upstream {
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	u := &Upstream{cfg: cfg, addr: net.JoinHostPort(cfg.Host, "0"), lines: make(chan string, 64)}
	u.conns.Show = u.cert.Load
	u.cert.Store(cfg.Certificate)
	return u
}

// Start listens on a free port, or on that of the last Start.
func (u *Upstream) Start() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.server != nil {
		return errors.New("the upstream is running already")
	}
	l, err := net.Listen("tcp", u.addr)
	if err != nil {
		return err
	}
	u.unreserve()
	u.addr = l.Addr().String()
	if u.cfg.Certificate != nil {
		l = tls.NewListener(l, &tls.Config{
			GetCertificate: u.conns.Certificate,
			NextProtos:     []string{"http/1.1"}, // like IIS with Windows authentication
			MinVersion:     tls.VersionTLS12,
			MaxVersion:     u.cfg.TLSVersion,
			VerifyConnection: func(state tls.ConnectionState) error {
				if state.DidResume {
					u.Resumptions.Add(1)
				} else {
					u.FullHandshakes.Add(1)
				}
				return nil
			},
		})
	}
	base, stop := context.WithCancel(context.Background())
	u.server = &http.Server{
		Handler:           http.HandlerFunc(u.serve),
		ConnContext:       u.conns.Context,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnState:         u.connState,
		IdleTimeout:       u.cfg.IdleTimeout,
		ReadHeaderTimeout: time.Minute,
		MaxHeaderBytes:    1 << 20,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	u.done, u.stop = make(chan struct{}), stop
	go func(s *http.Server, done chan struct{}) {
		defer close(done)
		_ = s.Serve(l)
	}(u.server, u.done)
	return nil
}

// Stop closes the listener and every connection except hijacked ones, which end with
// their clients. The server can be started again.
func (u *Upstream) Stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.halt()
	u.unreserve()
}

// Interrupt stops the server like Stop, and reserves its port until the next Start.
func (u *Upstream) Interrupt() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.halt()
	u.unreserve()
	_, release, err := reserve(u.addr)
	u.release = release
	return err
}

func (u *Upstream) halt() {
	if u.server == nil {
		return
	}
	u.stop()
	_ = u.server.Close()
	<-u.done
	u.server = nil
}

func (u *Upstream) unreserve() {
	if u.release != nil {
		u.release()
		u.release = nil
	}
}

// Addr returns host:port; Stop does not change it.
func (u *Upstream) Addr() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.addr
}

// URL returns the address with its scheme and without a trailing slash.
func (u *Upstream) URL() string {
	if u.cfg.Certificate != nil {
		return "https://" + u.Addr()
	}
	return "http://" + u.Addr()
}

// SetCertificate replaces the certificate for new connections.
func (u *Upstream) SetCertificate(cert *tls.Certificate) { u.cert.Store(cert) }

// Push sends a line to the current reader of /stream, or to the next one; an empty
// line ends the stream.
func (u *Upstream) Push(line string) { u.lines <- line }

func (u *Upstream) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		u.Connections.Add(1)
		u.Open.Add(1)
	case http.StateClosed, http.StateHijacked:
		u.Open.Add(-1)
		u.conns.Forget(c)
	}
}

func (u *Upstream) serve(w http.ResponseWriter, r *http.Request) {
	u.Requests.Add(1)
	if limit := u.cfg.HeaderLimit; limit > 0 {
		for name, values := range r.Header {
			for _, v := range values {
				if len(name)+len(": ")+len(v) > limit {
					u.TooLarge.Add(1)
					w.Header().Set("Connection", "close")
					http.Error(w, "Size of a request header field exceeds server limit.", http.StatusBadRequest)
					return
				}
			}
		}
	}
	u.cfg.Acceptor.Protect(http.HandlerFunc(u.route)).ServeHTTP(w, r)
}

func (u *Upstream) route(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		serveEcho(w, r)
	case "/stream":
		u.serveStream(w, r)
	case "/ws":
		EchoWebSocket(w, r)
	case "/cut":
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, strings.Repeat("x", 500))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case "/forbidden":
		w.Header().Add("Www-Authenticate", "Negotiate")
		http.Error(w, "you may not enter", http.StatusUnauthorized)
	default:
		if u.cfg.Handler != nil {
			u.cfg.Handler.ServeHTTP(w, r)
			return
		}
		WhoHandler(w, r)
	}
}

// WhoHandler answers with the authenticated client: the principal as text, or a Peer as
// JSON for requests that accept it and for paths that end in json.
func WhoHandler(w http.ResponseWriter, r *http.Request) {
	peer, ok := PeerFrom(r.Context())
	if !ok {
		http.Error(w, "request is not authenticated", http.StatusInternalServerError)
		return
	}
	if strings.HasSuffix(r.URL.Path, "json") || strings.Contains(r.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(peer)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "%s\n", peer.Principal)
}

// serveEcho returns the body piece by piece while it arrives.
func serveEcho(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	_ = c.EnableFullDuplex() // HTTP/1.1 only; others are full duplex by nature
	w.Header().Set("Content-Type", "application/octet-stream")
	for name := range r.Trailer {
		w.Header().Add("Trailer", name)
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
			_ = c.Flush()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler) // a truncated request must not look like a complete response
		}
	}
	maps.Copy(w.Header(), r.Trailer)
}

func (u *Upstream) serveStream(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_ = c.Flush()
	for {
		select {
		case line := <-u.lines:
			if line == "" {
				return
			}
			if _, err := fmt.Fprintf(w, "%s\n", line); err != nil {
				return
			}
			_ = c.Flush()
		case <-r.Context().Done():
			return
		}
	}
}
