package kdctest_test

import (
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// newestKey returns a principal's AES-256 key, read from its keytab.
func newestKey(t *testing.T, realm *kdctest.Realm, p *kdctest.Principal) enctype.Key {
	t.Helper()
	b, err := realm.Keytab(p)
	if err != nil {
		t.Fatal(err)
	}
	kt, err := keytab.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := kt.Key(kt.Entries[0].Principal, enctype.AES256_CTS_HMAC_SHA1_96, 0)
	if !ok {
		t.Fatalf("no key of %s", p)
	}
	return key
}

func TestAccountRefusals(t *testing.T) {
	for _, c := range []struct {
		flags  kdctest.Flags
		code   messages.ErrorCode
		status messages.NTStatus
		bare   bool // refused without proof
	}{
		{kdctest.Disabled, messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_DISABLED, true},
		{kdctest.Locked, messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_LOCKED_OUT, true},
		{kdctest.Expired, messages.KDC_ERR_CLIENT_REVOKED, messages.STATUS_ACCOUNT_EXPIRED, true},
		{kdctest.MustChange, messages.KDC_ERR_KEY_EXPIRED, messages.STATUS_PASSWORD_MUST_CHANGE, false},
	} {
		realm := kdctest.NewRealm("R")
		alice := realm.AddUser("alice", "secret", kdctest.With(c.flags))
		kdc := start(t, realm)
		_, err := tryLogin(t, kdc, "R", "alice", "secret")
		if e := wantCode(t, err, c.code); e.Data().Status != c.status {
			t.Errorf("status %v, want %v", e.Data().Status, c.status)
		}
		_, _, err = open(t, kdc.Handle(asReq("R", "alice", 1).Marshal()), enctype.Key{}, 0)
		if c.bare {
			wantCode(t, err, c.code)
		} else {
			wantCode(t, err, messages.KDC_ERR_PREAUTH_REQUIRED)
		}
		alice.Set(kdctest.Without(c.flags))
		login(t, kdc, "R", "alice", "secret")
	}
}

func TestLockout(t *testing.T) {
	realm := kdctest.NewRealm("R")
	alice := realm.AddUser("alice", "secret")
	realm.SetLockout(3)
	kdc := start(t, realm)
	for range 2 {
		_, err := tryLogin(t, kdc, "R", "alice", "wrong")
		wantCode(t, err, messages.KDC_ERR_PREAUTH_FAILED)
	}
	login(t, kdc, "R", "alice", "secret") // resets the count
	for range 3 {
		_, err := tryLogin(t, kdc, "R", "alice", "wrong")
		wantCode(t, err, messages.KDC_ERR_PREAUTH_FAILED)
	}
	_, err := tryLogin(t, kdc, "R", "alice", "secret")
	wantCode(t, err, messages.KDC_ERR_CLIENT_REVOKED)
	if c := kdc.Counts(); c.Clients["alice@R"].ASReqPreAuth != 7 || c.ASRep != 1 {
		t.Errorf("counts %+v", c)
	}
	alice.Set(kdctest.Without(kdctest.Locked))
	login(t, kdc, "R", "alice", "secret")
}

func TestChangePassword(t *testing.T) {
	realm := kdctest.NewRealm("R")
	alice := realm.AddUser("alice", "one")
	kdc := start(t, realm)
	alice.ChangePassword("two", true)
	login(t, kdc, "R", "alice", "one")
	login(t, kdc, "R", "alice", "two")
	alice.ChangePassword("three", false)
	for _, old := range []string{"one", "two"} {
		_, err := tryLogin(t, kdc, "R", "alice", old)
		wantCode(t, err, messages.KDC_ERR_PREAUTH_FAILED)
	}
	login(t, kdc, "R", "alice", "three")
}

func TestProtectedUser(t *testing.T) {
	realm := kdctest.NewRealm("R")
	realm.AddUser("alice", "secret", kdctest.With(kdctest.Protected))
	kdc := start(t, realm)
	cred := login(t, kdc, "R", "alice", "secret")
	if life := cred.EndTime.Sub(cred.AuthTime); life != 4*time.Hour {
		t.Errorf("lasts %v", life)
	}
	if cred.Flags&(messages.TKT_FLG_RENEWABLE|messages.TKT_FLG_FORWARDABLE) != 0 || !cred.RenewTill.IsZero() {
		t.Errorf("flags %v, renewable until %v", cred.Flags, cred.RenewTill)
	}
	_, err := tgsRequest{tgt: cred, realm: "R", service: messages.TGSName("R"), options: messages.KDC_OPT_FORWARDED}.ask(t, kdc)
	wantCode(t, err, messages.KDC_ERR_BADOPTION)
}

func TestRenewExpired(t *testing.T) {
	realm := kdctest.NewRealm("R")
	realm.AddUser("alice", "secret", kdctest.Lifetimes(time.Hour, 3*time.Hour))
	kdc := start(t, realm)
	renew := func(tgt *messages.Credential) (*messages.Credential, error) {
		return tgsRequest{tgt: tgt, realm: "R", service: tgt.Service.Name, options: messages.KDC_OPT_RENEW}.ask(t, kdc)
	}
	tgt := login(t, kdc, "R", "alice", "secret")
	kdc.JumpClock(50 * time.Minute)
	again, err := renew(tgt)
	if err != nil || again.EndTime.Sub(tgt.EndTime) < 49*time.Minute {
		t.Fatalf("renewed until %v, %v", again, err)
	}
	kdc.JumpClock(2 * time.Hour)
	_, err = renew(again)
	wantCode(t, err, messages.KRB_AP_ERR_TKT_EXPIRED)
}

func TestSessionETypes(t *testing.T) {
	realm := kdctest.NewRealm("R")
	realm.AddUser("alice", "secret")
	realm.AddService("HTTP/old", kdctest.ETypes(enctype.RC4_HMAC), kdctest.SessionETypes(enctype.AES256_CTS_HMAC_SHA1_96))
	realm.AddService("HTTP/older", kdctest.ETypes(enctype.RC4_HMAC))
	kdc := start(t, realm)
	tgt := login(t, kdc, "R", "alice", "secret")
	cred, err := tgsRequest{tgt: tgt, realm: "R", service: service("HTTP/old")}.ask(t, kdc)
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := messages.ParseTicket(cred.Ticket)
	if err != nil || ticket.EncPart.EType != enctype.RC4_HMAC || cred.Key.EType() != enctype.AES256_CTS_HMAC_SHA1_96 {
		t.Errorf("ticket %v, session key %v, %v", ticket.EncPart.EType, cred.Key.EType(), err)
	}
	_, err = tgsRequest{tgt: tgt, realm: "R", service: service("HTTP/older")}.ask(t, kdc)
	wantCode(t, err, messages.KDC_ERR_ETYPE_NOSUPP)
}

func TestCanonicalServiceName(t *testing.T) {
	realm := kdctest.NewRealm("R")
	realm.IgnoreCase()
	realm.AddUser("alice", "secret")
	realm.AddUser("svc-web", "x", kdctest.SPN("HTTP/web.corp.example"), kdctest.Alias("HTTP/www.corp.example"))
	realm.AddUser("plain", "x")
	kdc := start(t, realm)
	tgt := login(t, kdc, "R", "alice", "secret")
	for asked, want := range map[string]string{
		"HTTP/web.corp.example": "HTTP/web.corp.example",
		"http/WEB.corp.example": "http/WEB.corp.example",
		"HTTP/www.corp.example": "svc-web",
	} {
		cred, err := tgsRequest{tgt: tgt, realm: "R", service: service(asked)}.ask(t, kdc)
		if err != nil || cred.Service.Name.String() != want {
			t.Errorf("%s: %v, %v", asked, cred, err)
		}
	}
	for _, none := range []string{"plain", "HTTP/nowhere"} {
		_, err := tgsRequest{tgt: tgt, realm: "R", service: service(none)}.ask(t, kdc)
		wantCode(t, err, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN)
	}
}

func TestStart_RealmError(t *testing.T) {
	realm := kdctest.NewRealm("R")
	realm.AddUser("alice", "secret")
	realm.AddUser("alice", "secret")
	kdc := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	if err := kdc.Start(); err == nil {
		kdc.Stop()
		t.Error("no error for a duplicate name")
	}
}

func FuzzHandle(f *testing.F) {
	realm := kdctest.NewRealm("R")
	realm.AddUser("alice", "secret")
	kdc := kdctest.NewKDC(kdctest.Config{Realms: []*kdctest.Realm{realm}})
	f.Add(asReq("R", "alice", 1).Marshal())
	tgs := asReq("R", "alice", 1)
	tgs.MsgType = messages.KRB_TGS_REQ
	tgs.PAData = messages.MethodData{{Type: messages.PA_TGS_REQ, Value: []byte{0x6e, 0}}}
	f.Add(tgs.Marshal())
	f.Fuzz(func(t *testing.T, message []byte) {
		if kdc.Handle(message) == nil {
			t.Error("no answer")
		}
	})
}
