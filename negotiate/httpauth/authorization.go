package httpauth

import (
	"context"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

const authorization = "Authorization"

// DropAuthorization removes everything by which a client could send an Authorization
// of its own to the upstream, or have the proxy's dropped:
//
//   - the field itself, in the header and in the trailer, announced or not;
//   - its name in Connection, because of which a proxy would treat the field as
//     hop-by-hop and delete it (RFC 9110, Section 7.6.1), and in Trailer.
//
// It changes r itself, so it is for a handler, which owns the request's header; a
// transport calls CloneRequest first. A trailer's values appear in r.Trailer only when
// the body has been read to its end, so r.Body is wrapped to delete them in that very
// read, before they can be sent.
func DropAuthorization(r *http.Request) {
	delete(r.Header, authorization) // net/http's server has made names canonical
	dropTokens(r.Header, "Connection", isAuthorization)
	dropTokens(r.Header, "Trailer", isAuthorization)
	dropField(r.Trailer)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = &trailerGuard{ReadCloser: r.Body, request: r, trailer: r.Trailer}
	}
}

// CloneRequest returns a copy of r whose header may be changed, which an
// http.RoundTripper must not do to r. Unlike http.Request.Clone it keeps the trailer's
// map itself, which the sender of the request fills at the end of the body. The values
// of the header's fields are shared: they may be replaced but not changed in place.
func CloneRequest(ctx context.Context, r *http.Request) *http.Request {
	out := r.WithContext(ctx)
	out.Header = maps.Clone(r.Header)
	if out.Header == nil {
		out.Header = make(http.Header)
	}
	return out
}

func isAuthorization(name string) bool {
	return len(name) == len(authorization) && strings.EqualFold(name, authorization)
}

func dropField(h http.Header) {
	delete(h, authorization)
	for name := range h {
		if isAuthorization(name) {
			delete(h, name)
		}
	}
}

// dropTokens removes the matching tokens from a field that lists field names, and the
// field if none is left.
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
	if len(v) < len(authorization) { // no name that matters is shorter
		return false
	}
	for token := range strings.SplitSeq(v, ",") {
		if match(strings.Trim(token, " \t")) {
			return true
		}
	}
	return false
}

// trailerGuard deletes Authorization from a request's trailer at the end of its body.
type trailerGuard struct {
	io.ReadCloser
	request *http.Request // its Trailer may be set at the end only
	trailer http.Header   // the original map, shared by copies of the request
}

func (b *trailerGuard) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		dropField(b.trailer)
		dropField(b.request.Trailer)
	}
	return n, err
}
