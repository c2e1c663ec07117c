package krb5conf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sort"
	"strings"
)

// Bounds on what one Load reads.
const (
	maxFileSize  = 1 << 20
	maxTotalSize = 8 << 20
	maxFiles     = 1024
	maxInclusion = 16
)

// An Opener opens a file or, for includedir, a folder, which must then be an
// fs.ReadDirFile. Names are passed as they are written in the configuration.
type Opener func(name string) (fs.File, error)

// OpenSystem is the Opener of the machine's own files.
func OpenSystem(name string) (fs.File, error) { return os.Open(name) }

// Load reads configuration files, each with what it includes. Several files
// make one configuration, as those of KRB5_CONFIG do: the earlier ones count
// first, and one that does not exist is passed over if another does. A nil open
// means OpenSystem.
//
// Errors are *Error with file and line; fs.ErrNotExist and fs.ErrPermission
// are found in them.
func Load(open Opener, names ...string) (*Config, error) {
	if open == nil {
		open = OpenSystem
	}
	if len(names) == 0 {
		return nil, errors.New("no krb5.conf named")
	}
	l := loader{open: open}
	profile := new(Section)
	var missing error
	read := 0
	for _, name := range names {
		text, err := l.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			missing = &Error{File: name, Err: err}
			continue
		}
		if err != nil {
			return nil, &Error{File: name, Err: err}
		}
		root := new(Section)
		if err := l.parse(root, name, text); err != nil {
			return nil, err
		}
		profile.merge(root)
		read++
	}
	if read == 0 {
		return nil, missing
	}
	return newConfig(profile, l.files, l.warnings)
}

// Parse reads a configuration from a text. Include directives in it are errors.
func Parse(text []byte) (*Config, error) {
	if len(text) > maxFileSize {
		return nil, &Error{Err: fmt.Errorf("larger than %d bytes", maxFileSize)}
	}
	var warnings []error
	p := parser{
		root: new(Section),
		warn: func(err error) { warnings = append(warnings, err) },
		include: func(string, bool) error {
			return errors.New("include directives need a file to be relative to: load the configuration from a file")
		},
	}
	if err := p.parse(text); err != nil {
		return nil, err
	}
	return newConfig(p.root, nil, warnings)
}

// A loader follows one Load through its files.
type loader struct {
	open     Opener
	files    []string // all that were read, in order
	stack    []string // the one being parsed and those that include it
	size     int      // of all that were read
	warnings []error
}

func (l *loader) read(name string) ([]byte, error) {
	f, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.IsDir() {
		return nil, errFolder
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	l.size += len(text)
	l.files = append(l.files, name)
	switch {
	case len(text) > maxFileSize:
		return nil, fmt.Errorf("larger than %d bytes", maxFileSize)
	case l.size > maxTotalSize:
		return nil, fmt.Errorf("with it the configuration is larger than %d bytes", maxTotalSize)
	case len(l.files) > maxFiles:
		return nil, fmt.Errorf("with it the configuration has more than %d files", maxFiles)
	}
	return text, nil
}

func (l *loader) parse(root *Section, name string, text []byte) error {
	l.stack = append(l.stack, name)
	defer func() { l.stack = l.stack[:len(l.stack)-1] }()
	p := parser{
		file: name,
		root: root,
		warn: func(err error) { l.warnings = append(l.warnings, err) },
		include: func(arg string, folder bool) error {
			if folder {
				return l.includeFolder(root, arg)
			}
			return l.includeFile(root, arg)
		},
	}
	return p.parse(text)
}

func (l *loader) includeFile(root *Section, name string) error {
	if name == "" {
		return errors.New("include names no file")
	}
	if slices.Contains(l.stack, name) {
		return fmt.Errorf("include cycle: %s -> %s", strings.Join(l.stack, " -> "), name)
	}
	if len(l.stack) > maxInclusion {
		return fmt.Errorf("files included more than %d deep", maxInclusion)
	}
	text, err := l.read(name)
	if err != nil {
		return fmt.Errorf("reading included %s: %w", name, err)
	}
	return l.parse(root, name, text)
}

// includeFolder includes the files of a folder whose names are like those of
// run-parts, or end in .conf, in the order of their names. Folders within are
// passed over.
func (l *loader) includeFolder(root *Section, name string) error {
	if name == "" {
		return errors.New("includedir names no folder")
	}
	entries, err := l.list(name)
	if err != nil {
		return fmt.Errorf("reading included folder %s: %w", name, err)
	}
	for _, file := range entries {
		err := l.includeFile(root, path.Join(name, file))
		if err != nil && !errors.Is(err, errFolder) {
			return err
		}
	}
	return nil
}

// list names the entries of a folder that includedir takes, sorted.
func (l *loader) list(name string) ([]string, error) {
	f, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	folder, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, errors.New("not a folder")
	}
	// One more than is allowed: the rest of a huge folder is not even listed.
	entries, err := folder.ReadDir(maxFiles + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > maxFiles {
		return nil, fmt.Errorf("more than %d files", maxFiles)
	}
	var names []string
	for _, e := range entries {
		if includable(e.Name()) && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

// includable reports whether includedir takes a file of this name: letters,
// digits, "-" and "_" alone, or anything that ends in .conf and is not hidden.
// Editors' and package managers' leftovers are so kept out.
func includable(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	if strings.HasSuffix(name, ".conf") {
		return true
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		plain := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !plain && r != '-' && r != '_'
	})
}

var errFolder = errors.New("is a folder: use includedir")
