package krb5conf

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// ParseDuration reads a duration as MIT does: seconds ("3600"), numbers with
// units in falling order ("1d 2h30m"; d, h, m, s, in lower case), hours and
// minutes ("10:30", "10:30:15"), or days before those ("1-10:30:15"). Numbers
// may be negative, white space may stand before a number. The whole lies within
// 32-bit seconds, some 68 years.
//
// As in MIT, reading stops at the first character that no duration has: "1.5h"
// is one second.
func ParseDuration(s string) (time.Duration, error) {
	d := duration{rest: s}
	seconds, err := d.parse()
	if err != nil {
		return 0, fmt.Errorf("%q is no duration: %w", s, err)
	}
	return time.Duration(seconds) * time.Second, nil
}

var (
	errDurationSyntax = errors.New(`write it like "10h", "1d 2h30m", "10:30" or "3600" (seconds)`)
	errDurationRange  = errors.New("longer than 2147483647 seconds")
)

// A duration is what remains to be read of one.
type duration struct{ rest string }

// units in the order in which they must come, with their seconds.
var units = []struct {
	letter  byte
	seconds int64
}{{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}}

func (d *duration) parse() (int64, error) {
	d.blanks()
	n, err := d.number()
	if err != nil {
		return 0, err
	}
	switch d.peek() {
	case 0:
		return n, nil
	case ':':
		return d.clock(0, n, 2)
	case '-':
		days, err := scale(n, 86400)
		if err != nil {
			return 0, err
		}
		d.next()
		if n, err = d.field(); err != nil {
			return 0, err
		}
		return d.clock(days, n, 3)
	}
	return d.units(n)
}

// clock reads the rest of H:M or H:M:S and adds it to the seconds that the days
// before it made. Least is how many fields there must be.
func (d *duration) clock(total, hours int64, least int) (int64, error) {
	fields := []int64{hours}
	for d.peek() == ':' && len(fields) < 3 {
		d.next()
		n, err := d.field()
		if err != nil {
			return 0, err
		}
		fields = append(fields, n)
	}
	if d.peek() != 0 || len(fields) < least {
		return 0, errDurationSyntax
	}
	for i, n := range fields {
		part, err := scale(n, units[i+1].seconds)
		if err != nil {
			return 0, err
		}
		if total, err = sum(total, part); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// units reads the rest of a row of numbers with units, each smaller than the
// one before. n is the first number.
func (d *duration) units(n int64) (int64, error) {
	total := int64(0)
	for rank := 0; ; rank++ {
		for rank < len(units) && d.peek() != units[rank].letter {
			rank++
		}
		if rank == len(units) {
			return 0, errDurationSyntax
		}
		d.next()
		part, err := scale(n, units[rank].seconds)
		if err != nil {
			return 0, err
		}
		if total, err = sum(total, part); err != nil {
			return 0, err
		}
		// White space may trail where a smaller unit could follow.
		if rank+1 < len(units) {
			d.blanks()
		}
		if d.peek() == 0 {
			return total, nil
		}
		if n, err = d.number(); err != nil {
			return 0, err
		}
	}
}

// number reads an optional sign and digits.
func (d *duration) number() (int64, error) {
	sign := int64(1)
	if d.peek() == '-' {
		d.next()
		sign = -1
	}
	n, err := d.digits()
	return sign * n, err
}

func (d *duration) digits() (int64, error) {
	n, start := int64(0), d.rest
	for c := d.peek(); '0' <= c && c <= '9'; c = d.peek() {
		n = n*10 + int64(c-'0')
		if n > math.MaxInt32 {
			return 0, errDurationRange
		}
		d.next()
	}
	if len(d.rest) == len(start) {
		return 0, errDurationSyntax
	}
	return n, nil
}

// field reads the one or two digits of a field after another.
func (d *duration) field() (int64, error) {
	before := len(d.rest)
	n, err := d.digits()
	if err == nil && before-len(d.rest) > 2 {
		err = errDurationSyntax
	}
	return n, err
}

func (d *duration) blanks() { d.rest = strings.TrimLeft(d.rest, blanks) }

func (d *duration) next() { d.rest = d.rest[1:] }

// peek returns the next character, 0 at the end, which any character that is
// foreign to durations is, too.
func (d *duration) peek() byte {
	if d.rest == "" || !strings.Contains("0123456789-:dhms"+blanks, d.rest[:1]) {
		return 0
	}
	return d.rest[0]
}

func scale(n, seconds int64) (int64, error) { return sum(0, n*seconds) }

// sum adds within 32 bits; the operands are small enough for 64.
func sum(a, b int64) (int64, error) {
	if a+b > math.MaxInt32 || a+b < math.MinInt32 {
		return 0, errDurationRange
	}
	return a + b, nil
}
