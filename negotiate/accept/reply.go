package accept

import (
	"io"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
)

// reply makes the answer to a good token. In SPNEGO one is due even if the client has not asked for
// mutual authentication (RFC 4178, Section 4.2.2).
func (x *exchange) reply() *Error {
	key, flags := x.initiatorKey(), byte(0)
	resp := spnego.NegTokenResp{State: spnego.AcceptCompleted}
	if x.sum.Flags&gss.GSS_C_MUTUAL_FLAG != 0 || x.req.APOptions&messages.AP_OPTS_MUTUAL_REQUIRED != 0 {
		subkey, err := enctype.GenerateKey(x.ticket.Key.EType(), x.cfg.Rand)
		if err == nil {
			resp.ResponseToken, err = x.apRep(subkey)
		}
		if err != nil {
			return because(Internal, err)
		}
		key, flags = subkey, micAcceptorSubkey
	}
	if x.offer.mic != nil {
		var err error
		if resp.MechListMIC, err = makeMIC(key, flags, x.auth.SeqNumber, x.offer.mechTypes); err != nil {
			return because(Internal, err)
		}
	}
	x.answer = x.offer.wrap(resp)
	return nil
}

// answerSize is what an answer with an AP-REP takes at most with keys of 32 bytes.
const answerSize = 256

// apRep returns the proof that the acceptor has opened the ticket, with a subkey of its own (RFC
// 4120, Section 3.2.4).
func (x *exchange) apRep(subkey enctype.Key) ([]byte, error) {
	part := messages.EncAPRepPart{
		CTime: x.auth.CTime, CUSec: x.auth.CUSec, Subkey: subkey,
		SeqNumber: x.auth.SeqNumber, HasSeqNumber: x.auth.HasSeqNumber,
	}
	confounder := make([]byte, x.ticket.apRep.ConfounderSize())
	if _, err := io.ReadFull(x.cfg.Rand, confounder); err != nil {
		return nil, err
	}
	cipher := x.ticket.apRep.Seal(nil, confounder, part.Marshal())
	rep := messages.APRep{EncPart: messages.EncryptedData{EType: x.ticket.Key.EType(), Cipher: cipher}}
	return gss.AppendToken(make([]byte, 0, answerSize), gss.TOK_AP_REP, rep.Marshal()), nil
}

// complete adds to a refusal what is known by then, and the answer.
func (x *exchange) complete(e *Error) {
	if x.req != nil {
		e.Service, e.EType, e.KVNO = x.service(), x.req.Ticket.EncPart.EType, x.req.Ticket.EncPart.KVNO
	}
	if x.ticket != nil {
		e.Client = messages.Principal{Name: x.ticket.CName, Realm: x.ticket.CRealm}
	}
	if x.auth != nil {
		e.Offset = x.offset()
	}
	resp := spnego.NegTokenResp{State: spnego.Reject}
	if code := e.Code(); code != 0 && x.req != nil {
		resp.ResponseToken = gss.AppendToken(nil, gss.TOK_KRB_ERROR, x.krbError(code))
	}
	e.Token = x.offer.wrap(resp)
}

// krbError returns the KRB-ERROR of a refusal, with the acceptor's time, by which a client whose
// clock is off can try again.
func (x *exchange) krbError(code messages.ErrorCode) []byte {
	e := messages.KRBError{
		STime: x.now, SUSec: int32(x.now.Nanosecond() / 1000), ErrorCode: code,
		Realm: x.req.Ticket.Realm, SName: x.req.Ticket.SName,
	}
	if x.auth != nil {
		e.CTime, e.CUSec = x.auth.CTime, x.auth.CUSec
	}
	return e.Marshal()
}

// clientTime is when the authenticator was made, by the client's clock.
func (x *exchange) clientTime() time.Time {
	return x.auth.CTime.Add(time.Duration(x.auth.CUSec) * time.Microsecond)
}

// offset is the client's clock minus the acceptor's.
func (x *exchange) offset() time.Duration { return x.clientTime().Sub(x.now) }
