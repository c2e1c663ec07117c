package spnego

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func dotted(oids []OID) []string {
	var out []string
	for _, o := range oids {
		out = append(out, o.String())
	}
	return out
}

func TestOIDsAreThoseRegistered(t *testing.T) {
	ours := map[string]OID{
		"spnego": SPNEGO, "krb5": KRB5, "ms_krb5": MSKRB5, "krb5_user2user": KRB5UserToUser, "ntlmssp": NTLMSSP, "negoex": NEGOEX,
	}
	v := readVectors(t)
	for name, oid := range ours {
		if got, want := oid.String(), v.OIDs[name]; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, bad := range []OID{"", "\x2b\x86", "\x2b\x80\x01", OID(strings.Repeat("\xff", 20))} {
		if got := bad.String(); got != "" {
			t.Errorf("%q is no OID, but reads %s", string(bad), got)
		}
	}
	if got := OID("\x88\x37\x03").String(); got != "2.999.3" {
		t.Errorf("an arc beyond 2.39 reads %s, want 2.999.3", got)
	}
}

func TestStatesAreThoseOfRFC4178(t *testing.T) {
	for name, number := range readVectors(t).States {
		if got := NegState(number).String(); got != name {
			t.Errorf("state %d is %s, want %s", number, got, name)
		}
	}
	if got := NegState(9).String() + NoState.String(); got != "negState 9none" {
		t.Error(got)
	}
}

func TestVectorsParseAndEncodeToTheSameBytes(t *testing.T) {
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
	got, err := ParseInit(v.DER)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v.MechTypes, dotted(got.MechTypes)); diff != "" {
		t.Error(diff)
	}
	want := &NegTokenInit{
		MechTypes: got.MechTypes, RawMechTypes: got.RawMechTypes, ReqFlags: v.ReqFlags,
		MechToken: v.MechToken, MechListMIC: v.MechListMIC, HintName: v.HintName,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if v.Kind == "NegTokenInit" {
		if again := got.Append(nil); !bytes.Equal(again, v.DER) {
			t.Errorf("encoded again: %x", again)
		}
	} else if _, err := ParseReply(v.DER); err == nil {
		t.Error("a hint was taken for an answer")
	}
}

func checkResp(t *testing.T, v vector) {
	got, err := ParseReply(v.DER)
	if err != nil {
		t.Fatal(err)
	}
	want := &NegTokenResp{
		State: NoState, SupportedMech: got.SupportedMech, ResponseToken: v.ResponseToken, MechListMIC: v.MechListMIC,
	}
	if v.NegState != nil {
		want.State = NegState(*v.NegState)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.SupportedMech.String() != v.SupportedMech {
		t.Errorf("mechanism %s, want %s", got.SupportedMech, v.SupportedMech)
	}
	if again := got.Append(nil); !bytes.Equal(again, v.DER) {
		t.Errorf("encoded again: %x", again)
	}
}

func TestPrefixAndTokenMakeTheTokenOfMIT(t *testing.T) {
	tokens, _ := liveTokens(t)
	for _, want := range tokens {
		init, err := ParseInit(want)
		if err != nil {
			t.Fatal(err)
		}
		got := append(AppendInitPrefix(nil, len(init.MechToken)), init.MechToken...)
		if !bytes.Equal(got, want) {
			t.Errorf("got %x\nwant %x", got, want)
		}
	}
}

func TestPrefixFitsEveryLengthOfToken(t *testing.T) {
	for _, n := range []int{0, 1, 80, 90, 100, 110, 127, 128, 200, 220, 255, 256, 65400, 65535, 65536, 70000} {
		token := bytes.Repeat([]byte{0xa5}, n)
		b := append(AppendInitPrefix([]byte("kept"), n), token...)
		init, err := ParseInit(bytes.TrimPrefix(b, []byte("kept")))
		if err != nil {
			t.Fatalf("%d octets: %v", n, err)
		}
		if !bytes.Equal(init.MechToken, token) || len(init.MechTypes) != 1 || !init.MechTypes[0].IsKerberos() {
			t.Errorf("%d octets: %+v", n, init)
		}
	}
}

func TestAnswersOfMITParse(t *testing.T) {
	_, tokens := liveTokens(t)
	bare := 0
	for _, b := range tokens {
		resp, err := ParseReply(b)
		if err != nil {
			t.Fatal(err)
		}
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
		t.Error("no answer of 22 octets without a token among the vectors")
	}
}

func TestKerberosIsKnownByBothNames(t *testing.T) {
	for oid, want := range map[OID]bool{KRB5: true, MSKRB5: true, KRB5UserToUser: false, NTLMSSP: false, NEGOEX: false, "": false} {
		if got := oid.IsKerberos(); got != want {
			t.Errorf("%s: %v", oid, got)
		}
	}
}

func TestEveryTruncationFails(t *testing.T) {
	initiator, acceptor := liveTokens(t)
	for n := range initiator[0] {
		if _, err := ParseInit(initiator[0][:n]); err == nil {
			t.Errorf("NegTokenInit cut to %d octets was accepted", n)
		}
	}
	for n := range acceptor[0] {
		if _, err := ParseResp(acceptor[0][:n]); err == nil {
			t.Errorf("NegTokenResp cut to %d octets was accepted", n)
		}
	}
}

func TestWhatFollowsATokenIsRefused(t *testing.T) {
	initiator, acceptor := liveTokens(t)
	if _, err := ParseInit(append(initiator[0], 0)); err == nil {
		t.Error("NegTokenInit with an octet too many was accepted")
	}
	if _, err := ParseReply(append(acceptor[0], 0)); err == nil {
		t.Error("NegTokenResp with an octet too many was accepted")
	}
}

func TestFieldsOfLaterRevisionsAreSkipped(t *testing.T) {
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

func FuzzParseInit(f *testing.F) {
	for _, v := range readVectors(f).Cases {
		f.Add([]byte(v.DER))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		init, err := ParseInit(b)
		if err != nil {
			return
		}
		again, err := ParseInit(init.Append(nil))
		if err != nil {
			t.Fatalf("%x does not survive being encoded: %v", b, err)
		}
		init.HintName = "" // not written
		init.RawMechTypes, again.RawMechTypes = nil, nil
		if diff := cmp.Diff(init, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParseReply(f *testing.F) {
	for _, v := range readVectors(f).Cases {
		f.Add([]byte(v.DER))
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
