package diagnosis

import (
	"crypto/x509"
	"errors"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// certificateRules are for logins with certificates, and for anonymous armor (PKINIT, RFC 4556).
var certificateRules = []rule{
	{
		match: is(negotiate.ErrNoCertificate), word: CredentialsMissing, causes: []Cause{CauseClientCertificate},
		remedy: "Caddy has not obtained the certificate yet: its log says why; the name must be one that an issuer of the configuration signs",
	},
	{match: as[*pkinit.CertificateError], word: CredentialsRefused, causes: []Cause{CauseKDCCertificate}, remedyOf: kdcCertificate},
	{
		match: is(pkinit.ErrWeakGroup), word: CredentialsRefused, causes: []Cause{CauseConfiguration},
		remedy: "let the KDC accept MODP group 14 (Heimdal, Samba: pkinit_dh_min_bits = 2048; Windows: SmartCard logon of Server 2016 and newer), or set allow_weak_crypto",
	},
	{
		match: anonymousRefused, word: CredentialsRefused, causes: []Cause{CauseConfiguration},
		remedy: "the KDC has no anonymous PKINIT (MIT: pkinit_identity, and addprinc -randkey WELLKNOWN/ANONYMOUS; Heimdal: allow-anonymous; FreeIPA: " +
			"ipa-pkinit-manage enable; Active Directory has none): set fast_armor keytab FILE instead",
	},
	{
		match: func(f *failure) bool { return f.kind == negotiate.KindCertificate && as[*exchange.PreAuthError](f) },
		word:  CredentialsRefused, causes: []Cause{CauseConfiguration},
		remedy: "the KDC does not offer PKINIT to this account: has it a certificate (MIT: pkinit_identity, pkinit_anchors; Samba: enable-pkinit; " +
			"AD: a certificate of the template Kerberos Authentication)? A keytab or a password is never tried in its place",
	},
	certificateRule("the KDC does not trust the issuer of the certificate: add the CA to the KDC's (MIT, Heimdal, Samba: pkinit_anchors; AD: "+
		"certutil -dspublish -f CA.crt NTAuthCA, see KB5057784), and put the CAs in between after the certificate in its file",
		messages.KDC_ERR_CANT_VERIFY_CERTIFICATE, messages.KDC_ERR_CLIENT_NOT_TRUSTED),
	certificateRule("the certificate has expired or is not valid yet: renew it, and compare the clocks of the KDC and of this machine (openssl x509 -noout -dates -in CERT)",
		messages.KDC_ERR_INVALID_CERTIFICATE),
	certificateRule("the certificate was revoked: have a new one issued", messages.KDC_ERR_REVOKED_CERTIFICATE),
	certificateRule("the KDC cannot find out whether the certificate was revoked: publish a current CRL where the KDC looks for it "+
		"(MIT: pkinit_revoke; AD: the certificate's CRL distribution point, certutil -verify -urlfetch CERT)",
		messages.KDC_ERR_REVOCATION_STATUS_UNKNOWN, messages.KDC_ERR_REVOCATION_STATUS_UNAVAILABLE),
	certificateRule("the KDC does not map the certificate to the account: it must name the principal (subjectAltName id-pkinit-san), or be mapped "+
		"(MIT: kadmin setstr NAME pkinit_cert_match RULE; AD: the UPN, or altSecurityIdentities by X509SKI, X509SHA1PublicKey or issuer and serial number: "+
		"weak mappings are refused since KB5014754; Samba: the UPN). A mapping by serial number breaks at each renewal",
		messages.KDC_ERR_CLIENT_NAME_MISMATCH, messages.KDC_ERR_CERTIFICATE_MISMATCH),
	certificateRule("the certificate lacks an extended key usage for Kerberos logins: issue it with id-pkinit-KPClientAuth (1.3.6.1.5.2.3.4) or, "+
		"for AD, smart card logon (1.3.6.1.4.1.311.20.2.2); MIT without: pkinit_eku_checking = none",
		messages.KDC_ERR_INCONSISTENT_KEY_PURPOSE),
	certificateRule("the KDC does not accept the digest of the certificate's signature: have it issued with SHA-256 or better",
		messages.KDC_ERR_DIGEST_IN_CERT_NOT_ACCEPTED),
	certificateRule("the KDC refuses the signature without a reason, as Heimdal and Samba do: is the CA among its pkinit_anchors, has the certificate "+
		"expired or is it not valid yet, is its key RSA? The KDC's log says more",
		messages.KRB_AP_ERR_BAD_INTEGRITY, messages.KDC_ERR_PREAUTH_FAILED, messages.KDC_ERR_INVALID_SIG),
}

// certificateRule is for a refused login with a certificate.
func certificateRule(remedy string, codes ...messages.ErrorCode) rule {
	refused := refusal(opsLogin, codes...)
	return rule{
		match: func(f *failure) bool { return f.kind == negotiate.KindCertificate && refused(f) },
		word:  CredentialsRefused, causes: []Cause{CauseClientCertificate}, remedy: remedy,
	}
}

// anonymousRefused reports whether there is no anonymous ticket to be had as armor.
func anonymousRefused(f *failure) bool {
	return f.kdc != nil && f.kdc.Op == krb5core.OpArmor && strings.HasPrefix(f.kdc.Client, "WELLKNOWN/ANONYMOUS") &&
		(f.refused && f.code != messages.KRB_AP_ERR_SKEW || as[*exchange.PreAuthError](f))
}

func kdcCertificate(f *failure) string {
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(f.err, &unknown):
		return "set kdc_options pkinit_ca to the CA that issued the KDC's certificate; if the KDC should have another certificate, something answers in its place"
	case errors.As(f.err, &invalid) && invalid.Reason == x509.Expired:
		return "the KDC's certificate has expired, or the clock of this machine is wrong: renew the KDC's certificate"
	case errors.Is(f.err, pkinit.ErrOtherRealm):
		return "the KDC's certificate is another realm's: is kdc right? For Windows the DNS name of the domain, or of a host in it, must be in the certificate " +
			"(template Kerberos Authentication)"
	case errors.Is(f.err, pkinit.ErrNotKDC):
		return "issue the KDC a certificate that names krbtgt/REALM (id-pkinit-san), or one of the template Kerberos Authentication: any holder of " +
			"this one could answer in the KDC's place"
	}
	return "the KDC did not prove that it is the realm's: is kdc right, is its certificate in order?"
}
