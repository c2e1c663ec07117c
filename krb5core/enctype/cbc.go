package enctype

import (
	"crypto/cipher"
	"crypto/fips140"
	"crypto/subtle"
)

// zeroBlock is the initial cipher state of every type but des-cbc-crc.
var zeroBlock [16]byte

// cbcEncrypt encrypts whole blocks in place. By hand this is as fast as
// cipher.NewCBCEncrypter without its allocation of half a kilobyte. The FIPS module
// has approved CBC but not the bare block, so that is what it is then asked for.
func cbcEncrypt(b cipher.Block, iv, buf []byte) {
	if fips140.Enabled() {
		cipher.NewCBCEncrypter(b, iv).CryptBlocks(buf, buf)
		return
	}
	size := b.BlockSize()
	for len(buf) > 0 {
		block := buf[:size]
		subtle.XORBytes(block, block, iv)
		b.Encrypt(block, block)
		iv, buf = block, buf[size:]
	}
}

func cbcDecrypt(b cipher.Block, iv, buf []byte) {
	if fips140.Enabled() {
		cipher.NewCBCDecrypter(b, iv).CryptBlocks(buf, buf)
		return
	}
	// Backwards, so that the block before is still ciphertext.
	size := b.BlockSize()
	for at := len(buf) - size; at >= 0; at -= size {
		block, previous := buf[at:at+size], iv
		if at > 0 {
			previous = buf[at-size : at]
		}
		b.Decrypt(block, block)
		subtle.XORBytes(block, block, previous)
	}
}

// ctsEncrypt encrypts at least one block in place with ciphertext stealing as
// in RFC 3962, Section 5 (CBC-CS3 of NIST SP 800-38A): the last two blocks are
// always swapped, and the then last cut to the length of the plaintext.
func ctsEncrypt(b cipher.Block, buf []byte) {
	cut := ctsCut(b, buf)
	cbcEncrypt(b, zeroBlock[:], buf[:cut])
	if cut == len(buf) {
		return
	}
	// With previous the last cipher block so far and tail the plaintext's rest,
	// E(previous xor tail) goes before, as much of previous as there is space after.
	previous, tail := buf[cut-b.BlockSize():cut], buf[cut:]
	for i := range tail {
		previous[i], tail[i] = previous[i]^tail[i], previous[i]
	}
	cbcEncrypt(b, zeroBlock[:], previous)
}

// ctsDecrypt undoes ctsEncrypt.
func ctsDecrypt(b cipher.Block, buf []byte) {
	cut := ctsCut(b, buf)
	if cut < len(buf) {
		previous, tail := buf[cut-b.BlockSize():cut], buf[cut:]
		cbcDecrypt(b, zeroBlock[:], previous)
		for i := range tail {
			previous[i], tail[i] = tail[i], previous[i]^tail[i]
		}
	}
	cbcDecrypt(b, zeroBlock[:], buf[:cut])
}

// ctsCut returns where the last block, whole or not, begins, or the length of buf
// if there is but one.
func ctsCut(b cipher.Block, buf []byte) int {
	size := b.BlockSize()
	if len(buf) <= size {
		return len(buf)
	}
	return (len(buf) - 1) / size * size
}
