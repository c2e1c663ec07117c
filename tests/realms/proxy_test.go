package realms

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// relay is a KDC proxy ([MS-KKDCP]) in front of a KDC: what is POSTed goes on by TCP.
type relay struct {
	*httptest.Server
	served  atomic.Int64
	clients atomic.Int64 // questions by a client that showed a certificate
}

func newRelay(t *testing.T, address string, auth tls.ClientAuthType) *relay {
	t.Helper()
	r := new(relay)
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
		w.Write(der.AppendSequence(nil, func(dst []byte) []byte {
			return der.AppendField(dst, 0, der.AppendOctetString, reply)
		}))
	}))
	r.TLS = &tls.Config{ClientAuth: auth}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *relay) address() string { return r.URL + "/KdcProxy" }

// proxied gives the message of a KDC-PROXY-MESSAGE, with its length before it as on TCP.
func proxied(body []byte) ([]byte, bool) {
	s := der.String(body)
	var seq der.String
	var framed []byte
	ok := der.ReadSequence(&s, &seq) && der.ReadField(&seq, 0, der.ReadOctets, &framed)
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

// unused is the address of a port at which nothing listens.
func unused(t *testing.T) string {
	t.Helper()
	address, release, err := kdctest.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return address
}

func TestMITBehindAKDCProxy(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"}}})
	r := newRelay(t, m.KDC(), tls.RequireAnyClientCert)
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
		"behind one that died": {[]kdc.Server{server(t, "tcp/"+unused(t)), proxy}, 3},
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
func TestSiteReachesMITThroughAKDCProxy(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"}}})
	r := newRelay(t, m.KDC(), tls.RequireAnyClientCert)
	dir := t.TempDir()
	own := r.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	ca, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{
		ca: {Type: "CERTIFICATE", Bytes: own.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t, m.Keytab(t, "HTTP/app.lab.test"),
		"kdc "+r.address(), "user alice@LAB.TEST", "keytab "+m.Keytab(t, "alice"), "spn HTTP/app.lab.test",
		"kdc_options {", "tls_ca "+ca, "tls_client_cert "+ca+" "+keyFile, "}")
	if got := s.get(); got != "alice@LAB.TEST" {
		t.Errorf("the upstream saw %q\n%s", got, s.logged())
	}
	if r.served.Load() == 0 || r.clients.Load() != r.served.Load() {
		t.Errorf("the proxy was asked %d times, %d times with a certificate", r.served.Load(), r.clients.Load())
	}
}
