package gss

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"hash"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// sizes are those of tickets: without a PAC or a small one, and of a user in some hundred groups.
var sizes = []struct {
	name string
	n    int
}{{"1.3kB", 1200}, {"6kB", 5900}}

// benchServices is how many services take turns: one alone would get no more than 934464 stamps a second.
const benchServices = 4

func benchTemplates(b *testing.B, n int) []*Template {
	b.Helper()
	var templates []*Template
	cred := testCredential(b, enctype.AES256_CTS_HMAC_SHA1_96, n)
	for range benchServices {
		templates = append(templates, newTemplate(b, cred, TemplateConfig{
			Flags: GSS_C_MUTUAL_FLAG | GSS_C_INTEG_FLAG, Bindings: true, Framing: octetString,
		}))
	}
	return templates
}

// BenchmarkHeader is a header value from a ticket at hand: AES-256, subkey, channel bindings, the string. Its floor is
// BenchmarkFloor/header.
func BenchmarkHeader(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			mint := mintHeader(b, size.n)
			b.ReportAllocs()
			for b.Loop() {
				mint()
			}
		})
	}
}

// BenchmarkHeaderParallel is BenchmarkHeader on all cores, with a live heap such as a server has: compare runs with -cpu 1,2.
func BenchmarkHeaderParallel(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			heap := liveHeap()
			templates := benchTemplates(b, size.n)
			bindings := ChannelBindings{1}
			ctx := context.Background()
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if _, _, err := templates[i%benchServices].Header(ctx, &bindings); err != nil {
						b.Error(err)
						return
					}
				}
			})
			runtime.KeepAlive(heap)
		})
	}
}

// liveHeap is 256 MiB in small pieces.
func liveHeap() [][]byte {
	heap := make([][]byte, 1<<18)
	for i := range heap {
		heap[i] = make([]byte, 1<<10)
	}
	return heap
}

// BenchmarkAPRep is the verification of an acceptor's answer.
func BenchmarkAPRep(b *testing.B) {
	c := mitContexts(b)[0]
	sent, token := c.sent(b), c.acceptorToken()
	b.ReportAllocs()
	for b.Loop() {
		must.Do(b, sent.VerifyToken(token))
	}
}

// BenchmarkRatio takes turns between two sides, so that both meet the same machine, and reports the median of the ratios:
// a header to its floor, and one from a large ticket to one from a small.
func BenchmarkRatio(b *testing.B) {
	for _, size := range sizes {
		b.Run("header-to-floor/"+size.name, func(b *testing.B) {
			reportRatio(b, mintHeader(b, size.n), floorHeader(b, size.n))
		})
	}
	b.Run("6kB-to-1.3kB", func(b *testing.B) {
		reportRatio(b, mintHeader(b, sizes[1].n), mintHeader(b, sizes[0].n))
	})
	b.Run("floor-6kB-to-1.3kB", func(b *testing.B) {
		reportRatio(b, floorHeader(b, sizes[1].n), floorHeader(b, sizes[0].n))
	})
}

func reportRatio(b *testing.B, one, other func()) {
	b.Helper()
	const turn = 200
	var ratios, ones, others []float64
	for b.Loop() {
		took := [2]time.Duration{}
		for side, f := range []func(){one, other} {
			start := time.Now()
			for range turn {
				f()
			}
			took[side] = time.Since(start)
		}
		ratios = append(ratios, float64(took[0])/float64(took[1]))
		ones = append(ones, float64(took[0])/turn)
		others = append(others, float64(took[1])/turn)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(median(ones), "ns/one")
	b.ReportMetric(median(others), "ns/other")
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// mintHeader is a function that makes a header value.
func mintHeader(b *testing.B, n int) func() {
	b.Helper()
	templates := benchTemplates(b, n)
	bindings := ChannelBindings{1}
	ctx := context.Background()
	i := 0
	return func() {
		i++
		if _, _, err := templates[i%benchServices].Header(ctx, &bindings); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFloor is what the standard library's primitives take for the same work by the shortest way, without anything
// that makes a token right: no unique time, no changing fields, keys given. Whole builds, encrypts and encodes all
// of the token; tail only its end, what precedes it being kept with its base64; header does so with a random subkey,
// and makes the string.
func BenchmarkFloor(b *testing.B) {
	for _, size := range sizes {
		template := benchTemplates(b, size.n)[0]
		floor := newFloor(b, template)
		b.Run(fmt.Sprint("whole/", size.name), func(b *testing.B) {
			token := make([]byte, base64.StdEncoding.DecodedLen(len(template.prefix)-len("Negotiate "))+template.tailLen)
			out := make([]byte, base64.StdEncoding.EncodedLen(len(token)))
			prefix := bytes.Repeat([]byte{0x5a}, len(token)-floor.cipherLen())
			b.ReportAllocs()
			for b.Loop() {
				copy(token, prefix)
				floor.seal(token[len(prefix):])
				base64.StdEncoding.Encode(out, token)
			}
		})
		b.Run(fmt.Sprint("tail/", size.name), func(b *testing.B) {
			out := make([]byte, len(template.prefix)+base64.StdEncoding.EncodedLen(template.tailLen))
			at := copy(out, template.prefix)
			tail := make([]byte, template.tailLen)
			b.ReportAllocs()
			for b.Loop() {
				floor.seal(tail[template.restLen:])
				base64.StdEncoding.Encode(out[at:], tail)
			}
		})
		b.Run(fmt.Sprint("header/", size.name), func(b *testing.B) {
			header := floorHeader(b, size.n)
			b.ReportAllocs()
			for b.Loop() {
				header()
			}
		})
	}
}

// floorHeader is a function that does BenchmarkFloor/header once.
func floorHeader(b *testing.B, n int) func() {
	b.Helper()
	template := benchTemplates(b, n)[0]
	floor := newFloor(b, template)
	out := make([]byte, len(template.prefix)+base64.StdEncoding.EncodedLen(template.tailLen))
	at := copy(out, template.prefix)
	tail := make([]byte, template.tailLen)
	var header string
	return func() {
		must.OK(rand.Read(floor.subkey[:]))(b)
		floor.seal(tail[template.restLen:])
		base64.StdEncoding.Encode(out[at:], tail)
		header = string(out)
		runtime.KeepAlive(header)
	}
}

// floor encrypts an authenticator as AES256_CTS_HMAC_SHA1_96 does, but for ciphertext stealing.
type floor struct {
	plain  []byte
	subkey [32]byte
	block  interface{ Encrypt(dst, src []byte) }
	mac    hash.Hash
	sum    [sha1.Size]byte
}

func newFloor(b *testing.B, t *Template) *floor {
	b.Helper()
	block := must.OK(aes.NewCipher(make([]byte, 32)))(b)
	plain := append(make([]byte, 16), t.authenticator.plain...)
	return &floor{plain: plain, block: block, mac: hmac.New(sha1.New, make([]byte, 32))}
}

func (f *floor) cipherLen() int { return len(f.plain) + 12 }

func (f *floor) seal(dst []byte) {
	n := copy(dst, f.plain)
	copy(dst[n-len(f.subkey):], f.subkey[:])
	f.mac.Reset()
	f.mac.Write(dst[:n])
	sum := f.mac.Sum(f.sum[:0])
	previous := make([]byte, 16)
	for at := 0; at+16 <= n; at += 16 {
		block := dst[at : at+16]
		for i := range block {
			block[i] ^= previous[i]
		}
		f.block.Encrypt(block, block)
		previous = block
	}
	copy(dst[n:], sum[:12])
}
