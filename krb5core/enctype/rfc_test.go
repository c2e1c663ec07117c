package enctype

import (
	"bytes"
	"crypto/aes"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"testing"
)

type s2kVector struct {
	EType          ID
	Iterations     int
	Password, Salt octets
	SaltP          octets
	Key            octets
}

func checkStringToKey(t *testing.T, v s2kVector) {
	t.Helper()
	p := profiles[v.EType]
	got, err := p.stringToKey(p, string(v.Password), string(v.Salt), v.Iterations)
	if err != nil {
		t.Fatal(err)
	}
	want(t, p.name, got, v.Key)
}

type cipherVector struct {
	EType                                  ID
	Key, Plaintext, Confounder, Ciphertext octets
	Usage                                  Usage
}

type checksumVector struct {
	CksumType           ChecksumType
	EType               ID
	Key, Data, Checksum octets
	Usage               Usage
}

func checkChecksum(t *testing.T, v checksumVector) {
	t.Helper()
	k := mustKey(t, v.EType, v.Key)
	if k.ChecksumType() == v.CksumType {
		got, err := k.Checksum(v.Usage, v.Data)
		if err != nil {
			t.Fatal(err)
		}
		want(t, v.CksumType.String(), got, v.Checksum)
	}
	if err := k.VerifyChecksum(v.CksumType, v.Usage, v.Data, v.Checksum); err != nil {
		t.Error(err)
	}
}

func TestRFC3961(t *testing.T) {
	var v struct {
		NFold []struct {
			Bits          int
			Input, Output octets
		} `json:"n_fold"`
		DES []struct {
			Password, Salt, Intermediate, Key octets
			FanFold                           octets `json:"fan_fold"`
		} `json:"des_string_to_key"`
		DES3  []struct{ Key, Constant, DR, DK octets } `json:"des3_dr_dk"`
		DES3K []s2kVector                              `json:"des3_string_to_key"`
		CRC   []struct{ Input, Output octets }         `json:"modified_crc32"`
	}
	load(t, "rfc3961.json", &v)
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
			k, err := StringToKey(id, string(v.Password), string(v.Salt), nil)
			if err != nil {
				t.Fatal(err)
			}
			want(t, "DES key", k.Bytes(), v.Key)
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
		got, err := Digest(CKSUMTYPE_CRC32, v.Input)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "CRC-32", got, v.Output)
	}
}

func TestRFC3962(t *testing.T) {
	var v struct {
		S2K []struct {
			s2kVector
			PBKDF2 octets `json:"pbkdf2_256"`
			AES128 octets `json:"aes128_key"`
			AES256 octets `json:"aes256_key"`
		} `json:"string_to_key"`
		CTS []struct{ Key, IV, Input, Output octets }
	}
	load(t, "rfc3962.json", &v)
	for _, v := range some(t, v.S2K) {
		raw, err := pbkdf2.Key(sha1.New, string(v.Password), v.Salt, v.Iterations, 32)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "PBKDF2", raw, v.PBKDF2)
		checkStringToKey(t, s2kVector{AES128_CTS_HMAC_SHA1_96, v.Iterations, v.Password, v.Salt, nil, v.AES128})
		checkStringToKey(t, s2kVector{AES256_CTS_HMAC_SHA1_96, v.Iterations, v.Password, v.Salt, nil, v.AES256})
	}
	for _, v := range some(t, v.CTS) {
		b, err := aes.NewCipher(v.Key)
		if err != nil {
			t.Fatal(err)
		}
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
			Key      octets
		} `json:"string_to_key"`
		MD4 []struct {
			Input  string
			Output octets
		}
	}
	load(t, "rfc4757.json", &v)
	for _, v := range some(t, v.S2K) {
		k, err := StringToKey(RC4_HMAC, v.Password, "no part of it", nil)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "NT hash of "+v.Password, k.Bytes(), v.Key)
	}
	for _, v := range some(t, v.MD4) {
		got, err := Digest(CKSUMTYPE_RSA_MD4, []byte(v.Input))
		if err != nil {
			t.Fatal(err)
		}
		want(t, "MD4", got, v.Output)
	}
}

func TestRFC6113CF2(t *testing.T) {
	var v struct {
		CF2 []struct {
			EType                         ID
			K1, K2, Pepper1, Pepper2, Key octets
		} `json:"krb_fx_cf2"`
	}
	load(t, "rfc6113.json", &v)
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
		got, err := CF2(k1, k2, string(v.Pepper1), string(v.Pepper2))
		if err != nil {
			t.Fatal(err)
		}
		want(t, v.EType.String(), got.Bytes(), v.Key)
	}
}

func TestRFC6803(t *testing.T) {
	var v struct {
		S2K    []s2kVector `json:"string_to_key"`
		Derive []struct {
			EType                 ID
			Key, Constant, Output octets
		} `json:"derive_key"`
		Encrypt  []cipherVector
		Checksum []checksumVector
	}
	load(t, "rfc6803.json", &v)
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
			Key, Kc, Ke, Ki octets
		} `json:"derive_key"`
		Encrypt  []cipherVector
		Checksum []checksumVector
		PRF      []struct {
			EType              ID
			Key, Input, Output octets
		}
	}
	load(t, "rfc8009.json", &v)
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
		got, err := PRF(mustKey(t, v.EType, v.Key), v.Input)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "PRF", got, v.Output)
	}
}

func TestCamelliaBlockOfRFC3713(t *testing.T) {
	var v struct {
		Blocks []struct{ Key, Plaintext, Ciphertext octets }
	}
	load(t, "rfc3713.json", &v)
	for _, v := range some(t, v.Blocks) {
		c, err := newCamelliaBlock(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, camelliaBlockSize)
		c.Encrypt(got, v.Plaintext)
		want(t, "ciphertext", got, v.Ciphertext)
		c.Decrypt(got, got)
		want(t, "plaintext", got, v.Plaintext)
	}
	if _, err := newCamelliaBlock(make([]byte, 24)); err == nil {
		t.Error("a key of 24 octets is accepted")
	}
}

func TestSingleDESAsOldMIT(t *testing.T) {
	var v struct{ Encrypt []cipherVector }
	load(t, "des.json", &v)
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
