package enctype

import "crypto/des"

// newTripleDES is des.NewTripleDESCipher for a profile's row.
var newTripleDES = des.NewTripleDESCipher

// des3StringToKey folds password and salt to 168 bits (RFC 3961 6.3.1).
func des3StringToKey(p *profile, password, salt string, _ int) ([]byte, error) {
	text := password + salt
	if text == "" {
		text = "\x00" // n-fold of nothing is nothing: zeros
	}
	key := p.randomToKey(nfold([]byte(text), p.seedSize))
	return p.derive(p, key, []byte("kerberos"), p.keySize), nil
}

// des3RandomToKey makes three keys of 56 bits each (RFC 3961 6.3.1).
func des3RandomToKey(seed []byte) []byte {
	key := make([]byte, 0, 24)
	for ; len(seed) > 0; seed = seed[7:] {
		key = append(key, desRandomToKey(seed[:7])...)
	}
	return key
}
