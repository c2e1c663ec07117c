package pac

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// foreign is the file of PACs that domain controllers have issued.
type foreign struct {
	Signed    []signedVector
	Unsigned  []struct{ PAC vectors.Hex }
	LogonInfo []struct {
		Value vectors.Hex
		logonVector
	} `json:"logon_info"`
}

type signedVector struct {
	Name     string
	PAC      vectors.Hex
	Key      vectors.Key
	Client   string
	AuthTime int64 `json:"auth_time"`
	logonVector
	UPN       string
	DNSDomain string `json:"dns_domain"`
	// Constructed is for an account without a UPN of its own.
	Constructed bool
}

type logonVector struct {
	EffectiveName  string             `json:"effective_name"`
	UserID         uint32             `json:"user_id"`
	PrimaryGroupID uint32             `json:"primary_group_id"`
	DomainName     string             `json:"domain_name"`
	DomainID       SID                `json:"domain_id"`
	AccountControl AccountControl     `json:"account_control"`
	Machine        bool               `json:"machine"`
	Groups         []Group            `json:"groups"`
	ExtraSIDs      []SIDAndAttributes `json:"extra_sids"`
	UserFlags      uint32             `json:"user_flags"`
	ResourceDomain SID                `json:"resource_domain"`
	ResourceGroups []Group            `json:"resource_groups"`
}

func (v *logonVector) want() *LogonInfo {
	return &LogonInfo{
		EffectiveName: v.EffectiveName, UserID: v.UserID, PrimaryGroupID: v.PrimaryGroupID, GroupIDs: v.Groups, UserFlags: v.UserFlags,
		LogonDomainName: v.DomainName, LogonDomainID: v.DomainID, UserAccountControl: v.AccountControl, ExtraSIDs: v.ExtraSIDs,
		ResourceGroupDomainSID: v.ResourceDomain, ResourceGroupIDs: v.ResourceGroups,
	}
}

func load(t testing.TB) (v foreign) {
	vectors.Load(t, "ms-pac.json", &v)
	if len(v.Signed) != 3 || len(v.Unsigned) != 1 || len(v.LogonInfo) != 2 {
		t.Fatal("vectors are missing")
	}
	return v
}

func (v *signedVector) key(t testing.TB) enctype.Key {
	t.Helper()
	return must.OK(enctype.NewKey(enctype.ID(v.Key.EType), v.Key.Key))(t)
}

// ticket is the ticket that a PAC is in.
func (v *signedVector) ticket(pac []byte) *messages.EncTicketPart {
	return &messages.EncTicketPart{
		CName:             messages.NewPrincipalName(messages.KRB_NT_PRINCIPAL, v.Client),
		AuthTime:          time.Unix(v.AuthTime, 0),
		AuthorizationData: messages.AuthorizationData{messages.IfRelevant(messages.AuthorizationDataElement{Type: messages.AD_WIN2K_PAC, Value: pac})},
	}
}

func TestVectors_Signed(t *testing.T) {
	for _, v := range load(t).Signed {
		p := must.OK(OfTicket(v.ticket(v.PAC), v.key(t)))(t)
		if diff := cmp.Diff(v.want(), p.Logon); diff != "" {
			t.Errorf("%s: %s", v.Name, diff)
		}
		if p.Logon.UserAccountControl.Machine() != v.Machine {
			t.Errorf("%s: is it a machine's?", v.Name)
		}
		if (p.UPN != nil) != (v.UPN != "") || p.UPN != nil && (p.UPN.UPN != v.UPN || p.UPN.DNSDomainName != v.DNSDomain || p.UPN.Constructed != v.Constructed) {
			t.Errorf("%s: UPN %+v", v.Name, p.UPN)
		}
	}
}

func TestVectors_Unsigned(t *testing.T) {
	v := load(t)
	if p := must.OK(Parse(v.Unsigned[0].PAC))(t); !cmp.Equal(p.Logon, v.LogonInfo[0].want()) || p.Client.Name != "lzhu" {
		t.Errorf("%q: %s", p.Client.Name, cmp.Diff(v.LogonInfo[0].want(), p.Logon))
	}
	for i := range v.LogonInfo {
		if diff := cmp.Diff(v.LogonInfo[i].want(), must.OK(parseLogonInfo(v.LogonInfo[i].Value))(t)); diff != "" {
			t.Error(diff)
		}
	}
}
