package messages

import (
	"bytes"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// fuzz holds a parser to two promises for every input: it does not panic, and what it accepts has
// one encoding, which it reads back.
func fuzz(f *testing.F, name string) {
	i := 0
	for pdus[i].name != name {
		i++
	}
	p := pdus[i]
	all := goldens(f)
	for variant := range p.values {
		f.Add(all[name+" "+variant])
		f.Add(vectors.LongLengths(all[name+" "+variant]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := p.parse(b)
		if err != nil {
			return
		}
		stripRaw(v)
		canonical := v.Marshal()
		again, err := p.parse(canonical)
		if err != nil {
			t.Fatalf("%x is written as %x, which does not parse: %v", b, canonical, err)
		}
		stripRaw(again)
		if got := again.Marshal(); !bytes.Equal(got, canonical) {
			t.Fatalf("%x is written as %x, then as %x", b, canonical, got)
		}
	})
}

func FuzzKDCReq(f *testing.F)            { fuzz(f, "KDC-REQ") }
func FuzzKDCReqBody(f *testing.F)        { fuzz(f, "KDC-REQ-BODY") }
func FuzzKDCRep(f *testing.F)            { fuzz(f, "KDC-REP") }
func FuzzEncKDCRepPart(f *testing.F)     { fuzz(f, "EncKDCRepPart") }
func FuzzTicket(f *testing.F)            { fuzz(f, "Ticket") }
func FuzzEncTicketPart(f *testing.F)     { fuzz(f, "EncTicketPart") }
func FuzzAuthenticator(f *testing.F)     { fuzz(f, "Authenticator") }
func FuzzAPReq(f *testing.F)             { fuzz(f, "AP-REQ") }
func FuzzAPRep(f *testing.F)             { fuzz(f, "AP-REP") }
func FuzzEncAPRepPart(f *testing.F)      { fuzz(f, "EncAPRepPart") }
func FuzzKRBCred(f *testing.F)           { fuzz(f, "KRB-CRED") }
func FuzzEncKrbCredPart(f *testing.F)    { fuzz(f, "EncKrbCredPart") }
func FuzzKRBPriv(f *testing.F)           { fuzz(f, "KRB-PRIV") }
func FuzzEncKrbPrivPart(f *testing.F)    { fuzz(f, "EncKrbPrivPart") }
func FuzzEncryptedData(f *testing.F)     { fuzz(f, "EncryptedData") }
func FuzzChecksum(f *testing.F)          { fuzz(f, "Checksum") }
func FuzzAuthorizationData(f *testing.F) { fuzz(f, "AuthorizationData") }
func FuzzMethodData(f *testing.F)        { fuzz(f, "METHOD-DATA") }
func FuzzTypedData(f *testing.F)         { fuzz(f, "TYPED-DATA") }
func FuzzETypeInfo2(f *testing.F)        { fuzz(f, "ETYPE-INFO2") }
func FuzzETypeInfo(f *testing.F)         { fuzz(f, "ETYPE-INFO") }
func FuzzPAEncTSEnc(f *testing.F)        { fuzz(f, "PA-ENC-TS-ENC") }
func FuzzPACOptions(f *testing.F)        { fuzz(f, "PA-PAC-OPTIONS") }
func FuzzPAForUser(f *testing.F)         { fuzz(f, "PA-FOR-USER") }
func FuzzPAS4UX509User(f *testing.F)     { fuzz(f, "PA-S4U-X509-USER") }
func FuzzFastRequest(f *testing.F)       { fuzz(f, "PA-FX-FAST-REQUEST") }
func FuzzKrbFastReq(f *testing.F)        { fuzz(f, "KrbFastReq") }
func FuzzFastReply(f *testing.F)         { fuzz(f, "PA-FX-FAST-REPLY") }
func FuzzKrbFastResponse(f *testing.F)   { fuzz(f, "KrbFastResponse") }
func FuzzPASPAKE(f *testing.F)           { fuzz(f, "PA-SPAKE") }
func FuzzPAPKASReq(f *testing.F)         { fuzz(f, "PA-PK-AS-REQ") }
func FuzzAuthPack(f *testing.F)          { fuzz(f, "AuthPack") }
func FuzzPAPKASRep(f *testing.F)         { fuzz(f, "PA-PK-AS-REP") }
func FuzzKDCDHKeyInfo(f *testing.F)      { fuzz(f, "KDCDHKeyInfo") }
func FuzzTDDHParameters(f *testing.F)    { fuzz(f, "TD-DH-PARAMETERS") }
func FuzzTDCertifiers(f *testing.F)      { fuzz(f, "TD-TRUSTED-CERTIFIERS") }
func FuzzKRB5PrincipalName(f *testing.F) { fuzz(f, "KRB5PrincipalName") }
func FuzzSPAKESecondFactor(f *testing.F) { fuzz(f, "SPAKESecondFactor") }
func FuzzKerbErrorData(f *testing.F)     { fuzz(f, "KERB-ERROR-DATA") }
func FuzzKRBError(f *testing.F)          { fuzz(f, "KRB-ERROR") }

// FuzzKRBErrorData holds e-data of any content to never hiding the error that it came with.
func FuzzKRBErrorData(f *testing.F) {
	for _, b := range goldens(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e := must.OK(ParseKRBError((&KRBError{STime: time0, ErrorCode: KDC_ERR_CLIENT_REVOKED, SName: none, EData: data}).Marshal()))(t)
		if e.Code() != KDC_ERR_CLIENT_REVOKED || !bytes.HasPrefix([]byte(e.Error()), []byte("KDC_ERR_CLIENT_REVOKED (18)")) {
			t.Fatalf("%d: %s", e.Code(), e.Error())
		}
	})
}

func FuzzParsePrincipal(f *testing.F) {
	for _, s := range []string{"alice", "HTTP/web@R", `a\/b\@c\\d\n\0@R\@S`, "@", "/", `x\`, "a@b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePrincipal(s, "DEFAULT")
		if err != nil {
			return
		}
		again, err := ParsePrincipal(p.String(), "OTHER")
		if err != nil || !again.Equal(p) || again.Name.NameType != p.Name.NameType {
			t.Fatalf("%q is %v, written %q, then %v, %v", s, p, p.String(), again, err)
		}
	})
}
