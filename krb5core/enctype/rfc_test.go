package enctype

import (
	"bytes"
	"crypto/aes"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

type s2kVector struct {
	EType          ID
	Iterations     int
	Password, Salt vectors.Hex
	SaltP          vectors.Hex
	Key            vectors.Hex
}

func checkStringToKey(t *testing.T, v s2kVector) {
	t.Helper()
	p := profiles[v.EType]
	want(t, p.name, must.OK(p.stringToKey(p, string(v.Password), string(v.Salt), v.Iterations))(t), v.Key)
}

type cipherVector struct {
	EType                                  ID
	Key, Plaintext, Confounder, Ciphertext vectors.Hex
	Usage                                  Usage
}

type checksumVector struct {
	CksumType           ChecksumType
	EType               ID
	Key, Data, Checksum vectors.Hex
	Usage               Usage
}

func checkChecksum(t *testing.T, v checksumVector) {
	t.Helper()
	k := mustKey(t, v.EType, v.Key)
	if k.ChecksumType() == v.CksumType {
		want(t, v.CksumType.String(), must.OK(k.Checksum(v.Usage, v.Data))(t), v.Checksum)
	}
	if err := k.VerifyChecksum(v.CksumType, v.Usage, v.Data, v.Checksum); err != nil {
		t.Error(err)
	}
}

func TestRFC3961(t *testing.T) {
	var v struct {
		NFold []struct {
			Bits          int
			Input, Output vectors.Hex
		} `json:"n_fold"`
		DES []struct {
			Password, Salt, Intermediate, Key vectors.Hex
			FanFold                           vectors.Hex `json:"fan_fold"`
		} `json:"des_string_to_key"`
		DES3  []struct{ Key, Constant, DR, DK vectors.Hex } `json:"des3_dr_dk"`
		DES3K []s2kVector                                   `json:"des3_string_to_key"`
		CRC   []struct{ Input, Output vectors.Hex }         `json:"modified_crc32"`
	}
	vectors.Load(t, "rfc3961.json", &v)
	for _, v := range some(t, v.NFold) {
		want(t, "n-fold", nfold(v.Input, v.Bits/8), v.Output)
	}
	for _, v := range some(t, v.DES) {
		text := append(bytes.Clone(v.Password), v.Salt...)
		for len(text)%des.BlockSize != 0 {
			text = append(text, 0)
		}
		fold := fanFold(text)
		for i, b := range fold {
			fold[i] = b | v.FanFold[i]&1 // parity is added later here
		}
		want(t, "fan-fold", fold, v.FanFold)
		want(t, "intermediate key", desKey(fold), v.Intermediate)
		for _, id := range []ID{DES_CBC_CRC, DES_CBC_MD5} {
			want(t, "DES key", must.OK(StringToKey(id, string(v.Password), string(v.Salt), nil))(t).Bytes(), v.Key)
		}
	}
	p := profiles[DES3_CBC_SHA1]
	for _, v := range some(t, v.DES3) {
		want(t, "DR", deriveRandom(p, v.Key, v.Constant), v.DR)
		want(t, "DK", p.derive(p, v.Key, v.Constant, p.keySize), v.DK)
	}
	for _, v := range some(t, v.DES3K) {
		checkStringToKey(t, v)
	}
	for _, v := range some(t, v.CRC) {
		want(t, "CRC-32", must.OK(Digest(CKSUMTYPE_CRC32, v.Input))(t), v.Output)
	}
}

func TestRFC3962(t *testing.T) {
	var v struct {
		S2K []struct {
			s2kVector
			PBKDF2 vectors.Hex `json:"pbkdf2_256"`
			AES128 vectors.Hex `json:"aes128_key"`
			AES256 vectors.Hex `json:"aes256_key"`
		} `json:"string_to_key"`
		CTS []struct{ Key, IV, Input, Output vectors.Hex }
	}
	vectors.Load(t, "rfc3962.json", &v)
	for _, v := range some(t, v.S2K) {
		raw := must.OK(pbkdf2.Key(sha1.New, string(v.Password), v.Salt, v.Iterations, 32))(t)
		want(t, "PBKDF2", raw, v.PBKDF2)
		checkStringToKey(t, s2kVector{AES128_CTS_HMAC_SHA1_96, v.Iterations, v.Password, v.Salt, nil, v.AES128})
		checkStringToKey(t, s2kVector{AES256_CTS_HMAC_SHA1_96, v.Iterations, v.Password, v.Salt, nil, v.AES256})
	}
	for _, v := range some(t, v.CTS) {
		b := must.OK(aes.NewCipher(v.Key))(t)
		buf := bytes.Clone(v.Input)
		ctsEncrypt(b, buf)
		want(t, "CTS", buf, v.Output)
		ctsDecrypt(b, buf)
		want(t, "CTS backwards", buf, v.Input)
	}
}

func TestRFC4757(t *testing.T) {
	var v struct {
		S2K []struct {
			Password string
			Key      vectors.Hex
		} `json:"string_to_key"`
		MD4 []struct {
			Input  string
			Output vectors.Hex
		}
	}
	vectors.Load(t, "rfc4757.json", &v)
	for _, v := range some(t, v.S2K) {
		want(t, "NT hash of "+v.Password, must.OK(StringToKey(RC4_HMAC, v.Password, "no part of it", nil))(t).Bytes(), v.Key)
	}
	for _, v := range some(t, v.MD4) {
		want(t, "MD4", must.OK(Digest(CKSUMTYPE_RSA_MD4, []byte(v.Input)))(t), v.Output)
	}
}

func TestRFC6113CF2(t *testing.T) {
	var v struct {
		CF2 []struct {
			EType                         ID
			K1, K2, Pepper1, Pepper2, Key vectors.Hex
		} `json:"krb_fx_cf2"`
	}
	vectors.Load(t, "rfc6113.json", &v)
	for _, v := range some(t, v.CF2) {
		k1, err1 := StringToKey(v.EType, "key1", "key1", nil)
		k2, err2 := StringToKey(v.EType, "key2", "key2", nil)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if v.K1 != nil {
			want(t, "k1", k1.Bytes(), v.K1)
			want(t, "k2", k2.Bytes(), v.K2)
		}
		want(t, v.EType.String(), must.OK(CF2(k1, k2, string(v.Pepper1), string(v.Pepper2)))(t).Bytes(), v.Key)
	}
}

func TestRFC6803(t *testing.T) {
	var v struct {
		S2K    []s2kVector `json:"string_to_key"`
		Derive []struct {
			EType                 ID
			Key, Constant, Output vectors.Hex
		} `json:"derive_key"`
		Encrypt  []cipherVector
		Checksum []checksumVector
	}
	vectors.Load(t, "rfc6803.json", &v)
	for _, v := range some(t, v.S2K) {
		checkStringToKey(t, v)
	}
	for _, v := range some(t, v.Derive) {
		p := profiles[v.EType]
		want(t, "derived key", p.derive(p, v.Key, v.Constant, p.keySize), v.Output)
	}
	for _, v := range some(t, v.Encrypt) {
		checkCipher(t, v.EType, v.Key, v.Usage, v.Confounder, v.Plaintext, v.Ciphertext)
	}
	for _, v := range some(t, v.Checksum) {
		checkChecksum(t, v)
	}
}

func TestRFC8009(t *testing.T) {
	var v struct {
		S2K    []s2kVector `json:"string_to_key"`
		Derive []struct {
			EType           ID
			Usage           Usage
			Key, Kc, Ke, Ki vectors.Hex
		} `json:"derive_key"`
		Encrypt  []cipherVector
		Checksum []checksumVector
		PRF      []struct {
			EType              ID
			Key, Input, Output vectors.Hex
		}
	}
	vectors.Load(t, "rfc8009.json", &v)
	for _, v := range some(t, v.S2K) {
		checkStringToKey(t, v)
	}
	for _, v := range some(t, v.Derive) {
		p := profiles[v.EType]
		want(t, "Kc", p.usageKey(v.Key, v.Usage, forChecksum), v.Kc)
		want(t, "Ke", p.usageKey(v.Key, v.Usage, forEncryption), v.Ke)
		want(t, "Ki", p.usageKey(v.Key, v.Usage, forIntegrity), v.Ki)
	}
	for _, v := range some(t, v.Encrypt) {
		checkCipher(t, v.EType, v.Key, v.Usage, v.Confounder, v.Plaintext, v.Ciphertext)
	}
	for _, v := range some(t, v.Checksum) {
		checkChecksum(t, v)
	}
	for _, v := range some(t, v.PRF) {
		want(t, "PRF", must.OK(PRF(mustKey(t, v.EType, v.Key), v.Input))(t), v.Output)
	}
}

func TestCamelliaBlockOfRFC3713(t *testing.T) {
	var v struct {
		Blocks []struct{ Key, Plaintext, Ciphertext vectors.Hex }
	}
	vectors.Load(t, "rfc3713.json", &v)
	for _, v := range some(t, v.Blocks) {
		c := must.OK(newCamelliaBlock(v.Key))(t)
		got := make([]byte, camelliaBlockSize)
		c.Encrypt(got, v.Plaintext)
		want(t, "ciphertext", got, v.Ciphertext)
		c.Decrypt(got, got)
		want(t, "plaintext", got, v.Plaintext)
	}
	if _, err := newCamelliaBlock(make([]byte, 24)); err == nil {
		t.Error("a key of 24 bytes is accepted")
	}
}

func TestSingleDESAsOldMIT(t *testing.T) {
	var v struct{ Encrypt []cipherVector }
	vectors.Load(t, "des.json", &v)
	for _, v := range some(t, v.Encrypt) {
		iv := zeroBlock[:des.BlockSize]
		if v.EType == DES_CBC_CRC {
			iv = v.Key
		}
		first := bytes.Clone(v.Ciphertext[:des.BlockSize])
		cbcDecrypt(mustDES(v.Key), iv, first)
		checkCipher(t, v.EType, v.Key, v.Usage, first, v.Plaintext, v.Ciphertext)
	}
}
