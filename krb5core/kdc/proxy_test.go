package kdc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// fakeProxy forwards connections; every name leads to 127.0.0.1.
type fakeProxy struct {
	listener net.Listener
	mu       sync.Mutex
	asked    []string // the targets
}

// startProxy serves connections with the handshake, which reads the target and
// returns it with what is to be written before the tunnel begins.
func startProxy(t *testing.T, handshake func(r *bufio.Reader, w io.Writer) (target, granted string, err error)) *fakeProxy {
	t.Helper()
	listener := must.OK(net.Listen("tcp", "127.0.0.1:0"))(t)
	p := &fakeProxy{listener: listener}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				p.serve(conn, handshake)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	return p
}

func (p *fakeProxy) serve(conn net.Conn, handshake func(*bufio.Reader, io.Writer) (string, string, error)) {
	reader := bufio.NewReader(conn)
	target, granted, err := handshake(reader, conn)
	p.mu.Lock()
	p.asked = append(p.asked, target)
	p.mu.Unlock()
	if err != nil {
		return
	}
	_, port, _ := net.SplitHostPort(target)
	upstream, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return
	}
	defer upstream.Close()
	io.WriteString(conn, granted)
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(upstream, reader)
		upstream.Close()
	}()
	io.Copy(conn, upstream)
	conn.Close()
	<-done
}

func (p *fakeProxy) url(t *testing.T, scheme, user string) *url.URL {
	t.Helper()
	return must.OK(url.Parse(scheme + "://" + user + p.listener.Addr().String()))(t)
}

// socksHandshake is the server's side of RFC 1928 with RFC 1929.
func socksHandshake(user, password string) func(*bufio.Reader, io.Writer) (string, string, error) {
	return func(r *bufio.Reader, w io.Writer) (string, string, error) {
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil {
			return "", "", err
		}
		io.CopyN(io.Discard, r, int64(head[1]))
		if user == "" {
			w.Write([]byte{5, 0})
		} else {
			w.Write([]byte{5, 2})
			if got, err := socksCredentials(r); err != nil || got != user+":"+password {
				w.Write([]byte{1, 1})
				return "", "", errors.New("wrong credentials")
			}
			w.Write([]byte{1, 0})
		}
		request := make([]byte, 4)
		if _, err := io.ReadFull(r, request); err != nil {
			return "", "", err
		}
		host := ""
		switch request[3] {
		case 1:
			addr := make([]byte, 4)
			io.ReadFull(r, addr)
			host = net.IP(addr).String()
		case 3:
			n, _ := r.ReadByte()
			name := make([]byte, n)
			io.ReadFull(r, name)
			host = string(name)
		}
		port := make([]byte, 2)
		io.ReadFull(r, port)
		target := net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port))))
		return target, string([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}), nil
	}
}

func socksCredentials(r *bufio.Reader) (string, error) {
	read := func() string {
		n, _ := r.ReadByte()
		b := make([]byte, n)
		io.ReadFull(r, b)
		return string(b)
	}
	if _, err := r.ReadByte(); err != nil {
		return "", err
	}
	user := read()
	return user + ":" + read(), nil
}

