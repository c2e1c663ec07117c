package pkinit

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// kdfs are the key derivation functions of RFC 8636 that are offered, in order of preference.
var kdfs = []struct {
	oid  string
	hash crypto.Hash
}{{oidKDFSHA256, crypto.SHA256}, {oidKDFSHA384, crypto.SHA384}, {oidKDFSHA512, crypto.SHA512}}

// SupportedKDFs lists the key derivation functions to offer.
func SupportedKDFs() []messages.KDFAlgorithmID {
	all := make([]messages.KDFAlgorithmID, 0, len(kdfs))
	for _, f := range kdfs {
		all = append(all, messages.KDFAlgorithmID{KDFID: []byte(f.oid)})
	}
	return all
}

// KDF is what a reply key is derived from beside the shared secret.
type KDF struct {
	ID            *messages.KDFAlgorithmID // that the KDC chose; nil for RFC 4556's
	EType         enctype.ID               // of the reply key
	Client, TGS   messages.Principal
	ASReq, PASRep []byte // the request as it was sent, the value of PA_PK_AS_REP
}

// ReplyKey derives the key that the AS-REP is encrypted with from the shared Diffie-Hellman secret.
func (k KDF) ReplyKey(secret []byte) (enctype.Key, error) {
	size := k.EType.SeedSize()
	if k.ID == nil {
		return enctype.KeyFromSeed(k.EType, octetString2Key(secret, size))
	}
	for _, f := range kdfs {
		if f.oid == string(k.ID.KDFID) {
			return enctype.KeyFromSeed(k.EType, concatenated(f.hash, secret, k.otherInfo(), size))
		}
	}
	return enctype.Key{}, fmt.Errorf("%w: %s", errKDF, oidText(k.ID.KDFID))
}

var errKDF = errors.New("the KDC chose a key derivation function that was not offered")

// octetString2Key is the seed of a key by RFC 4556, Section 3.2.3.1.
func octetString2Key(secret []byte, size int) []byte {
	var out []byte
	for n := 0; len(out) < size; n++ {
		out = append(out, digest(crypto.SHA1, append([]byte{byte(n)}, secret...))...)
	}
	return out[:size]
}

// concatenated is the seed of a key by RFC 8636, Section 6.
func concatenated(h crypto.Hash, secret, otherInfo []byte, size int) []byte {
	var out []byte
	for n := uint32(1); len(out) < size; n++ {
		in := append(binary.BigEndian.AppendUint32(nil, n), secret...)
		out = append(out, digest(h, append(in, otherInfo...))...)
	}
	return out[:size]
}

func (k KDF) otherInfo() []byte {
	name := func(p messages.Principal) messages.KRB5PrincipalName {
		return messages.KRB5PrincipalName{Realm: p.Realm, PrincipalName: p.Name}
	}
	info := messages.PKINITOtherInfo{
		AlgorithmID: messages.AlgorithmIdentifier{Algorithm: k.ID.KDFID},
		PartyUInfo:  name(k.Client), PartyVInfo: name(k.TGS),
		SuppPubInfo: messages.PKINITSuppPubInfo{EType: k.EType, ASReq: k.ASReq, PKASRep: k.PASRep},
	}
	return info.Marshal()
}
