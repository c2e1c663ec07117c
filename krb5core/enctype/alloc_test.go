//go:build !race

package enctype

import (
	"crypto/fips140"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// Under the race detector sync.Pool forgets at random.
func TestSealDoesNotAllocate(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("the FIPS module's CBC and HMAC allocate")
	}
	for _, id := range Strong() {
		s := must.OK(anyKey(t, id).Sealer(KEY_USAGE_AP_REQ_AUTHENTICATOR))(t)
		for _, n := range []int{0, 16, 199, 200, 208} {
			plaintext := text(n)
			buf := make([]byte, 0, 300)
			allocs := testing.AllocsPerRun(100, func() {
				var confounder [16]byte // stays on the stack
				buf = s.Seal(buf[:0], confounder[:], plaintext)
			})
			if allocs != 0 {
				t.Errorf("%s, %d bytes: %v allocations", id, n, allocs)
			}
		}
	}
}
