package enctype

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"crypto/sha1"
	"encoding/binary"
	"unicode/utf16"

	"golang.org/x/crypto/md4"
)

// rc4StringToKey is the NT hash: MD4 of the password in UTF-16LE, without a salt
// (RFC 4757, Section 2).
func rc4StringToKey(_ *profile, password, _ string, _ int) ([]byte, error) {
	h := md4.New()
	for _, unit := range utf16.Encode([]rune(password)) {
		h.Write([]byte{byte(unit), byte(unit >> 8)})
	}
	return h.Sum(nil), nil
}

// rc4PRF is what RFC 4757 leaves out and everybody does.
func rc4PRF(_ *profile, key, data []byte) []byte { return hmacSum(sha1.New, key, data) }

// rc4Usage returns the message type T of a usage (RFC 4757, Section 3). The RFC
// also maps 9 to 8, which its erratum and all implementations do not.
func rc4Usage(usage Usage) []byte {
	switch usage {
	case KEY_USAGE_AS_REP:
		usage = 8
	case KG_USAGE_ACCEPTOR_SIGN:
		usage = 13
	}
	return binary.LittleEndian.AppendUint32(nil, uint32(usage))
}

// rc4Mode is encryption of RFC 4757, Section 5:
//
//	HMAC(K1, confounder | plaintext) | RC4(HMAC(K1, that HMAC), confounder | plaintext)
type rc4Mode struct {
	keys [][]byte // K1; a second one is tried when opening only
}

func newRC4Mode(s *Sealer, key []byte) mode {
	usage := s.usage
	m := &rc4Mode{keys: [][]byte{hmacSum(md5.New, key, rc4Usage(usage))}}
	if usage == KEY_USAGE_TGS_REP_SUBKEY {
		m.keys = append(m.keys, hmacSum(md5.New, key, rc4Usage(KEY_USAGE_TGS_REP_SESSION)))
	}
	return m
}

func (m *rc4Mode) seal(buf []byte) {
	sum, body := buf[:md5.Size], buf[md5.Size:]
	copy(sum, hmacSum(md5.New, m.keys[0], body))
	rc4Crypt(m.keys[0], sum, body)
}

func (m *rc4Mode) open(buf []byte) error {
	sum, body := buf[:md5.Size], buf[md5.Size:]
	for _, key := range m.keys {
		rc4Crypt(key, sum, body)
		if hmac.Equal(sum, hmacSum(md5.New, key, body)) {
			return nil
		}
		rc4Crypt(key, sum, body) // as it was, for the next key
	}
	return ErrIntegrity
}

// rc4Crypt encrypts or decrypts body with the key that belongs to its checksum.
func rc4Crypt(key, sum, body []byte) {
	sized(rc4.NewCipher(hmacSum(md5.New, key, sum))).XORKeyStream(body, body)
}

func rc4Checksum(_ *profile, key []byte, usage Usage, data []byte) []byte {
	return hmacMD5(key, usage, data)
}

// hmacMD5 is KERB_CHECKSUM_HMAC_MD5 (RFC 4757, Section 4).
func hmacMD5(key []byte, usage Usage, data []byte) []byte {
	return md5HMAC(hmacSum(md5.New, key, []byte("signaturekey\x00")), usage, data)
}

// md5HMAC is KERB_CHECKSUM_MD5_HMAC: the same without a signature key.
func md5HMAC(key []byte, usage Usage, data []byte) []byte {
	h := md5.New()
	h.Write(rc4Usage(usage))
	h.Write(data)
	return hmacSum(md5.New, key, h.Sum(nil))
}
