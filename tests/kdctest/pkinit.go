package kdctest

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
)

// PKINIT configures logins by certificate in a realm (RFC 4556). The certificate of a client names
// its account by id-pkinit-san or a UPN, and is for PKINIT or for logins by smart card; whether it
// is revoked is not checked.
type PKINIT struct {
	KDC       *pkinit.Identity    // the KDC's certificate
	CAs       []*x509.Certificate // may issue certificates of clients
	Groups    []*pkinit.Group     // that are accepted; nil: all but the weak ones
	RFC4556   bool                // derives keys by RFC 4556 even if the client offers RFC 8636
	Freshness bool                // requires a token of the KDC in what is signed (RFC 8070)
	Anonymous bool                // logs in anonymous clients too (RFC 8062)
}

// anonymous is the name of a client that has none, anonymousRealm its realm in tickets
// (RFC 8062, Section 3).
const anonymous, anonymousRealm = "WELLKNOWN/ANONYMOUS", "WELLKNOWN:ANONYMOUS"

// EnablePKINIT lets clients log in by certificate, whatever SetPreAuth chooses.
func (r *Realm) EnablePKINIT(p PKINIT) {
	if p.Groups == nil {
		p.Groups = slices.DeleteFunc(pkinit.Groups(), func(g *pkinit.Group) bool {
			_, err := pkinit.Demanded(messages.TDDHParameters{g.ID()}, false)
			return err != nil
		})
	}
	if p.Anonymous && r.Principal(anonymous) == nil {
		r.add(&Principal{name: anonymous}, nil, nil)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pkinit = &p
	if p.KDC == nil {
		r.fail(fmt.Errorf("realm %s: PKINIT needs a certificate of the KDC", r.name))
	}
}

// publicKey is how the client may log in by certificate, nil if it may not.
func (x *asExchange) publicKey() *PKINIT {
	x.realm.mu.RLock()
	defer x.realm.mu.RUnlock()
	if p := x.realm.pkinit; p != nil && (p.Anonymous || !x.anonymous()) {
		return p
	}
	return nil
}

// anonymous reports whether the client is.
func (x *asExchange) anonymous() bool { return x.req.Body.CName.String() == anonymous }

// verifyPublicKey checks PA-PK-AS-REQ (RFC 4556, Section 3.2.2) and agrees on a reply key.
func (x *asExchange) verifyPublicKey(value []byte) (proof, error) {
	cfg := x.publicKey()
	pa, err := messages.ParsePAPKASReq(value)
	if err != nil {
		return proof{}, refuse(messages.KDC_ERR_PREAUTH_FAILED, "%v", err)
	}
	signed, ok := unsigned(pa.SignedAuthPack)
	if !ok {
		if signed, err = pkinit.Verify(pkinit.AuthData, pa.SignedAuthPack); err != nil {
			return proof{}, refuse(messages.KDC_ERR_INVALID_SIG, "%v", err)
		}
	}
	if err := x.checkSigner(cfg, signed); err != nil {
		return proof{}, err
	}
	pack, err := messages.ParseAuthPack(signed.Content)
	if err != nil {
		return proof{}, refuse(messages.KDC_ERR_PREAUTH_FAILED, "%v", err)
	}
	if err := x.checkAuthenticator(cfg, &pack.PKAuthenticator); err != nil {
		return proof{}, err
	}
	p, err := x.agree(cfg, pack)
	if err != nil {
		return proof{}, err
	}
	p.proved = signed.Signer != nil
	return p, nil
}

// unsigned opens what MIT's kinit sends for an anonymous client: the AuthPack in a ContentInfo
// without a SignedData.
func unsigned(cms []byte) (*pkinit.Signed, bool) {
	signed, rest := new(pkinit.Signed), der.String(cms)
	ok := der.ReadCoded(&rest, func(c *der.Codec, s *pkinit.Signed) {
		c.Element(der.TagSequence, func() {
			var kind []byte
			der.OID(c, &kind)
			c.Require(string(kind) == string(pkinit.AuthData))
			c.Element(der.Context(0), func() { der.Octets(c, &s.Content) })
		})
	}, signed)
	return signed, ok && rest.Empty()
}

// checkSigner verifies that the certificate is the client's, and that only an anonymous client has none.
func (x *asExchange) checkSigner(cfg *PKINIT, signed *pkinit.Signed) error {
	asked := x.req.Body.KDCOptions&messages.KDC_OPT_REQUEST_ANONYMOUS != 0
	switch {
	case asked != x.anonymous():
		return refuse(messages.KDC_ERR_BADOPTION, "name and options disagree whether the client is anonymous")
	case signed.Signer == nil && !asked:
		return refuse(messages.KDC_ERR_PREAUTH_FAILED, "request is not signed, and its client not anonymous")
	case signed.Signer == nil:
		return nil
	}
	roots := x509.NewCertPool()
	certifiers := make(messages.TDCertifiers, 0, len(cfg.CAs))
	for _, ca := range cfg.CAs {
		roots.AddCert(ca)
		certifiers = append(certifiers, messages.ExternalPrincipalIdentifier{SubjectName: ca.RawSubject})
	}
	_, err := signed.CheckChain(roots, x.now)
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown):
		return refuseWith(messages.KDC_ERR_CANT_VERIFY_CERTIFICATE, err, messages.TD_TRUSTED_CERTIFIERS, certifiers.Marshal())
	case err != nil:
		invalid := messages.TDCertifiers{{SubjectName: signed.Signer.RawSubject}}
		return refuseWith(messages.KDC_ERR_INVALID_CERTIFICATE, err, messages.TD_INVALID_CERTIFICATES, invalid.Marshal())
	case !slices.ContainsFunc(pkinit.PrincipalsOf(signed.Signer), x.isClient):
		return refuse(messages.KDC_ERR_CLIENT_NAME_MISMATCH, "certificate does not name the client")
	case !slices.ContainsFunc(signed.Signer.UnknownExtKeyUsage, isClientUsage):
		return refuse(messages.KDC_ERR_INCONSISTENT_KEY_PURPOSE, "certificate is not for logins")
	}
	return nil
}

