package pac_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// What the tests' KDC writes is read back, with keys of every type.
func TestOfTicket_RoundTrip(t *testing.T) {
	at := time.Date(2026, 11, 20, 5, 52, 49, 0, time.UTC)
	for _, id := range []enctype.ID{
		enctype.AES128_CTS_HMAC_SHA1_96, enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA256_128, enctype.AES256_CTS_HMAC_SHA384_192,
		enctype.CAMELLIA128_CTS_CMAC, enctype.CAMELLIA256_CTS_CMAC, enctype.RC4_HMAC, enctype.DES3_CBC_SHA1,
	} {
		key := must.OK(enctype.GenerateKey(id, bytes.NewReader(bytes.Repeat([]byte{0xa7, 0x31, byte(id)}, 100))))(t)
		for _, want := range []kdctest.PAC{
			{Client: "alice", AuthTime: at},
			{Client: "zoë", AuthTime: at, Account: "zoë", UPN: "zoë@corp.example", Domain: "CORP", DNS: "CORP.EXAMPLE", Groups: []uint32{1104, 1105}},
			{Client: "𐌰", AuthTime: at, Account: "dc1$", Machine: true, UPN: "dc1$@corp.example", Domain: "CORP", DNS: "CORP.EXAMPLE"},
		} {
			signed := must.OK(want.Signed(key, key))(t)
			got := must.OK(pac.OfTicket(&messages.EncTicketPart{
				CName: messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, want.Client), AuthTime: at,
				AuthorizationData: messages.AuthorizationData{messages.IfRelevant(messages.AuthorizationDataElement{Type: messages.AD_WIN2K_PAC, Value: signed})},
			}, key))(t)
			if got.Client.Name != want.Client || !got.Client.AuthTime.Equal(at) || (got.Logon != nil) != (want.Account != "") {
				t.Fatalf("%s: %+v", id, got.Client)
			}
			if got.Logon == nil {
				continue
			}
			groups := []pac.Group{{RID: 513, Attributes: 7}}
			for _, rid := range want.Groups {
				groups = append(groups, pac.Group{RID: rid, Attributes: 7})
			}
			if diff := cmp.Diff(groups, got.Logon.GroupIDs); diff != "" {
				t.Error(diff)
			}
			if l := got.Logon; l.EffectiveName != want.Account || l.UserAccountControl.Machine() != want.Machine || l.LogonDomainName != want.Domain ||
				l.LogonDomainID != "S-1-5-21-1-2-3" || len(l.ExtraSIDs) != 1 || l.ExtraSIDs[0].SID != "S-1-18-2" {
				t.Errorf("%s: %+v", id, l)
			}
			if u := got.UPN; u.UPN != want.UPN || u.DNSDomainName != want.DNS || u.SAMName != want.Account || len(u.SID) < len("S-1-5-21-1-2-3-1000") {
				t.Errorf("%s: %+v", id, u)
			}
		}
	}
}
