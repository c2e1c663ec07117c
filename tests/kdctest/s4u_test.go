package kdctest_test

import (
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// domain is a realm with a proxy that may impersonate users.
type domain struct {
	realm *kdctest.Realm
	kdc   *kdctest.KDC
	proxy *kdctest.Principal
	tgt   *messages.Credential // the proxy's
}

func newDomain(t *testing.T, opts ...kdctest.Option) *domain {
	t.Helper()
	d := &domain{realm: kdctest.NewRealm("CORP.EXAMPLE")}
	d.realm.AddUser("alice", "secret", kdctest.Alias("alice@people.example"))
	d.realm.AddService("HTTP/web.corp.example")
	d.proxy = d.realm.AddUser("svc-proxy", "x", opts...)
	d.kdc = start(t, d.realm)
	d.tgt = keyLogin(t, d.kdc, d.realm, d.proxy)
	return d
}

func user(name string) messages.Principal {
	return messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, name), Realm: "CORP.EXAMPLE"}
}

// forUser returns PA-FOR-USER with a checksum by the session key.
func forUser(t *testing.T, tgt *messages.Credential, u messages.Principal) messages.PAData {
	t.Helper()
	pa := messages.PAForUser{UserName: u.Name, UserRealm: u.Realm, AuthPackage: messages.S4UAuthPackage}
	sum, err := enctype.HMACMD5(tgt.Key, enctype.KEY_USAGE_PA_FOR_USER, pa.ChecksumInput())
	if err != nil {
		t.Fatal(err)
	}
	pa.Cksum = messages.Checksum{Type: enctype.KERB_CHECKSUM_HMAC_MD5, Value: sum}
	return messages.PAData{Type: messages.PA_FOR_USER, Value: pa.Marshal()}
}

// self requests a ticket to the proxy itself in a user's name.
func (d *domain) self(t *testing.T, u messages.Principal) (*messages.Credential, error) {
	t.Helper()
	return tgsRequest{
		tgt: d.tgt, realm: "CORP.EXAMPLE", service: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "svc-proxy"),
		padata: func(enctype.Key, uint32) messages.MethodData { return messages.MethodData{forUser(t, d.tgt, u)} },
	}.ask(t, d.kdc)
}

// onward requests a ticket to the web server with a user's ticket as evidence.
func (d *domain) onward(t *testing.T, evidence *messages.Credential, byResource bool) (*messages.Credential, error) {
	t.Helper()
	return tgsRequest{
		tgt: d.tgt, realm: "CORP.EXAMPLE", service: service("HTTP/web.corp.example"), evidence: evidence,
		options: messages.KDC_OPT_CNAME_IN_ADDL_TKT,
		padata: func(enctype.Key, uint32) messages.MethodData {
			if !byResource {
				return nil
			}
			opts := messages.PAC_OPTIONS_RESOURCE_BASED_CONSTRAINED_DELEGATION
			return messages.MethodData{{Type: messages.PA_PAC_OPTIONS, Value: opts.Marshal()}}
		},
	}.ask(t, d.kdc)
}

