package ccache

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/internal/filefmt"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// parts is a cache that is not a file: a principal and credentials, each in the encoding of
// a file of version 4.
type parts struct {
	name        string // as CCache.Name
	principal   []byte
	credentials [][]byte
}

// parsed is the cache that was read last. It is kept as long as the parts are the same.
type parsed struct {
	digest [sha256.Size]byte
	cache  *CCache
}

func (l *parsed) parse(p *parts) (*CCache, error) {
	digest := p.digest()
	if l.cache != nil && digest == l.digest {
		return l.cache, nil
	}
	cache, err := p.parse()
	if err == nil {
		l.cache, l.digest = cache, digest
	}
	return cache, err
}

// digest tells different contents apart.
func (p *parts) digest() [sha256.Size]byte {
	hash := sha256.New()
	for _, b := range slices.Concat([][]byte{[]byte(p.name), p.principal}, p.credentials) {
		hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		hash.Write(b)
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

// errTooBig is for caches larger than maxSize.
var errTooBig = fmt.Errorf("larger than %d bytes", maxSize)

func (p *parts) parse() (*CCache, error) {
	principal, err := parsePrincipal(p.principal)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	cache := &CCache{Name: p.name, Version: 4, DefaultPrincipal: principal, Config: make(map[ConfigKey][]byte)}
	for i, b := range p.credentials {
		r := partReader(fmt.Sprintf("credential %d", i+1), b)
		r.add(cache)
		if err := r.end(); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return cache, nil
}

// parsePrincipal reads a principal that is alone.
func parsePrincipal(b []byte) (messages.Principal, error) {
	r := partReader("principal", b)
	principal := r.principal("name")
	return principal, r.end()
}

func partReader(what string, b []byte) *reader {
	return &reader{version: 4, Reader: filefmt.Reader{
		Format: what, Remedy: "fill the cache again", Bytes: b, Order: binary.BigEndian,
	}}
}

// end fails unless all has been read.
func (r *reader) end() error {
	if r.Err == nil && r.Left() > 0 {
		r.Fail(r.At, "%d bytes follow; %s", r.Left(), r.Remedy)
	}
	if r.Err != nil {
		return r.Err
	}
	return nil
}
