package httpauth

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

type endPointCase struct {
	Name        string
	Hash        *string
	Certificate string
	Bindings    string `json:"gss_bnd_md5"`
}

func endPointCases(t *testing.T) []endPointCase {
	t.Helper()
	var file struct{ Cases []endPointCase }
	vectors.Load(t, "rfc5929.json", &file)
	if len(file.Cases) < 10 {
		t.Fatalf("only %d cases", len(file.Cases))
	}
	return file.Cases
}

func TestBindings_Algorithms(t *testing.T) {
	dir := t.TempDir()
	var live Bindings
	for _, tc := range endPointCases(t) {
		t.Run(tc.Name, func(t *testing.T) {
			der := must.OK(base64.StdEncoding.DecodeString(tc.Certificate))(t)
			cert := must.OK(x509.ParseCertificate(der))(t)
			derFile, pemFile := filepath.Join(dir, tc.Name+".der"), filepath.Join(dir, tc.Name+".pem")
			text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("not looked at")})
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("the issuer's, not looked at")})...)
			for file, b := range map[string][]byte{derFile: der, pemFile: text} {
				must.Do(t, os.WriteFile(file, b, 0o600))
			}
			state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
			for from, get := range map[string]func() (Binding, error){
				"connection":       func() (Binding, error) { return live.Of(state) },
				"connection again": func() (Binding, error) { return live.Of(state) },
				"DER file":         func() (Binding, error) { return PinnedBinding(derFile) },
				"PEM file":         func() (Binding, error) { return PinnedBinding(pemFile) },
			} {
				got, err := get()
				if tc.Hash == nil {
					if !errors.Is(err, gss.ErrNoEndPointHash) || got != (Binding{}) {
						t.Errorf("%s: %x, %v", from, got, err)
					}
				} else if err != nil || hex.EncodeToString(got.Hashed[:]) != tc.Bindings {
					t.Errorf("%s: %x, %v; want %s", from, got, err, tc.Bindings)
				} else if hashed, err := gss.NewChannelBindings([]byte(got.Data)); err != nil || hashed != got.Hashed {
					t.Errorf("%s: the data %q is not what was hashed: %v", from, got.Data, err)
				}
			}
		})
	}
}

func TestBindings_LiveConnection(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	resp := must.OK(server.Client().Get(server.URL))(t)
	defer resp.Body.Close()
	var live Bindings
	got, err := live.Of(resp.TLS)
	want, wantErr := CertificateBinding(server.Certificate())
	if err != nil || wantErr != nil || got != want || got == (Binding{}) {
		t.Fatalf("%x, %v; want %x, %v", got, err, want, wantErr)
	}
}

func TestBindings_NoCertificate(t *testing.T) {
	var live Bindings
	for _, state := range []*tls.ConnectionState{nil, {}} {
		if _, err := live.Of(state); !errors.Is(err, ErrNotTLS) {
			t.Errorf("%v: %v", state, err)
		}
	}
	file := filepath.Join(t.TempDir(), "cert.pem")
	for content, want := range map[string]error{"": ErrNoCertificate, "hello": ErrNoCertificate} {
		must.Do(t, os.WriteFile(file, []byte(content), 0o600))
		if _, err := PinnedBinding(file); !errors.Is(err, want) {
			t.Errorf("%q: %v", content, err)
		}
	}
	must.Do(t, os.WriteFile(file, []byte("0\x03abc"), 0o600))
	if _, err := PinnedBinding(file); err == nil {
		t.Error("garbage in DER accepted")
	}
	if _, err := PinnedBinding(file + ".absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

func TestBindings_Bounded(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	var live Bindings
	for range 3 * maxBindings {
		cert := *server.Certificate()
		must.OK(live.Of(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{&cert}}))(t)
	}
	if n := len(live.kept); n > maxBindings {
		t.Fatalf("%d kept", n)
	}
}
