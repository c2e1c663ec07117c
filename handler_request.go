package caddynegotiate

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-negotiate/caddy-negotiate/internal/diagnosis"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/httpauth"
)

// handlerRequest is the state of one request in Handler, in one allocation.
type handlerRequest struct {
	outcome
	ctx       context.Context
	attempt   negotiate.Attempt
	judgement negotiate.Judgement
	sending   *sending
	sent      bool   // the token of the last sending was sent
	failed    error  // why the upstream's response was discarded, or no token was made
	cancel    func() // ends the current sending; nil without mutual authentication

	response judgingWriter
	wrapper  caddyhttp.ResponseWriterWrapper
}

// serve passes the request on, and once more if its token is refused.
func (x *handlerRequest) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	snapshot := takeSnapshot(w, r)
	defer snapshot.release()
	var err error
	if r.Body, err = x.attempt.Body.Next(x.ctx); err != nil {
		return err
	}
	err = x.send(w, r, next)
	if x.judgement.Decision == negotiate.Repeat {
		snapshot.restoreRequest(r)
		*r = *r.WithContext(withOwnVars(r.Context()))
		snapshot.restoreResponse(w)
		r.Body = x.judgement.Body
		err = x.send(w, r, next)
	}
	if x.failed != nil { // the error response shows nothing of the discarded one
		snapshot.restoreResponse(w)
		return nil
	}
	return err
}

// send passes the request on with a new token.
func (x *handlerRequest) send(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	token, err := x.attempt.Mint(x.ctx, nil)
	if err != nil {
		x.failed = err
		return nil
	}
	x.requests.Token(len(token))
	x.sending = &sending{Context: r.Context(), token: token, client: x.attempt.Grant().Ticket.Client()}
	*r = *r.WithContext(x.sending) // the request that Caddy's placeholders read, too
	x.wrapper.ResponseWriter = w
	x.response = judgingWriter{ResponseWriterWrapper: &x.wrapper, request: x}
	err = x.pass(r, next)
	httpauth.DropChallenges(w.Header()) // trailers are in it by now
	x.sent = x.sending.end()
	return err
}

// pass passes the request on. Copying a discarded response may abort, by an error of the
// upstream or because writes fail; reverse_proxy signals that with a panic.
func (x *handlerRequest) pass(r *http.Request, next caddyhttp.Handler) error {
	if x.attempt.Config.MutualAuth != negotiate.MutualAuthOff {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		r, x.cancel = r.WithContext(ctx), cancel
	}
	defer func() {
		if !x.response.discarded {
			return
		}
		if p := recover(); p != nil && p != any(http.ErrAbortHandler) {
			panic(p)
		}
	}()
	return next.ServeHTTP(&x.response, r)
}

// discards judges a response and reports whether it is discarded. One to a request
// without a token proves nothing and refuses nothing.
func (x *handlerRequest) discards(status int, header http.Header) bool {
	if !x.sending.taken() && x.attempt.Config.MutualAuth != negotiate.MutualAuthRequired {
		return false
	}
	x.judgement = x.attempt.Judge(x.ctx, status, header)
	x.judged(&x.attempt, &x.judgement)
	if x.judgement.Decision == negotiate.Reject {
		x.failed = x.judgement.Err
		x.cancel() // the discarded body may never end
	}
	return x.judgement.Decision != negotiate.Deliver
}

// fail returns the error for `handle_errors`.
func (x *handlerRequest) fail(w http.ResponseWriter, err error) error {
	d := diagnosis.Of(err)
	x.recordError(d, err)
	if d.Word != "" {
		x.requests.Failed(x.ctx)
	}
	setErrorHeader(w.Header(), d, err)
	return caddyhttp.Error(d.Status, errors.New(string(d.Word)))
}

// drainLimit is how much of a discarded response is read, in bytes, so that its
// connection can be reused.
const drainLimit = 64 << 10

// errDiscarded ends the upgrade of a connection whose response is discarded, and the
// copying of a long response.
var errDiscarded = errors.New("the upstream's response is discarded")

// judgingWriter has a response judged as soon as its status is known, and drops a
// discarded one.
type judgingWriter struct {
	*caddyhttp.ResponseWriterWrapper
	request   *handlerRequest
	judged    bool
	discarded bool
	drained   int64 // bytes of the discarded body
}

