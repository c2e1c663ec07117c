package enctype

import (
	"bytes"
	"errors"
	"strconv"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// generated is mit-generated.json: values computed by MIT's library.
type generated struct {
	StringToKey       []generatedPassword `json:"string_to_key"`
	StringToKeyErrors []generatedPassword `json:"string_to_key_errors"`
	DeriveKey         []struct {
		EType           ID
		Key, Kc, Ke, Ki vectors.Hex
		Usage           Usage
	} `json:"derive_key"`
	Encrypt  []cipherVector
	Checksum []checksumVector
	PRF      []struct {
		EType              ID
		Key, Input, Output vectors.Hex
	}
	PRFPlus []struct {
		EType              ID
		Key, Input, Output vectors.Hex
	} `json:"prf_plus"`
	CF2 []struct {
		EType1, EType2, EType ID
		Key1, Key2, Key       vectors.Hex
		Pepper1, Pepper2      string
	} `json:"krb_fx_cf2"`
	RandomToKey []struct {
		EType       ID
		Random, Key vectors.Hex
	} `json:"random_to_key"`
	NFold []struct {
		Input, Output vectors.Hex
		Bits          int
	}
	Lengths []struct {
		EType           ID
		Name            string
		SeedBytes       int            `json:"seed_bytes"`
		KeyBytes        int            `json:"key_bytes"`
		EncryptedLength map[string]int `json:"encrypted_length"`
	}
	MustNotDecrypt []struct {
		EType           ID
		Key, Ciphertext vectors.Hex
		Usage           Usage
		Why             string
	} `json:"must_not_decrypt"`
}

type generatedPassword struct {
	EType          ID
	Password, Salt string
	Params, Key    vectors.Hex
}

func loadGenerated(t *testing.T) *generated {
	t.Helper()
	v := new(generated)
	vectors.Load(t, "mit-generated.json", v)
	return v
}

func TestStringToKeyAsMIT(t *testing.T) {
	t.Parallel()
	v := loadGenerated(t)
	for _, v := range some(t, v.StringToKey) {
		p := profiles[v.EType]
		k, err := StringToKey(v.EType, v.Password, v.Salt, v.Params)
		if err == nil {
			want(t, p.name, k.Bytes(), v.Key)
			continue
		}
		// Fewer iterations than we accept from outside.
		n := 0
		for _, b := range v.Params {
			n = n<<8 | int(b)
		}
		if !errors.Is(err, ErrParams) || n >= p.iterations {
			t.Errorf("%s with %d iterations: %v", p.name, n, err)
		}
		want(t, p.name, must.OK(p.stringToKey(p, v.Password, v.Salt, n))(t), v.Key)
	}
	for _, v := range some(t, v.StringToKeyErrors) {
		if _, err := StringToKey(v.EType, v.Password, v.Salt, v.Params); !errors.Is(err, ErrParams) {
			t.Errorf("%s with parameters %x: %v, want ErrParams", v.EType, v.Params, err)
		}
	}
}

func TestDerivationAsMIT(t *testing.T) {
	v := loadGenerated(t)
	for _, v := range some(t, v.DeriveKey) {
		p := profiles[v.EType]
		want(t, p.name+" Kc", p.usageKey(v.Key, v.Usage, forChecksum), v.Kc)
		want(t, p.name+" Ke", p.usageKey(v.Key, v.Usage, forEncryption), v.Ke)
		want(t, p.name+" Ki", p.usageKey(v.Key, v.Usage, forIntegrity), v.Ki)
	}
	for _, v := range some(t, v.NFold) {
		want(t, "n-fold", nfold(v.Input, v.Bits/8), v.Output)
	}
	for _, v := range some(t, v.RandomToKey) {
		want(t, "random-to-key", profiles[v.EType].randomToKey(v.Random), v.Key)
		want(t, "GenerateKey", must.OK(GenerateKey(v.EType, bytes.NewReader(v.Random)))(t).Bytes(), v.Key)
	}
}

func TestEncryptionAsMIT(t *testing.T) {
	v := loadGenerated(t)
	for _, v := range some(t, v.Encrypt) {
		checkCipher(t, v.EType, v.Key, v.Usage, v.Confounder, v.Plaintext, v.Ciphertext)
	}
	for _, v := range some(t, v.MustNotDecrypt) {
		refused(t, v.EType, v.Why)(mustKey(t, v.EType, v.Key).Decrypt(v.Usage, v.Ciphertext))
	}
}

func TestLengthsAsMIT(t *testing.T) {
	for _, v := range some(t, loadGenerated(t).Lengths) {
		p := profiles[v.EType]
		if p.keySize != v.KeyBytes || p.seedSize != v.SeedBytes || v.EType.KeySize() != v.KeyBytes {
			t.Errorf("%s: key %d, seed %d, want %d, %d", p.name, p.keySize, p.seedSize, v.KeyBytes, v.SeedBytes)
		}
		if id, err := Parse(v.Name); id != v.EType || err != nil {
			t.Errorf("Parse(%q) = %d, %v", v.Name, id, err)
		}
		s := must.OK(anyKey(t, v.EType).Sealer(1))(t)
		if len(v.EncryptedLength) == 0 {
			t.Error("no lengths")
		}
		for text, length := range v.EncryptedLength {
			n := must.OK(strconv.Atoi(text))(t)
			if header, trailer := s.Overhead(n); header+n+trailer != length {
				t.Errorf("%s: %d bytes become %d + %d + %d, want %d", p.name, n, header, n, trailer, length)
			}
		}
	}
}

func TestChecksumsAsMIT(t *testing.T) {
	for _, v := range some(t, loadGenerated(t).Checksum) {
		if v.EType != 0 {
			checkChecksum(t, v)
			continue
		}
		want(t, v.CksumType.String(), must.OK(Digest(v.CksumType, v.Data))(t), v.Checksum)
	}
}

func TestPRFsAsMIT(t *testing.T) {
	v := loadGenerated(t)
	for _, v := range some(t, v.PRF) {
		want(t, v.EType.String(), must.OK(PRF(mustKey(t, v.EType, v.Key), v.Input))(t), v.Output)
	}
	for _, v := range some(t, v.PRFPlus) {
		want(t, v.EType.String(), must.OK(PRFPlus(mustKey(t, v.EType, v.Key), v.Input, len(v.Output)))(t), v.Output)
	}
	for _, v := range some(t, v.CF2) {
		got := must.OK(CF2(mustKey(t, v.EType1, v.Key1), mustKey(t, v.EType2, v.Key2), v.Pepper1, v.Pepper2))(t)
		if got.EType() != v.EType {
			t.Errorf("a key of type %s, want %s", got.EType(), v.EType)
		}
		want(t, v.EType.String(), got.Bytes(), v.Key)
	}
}

func TestNamesAsMIT(t *testing.T) {
	var v struct {
		Names []struct {
			Input string
			EType ID
			Error bool
		} `json:"enctype_names"`
	}
	vectors.Load(t, "mit-config.json", &v)
	for _, v := range some(t, v.Names) {
		id, err := Parse(v.Input)
		switch {
		case v.EType == 24: // rc4-hmac-exp, which no realm should use
			if err == nil {
				t.Errorf("Parse(%q) = %d", v.Input, id)
			}
		case v.Error: // MIT has dropped single DES, this package has not
			if err == nil && id != DES_CBC_CRC && id != DES_CBC_MD5 {
				t.Errorf("Parse(%q) = %d", v.Input, id)
			}
		case id != v.EType || err != nil:
			t.Errorf("Parse(%q) = %d, %v, want %d", v.Input, id, err, v.EType)
		}
	}
}
