package negotiate

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

const authorization = "Authorization"

// DropAuthorization takes away every way by which a client could have an
// Authorization of its own reach the upstream, or ours dropped:
//
//   - the field itself, in the header and in the trailer, announced or not;
//   - its name among the tokens of Connection, by which a proxy would take
//     ours for hop-by-hop and delete it (RFC 9110 7.6.1), and of Trailer.
//
// It changes r itself. Values of a trailer appear in r.Trailer only when the
// body has been read to its end, so r.Body is wrapped to delete them in that very
// read, before anybody can send them on. It is for a handler, which owns the
// request's header; a transport makes itself a request with CloneRequest first.
func DropAuthorization(r *http.Request) {
	delete(r.Header, authorization) // net/http's server has made names canonical
	dropTokens(r.Header, "Connection", isAuthorization)
	dropTokens(r.Header, "Trailer", isAuthorization)
	dropField(r.Trailer)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &trailerGuard{ReadCloser: r.Body, request: r, trailer: r.Trailer}
	}
}

// CloneRequest returns a request that may be changed in its header, as a
// transport has to before it touches one (http.RoundTripper). Unlike
// http.Request.Clone it keeps the very map of the trailer: whoever sent the
// request fills that map when the body ends. The fields' values are shared; they may
// be replaced, and not changed in place.
func CloneRequest(ctx context.Context, r *http.Request) *http.Request {
	out := r.WithContext(ctx)
	out.Header = maps.Clone(r.Header)
	if out.Header == nil {
		out.Header = make(http.Header)
	}
	return out
}

// isAuthorization reports whether name is the field's, in any case.
func isAuthorization(name string) bool {
	return len(name) == len(authorization) && strings.EqualFold(name, authorization)
}

// dropField deletes Authorization from h, in any case.
func dropField(h http.Header) {
	delete(h, authorization)
	for name := range h {
		if isAuthorization(name) {
			delete(h, name)
		}
	}
}

// dropTokens takes the tokens that match out of a field that lists field names, and
// leaves the others, and the field, if any is left.
func dropTokens(h http.Header, field string, match func(name string) bool) {
	values := h[field]
	if !slices.ContainsFunc(values, func(v string) bool { return lists(v, match) }) {
		return
	}
	var left []string
	for _, v := range values {
		for token := range strings.SplitSeq(v, ",") {
			if token = strings.Trim(token, " \t"); token != "" && !match(token) {
				left = append(left, token)
			}
		}
	}
	if len(left) == 0 {
		delete(h, field)
		return
	}
	h[field] = []string{strings.Join(left, ", ")}
}

// lists reports whether one of the tokens in v matches.
func lists(v string, match func(name string) bool) bool {
	if len(v) < len(authorization) { // keep-alive, close, Upgrade: the shortest name that matters
		return false
	}
	for token := range strings.SplitSeq(v, ",") {
		if match(strings.Trim(token, " \t")) {
			return true
		}
	}
	return false
}

// trailerGuard deletes Authorization from a request's trailer at the end of its
// body.
type trailerGuard struct {
	io.ReadCloser
	request *http.Request // its Trailer may be set only at the end
	trailer http.Header   // as it was: other copies of the request share it
}

func (b *trailerGuard) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		dropField(b.trailer)
		dropField(b.request.Trailer)
	}
	return n, err
}
