package caddynegotiate

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// adaptKerberos gives the kerberos app that global options adapt to.
func adaptKerberos(options string) (map[string]any, error) {
	out, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\n"+options+"\n}\n"), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return nil, err
	}
	var config struct {
		Apps map[string]map[string]any `json:"apps"`
	}
	if err := json.Unmarshal(out, &config); err != nil {
		return nil, err
	}
	return withoutOrigin(config.Apps["kerberos"]).(map[string]any), nil
}

func withoutOrigin(v any) any {
	if object, ok := v.(map[string]any); ok {
		delete(object, "origin")
		for _, inner := range object {
			withoutOrigin(inner)
		}
	}
	return v
}

func TestRepeatedKerberosBlocksAddUp(t *testing.T) {
	got, err := adaptKerberos(`
	kerberos {
		krb5_conf /etc/krb5.conf
		realm CORP.EXAMPLE {
			kdc dc1.corp.example dc2.corp.example:88
			domains .corp.example
			netbios CORP
			site Berlin
		}
		identity one {
			user svc-one@CORP.EXAMPLE
			keytab /one.keytab
		}
	}
	kerberos {
		ticket_memory 64MiB
		realm OTHER.EXAMPLE {
			kdc dc.other.example
		}
		identity two {
			user svc-two@OTHER.EXAMPLE
			password {env.TWO}
			use_tcp
		}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"krb5_conf": "/etc/krb5.conf", "ticket_memory": float64(64 << 20),
		"realms": map[string]any{
			"CORP.EXAMPLE": map[string]any{
				"kdc": []any{"dc1.corp.example", "dc2.corp.example:88"}, "domains": []any{".corp.example"},
				"netbios": "CORP", "site": "Berlin",
			},
			"OTHER.EXAMPLE": map[string]any{"kdc": []any{"dc.other.example"}},
		},
		"identities": map[string]any{
			"one": map[string]any{"user": "svc-one@CORP.EXAMPLE", "keytab": "/one.keytab"},
			"two": map[string]any{"user": "svc-two@OTHER.EXAMPLE", "password": "{env.TWO}", "use_tcp": true},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestKerberosRefusesWhatIsSaidTwice(t *testing.T) {
	for options, want := range map[string]string{
		"kerberos {\nrealm A\nrealm A\n}":                                      "realm A is given twice",
		"kerberos {\nrealm A\n}\nkerberos {\nrealm A\n}":                       "realm A is given twice",
		"kerberos {\nidentity a\nidentity a\n}":                                "identity a is given twice",
		"kerberos {\nidentity a {\nuser x\n}\n}\nkerberos {\nidentity a\n}":    "identity a is given twice",
		"kerberos {\nkrb5_conf /a\nkrb5_conf /b\n}":                            "krb5_conf is given twice",
		"kerberos {\nkrb5_conf /a\n}\nkerberos {\nkrb5_conf /b\n}":             "krb5_conf is given twice; it stands at an earlier kerberos block",
		"kerberos {\nticket_memory 1MiB\n}\nkerberos {\nticket_memory 2MiB\n}": "ticket_memory is given twice",
		"kerberos {\nidentity a {\nuser x\nuser y\n}\n}":                       "user is given twice; it stands at Caddyfile:4",
		"kerberos corp {\n}":                                                   "unexpected corp",
		"kerberos {\nidentity\n}":                                              "identity takes a name",
		"kerberos {\nrealm A B\n}":                                             "realm takes a name",
		"kerberos {\nrelam A\n}":                                               "did you mean realm?",
		"kerberos {\nidentity a {\nkeytba /x\n}\n}":                            "did you mean keytab?",
		"kerberos {\nidentity a {\nspn HTTP/x\n}\n}":                           "unrecognized subdirective spn",
	} {
		if got, err := adaptKerberos(options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %s", options, got, err, want)
		}
	}
}
