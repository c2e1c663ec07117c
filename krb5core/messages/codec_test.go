package messages

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// eachValue runs a test for every value of every PDU, with its golden encoding.
func eachValue(t *testing.T, test func(t *testing.T, p pdu, value marshaler, golden []byte)) {
	all := goldens(t)
	for _, p := range pdus {
		for variant, value := range p.values {
			name := p.name + " " + variant
			t.Run(name, func(t *testing.T) {
				golden, ok := all[name]
				if !ok {
					t.Fatalf("messages.json has no %q", name)
				}
				test(t, p, value, golden)
			})
		}
	}
}

func TestMarshal_Golden(t *testing.T) {
	eachValue(t, func(t *testing.T, _ pdu, value marshaler, golden []byte) {
		if got := value.Marshal(); !bytes.Equal(got, golden) {
			t.Errorf("Marshal:\n got %x\nwant %x", got, golden)
		}
	})
	n := 0
	for _, p := range pdus {
		n += len(p.values)
	}
	if all := goldens(t); n != len(all) {
		t.Errorf("%d values, %d golden encodings", n, len(all))
	}
}

func TestParse_Golden(t *testing.T) {
	eachValue(t, func(t *testing.T, p pdu, value marshaler, golden []byte) {
		got := must.OK(p.parse(golden))(t)
		if again := got.Marshal(); !bytes.Equal(again, golden) {
			t.Errorf("Marshal after parsing:\n got %x\nwant %x", again, golden)
		}
		stripRaw(got)
		if again := got.Marshal(); !bytes.Equal(again, golden) {
			t.Errorf("Marshal of the fields:\n got %x\nwant %x", again, golden)
		}
		want := reflect.ValueOf(value)
		if want.Kind() == reflect.Pointer {
			want = want.Elem()
		}
		if diff := cmp.Diff(want.Interface(), reflect.Indirect(reflect.ValueOf(got)).Interface()); diff != "" {
			t.Errorf("value (-want +got):\n%s", diff)
		}
	})
}

func TestParse_Truncated(t *testing.T) {
	eachValue(t, func(t *testing.T, p pdu, _ marshaler, golden []byte) {
		for n := range golden {
			if v, err := p.parse(golden[:n:n]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%d of %d bytes: %v, %v", n, len(golden), v, err)
			}
		}
	})
}

func TestBytesAfterAMessage(t *testing.T) {
	eachValue(t, func(t *testing.T, p pdu, value marshaler, golden []byte) {
		for _, tail := range [][]byte{{0}, make([]byte, 7), {0x30, 0}} {
			v, err := p.parse(append(bytes.Clone(golden), tail...))
			switch {
			case padded[p.name] && err != nil:
				t.Errorf("padding %x is refused: %v", tail, err)
			case padded[p.name] && !bytes.Equal(v.Marshal(), golden):
				t.Errorf("padding %x changes the value", tail)
			case !padded[p.name] && !errors.Is(err, ErrMalformed):
				t.Errorf("bytes %x after it: %v", tail, err)
			}
		}
	})
}

// Every constructed element in turn is given an indefinite length, which BER allows and DER
// forbids.
func TestParse_IndefiniteLengths(t *testing.T) {
	eachValue(t, func(t *testing.T, p pdu, _ marshaler, golden []byte) {
		for i, encoding := range withIndefiniteLengths(t, golden) {
			if v, err := p.parse(encoding); !errors.Is(err, ErrMalformed) {
				t.Errorf("element %d, %x: %v, %v", i, encoding, v, err)
			}
		}
	})
}

