package enctype

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"testing"
)

// benchmarkSize is about that of an authenticator.
const benchmarkSize = 200

// BenchmarkSeal has as its floor the bare primitives of crypto for
// aes256-cts-hmac-sha1-96, with states reused and without ciphertext stealing.
func BenchmarkSeal(b *testing.B) {
	b.Run("floor", func(b *testing.B) {
		block, err := aes.NewCipher(text(32))
		if err != nil {
			b.Fatal(err)
		}
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
			s, err := anyKey(b, id).Sealer(KEY_USAGE_AP_REQ_AUTHENTICATOR)
			if err != nil {
				b.Fatal(err)
			}
			plaintext, confounder := text(benchmarkSize), text(16)
			room := make([]byte, 0, 300)
			b.ReportAllocs()
			for b.Loop() {
				room = s.Seal(room[:0], confounder, plaintext)
			}
		})
	}
}

func BenchmarkSealParallel(b *testing.B) {
	s, err := anyKey(b, AES256_CTS_HMAC_SHA1_96).Sealer(KEY_USAGE_AP_REQ_AUTHENTICATOR)
	if err != nil {
		b.Fatal(err)
	}
	plaintext, confounder := text(benchmarkSize), text(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		room := make([]byte, 0, 300)
		for pb.Next() {
			room = s.Seal(room[:0], confounder, plaintext)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	for _, id := range Strong() {
		b.Run(id.String(), func(b *testing.B) {
			s, err := anyKey(b, id).Sealer(KEY_USAGE_AP_REP)
			if err != nil {
				b.Fatal(err)
			}
			cipher := s.Seal(nil, text(16), text(benchmarkSize))
			room := make([]byte, 0, 300)
			b.ReportAllocs()
			for b.Loop() {
				if room, err = s.Open(room[:0], cipher); err != nil {
					b.Fatal(err)
				}
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
				if _, err := k.Sealer(KEY_USAGE_AP_REQ_AUTHENTICATOR); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkStringToKey(b *testing.B) {
	for _, id := range Strong() {
		b.Run(id.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := StringToKey(id, "password", "EXAMPLE.COMalice", nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
