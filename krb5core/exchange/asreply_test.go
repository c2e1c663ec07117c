package exchange

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// replyFaults are the ways to spoil a reply that AS and TGS must notice alike.
var replyFaults = map[string]struct {
	spoil func(i *issue)
	field string
}{
	"wrong nonce":         {func(i *issue) { i.part.Nonce++ }, "nonce"},
	"other cname":         {func(i *issue) { i.rep.CName = messages.NewPrincipalName(1, "mallory") }, "cname"},
	"other crealm":        {func(i *issue) { i.rep.CRealm = "EVIL.TEST" }, "crealm"},
	"other sname":         {func(i *issue) { i.service(messages.NewPrincipalName(2, "kadmin", "changepw")) }, "sname"},
	"sname not ticket's":  {func(i *issue) { i.rep.Ticket.SName = messages.NewPrincipalName(2, "cifs", "evil") }, "sname"},
	"srealm not ticket's": {func(i *issue) { i.rep.Ticket.Realm = "EVIL.TEST" }, "srealm"},
	"key type not offered": {func(i *issue) {
		i.part.Key, _ = enctype.NewKey(enctype.RC4_HMAC, make([]byte, 16))
	}, "key.keytype"},
	"endtime in the past": {func(i *issue) {
		i.part.StartTime, i.part.EndTime = epoch.Add(-2*time.Hour), epoch.Add(-time.Hour)
	}, "endtime"},
	"endtime before starttime": {func(i *issue) {
		i.part.StartTime = i.part.AuthTime.Add(2 * time.Minute)
		i.part.EndTime = i.part.AuthTime.Add(time.Minute)
	}, "endtime"},
	"starttime far ahead": {func(i *issue) { i.part.StartTime = i.part.AuthTime.Add(time.Hour) }, "starttime"},
	"renewable but no renew-till": {func(i *issue) {
		i.part.Flags |= messages.TKT_FLG_RENEWABLE
		i.part.RenewTill = time.Time{}
	}, "renew-till"},
	"invalid ticket":   {func(i *issue) { i.part.Flags |= messages.TKT_FLG_INVALID }, "flags"},
	"postdated ticket": {func(i *issue) { i.part.Flags |= messages.TKT_FLG_POSTDATED }, "flags"},
	"anonymous ticket": {func(i *issue) { i.part.Flags |= messages.TKT_FLG_ANONYMOUS }, "flags"},
	"wrong usage":      {func(i *issue) { i.usage = enctype.KEY_USAGE_TICKET }, "enc-part"},
	"other reply key":  {func(i *issue) { i.key, _ = enctype.NewKey(aes256, make([]byte, 32)) }, "enc-part"},
}

func TestASReply_Spoilt(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	faults := map[string]struct {
		spoil func(i *issue)
		field string
	}{
		"TGS-REP":                  {func(i *issue) { i.rep.MsgType = messages.KRB_TGS_REP }, "msg-type"},
		"enc-part type not asked":  {func(i *issue) { i.key = mustKey(t, enctype.AES256_CTS_HMAC_SHA384_192, password, salt) }, "enc-part.etype"},
		"enc-pa-rep missing":       {func(i *issue) { i.part.EncryptedPAData = nil }, "PA-REQ-ENC-PA-REP"},
		"enc-pa-rep garbage":       {func(i *issue) { i.part.EncryptedPAData[0].Value = []byte{1} }, "PA-REQ-ENC-PA-REP"},
		"enc-pa-rep of other type": {func(i *issue) { encPARep(i, func(c *messages.Checksum) { c.Type = enctype.CKSUMTYPE_SHA1 }) }, "PA-REQ-ENC-PA-REP"},
		"enc-pa-rep spoilt":        {func(i *issue) { encPARep(i, func(c *messages.Checksum) { c.Value[0] ^= 1 }) }, "PA-REQ-ENC-PA-REP"},
		"request altered on its way": {func(i *issue) {
			sum, _ := key.Checksum(enctype.KEY_USAGE_AS_REQ, append([]byte{0}, i.request...))
			encPARep(i, func(c *messages.Checksum) { c.Value = sum })
		}, "PA-REQ-ENC-PA-REP"},
		"srealm not asked": {func(i *issue) { i.part.SRealm, i.rep.Ticket.Realm = "EVIL.TEST", "EVIL.TEST" }, "srealm"},
	}
	maps.Copy(faults, replyFaults)
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			a := newAS(t, nil)
			_, err := run(t, a, loggingIn(t, key, f.spoil))
			wantField(t, err, f.field)
		})
	}
}

func encPARep(i *issue, change func(*messages.Checksum)) {
	sum, _ := messages.ParseChecksum(i.part.EncryptedPAData[0].Value)
	change(sum)
	i.part.EncryptedPAData[0].Value = sum.Marshal()
}

