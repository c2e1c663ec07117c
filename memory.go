package caddynegotiate

import (
	"net/http"
	"net/url"
	"sync"
)

// memory is what handlers further down may change of a request and its answer, as
// it was before, for the few requests that are made again. Each request needs one, so
// they are used again.
type memory struct {
	method, requestURI, host string
	url                      url.URL
	header                   fields
	length                   int64
	encoding                 []string

	answer fields
}

var memories = sync.Pool{New: func() any { return new(memory) }}

// remember takes note of a request, and of what its answer has in its header by now.
func remember(w http.ResponseWriter, r *http.Request) *memory {
	m := memories.Get().(*memory)
	m.method, m.requestURI, m.host, m.url = r.Method, r.RequestURI, r.Host, *r.URL
	m.length, m.encoding = r.ContentLength, r.TransferEncoding
	m.header.copy(r.Header)
	m.answer.copy(w.Header())
	return m
}

// forget gives the memory back. Nothing of it may be used afterwards.
func (m *memory) forget() {
	m.header.clear()
	m.answer.clear()
	*m = memory{header: m.header, answer: m.answer}
	memories.Put(m)
}

func (m *memory) restoreRequest(r *http.Request) {
	r.Method, r.RequestURI, r.Host, *r.URL = m.method, m.requestURI, m.host, m.url
	r.ContentLength, r.TransferEncoding = m.length, m.encoding
	m.header.restore(r.Header)
}

// fields is a copy of a header.
type fields struct {
	list   []field
	values []string
}

// field is a name and where its values end; they begin where the one before ends.
type field struct {
	name string
	end  int
}

// maxKept is how much of a header's memory is kept for the next, in strings.
const maxKept = 256

func (f *fields) copy(h http.Header) {
	for name, values := range h {
		f.values = append(f.values, values...)
		f.list = append(f.list, field{name, len(f.values)})
	}
}

// restore makes h what was copied. It shares nothing with the copy.
func (f *fields) restore(h http.Header) {
	clear(h)
	begin := 0
	for _, one := range f.list {
		h[one.name] = append([]string(nil), f.values[begin:one.end]...)
		begin = one.end
	}
}

func (f *fields) clear() {
	if cap(f.values)+cap(f.list) > maxKept {
		*f = fields{}
		return
	}
	clear(f.list)
	clear(f.values)
	f.list, f.values = f.list[:0], f.values[:0]
}
