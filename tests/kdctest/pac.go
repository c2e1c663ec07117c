package kdctest

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// PAC is the content of a Privilege Attribute Certificate ([MS-PAC]). The domain is that
// of its SIDs: S-1-5-21-1-2-3.
type PAC struct {
	Account  string // sAMAccountName; "" leaves LOGON_INFO and UPN_DNS_INFO out, as MIT does
	Machine  bool   // the flag of a computer's account
	UPN      string
	Domain   string // NetBIOS
	DNS      string
	Client   string // PAC_CLIENT_INFO
	AuthTime time.Time
	Groups   []uint32 // beside Domain Users
}

// Signed returns the PAC with a signature of the service's key and one of the KDC's.
func (p *PAC) Signed(service, kdc enctype.Key) ([]byte, error) {
	client := binary.LittleEndian.AppendUint64(nil, fileTime(p.AuthTime))
	client = binary.LittleEndian.AppendUint16(client, uint16(len(utf16le(p.Client))))
	buffers := []pacBuffer{{10, append(client, utf16le(p.Client)...)}}
	if p.Account != "" {
		buffers = append(buffers, pacBuffer{1, p.logonInfo()}, pacBuffer{12, p.upnInfo()})
	}
	for kind, key := range []enctype.Key{service, kdc} {
		sum, err := key.Checksum(17, nil)
		if err != nil {
			return nil, err
		}
		content := binary.LittleEndian.AppendUint32(nil, uint32(key.ChecksumType()))
		buffers = append(buffers, pacBuffer{uint32(6 + kind), append(content, make([]byte, len(sum))...)})
	}
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(buffers)))
	out = binary.LittleEndian.AppendUint32(out, 0)
	at := 8 + 16*len(buffers)
	places := make([]int, len(buffers))
	for i, b := range buffers {
		places[i] = at
		out = binary.LittleEndian.AppendUint32(out, b.kind)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(b.content)))
		out = binary.LittleEndian.AppendUint64(out, uint64(at))
		at += (len(b.content) + 7) / 8 * 8
	}
	for i, b := range buffers {
		out = append(out, make([]byte, places[i]-len(out))...)
		out = append(out, b.content...)
	}
	out = append(out, make([]byte, at-len(out))...)
	// The KDC signs the service's signature ([MS-PAC], Section 2.8).
	n := len(buffers)
	sum, err := service.Checksum(17, out)
	if err != nil {
		return nil, err
	}
	signature, err := kdc.Checksum(17, sum)
	if err != nil {
		return nil, err
	}
	copy(out[places[n-2]+4:], sum)
	copy(out[places[n-1]+4:], signature)
	return out, nil
}

type pacBuffer struct {
	kind    uint32
	content []byte
}

// logonInfo is KERB_VALIDATION_INFO in NDR ([MS-PAC], Section 2.5).
func (p *PAC) logonInfo() []byte {
	var fixed, after []byte
	u32 := func(dst *[]byte, values ...uint32) {
		for _, v := range values {
			*dst = binary.LittleEndian.AppendUint32(*dst, v)
		}
	}
	pointer := uint32(0x20000)
	next := func() uint32 { pointer += 4; return pointer }
	text := func(s string) {
		b := utf16le(s)
		fixed = binary.LittleEndian.AppendUint16(fixed, uint16(len(b)))
		fixed = binary.LittleEndian.AppendUint16(fixed, uint16(len(b)))
		u32(&fixed, next())
		u32(&after, uint32(len(b)/2), 0, uint32(len(b)/2))
		after = append(after, b...)
		after = append(after, make([]byte, len(after)%4)...)
	}
	fixed = append(fixed, make([]byte, 6*8)...) // times
	text(p.Account)
	for range 5 {
		text("")
	}
	u32(&fixed, 0, p.rid(), 513, uint32(len(p.Groups)+1), next(), 0x20)
	u32(&after, uint32(len(p.Groups)+1))
	for _, rid := range append([]uint32{513}, p.Groups...) {
		u32(&after, rid, 7)
	}
	fixed = append(fixed, make([]byte, 16)...)
	text("DC1")
	text(p.Domain)
	u32(&fixed, next(), 0, 0)
	u32(&after, 4)
	after = append(after, domainSID()...)
	control := uint32(0x10)
	if p.Machine {
		control = 0x80
	}
	u32(&fixed, control, 0, 0, 0, 0, 0, 0, 0, 1, next(), 0, 0, 0)
	u32(&after, 1, next(), 7, 1) // S-1-18-2: a service has asserted the user
	after = append(after, 1, 1, 0, 0, 0, 0, 0, 18, 2, 0, 0, 0)
	body := append(append([]byte{0, 0, 2, 0}, fixed...), after...)
	body = append(body, make([]byte, (8-len(body)%8)%8)...)
	header := []byte{1, 0x10, 8, 0, 0xcc, 0xcc, 0xcc, 0xcc}
	u32(&header, uint32(len(body)), 0)
	return append(header, body...)
}

