package kdctest

import (
	"github.com/caddy-negotiate/caddy-negotiate/internal/der"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// Token ids of RFC 4121, Section 4.1.
const (
	tokenAPReq = 0x0100
	tokenAPRep = 0x0200
	tokenError = 0x0300
)

// frameToken adds RFC 2743's header to a Kerberos message: APPLICATION 0 { OID, token
// id, message }. Like Windows it uses the standard OID even if supportedMech is
// Microsoft's.
func frameToken(id uint16, message []byte) []byte {
	return der.Append(nil, der.Application(0), func(dst []byte) []byte {
		dst = der.AppendOID(dst, []byte(spnego.KRB5))
		dst = append(dst, byte(id>>8), byte(id))
		return append(dst, message...)
	})
}

// unframeToken reverses frameToken, for either OID of Kerberos.
func unframeToken(token []byte) (id uint16, message []byte, ok bool) {
	s := der.String(token)
	var body der.String
	var oid []byte
	if !s.ReadASN1(&body, der.Application(0)) || !s.Empty() ||
		!der.ReadOID(&body, &oid) || !spnego.OID(oid).IsKerberos() || !body.ReadUint16(&id) {
		return 0, nil, false
	}
	return id, body, true
}

// Accept verifies an initiator's first token, in SPNEGO or raw Kerberos. channel is
// EndPointBindings of the connection's certificate, nil without one. The reply token is
// to be sent even with an error; nil means a challenge without a token. The error is an
// *AcceptError.
func (a *Acceptor) Accept(token []byte, channel *[16]byte) (peer *Peer, reply []byte, err error) {
	peer, reply, err = a.accept(token, channel)
	a.count(func(c *AcceptorCounts) {
		if e, ok := err.(*AcceptError); ok {
			c.Refused[e.Kind]++
		} else {
			c.Accepted++
		}
	})
	return peer, reply, err
}

func (a *Acceptor) accept(token []byte, channel *[16]byte) (*Peer, []byte, error) {
	cfg, _ := a.config()
	inner, wrapped := token, false
	if init, err := spnego.ParseInit(token); err == nil {
		if len(init.MechTypes) == 0 || !init.MechTypes[0].IsKerberos() || init.MechToken == nil {
			// RFC 4178 lets an acceptor choose another mechanism and continue;
			// this one does not, since none of its clients does.
			return nil, nil, &AcceptError{Kind: "garbage", Text: "no optimistic kerberos token"}
		}
		inner, wrapped = init.MechToken, true
	}
	id, message, ok := unframeToken(inner)
	if !ok || id != tokenAPReq {
		return nil, nil, &AcceptError{Kind: "garbage", Text: "no kerberos token"}
	}
	wrap := func(state spnego.NegState, mechToken []byte) []byte {
		if !wrapped {
			return mechToken
		}
		resp := spnego.NegTokenResp{State: state, SupportedMech: spnego.KRB5, ResponseToken: mechToken}
		if cfg.MicrosoftMech {
			resp.SupportedMech = spnego.MSKRB5
		}
		return resp.Append(nil)
	}
	x, err := a.verifyAPReq(message, channel)
	if err != nil {
		if cfg.BareRefusals {
			return nil, nil, err
		}
		return nil, wrap(spnego.Reject, frameToken(tokenError, x.krbError(err.(*AcceptError)))), err
	}
	peer := x.peer()
	peer.SPNEGO, peer.TokenBytes = wrapped, len(token)
	refusal := cfg.Refuse
	if cfg.RefuseWhen != nil && !cfg.RefuseWhen() {
		refusal = RefuseNone
	}
	var mechToken []byte
	if x.sum.flags&gssMutualFlag != 0 && refusal != RefuseGood {
		if mechToken, err = x.apRep(); err != nil {
			return nil, nil, &AcceptError{Kind: "garbage", Text: err.Error()}
		}
	}
	switch refusal {
	case RefuseNone:
	case RefuseGood:
		return nil, nil, &AcceptError{Kind: "policy", Text: "good tokens are refused"}
	case RefuseGoodWithAPRep:
		return nil, wrap(spnego.AcceptCompleted, mechToken), &AcceptError{Kind: "policy", Text: "good tokens are refused"}
	}
	return peer, wrap(spnego.AcceptCompleted, mechToken), nil
}

// apRep returns a framed AP-REP with the client's time and a subkey of the acceptor
// (RFC 4121, Section 4.1.2).
func (x *acceptance) apRep() ([]byte, error) {
	subkey, err := enctype.GenerateKey(x.ticket.Key.EType(), x.cfg.Rand)
	if err != nil {
		return nil, err
	}
	part := messages.EncAPRepPart{
		CTime: x.auth.CTime, CUSec: x.auth.CUSec, Subkey: subkey,
		SeqNumber: x.auth.SeqNumber, HasSeqNumber: x.auth.HasSeqNumber,
	}
	cipher, err := x.ticket.Key.Encrypt(x.cfg.Rand, enctype.KEY_USAGE_AP_REP, part.Marshal())
	if err != nil {
		return nil, err
	}
	rep := messages.APRep{EncPart: messages.EncryptedData{EType: x.ticket.Key.EType(), Cipher: cipher}}
	return frameToken(tokenAPRep, rep.Marshal()), nil
}

// krbError returns the KRB-ERROR for a refusal, with the acceptor's time.
func (x *acceptance) krbError(refusal *AcceptError) []byte {
	e := messages.KRBError{
		STime: x.now, SUSec: microseconds(x.now), ErrorCode: refusal.Code, EText: refusal.Text,
	}
	if x.req != nil {
		e.Realm, e.SName = x.req.Ticket.Realm, x.req.Ticket.SName
	}
	if x.auth != nil {
		e.CTime, e.CUSec = x.auth.CTime, x.auth.CUSec
	}
	return e.Marshal()
}
