package exchange

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

var (
	bob    = messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, "bob"), Realm: realm}
	bobUPN = messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "bob@krb5.example"), Realm: realm}
)

func newSelf(t testing.TB, change func(*S4U2SelfConfig)) *S4U2Self {
	t.Helper()
	cfg := S4U2SelfConfig{
		Session: testSession(tgtFor(t, proxy, realm, realm)), Service: proxy.Name, User: alice, Options: messages.KDC_OPT_FORWARDABLE,
	}
	if change != nil {
		change(&cfg)
	}
	return must.OK(NewS4U2Self(cfg))(t)
}

// selfIssue is a good answer to an S4U2Self request. It verifies both elements as a KDC does.
func selfIssue(t testing.TB, request []byte, tgt *messages.Credential) *issue {
	t.Helper()
	i := newTGSIssue(t, request, tgt)
	value, _ := i.req.PAData.Find(messages.PA_FOR_USER)
	forUser := must.OK(messages.ParsePAForUser(value))(t)
	sum, err := enctype.HMACMD5(tgt.Key, enctype.KEY_USAGE_PA_FOR_USER, forUser.ChecksumInput())
	if err != nil || forUser.Cksum.Type != enctype.KERB_CHECKSUM_HMAC_MD5 || !slices.Equal(sum, forUser.Cksum.Value) {
		t.Fatalf("PA-FOR-USER: %+v, %v", forUser, err)
	}
	x509 := i.x509(t)
	if x509.UserID.Nonce != i.req.Body.Nonce || !x509.UserID.CName.Equal(forUser.UserName) || x509.UserID.CRealm != forUser.UserRealm {
		t.Fatalf("PA-S4U-X509-USER: %+v", x509)
	}
	if i.subkey.EType() != enctype.RC4_HMAC {
		must.Do(t, i.subkey.VerifyChecksum(x509.Checksum.Type, enctype.KEY_USAGE_PA_S4U_X509_USER_REQUEST, x509.UserID.Raw, x509.Checksum.Value))
	}
	i.client(messages.Principal{Name: forUser.UserName, Realm: forUser.UserRealm})
	return i
}

func (i *issue) x509(t testing.TB) *messages.PAS4UX509User {
	t.Helper()
	value, _ := i.req.PAData.Find(messages.PA_S4U_X509_USER)
	return must.OK(messages.ParsePAS4UX509User(value))(t)
}

// bind puts the KDC's PA-S4U-X509-USER into the reply, after a change.
func (i *issue) bind(t testing.TB, change func(*messages.PAS4UX509User)) {
	t.Helper()
	x509 := i.x509(t)
	x509.UserID.Raw = nil
	x509.UserID.CName, x509.UserID.CRealm = i.rep.CName, i.rep.CRealm
	sum := must.OK(i.subkey.Checksum(enctype.KEY_USAGE_PA_S4U_X509_USER_REPLY, x509.UserID.Marshal()))(t)
	x509.Checksum = messages.Checksum{Type: i.subkey.ChecksumType(), Value: sum}
	if change != nil {
		change(x509)
	}
	i.rep.PAData = append(i.rep.PAData, messages.PAData{Type: messages.PA_S4U_X509_USER, Value: x509.Marshal()})
}

// lock encrypts the ticket to us, as a KDC does, after a change of its inside.
func (i *issue) lock(t testing.TB, key enctype.Key, change func(*messages.EncTicketPart)) {
	t.Helper()
	part := messages.EncTicketPart{
		Key: i.part.Key, CRealm: i.rep.CRealm, CName: i.rep.CName, AuthTime: i.part.AuthTime, EndTime: i.part.EndTime,
	}
	if change != nil {
		change(&part)
	}
	cipher := must.OK(key.Encrypt(testRand, enctype.KEY_USAGE_TICKET, part.Marshal()))(t)
	i.rep.Ticket.EncPart = messages.EncryptedData{EType: key.EType(), KVNO: 1, HasKVNO: true, Cipher: cipher}
}