// withIndefiniteLengths returns copies of an encoding, in each of which one constructed element has
// an indefinite length.
func withIndefiniteLengths(t *testing.T, encoding []byte) (list [][]byte) {
	s := der.String(encoding)
	for i := 0; !s.Empty(); i++ {
		rest := s
		var content der.String
		var tag der.Tag
		if !s.ReadAnyASN1(&content, &tag) {
			t.Fatalf("%x is no DER", encoding)
		}
		if byte(tag)&0x20 == 0 {
			continue
		}
		before, element := encoding[:len(encoding)-len(rest)], rest[:len(rest)-len(s)]
		around := func(inner []byte) []byte {
			return append(append(bytes.Clone(before), inner...), s...)
		}
		list = append(list, around(append(append([]byte{byte(tag), 0x80}, content...), 0, 0)))
		for _, inner := range withIndefiniteLengths(t, content) {
			list = append(list, around(der.AppendBytes(nil, tag, inner)))
		}
		if !bytes.Equal(element, der.AppendBytes(nil, tag, content)) {
			t.Fatalf("%x is not minimal", element)
		}
	}
	return list
}

// A later revision of a structure appends fields; older readers skip them.
func TestUnknownFieldsAtTheEndAreSkipped(t *testing.T) {
	lists := map[string]bool{
		"AuthorizationData": true, "METHOD-DATA": true, "TYPED-DATA": true, "ETYPE-INFO": true, "ETYPE-INFO2": true,
		"TD-DH-PARAMETERS": true, "TD-TRUSTED-CERTIFIERS": true,
	}
	eachValue(t, func(t *testing.T, p pdu, _ marshaler, golden []byte) {
		if lists[p.name] || golden[0]&0x20 == 0 {
			return // what follows the last element of a list is another element, and a primitive has no fields
		}
		extended := extendOuterSequence(t, golden, der.AppendField(nil, 30, der.AppendOctetString, []byte("new")))
		got, err := p.parse(extended)
		if err != nil {
			t.Fatalf("%x: %v", extended, err)
		}
		stripRaw(got)
		if again := got.Marshal(); !bytes.Equal(again, golden) {
			t.Errorf("Marshal:\n got %x\nwant %x", again, golden)
		}
		// The field before the first one is no extension.
		if _, err := p.parse(extendOuterSequence(t, golden, der.AppendField(nil, 0, der.AppendOctetString, []byte("old")))); err == nil {
			t.Error("a field out of order is accepted")
		}
	})
}

// extendOuterSequence appends a field to the outermost SEQUENCE of an encoding.
func extendOuterSequence(t *testing.T, encoding, field []byte) []byte {
	s := der.String(encoding)
	var content der.String
	var tag der.Tag
	if !s.ReadAnyASN1(&content, &tag) || !s.Empty() {
		t.Fatalf("%x is not one element", encoding)
	}
	if tag == der.TagSequence {
		return der.AppendBytes(nil, tag, append(bytes.Clone(content), field...))
	}
	return der.AppendBytes(nil, tag, extendOuterSequence(t, content, field))
}

func TestParsersRefuseOtherMessages(t *testing.T) {
	all := goldens(t)
	for _, p := range pdus {
		other := "EncTicketPart full"
		if p.name == "EncTicketPart" {
			other = "Ticket full"
		}
		if _, err := p.parse(all[other]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s accepts %s: %v", p.name, other, err)
		}
	}
	// msg-type must agree with the application tag.
	asReq := bytes.Clone(all["KDC-REQ minimal"])
	asReq[bytes.Index(asReq, []byte{0xa2, 3, 2, 1, 10})+4] = 12
	if _, err := ParseKDCReq(asReq); !errors.Is(err, ErrMalformed) {
		t.Errorf("an AS-REQ that says TGS-REQ: %v", err)
	}
	// So must the version.
	apReq := bytes.Clone(all["AP-REQ full"])
	apReq[bytes.Index(apReq, []byte{0xa0, 3, 2, 1, 5})+4] = 4
	if _, err := ParseAPReq(apReq); !errors.Is(err, ErrMalformed) {
		t.Errorf("an AP-REQ of version 4: %v", err)
	}
}

