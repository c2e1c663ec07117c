package accept

import (
	"slices"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
)

func TestNewAccount_Groups(t *testing.T) {
	const domain, resources = "S-1-5-21-1-2-3", "S-1-5-21-7-8-9"
	info := &pac.LogonInfo{
		EffectiveName: "alice", UserID: 1103, PrimaryGroupID: 513, LogonDomainID: domain,
		GroupIDs:               []pac.Group{{RID: 512, Attributes: 7}, {RID: 1104, Attributes: 0x10}, {RID: 1105, Attributes: 0x17}, {RID: 1106, Attributes: 0}},
		ExtraSIDs:              []pac.SIDAndAttributes{{SID: "S-1-18-1", Attributes: 7}, {SID: "S-1-5-32-544", Attributes: 0x10}},
		ResourceGroupDomainSID: resources, ResourceGroupIDs: []pac.Group{{RID: 2000, Attributes: 0x20000007}},
	}
	a := newAccount(info)
	if a.SID != domain+"-1103" {
		t.Errorf("SID %s", a.SID)
	}
	if want := []pac.SID{domain + "-512", domain + "-513", "S-1-18-1", resources + "-2000"}; !slices.Equal(a.Groups, want) {
		t.Errorf("groups %q, want %q", a.Groups, want)
	}
	if want := []pac.SID{domain + "-1104", domain + "-1105", domain + "-1106", "S-1-5-32-544"}; !slices.Equal(a.DenyOnly, want) {
		t.Errorf("deny only %q, want %q", a.DenyOnly, want)
	}
	// A primary group that only denies is listed with that attribute.
	info.GroupIDs = []pac.Group{{RID: 513, Attributes: 0x10}}
	if a = newAccount(info); slices.Contains(a.Groups, domain+"-513") || !slices.Contains(a.DenyOnly, domain+"-513") {
		t.Errorf("primary group: %q, deny only %q", a.Groups, a.DenyOnly)
	}
	// Without a number of its own, the account is the first of the further SIDs.
	info.UserID = 0
	if a = newAccount(info); a.SID != "S-1-18-1" || slices.Contains(a.Groups, "S-1-18-1") {
		t.Errorf("SID %s, groups %q", a.SID, a.Groups)
	}
	if a = newAccount(&pac.LogonInfo{}); a.SID != "" || len(a.Groups) != 0 {
		t.Errorf("nothing: %+v", a)
	}
}
