package enctype

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestKeyIsBoundToItsSize(t *testing.T) {
	for _, id := range allTypes() {
		size := id.KeySize()
		for _, n := range []int{0, size - 1, size + 1, 2 * size} {
			if k, err := NewKey(id, make([]byte, n)); err == nil || !k.IsZero() {
				t.Errorf("%s: a key of %d bytes is accepted", id, n)
			}
		}
		raw := bytes.Repeat([]byte{7}, size)
		k := mustKey(t, id, raw)
		raw[0] = 0
		if k.Bytes()[0] != 7 {
			t.Errorf("%s: the key shares the caller's bytes", id)
		}
	}
}

func TestKeyEqual(t *testing.T) {
	a := mustKey(t, AES128_CTS_HMAC_SHA1_96, bytes.Repeat([]byte{1}, 16))
	for _, test := range []struct {
		name string
		b    Key
		want bool
	}{
		{"itself", a, true},
		{"same bytes", mustKey(t, AES128_CTS_HMAC_SHA1_96, a.Bytes()), true},
		{"other type", mustKey(t, RC4_HMAC, a.Bytes()), false},
		{"other bytes", mustKey(t, AES128_CTS_HMAC_SHA1_96, make([]byte, 16)), false},
		{"no key", Key{}, false},
	} {
		if a.Equal(test.b) != test.want || test.b.Equal(a) != test.want {
			t.Errorf("%s: not %v", test.name, test.want)
		}
	}
	if !(Key{}).Equal(Key{}) {
		t.Error("no key differs from no key")
	}
}

// uses are all operations with a key.
var uses = map[string]func(Key) error{
	"Encrypt":        func(k Key) error { _, err := k.Encrypt(fixed(make([]byte, 16)), 1, nil); return err },
	"Decrypt":        func(k Key) error { _, err := k.Decrypt(1, make([]byte, 100)); return err },
	"Sealer":         func(k Key) error { _, err := k.Sealer(1); return err },
	"Checksum":       func(k Key) error { _, err := k.Checksum(1, nil); return err },
	"VerifyChecksum": func(k Key) error { return k.VerifyChecksum(k.ChecksumType(), 1, nil, nil) },
	"PRF":            func(k Key) error { _, err := PRF(k, nil); return err },
	"PRFPlus":        func(k Key) error { _, err := PRFPlus(k, nil, 1); return err },
	"CF2":            func(k Key) error { _, err := CF2(k, k, "a", "b"); return err },
}

