package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pkinit"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/certfile"
)

// Certificate names a certificate to log in with (PKINIT, RFC 4556).
//
// Exactly one of `certificate` with `key`, `pfx` and `managed` is required. The files
// are read again when one of them changes.
type Certificate struct {
	// Path of a PEM file with the certificate and the CAs between it and one that the
	// KDC knows.
	Certificate string `json:"certificate,omitempty"`

	// Path of the PEM file with its RSA or ECDSA key, which is not encrypted.
	Key string `json:"key,omitempty"`

	// Path of a PKCS #12 file with certificate and key, in place of the two.
	PFX string `json:"pfx,omitempty"`

	// Path of a file that holds the password of `pfx` and nothing else. Default: no
	// password.
	PasswordFile string `json:"password_file,omitempty"`

	// Name of a certificate that Caddy itself obtains and renews. Until it has been
	// obtained, requests fail. The KDC must map it to `user`.
	Managed string `json:"managed,omitempty"`
}

// readCertificate reads CERT KEY, FILE.pfx [PASSWORD_FILE], or managed NAME.
func (c *Credentials) readCertificate(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	pfx := len(args) > 0 && isPFX(args[0])
	switch {
	case len(args) == 2 && args[0] == "managed":
		c.Certificate = &Certificate{Managed: args[1]}
	case len(args) == 1 && pfx:
		c.Certificate = &Certificate{PFX: args[0]}
	case len(args) == 2 && pfx:
		c.Certificate = &Certificate{PFX: args[0], PasswordFile: args[1]}
	case len(args) == 2:
		c.Certificate = &Certificate{Certificate: args[0], Key: args[1]}
	default:
		return d.Err("certificate takes CERT KEY (two PEM files), FILE.pfx [PASSWORD_FILE], or managed NAME")
	}
	return nil
}

func isPFX(name string) bool {
	extension := strings.ToLower(filepath.Ext(name))
	return extension == ".pfx" || extension == ".p12"
}

// check makes sure that there is exactly one source; nil is valid.
func (c *Certificate) check() error {
	if c == nil {
		return nil
	}
	n := 0
	for _, set := range []string{c.Certificate, c.PFX, c.Managed} {
		if set != "" {
			n++
		}
	}
	switch {
	case n != 1:
		return errors.New("set one of certificate with key, pfx, and managed")
	case (c.Certificate == "") != (c.Key == ""):
		return errors.New("set both the certificate and its key")
	case c.PasswordFile != "" && c.PFX == "":
		return errors.New("password_file is for pfx: a PEM key must not be encrypted (openssl pkey -in KEY -out KEY.plain)")
	}
	return RequireUnapproved("SHA-1 (RFC 4556, Section 3.2.1)", "use a keytab")
}

// String is how the configuration names the certificate, empty for none.
func (c *Certificate) String() string {
	if c == nil {
		return ""
	}
	return c.Certificate + c.PFX + c.Managed
}

// resolveCertificate reads the files. Without user the principal is the certificate's only one.
func (c *Credentials) resolveCertificate(r *Resolved, env *Env) (err error) {
	if name := c.Certificate.Managed; name != "" {
		r.Managed = name
		r.Secret = negotiate.ManagedCertificateSecret(name, func() (*pkinit.Identity, error) { return env.managed(name) })
		if c.User == "" {
			return errors.New("user is missing: name the account that the KDC maps the certificate to, e.g. user svc-proxy@CORP.EXAMPLE")
		}
		return nil
	}
	var files certfile.Files
	for to, from := range map[*string]string{
		&files.Cert: c.Certificate.Certificate, &files.Key: c.Certificate.Key, &files.PFX: c.Certificate.PFX, &files.PFXPassword: c.Certificate.PasswordFile,
	} {
		if from == "" {
			continue
		}
		if *to, err = filepath.Abs(from); err != nil {
			return err
		}
	}
	id, err := files.Read()
	if err != nil {
		return err
	}
	r.Secret = negotiate.CertificateSecret(files)
	for _, path := range []string{files.Key, files.PFX, files.PFXPassword} {
		if path != "" {
			warnOfReadable(env.logger, "certificate", path)
		}
	}
	if c.User == "" {
		r.Principal, err = onlyPrincipal(id)
	}
	return err
}

// onlyPrincipal is the principal that the certificate names, if it is one.
func onlyPrincipal(id *pkinit.Identity) (messages.Principal, error) {
	switch all := id.Principals(); len(all) {
	case 1:
		return all[0], nil
	case 0:
		return messages.Principal{}, fmt.Errorf("the certificate %q names no Kerberos principal: name the account with user", id.Leaf().Subject)
	default:
		return messages.Principal{}, fmt.Errorf("the certificate %q names %d principals (%s, %s, ...); name one of them with user",
			id.Leaf().Subject, len(all), all[0], all[1])
	}
}

// managed returns the certificate that Caddy's certificate management holds for the name now.
func (env *Env) managed(name string) (*pkinit.Identity, error) {
	if !env.running {
		return nil, fmt.Errorf("%w: %s is managed by Caddy, and only the running Caddy has it", negotiate.ErrNoCertificate, name)
	}
	var held []*tls.Certificate
	for _, c := range caddytls.AllMatchingCertificates(name) {
		held = append(held, &c.Certificate)
	}
	id, err := certfile.Newest(held)
	if err != nil {
		return nil, fmt.Errorf("%w for %s: Caddy has not obtained it yet; its log says why", err, name)
	}
	return id, nil
}

// Run says that the configuration is that of a running Caddy, whose certificate management is
// there. Others, such as the commands, have no managed certificates.
func (env *Env) Run() { env.running = true }

// resolvePKINIT reads the CAs of KDCs.
func (c *Credentials) resolvePKINIT() (p krb5core.PKINITConfig, err error) {
	p.WeakGroups = c.AllowWeakCrypto
	if c.KDCOptions == nil || c.KDCOptions.PKINITCA == "" {
		return p, nil
	}
	p.Roots = x509.NewCertPool()
	if err := addCertificates(p.Roots, c.KDCOptions.PKINITCA, c.KDCOptions.PKINITCA); err != nil {
		return p, fmt.Errorf("pkinit_ca: %w", err)
	}
	return p, nil
}
