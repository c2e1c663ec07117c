package realms

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// kdcProxy is a KDC proxy ([MS-KKDCP]) in front of a KDC: what is POSTed is sent over TCP.
type kdcProxy struct {
	*httptest.Server
	served  atomic.Int64
	clients atomic.Int64 // questions by a client that showed a certificate
}

func newKDCProxy(t *testing.T, address string, auth tls.ClientAuthType) *kdcProxy {
	t.Helper()
	r := new(kdcProxy)
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(io.LimitReader(q.Body, 1<<20))
		reply, errAsk := []byte(nil), error(nil)
		if framed, ok := proxied(body); err == nil && ok && q.URL.Path == "/KdcProxy" {
			reply, errAsk = askTCP(address, framed)
		}
		if errAsk != nil || reply == nil {
			http.Error(w, fmt.Sprint(err, errAsk), http.StatusBadGateway)
			return
		}
		if len(q.TLS.PeerCertificates) > 0 {
			r.clients.Add(1)
		}
		r.served.Add(1)
		w.Header().Set("Content-Type", "application/kerberos")
		w.Write(der.Append(nil, der.TagSequence, func(dst []byte) []byte {
			return der.AppendField(dst, 0, der.AppendOctetString, reply)
		}))
	}))
	r.TLS = &tls.Config{ClientAuth: auth}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *kdcProxy) address() string { return r.URL + "/KdcProxy" }

// proxied gives the message of a KDC-PROXY-MESSAGE, with its length before it as on TCP.
func proxied(body []byte) ([]byte, bool) {
	s := der.String(body)
	var seq der.String
	var framed []byte
	ok := s.ReadASN1(&seq, der.TagSequence) && der.ReadField(&seq, 0, der.ReadOctets, &framed)
	return framed, ok
}

func askTCP(address string, framed []byte) ([]byte, error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Write(framed); err != nil {
		return nil, err
	}
	length := make([]byte, 4)
	if _, err := io.ReadFull(conn, length); err != nil {
		return nil, err
	}
	reply := make([]byte, binary.BigEndian.Uint32(length))
	_, err = io.ReadFull(conn, reply)
	return append(length, reply...), err
}

func TestMIT_KDCProxy(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"}}})
	r := newKDCProxy(t, m.KDC(), tls.RequireAnyClientCert)
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	proxy := server(t, r.address())
	for name, c := range map[string]struct {
		servers []kdc.Server
		served  int64
	}{
		"alone":                {[]kdc.Server{proxy}, 3},
		"before the KDC":       {[]kdc.Server{proxy, server(t, m.KDC())}, 3},
		"behind the KDC":       {[]kdc.Server{server(t, m.KDC()), proxy}, 0},
		"behind one that died": {[]kdc.Server{server(t, "tcp/"+caddytest.FreeAddress(t)), proxy}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			r.served.Store(0)
			r.clients.Store(0)
			finder := kdc.Static{m.Name(): c.servers}
			// Of several the one that is asked is told by their order, not by how busy the machine is.
			sender, err := kdc.NewSender(kdc.Config{Finder: finder, HedgeDelay: time.Minute, ServerTimeout: time.Minute, Options: kdc.Options{RootCAs: roots, ClientCertificates: r.TLS.Certificates}})
			if err != nil {
				t.Fatal(err)
			}
			client, err := krb5core.NewClient(krb5core.Config{Sender: sender, Finder: finder})
			if err != nil {
				t.Fatal(err)
			}
			alice := password(t, "alice@LAB.TEST", "alice-secret", nil)
			ticket(t, client, alice, login(t, client, alice), "HTTP/app.lab.test")
			if n := r.served.Load(); n != c.served || r.clients.Load() != n {
				t.Errorf("the proxy was asked %d times, %d times with a certificate, want %d", n, r.clients.Load(), c.served)
			}
		})
	}
}

// The same as a site sees it: kdc https://, with an authority and a certificate of our own.
func TestCaddy_KDCProxy(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"}}})
	r := newKDCProxy(t, m.KDC(), tls.RequireAnyClientCert)
	own := &r.TLS.Certificates[0]
	ca, keyFile := write(t, "ca.pem", caddytest.CertPEM(own)), write(t, "key.pem", caddytest.KeyPEM(t, own))
	s := newSite(t, m.Keytab(t, "HTTP/app.lab.test"),
		"kdc "+r.address(), "user alice@LAB.TEST", "keytab "+m.Keytab(t, "alice"), "spn HTTP/app.lab.test",
		"kdc_options {", "tls_ca "+ca, "tls_client_cert "+ca+" "+keyFile, "}")
	s.Get("/").WantUser(t, "alice@LAB.TEST")
	if r.served.Load() == 0 || r.clients.Load() != r.served.Load() {
		t.Errorf("the proxy was asked %d times, %d times with a certificate", r.served.Load(), r.clients.Load())
	}
}
