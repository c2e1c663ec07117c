package gss

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"testing"
)

type endPointVector struct {
	Name            string   `json:"name"`
	Hash            *string  `json:"hash"`
	Certificate     string   `json:"certificate"`
	ApplicationData hexBytes `json:"application_data"`
	Bnd             hexBytes `json:"gss_bnd_md5"`
}

func endPointVectors(tb testing.TB) []endPointVector {
	tb.Helper()
	var v struct {
		Cases []endPointVector `json:"cases"`
	}
	readJSON(tb, "rfc5929.json", &v)
	if len(v.Cases) == 0 {
		tb.Fatal("no certificates among the vectors")
	}
	return v.Cases
}

func (v endPointVector) certificate(tb testing.TB) *x509.Certificate {
	tb.Helper()
	b, err := base64.StdEncoding.DecodeString(v.Certificate)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(b)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func TestCertificatesBindAsRFC5929Says(t *testing.T) {
	for _, v := range endPointVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			hash, err := EndPointHash(v.certificate(t))
			if v.Hash == nil {
				if !errors.Is(err, ErrNoEndPointHash) {
					t.Errorf("%x %v, want ErrNoEndPointHash", hash, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if data := append([]byte("tls-server-end-point:"), hash...); !bytes.Equal(data, v.ApplicationData) {
				t.Errorf("application data %x, want %x", data, v.ApplicationData)
			}
			if bnd, err := TLSServerEndPointBindings(hash); err != nil || !bytes.Equal(bnd[:], v.Bnd) {
				t.Errorf("Bnd %x, want %x; %v", bnd, v.Bnd, err)
			}
		})
	}
}

func TestRSASSAPSSWithTwoHashFunctionsBindsNothing(t *testing.T) {
	// Hash SHA-256 (field [0]), mask MGF1 with its default, SHA-1.
	params := append([]byte{0x30, 0x0f, 0xa0, 0x0d, 0x30, 0x0b, 0x06, 0x09}, oidHashAlgs+"\x01"...)
	if hash, ok := pssHash(params); ok {
		t.Errorf("hash %x", hash)
	}
	// Both default: SHA-1, which SHA-256 replaces.
	if hash, ok := pssHash([]byte{0x30, 0x00}); !ok || hash != oidSHA1 {
		t.Errorf("hash %x %v", hash, ok)
	}
	if _, ok := pssHash(nil); ok {
		t.Error("no parameters were accepted")
	}
}

func TestCertificatesThatAreNoneBindNothing(t *testing.T) {
	for _, raw := range [][]byte{nil, {0x30, 0x00}, []byte("garbage"), {0x30, 0x04, 0x30, 0x00, 0x30, 0x00}} {
		if hash, err := EndPointHash(&x509.Certificate{Raw: raw}); !errors.Is(err, ErrNoEndPointHash) {
			t.Errorf("%x: %x %v", raw, hash, err)
		}
	}
}