// A reply is believed if the KDC confirms the user, or if the ticket, which our key opens, names the user.
func TestS4U2Self_Proofs(t *testing.T) {
	key := newKey(t, aes256)
	bind := func(i *issue) { i.bind(t, nil) }
	lock := func(i *issue) { i.lock(t, key, nil) }
	other := func(i *issue) { i.lock(t, newKey(t, aes256), nil) }
	for name, c := range map[string]struct {
		user         messages.Principal
		keys         KeySource
		change       func(*issue)
		good, opened bool
	}{
		"confirmed":                 {alice, nil, bind, true, false},
		"opened":                    {alice, heldKeys{{aes256, 0}: key}, lock, true, true},
		"confirmed and opened":      {alice, heldKeys{{aes256, 0}: key}, func(i *issue) { bind(i); lock(i) }, true, true},
		"neither":                   {alice, nil, lock, false, false},
		"another key":               {alice, heldKeys{{aes256, 0}: key}, other, false, false},
		"UPN confirmed":             {bobUPN, nil, bind, true, false},
		"UPN opened, without a PAC": {bobUPN, heldKeys{{aes256, 0}: key}, lock, false, false},
		"UPN neither":               {bobUPN, nil, lock, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSelf(t, func(cfg *S4U2SelfConfig) { cfg.User, cfg.Keys = c.user, c.keys })
			answer := impersonating(t, s.cfg.TGT, func(i *issue) {
				i.part.Flags = 0 // not forwardable, which is no verdict
				c.change(i)
			})
			if c.user.Name.NameType == messages.KRB_NT_ENTERPRISE {
				answer = inTurn(demanding(t), answer)
			}
			requests, err := run(t, s, answer)
			if !c.good {
				if !errors.Is(err, ErrUserNotProven) || errors.Is(err, ErrForeign) || s.Result().Credential != nil {
					t.Errorf("%v, %v", s.Result().Credential, err)
				}
				return
			}
			must.Do(t, err)
			if n := len(requests); asked(t, requests)[n-1] != "HTTP/proxy.krb5.test@KRB5.TEST canonicalize" {
				t.Errorf("asked %v", asked(t, requests))
			}
			cred := s.Result().Credential
			if !cred.Client.Name.Equal(c.user.Name) || !cred.Service.Equal(proxy) || (cred.Account != nil) != c.opened {
				t.Errorf("ticket: %v, account %v", cred, cred.Account)
			}
		})
	}
}

// What is inside of a ticket that our key opens counts.
func TestS4U2Self_SpoiltTickets(t *testing.T) {
	key := newKey(t, aes256)
	for name, c := range map[string]struct {
		change func(*messages.EncTicketPart)
		field  string
	}{
		"of another user":     {func(p *messages.EncTicketPart) { p.CName = bob.Name }, "ticket's client"},
		"of a namesake":       {func(p *messages.EncTicketPart) { p.CRealm = other }, "ticket's client"},
		"of another exchange": {func(p *messages.EncTicketPart) { p.Key = newKey(t, aes256) }, "ticket"},
		"with a broken PAC": {func(p *messages.EncTicketPart) {
			p.AuthorizationData = messages.AuthorizationData{{Type: messages.AD_WIN2K_PAC, Value: []byte{1}}}
		}, "ticket's PAC"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSelf(t, func(cfg *S4U2SelfConfig) { cfg.Keys = heldKeys{{aes256, 0}: key} })
			_, err := run(t, s, impersonating(t, s.cfg.TGT, func(i *issue) {
				i.bind(t, nil)
				i.lock(t, key, c.change)
			}))
			wantField(t, err, c.field)
		})
	}
}