// upnInfo is the extended UPN_DNS_INFO ([MS-PAC], Section 2.10).
func (p *PAC) upnInfo() []byte {
	sid := domainSID()
	sid[1]++
	sid = binary.LittleEndian.AppendUint32(sid, p.rid())
	const flags, fixed = 2, 24
	parts := [][]byte{utf16le(p.UPN), utf16le(p.DNS), utf16le(p.Account), sid}
	head, rest := make([]byte, fixed), []byte(nil)
	for i, at := range []int{0, 4, 12, 16} {
		binary.LittleEndian.PutUint16(head[at:], uint16(len(parts[i])))
		binary.LittleEndian.PutUint16(head[at+2:], uint16(fixed+len(rest)))
		rest = append(rest, parts[i]...)
		rest = append(rest, make([]byte, (8-len(rest)%8)%8)...)
	}
	binary.LittleEndian.PutUint32(head[8:], flags)
	return append(head, rest...)
}

// rid is the account's number in the domain.
func (p *PAC) rid() uint32 {
	h := fnv.New32a()
	h.Write([]byte(p.Account))
	return 1000 + h.Sum32()%10000
}

func domainSID() []byte {
	return []byte{1, 4, 0, 0, 0, 0, 0, 5, 21, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0}
}

func utf16le(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// fileTime is in units of 100 ns since 1601.
func fileTime(t time.Time) uint64 { return uint64(t.Unix()+11_644_473_600) * 10_000_000 }

// IssuePACs puts a PAC into the tickets of the realm's own clients to services, as the
// KDC of an Active Directory domain does.
func (r *Realm) IssuePACs() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pacs = true
}

// RepeatNames has S4U2Self name users by the alias that was asked for, as Samba does.
func (r *Realm) RepeatNames() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repeat = true
}

func (r *Realm) repeatsNames() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.repeat
}

// withPAC returns authorization data with a new PAC in the place of an older one.
func (i *issue) withPAC(service enctype.Key) (messages.AuthorizationData, error) {
	data := slices.Clone(i.part.AuthorizationData)
	data = slices.DeleteFunc(data, func(e messages.AuthorizationDataElement) bool {
		_, pac := findAuthorization(messages.AuthorizationData{e}, messages.AD_WIN2K_PAC)
		return pac
	})
	name := strings.Join(i.part.CName.NameString, "/")
	i.realm.mu.RLock()
	enabled, client := i.realm.pacs, i.realm.principals[i.realm.fold(name)]
	var groups []uint32
	if client != nil {
		groups = client.groups
	}
	i.realm.mu.RUnlock()
	if _, tgs := i.sname.IsTGS(); !enabled || tgs || client == nil || i.part.CRealm != i.realm.name {
		return data, nil
	}
	pac := PAC{
		Account: client.name, Machine: strings.HasSuffix(client.name, "$"), UPN: client.upn(),
		Domain: strings.Split(i.realm.name, ".")[0], DNS: i.realm.name, Client: name, AuthTime: i.part.AuthTime, Groups: groups,
	}
	tgs := i.realm.Principal("krbtgt/" + i.realm.name).view()
	b, err := pac.Signed(service, tgs.keys[0].keys[0])
	if err != nil {
		return nil, err
	}
	return append(data, messages.IfRelevant(messages.AuthorizationDataElement{Type: messages.AD_WIN2K_PAC, Value: b})), nil
}

// upn is the account's user principal name: its own, or else the one that Active
// Directory makes up.
func (p *Principal) upn() string {
	p.realm.mu.RLock()
	defer p.realm.mu.RUnlock()
	if at := slices.IndexFunc(p.aliases, func(name string) bool { return strings.Contains(name, "@") }); at >= 0 {
		return p.aliases[at]
	}
	return p.name + "@" + strings.ToLower(p.realm.name)
}
