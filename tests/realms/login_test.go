package realms

import (
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/lab"
)

// overBoth runs a test with UDP tried first and with TCP alone.
func overBoth(t *testing.T, test func(t *testing.T, with func(*krb5core.Config), protocol string)) {
	t.Run("udp", func(t *testing.T) { test(t, nil, "udp") })
	t.Run("tcp", func(t *testing.T) { test(t, func(c *krb5core.Config) { c.TCPOnly = true }, "tcp") })
}

func TestMIT_LoginAndTicket(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{
		{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"},
	}})
	service := m.Keytab(t, "HTTP/app.lab.test")
	overBoth(t, func(t *testing.T, with func(*krb5core.Config), protocol string) {
		client, tr := newClient(t, with, m)
		alice := password(t, "alice@LAB.TEST", "alice-secret", nil)
		cred := ticket(t, client, alice, login(t, client, alice), "HTTP/app.lab.test")
		if part := opened(t, cred, service); part.CName.String() != "alice" || part.CRealm != "LAB.TEST" {
			t.Errorf("the ticket is of %s@%s", part.CName, part.CRealm)
		}
		if n, all := tr.count(protocol, "sent"), tr.count("sent"); n != all || all != 3 {
			t.Errorf("%d of %d requests by %s, want 3:\n%s", n, all, protocol, tr)
		}
		if _, ok := eventOf[exchange.EncPARepVerified](tr); !ok {
			t.Error("the KDC's checksum over the request was not verified")
		}
		// What the first login has learnt saves the second one a request.
		login(t, client, alice)
		if n := tr.count("sent", "KRB_AS_REQ"); n != 3 {
			t.Errorf("%d AS-REQs for two logins, want 3", n)
		}
	})
}

func TestMIT_LoginWithEachType(t *testing.T) {
	ids := []enctype.ID{
		enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96, enctype.AES256_CTS_HMAC_SHA384_192,
		enctype.AES128_CTS_HMAC_SHA256_128, enctype.CAMELLIA256_CTS_CMAC, enctype.CAMELLIA128_CTS_CMAC, enctype.RC4_HMAC,
	}
	var principals []lab.Principal
	for _, id := range ids {
		name := id.String()
		if id == enctype.RC4_HMAC {
			name = "arcfour-hmac"
		}
		principals = append(principals, lab.Principal{Name: "u" + name, Password: "secret", ETypes: []string{name}})
	}
	m := lab.StartMIT(t, lab.MITOptions{Principals: principals, KDCLibDefaults: []string{"allow_rc4 = true"}})
	for i, id := range ids {
		client, _ := newClient(t, func(c *krb5core.Config) { c.ETypes = []enctype.ID{id} }, m)
		name := principals[i].Name
		if tgt, err := client.Login(t.Context(), password(t, name+"@LAB.TEST", "secret", nil), nil); err != nil {
			t.Errorf("%s by password: %v", id, err)
		} else if tgt.Key.EType() != id {
			t.Errorf("%s: the session key is %s", id, tgt.Key.EType())
		}
		if _, err := client.Login(t.Context(), keys(t, name+"@LAB.TEST", readKeytab(t, m.Keytab(t, name))), nil); err != nil {
			t.Errorf("%s by keytab: %v", id, err)
		}
	}
}

func TestMIT_ReplyTooBigForUDP(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{MaxDatagram: 300, Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}}})
	client, tr := newClient(t, nil, m)
	login(t, client, password(t, "alice@LAB.TEST", "alice-secret", nil))
	if tr.count("udp", "received", "KRB_ERR_RESPONSE_TOO_BIG") == 0 || tr.count("tcp", "received", "KRB_AS_REP") != 1 {
		t.Errorf("messages:\n%s", tr)
	}
	asked := tr.count("udp", "sent")
	login(t, client, password(t, "alice@LAB.TEST", "alice-secret", nil))
	if n := tr.count("udp", "sent"); n != asked {
		t.Errorf("UDP was tried again:\n%s", tr)
	}
}

func TestMIT_Salt(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{
		{Name: "norealm", Password: "secret", Salt: "norealm"}, {Name: "onlyrealm", Password: "secret", Salt: "onlyrealm"},
	}})
	for name, salt := range map[string]string{"norealm": "norealm", "onlyrealm": "LAB.TEST"} {
		client, tr := newClient(t, nil, m)
		login(t, client, password(t, name+"@LAB.TEST", "secret", nil))
		if e, ok := eventOf[exchange.KeyChosen](tr); !ok || e.Salt != salt || !e.HasSalt {
			t.Errorf("%s: %v, want salt %q", name, e, salt)
		}
		// It is not the default salt: what the datagram says is asked again over TCP, and the rest of the login too.
		if udp, tcp := tr.count("udp", "sent"), tr.count("tcp", "sent"); udp != 1 || tcp != 2 {
			t.Errorf("%s: %d requests over UDP and %d over TCP, want 1 and 2:\n%s", name, udp, tcp, tr)
		}
	}
}

func TestMIT_Names(t *testing.T) {
	names := []string{"jürgen-€", `sl\/ash`, `at\@home`, `back\\slash`}
	var principals []lab.Principal
	for _, name := range names {
		principals = append(principals, lab.Principal{Name: name, Password: "straße " + name})
	}
	m := lab.StartMIT(t, lab.MITOptions{Principals: principals})
	client, _ := newClient(t, nil, m)
	for _, name := range names {
		tgt := login(t, client, password(t, name+"@LAB.TEST", "straße "+name, nil))
		if got := tgt.Client.String(); got != name+"@LAB.TEST" || len(tgt.Client.Name.NameString) != 1 {
			t.Errorf("logged in as %q, want %q", got, name)
		}
	}
}