func TestS4U2Self_SpoiltReplies(t *testing.T) {
	bound := func(change func(*issue, *messages.PAS4UX509User)) func(*testing.T, *issue) {
		return func(t *testing.T, i *issue) {
			i.bind(t, func(x *messages.PAS4UX509User) { change(i, x) })
		}
	}
	for name, f := range map[string]struct {
		spoil func(t *testing.T, i *issue)
		field string
	}{
		"another user's ticket":       {func(_ *testing.T, i *issue) { i.client(bob) }, "cname"},
		"our own ticket":              {func(_ *testing.T, i *issue) { i.client(proxy) }, "cname"},
		"a user of another realm":     {func(_ *testing.T, i *issue) { i.rep.CRealm = other }, "crealm"},
		"to another service":          {func(_ *testing.T, i *issue) { i.service(web) }, "sname"},
		"wrong nonce":                 {func(_ *testing.T, i *issue) { i.part.Nonce++ }, "nonce"},
		"bound with another nonce":    {bound(func(_ *issue, x *messages.PAS4UX509User) { x.UserID.Nonce++ }), "PA-S4U-X509-USER nonce"},
		"bound with a wrong checksum": {bound(func(_ *issue, x *messages.PAS4UX509User) { x.Checksum.Value[0] ^= 1 }), "PA-S4U-X509-USER checksum"},
		"bound with the request's usage": {bound(func(i *issue, x *messages.PAS4UX509User) {
			x.Checksum.Value, _ = i.subkey.Checksum(enctype.KEY_USAGE_PA_S4U_X509_USER_REQUEST, x.UserID.Marshal())
		}), "PA-S4U-X509-USER checksum"},
		"bound without a key": {bound(func(_ *issue, x *messages.PAS4UX509User) {
			x.Checksum.Type = enctype.CKSUMTYPE_RSA_MD4
			x.Checksum.Value, _ = enctype.Digest(x.Checksum.Type, x.UserID.Marshal())
		}), "PA-S4U-X509-USER checksum"},
		"bound to another user": {func(t *testing.T, i *issue) {
			i.client(bob)
			i.bind(t, nil)
			i.client(alice)
		}, "PA-S4U-X509-USER user"},
		"bound to an empty name": {bound(func(i *issue, x *messages.PAS4UX509User) {
			x.UserID.CName = messages.PrincipalName{}
			x.Checksum.Value, _ = i.subkey.Checksum(enctype.KEY_USAGE_PA_S4U_X509_USER_REPLY, x.UserID.Marshal())
		}), "PA-S4U-X509-USER user"},
		"bound inside only": {func(_ *testing.T, i *issue) {
			i.part.EncryptedPAData = messages.MethodData{{Type: messages.PA_S4U_X509_USER, Value: []byte{1}}}
		}, "PA-S4U-X509-USER"},
		"bound by garbage": {func(_ *testing.T, i *issue) {
			i.rep.PAData = messages.MethodData{{Type: messages.PA_S4U_X509_USER, Value: []byte{1}}}
		}, "PA-S4U-X509-USER"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSelf(t, nil)
			_, err := run(t, s, impersonating(t, s.cfg.TGT, func(i *issue) { f.spoil(t, i) }))
			wantField(t, err, f.field)
		})
	}
}

func TestS4U2Self_LetterCase(t *testing.T) {
	s := newSelf(t, func(c *S4U2SelfConfig) { c.User.Name = messages.NewPrincipalName(1, "ALICE") })
	must.OK(run(t, s, impersonating(t, s.cfg.TGT, func(i *issue) {
		i.client(alice)
		i.bind(t, nil)
	})))(t)
	if c := s.Result().Credential.Client; !c.Equal(alice) {
		t.Errorf("client is %s", c)
	}
}

func TestS4U2Self_RC4Checksum(t *testing.T) {
	rc4 := func(c *S4U2SelfConfig) {
		c.TGT.Key, c.ETypes = newKey(t, enctype.RC4_HMAC), []enctype.ID{enctype.RC4_HMAC}
	}
	for _, spoilt := range []bool{false, true} {
		s := newSelf(t, rc4)
		_, err := run(t, s, impersonating(t, s.cfg.TGT, func(i *issue) {
			request := i.x509(t).Checksum.Value
			i.bind(t, func(x *messages.PAS4UX509User) {
				x.Checksum.Type = enctype.CKSUMTYPE_RSA_MD4
				x.Checksum.Value, _ = enctype.Digest(x.Checksum.Type, x.UserID.Marshal())
				both := append(slices.Clone(request), x.Checksum.Value...)
				if spoilt {
					both[0] ^= 1
				}
				i.part.EncryptedPAData = messages.MethodData{{Type: messages.PA_S4U_X509_USER, Value: both}}
			})
		}))
		wantField(t, err, map[bool]string{true: "PA-S4U-X509-USER checksum"}[spoilt])
	}
}

