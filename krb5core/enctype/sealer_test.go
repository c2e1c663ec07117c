package enctype

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// sizes of plaintexts around the edges of blocks.
var sizes = []int{0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 100}

// text returns n bytes that are not all alike.
func text(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + 1)
	}
	return b
}

func TestOneFlippedBitDoesNotDecrypt(t *testing.T) {
	for _, id := range allTypes() {
		t.Run(id.String(), func(t *testing.T) {
			s := must.OK(anyKey(t, id).Sealer(KEY_USAGE_AP_REQ_AUTHENTICATOR))(t)
			for _, n := range sizes {
				good := s.Seal(nil, text(s.ConfounderSize()), text(n))
				for bit := range 8 * len(good) {
					bad := bytes.Clone(good)
					bad[bit/8] ^= 1 << (bit % 8)
					refused(t, n, bit)(s.Open(nil, bad))
				}
			}
		})
	}
}

func TestOtherLengthDoesNotDecrypt(t *testing.T) {
	for _, id := range allTypes() {
		s := must.OK(anyKey(t, id).Sealer(KEY_USAGE_AP_REQ_AUTHENTICATOR))(t)
		for _, n := range sizes {
			good := s.Seal(nil, text(s.ConfounderSize()), text(n))
			for cut := range good {
				for _, bad := range [][]byte{good[:cut], good[len(good)-cut:]} {
					refused(t, id, len(bad), len(good))(s.Open(nil, bad))
				}
			}
			for more := range 17 {
				bad := append(bytes.Clone(good), make([]byte, more+1)...)
				refused(t, id, more+1)(s.Open(nil, bad))
			}
		}
	}
}

func TestOtherKeyDoesNotDecrypt(t *testing.T) {
	for _, id := range allTypes() {
		k := anyKey(t, id)
		cipher := must.OK(k.Encrypt(fixed(text(16)), KEY_USAGE_AP_REP, text(50)))(t)
		other := bytes.Clone(k.Bytes())
		other[0] ^= 0x10 // not DES's parity
		refused(t, id)(mustKey(t, id, other).Decrypt(KEY_USAGE_AP_REP, cipher))
	}
}

func TestOtherUsageDoesNotDecrypt(t *testing.T) {
	for _, id := range allTypes() {
		if id == DES_CBC_CRC || id == DES_CBC_MD5 {
			continue // which know no usages
		}
		k := anyKey(t, id)
		cipher := must.OK(k.Encrypt(fixed(text(16)), KEY_USAGE_AP_REP, text(50)))(t)
		for _, usage := range []Usage{0, 1, 9, 11, 13, 12 << 8, 12 << 24} {
			refused(t, id, usage)(k.Decrypt(usage, cipher))
		}
	}
}

func TestRC4_UsageNine(t *testing.T) {
	k := anyKey(t, RC4_HMAC)
	nine := must.OK(k.Encrypt(fixed(text(8)), KEY_USAGE_TGS_REP_SUBKEY, text(50)))(t)
	eight := must.OK(k.Encrypt(fixed(text(8)), KEY_USAGE_TGS_REP_SESSION, text(50)))(t)
	if bytes.Equal(nine, eight) {
		t.Error("9 is encrypted as 8")
	}
	for _, cipher := range [][]byte{nine, eight} {
		want(t, "plaintext", must.OK(k.Decrypt(KEY_USAGE_TGS_REP_SUBKEY, cipher))(t), text(50))
	}
	if _, err := k.Decrypt(KEY_USAGE_TGS_REP_SESSION, nine); !errors.Is(err, ErrIntegrity) {
		t.Errorf("9 is accepted as 8: %v", err)
	}
}

func TestSealEqualsEncrypt(t *testing.T) {
	for _, id := range allTypes() {
		k := anyKey(t, id)
		s := must.OK(k.Sealer(KEY_USAGE_AP_REQ_AUTHENTICATOR))(t)
		for n := range 70 {
			plaintext, confounder := text(n), text(s.ConfounderSize())
			whole := must.OK(k.Encrypt(fixed(confounder), KEY_USAGE_AP_REQ_AUTHENTICATOR, plaintext))(t)
			header, trailer := s.Overhead(n)

			dirty := bytes.Repeat([]byte{0xee}, 5+header+n+trailer+9)
			got := s.Seal(dirty[:5], confounder, plaintext)
			want(t, id.String()+" after a prefix", got[5:], whole)
			want(t, "the prefix", got[:5], dirty[:5])
			if &got[0] != &dirty[0] || dirty[len(dirty)-9] != 0xee {
				t.Errorf("%s: does not stay within its buffer", id)
			}

			inPlace := make([]byte, header+n+trailer)
			copy(inPlace[header:], plaintext)
			want(t, id.String()+" in place", s.Seal(inPlace[:0], confounder, inPlace[header:header+n]), whole)
		}
	}
}

func TestOpenClearsWhatItWillNotReturn(t *testing.T) {
	for _, id := range allTypes() {
		s := must.OK(anyKey(t, id).Sealer(1))(t)
		cipher := s.Seal(nil, text(s.ConfounderSize()), text(64))
		cipher[0] ^= 1
		buf := make([]byte, 0, 200)
		if _, err := s.Open(buf, cipher); err == nil {
			t.Fatal("opened")
		}
		if slices.ContainsFunc(buf[:cap(buf)], func(b byte) bool { return b != 0 }) {
			t.Errorf("%s: leaves something behind", id)
		}
	}
}

func TestSeal_ConfounderSize(t *testing.T) {
	s := must.OK(anyKey(t, AES128_CTS_HMAC_SHA1_96).Sealer(1))(t)
	defer func() {
		if recover() == nil {
			t.Error("a constant part in every ciphertext goes unnoticed")
		}
	}()
	s.Seal(nil, make([]byte, 15), nil)
}

func TestSealerServesManyAtOnce(t *testing.T) {
	for _, id := range allTypes() {
		s := must.OK(anyKey(t, id).Sealer(1))(t)
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				var buf, back []byte
				for i := range 50 {
					plaintext := text(8 * (worker + i))
					buf = s.Seal(buf[:0], text(s.ConfounderSize()), plaintext)
					var err error
					if back, err = s.Open(back[:0], buf); err != nil || !bytes.HasPrefix(back, plaintext) {
						t.Errorf("%s: %v", id, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
}

func FuzzDecrypt(f *testing.F) {
	for i, id := range allTypes() {
		for _, n := range []int{0, 20} {
			k := anyKey(f, id)
			cipher := must.OK(k.Encrypt(fixed(text(16)), 9, text(n)))(f)
			f.Add(byte(i), uint32(9), cipher)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, usage uint32, data []byte) {
		id := table[int(which)%len(table)].id
		k := anyKey(t, id)
		before := bytes.Clone(data)
		got, err := k.Decrypt(Usage(usage), data)
		want(t, "the ciphertext afterwards", data, before)
		switch {
		case err != nil && (got != nil || !errors.Is(err, ErrIntegrity)):
			t.Fatalf("%x, %v", got, err)
		case err == nil && len(got) >= len(data):
			t.Fatalf("%d bytes of %d", len(got), len(data))
		}
		// Whatever was read as a ciphertext is a plaintext too.
		cipher := must.OK(k.Encrypt(fixed(text(16)), Usage(usage), data))(t)
		back, err := k.Decrypt(Usage(usage), cipher)
		if err != nil || !bytes.HasPrefix(back, data) || len(bytes.Trim(back[len(data):], "\x00")) != 0 {
			t.Fatalf("%x, %v, want %x", back, err, data)
		}
	})
}
