package bench

import (
	"fmt"
	"net/http"
	"os"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/spnego"
)

// gokrb5Config returns a krb5.conf for gokrb5 with one KDC. etypes is a list of names,
// empty for gokrb5's defaults.
func gokrb5Config(kdc, etypes string, tcp bool) (*config.Config, error) {
	return config.NewFromString(gokrb5Conf(kdc, etypes, tcp))
}

func gokrb5Conf(kdc, etypes string, tcp bool) string {
	text := "[libdefaults]\ndefault_realm = " + realmName + "\ndns_lookup_kdc = false\nforwardable = true\n"
	if etypes != "" {
		text += fmt.Sprintf("default_tkt_enctypes = %s\ndefault_tgs_enctypes = %s\npermitted_enctypes = %s\n", etypes, etypes, etypes)
	}
	if tcp {
		text += "udp_preference_limit = 1\n"
	}
	return text + fmt.Sprintf("[realms]\n%s = {\nkdc = %s\n}\n[domain_realm]\n.corp.example = %s\n", realmName, kdc, realmName)
}

// writeGokrb5Conf writes a krb5.conf with gokrb5's default types.
func writeGokrb5Conf(path, kdc string) error {
	return os.WriteFile(path, []byte(gokrb5Conf(kdc, "", false)), 0o600)
}

// gokrb5Client returns a client that has not logged in yet.
func gokrb5Client(s *site, cfg *config.Config) (*client.Client, error) {
	keys, err := keytab.Load(s.keytab)
	if err != nil {
		return nil, err
	}
	return client.NewWithKeytab(proxyName, realmName, keys, cfg, client.DisablePAFXFAST(true)), nil
}

// gokrb5Header returns gokrb5's Authorization for a service.
func gokrb5Header(cl *client.Client, spn string) (string, error) {
	r := &http.Request{Header: make(http.Header)}
	err := spnego.SetSPNEGOHeader(cl, r, spn)
	return r.Header.Get("Authorization"), err
}