func TestS4U2Self_ForeignUPN(t *testing.T) {
	canonical := messages.Principal{Name: messages.NewPrincipalName(1, "bob"), Realm: other}
	var events trail
	s := newSelf(t, func(c *S4U2SelfConfig) { c.User, c.Trace = bobUPN, events.add })
	n := newRealms(t, s.cfg.TGT)
	requests := must.OK(run(t, s, func(step int, r *Request) []byte {
		switch step {
		case 0: // who has bob?
			return wrongRealm(t, r, other)
		case 1:
			return preAuthRequired(t, r.Message, entry(aes256, "x"))
		case 2: // the way there
			return n.refer(r, other)
		case 3: // and back
			i := selfIssue(t, r.Message, n.tgts[other])
			i.service(messages.TGSName(realm))
			i.client(canonical)
			i.bind(t, nil) // by the name in the user's realm
			i.client(proxy)
			i.rep.Ticket.EncPart.Cipher = []byte("bob's way home")
			b := i.seal(t)
			n.tgts[realm] = i.cred()
			return b
		}
		i := selfIssue(t, r.Message, n.tgts[realm])
		i.client(canonical)
		i.bind(t, nil)
		return i.seal(t)
	}))(t)
	wantAsked(t, requests,
		"krbtgt/KRB5.TEST@KRB5.TEST canonicalize",
		"krbtgt/OTHER.TEST@OTHER.TEST canonicalize",
		"krbtgt/OTHER.TEST@KRB5.TEST",
		`HTTP\/proxy.krb5.test@KRB5.TEST@OTHER.TEST canonicalize`,
		"HTTP/proxy.krb5.test@KRB5.TEST canonicalize")
	if requests[0].PreAuth || requests[1].PreAuth {
		t.Error("looking for the user's realm proves a key")
	}
	sname := parseRequest(t, requests[3].Message).Body.SName
	if sname.NameType != messages.KRB_NT_ENTERPRISE || len(sname.NameString) != 1 || sname.NameString[0] != "HTTP/proxy.krb5.test@KRB5.TEST" {
		t.Errorf("our name abroad: %+v", sname)
	}
	if c := s.Result().Credential.Client; !c.Equal(canonical) {
		t.Errorf("client is %s", c)
	}
	// The way back is in our name with bob's authorization data: nothing else may go by it.
	if got := s.Result().Referrals; len(got) != 1 || tgtRealm(got[0]) != other {
		t.Errorf("tickets to be kept: %v", got)
	}
	events.wants(t, "user bob@krb5.example has an account in realm OTHER.TEST")
}

func TestS4U2Self_UPNYieldsNoUser(t *testing.T) {
	for name, client := range map[string]messages.Principal{
		"our own name, as by a KDC without S4U": proxy,
		"no name":                               {Name: messages.NewPrincipalName(1, ""), Realm: realm},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSelf(t, func(c *S4U2SelfConfig) { c.User = bobUPN })
			_, err := run(t, s, inTurn(demanding(t), impersonating(t, s.cfg.TGT, func(i *issue) { i.client(client) })))
			wantField(t, err, "cname")
		})
	}
}

func TestS4U2Self_UserWithoutPreAuth(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		s := newSelf(t, func(c *S4U2SelfConfig) { c.User = bobUPN })
		requests, err := run(t, s, func(step int, r *Request) []byte {
			if step == 0 {
				i := newASIssue(t, r.Message, newKey(t, aes256))
				if foreign {
					i.rep.Ticket.Realm = other
				}
				return i.seal(t)
			}
			i := selfIssue(t, r.Message, s.cfg.TGT)
			i.bind(t, nil)
			return i.seal(t)
		})
		if foreign {
			wantField(t, err, "realm")
		} else if err != nil || len(requests) != 2 {
			t.Errorf("%d requests, error %v", len(requests), err)
		}
	}
}