// refuseWith refuses with data in the METHOD-DATA that KDCs send in place of TYPED-DATA
// (RFC 6113, Section 2).
func refuseWith(code messages.ErrorCode, err error, kind messages.PADataType, value []byte) error {
	return &refusal{code: code, text: err.Error(), edata: messages.MethodData{{Type: kind, Value: value}}.Marshal()}
}

// isClient reports whether a name in a certificate is of the client's account.
func (x *asExchange) isClient(named messages.Principal) bool {
	upn := named.Name.NameType == messages.KRB_NT_ENTERPRISE && strings.Contains(named.Name.String(), "@")
	if !upn && named.Realm != x.realm.name {
		return false
	}
	p, err := x.realm.findClient(named.Name, messages.KDC_OPT_CANONICALIZE)
	return err == nil && p == x.client.Principal
}

// isClientUsage reports whether an extended key usage is id-pkinit-KPClientAuth (RFC 4556,
// Section 3.2.2) or id-ms-kp-sc-logon ([MS-PKCA], Section 3.1.5.2.1).
func isClientUsage(id asn1.ObjectIdentifier) bool {
	return id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 3, 4}) || id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 2})
}

// checkAuthenticator verifies that what is signed belongs to this request, and to this time.
func (x *asExchange) checkAuthenticator(cfg *PKINIT, a *messages.PKAuthenticator) error {
	sum, sum2 := pkinit.Checksums(x.req.Body.Raw)
	switch {
	case a.CTime.Sub(x.now).Abs() > x.kdc.cfg.MaxSkew:
		return refuse(messages.KRB_AP_ERR_SKEW, "clock skew too great")
	case a.PAChecksum == nil:
		return refuse(messages.KDC_ERR_PA_CHECKSUM_MUST_BE_INCLUDED, "no checksum of the request")
	case !bytes.Equal(a.PAChecksum, sum):
		return refuse(messages.KRB_AP_ERR_MODIFIED, "checksum is of another request")
	case a.PAChecksum2 != nil && bytes.Equal(a.PAChecksum2.Algorithm.Algorithm, sum2.Algorithm.Algorithm) &&
		!bytes.Equal(a.PAChecksum2.Checksum, sum2.Checksum):
		return refuse(messages.KRB_AP_ERR_MODIFIED, "second checksum is of another request")
	case a.FreshnessToken != nil:
		return x.checkFreshness(a.FreshnessToken)
	case cfg.Freshness && !x.anonymous():
		return refuse(messages.KDC_ERR_PREAUTH_FAILED, "no freshness token")
	}
	return nil
}

// freshnessUsage is the key usage of the checksum in freshness tokens, one for applications
// (RFC 4120, Section 7.5.1).
const freshnessUsage enctype.Usage = 1024

// freshness returns a token of this time: seconds, and a checksum by the realm's key.
func (x *asExchange) freshness() ([]byte, error) {
	stamp := binary.BigEndian.AppendUint64(nil, uint64(x.now.Unix()))
	sum, err := x.realm.tgsKey().Checksum(freshnessUsage, stamp)
	return append(stamp, sum...), err
}

// tgsKey is the newest key of the ticket-granting service.
func (r *Realm) tgsKey() enctype.Key {
	return r.Principal(messages.TGSName(r.name).String()).view().keys[0].keys[0]
}