func TestSamba_LoginAndTicket(t *testing.T) {
	s := lab.SharedSamba(t)
	service := s.Keytab(t, "HTTP/iis.corp.test")
	overBoth(t, func(t *testing.T, with func(*krb5core.Config), protocol string) {
		client, tr := newClient(t, with, s)
		alice := password(t, "alice@CORP.TEST", "alice-secret", nil)
		cred := ticket(t, client, alice, login(t, client, alice), "HTTP/iis.corp.test")
		if part := opened(t, cred, service); part.CName.String() != "alice" || part.CRealm != "CORP.TEST" {
			t.Errorf("the ticket is of %s@%s", part.CName, part.CRealm)
		}
		if n := tr.count("udp", "sent"); (n > 0) != (protocol == "udp") {
			t.Errorf("%d requests by UDP:\n%s", n, tr)
		}
	})
}

// Each of Samba's tickets has a PAC, with which an AS-REP does not fit a datagram.
func TestSamba_ReplyTooBigForUDP(t *testing.T) {
	s := lab.SharedSamba(t)
	client, tr := newClient(t, nil, s)
	login(t, client, password(t, "fat@CORP.TEST", "fat-secret", nil))
	if tr.count("udp", "received", "KRB_ERR_RESPONSE_TOO_BIG") == 0 || tr.count("tcp", "received", "KRB_AS_REP") != 1 {
		t.Errorf("messages:\n%s", tr)
	}
}

func TestSamba_UserIn600Groups(t *testing.T) {
	s := lab.SharedSamba(t)
	client, _ := newClient(t, nil, s)
	fat := keys(t, "svc-fat@CORP.TEST", readKeytab(t, s.Keytab(t, "svc-fat")))
	cred := ticket(t, client, fat, login(t, client, fat), "HTTP/iis.corp.test")
	if len(cred.Ticket) < 5000 {
		t.Errorf("the ticket has %d bytes: where are the groups?", len(cred.Ticket))
	}
	opened(t, cred, s.Keytab(t, "HTTP/iis.corp.test"))
}

func TestSamba_UPN(t *testing.T) {
	s := lab.SharedSamba(t)
	for upn, want := range map[string]string{
		"erin.smith@corp.test": "erin@CORP.TEST", "frank@mail.example": "frank@CORP.TEST", "ERIN.Smith@Corp.Test": "erin@CORP.TEST",
	} {
		p, err := messages.ParseEnterprise(upn+"@CORP.TEST", "")
		if err != nil {
			t.Fatal(err)
		}
		secret := strings.ToLower(want[:strings.Index(want, "@")]) + "-secret"
		account := krb5core.NewAccount(p, krb5core.PasswordKeys(func() (string, error) { return secret, nil }), nil)
		client, _ := newClient(t, nil, s)
		tgt := login(t, client, account)
		if got := tgt.Client.String(); got != want {
			t.Errorf("%s logged in as %s, want %s", upn, got, want)
		}
		// A client that keeps the name as typed is refused.
		if cred := ticket(t, client, account, tgt, "HTTP/iis.corp.test"); cred.Client.String() != want {
			t.Errorf("%s has a ticket as %s", upn, cred.Client)
		}
	}
}

// With canonicalize a plain name is corrected too, and else it is not.
func TestSamba_Canonicalize(t *testing.T) {
	s := lab.SharedSamba(t)
	for canonicalize, want := range map[bool]string{true: "alice@CORP.TEST", false: "ALICE@CORP.TEST"} {
		client, tr := newClient(t, func(c *krb5core.Config) { c.Canonicalize = canonicalize }, s)
		wantName(t, client, tr, password(t, "ALICE@CORP.TEST", "alice-secret", nil), "HTTP/iis.corp.test", want)
	}
}

func TestMIT_Canonicalize(t *testing.T) {
	m := lab.StartMIT(t, lab.MITOptions{Principals: []lab.Principal{{Name: "alice", Password: "alice-secret"}, {Name: "HTTP/app.lab.test"}}})
	for _, canonicalize := range []bool{true, false} {
		client, tr := newClient(t, func(c *krb5core.Config) { c.Canonicalize = canonicalize }, m)
		wantName(t, client, tr, password(t, "alice@LAB.TEST", "alice-secret", nil), "HTTP/app.lab.test", "alice@LAB.TEST")
	}
}

// wantName logs in, gets a ticket in the name that the KDC returns, and requires that the KDC has
// confirmed the request.
func wantName(t *testing.T, client *krb5core.Client, tr *recorder, account *krb5core.Account, spn, want string) {
	t.Helper()
	tgt := login(t, client, account)
	if got := tgt.Client.String(); got != want {
		t.Errorf("logged in as %s, want %s", got, want)
	}
	if got := ticket(t, client, account, tgt, spn).Client.String(); got != want {
		t.Errorf("the ticket is of %s, want %s", got, want)
	}
	if _, ok := eventOf[exchange.EncPARepVerified](tr); !ok {
		t.Error("the KDC's checksum over the request was not verified")
	}
}

func TestSamba_RC4Ticket(t *testing.T) {
	s := lab.SharedSamba(t)
	client, _ := newClient(t, nil, s) // AES and the like only
	alice := password(t, "alice@CORP.TEST", "alice-secret", nil)
	cred := ticket(t, client, alice, login(t, client, alice), "HTTP/legacy.corp.test")
	tkt, err := messages.ParseTicket(cred.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	if got := cred.Key.EType(); tkt.EncPart.EType != enctype.RC4_HMAC || got != enctype.AES256_CTS_HMAC_SHA1_96 {
		t.Errorf("ticket %s, session key %s", tkt.EncPart.EType, got)
	}
}