func TestS4U2Self_ReferralLoop(t *testing.T) {
	s := newSelf(t, nil)
	n := newRealms(t, s.cfg.TGT)
	requests, err := run(t, s, func(_ int, r *Request) []byte {
		return n.refer(r, map[string]string{realm: other, other: realm}[r.Realm])
	})
	var e *ReferralError
	if !errors.As(err, &e) || e.Reason != "loop" || len(requests) != 2 {
		t.Errorf("%d requests, error %v", len(requests), err)
	}
}

func TestS4U2Self_ForeignIssuer(t *testing.T) {
	s := newSelf(t, func(c *S4U2SelfConfig) { c.User.Realm = other })
	n := newRealms(t, s.cfg.TGT)
	_, err := run(t, s, func(step int, r *Request) []byte {
		if step == 0 {
			return n.refer(r, other)
		}
		return selfIssue(t, r.Message, n.tgts[other]).seal(t)
	})
	wantField(t, err, "sname")
}

func TestS4U2Self_RealmProbeBounded(t *testing.T) {
	for name, c := range map[string]struct {
		next     func(n int) string
		requests int
	}{
		"loop":        {func(n int) string { return []string{other, realm}[n%2] }, 2},
		"eleven hops": {func(n int) string { return "R" + strings.Repeat("1", n+1) }, 11},
		"no realm":    {func(int) string { return "" }, 1},
	} {
		s := newSelf(t, func(c *S4U2SelfConfig) { c.User = bobUPN })
		requests, err := run(t, s, func(n int, r *Request) []byte { return wrongRealm(t, r, c.next(n)) })
		var e *ReferralError
		if !errors.As(err, &e) || len(requests) != c.requests {
			t.Errorf("%s: %d requests, error %v", name, len(requests), err)
		}
	}
}

func TestS4U_ErrorsFinal(t *testing.T) {
	for _, code := range []messages.ErrorCode{
		messages.KDC_ERR_C_PRINCIPAL_UNKNOWN, messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, messages.KDC_ERR_BADOPTION, messages.KDC_ERR_CLIENT_REVOKED,
	} {
		refuse := refusing(t, code)
		for name, m := range map[string]Machine{
			"S4U2Self":        newSelf(t, nil),
			"S4U2Self by UPN": newSelf(t, func(c *S4U2SelfConfig) { c.User = bobUPN }),
			"S4U2Proxy":       newProxy(t, nil),
		} {
			requests, err := run(t, m, refuse)
			wantCode(t, err, code)
			if len(requests) != 1 {
				t.Errorf("%s, %s: asked %v", name, code, asked(t, requests))
			}
		}
	}
}

// sfu is what of the file of [MS-SFU] vectors is used here.
type sfu struct {
	ForUser struct {
		Value      vectors.Hex `json:"padata_value"`
		SessionKey vectors.Key `json:"session_key"`
	} `json:"captured_pa_for_user"`
	X509      x509User `json:"captured_pa_s4u_x509_user"`
	X509Reply x509User `json:"captured_pa_s4u_x509_user_reply"`
}

type x509User struct {
	Value vectors.Hex `json:"padata_value"`
	Key   vectors.Key
}

func TestS4U_CapturedElements(t *testing.T) {
	var v sfu
	vectors.Load(t, "ms-sfu.json", &v)
	user := messages.Principal{Name: messages.NewPrincipalName(messages.KRB_NT_ENTERPRISE, "alice"), Realm: realm}
	s := newSelf(t, func(c *S4U2SelfConfig) { c.User, c.TGT.Key = user, keyOf(t, v.ForUser.SessionKey) })
	s.route = newRoute(s.cfg.TGT, nil, nil)
	const nonce = 0x73a7f901
	padata := must.OK(s.padata(nonce, keyOf(t, v.X509.Key)))(t)
	if got, _ := padata.Find(messages.PA_FOR_USER); !slices.Equal(got, v.ForUser.Value) {
		t.Errorf("PA-FOR-USER\n%x, not\n%x", got, v.ForUser.Value)
	}
	if got, _ := padata.Find(messages.PA_S4U_X509_USER); !slices.Equal(got, v.X509.Value) {
		t.Errorf("PA-S4U-X509-USER\n%x, not\n%x", got, v.X509.Value)
	}
	q := &tgsRequest{realm: realm, nonce: nonce, subkey: keyOf(t, v.X509Reply.Key)}
	answer := &tgsReply{
		rep: &messages.KDCRep{
			CName: user.Name, CRealm: realm, PAData: messages.MethodData{{Type: messages.PA_S4U_X509_USER, Value: v.X509Reply.Value}},
		},
		part: &messages.EncKDCRepPart{},
	}
	if err := s.verify(answer, q); err != nil {
		t.Errorf("the KDC's element: %v", err)
	}
	q.nonce++
	wantField(t, s.verify(answer, q), "nonce")
}

