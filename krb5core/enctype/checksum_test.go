package enctype

import (
	"bytes"
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestChecksum_Bound(t *testing.T) {
	for _, id := range allTypes() {
		k := anyKey(t, id)
		mandatory := k.ChecksumType()
		sum := must.OK(k.Checksum(KEY_USAGE_AP_REQ_CHECKSUM, text(40)))(t)
		if err := k.VerifyChecksum(mandatory, KEY_USAGE_AP_REQ_CHECKSUM, text(40), sum); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		other := bytes.Clone(k.Bytes())
		other[0] ^= 0x10
		fails := func(what string, k Key, usage Usage, data, sum []byte) {
			t.Helper()
			if err := k.VerifyChecksum(mandatory, usage, data, sum); !errors.Is(err, ErrIntegrity) {
				t.Errorf("%s, %s: %v, want ErrIntegrity", id, what, err)
			}
		}
		fails("other key", mustKey(t, id, other), KEY_USAGE_AP_REQ_CHECKSUM, text(40), sum)
		fails("other data", k, KEY_USAGE_AP_REQ_CHECKSUM, text(41), sum)
		fails("no checksum", k, KEY_USAGE_AP_REQ_CHECKSUM, text(40), nil)
		fails("short checksum", k, KEY_USAGE_AP_REQ_CHECKSUM, text(40), sum[:len(sum)-1])
		fails("long checksum", k, KEY_USAGE_AP_REQ_CHECKSUM, text(40), append(bytes.Clone(sum), 0))
		for bit := range 8 * len(sum) {
			bad := bytes.Clone(sum)
			bad[bit/8] ^= 1 << (bit % 8)
			fails("flipped bit", k, KEY_USAGE_AP_REQ_CHECKSUM, text(40), bad)
		}
		if id != DES_CBC_CRC && id != DES_CBC_MD5 {
			fails("other usage", k, KEY_USAGE_TGS_REQ_CHECKSUM, text(40), sum)
		}
	}
}

func TestVerifyChecksum_Unkeyed(t *testing.T) {
	for _, id := range allTypes() {
		k := anyKey(t, id)
		for ct := range checksumNames {
			sum, err := Digest(ct, text(40))
			if err == nil {
				if err := k.VerifyChecksum(ct, 6, text(40), sum); !errors.Is(err, ErrUnsupported) {
					t.Errorf("%s verifies %s: %v", id, ct, err)
				}
				continue
			}
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("Digest(%s): %v", ct, err)
			}
			accepted := ct == k.ChecksumType() || ct == KERB_CHECKSUM_HMAC_MD5 ||
				ct == KERB_CHECKSUM_MD5_HMAC && id == RC4_HMAC
			wantErr := ErrUnsupported
			if accepted {
				wantErr = ErrIntegrity
			}
			if err := k.VerifyChecksum(ct, 6, text(40), nil); !errors.Is(err, wantErr) {
				t.Errorf("%s, %s: %v, want %v", id, ct, err, wantErr)
			}
		}
	}
}

func TestHMACMD5TakesAnyKey(t *testing.T) {
	for _, id := range allTypes() {
		k := anyKey(t, id)
		sum, err := HMACMD5(k, KEY_USAGE_PA_FOR_USER, text(40))
		if err != nil || len(sum) != 16 {
			t.Fatalf("%s: %x, %v", id, sum, err)
		}
		if err := k.VerifyChecksum(KERB_CHECKSUM_HMAC_MD5, KEY_USAGE_PA_FOR_USER, text(40), sum); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}
