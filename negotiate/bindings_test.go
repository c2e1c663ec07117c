package negotiate

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
)

type endPointCase struct {
	Name        string
	Hash        *string
	Certificate string
	Bindings    string `json:"gss_bnd_md5"`
}

func endPointCases(t *testing.T) []endPointCase {
	t.Helper()
	b, err := os.ReadFile("../tests/vectors/rfc5929.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []endPointCase }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < 10 {
		t.Fatalf("only %d cases", len(file.Cases))
	}
	return file.Cases
}

func TestBindingsOfEverySignatureAlgorithm(t *testing.T) {
	dir := t.TempDir()
	var live Bindings
	for _, tc := range endPointCases(t) {
		t.Run(tc.Name, func(t *testing.T) {
			der, err := base64.StdEncoding.DecodeString(tc.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			derFile, pemFile := filepath.Join(dir, tc.Name+".der"), filepath.Join(dir, tc.Name+".pem")
			text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("not looked at")})
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
			text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("the issuer's, not looked at")})...)
			for file, b := range map[string][]byte{derFile: der, pemFile: text} {
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
			for from, get := range map[string]func() (gss.ChannelBindings, error){
				"connection":       func() (gss.ChannelBindings, error) { return live.Of(state) },
				"connection again": func() (gss.ChannelBindings, error) { return live.Of(state) },
				"DER file":         func() (gss.ChannelBindings, error) { return PinnedBindings(derFile) },
				"PEM file":         func() (gss.ChannelBindings, error) { return PinnedBindings(pemFile) },
			} {
				got, err := get()
				if tc.Hash == nil {
					if !errors.Is(err, gss.ErrNoEndPointHash) || got != (gss.ChannelBindings{}) {
						t.Errorf("%s: %x, %v", from, got, err)
					}
				} else if err != nil || hex.EncodeToString(got[:]) != tc.Bindings {
					t.Errorf("%s: %x, %v; want %s", from, got, err, tc.Bindings)
				}
			}
		})
	}
}

func TestBindingsOfALiveConnection(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var live Bindings
	got, err := live.Of(resp.TLS)
	want, wantErr := CertificateBindings(server.Certificate())
	if err != nil || wantErr != nil || got != want || got == (gss.ChannelBindings{}) {
		t.Fatalf("%x, %v; want %x, %v", got, err, want, wantErr)
	}
}

func TestBindingsWithoutACertificate(t *testing.T) {
	var live Bindings
	for _, state := range []*tls.ConnectionState{nil, {}} {
		if _, err := live.Of(state); !errors.Is(err, ErrNotTLS) {
			t.Errorf("%v: %v", state, err)
		}
	}
	file := filepath.Join(t.TempDir(), "cert.pem")
	for content, want := range map[string]error{"": ErrNoCertificate, "hello": ErrNoCertificate} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := PinnedBindings(file); !errors.Is(err, want) {
			t.Errorf("%q: %v", content, err)
		}
	}
	if err := os.WriteFile(file, []byte("0\x03abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := PinnedBindings(file); err == nil {
		t.Error("garbage in DER accepted")
	}
	if _, err := PinnedBindings(file + ".absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
}

func TestKeptBindingsAreBounded(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	var live Bindings
	for range 3 * maxBindings {
		cert := *server.Certificate()
		if _, err := live.Of(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{&cert}}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(live.kept); n > maxBindings {
		t.Fatalf("%d kept", n)
	}
}