func TestTranscript_S4U2Self(t *testing.T) {
	done := 0
	for name, exchanges := range transcripts(t) {
		for i := range exchanges {
			x := &exchanges[i]
			if x.Kind != "TGS" || !x.isS4U(t) {
				continue
			}
			rep := must.OK(messages.ParseKDCRep(x.Reply))(t)
			body := parseRequest(t, x.Request).Body
			s := newSelf(t, func(c *S4U2SelfConfig) {
				c.Service, c.ETypes = body.SName, body.EType
				c.TGT, _ = x.presented(t)
				c.User = messages.Principal{Name: rep.CName, Realm: rep.CRealm}
				c.User.Name.NameType = messages.KRB_NT_PRINCIPAL // its realm is known
				c.Rand = &forced{nonce: body.Nonce}
				// The KDC's PA-S4U-X509-USER is of MIT's subkey; the ticket proves the user.
				id := enctype.ID(x.Expect.Ticket.EType)
				c.Keys = heldKeys{{id, 0}: must.OK(enctype.NewKey(id, x.Expect.Ticket.ServiceKey))(t)}
			})
			must.OK(s.Step(nil))(t)
			if _, err := s.Step(x.resealed(t, s.open.subkey)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			x.wantRecorded(t, s.Result().Credential)
			if a := s.Result().Credential.Account; a == nil || *a != (messages.Account{}) { // MIT's PAC has no LOGON_INFO
				t.Errorf("account %v", a)
			}
			done++
		}
	}
	if done != 1 {
		t.Errorf("%d replies", done)
	}
}

// The checksum of PA-FOR-USER is of one type, whatever the key's ([MS-SFU] 2.2.1).
func TestS4U_ForUserChecksums(t *testing.T) {
	var v struct {
		ForUser []struct {
			SessionKey vectors.Key       `json:"session_key"`
			NameType   messages.NameType `json:"name_type"`
			Name       []string
			Realm      string
			Package    string               `json:"auth_package"`
			Type       enctype.ChecksumType `json:"checksum_type"`
			Usage      enctype.Usage
			Checksum   vectors.Hex
		} `json:"pa_for_user"`
	}
	vectors.Load(t, "ms-sfu.json", &v)
	if len(v.ForUser) < 10 {
		t.Fatalf("%d vectors only", len(v.ForUser))
	}
	for _, c := range v.ForUser {
		user := messages.Principal{Name: messages.NewPrincipalName(c.NameType, c.Name...), Realm: c.Realm}
		s := newSelf(t, func(cfg *S4U2SelfConfig) { cfg.User, cfg.TGT.Key = user, keyOf(t, c.SessionKey) })
		s.route = newRoute(s.cfg.TGT, nil, nil)
		padata := must.OK(s.padata(1, newKey(t, enctype.AES256_CTS_HMAC_SHA1_96)))(t)
		value, _ := padata.Find(messages.PA_FOR_USER)
		pa := must.OK(messages.ParsePAForUser(value))(t)
		if pa.Cksum.Type != c.Type || c.Usage != enctype.KEY_USAGE_PA_FOR_USER || pa.AuthPackage != c.Package || !slices.Equal(pa.Cksum.Value, c.Checksum) {
			t.Errorf("%s with a key of %v: %x, want %x", user, keyOf(t, c.SessionKey).EType(), pa.Cksum.Value, c.Checksum)
		}
	}
}
