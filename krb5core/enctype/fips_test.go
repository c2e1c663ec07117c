package enctype

import (
	"crypto/fips140"
	"errors"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// again runs tests of this binary in a process with another GODEBUG, which is read
// at start only.
func again(t *testing.T, godebug, run string) {
	t.Helper()
	self := must.OK(os.Executable())(t)
	cmd := exec.Command(self, "-test.run="+run, "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), "GODEBUG="+godebug)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("with GODEBUG=%s: %v\n%s", godebug, err, out)
	}
	if !strings.Contains(string(out), "--- PASS") || strings.Contains(string(out), "--- SKIP") {
		t.Fatalf("with GODEBUG=%s nothing was tested:\n%s", godebug, out)
	}
}

func TestFIPS140Enforced(t *testing.T) { again(t, "fips140=only", "^(TestGODEBUG|TestEnforced)") }

// All vectors again with the FIPS module's own CBC and HMAC.
func TestFIPS140Enabled(t *testing.T) {
	again(t, "fips140=on", "^(TestGODEBUG.*|TestRFC.*|Test.*AsMIT|TestSealEqualsEncrypt|TestOtherKeyDoesNotDecrypt)$")
}

// Without effect on the other process the tests there would pass for nothing.
func TestGODEBUGHasTheEffectItSays(t *testing.T) {
	godebug := os.Getenv("GODEBUG")
	if strings.Contains(godebug, "fips140=on") && !fips140.Enabled() {
		t.Errorf("the FIPS module is not enabled by GODEBUG=%s", godebug)
	}
	if strings.Contains(godebug, "fips140=only") && !fips140.Enforced() {
		t.Errorf("FIPS 140 is not enforced by GODEBUG=%s", godebug)
	}
}

// The tests below are for the process that TestFIPS140Enforced starts; in any other
// they hold the trivial half of what they say.

func TestEnforcedRefusesByName(t *testing.T) {
	for _, id := range allTypes() {
		k := mustKey(t, id, text(id.KeySize())) // keytabs with such keys can be read
		all := map[string]func(Key) error{
			"Check":       func(Key) error { return id.Check() },
			"GenerateKey": func(Key) error { _, err := GenerateKey(id, fixed(text(32))); return err },
			"StringToKey": func(Key) error { _, err := StringToKey(id, "pw", "s", nil); return err },
			"CF2 of an approved key": func(k Key) error {
				_, err := CF2(mustKey(t, AES128_CTS_HMAC_SHA256_128, text(16)), k, "a", "b")
				return err
			},
		}
		maps.Copy(all, uses)
		for name, use := range all {
			err := use(k)
			refused := errors.Is(err, ErrNotApproved) && strings.Contains(err.Error(), id.String())
			if refused != (fips140.Enforced() && !id.Approved()) {
				t.Errorf("%s, %s: %v", id, name, err)
			}
		}
	}
	k := mustKey(t, AES128_CTS_HMAC_SHA256_128, text(16))
	unapproved := map[string]error{
		"verifying HMAC-MD5": k.VerifyChecksum(KERB_CHECKSUM_HMAC_MD5, 1, nil, nil),
	}
	_, unapproved["HMACMD5"] = HMACMD5(k, 1, nil)
	_, unapproved["CRC-32"] = Digest(CKSUMTYPE_CRC32, nil)
	_, unapproved["MD4"] = Digest(CKSUMTYPE_RSA_MD4, nil)
	_, unapproved["MD5"] = Digest(CKSUMTYPE_RSA_MD5, nil)
	_, unapproved["SHA-1"] = Digest(CKSUMTYPE_SHA1, nil)
	for name, err := range unapproved {
		if errors.Is(err, ErrNotApproved) != fips140.Enforced() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEnforcedOffersApprovedTypesOnly(t *testing.T) {
	ids := Strong()
	if len(ids) == 0 {
		t.Fatal("none is left")
	}
	for _, id := range ids {
		if fips140.Enforced() && !id.Approved() {
			t.Errorf("%s is offered", id)
		}
	}
}

func TestEnforcedRFC8009(t *testing.T) { TestRFC8009(t) }

func TestEnforcedApprovedTypesAsMIT(t *testing.T) {
	v := loadGenerated(t)
	checked := 0
	for _, v := range some(t, v.Encrypt) {
		if v.EType.Approved() {
			checkCipher(t, v.EType, v.Key, v.Usage, v.Confounder, v.Plaintext, v.Ciphertext)
			checked++
		}
	}
	for _, v := range some(t, v.Checksum) {
		if v.EType.Approved() {
			checkChecksum(t, v)
			checked++
		}
	}
	for _, v := range some(t, v.StringToKey) {
		if v.EType.Approved() && len(v.Params) == 0 {
			k := must.OK(StringToKey(v.EType, v.Password, v.Salt, nil))(t)
			want(t, "string-to-key", k.Bytes(), v.Key)
			checked++
		}
	}
	for _, v := range some(t, v.CF2) {
		if v.EType1.Approved() && v.EType2.Approved() {
			got := must.OK(CF2(mustKey(t, v.EType1, v.Key1), mustKey(t, v.EType2, v.Key2), v.Pepper1, v.Pepper2))(t)
			want(t, "CF2", got.Bytes(), v.Key)
			checked++
		}
	}
	if checked < 50 {
		t.Errorf("only %d values are of approved types", checked)
	}
}
