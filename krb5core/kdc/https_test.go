package kdc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// authority is a private certificate authority.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	made := a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.cert, a.key = made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// issue makes a certificate, signed by itself if there is no authority yet.
func (a *authority) issue(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key := must.OK(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(a.t)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	raw := must.OK(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer))(a.t)
	leaf := must.OK(x509.ParseCertificate(raw))(a.t)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) server() tls.Certificate {
	return a.issue(&x509.Certificate{
		DNSNames: []string{"proxy.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func (a *authority) client() tls.Certificate {
	return a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "caddy"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// startKDCProxy serves over TLS, demanding certificates of clients if their
// authority is given, and returns where.
func startKDCProxy(t testing.TB, cert tls.Certificate, clients *authority, handle http.HandlerFunc) Server {
	t.Helper()
	proxy := httptest.NewUnstartedServer(handle)
	proxy.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	if clients != nil {
		proxy.TLS.ClientAuth, proxy.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients.pool()
	}
	proxy.Config.ErrorLog = log.New(io.Discard, "", 0)
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	return Server{Scheme: SchemeHTTPS, Host: "127.0.0.1", Port: proxy.Listener.Addr().(*net.TCPAddr).Port, Path: DefaultPath}
}

// proxyAnswer answers as a KDC proxy, with the body as it is.
func proxyAnswer(status int, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", proxyContentType)
		w.WriteHeader(status)
		w.Write(body)
	}
}

func wrapped(message []byte) []byte { return (&ProxyMessage{Message: message}).Append(nil) }

func TestHTTPS_ClientCertificate(t *testing.T) {
	ca := newAuthority(t, "private")
	failures := make(chan string, 10)
	server := startKDCProxy(t, ca.server(), ca, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		m, err := ParseProxyMessage(body)
		switch {
		case err != nil || !bytes.Equal(m.Message, requestMessage) || m.TargetDomain != realm:
			failures <- "the body is wrong"
		case r.Method != http.MethodPost || r.URL.Path != DefaultPath || r.Header.Get("Content-Type") != proxyContentType:
			failures <- "the request is wrong: " + r.Method + " " + r.URL.Path
		case r.TLS.PeerCertificates[0].Subject.CommonName != "caddy":
			failures <- "the client certificate is wrong"
		}
		w.WriteHeader(http.StatusProcessing)
		proxyAnswer(http.StatusOK, wrapped(answer("by proxy")))(w, r)
	})
	clock, seen := newManualClock(), newRecorder()
	s := newTestSender(t, Config{clock: clock, Observer: seen, Options: Options{
		RootCAs: ca.pool(), ClientCertificates: []tls.Certificate{ca.client()},
	}}, server)
	before := goleak.IgnoreCurrent()
	for range 3 {
		reply := mustSend(t, s, newRequest(), "by proxy", server)
		if reply.Protocol != HTTPS || reply.Addr != net.JoinHostPort(server.Host, strconv.Itoa(server.Port)) {
			t.Errorf("got %+v", reply)
		}
	}
	goleak.VerifyNone(t, before)
	for len(failures) > 0 {
		t.Error(<-failures)
	}
	if len(seen.messages) != 6 || !bytes.Equal(seen.messages[0].Data, requestMessage) || !bytes.Equal(seen.messages[1].Data, answer("by proxy")) {
		t.Errorf("observed %+v", seen.messages)
	}
}

func TestHTTPS_ServerCertificate(t *testing.T) {
	ca, other := newAuthority(t, "private"), newAuthority(t, "other")
	handle := proxyAnswer(http.StatusOK, wrapped(answer("by proxy")))
	resolver := &fakeResolver{hosts: map[string][]netip.Addr{}}
	for _, name := range []string{"proxy.example.com", "other.example.com"} {
		resolver.hosts[name] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	}
	server := startKDCProxy(t, ca.server(), nil, handle)
	for _, test := range []struct {
		host  string
		roots *x509.CertPool
		good  bool
	}{
		{"proxy.example.com", ca.pool(), true},
		{"other.example.com", ca.pool(), false},
		{"proxy.example.com", other.pool(), false},
		{"proxy.example.com", nil, false},
	} {
		server.Host = test.host
		s := newTestSender(t, Config{clock: newManualClock(), Resolver: resolver, Options: Options{RootCAs: test.roots}}, server)
		_, err := s.Send(t.Context(), newRequest())
		if (err == nil) != test.good || err != nil && !strings.Contains(err.Error(), "TLS") {
			t.Errorf("%s: got %v", test.host, err)
		}
	}
}

func TestHTTPS_ClientCertificateMissing(t *testing.T) {
	ca := newAuthority(t, "private")
	server := startKDCProxy(t, ca.server(), ca, proxyAnswer(http.StatusOK, wrapped(answer("by proxy"))))
	s := newTestSender(t, Config{clock: newManualClock(), Options: Options{RootCAs: ca.pool()}}, server)
	if _, err := s.Send(t.Context(), newRequest()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
}

func TestHTTPS_BadResponseThenNextKDC(t *testing.T) {
	ca := newAuthority(t, "private")
	next := startKDC(t, nil, answeringStream(framed(answer("next"))))
	big := wrapped(answer(strings.Repeat("x", minReplySize)))
	for _, test := range []struct {
		name   string
		handle http.HandlerFunc
		says   string
		is     error
	}{
		{"status", proxyAnswer(http.StatusServiceUnavailable, nil), "HTTP status 503", nil},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "HTTP status 302", nil},
		{"garbage", proxyAnswer(http.StatusOK, []byte("<html>")), "KDC-PROXY-MESSAGE", ErrForeign},
		{"no Kerberos", proxyAnswer(http.StatusOK, wrapped([]byte("garbage"))), "not a Kerberos message", ErrForeign},
		{"empty", proxyAnswer(http.StatusOK, wrapped(nil)), "not a Kerberos message", ErrForeign},
		{"big", proxyAnswer(http.StatusOK, big), "max_reply_size", ErrReplyTooBig},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(big); err != nil {
					return
				}
			}
		}, "max_reply_size", ErrReplyTooBig},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write([]byte{0x30})
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "unexpected EOF", io.ErrUnexpectedEOF},
		{"endless 1xx", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.WriteHeader(http.StatusEarlyHints)
			}
		}, "no HTTP response", nil},
		{"endless header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 2*maxProxyHeader))
		}, "no HTTP response", nil},
		{"no HTTP", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Write([]byte("nonsense\r\n\r\n"))
			conn.Close()
		}, "no HTTP response", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := startKDCProxy(t, ca.server(), nil, test.handle)
			options := Options{RootCAs: ca.pool(), MaxReplySize: minReplySize}
			_, err := newTestSender(t, Config{clock: newManualClock(), Options: options}, server).Send(t.Context(), newRequest())
			if err == nil || !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v", err)
			}
			s := newTestSender(t, Config{clock: newManualClock(), Options: options}, server, next.as(SchemeTCP))
			mustSend(t, s, newRequest(), "next", next.as(SchemeTCP))
		})
	}
}

