package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-negotiate/caddy-negotiate/tests/caddytest"
)

var storageFaults = []fault{
	{"ticket store: disk full", "200; one warning", withoutStorage(func(s *storage) { s.fail(syscall.ENOSPC, nil, nil) })},
	{"ticket store: down", "200; one warning", withoutStorage(func(s *storage) { s.fail(nil, errors.New("no route to the storage"), nil) })},
	{"ticket store: hangs", "held: 200 without a call. not held: 200; one warning", func(t *testing.T) {
		e, s := newStorageEnv(t)
		e.load(e.usual(), e.secondAccount())
		e.wantServed()
		caddytest.WaitFor(t, "both tickets are stored", func() bool { return len(s.entries()) == 2 })
		hang := make(chan struct{})
		s.fail(nil, nil, hang)
		calls := s.calls.Load()
		for range 20 {
			if a := e.wantServed(); a.Source() != "cache" {
				t.Fatal(a.Source())
			}
		}
		if n := s.calls.Load() - calls; n != 0 {
			t.Errorf("%d calls to the storage for held tickets", n)
		}
		e.wantSecond()
		e.Log.Await(t, storageWarning, 1)
		s.fail(nil, nil, nil)
		close(hang)
	}},
	{"ticket store: entries overwritten", "200; a warning", func(t *testing.T) {
		e, s := newStorageEnv(t)
		e.load(e.usual("login_at_start off"))
		e.wantServed()
		caddytest.WaitFor(t, "both tickets are stored", func() bool { return len(s.entries()) == 2 })
		overwritten := make(map[string][]byte)
		for _, path := range s.entries() {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := len(b) / 2; i < len(b); i++ {
				b[i] ^= 0x55
			}
			overwritten[path] = b
			caddytest.WriteFile(t, path, b)
		}
		e.load() // the process forgets all tickets
		e.load(e.usual("login_at_start off"))
		if a := e.wantServed(); a.Source() != "kdc" {
			t.Errorf("the ticket came from %s", a.Source())
		}
		e.Log.Await(t, "a stored ticket was ignored", 1)
		caddytest.WaitFor(t, "new tickets are stored", func() bool {
			for path, old := range overwritten {
				if b, err := os.ReadFile(path); err != nil || bytes.Equal(b, old) {
					return false
				}
			}
			return true
		})
	}},
}

const storageWarning = `"the ticket store cannot be used; tickets are kept in memory only until it works again"`

// newStorageEnv is an env whose tickets are kept in a storage that can fail.
func newStorageEnv(t *testing.T) (*env, *storage) {
	e := newEnv(t)
	s, option := newFaultyStorage(t, filepath.Join(e.Dir, "faulty"))
	e.global = []string{option, caddytest.Block("kerberos", "ticket_store storage")}
	return e, s
}

// withoutStorage is the test of a storage that refuses to work.
func withoutStorage(fail func(*storage)) func(*testing.T) {
	return func(t *testing.T) {
		e, s := newStorageEnv(t)
		e.load(e.usual("login_at_start off"), e.secondAccount())
		fail(s)
		begin := time.Now()
		for range 3 {
			e.wantServed()
			e.wantSecond()
		}
		e.Log.Await(t, storageWarning, 1)
		// A storage is left alone for a second, and may be tried again then.
		if n := e.Log.Count(storageWarning); n > 1+int(time.Since(begin)/time.Second) {
			t.Errorf("%d warnings", n)
		}
		s.fail(nil, nil, nil)
	}
}

// storage is a file storage that fails as a test says. Caddy finds it by its name:
// `storage faulty NAME`.
type storage struct {
	*certmagic.FileStorage
	calls atomic.Int64 // concerning tickets

	mu    sync.Mutex
	write error         // of every write
	all   error         // of every call
	hang  chan struct{} // calls wait for it, whatever their context says
}

var storages sync.Map

// newFaultyStorage makes a storage below folder for `storage faulty NAME`.
func newFaultyStorage(t *testing.T, folder string) (s *storage, option string) {
	s = &storage{FileStorage: &certmagic.FileStorage{Path: folder}}
	name := fmt.Sprintf("storage-%p", s)
	storages.Store(name, s)
	t.Cleanup(func() { storages.Delete(name) })
	return s, "storage faulty " + name
}

// entries are the paths of the stored tickets. Files that are still being written have
// other names.
func (s *storage) entries() []string {
	found, _ := filepath.Glob(filepath.Join(s.Path, "kerberos", "tickets", strings.Repeat("[0-9a-f]", 64)))
	return found
}

func (s *storage) fail(write, all error, hang chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write, s.all, s.hang = write, all, hang
}

func (s *storage) called() (write, all error) {
	s.calls.Add(1)
	s.mu.Lock()
	write, all, hang := s.write, s.all, s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return write, all
}

func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	write, all := s.called()
	if write != nil {
		return write
	}
	if all != nil {
		return all
	}
	return s.FileStorage.Store(ctx, key, value)
}

func (s *storage) Load(ctx context.Context, key string) ([]byte, error) {
	if _, err := s.called(); err != nil {
		return nil, err
	}
	return s.FileStorage.Load(ctx, key)
}

func (s *storage) Lock(ctx context.Context, name string) error {
	if _, err := s.called(); err != nil {
		return err
	}
	return s.FileStorage.Lock(ctx, name)
}

func init() { caddy.RegisterModule(new(faultyStorage)) }

// faultyStorage is the module `storage faulty`.
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
	found, ok := storages.Load(s.Name)
	if !ok {
		return nil, fmt.Errorf("no storage is named %s", s.Name)
	}
	return found.(*storage), nil
}
