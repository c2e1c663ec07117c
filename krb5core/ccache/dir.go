package ccache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// dir is a collection of type DIR: a folder with files tkt*, and a file that names the
// primary one.
type dir struct {
	path string

	mu      sync.Mutex
	members map[string]*file // those that the last Read read, by name
}

const (
	memberPrefix  = "tkt"
	primaryFile   = "primary"
	maxMemberName = 255
)

// openDir opens DIR:folder, or DIR::file for one member alone, which follows no change of
// the primary.
func openDir(rest string) (Source, error) {
	path, single := strings.CutPrefix(rest, ":")
	if path == "" {
		return nil, errors.New("DIR: names no folder; write DIR:/path, or DIR::/path/tktNAME for one of its caches")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if !single {
		return &dir{path: path}, nil
	}
	if !strings.HasPrefix(filepath.Base(path), memberPrefix) {
		return nil, fmt.Errorf("DIR:%s: the name of a cache in a folder begins with %s", rest, memberPrefix)
	}
	return newMember(path), nil
}

func newMember(path string) *file { return &file{name: "DIR::" + path, path: path} }

func (d *dir) String() string { return "DIR:" + d.path }

func (d *dir) Late() bool { return false }

func (d *dir) Read(ctx context.Context, owner messages.Principal) (*CCache, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.members
	d.members = make(map[string]*file)
	read := func(name string) (*CCache, error) {
		member := before[name]
		if member == nil {
			member = newMember(filepath.Join(d.path, name))
		}
		d.members[name] = member
		return member.Read(ctx, owner)
	}
	primary, err := d.primary()
	if err != nil {
		return nil, err
	}
	cache, err := read(primary)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %s has no file %s; run kinit -c %[2]s", ErrEmpty, d, primary)
	}
	if err == nil && same(owner, cache.DefaultPrincipal) || owner.IsZero() {
		return cache, err
	}
	names, errList := d.list()
	if errList != nil {
		return nil, errList
	}
	for _, name := range names {
		if name == primary {
			continue
		}
		// A cache of no concern may be damaged.
		if other, err := read(name); err == nil && same(owner, other.DefaultPrincipal) {
			return other, nil
		}
	}
	return cache, err
}

// primary returns the name of the primary cache, tkt unless a file says otherwise.
func (d *dir) primary() (string, error) {
	switch info, err := os.Stat(d.path); {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: %s is not there; let the program that fills it make the folder (%w)", ErrEmpty, d, err)
	case err == nil && !info.IsDir():
		return "", fmt.Errorf("%s: is not a folder; use FILE:%s", d, d.path)
	}
	content, err := secretfile.Read(filepath.Join(d.path, primaryFile), maxMemberName)
	if errors.Is(err, fs.ErrNotExist) {
		return memberPrefix, nil
	}
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(string(content), "\n")
	if !strings.HasPrefix(name, memberPrefix) || strings.ContainsAny(name, `/\`) {
		return "", fmt.Errorf("%s: the file %s names %q, which is not the name of a cache in the folder; run kswitch", d, primaryFile, name)
	}
	return name, nil
}

// list returns the names of the caches, in order.
func (d *dir) list() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), memberPrefix) && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names[:min(len(names), maxMembers)], nil
}
