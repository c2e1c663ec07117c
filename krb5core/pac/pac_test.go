package pac

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestOfTicket_FlippedBit(t *testing.T) {
	for _, v := range load(t).Signed {
		p := must.OK(Parse(v.PAC))(t)
		_, unsigned, end, err := p.signature(p.kdcSignature)
		must.Do(t, err)
		for at := range v.PAC {
			for bit := range 8 {
				spoilt := bytes.Clone(v.PAC)
				spoilt[at] ^= 1 << bit
				_, err := OfTicket(v.ticket(spoilt), v.key(t))
				if covered := at < unsigned || at >= end; (err != nil) != covered {
					t.Fatalf("%s: bit %d of byte %d of %d: %v", v.Name, bit, at, len(v.PAC), err)
				}
			}
		}
	}
}

func TestParse_Truncated(t *testing.T) {
	v := load(t)
	for _, s := range v.Signed {
		for n := range s.PAC {
			if _, err := OfTicket(s.ticket(s.PAC[:n:n]), s.key(t)); err == nil {
				t.Errorf("%s: %d of %d bytes pass", s.Name, n, len(s.PAC))
			}
		}
	}
	for i := range v.LogonInfo {
		whole := v.LogonInfo[i].Value
		for n := range whole {
			short := bytes.Clone(whole[:n])
			if _, err := parseLogonInfo(short); err == nil {
				t.Errorf("%d of %d bytes of LOGON_INFO pass", n, len(whole))
			}
			if n < 16 {
				continue
			}
			binary.LittleEndian.PutUint32(short[8:], uint32(n-16)) // consistent with the header
			// The last structures may end in padding.
			if _, err := parseLogonInfo(short); err == nil && len(whole)-n > 4 {
				t.Errorf("%d of %d bytes of LOGON_INFO pass", n, len(whole))
			}
		}
	}
}

func TestOfTicket_OtherTicket(t *testing.T) {
	for _, v := range load(t).Signed {
		for name, change := range map[string]func(*messages.EncTicketPart){
			"another client":             func(part *messages.EncTicketPart) { part.CName.NameString = []string{"other"} },
			"the client in another case": func(part *messages.EncTicketPart) { part.CName.NameString[0] = strings.ToUpper(v.Client) },
			"a later login":              func(part *messages.EncTicketPart) { part.AuthTime = part.AuthTime.Add(time.Second) },
			"two": func(part *messages.EncTicketPart) {
				part.AuthorizationData = slices.Repeat(part.AuthorizationData, 2)
			},
			"two in one": func(part *messages.EncTicketPart) {
				e := messages.AuthorizationDataElement{Type: messages.AD_WIN2K_PAC, Value: v.PAC}
				part.AuthorizationData = messages.AuthorizationData{messages.IfRelevant(e, e)}
			},
			"an empty one before": func(part *messages.EncTicketPart) {
				e := messages.AuthorizationDataElement{Type: messages.AD_WIN2K_PAC}
				part.AuthorizationData = append(messages.AuthorizationData{messages.IfRelevant(e)}, part.AuthorizationData...)
			},
			"garbage beside": func(part *messages.EncTicketPart) {
				part.AuthorizationData = append(part.AuthorizationData, messages.AuthorizationDataElement{Type: messages.AD_IF_RELEVANT, Value: []byte{1}})
			},
		} {
			part := v.ticket(v.PAC)
			change(part)
			if p, err := OfTicket(part, v.key(t)); err == nil {
				t.Errorf("%s, %s: %+v", v.Name, name, p.Client)
			}
		}
		none := v.ticket(nil)
		none.AuthorizationData = messages.AuthorizationData{messages.IfRelevant(messages.AuthorizationDataElement{Type: -1, Value: []byte{1}})}
		if p, err := OfTicket(none, v.key(t)); p != nil || err != nil {
			t.Errorf("%s: none is %v, %v", v.Name, p, err)
		}
	}
}

