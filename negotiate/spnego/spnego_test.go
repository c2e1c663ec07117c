package spnego

import (
	"bytes"
	"encoding/asn1"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// dotted is the text form of an OID.
func dotted(o OID) string {
	var id asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(append([]byte{6, byte(len(o))}, o...), &id); err != nil {
		return ""
	}
	return id.String()
}

func TestNumbers(t *testing.T) {
	v := readVectors(t)
	for name, oid := range map[string]OID{"spnego": SPNEGO, "krb5": KRB5, "ms_krb5": MSKRB5, "ntlmssp": NTLMSSP} {
		if got, want := dotted(oid), v.OIDs[name]; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	states := map[string]int32{
		"accept-completed": int32(AcceptCompleted), "accept-incomplete": int32(AcceptIncomplete),
		"reject": int32(Reject), "request-mic": int32(RequestMIC),
	}
	if diff := cmp.Diff(v.States, states); diff != "" {
		t.Error(diff)
	}
}

func TestVectors(t *testing.T) {
	for _, v := range readVectors(t).Cases {
		t.Run(v.Kind+"/"+v.Name, func(t *testing.T) {
			switch v.Kind {
			case "NegTokenInit", "NegTokenInit2":
				checkInit(t, v)
			case "NegTokenResp":
				checkResp(t, v)
			case "krb5 GSS token":
				got, err := ParseReply(v.DER)
				want := &NegTokenResp{State: NoState, ResponseToken: v.DER}
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("%v %s", err, diff)
				}
			case "malformed":
				if got, err := ParseReply(v.DER); err == nil {
					t.Errorf("accepted as %+v", got)
				}
				if got, err := ParseInit(v.DER); err == nil {
					t.Errorf("accepted as %+v", got)
				}
			default:
				t.Fatalf("no test for kind %q", v.Kind)
			}
		})
	}
}

func checkInit(t *testing.T, v vector) {
	got := must.OK(ParseInit(v.DER))(t)
	if !IsInit(v.DER) || IsInit(v.MechToken) || IsInit(v.DER[:len(v.DER)-1]) {
		t.Error("IsInit does not tell it from others")
	}
	for i, o := range got.MechTypes {
		if len(got.MechTypes) != len(v.MechTypes) || dotted(o) != v.MechTypes[i] {
			t.Errorf("mechanisms %x, want %s", got.MechTypes, v.MechTypes)
		}
	}
	want := &NegTokenInit{
		MechTypes: got.MechTypes, RawMechTypes: got.RawMechTypes, MechToken: v.MechToken, MechListMIC: v.MechListMIC,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := ParseReply(v.DER); err == nil {
		t.Error("a hint was taken for an answer")
	}
}

func checkResp(t *testing.T, v vector) {
	got := must.OK(ParseReply(v.DER))(t)
	want := &NegTokenResp{
		State: NoState, SupportedMech: got.SupportedMech, ResponseToken: v.ResponseToken, MechListMIC: v.MechListMIC,
	}
	if v.NegState != nil {
		want.State = NegState(*v.NegState)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if dotted(got.SupportedMech) != v.SupportedMech {
		t.Errorf("mechanism %x, want %s", got.SupportedMech, v.SupportedMech)
	}
	if again := got.Append(nil); !bytes.Equal(again, v.DER) {
		t.Errorf("encoded again: %x", again)
	}
}

func TestAppendInitPrefix_AsMIT(t *testing.T) {
	tokens, _ := liveTokens(t)
	for _, want := range tokens {
		init := must.OK(ParseInit(want))(t)
		got := append(AppendInitPrefix(nil, len(init.MechToken)), init.MechToken...)
		if !bytes.Equal(got, want) {
			t.Errorf("got %x\nwant %x", got, want)
		}
	}
}

func TestAppendInitPrefix_Lengths(t *testing.T) {
	for _, n := range []int{0, 1, 80, 90, 100, 110, 127, 128, 200, 220, 255, 256, 65400, 65535, 65536, 70000} {
		token := bytes.Repeat([]byte{0xa5}, n)
		b := append(AppendInitPrefix([]byte("kept"), n), token...)
		init, err := ParseInit(bytes.TrimPrefix(b, []byte("kept")))
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if !bytes.Equal(init.MechToken, token) || len(init.MechTypes) != 1 || !init.MechTypes[0].IsKerberos() {
			t.Errorf("%d bytes: %+v", n, init)
		}
	}
}

func TestParseReply_MIT(t *testing.T) {
	_, tokens := liveTokens(t)
	bare := 0
	for _, b := range tokens {
		resp := must.OK(ParseReply(b))(t)
		if resp.State != AcceptCompleted || resp.SupportedMech != KRB5 || resp.MechListMIC != nil {
			t.Errorf("%+v", resp)
		}
		if again := resp.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("encoded again: %x", again)
		}
		if len(b) == 22 && resp.ResponseToken == nil {
			bare++ // mutual authentication was not asked for
		}
	}
	if bare == 0 {
		t.Error("no answer of 22 bytes without a token among the vectors")
	}
}

func TestOID_IsKerberos(t *testing.T) {
	for oid, want := range map[OID]bool{KRB5: true, MSKRB5: true, NTLMSSP: false, "": false} {
		if got := oid.IsKerberos(); got != want {
			t.Errorf("%s: %v", oid, got)
		}
	}
}

func TestParse_Truncated(t *testing.T) {
	initiator, acceptor := liveTokens(t)
	for n := range initiator[0] {
		if _, err := ParseInit(initiator[0][:n]); err == nil {
			t.Errorf("NegTokenInit cut to %d bytes was accepted", n)
		}
	}
	for n := range acceptor[0] {
		if _, err := ParseResp(acceptor[0][:n]); err == nil {
			t.Errorf("NegTokenResp cut to %d bytes was accepted", n)
		}
	}
}

func TestParse_TrailingBytes(t *testing.T) {
	initiator, acceptor := liveTokens(t)
	if _, err := ParseInit(append(initiator[0], 0)); err == nil {
		t.Error("NegTokenInit with a byte too many was accepted")
	}
	if _, err := ParseReply(append(acceptor[0], 0)); err == nil {
		t.Error("NegTokenResp with a byte too many was accepted")
	}
	if _, err := ParseInit(bytes.Replace(initiator[0], []byte("\x06\x09"+KRB5), []byte("\x05\x09"+KRB5), 1)); err == nil {
		t.Error("a mechanism that is no OID was accepted")
	}
}

func TestParse_LaterRevisions(t *testing.T) {
	// NegTokenResp { negState accept-completed, [9] NULL }
	b := []byte{0xa1, 0x0b, 0x30, 0x09, 0xa0, 0x03, 0x0a, 0x01, 0x00, 0xa9, 0x02, 0x05, 0x00}
	if resp, err := ParseResp(b); err != nil || resp.State != AcceptCompleted {
		t.Errorf("%+v %v", resp, err)
	}
	b[9] = 0xa0 // negState again
	if _, err := ParseResp(b); err == nil {
		t.Error("a field given twice was accepted")
	}
}

func TestParse_LongLengths(t *testing.T) {
	initiator, acceptor := liveTokens(t)
	for i, b := range initiator {
		want := must.OK(ParseInit(b))(t)
		got := must.OK(ParseInit(vectors.LongLengths(b)))(t)
		if !bytes.Equal(got.RawMechTypes, vectors.LongLengths(want.RawMechTypes)) {
			t.Errorf("token %d: mechTypes, which a mechListMIC covers, are %x", i, got.RawMechTypes)
		}
		want.RawMechTypes = got.RawMechTypes
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	for _, b := range acceptor {
		want := must.OK(ParseReply(b))(t)
		if diff := cmp.Diff(want, must.OK(ParseReply(vectors.LongLengths(b)))(t)); diff != "" {
			t.Error(diff)
		}
	}
	for _, b := range [][]byte{{0xa1, 0x80, 0x30, 0x00, 0x00, 0x00}, {0xa1, 0x04, 0x30, 0x80, 0x00, 0x00}} {
		if got, err := ParseReply(b); err == nil {
			t.Errorf("%x, of indefinite length, is taken for %+v", b, got)
		}
	}
}

func FuzzParseInit(f *testing.F) {
	for _, v := range readVectors(f).Cases {
		f.Add([]byte(v.DER))
		f.Add(vectors.LongLengths(v.DER))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if init, err := ParseInit(b); err == nil && len(init.RawMechTypes)+len(init.MechToken) > len(b) {
			t.Errorf("%d bytes yield %+v", len(b), init)
		}
	})
}

func FuzzParseReply(f *testing.F) {
	for _, v := range readVectors(f).Cases {
		f.Add([]byte(v.DER))
		f.Add(vectors.LongLengths(v.DER))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		resp, err := ParseReply(b)
		if err != nil || bytes.Equal(resp.ResponseToken, b) {
			return
		}
		again, err := ParseResp(resp.Append(nil))
		if err != nil {
			t.Fatalf("%x does not survive being encoded: %v", b, err)
		}
		if diff := cmp.Diff(resp, again); diff != "" {
			t.Fatal(diff)
		}
	})
}
