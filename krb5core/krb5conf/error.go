package krb5conf

import (
	"cmp"
	"errors"
	"fmt"
)

// Error is an error in a configuration file and its place.
type Error struct {
	File string // as named when it was loaded or included; "" for a text
	Line int    // counted from 1; 0 if it concerns the file as a whole
	Err  error
}

func (e *Error) Error() string {
	file := cmp.Or(e.File, "krb5.conf")
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", file, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", file, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// What a line can be wrong about. The texts name the remedy.
var (
	errSectionSyntax   = errors.New(`malformed section header: write "[name]" or "[name]*" alone on its line`)
	errSectionInBraces = errors.New(`section header inside braces: a "}" is missing above`)
	errRelationSyntax  = errors.New(`malformed relation: write "tag = value" with one word left of "="`)
	errMissingBrace    = errors.New(`a tag without a value must be followed by "{" on the next line; write "" for an empty value`)
	errExtraBrace      = errors.New(`"}" without a "{"`)
	errModule          = errors.New(`"module" directives load shared objects, which is not supported: write the relations out`)
	errNotText         = errors.New("contains a zero byte: not a text file in ASCII or UTF-8")
)
