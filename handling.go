package caddynegotiate

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// handling is one request on its way through the handler: all that is kept for
// it, in one piece.
type handling struct {
	handler *Handler
	ctx     context.Context
	out     outcome
	target  negotiate.Target
	grant   negotiate.Grant
	token   negotiate.Token
	body    *negotiate.Replay
	meter   *meter

	repeat *repeat // what a second attempt is made of; nil for none
	second bool    // it is under way
	failed error   // why the upstream's answer was withheld
	cancel func()  // ends the attempt under way; nil if no answer can be withheld

	answer  answerWriter
	wrapper caddyhttp.ResponseWriterWrapper
}

// repeat is what a request is repeated with.
type repeat struct {
	grant negotiate.Grant
	ahead *time.Duration
	body  io.ReadCloser
}

// serve passes the request on, and once more if its token was refused.
func (x *handling) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	before := remember(w, r)
	defer before.forget()
	r = r.WithContext(untilSent(r))
	var err error
	if r.Body, err = x.body.Next(x.ctx); err != nil {
		return err
	}
	err = x.attempt(w, r, next, nil)
	if x.repeat != nil {
		before.restoreRequest(r)
		*r = *r.WithContext(ownVars(r.Context()))
		before.answer.restore(w.Header())
		x.grant = x.repeat.grant
		x.out.granted(x.grant)
		r.Body = x.repeat.body
		x.second = true
		err = x.attempt(w, r, next, x.repeat.ahead)
	}
	if x.failed != nil { // nothing of the withheld answer may show in ours
		before.answer.restore(w.Header())
		return nil
	}
	return err
}

// untilSent returns a context that takes the token off the request when a connection to
// the upstream is sought. reverse_proxy has copied the header by then; it runs the routes
// of handle_response with the request itself, and they may lead to another upstream.
func untilSent(r *http.Request) context.Context {
	header := r.Header
	return httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { delete(header, "Authorization") },
	})
}

// ownVars gives the repeat Caddy's variables in a map of its own: a connection that
// net/http began to make for the first attempt, and did not need, may still be reading
// the other one while reverse_proxy, or the way to an outbound proxy, writes.
func ownVars(ctx context.Context) context.Context {
	vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, caddyhttp.VarsCtxKey, maps.Clone(vars))
}

// attempt passes the request on with a fresh token.
func (x *handling) attempt(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, ahead *time.Duration) error {
	var err error
	x.token, err = x.grant.Mint(x.ctx, negotiate.Features{Mutual: x.handler.mutual, Raw: x.handler.RawKerberos, Ahead: ahead})
	if err != nil {
		x.failed = err
		return nil
	}
	tokenBytes.Observe(float64(len(x.token.Header)))
	r.Header["Authorization"] = []string{x.token.Header}
	x.wrapper.ResponseWriter = w
	x.answer = answerWriter{ResponseWriterWrapper: &x.wrapper, judge: x}
	err = x.pass(r, next)
	negotiate.DropChallenges(w.Header()) // trailers, by now
	delete(r.Header, "Authorization")
	return err
}

// pass passes the request on. An answer that is held back may break off: by its own
// fault, or because we want no more of it. To reverse_proxy that is the end of all.
func (x *handling) pass(r *http.Request, next caddyhttp.Handler) error {
	if x.handler.mutual {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		r, x.cancel = r.WithContext(ctx), cancel
	}
	defer func() {
		if !x.answer.held {
			return
		}
		if p := recover(); p != nil && p != any(http.ErrAbortHandler) {
			panic(p)
		}
	}()
	return next.ServeHTTP(&x.answer, r)
}

// hold tells whether an answer is to be held back.
func (x *handling) hold(status int, header http.Header) bool {
	if status != http.StatusUnauthorized && !x.handler.mutual && !x.second {
		return false // nothing to be learnt from it
	}
	if x.second {
		return x.judgeSecond(status, header)
	}
	return x.judgeFirst(status, header)
}