func TestDelegation(t *testing.T) {
	spn := kdctest.SPN("HTTP/proxy.corp.example")
	list := kdctest.DelegateTo("HTTP/web.corp.example")
	trusted := kdctest.With(kdctest.TrustedToAuth)
	listed := kdctest.ActFor("svc-proxy")
	for _, c := range []struct {
		name        string
		proxy       []kdctest.Option
		web         kdctest.Option
		alice       kdctest.Flags
		own         bool // alice's own ticket instead of S4U2Self
		byResource  bool
		forwardable bool               // of the evidence
		code        messages.ErrorCode // of S4U2Proxy
	}{
		{name: "protocol transition", proxy: []kdctest.Option{spn, list, trusted}, forwardable: true},
		{name: "list without transition", proxy: []kdctest.Option{spn, list}, code: messages.KDC_ERR_BADOPTION},
		{name: "list, the user's own ticket", proxy: []kdctest.Option{spn, list}, own: true, forwardable: true},
		{name: "not on the list", proxy: []kdctest.Option{spn, trusted}, forwardable: true, code: messages.KDC_ERR_BADOPTION},
		{name: "sensitive user", proxy: []kdctest.Option{spn, list, trusted}, alice: kdctest.NotDelegable, code: messages.KDC_ERR_BADOPTION},
		{name: "protected user", proxy: []kdctest.Option{spn, list, trusted}, alice: kdctest.Protected, code: messages.KDC_ERR_BADOPTION},
		{name: "by resource", proxy: []kdctest.Option{spn}, web: listed, byResource: true, forwardable: true},
		{name: "by resource, evidence not forwardable", proxy: []kdctest.Option{spn, kdctest.DelegateTo("HTTP/elsewhere")}, web: listed, byResource: true},
		{name: "by resource, not asked for", proxy: []kdctest.Option{spn}, web: listed, forwardable: true, code: messages.KDC_ERR_BADOPTION},
		{name: "by resource, not listed", proxy: []kdctest.Option{spn}, byResource: true, forwardable: true, code: messages.KDC_ERR_BADOPTION},
		{name: "by resource, sensitive user", proxy: []kdctest.Option{spn}, web: listed, byResource: true, alice: kdctest.NotDelegable, code: messages.KDC_ERR_BADOPTION},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDomain(t, c.proxy...)
			d.realm.Principal("alice").Set(kdctest.With(c.alice))
			if c.web != nil {
				d.realm.Principal("HTTP/web.corp.example").Set(c.web)
			}
			var evidence *messages.Credential
			var err error
			if c.own {
				tgt := login(t, d.kdc, "CORP.EXAMPLE", "alice", "secret")
				evidence, err = tgsRequest{tgt: tgt, realm: "CORP.EXAMPLE", service: service("HTTP/proxy.corp.example")}.ask(t, d.kdc)
			} else {
				evidence, err = d.self(t, user("alice"))
			}
			if err != nil {
				t.Fatal(err)
			}
			if evidence.Client.String() != "alice@CORP.EXAMPLE" || (evidence.Flags&messages.TKT_FLG_FORWARDABLE != 0) != c.forwardable {
				t.Errorf("evidence %v, flags %v", evidence, evidence.Flags)
			}
			cred, err := d.onward(t, evidence, c.byResource)
			if c.code != 0 {
				wantCode(t, err, c.code)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if cred.Client.String() != "alice@CORP.EXAMPLE" || cred.Service.Name.String() != "HTTP/web.corp.example" {
				t.Errorf("ticket %v", cred)
			}
		})
	}
}

func TestS4U2SelfRefused(t *testing.T) {
	d := newDomain(t, kdctest.SPN("HTTP/proxy.corp.example"))
	_, err := d.self(t, user("nobody"))
	wantCode(t, err, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN)
	d.realm.AddUser("gone", "x", kdctest.With(kdctest.Disabled))
	_, err = d.self(t, user("gone"))
	if e := wantCode(t, err, messages.KDC_ERR_CLIENT_REVOKED); e.Data().Status != messages.STATUS_ACCOUNT_DISABLED {
		t.Errorf("status %v", e.Data().Status)
	}
	other := login(t, d.kdc, "CORP.EXAMPLE", "alice", "secret")
	_, err = tgsRequest{
		tgt: other, realm: "CORP.EXAMPLE", service: service("HTTP/proxy.corp.example"),
		padata: func(enctype.Key, uint32) messages.MethodData {
			return messages.MethodData{forUser(t, other, user("alice"))}
		},
	}.ask(t, d.kdc)
	wantCode(t, err, messages.KRB_AP_ERR_BADMATCH)
	_, err = tgsRequest{
		tgt: d.tgt, realm: "CORP.EXAMPLE", service: service("HTTP/proxy.corp.example"),
		padata: func(enctype.Key, uint32) messages.MethodData {
			return messages.MethodData{forUser(t, other, user("alice"))} // under another's key
		},
	}.ask(t, d.kdc)
	wantCode(t, err, messages.KRB_AP_ERR_MODIFIED)
	none := newDomain(t) // an account without a service principal name
	_, err = none.self(t, user("alice"))
	wantCode(t, err, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN)
}

func TestS4U2SelfEnterpriseName(t *testing.T) {
	d := newDomain(t, kdctest.SPN("HTTP/proxy.corp.example"))
	upn := messages.Principal{
		Name:  messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "alice@people.example"),
		Realm: "CORP.EXAMPLE",
	}
	cred, err := d.self(t, upn)
	if err != nil || cred.Client.String() != "alice@CORP.EXAMPLE" {
		t.Errorf("got %v, %v", cred, err)
	}
}

func TestForeignEvidence(t *testing.T) {
	d := newDomain(t, kdctest.SPN("HTTP/proxy.corp.example"), kdctest.DelegateTo("HTTP/web.corp.example"))
	tgt := login(t, d.kdc, "CORP.EXAMPLE", "alice", "secret")
	evidence, err := tgsRequest{tgt: tgt, realm: "CORP.EXAMPLE", service: service("HTTP/web.corp.example")}.ask(t, d.kdc)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.onward(t, evidence, false)
	wantCode(t, err, messages.KRB_AP_ERR_BADMATCH)
	_, err = d.onward(t, tgt, false)
	wantCode(t, err, messages.KRB_AP_ERR_BADMATCH)
}
