package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// A SettingError is an error about one setting of a block.
type SettingError struct {
	Setting string // the setting's name
	Err     error
}

// Error names the setting.
func (e *SettingError) Error() string { return e.Setting + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SettingError) Unwrap() error { return e.Err }

// Setting returns a SettingError, or nil if err is nil.
func Setting(setting string, err error) error {
	if err == nil {
		return nil
	}
	return &SettingError{setting, err}
}

// Places are where the settings of a block are in a Caddyfile, as "FILE:LINE" by the
// settings' names; the name "" is the block as a whole. Two identical blocks have two places.
//
// Places are not part of the JSON, because then every moved line would change it.
// The adapter leaves them in the process ([Places.Note]), and errors found later,
// when the configuration is provisioned, look them up ([PlacesOf]). If another
// process adapted the Caddyfile, nothing is found and the errors have no line.
type Places map[string]string

// NewPlaces returns the places of the block that the dispenser is at the start of.
func NewPlaces(d *caddyfile.Dispenser) Places {
	p := make(Places)
	p.add("", d)
	return p
}

func (p Places) add(setting string, d *caddyfile.Dispenser) {
	p[setting] = d.File() + ":" + strconv.Itoa(d.Line())
}

// Block returns where the block begins, empty if that is not known.
func (p Places) Block() string { return p[""] }

// Locate puts the place of the setting in front of an error, or that of the block
// if the setting is not in it.
func (p Places) Locate(err error) error {
	if err == nil {
		return nil
	}
	at := p.Block()
	if setting, ok := errors.AsType[*SettingError](err); ok {
		at = cmp.Or(p[setting.Setting], at)
	}
	if at == "" {
		return err
	}
	if name := unsetVariable(at); name != "" {
		return fmt.Errorf("%s: %w; {$%s} is not set", at, err, name)
	}
	return fmt.Errorf("%s: %w", at, err)
}

var variable = regexp.MustCompile(`\{\$([^{}:]+)\}`)

// unsetVariable returns the first variable on the line of a place that is empty in the environment
// and has no default: Caddy has replaced it by nothing before the line was parsed.
func unsetVariable(at string) string {
	colon := strings.LastIndexByte(at, ':')
	number, err := strconv.Atoi(at[colon+1:])
	if err != nil || colon < 0 {
		return ""
	}
	text, err := os.ReadFile(at[:colon])
	if lines := strings.Split(string(text), "\n"); err == nil && number > 0 && number <= len(lines) {
		for _, m := range variable.FindAllStringSubmatch(lines[number-1], -1) {
			if os.Getenv(m[1]) == "" {
				return m[1]
			}
		}
	}
	return ""
}

// Bounds of what is kept: the number of blocks, beyond which all are dropped, and the
// number of places of one block, of which the last are kept.
const (
	maxNotes     = 4096
	maxIdentical = 8
)

// notes are the places of the blocks that this process adapted, by blockKey.
var notes = struct {
	sync.Mutex
	blocks map[[sha256.Size]byte][]note
}{blocks: make(map[[sha256.Size]byte][]note)}

// note is the places of a block, and when they were read.
type note struct {
	places Places
	at     time.Time
}

// Note keeps the places for a block, which is known by its JSON.
func (p Places) Note(block ...any) {
	key := blockKey(block)
	notes.Lock()
	defer notes.Unlock()
	if len(notes.blocks) >= maxNotes {
		clear(notes.blocks)
	}
	same := func(n note) bool { return n.places.Block() == p.Block() }
	kept := append(slices.DeleteFunc(notes.blocks[key], same), note{p, time.Now()})
	notes.blocks[key] = kept[max(0, len(kept)-maxIdentical):]
}

// PlacesOf returns the places that were noted for a block. Lines of a file that
// was changed since are left out.
func PlacesOf(block ...any) Places {
	notes.Lock()
	defer notes.Unlock()
	found := make(Places)
	for _, n := range notes.blocks[blockKey(block)] {
		for setting, at := range n.places {
			switch {
			case changedSince(at[:strings.LastIndexByte(at, ':')], n.at):
			case found[setting] == "":
				found[setting] = at
			default:
				found[setting] += " and " + at
			}
		}
	}
	return found
}

// blockKey hashes the JSON of a block's parts, which may have passwords.
func blockKey(block []any) [sha256.Size]byte {
	text, _ := json.Marshal(block) // strings, numbers and switches: it does not fail
	return sha256.Sum256(text)
}

// changedSince reports whether a file was written after a point in time.
func changedSince(file string, at time.Time) bool {
	info, err := os.Stat(file)
	return err == nil && info.ModTime().After(at)
}