// WriteHeader has the final status judged. Informational responses are passed on unless
// the upstream must prove itself, which it does in the final one.
func (w *judgingWriter) WriteHeader(status int) {
	if w.judged {
		return
	}
	final := status >= 200 || status == http.StatusSwitchingProtocols
	if final {
		w.judged = true
		w.discarded = w.request.discards(status, w.Header())
	}
	if w.discarded || !final && w.request.attempt.Config.MutualAuth == negotiate.MutualAuthRequired {
		return
	}
	httpauth.DropChallenges(w.Header())
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write passes on the body unless the response is discarded.
func (w *judgingWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.discarded {
		return len(b), w.drain(int64(len(b)))
	}
	return w.ResponseWriterWrapper.Write(b)
}

// drain counts the bytes of a discarded body and fails beyond drainLimit.
func (w *judgingWriter) drain(n int64) error {
	if w.drained += n; w.drained > drainLimit {
		return errDiscarded
	}
	return nil
}

// ReadFrom passes on the body unless the response is discarded.
func (w *judgingWriter) ReadFrom(r io.Reader) (int64, error) {
	w.WriteHeader(http.StatusOK)
	if w.discarded {
		n, err := io.Copy(io.Discard, io.LimitReader(r, drainLimit+1-w.drained))
		return n, errors.Join(err, w.drain(n))
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError sends the header unless the response is discarded.
func (w *judgingWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	if w.discarded {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack hands over the connection unless the response is discarded.
func (w *judgingWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.discarded {
		return nil, nil, errDiscarded
	}
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// headerSnapshot is a copy of a request, and of the header of its response, that is
// taken before other handlers change them. It restores both for a repeat. Few requests
// are repeated, but each needs a snapshot. Snapshots are pooled.
type headerSnapshot struct {
	method, requestURI, host string
	url                      url.URL
	header                   headerCopy
	length                   int64
	encoding                 []string

	response headerCopy
}

var snapshots = sync.Pool{New: func() any { return new(headerSnapshot) }}

// takeSnapshot copies a request and the current header of its response.
func takeSnapshot(w http.ResponseWriter, r *http.Request) *headerSnapshot {
	s := snapshots.Get().(*headerSnapshot)
	s.method, s.requestURI, s.host, s.url = r.Method, r.RequestURI, r.Host, *r.URL
	s.length, s.encoding = r.ContentLength, r.TransferEncoding
	s.header.take(r.Header)
	s.response.take(w.Header())
	return s
}

// release returns the snapshot to the pool. It must not be used afterwards.
func (s *headerSnapshot) release() {
	s.header.clear()
	s.response.clear()
	*s = headerSnapshot{header: s.header, response: s.response}
	snapshots.Put(s)
}

func (s *headerSnapshot) restoreRequest(r *http.Request) {
	r.Method, r.RequestURI, r.Host, *r.URL = s.method, s.requestURI, s.host, s.url
	r.ContentLength, r.TransferEncoding = s.length, s.encoding
	s.header.restore(r.Header)
}

func (s *headerSnapshot) restoreResponse(w http.ResponseWriter) { s.response.restore(w.Header()) }

// headerCopy is a copy of a header, in two slices that are reused.
type headerCopy struct {
	fields []headerField
	values []string
}

// headerField is a field's name and the end of its values, which begin at the end of the
// previous field's.
type headerField struct {
	name string
	end  int
}

// maxReused is the capacity, in strings, above which a copy's memory is not reused.
const maxReused = 256

func (c *headerCopy) take(h http.Header) {
	for name, values := range h {
		c.values = append(c.values, values...)
		c.fields = append(c.fields, headerField{name, len(c.values)})
	}
}

// restore makes h equal to the copied header, without sharing memory with the copy.
func (c *headerCopy) restore(h http.Header) {
	clear(h)
	begin := 0
	for _, f := range c.fields {
		h[f.name] = append([]string(nil), c.values[begin:f.end]...)
		begin = f.end
	}
}

func (c *headerCopy) clear() {
	if cap(c.values)+cap(c.fields) > maxReused {
		*c = headerCopy{}
		return
	}
	clear(c.fields)
	clear(c.values)
	c.fields, c.values = c.fields[:0], c.values[:0]
}
