package accept

import (
	"slices"
	"strconv"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/pac"
)

// Account is what the PAC of a ticket says of the client. It is signed with the account's key: the
// signatures of the KDC cannot be verified by a service.
type Account struct {
	Name    string // sAMAccountName
	Domain  string // NetBIOS name
	UPN     string // "" if absent
	Machine bool   // the account is a computer's or a trust's
	SID     pac.SID
	// Groups are those that the client is a member of: GroupIds, PrimaryGroupId, ExtraSids and
	// ResourceGroupIds.
	Groups []pac.SID
	// DenyOnly are those that may deny something to the client and allow nothing.
	DenyOnly []pac.SID
}

// Attributes of a group ([MS-PAC], Section 2.2.1).
const (
	groupEnabled  = 0x4
	groupDenyOnly = 0x10
)

// readAccount verifies the PAC and returns the account, nil if there is none.
func readAccount(ticket *messages.EncTicketPart, key enctype.Key) (*Account, error) {
	p, err := pac.OfTicket(ticket, key)
	if err != nil || p == nil || p.Logon == nil {
		return nil, err
	}
	a := newAccount(p.Logon)
	if p.UPN != nil {
		a.UPN = p.UPN.UPN
	}
	return a, nil
}

func newAccount(info *pac.LogonInfo) *Account {
	a := &Account{
		Name: info.EffectiveName, Domain: info.LogonDomainName, Machine: info.UserAccountControl.Machine(),
		Groups: make([]pac.SID, 0, 1+len(info.GroupIDs)+len(info.ExtraSIDs)+len(info.ResourceGroupIDs)),
	}
	extra := info.ExtraSIDs
	if info.UserID != 0 {
		a.SID = inDomain(info.LogonDomainID, info.UserID)
	} else if len(extra) > 0 { // an account of another domain than the groups
		a.SID, extra = extra[0].SID, extra[1:]
	}
	for _, g := range info.GroupIDs {
		a.add(inDomain(info.LogonDomainID, g.RID), g.Attributes)
	}
	if !slices.ContainsFunc(info.GroupIDs, func(g pac.Group) bool { return g.RID == info.PrimaryGroupID }) {
		a.add(inDomain(info.LogonDomainID, info.PrimaryGroupID), groupEnabled)
	}
	for _, g := range extra {
		a.add(g.SID, g.Attributes)
	}
	for _, g := range info.ResourceGroupIDs {
		a.add(inDomain(info.ResourceGroupDomainSID, g.RID), g.Attributes)
	}
	return a
}

func (a *Account) add(group pac.SID, attributes uint32) {
	switch {
	case group == "":
	case attributes&groupEnabled != 0 && attributes&groupDenyOnly == 0:
		a.Groups = append(a.Groups, group)
	default:
		a.DenyOnly = append(a.DenyOnly, group)
	}
}

// inDomain returns the SID of a member of a domain, "" if the domain has none.
func inDomain(domain pac.SID, rid uint32) pac.SID {
	if domain == "" {
		return ""
	}
	return domain + "-" + pac.SID(strconv.FormatUint(uint64(rid), 10))
}
