package pac

// LogonInfo is what is read of KERB_VALIDATION_INFO ([MS-PAC], Section 2.5).
type LogonInfo struct {
	EffectiveName      string // the account's sAMAccountName
	UserID             uint32 // relative to LogonDomainID
	PrimaryGroupID     uint32 // relative to LogonDomainID
	GroupIDs           []Group
	UserFlags          uint32
	LogonDomainName    string // NetBIOS
	LogonDomainID      SID
	UserAccountControl AccountControl
	ExtraSIDs          []SIDAndAttributes
	// Groups of the domain of the service.
	ResourceGroupDomainSID SID
	ResourceGroupIDs       []Group // relative to ResourceGroupDomainSID
}

// Group is a GROUP_MEMBERSHIP ([MS-PAC], Section 2.2.2).
type Group struct {
	RID        uint32
	Attributes uint32 // SE_GROUP_*
}

// SIDAndAttributes is a KERB_SID_AND_ATTRIBUTES ([MS-PAC], Section 2.2.1).
type SIDAndAttributes struct {
	SID        SID
	Attributes uint32 // SE_GROUP_*
}

// AccountControl has the flags of an account, as [MS-SAMR], Section 2.2.1.12 numbers them: not
// those of the attribute userAccountControl.
type AccountControl uint32

// The flags of accounts that are not people's.
const (
	USER_INTERDOMAIN_TRUST_ACCOUNT AccountControl = 0x40
	USER_WORKSTATION_TRUST_ACCOUNT AccountControl = 0x80
	USER_SERVER_TRUST_ACCOUNT      AccountControl = 0x100 // a domain controller's
)

// Machine reports whether the account is a computer's or a trust's, whose name by convention ends
// in a dollar sign.
func (a AccountControl) Machine() bool {
	return a&(USER_INTERDOMAIN_TRUST_ACCOUNT|USER_WORKSTATION_TRUST_ACCOUNT|USER_SERVER_TRUST_ACCOUNT) != 0
}

// parseLogonInfo reads the structure first and then, in the order of its pointers, what they point
// to.
func parseLogonInfo(b []byte) (*LogonInfo, error) {
	r := &ndr{b: b}
	r.header()
	r.skip(2 * 6) // the times of logon, logoff, kickoff and of the password
	effectiveName := r.text()
	var others [5]text // the full name, logon script, profile, home directory and its drive
	for i := range others {
		others[i] = r.text()
	}
	r.skip(1) // the counts of logons and bad passwords
	info := &LogonInfo{UserID: r.uint32(), PrimaryGroupID: r.uint32()}
	groups, hasGroups := r.uint32(), r.uint32() != 0
	info.UserFlags = r.uint32()
	r.skip(4) // the session key of NTLM
	server, domain, hasDomainID := r.text(), r.text(), r.uint32() != 0
	r.skip(2)
	info.UserAccountControl = AccountControl(r.uint32())
	r.skip(1 + 2*2 + 2) // the status of the logon, the times and count of the last ones
	extra, hasExtra := r.uint32(), r.uint32() != 0
	hasResourceDomain := r.uint32() != 0
	resource, hasResource := r.uint32(), r.uint32() != 0

	name := r.characters(effectiveName)
	for _, t := range others {
		r.characters(t)
	}
	info.GroupIDs = r.groups(hasGroups, groups)
	r.characters(server)
	domainName := r.characters(domain)
	info.LogonDomainID = r.sid(hasDomainID)
	info.ExtraSIDs = r.sids(hasExtra, extra)
	info.ResourceGroupDomainSID = r.sid(hasResourceDomain)
	info.ResourceGroupIDs = r.groups(hasResource, resource)
	if r.err != nil {
		return nil, r.err
	}
	var err error
	if info.EffectiveName, err = decodeUTF16(name); err != nil {
		return nil, err
	}
	info.LogonDomainName, err = decodeUTF16(domainName)
	return info, err
}

// sids reads an array of KERB_SID_AND_ATTRIBUTES that a pointer points to, and then the SIDs that
// its own pointers point to.
func (r *ndr) sids(set bool, announced uint32) []SIDAndAttributes {
	if !set {
		if announced != 0 {
			r.fail(errNoArray)
		}
		return nil
	}
	list := make([]SIDAndAttributes, r.count(announced, 8))
	present := make([]bool, len(list))
	for i := range list {
		present[i] = r.uint32() != 0
		list[i].Attributes = r.uint32()
	}
	for i := range list {
		list[i].SID = r.sid(present[i])
	}
	return list
}
