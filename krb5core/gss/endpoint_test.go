package gss

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

type endPointVector struct {
	Name            string      `json:"name"`
	Hash            *string     `json:"hash"`
	Certificate     string      `json:"certificate"`
	ApplicationData vectors.Hex `json:"application_data"`
	Bnd             vectors.Hex `json:"gss_bnd_md5"`
}

func endPointVectors(tb testing.TB) []endPointVector {
	tb.Helper()
	var v struct {
		Cases []endPointVector `json:"cases"`
	}
	vectors.Load(tb, "rfc5929.json", &v)
	if len(v.Cases) == 0 {
		tb.Fatal("no certificates among the vectors")
	}
	return v.Cases
}

func (v endPointVector) certificate(tb testing.TB) *x509.Certificate {
	tb.Helper()
	b := must.OK(base64.StdEncoding.DecodeString(v.Certificate))(tb)
	return must.OK(x509.ParseCertificate(b))(tb)
}

func TestEndPointHash(t *testing.T) {
	for _, v := range endPointVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			hash, err := EndPointHash(v.certificate(t))
			if v.Hash == nil {
				if !errors.Is(err, ErrNoEndPointHash) {
					t.Errorf("%x %v, want ErrNoEndPointHash", hash, err)
				}
				return
			}
			must.Do(t, err)
			if data := append([]byte("tls-server-end-point:"), hash...); !bytes.Equal(data, v.ApplicationData) {
				t.Errorf("application data %x, want %x", data, v.ApplicationData)
			}
			if bnd, err := TLSServerEndPointBindings(hash); err != nil || !bytes.Equal(bnd[:], v.Bnd) {
				t.Errorf("Bnd %x, want %x; %v", bnd, v.Bnd, err)
			}
		})
	}
}

func TestEndPointHash_PSSTwoHashes(t *testing.T) {
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

func TestEndPointHash_Malformed(t *testing.T) {
	for _, raw := range [][]byte{nil, {0x30, 0x00}, []byte("garbage"), {0x30, 0x04, 0x30, 0x00, 0x30, 0x00}} {
		if hash, err := EndPointHash(&x509.Certificate{Raw: raw}); !errors.Is(err, ErrNoEndPointHash) {
			t.Errorf("%x: %x %v", raw, hash, err)
		}
	}
}