// judgeFirst looks at the first answer, and holds it back if the request is to be
// repeated or the upstream is not who it should be.
func (x *handling) judgeFirst(status int, header http.Header) (hold bool) {
	v := x.token.Judge(status, header)
	if !v.Refused {
		return x.withhold(status, v)
	}
	x.meter.refused(v)
	if x.body.Replayable() {
		h := x.handler
		grant, ahead, ok := h.account.identity.Retry(x.ctx, h.account.settings, &x.target, h.delegation, x.grant, v)
		if ok {
			if body, err := x.body.Next(x.ctx); err == nil {
				x.repeat = &repeat{grant, ahead, body}
				x.logRefusal(v, "token refused, repeating the request", zapcore.DebugLevel)
				return true
			}
		}
	}
	x.refused(v)
	return false
}

// judgeSecond looks at the answer to the repeat, which is the last.
func (x *handling) judgeSecond(status int, header http.Header) (hold bool) {
	v := x.token.Judge(status, header)
	if v.Refused {
		x.meter.refused(v)
		x.refused(v)
		return false
	}
	h := x.handler
	h.account.identity.Confirm(h.account.settings, &x.target, x.grant.Ticket)
	return x.withhold(status, v)
}

// refused notes that the upstream's refusal is what the client gets.
func (x *handling) refused(v negotiate.Verdict) {
	if v.Proven {
		return // it knew us: what we want is not ours to have
	}
	x.out.trouble = trouble{Status: http.StatusUnauthorized, Name: errTokenRefused, Remedy: refusalRemedy(v)}
	if v.Error != nil {
		x.out.code = codeText(v.Error.Code())
	}
	x.logRefusal(v, "upstream refuses the token", zapcore.WarnLevel)
}

// withhold tells whether the upstream failed to prove itself as it must.
func (x *handling) withhold(status int, v negotiate.Verdict) bool {
	h := x.handler
	if !h.mutual || v.Proven {
		return false
	}
	if v.Proof == nil && (h.MutualAuth != "required" || status == http.StatusUnauthorized) {
		return false
	}
	x.failed = mutualAuthError(v)
	x.cancel() // what is withheld for good may have no end
	return true
}

func (x *handling) logRefusal(v negotiate.Verdict, message string, level zapcore.Level) {
	logRefusal(x.handler.logger, &x.out, v, message, level)
}

// answerWriter judges an answer when its status is known, and swallows one that
// is held back.
type answerWriter struct {
	*caddyhttp.ResponseWriterWrapper
	judge   *handling
	decided bool
	held    bool
	drained int64 // bytes of what is held back
}

// WriteHeader decides over the final status. Informational ones pass, unless a proof is
// required, which the final one brings.
func (w *answerWriter) WriteHeader(status int) {
	if w.decided {
		return
	}
	final := status >= 200 || status == http.StatusSwitchingProtocols
	if final {
		w.decided = true
		w.held = w.judge.hold(status, w.Header())
	}
	if w.held || !final && w.judge.handler.MutualAuth == "required" {
		return // what comes before the proof is not passed on
	}
	negotiate.DropChallenges(w.Header())
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write passes what is not held back.
func (w *answerWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.held {
		return len(b), w.drain(int64(len(b)))
	}
	return w.ResponseWriterWrapper.Write(b)
}

// drain swallows what little is held back, so that its connection can be used again;
// of more, it says that it is not wanted.
func (w *answerWriter) drain(n int64) error {
	if w.drained += n; w.drained > drainLimit {
		return errWithheld
	}
	return nil
}

// ReadFrom passes what is not held back.
func (w *answerWriter) ReadFrom(r io.Reader) (int64, error) {
	w.WriteHeader(http.StatusOK)
	if w.held {
		n, err := io.Copy(io.Discard, io.LimitReader(r, drainLimit+1-w.drained))
		return n, errors.Join(err, w.drain(n))
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError keeps a held answer's header from going out.
func (w *answerWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	if w.held {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands the connection over, but not that of an answer that is held back.
func (w *answerWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.held {
		return nil, nil, errWithheld
	}
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// errWithheld ends the upgrade of a connection whose answer is held back, and the
// copying of an answer that is long.
var errWithheld = errors.New("the upstream's answer is held back")