func TestParse_Allocations(t *testing.T) {
	const size = 1 << 16
	// The smallest elements make the most of them.
	names := der.AppendCoded(nil, codePrincipalName, &PrincipalName{1, make([]string, size/2)})
	krbError := (&KRBError{SName: PrincipalName{NameString: make([]string, size/2)}}).Marshal()
	methodData := MethodData(make([]PAData, size/10)).Marshal()
	for name, test := range map[string]struct {
		b     []byte
		parse func(b []byte) error
	}{
		"names": {names, func(b []byte) error {
			s := der.String(b)
			der.ReadCoded(&s, codePrincipalName, new(PrincipalName))
			return nil
		}},
		"KRB-ERROR": {krbError, func(b []byte) error { _, err := ParseKRBError(b); return err }},
		"padata":    {methodData, func(b []byte) error { _, err := ParseMethodData(b); return err }},
		"lying length": {
			[]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xf0, 0x30}, func(b []byte) error {
				if _, err := ParseMethodData(b); err == nil {
					return errors.New("accepted")
				}
				return nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := uint64(math.MaxUint64)
			for range 5 { // what others allocate beside counts too: the least is ours
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				must.Do(t, test.parse(test.b))
				runtime.ReadMemStats(&after)
				got = min(got, after.TotalAlloc-before.TotalAlloc)
			}
			// A string header is 16 bytes of 2 on the wire, and growing a slice may cost as much
			// again a few times.
			if limit := uint64(64*len(test.b) + 4096); got > limit {
				t.Errorf("%d bytes of input allocate %d, limit %d", len(test.b), got, limit)
			}
		})
	}
}

func TestOriginalBytesAreKept(t *testing.T) {
	// A ticket keeps a field that is unknown here.
	future := extendOuterSequence(t, ticket.Marshal(), der.AppendField(nil, 9, der.AppendInt, 1))
	parsed := must.OK(ParseTicket(future))(t)
	rep := &KDCRep{MsgType: KRB_TGS_REP, CRealm: realm, CName: alice, Ticket: *parsed, EncPart: sealed}
	again := must.OK(ParseKDCRep(rep.Marshal()))(t)
	cred := NewCredential(again, &EncKDCRepPart{Key: sessionKey, AuthTime: time0, EndTime: time2, SRealm: realm, SName: web})
	if !bytes.Equal(cred.Ticket, future) {
		t.Errorf("the credential's ticket is %x, not %x", cred.Ticket, future)
	}
	if cred.Start() != time0 {
		t.Errorf("a ticket without start time starts at %s", cred.Start())
	}
	// A body's checksum covers the body as it came.
	req := extendOuterSequence(t, body0.Marshal(), der.AppendField(nil, 12, der.AppendInt, 1))
	parsedBody := must.OK(ParseKDCReqBody(req))(t)
	if got := parsedBody.Marshal(); !bytes.Equal(got, req) {
		t.Errorf("the body is %x, not %x", got, req)
	}
}

func TestPAEncTSEncSplitsTheTime(t *testing.T) {
	p := NewPAEncTSEnc(time0.Add(123456789 * time.Nanosecond).In(time.FixedZone("", 3600)))
	if p.PATimestamp != time0 || p.PAUSec != 123456 {
		t.Errorf("%+v", p)
	}
}

// Clients and acceptors may send lengths with more bytes than needed; KDCs do not.
func TestParse_LongLengths(t *testing.T) {
	exchanged := map[string]bool{"AP-REQ": true, "AP-REP": true, "KRB-ERROR": true}
	eachValue(t, func(t *testing.T, p pdu, _ marshaler, golden []byte) {
		v, err := p.parse(vectors.LongLengths(golden))
		if !exchanged[p.name] {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("accepted: %v, %v", v, err)
			}
			return
		}
		must.Do(t, err)
		stripRaw(v)
		if again := v.Marshal(); !bytes.Equal(again, golden) {
			t.Errorf("Marshal after parsing:\n got %x\nwant %x", again, golden)
		}
	})
}