func TestASReply_EncPARep(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	a := newAS(t, nil)
	must.OK(run(t, a, loggingIn(t, key, func(i *issue) {
		i.part.Flags &^= messages.TKT_FLG_ENC_PA_REP
		i.part.EncryptedPAData = nil
	})))(t)
}

func TestASReply_Canonicalize(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	for name, c := range map[string]struct {
		change func(i *issue)
		field  string
	}{
		"other client": {func(i *issue) {
			i.client(messages.Principal{Name: messages.NewPrincipalName(1, "Alice.A"), Realm: realm})
		}, ""},
		"other realm": {func(i *issue) {
			i.client(messages.Principal{Name: messages.NewPrincipalName(1, "alice"), Realm: "SUB.TEST"})
		}, "crealm"},
		"realm in full": {func(i *issue) { corrected(i, "FULL.TEST", messages.TGSName("FULL.TEST")) }, ""},
		"client's in full": {func(i *issue) {
			i.client(messages.Principal{Name: messages.NewPrincipalName(1, "alice"), Realm: "FULL.TEST"})
			corrected(i, "FULL.TEST", messages.TGSName("FULL.TEST"))
		}, ""},
		"no client":            {func(i *issue) { i.client(messages.Principal{Name: messages.NewPrincipalName(1, ""), Realm: realm}) }, "cname"},
		"other service":        {func(i *issue) { corrected(i, realm, messages.NewPrincipalName(2, "kadmin", "changepw")) }, "sname"},
		"TGT of third parties": {func(i *issue) { corrected(i, realm, messages.TGSName("EVIL.TEST")) }, "sname"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := run(t, newAS(t, func(cfg *ASConfig) { cfg.Canonicalize = true }), loggingIn(t, key, func(i *issue) {
				i.rep.PAData = messages.MethodData{info2(entry(aes256, salt))}
				c.change(i)
			}))
			wantField(t, err, c.field)
		})
	}
}

func corrected(i *issue, realm string, service messages.PrincipalName) {
	i.service(service)
	i.part.SRealm, i.rep.Ticket.Realm = realm, realm
}

func TestASReply_UnusableKey(t *testing.T) {
	const unknown = enctype.ID(99)
	a := newAS(t, func(c *ASConfig) { c.ETypes = []enctype.ID{aes256, unknown} })
	_, err := run(t, a, loggingIn(t, mustKey(t, aes256, password, salt), func(i *issue) {
		i.part.Key, _ = enctype.NewKey(unknown, make([]byte, 16))
	}))
	wantField(t, err, "key.keytype")
}

func TestASReply_ForeignErrors(t *testing.T) {
	key := mustKey(t, aes256, password, salt)
	a := newAS(t, nil)
	first := must.OK(a.Step(nil))(t)
	other := errorFor(t, first.Message, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN)
	other.CName = messages.NewPrincipalName(1, "mallory")
	wantField(t, a.Check(other.Marshal()), "cname")
	other = errorFor(t, first.Message, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN)
	other.SName = web
	wantField(t, a.Check(other.Marshal()), "sname")
	unnamed := errorFor(t, first.Message, messages.KDC_ERR_C_PRINCIPAL_UNKNOWN)
	unnamed.CName, unnamed.SName, unnamed.Realm = messages.PrincipalName{}, messages.NewPrincipalName(0), "<unspecified realm>"
	if err := a.Check(unnamed.Marshal()); err != nil {
		t.Errorf("an error without names: %v", err)
	}

	required := preAuthRequired(t, first.Message, entry(aes256, salt))
	second := must.OK(a.Step(required))(t)
	wantField(t, a.Check(required), "error-code") // a copy of what was answered already
	must.OK(a.Step(newASIssue(t, second.Message, key).seal(t)))(t)
}

// Heimdal sums without a key where that is of type des-cbc-crc, and only there that is enough.
func TestASReply_UnkeyedChecksum(t *testing.T) {
	request := []byte("a request")
	crc := must.OK(enctype.Digest(enctype.CKSUMTYPE_CRC32, request))(t)
	sum := &messages.Checksum{Type: enctype.CKSUMTYPE_CRC32, Value: crc}
	weak := newKey(t, enctype.DES_CBC_CRC)
	if err := verifySum(weak, sum, request); err != nil {
		t.Error(err)
	}
	if err := verifySum(weak, sum, []byte("another")); !errors.Is(err, enctype.ErrIntegrity) {
		t.Errorf("another request: %v", err)
	}
	for _, id := range []enctype.ID{enctype.DES_CBC_MD5, enctype.RC4_HMAC, aes256} {
		if err := verifySum(newKey(t, id), sum, request); err == nil {
			t.Errorf("%s: a checksum without a key was accepted", id)
		}
	}
}
