package faults

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/certmagic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// shelf is a file storage that a test gives troubles to. Caddy finds it by the
// test's name: `storage faulty NAME`.
type shelf struct {
	*certmagic.FileStorage
	calls atomic.Int64 // concerning tickets

	mu    sync.Mutex
	write error         // of every write
	all   error         // of every call
	hang  chan struct{} // calls wait for it, whatever their context says
}

var shelves sync.Map

// newShelf makes a storage below folder for `storage faulty NAME`.
func newShelf(t *testing.T, folder string) (s *shelf, option string) {
	s = &shelf{FileStorage: &certmagic.FileStorage{Path: folder}}
	name := fmt.Sprintf("shelf%p", s)
	shelves.Store(name, s)
	t.Cleanup(func() { shelves.Delete(name) })
	return s, "storage faulty " + name
}

// entries are the paths of the tickets that are stored. Files that are still being
// written stand beside them, by other names.
func (s *shelf) entries() []string {
	found, _ := filepath.Glob(filepath.Join(s.Path, "kerberos", "tickets", strings.Repeat("[0-9a-f]", 64)))
	return found
}

func (s *shelf) order(write, all error, hang chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write, s.all, s.hang = write, all, hang
}

func (s *shelf) trouble() (write, all error) {
	s.calls.Add(1)
	s.mu.Lock()
	write, all, hang := s.write, s.all, s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return write, all
}

func (s *shelf) Store(ctx context.Context, key string, value []byte) error {
	write, all := s.trouble()
	if write != nil {
		return write
	}
	if all != nil {
		return all
	}
	return s.FileStorage.Store(ctx, key, value)
}

func (s *shelf) Load(ctx context.Context, key string) ([]byte, error) {
	if _, err := s.trouble(); err != nil {
		return nil, err
	}
	return s.FileStorage.Load(ctx, key)
}

func (s *shelf) Lock(ctx context.Context, name string) error {
	if _, err := s.trouble(); err != nil {
		return err
	}
	return s.FileStorage.Lock(ctx, name)
}

func init() { caddy.RegisterModule(new(faultyStorage)) }

// faultyStorage is the module that stands for a shelf.
type faultyStorage struct {
	Name string `json:"name,omitempty"`
}

func (*faultyStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.faulty", New: func() caddy.Module { return new(faultyStorage) }}
}

func (s *faultyStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&s.Name) {
		return d.ArgErr()
	}
	return nil
}

func (s *faultyStorage) CertMagicStorage() (certmagic.Storage, error) {
	found, ok := shelves.Load(s.Name)
	if !ok {
		return nil, fmt.Errorf("no storage is named %s", s.Name)
	}
	return found.(*shelf), nil
}