func TestZeroKeyFailsButDoesNotPanic(t *testing.T) {
	var k Key
	if !k.IsZero() || k.EType() != 0 || k.Bytes() != nil || k.ChecksumType() != 0 || k.String() != "no key" {
		t.Error("the zero Key is something")
	}
	for name, use := range uses {
		if err := use(k); !errors.Is(err, errNoKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := HMACMD5(k, 1, nil); !errors.Is(err, errNoKey) {
		t.Errorf("HMACMD5: %v", err)
	}
	if _, err := CF2(anyKey(t, RC4_HMAC), k, "a", "b"); !errors.Is(err, errNoKey) {
		t.Errorf("CF2 with a second key that is none: %v", err)
	}
}

func TestUnknownTypeIsHeldButNotUsed(t *testing.T) {
	k := mustKey(t, 24, []byte("bytes"))
	if k.EType() != 24 || string(k.Bytes()) != "bytes" {
		t.Errorf("got %v with %q", k, k.Bytes())
	}
	for name, use := range uses {
		if err := use(k); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v, want ErrUnsupported", name, err)
		}
	}
	if _, err := GenerateKey(24, fixed(make([]byte, 100))); !errors.Is(err, ErrUnsupported) {
		t.Errorf("GenerateKey: %v", err)
	}
	if _, err := StringToKey(24, "password", "salt", nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("StringToKey: %v", err)
	}
}

func TestRandomnessThatFailsIsAnError(t *testing.T) {
	for _, id := range allTypes() {
		if _, err := GenerateKey(id, fixed(make([]byte, profiles[id].seedSize-1))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: GenerateKey: %v", id, err)
		}
		if _, err := anyKey(t, id).Encrypt(fixed(nil), 1, nil); !errors.Is(err, io.EOF) {
			t.Errorf("%s: Encrypt: %v", id, err)
		}
	}
}

func TestGeneratedDESKeysAreNotWeak(t *testing.T) {
	for weak := range desWeakKeys {
		var seed [7]byte // what desRandomToKey spreads to weak
		for i := range seed {
			seed[i] = weak[i]&^1 | weak[7]>>(i+1)&1
		}
		k := must.OK(GenerateKey(DES_CBC_MD5, fixed(seed[:])))(t)
		corrected := weak
		corrected[7] ^= 0xf0
		want(t, fmt.Sprintf("key instead of %x", weak), k.Bytes(), corrected[:])
	}
}

func TestStringToKeyIsBounded(t *testing.T) {
	const aes, sha2, camellia = AES256_CTS_HMAC_SHA1_96, AES128_CTS_HMAC_SHA256_128, CAMELLIA256_CTS_CMAC
	for _, test := range []struct {
		id     ID
		params string
		ok     bool
	}{
		{aes, "", true},
		{aes, "00001000", true},
		{aes, "00000fff", false},
		{aes, "000f4241", false}, // MaxIterations + 1
		{aes, "00000000", false}, // RFC 3962: 2^32
		{aes, "80000000", false},
		{aes, "ffffffff", false},
		{aes, "001000", false},
		{aes, "0000100000", false},
		{sha2, "00008000", true},
		{sha2, "00007fff", false},
		{sha2, "00001000", false},
		{camellia, "00008000", true},
		{camellia, "00007fff", false},
		{DES_CBC_MD5, "00", true},
		{DES_CBC_MD5, "01", false}, // AFS
		{DES_CBC_CRC, "0000", false},
		{DES3_CBC_SHA1, "00", false},
		{RC4_HMAC, "00001000", false},
	} {
		params := must.OK(hex.DecodeString(test.params))(t)
		k, err := StringToKey(test.id, "password", "salt", params)
		if test.ok && (err != nil || k.EType() != test.id) || !test.ok && !errors.Is(err, ErrParams) {
			t.Errorf("%s with parameters %q: %v, want accepted = %v", test.id, test.params, err, test.ok)
		}
	}
	// The upper bound itself, without the time that it takes.
	if n, err := Iterations(aes, []byte{0, 0x0f, 0x42, 0x40}); n != MaxIterations || err != nil {
		t.Errorf("%d iterations: %d, %v", MaxIterations, n, err)
	}
	_, err := StringToKey(aes, "password", "salt", []byte{1, 0, 0, 0})
	for _, want := range []string{"16777216", fmt.Sprint(MaxIterations), "keytab"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
}

func TestStringToKeyOfNothing(t *testing.T) {
	for _, id := range allTypes() {
		k, err := StringToKey(id, "", "", nil)
		if err != nil || len(k.Bytes()) != id.KeySize() {
			t.Errorf("%s: %v, %v", id, k, err)
		}
	}
}

func TestPRFPlusEndsWithItsCounter(t *testing.T) {
	k := anyKey(t, AES128_CTS_HMAC_SHA1_96)
	if b, err := PRFPlus(k, []byte("data"), 255*16); err != nil || len(b) != 255*16 {
		t.Errorf("255 blocks: %d bytes, %v", len(b), err)
	}
	if _, err := PRFPlus(k, []byte("data"), 255*16+1); err == nil {
		t.Error("256 blocks are accepted")
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	type nested struct {
		Key  Key
		key  Key
		seal *Sealer
	}
	for _, id := range append(allTypes(), 99) {
		raw := bytes.Repeat([]byte("hush12##"), 4)
		if n := id.KeySize(); n != 0 {
			raw = raw[:n]
		}
		k := mustKey(t, id, raw)
		s, _ := k.Sealer(1)
		values := []any{k, &k, nested{k, k, s}, &nested{k, k, s}, []Key{k}, map[string]Key{"k": k}}
		if s != nil {
			values = append(values, s, []*Sealer{s})
		}
		var out strings.Builder
		for _, v := range values {
			for verb := range strings.FieldsSeq("%v %+v %#v %s %q %x %X %d %c %o %U %b %t %p") {
				fmt.Fprintf(&out, verb+"\n", v)
			}
			b := must.OK(json.Marshal(v))(t)
			out.Write(b)
			slog.New(slog.NewTextHandler(&out, nil)).Info("text", "value", v)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "value", v)
		}
		_, err := k.Decrypt(1, make([]byte, 99))
		fmt.Fprint(&out, err)
		text := out.String()
		for _, leak := range []string{
			"hush12", hex.EncodeToString([]byte("hush12")), strings.ToUpper(hex.EncodeToString([]byte("hush12"))),
			"104 117 115", "104,117,115", "0x68, 0x75", "68 75 73", "aHVzaDEy", "U+0068 U+0075", "1101000 1110101",
		} {
			if strings.Contains(text, leak) {
				t.Errorf("%s: %q is printed:\n%s", id, leak, text)
			}
		}
		if !strings.Contains(text, id.String()) {
			t.Errorf("%s: the type is not printed", id)
		}
	}
}

func TestNames(t *testing.T) {
	for _, id := range allTypes() {
		p := profiles[id]
		for _, name := range append(p.aliases, p.name, id.String(), strings.ToUpper(p.name)) {
			if got, err := Parse(name); got != id || err != nil {
				t.Errorf("Parse(%q) = %d, %v, want %d", name, got, err, id)
			}
		}
		if !id.Supported() || id.Check() != nil {
			t.Errorf("%s is not supported", id)
		}
	}
	for _, name := range []string{"", "aes", "aes256", "rc4", "des", "des3", "camellia", "18", "0x12", "aes256-cts ", "arcfour-hmac-exp"} {
		if id, err := Parse(name); err == nil {
			t.Errorf("Parse(%q) = %d", name, id)
		}
	}
	if got := ID(99).String(); got != "enctype 99" {
		t.Error(got)
	}
	if ID(99).Supported() || !ID(99).Weak() || ID(99).Approved() || ID(99).KeySize() != 0 {
		t.Error("an unknown type is taken for something")
	}
	if got := ChecksumType(-9).String(); got != "checksum type -9" {
		t.Error(got)
	}
}

func TestStrongAndWeak(t *testing.T) {
	const wantStrong = "[aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96 " +
		"aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128 camellia256-cts-cmac camellia128-cts-cmac]"
	if got := fmt.Sprint(Strong()); got != wantStrong {
		t.Errorf("Strong() = %s", got)
	}
	strong := make(map[ID]bool)
	for _, id := range Strong() {
		strong[id] = true
	}
	for _, id := range allTypes() {
		if id.Weak() == strong[id] {
			t.Errorf("%s is strong and weak, or neither", id)
		}
		if id.Approved() != (id == AES256_CTS_HMAC_SHA384_192 || id == AES128_CTS_HMAC_SHA256_128) {
			t.Errorf("%s: approved = %v", id, id.Approved())
		}
	}
}
