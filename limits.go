package caddynegotiate

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
)

// What of krb5.conf bears on how KDCs are asked, and where. The configuration of Caddy has precedence over each.

// limit takes over, for clients of the realm, what krb5.conf says and our own configuration does not.
func (a atlas) limit(cfg *krb5core.Config, realm string) {
	if a.conf == nil {
		return
	}
	d := a.conf.LibDefaultsFor(realm)
	if cfg.Timeout == 0 {
		cfg.Timeout = d.RequestTimeout
	}
	cfg.Lifetime = d.TicketLifetime
	cfg.MaxSkew = d.ClockSkew
	cfg.Canonicalize = d.Canonicalize
}

// limitSockets is limit for the sockets.
func (a atlas) limitSockets(o *kdc.Options, realm string) error {
	if a.conf == nil {
		return nil
	}
	if o.UDPPreferenceLimit == 0 {
		// To MIT, 0 means TCP first, to us the default. Nothing fits one byte.
		o.UDPPreferenceLimit = max(a.conf.LibDefaults.UDPPreferenceLimit, 1)
	}
	anchors := a.conf.Realms[realm].HTTPAnchors
	if o.RootCAs != nil || len(anchors) == 0 {
		return nil
	}
	pool := x509.NewCertPool()
	for _, anchor := range anchors {
		if err := addAnchor(pool, anchor); err != nil {
			return fmt.Errorf("http_anchors of realm %s: %w; correct it, or state tls_ca", realm, err)
		}
	}
	o.RootCAs = pool
	return nil
}

// addAnchor reads FILE:name, DIR:name or ENV:variable, the latter with one of the former.
func addAnchor(pool *x509.CertPool, anchor string) error {
	kind, name, _ := strings.Cut(anchor, ":")
	var files []string
	switch kind {
	case "FILE":
		files = []string{name}
	case "DIR":
		entries, err := os.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.IsDir() {
				files = append(files, filepath.Join(name, e.Name()))
			}
		}
	case "ENV":
		if value := os.Getenv(name); value != "" && !strings.HasPrefix(value, "ENV:") {
			return addAnchor(pool, value)
		}
		return fmt.Errorf("%s: the variable is not set", anchor)
	default:
		return fmt.Errorf("%q: write FILE:name, DIR:name or ENV:variable", anchor)
	}
	found := false
	for _, file := range files {
		pem, err := os.ReadFile(file) //nolint:gosec // krb5.conf names it, or its owner by a variable
		if err != nil {
			return err
		}
		found = pool.AppendCertsFromPEM(pem) || found
	}
	if !found {
		return fmt.Errorf("%s holds no certificate in PEM", anchor)
	}
	return nil
}

// permitted gives the encryption types that may be used: those of encryption_types, or else those of the default that
// krb5.conf does not forbid, in its order.
func (c *Credentials) permitted(known atlas) ([]enctype.ID, error) {
	if len(c.EncryptionTypes) > 0 || known.conf == nil || known.conf.LibDefaults.PermittedEnctypes == nil {
		return c.enctypes()
	}
	names := known.conf.LibDefaults.PermittedEnctypes
	ids := permittedTypes(names)
	if len(ids) == 0 {
		return nil, fmt.Errorf("permitted_enctypes of krb5.conf (%s) allows none of %v; correct it, or state encryption_types",
			strings.Join(names, " "), enctype.Strong())
	}
	return ids, nil
}

// families are the names for several types that krb5.conf knows.
var families = map[string][]enctype.ID{
	"aes": {
		enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96,
		enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128,
	},
	"camellia": {enctype.CAMELLIA256_CTS_CMAC, enctype.CAMELLIA128_CTS_CMAC},
}

// permittedTypes reads the list as MIT does (krb5.conf(5)): DEFAULT, families, and names with a minus to take out again;
// what is unknown is passed over. Of weak types, which our own configuration has to name, it keeps none.
func permittedTypes(names []string) []enctype.ID {
	strong := enctype.Strong()
	var ids []enctype.ID
	for _, name := range names {
		name, without := strings.CutPrefix(name, "-")
		members := families[strings.ToLower(name)]
		if strings.EqualFold(name, "DEFAULT") {
			members = strong
		} else if id, err := enctype.Parse(name); err == nil {
			members = []enctype.ID{id}
		}
		for _, id := range members {
			switch at := slices.Index(ids, id); {
			case without && at >= 0:
				ids = slices.Delete(ids, at, at+1)
			case !without && at < 0 && slices.Contains(strong, id):
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// kdcs gives the addresses of a realm's KDCs, the primary one last: it is asked for a second opinion. What cannot be read
// is passed over, as MIT does: it must not keep Caddy from starting.
func kdcsOf(realm krb5conf.Realm) (servers []kdc.Server, odd []error) {
	for _, address := range slices.Concat(realm.KDCs, realm.PrimaryKDCs) {
		s, err := kdc.ParseServer(address)
		switch {
		case err != nil:
			odd = append(odd, err)
		case !slices.Contains(servers, s):
			servers = append(servers, s)
		}
	}
	return servers, odd
}
