package kdctest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// outcome is the KDC's answer to a message.
type outcome struct {
	message []byte
	tally   func(*Counts) // counts the answer once it has been sent
}

// handle is the KDC without faults.
func (k *KDC) handle(q *Question) Answer {
	k.counter.taken(q)
	now := k.Now()
	work := func() Answer {
		out := k.process(q, now)
		if q.Protocol == "udp" && len(out.message) > k.cfg.UDPLimit {
			out = outcome{k.errorFor(q, messages.KRB_ERR_RESPONSE_TOO_BIG), func(n *Counts) { n.TooBig++ }}
		}
		if out.tally != nil {
			k.counter.add(out.tally)
		}
		return Answer{Messages: [][]byte{out.message}}
	}
	if q.Protocol == "direct" || q.alter != (alteration{}) {
		return work()
	}
	return k.lookaside.once(q, now, work)
}

// lookaside repeats the answer to a retransmission over the same protocol, as every
// KDC does: it must not issue a second ticket or count a second attempt.
type lookaside struct {
	mu      sync.Mutex
	answers map[[sha256.Size]byte]*lookasideEntry
}

type lookasideEntry struct {
	once   sync.Once
	answer Answer
	until  time.Time
}

// lookasideTime bounds how long answers are kept, maxLookaside how many.
const (
	lookasideTime = 2 * time.Minute
	maxLookaside  = 4096
)

func (l *lookaside) once(q *Question, now time.Time, work func() Answer) Answer {
	id := q.id()
	l.mu.Lock()
	e := l.answers[id]
	if e == nil || now.After(e.until) {
		if l.answers == nil || len(l.answers) >= maxLookaside {
			l.answers = make(map[[sha256.Size]byte]*lookasideEntry)
		}
		e = &lookasideEntry{until: now.Add(lookasideTime)}
		l.answers[id] = e
	}
	l.mu.Unlock()
	e.once.Do(func() { e.answer = work() })
	return e.answer
}

// refusal is an error that becomes a KRB-ERROR.
type refusal struct {
	code   messages.ErrorCode
	text   string
	edata  []byte
	crealm string // of WRONG_REALM: the realm to ask instead
}

func (r *refusal) Error() string { return r.text }

func refuse(code messages.ErrorCode, format string, args ...any) error {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}

// process answers a message. It always returns an answer.
func (k *KDC) process(q *Question, now time.Time) outcome {
	req, err := messages.ParseKDCReq(q.Message)
	if err != nil {
		return k.failed(nil, now, refuse(messages.KRB_AP_ERR_MSG_TYPE, "malformed message"), nil)
	}
	realm := k.realms[req.Body.Realm]
	if realm == nil {
		return k.failed(req, now, refuse(messages.KDC_ERR_S_PRINCIPAL_UNKNOWN, "realm %q is not served here", req.Body.Realm), nil)
	}
	if req.MsgType == messages.KRB_AS_REQ {
		x := &asExchange{kdc: k, realm: realm, req: req, raw: q.Message, now: now, alter: q.alter}
		out, err := x.run()
		if err != nil {
			return k.failed(x.req, now, err, x.fast)
		}
		return out
	}
	x := &tgsExchange{kdc: k, realm: realm, req: req, now: now, alter: q.alter}
	out, err := x.run()
	if err != nil {
		return k.failed(x.req, now, err, x.fast)
	}
	return out
}

// failed returns the KRB-ERROR of an exchange that failed.
func (k *KDC) failed(req *messages.KDCReq, now time.Time, err error, fast *fastState) outcome {
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{code: messages.KRB_ERR_GENERIC, text: err.Error()}
	}
	e := krbError(req, now, r.code)
	e.EText, e.EData = r.text, r.edata
	if r.crealm != "" {
		e.CRealm = r.crealm
	}
	fast.wrapError(k, e)
	return outcome{e.Marshal(), func(n *Counts) { n.Errors[r.code]++ }}
}

// errorFor returns a KRB-ERROR with the names of the question, for faults.
func (k *KDC) errorFor(q *Question, code messages.ErrorCode) []byte {
	req, err := messages.ParseKDCReq(q.Message)
	if err != nil {
		req = nil
	}
	return krbError(req, k.Now(), code).Marshal()
}

func krbError(req *messages.KDCReq, now time.Time, code messages.ErrorCode) *messages.KRBError {
	e := &messages.KRBError{STime: now.Truncate(time.Second), SUSec: microseconds(now), ErrorCode: code}
	if req != nil {
		e.Realm, e.SName = req.Body.Realm, req.Body.SName
		if !req.Body.CName.IsZero() {
			e.CRealm, e.CName = req.Body.Realm, req.Body.CName
		}
	}
	if e.SName.IsZero() {
		e.SName = messages.TGSName(e.Realm)
	}
	return e
}

// fieldTooLong returns the answer to a length prefix above the maximum.
func (k *KDC) fieldTooLong() []byte {
	return krbError(nil, k.Now(), messages.KRB_ERR_FIELD_TOOLONG).Marshal()
}

// microseconds returns the part of a time below a second.
func microseconds(t time.Time) int32 { return int32(t.Nanosecond() / 1000) }

// extendedError returns the e-data in which Windows sends an NTSTATUS
// ([MS-KILE], Section 2.2.1).
func extendedError(status messages.NTStatus) []byte {
	e := messages.KerbErrorData{DataType: messages.KERB_ERR_TYPE_EXTENDED, DataValue: messages.ExtendedError(status)}
	return e.Marshal()
}