// A signature of another type of checksum, or with another key, proves less or nothing.
func TestOfTicket_OtherSignature(t *testing.T) {
	v := load(t).Signed[1]
	other := must.OK(enctype.NewKey(enctype.AES256_CTS_HMAC_SHA1_96, bytes.Repeat([]byte{1}, 32)))(t)
	if _, err := OfTicket(v.ticket(v.PAC), other); !errors.Is(err, enctype.ErrIntegrity) {
		t.Errorf("with another key: %v", err)
	}
	// KERB_CHECKSUM_HMAC_MD5, good as it is, which enctype accepts of any key.
	p := must.OK(Parse(v.PAC))(t)
	at := p.serverSignature
	signed := append(bytes.Clone(v.PAC[:at.end]), make([]byte, 8)...) // room for 16 bytes
	signed = append(signed, v.PAC[at.end:]...)
	for i := range binary.LittleEndian.Uint32(signed) {
		entry := signed[sizeHeader+sizeEntry*i:]
		switch offset := binary.LittleEndian.Uint64(entry[8:]); {
		case binary.LittleEndian.Uint32(entry) == typeServerSignature:
			binary.LittleEndian.PutUint32(entry[4:], uint32(at.end-at.start)+8)
		case offset > uint64(at.start):
			binary.LittleEndian.PutUint64(entry[8:], offset+8)
		}
	}
	kind := enctype.KERB_CHECKSUM_HMAC_MD5
	binary.LittleEndian.PutUint32(signed[at.start:], uint32(kind))
	p = must.OK(Parse(signed))(t)
	_, start, end, err := p.signature(p.serverSignature)
	must.Do(t, err)
	zeroed := bytes.Clone(signed)
	clear(zeroed[start:end])
	_, from, to, err := p.signature(p.kdcSignature)
	must.Do(t, err)
	clear(zeroed[from:to])
	copy(signed[start:end], must.OK(enctype.HMACMD5(v.key(t), usageSignature, zeroed))(t))
	if _, err := OfTicket(v.ticket(signed), v.key(t)); !errors.Is(err, enctype.ErrUnsupported) {
		t.Errorf("signed with HMAC-MD5 and a key of AES: %v", err)
	}
}

// list is a PAC of empty buffers, by type, size and offset.
func list(count uint32, size int, entries ...[3]uint64) []byte {
	b := make([]byte, size)
	binary.LittleEndian.PutUint32(b, count)
	for i, e := range entries {
		at := b[sizeHeader+sizeEntry*i:]
		binary.LittleEndian.PutUint32(at, uint32(e[0]))
		binary.LittleEndian.PutUint32(at[4:], uint32(e[1]))
		binary.LittleEndian.PutUint64(at[8:], e[2])
	}
	return b
}

