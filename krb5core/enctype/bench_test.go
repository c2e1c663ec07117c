package enctype

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// benchmarkSize is about that of an authenticator.
const benchmarkSize = 200

// BenchmarkSeal has as its floor the bare primitives of crypto for
// aes256-cts-hmac-sha1-96, with states reused and without ciphertext stealing.
func BenchmarkSeal(b *testing.B) {
	b.Run("floor", func(b *testing.B) {
		block := must.OK(aes.NewCipher(text(32)))(b)
		mode := cipher.NewCBCEncrypter(block, zeroBlock[:]).(interface {
			cipher.BlockMode
			SetIV([]byte)
		})
		mac := hmac.New(sha1.New, text(32))
		body, sum := text(16+benchmarkSize+8), make([]byte, 0, sha1.Size)
		b.ReportAllocs()
		for b.Loop() {
			mac.Reset()
			mac.Write(body[:16+benchmarkSize])
			sum = mac.Sum(sum[:0])
			mode.SetIV(zeroBlock[:])
			mode.CryptBlocks(body, body)
		}
	})
	for _, id := range Strong() {
		b.Run(id.String(), func(b *testing.B) {
			s := must.OK(anyKey(b, id).Sealer(KEY_USAGE_AP_REQ_AUTHENTICATOR))(b)
			plaintext, confounder := text(benchmarkSize), text(16)
			buf := make([]byte, 0, 300)
			b.ReportAllocs()
			for b.Loop() {
				buf = s.Seal(buf[:0], confounder, plaintext)
			}
		})
	}
}

func BenchmarkSealParallel(b *testing.B) {
	s := must.OK(anyKey(b, AES256_CTS_HMAC_SHA1_96).Sealer(KEY_USAGE_AP_REQ_AUTHENTICATOR))(b)
	plaintext, confounder := text(benchmarkSize), text(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 0, 300)
		for pb.Next() {
			buf = s.Seal(buf[:0], confounder, plaintext)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	for _, id := range Strong() {
		b.Run(id.String(), func(b *testing.B) {
			s := must.OK(anyKey(b, id).Sealer(KEY_USAGE_AP_REP))(b)
			cipher := s.Seal(nil, text(16), text(benchmarkSize))
			buf := make([]byte, 0, 300)
			b.ReportAllocs()
			for b.Loop() {
				must.OK(s.Open(buf[:0], cipher))(b)
			}
		})
	}
}

// BenchmarkSealer is what a new ticket costs.
func BenchmarkSealer(b *testing.B) {
	for _, id := range Strong() {
		b.Run(id.String(), func(b *testing.B) {
			k := anyKey(b, id)
			b.ReportAllocs()
			for b.Loop() {
				must.OK(k.Sealer(KEY_USAGE_AP_REQ_AUTHENTICATOR))(b)
			}
		})
	}
}

func BenchmarkStringToKey(b *testing.B) {
	for _, id := range Strong() {
		b.Run(id.String(), func(b *testing.B) {
			for b.Loop() {
				must.OK(StringToKey(id, "password", "EXAMPLE.COMalice", nil))(b)
			}
		})
	}
}
