package accept

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// maxToken bounds a token, in bytes: a ticket of 64 KiB and a delegated one of the same size are
// more than Windows makes.
const maxToken = 128 << 10

// ParseAuthorization returns the token, in base64, in the values of a request's Authorization
// field. It returns "" if there is no value. The error is an *Error.
func ParseAuthorization(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	scheme, text, _ := strings.Cut(strings.TrimSpace(values[0]), " ")
	text = strings.TrimSpace(text)
	switch {
	case len(values) > 1 || len(text) > base64.StdEncoding.EncodedLen(maxToken):
		return "", refuse(Malformed)
	case strings.EqualFold(scheme, "NTLM"):
		return "", refuse(NTLM)
	case !strings.EqualFold(scheme, "Negotiate"):
		return "", refuse(OtherMechanism)
	case text == "":
		return "", refuse(NoToken)
	}
	return text, nil
}

// offer is what the client's SPNEGO says beside its first token.
type offer struct {
	mech      spnego.OID // the client's name for Kerberos; "" without SPNEGO
	mechTypes []byte     // the encoded list, which a MIC covers
	mic       []byte     // nil if there is none
}

// ntlmSignature begins every message of NTLM ([MS-NLMP], Section 2.2.1).
const ntlmSignature = "NTLMSSP\x00"

// unwrap takes the AP-REQ out of the token.
func (x *exchange) unwrap() *Error {
	if x.recall() {
		return nil
	}
	if x.request.Base64 != "" {
		var err error
		if x.request.Token, err = base64.StdEncoding.DecodeString(x.request.Base64); err != nil {
			return because(Malformed, err)
		}
	}
	token := x.request.Token
	if len(token) > maxToken {
		return refuse(Malformed)
	}
	if spnego.IsInit(token) {
		init, err := spnego.ParseInit(token)
		if err != nil {
			return because(Malformed, err)
		}
		if reason := judge(init); reason != 0 {
			x.offer.mech = spnego.KRB5
			return refuse(reason)
		}
		x.offer = offer{init.MechTypes[0], init.RawMechTypes, init.MechListMIC}
		token = init.MechToken
	}
	const response = 0xa1 // a NegTokenResp, which only answers something
	switch {
	case len(token) == 0:
		return refuse(NoToken)
	case bytes.HasPrefix(token, []byte(ntlmSignature)):
		return refuse(NTLM)
	case token[0] == response:
		return refuse(NotFirst)
	}
	framed, err := gss.ParseToken(token)
	switch {
	case errors.Is(err, gss.ErrOtherMechanism):
		return because(OtherMechanism, err)
	case err != nil:
		return because(Malformed, err)
	}
	if x.req, err = messages.ParseAPReq(framed.Body); err != nil {
		return because(Malformed, err)
	}
	return nil
}

// judge returns why an offer is of no use, or 0. The first token is one of the mechanism that the
// client prefers. Another would take a second leg, and a MIC from both sides (RFC 4178, Section 5).
func judge(init *spnego.NegTokenInit) Reason {
	switch kerberos := slices.IndexFunc(init.MechTypes, spnego.OID.IsKerberos); {
	case kerberos == 0 && init.MechToken == nil:
		return NoToken
	case kerberos == 0:
		return 0
	case kerberos > 0:
		return NotPreferred
	case slices.Contains(init.MechTypes, spnego.NTLMSSP):
		return NTLM
	}
	return OtherMechanism
}

// wrap returns an answer as the client expects it: in SPNEGO, or the token alone.
func (o *offer) wrap(resp spnego.NegTokenResp) []byte {
	if o.mech == "" {
		return resp.ResponseToken
	}
	resp.SupportedMech = o.mech
	return resp.Append(make([]byte, 0, answerSize))
}
