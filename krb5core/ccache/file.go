package ccache

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// file is a cache of type FILE. It is read again when its size, its time or its identity
// changes.
type file struct {
	name string // as CCache.Name
	path string

	mu    sync.Mutex
	tried bool
	info  fs.FileInfo // of the state that was read, symbolic links followed; nil without a file
	cache *CCache
	err   error
}

// File returns the credential cache of type FILE at a path.
func File(path string) Source { return &file{name: path, path: path} }

func (f *file) String() string { return f.name }

func (f *file) Late() bool { return false }

func (f *file) Read(context.Context, messages.Principal) (*CCache, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, _ := os.Stat(f.path)
	if !f.tried || !secretfile.Same(now, f.info) {
		f.tried, f.info = true, now
		f.cache, f.err = f.parse()
	}
	return f.cache, f.err
}

func (f *file) parse() (*CCache, error) {
	content, err := secretfile.Read(f.path, maxSize)
	if err != nil {
		return nil, err
	}
	cache, err := Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	cache.Name = f.name
	return cache, nil
}
