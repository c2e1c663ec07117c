package pkinit

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Identity is a certificate with its key, to log in with.
type Identity struct {
	chain []*x509.Certificate // its own first
	key   crypto.Signer
}

// NewIdentity returns the identity of a certificate, which is followed by the CAs between it and one
// that KDCs know. The key must be the certificate's, RSA or ECDSA.
func NewIdentity(chain []*x509.Certificate, key crypto.PrivateKey) (*Identity, error) {
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	switch signer.Public().(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
	default:
		return nil, fmt.Errorf("a key of type %T is not supported: KDCs accept RSA, and MIT's ECDSA", key)
	}
	if public, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(signer.Public()) {
		return nil, fmt.Errorf("the key is not that of the certificate %s", chain[0].Subject)
	}
	return &Identity{chain, signer}, nil
}

// Leaf is the certificate itself.
func (i *Identity) Leaf() *x509.Certificate { return i.chain[0] }

// Equal reports whether both are the same certificate.
func (i *Identity) Equal(other *Identity) bool {
	return other != nil && i.Leaf().Equal(other.Leaf())
}

// Principals lists the principals that the certificate names.
func (i *Identity) Principals() []messages.Principal { return PrincipalsOf(i.Leaf()) }

// PrincipalsOf lists the principals that a certificate names: those of id-pkinit-san (RFC 4556,
// Section 3.2.2), and user principal names.
func PrincipalsOf(c *x509.Certificate) []messages.Principal {
	names := namesOf(c)
	all := names.principals
	for _, upn := range names.upns {
		if p := (messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, upn), Realm: realmOf(upn)}); p.Realm != "" {
			all = append(all, p)
		}
	}
	return all
}

// realmOf is the realm of a UPN unless the domain has other suffixes too.
func realmOf(upn string) string { return strings.ToUpper(upn[strings.LastIndexByte(upn, '@')+1:]) }

// names are those of a certificate that Kerberos knows.
type names struct {
	principals []messages.Principal
	upns       []string
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// namesOf reads the otherNames of the subjectAltName. What cannot be read is no name.
func namesOf(c *x509.Certificate) (n names) {
	for _, extension := range c.Extensions {
		if !extension.Id.Equal(oidSubjectAltName) {
			continue
		}
		rest := der.String(extension.Value)
		var all [][]byte
		if !der.ReadCoded(&rest, der.ListOf(der.Any), &all) {
			continue
		}
		for _, name := range all {
			n.add(name)
		}
	}
	return n
}

// add reads a GeneralName.
//
//	GeneralName ::= CHOICE {
//	        otherName               [0] OtherName, ... }
//	OtherName ::= SEQUENCE {
//	        type-id                 OBJECT IDENTIFIER,
//	        value                   [0] EXPLICIT ANY DEFINED BY type-id }
//
// (RFC 5280, Section 4.2.1.6)
func (n *names) add(name []byte) {
	var kind, value []byte
	rest := der.String(name)
	code := func(c *der.Codec, _ *names) {
		c.Element(der.Context(0), func() {
			der.OID(c, &kind)
			c.Element(der.Context(0), func() { der.Any(c, &value) })
		})
	}
	if !der.ReadCoded(&rest, code, n) {
		return
	}
	switch string(kind) {
	case oidPKINITSAN:
		if p, err := messages.ParseKRB5PrincipalName(value); err == nil {
			n.principals = append(n.principals, messages.Principal{Name: p.PrincipalName, Realm: p.Realm})
		}
	case oidUPN:
		content := der.String(value)
		var text der.String
		if content.ReadASN1(&text, der.TagUTF8String) {
			n.upns = append(n.upns, string(text))
		}
	}
}
