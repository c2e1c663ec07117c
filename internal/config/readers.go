package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// A Reader reads the arguments of a subdirective. The dispenser is at the
// subdirective's name.
type Reader func(d *caddyfile.Dispenser) error

// A Block maps subdirectives to what reads them.
type Block map[string]Reader

// With returns a block of both.
func (b Block) With(other Block) Block {
	both := maps.Clone(b)
	maps.Copy(both, other)
	return both
}

// Parse reads every subdirective of the block that follows, rejects unknown and
// repeated ones, and adds their places.
func (b Block) Parse(d *caddyfile.Dispenser, places Places) error {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := b.ParseOne(d, places); err != nil {
			return err
		}
	}
	return nil
}

// ParseOne reads the subdirective that the dispenser is at.
func (b Block) ParseOne(d *caddyfile.Dispenser, places Places) error {
	name := d.Val()
	read, ok := b[name]
	if !ok {
		return d.Errf("unrecognized subdirective %s%s", name, suggest(name, b))
	}
	if at := places[name]; at != "" {
		return d.Errf("%s is set twice, also at %s", name, at)
	}
	places.add(name, d)
	return read(d)
}

// suggest names the subdirective that was probably meant, else all of them.
func suggest(name string, b Block) string {
	names := slices.Sorted(maps.Keys(b))
	if meant := nearest(name, names); meant != "" {
		return "; did you mean " + meant + "?"
	}
	return "; known here are " + strings.Join(names, ", ")
}

// readValue reads one value and sets it. The errors of set need no place.
func readValue(set func(name, value string) error) Reader {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		args := d.RemainingArgs()
		if len(args) != 1 {
			return d.Errf("%s takes exactly one value%s", name, countHint(len(args), d))
		}
		value := args[0]
		if value == "" {
			return d.Errf("%s: the value is empty", name)
		}
		if err := set(name, value); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}

// countHint says what may be wrong where there is another number of values than one.
func countHint(n int, d *caddyfile.Dispenser) string {
	if n > 1 {
		return "; write one that has spaces between backticks"
	}
	if name := unsetVariable(d.File() + ":" + strconv.Itoa(d.Line())); name != "" {
		return "; {$" + name + "} is not set"
	}
	return ""
}

// ReadString reads one value.
func ReadString(to *string) Reader {
	return readValue(func(_, value string) error {
		*to = value
		return nil
	})
}

// ReadList reads one value or more.
func ReadList(to *[]string) Reader {
	return readList(to, func(arg string) []string { return []string{arg} })
}

// readCommaList reads one value or more, with spaces or commas between them.
func readCommaList(to *[]string) Reader {
	return readList(to, func(arg string) []string {
		return strings.FieldsFunc(arg, func(r rune) bool { return r == ',' || r == ' ' })
	})
}

func readList(to *[]string, split func(arg string) []string) Reader {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		for _, arg := range d.RemainingArgs() {
			*to = append(*to, split(arg)...)
		}
		if len(*to) == 0 {
			return d.Errf("%s takes one value or more", name)
		}
		return nil
	}
}

// ReadSwitch reads `name [on|off]`.
func ReadSwitch(to *bool) Reader {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		switch args := d.RemainingArgs(); {
		case len(args) == 0, len(args) == 1 && args[0] == "on":
			*to = true
		case len(args) == 1 && args[0] == "off":
			*to = false
		default:
			return d.Errf("%s takes on, off or no argument; got %s", name, strings.Join(args, " "))
		}
		return nil
	}
}

// readOptionalSwitch reads `name [on|off]` where it differs from none.
func readOptionalSwitch(to **bool) Reader {
	return func(d *caddyfile.Dispenser) error {
		*to = new(bool)
		return ReadSwitch(*to)(d)
	}
}

// ReadDuration reads a positive duration.
func ReadDuration(to *caddy.Duration) Reader {
	return readValue(func(_, value string) error {
		duration, err := caddy.ParseDuration(value)
		if err != nil || duration <= 0 {
			return fmt.Errorf("%q is not a duration; write e.g. 10s or 1m30s", value)
		}
		*to = caddy.Duration(duration)
		return nil
	})
}

// ReadSize reads a number of bytes, with or without a unit.
func ReadSize(set func(bytes int64)) Reader {
	return readValue(func(_, value string) error {
		n, err := humanize.ParseBytes(value)
		if err != nil || n > 1<<40 {
			return fmt.Errorf("%q is not a size; write e.g. 64KiB", value)
		}
		set(int64(n))
		return nil
	})
}

func readInt(to *int, low, high int) Reader {
	return readValue(func(name, value string) (err error) {
		if *to, err = strconv.Atoi(value); err != nil || *to < low || *to > high {
			return fmt.Errorf("%s takes a number from %d to %d; got %s", name, low, high, value)
		}
		return nil
	})
}

// readOneOf reads one of a few words.
func readOneOf(to *string, words ...string) Reader {
	return readValue(func(name, value string) error {
		if !slices.Contains(words, value) {
			return fmt.Errorf("%s takes %s; got %s", name, strings.Join(words, ", "), value)
		}
		*to = value
		return nil
	})
}

// nearest returns the name that a mistyped one is nearest to; empty if none is
// near.
func nearest(name string, names []string) string {
	best, least := "", 3
	for _, known := range names {
		if n := distance(name, known); n < least {
			best, least = known, n
		}
	}
	return best
}

// distance is the Levenshtein distance, for short words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