func (x *asExchange) checkFreshness(token []byte) error {
	expired := refuse(messages.KDC_ERR_PREAUTH_EXPIRED, "freshness token is not valid, or has expired")
	if len(token) < 8 {
		return expired
	}
	key := x.realm.tgsKey()
	if err := key.VerifyChecksum(key.ChecksumType(), freshnessUsage, token[:8], token[8:]); err != nil {
		return expired
	}
	made := time.Unix(int64(binary.BigEndian.Uint64(token)), 0)
	if x.now.Sub(made).Abs() > x.kdc.cfg.MaxSkew {
		return expired
	}
	return nil
}

// agree returns the key of a Diffie-Hellman exchange, with PA-PK-AS-REP (RFC 4556, Section 3.2.3.1).
func (x *asExchange) agree(cfg *PKINIT, pack *messages.AuthPack) (proof, error) {
	if pack.ClientPublicValue == nil {
		return proof{}, refuse(messages.KDC_ERR_PUBLIC_KEY_ENCRYPTION_NOT_SUPPORTED, "no key is transported")
	}
	group, err := pkinit.Demanded(messages.TDDHParameters{pack.ClientPublicValue.Algorithm}, true)
	if err != nil || !slices.Contains(cfg.Groups, group) {
		accepted := make(messages.TDDHParameters, 0, len(cfg.Groups))
		for _, g := range cfg.Groups {
			accepted = append(accepted, g.ID())
		}
		return proof{}, refuseWith(messages.KDC_ERR_DH_KEY_PARAMETERS_NOT_ACCEPTED,
			errors.New("group is not accepted"), messages.TD_DH_PARAMETERS, accepted.Marshal())
	}
	pair, err := group.Generate(x.kdc.rand)
	if err != nil {
		return proof{}, err
	}
	secret, err := pair.Shared(pack.ClientPublicValue.SubjectPublicKey)
	if err != nil {
		return proof{}, refuse(messages.KDC_ERR_PREAUTH_FAILED, "%v", err)
	}
	info := messages.KDCDHKeyInfo{SubjectPublicKey: pair.Public.SubjectPublicKey, Nonce: pack.PKAuthenticator.Nonce}
	rep := messages.PAPKASRep{DHInfo: new(messages.DHRepInfo)}
	if rep.DHInfo.DHSignedData, err = pkinit.Sign(pkinit.DHKeyData, info.Marshal(), cfg.KDC, x.kdc.rand); err != nil {
		return proof{}, err
	}
	if pack.SupportedKDFs != nil && !cfg.RFC4556 {
		if rep.DHInfo.KDF, err = chooseKDF(pack.SupportedKDFs); err != nil {
			return proof{}, err
		}
	}
	p := proof{set: x.proof.set}
	p.padata = messages.MethodData{{Type: messages.PA_PK_AS_REP, Value: rep.Marshal()}}
	p.key, err = pkinit.KDF{
		ID: rep.DHInfo.KDF, EType: x.proof.key.EType(),
		Client: messages.Principal{Name: x.req.Body.CName, Realm: x.clientRealm()},
		TGS:    messages.Principal{Name: x.req.Body.SName, Realm: x.realm.name},
		ASReq:  x.raw, PASRep: p.padata[0].Value,
	}.ReplyKey(secret)
	return p, err
}

// chooseKDF returns the first key derivation function that the KDC supports (RFC 8636, Section 5).
func chooseKDF(offered []messages.KDFAlgorithmID) (*messages.KDFAlgorithmID, error) {
	for _, id := range offered {
		if slices.ContainsFunc(pkinit.SupportedKDFs(), func(s messages.KDFAlgorithmID) bool { return bytes.Equal(s.KDFID, id.KDFID) }) {
			return &id, nil
		}
	}
	return nil, refuse(messages.KDC_ERR_NO_ACCEPTABLE_KDF, "no key derivation function in common")
}

// clientRealm is the realm of the client in ticket and reply.
func (x *asExchange) clientRealm() string {
	if x.anonymous() {
		return anonymousRealm
	}
	return x.realm.name
}

// contribute makes the ticket of an anonymous client: its session key, of the contribution that it
// has until now and the agreed key, shows that the KDC which signed made it (RFC 8062, Section 4.2).
func (x *asExchange) contribute(i *issue) error {
	i.part.Flags |= messages.TKT_FLG_ANONYMOUS
	cipher, err := x.proof.key.Encrypt(x.kdc.rand, enctype.KEY_USAGE_PA_PKINIT_KX, messages.MarshalEncryptionKey(i.part.Key))
	if err != nil {
		return err
	}
	if i.part.Key, err = enctype.CF2(i.part.Key, x.proof.key, "PKINIT", "KEYEXCHANGE"); err != nil {
		return fmt.Errorf("session key of an anonymous client: %w", err)
	}
	x.proof.padata = append(x.proof.padata, messages.PAData{
		Type: messages.PA_PKINIT_KX, Value: messages.EncryptedData{EType: x.proof.key.EType(), Cipher: cipher}.Marshal(),
	})
	return nil
}
