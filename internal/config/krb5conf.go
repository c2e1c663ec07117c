package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/kdc"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/krb5conf"
)

// systemKrb5Conf is the file that MIT's and Heimdal's libraries read.
const systemKrb5Conf = "/etc/krb5.conf"

// loadKrb5Conf reads the named file. Without a name it reads the system's, which
// need not exist.
func loadKrb5Conf(name string) (*krb5conf.Config, error) {
	if name != "" {
		return krb5conf.Load(nil, name)
	}
	conf, err := krb5conf.Load(nil, systemKrb5Conf)
	if errors.Is(err, fs.ErrNotExist) {
		return krb5conf.Parse(nil)
	}
	return conf, err
}

// krb5ConfServers returns the KDCs of a realm, the primary one last: a refusal is
// confirmed there. Addresses that cannot be parsed are ignored as MIT does, and
// returned as errors, so that they do not keep Caddy from starting.
func krb5ConfServers(realm krb5conf.Realm) (servers []kdc.Server, ignored []error) {
	for _, address := range slices.Concat(realm.KDCs, realm.PrimaryKDCs) {
		s, err := kdc.ParseServer(address)
		switch {
		case err != nil:
			ignored = append(ignored, err)
		case !slices.Contains(servers, s):
			servers = append(servers, s)
		}
	}
	return servers, ignored
}

// etypeFamilies are krb5.conf's names for several types.
var etypeFamilies = map[string][]enctype.ID{
	"aes": {
		enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96,
		enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128,
	},
	"camellia": {enctype.CAMELLIA256_CTS_CMAC, enctype.CAMELLIA128_CTS_CMAC},
}

// permittedTypes returns the strong types among permitted_enctypes, in its order.
// It reads the list as MIT does (krb5.conf(5)): DEFAULT, families, and names with a
// minus, which remove a type. Unknown names are ignored. Weak types have to be named
// in Caddy's own configuration.
func permittedTypes(names []string) ([]enctype.ID, error) {
	strong := enctype.Strong()
	var ids []enctype.ID
	for _, name := range names {
		name, remove := strings.CutPrefix(name, "-")
		members := etypeFamilies[strings.ToLower(name)]
		if strings.EqualFold(name, "DEFAULT") {
			members = strong
		} else if id, err := enctype.Parse(name); err == nil {
			members = []enctype.ID{id}
		}
		for _, id := range members {
			switch at := slices.Index(ids, id); {
			case remove && at >= 0:
				ids = slices.Delete(ids, at, at+1)
			case !remove && at < 0 && slices.Contains(strong, id):
				ids = append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("permitted_enctypes of krb5.conf (%s) allows none of %v; fix it, or set encryption_types",
			strings.Join(names, " "), strong)
	}
	return ids, nil
}

// applySocketDefaults sets the options that krb5.conf has and Caddy's
// configuration does not.
func applySocketDefaults(o *kdc.Options, conf *krb5conf.Config, realm string) error {
	if o.UDPPreferenceLimit == 0 {
		// To MIT, 0 means TCP first; to kdc, the default. No message fits one byte.
		o.UDPPreferenceLimit = max(conf.LibDefaults.UDPPreferenceLimit, 1)
	}
	anchors := conf.Realms[realm].HTTPAnchors
	if o.RootCAs != nil || len(anchors) == 0 {
		return nil
	}
	pool := x509.NewCertPool()
	for _, anchor := range anchors {
		files, err := anchorFiles(anchor)
		if err == nil {
			err = addCertificates(pool, anchor, files...)
		}
		if err != nil {
			return fmt.Errorf("http_anchors of realm %s: %w; fix it, or set tls_ca", realm, err)
		}
	}
	o.RootCAs = pool
	return nil
}

// anchorFiles returns the files of FILE:name, DIR:name or ENV:variable, whose value is
// one of the other two.
func anchorFiles(anchor string) (files []string, err error) {
	kind, name, _ := strings.Cut(anchor, ":")
	switch kind {
	case "FILE":
		return []string{name}, nil
	case "DIR":
		entries, err := os.ReadDir(name)
		for _, e := range entries {
			if !e.IsDir() {
				files = append(files, filepath.Join(name, e.Name()))
			}
		}
		return files, err
	case "ENV":
		if value := os.Getenv(name); value != "" && !strings.HasPrefix(value, "ENV:") {
			return anchorFiles(value)
		}
		return nil, fmt.Errorf("%s: the variable is not set", anchor)
	}
	return nil, fmt.Errorf("%q: write FILE:name, DIR:name or ENV:variable", anchor)
}

// addCertificates adds the certificates of files, of which one must have any; name is
// that of all.
func addCertificates(pool *x509.CertPool, name string, files ...string) error {
	found := false
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		found = pool.AppendCertsFromPEM(pem) || found
	}
	if !found {
		return fmt.Errorf("%s has no certificate in PEM", name)
	}
	return nil
}