func TestParse_Buffers(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"no buffers":         list(0, 8),
		"more than fit":      list(1<<31, 64),
		"before the list":    list(1, 64, [3]uint64{99, 8, 0}),
		"in the list":        list(1, 64, [3]uint64{99, 8, 16}),
		"after the end":      list(1, 64, [3]uint64{99, 8, 64}),
		"wraps":              list(1, 64, [3]uint64{99, 16, 1<<64 - 8}),
		"long":               list(1, 64, [3]uint64{99, 1<<32 - 1, 24}),
		"not aligned":        list(1, 64, [3]uint64{99, 8, 25}),
		"overlap":            list(2, 64, [3]uint64{98, 16, 40}, [3]uint64{99, 8, 48}),
		"no signature":       list(1, 64, [3]uint64{typeClientInfo, 16, 24}),
		"no client":          list(1, 64, [3]uint64{typeServerSignature, 16, 24}),
		"two clients":        list(3, 128, [3]uint64{typeServerSignature, 16, 56}, [3]uint64{typeClientInfo, 16, 72}, [3]uint64{typeClientInfo, 16, 88}),
		"two signatures":     list(3, 128, [3]uint64{typeServerSignature, 16, 56}, [3]uint64{typeServerSignature, 16, 72}, [3]uint64{typeClientInfo, 16, 88}),
		"a client cut short": list(2, 128, [3]uint64{typeServerSignature, 16, 56}, [3]uint64{typeClientInfo, 8, 72}),
	} {
		if _, err := Parse(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := list(2, 128, [3]uint64{typeServerSignature, 16, 40}, [3]uint64{typeClientInfo, 16, 56})
	must.OK(Parse(good))(t)
	// A signature of an unknown type, or too short for its type.
	ticket := &messages.EncTicketPart{AuthorizationData: messages.AuthorizationData{{Type: messages.AD_WIN2K_PAC, Value: good}}}
	key := load(t).Signed[1].key(t)
	if _, err := OfTicket(ticket, key); !errors.Is(err, ErrMalformed) {
		t.Errorf("signature of type 0: %v", err)
	}
	binary.LittleEndian.PutUint32(good[40:], uint32(enctype.CKSUMTYPE_HMAC_SHA384_192_AES256))
	if _, err := OfTicket(ticket, key); !errors.Is(err, ErrMalformed) {
		t.Errorf("signature cut short: %v", err)
	}
}

func TestParseUPNInfo(t *testing.T) {
	wide := func(s string) (b []byte) {
		for _, r := range s {
			b = append(b, byte(r), byte(r>>8))
		}
		return b
	}
	good := []byte{8, 0, 20, 0, 4, 0, 28, 0, 3, 0, 0, 0, 4, 0, 32, 0, 12, 0, 36, 0}
	good = append(good, wide("u@dxddsa")...)
	good = append(good, 1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0)
	info := must.OK(parseUPNInfo(good))(t)
	if *info != (UPNInfo{UPN: "u@dx", DNSDomainName: "dd", Constructed: true, SAMName: "sa", SID: "S-1-5-18"}) {
		t.Errorf("%+v", info)
	}
	for n := range good {
		if _, err := parseUPNInfo(good[:n]); err == nil {
			t.Errorf("%d of %d bytes pass", n, len(good))
		}
	}
	for name, change := range map[string]func(b []byte){
		"offset":        func(b []byte) { b[3] = 1 },
		"odd":           func(b []byte) { b[0] = 7 },
		"SID's offset":  func(b []byte) { b[19] = 1 },
		"SID's version": func(b []byte) { b[36] = 2 },
		"SID's count":   func(b []byte) { b[37] = 2 },
		"surrogate":     func(b []byte) { b[20], b[21] = 0, 0xd8 },
		"lone, at end":  func(b []byte) { b[26], b[27] = 0, 0xd8 },
	} {
		b := bytes.Clone(good)
		change(b)
		if info, err := parseUPNInfo(b); err == nil {
			t.Errorf("%s: %+v", name, info)
		}
	}
}

func TestParseSID(t *testing.T) {
	for want, b := range map[SID][]byte{
		"S-1-0":                     {1, 0, 0, 0, 0, 0, 0, 0},
		"S-1-5-32-544":              {1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0},
		"S-1-4294967295-4294967295": {1, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255},
		"S-1-0x010000000000-1":      {1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0},
	} {
		if sid := must.OK(parseSID(b))(t); sid != want {
			t.Errorf("%s, want %s", sid, want)
		}
	}
}

// Counts that the structure announces are no reason to allocate.
func TestParseLogonInfo_Counts(t *testing.T) {
	good := load(t).LogonInfo[1].Value
	const groupCount, sidCount, resourceCount = 20 + 108, 20 + 196, 20 + 208 // after the headers
	info := must.OK(parseLogonInfo(good))(t)
	for at, have := range map[int]int{groupCount: len(info.GroupIDs), sidCount: len(info.ExtraSIDs), resourceCount: len(info.ResourceGroupIDs)} {
		if got := binary.LittleEndian.Uint32(good[at:]); got != uint32(have) {
			t.Fatalf("byte %d is %d, not a count of %d", at, got, have)
		}
		for _, n := range []uint32{0, uint32(have) + 1, 1 << 20, 1<<32 - 1} {
			spoilt := bytes.Clone(good)
			binary.LittleEndian.PutUint32(spoilt[at:], n)
			if _, err := parseLogonInfo(spoilt); err == nil {
				t.Errorf("%d at %d passes", n, at)
			}
		}
	}
	huge := make([]byte, 64)
	r := &ndr{b: huge}
	binary.LittleEndian.PutUint32(huge, 1<<31)
	if list := r.groups(true, 1<<31); len(list) != 0 || !errors.Is(r.err, errShort) {
		t.Errorf("%d groups, %v", len(list), r.err)
	}
}

func FuzzParse(f *testing.F) {
	v := load(f)
	for _, s := range v.Signed {
		f.Add([]byte(s.PAC))
	}
	for _, u := range v.Unsigned {
		f.Add([]byte(u.PAC))
	}
	f.Add(list(2, 128, [3]uint64{typeServerSignature, 16, 40}, [3]uint64{typeClientInfo, 16, 56}))
	signed := v.Signed[1]
	key, pristine := signed.key(f), string(signed.PAC)
	f.Fuzz(func(t *testing.T, b []byte) {
		before := string(b)
		p, err := OfTicket(signed.ticket(b), key)
		if err == nil && p != nil && before != pristine {
			// Nothing but the KDC's signature may differ.
			q := must.OK(Parse([]byte(pristine)))(t)
			_, start, end, _ := q.signature(q.kdcSignature)
			if len(b) != len(pristine) || before[:start] != pristine[:start] || before[end:] != pristine[end:] {
				t.Fatal("another PAC passes")
			}
		}
		if p, err := Parse(b); err == nil && p.Logon != nil {
			if size := len(p.Logon.GroupIDs) + len(p.Logon.ExtraSIDs) + len(p.Logon.ResourceGroupIDs); size*8 > len(b) {
				t.Fatalf("%d groups in %d bytes", size, len(b))
			}
		}
		if string(b) != before {
			t.Fatal("the input was changed")
		}
	})
}

// FuzzLogonInfo reaches deeper, as its input needs no list of buffers around it.
func FuzzLogonInfo(f *testing.F) {
	v := load(f)
	for i := range v.LogonInfo {
		f.Add([]byte(v.LogonInfo[i].Value), []byte(nil))
	}
	f.Add([]byte(nil), []byte{8, 0, 12, 0, 0, 0, 12, 0, 0, 0, 0, 0, 'a', 0, '@', 0, 'b', 0, 'c', 0})
	f.Fuzz(func(_ *testing.T, logon, upn []byte) {
		_, _ = parseLogonInfo(logon)
		_, _ = parseUPNInfo(upn)
		_, _ = parseClientInfo(upn)
	})
}