// connectHandshake is the server's side of CONNECT.
func connectHandshake(credentials string) func(*bufio.Reader, io.Writer) (string, string, error) {
	return func(r *bufio.Reader, w io.Writer) (string, string, error) {
		request, err := http.ReadRequest(r)
		if err != nil {
			return "", "", err
		}
		if request.Method != http.MethodConnect {
			return "", "", fmt.Errorf("method %s", request.Method)
		}
		if request.Header.Get("Proxy-Authorization") != credentials {
			io.WriteString(w, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return request.Host, "", errors.New("wrong credentials")
		}
		return request.Host, "HTTP/1.1 200 Connection established\r\n\r\n", nil
	}
}

func TestProxyCarriesTCPAndHTTPS(t *testing.T) {
	const basic = "Basic dXNlcjpzZWNyZXQ=" // user:secret
	ca := newAuthority(t, "private")
	secure := startKDCProxy(t, ca.server(), nil, proxyAnswer(http.StatusOK, wrapped(answer("reply"))))
	secure.Host = "proxy.example.com"
	plain := startKDC(t, answering("udp"), answeringStream(framed(answer("reply")))).Server
	plain.Host = "kdc.internal" // only the proxy knows the name
	for _, test := range []struct {
		name, scheme, user string
		handshake          func(*bufio.Reader, io.Writer) (string, string, error)
	}{
		{"socks5", "socks5", "", socksHandshake("", "")},
		{"socks5 with password", "socks5h", "user:secret@", socksHandshake("user", "secret")},
		{"connect", "http", "", connectHandshake("")},
		{"connect with password", "http", "user:secret@", connectHandshake(basic)},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxy := startProxy(t, test.handshake)
			options := Options{Proxy: proxy.url(t, test.scheme, test.user), RootCAs: ca.pool()}
			for _, server := range []Server{plain, secure} {
				s := newTestSender(t, Config{clock: newManualClock(), Options: options}, server)
				before := goleak.IgnoreCurrent()
				reply := mustSend(t, s, newRequest(), "reply", server)
				goleak.VerifyNone(t, before)
				target := net.JoinHostPort(server.Host, strconv.Itoa(server.Port))
				if reply.Addr != target || reply.Protocol == UDP {
					t.Errorf("got %+v", reply)
				}
				proxy.mu.Lock()
				if last := proxy.asked[len(proxy.asked)-1]; last != target {
					t.Errorf("the proxy was asked for %s, want %s", last, target)
				}
				proxy.mu.Unlock()
			}
		})
	}
}

func TestProxy_RefusalHidesPassword(t *testing.T) {
	for scheme, handshake := range map[string]func(*bufio.Reader, io.Writer) (string, string, error){
		"socks5": socksHandshake("user", "other"), "http": connectHandshake("Basic other"),
	} {
		proxy := startProxy(t, handshake)
		s := newTestSender(t, Config{clock: newManualClock(), Options: Options{Proxy: proxy.url(t, scheme, "user:secret@")}},
			Server{Host: "kdc.internal", Port: 88})
		_, err := s.Send(t.Context(), newRequest())
		if err == nil || !strings.Contains(err.Error(), proxy.listener.Addr().String()) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", scheme, err)
		}
	}
}

func TestStallingProxyEndsWithTheContext(t *testing.T) {
	for _, scheme := range []string{"socks5", "http"} {
		stalled := startKDC(t, nil, stallingStream)
		proxy := &url.URL{Scheme: scheme, Host: stalled.tcp.Addr().String()}
		s := newTestSender(t, Config{clock: newManualClock(), Options: Options{Proxy: proxy}}, Server{Host: "kdc.internal", Port: 88})
		before := goleak.IgnoreCurrent()
		ctx, cancel := context.WithCancel(t.Context())
		pending := sendInBackground(ctx, s, newRequest())
		stalled.wait(t)
		cancel()
		if _, err := await(t, pending); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", scheme, err)
		}
		goleak.VerifyNone(t, before)
	}
}

func TestUDPServerBehindProxyIsExplained(t *testing.T) {
	proxy := &url.URL{Scheme: "socks5", Host: "127.0.0.1:1"}
	s := newTestSender(t, Config{clock: newManualClock(), Options: Options{Proxy: proxy}}, Server{Scheme: SchemeUDP, Host: "kdc", Port: 88})
	if _, err := s.Send(t.Context(), newRequest()); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "proxy") {
		t.Errorf("got %v", err)
	}
}

func TestTunnelGivesBackWhatWasReadAhead(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		http.ReadRequest(bufio.NewReader(server))
		io.WriteString(server, "HTTP/1.1 200 OK\r\n\r\nahead")
		io.WriteString(server, " and after")
	}()
	tunnel := must.OK((&connectDialer{}).connect(client, "kdc:88"))(t)
	if got, err := io.ReadAll(tunnel); err != nil || string(got) != "ahead and after" {
		t.Errorf("got %q, %v", got, err)
	}
}