func TestHTTPS_StallIsHedged(t *testing.T) {
	ca := newAuthority(t, "private")
	stalled := startKDC(t, nil, stallingStream) // not even a TLS handshake
	next := startKDC(t, answering("next"), nil)
	server := stalled.as(SchemeHTTPS)
	clock := newManualClock()
	s := newTestSender(t, Config{clock: clock, Options: Options{RootCAs: ca.pool()}}, server, next.Server)
	before := goleak.IgnoreCurrent()
	pending := sendInBackground(t.Context(), s, newRequest())
	stalled.wait(t)
	clock.pass(t, DefaultHedgeDelay)
	mustAwait(t, pending, "next", next.Server)
	goleak.VerifyNone(t, before)

	alone := newTestSender(t, Config{clock: clock, Options: Options{RootCAs: ca.pool()}}, server)
	ctx, cancel := context.WithCancel(t.Context())
	pending = sendInBackground(ctx, alone, newRequest())
	stalled.wait(t)
	cancel()
	if _, err := await(t, pending); !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzProxyResponse(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\x30\x07\xa0\x05\x04\x03\x00\x00\x00"))
	f.Add(append([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"), wrapped(answer("seed"))...))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
		if err != nil {
			return
		}
		const limit = 1 << 10
		message, err := readProxyResponse(response, limit)
		if err == nil && len(message) > limit {
			t.Errorf("%d bytes were accepted", len(message))
		}
	})
}
