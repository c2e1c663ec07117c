package krb5conf

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// maxNesting bounds how deep braces nest; real files need two or three.
const maxNesting = 32

// A parser reads one file, line by line, into the tree under root. An included
// file has a parser of its own, over the same root.
type parser struct {
	file string
	line int
	root *Section

	// path is where relations go: the open section and, within it, the open
	// braces. Empty before the first section header.
	path []*Section

	// brace is set after "tag =", when the next line must open a brace.
	brace bool

	// include reads another file, or all files of a folder, into root.
	include func(name string, folder bool) error

	// warn notes what MIT ignores, although the file's author probably meant it.
	warn func(error)
}

func (p *parser) parse(text []byte) error {
	if bytes.IndexByte(text, 0) >= 0 {
		return &Error{File: p.file, Err: errNotText}
	}
	for line := range bytes.Lines(text) {
		p.line++
		if err := p.parseLine(string(line)); err != nil {
			if _, ok := errors.AsType[*Error](err); ok {
				return err
			}
			return &Error{File: p.file, Line: p.line, Err: err}
		}
	}
	// Braces that are still open at the end close themselves, as in MIT.
	return nil
}

func (p *parser) parseLine(line string) error {
	// Directives count in any state, but only at the very start of a line.
	if arg, ok := directive(line, "include"); ok {
		return p.include(arg, false)
	}
	if arg, ok := directive(line, "includedir"); ok {
		return p.include(arg, true)
	}
	if p.brace {
		if !strings.HasPrefix(trim(line), "{") {
			return errMissingBrace
		}
		p.brace = false
		return nil
	}
	if len(p.path) == 0 && !strings.HasPrefix(line, "[") {
		return p.preamble(line)
	}
	line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), blanks)
	switch {
	case line == "" || line[0] == ';' || line[0] == '#':
		return nil
	case line[0] == '[':
		return p.sectionHeader(line)
	case line[0] == '}':
		return p.closeBrace(line)
	}
	return p.relation(line)
}

// preamble deals with a line before the first section header: MIT ignores it,
// comment or not.
func (p *parser) preamble(line string) error {
	if _, ok := directive(line, "module"); ok {
		return errModule
	}
	bare, marked := strings.CutPrefix(line, "\ufeff")
	if !strings.HasPrefix(trim(bare), "[") {
		return nil
	}
	reason := "the first section header is ignored because it is indented: move it to the start of the line"
	if marked {
		reason = "the first section header is ignored because a byte order mark precedes it: save the file without one"
	}
	p.warn(&Error{File: p.file, Line: p.line, Err: errors.New(reason)})
	return nil
}

func (p *parser) sectionHeader(line string) error {
	if len(p.path) > 1 {
		return errSectionInBraces
	}
	name, rest, ok := strings.Cut(line[1:], "]")
	rest, final := strings.CutPrefix(rest, "*")
	if !ok || trim(rest) != "" {
		return errSectionSyntax
	}
	p.path = []*Section{enter(p.root.open(p.node(name)), final)}
	return nil
}

// enter returns where the relations of a section go that is written now: nowhere if it was made final
// before.
func enter(s *Section, final bool) *Section {
	if s.final {
		return new(Section)
	}
	s.final = final
	return s
}

// closeBrace leaves a subsection. Whatever follows the brace is ignored but
// for a star.
func (p *parser) closeBrace(line string) error {
	if len(p.path) == 1 {
		return errExtraBrace
	}
	if strings.HasPrefix(line, "}*") {
		p.section().final = true
	}
	p.path = p.path[:len(p.path)-1]
	return nil
}

func (p *parser) relation(line string) error {
	tag, value, ok := strings.Cut(line, "=")
	tag = trim(tag)
	if !ok || tag == "" || strings.ContainsAny(tag, blanks) {
		return errRelationSyntax
	}
	tag, _, final := strings.Cut(tag, "*")
	// A quoted value keeps its blanks, those of a quote left open too.
	value = strings.TrimLeft(value, blanks)
	quoted, isQuoted := strings.CutPrefix(value, `"`)
	if isQuoted {
		value = unquote(quoted)
	} else if value = trim(value); value == "" || value[0] == '{' && trim(value[1:]) == "" {
		p.brace = value == ""
		return p.openBrace(tag, final)
	}
	n := p.node(tag)
	n.Value = value
	s := p.section()
	if s.finals[tag] || s.subs[tag] != nil && s.subs[tag].final {
		return nil
	}
	s.add(n)
	if final {
		s.makeFinal(tag)
	}
	return nil
}

func (p *parser) openBrace(tag string, final bool) error {
	if len(p.path) > maxNesting {
		return fmt.Errorf("braces nested more than %d deep", maxNesting)
	}
	p.path = append(p.path, enter(p.section().open(p.node(tag)), final))
	return nil
}

func (p *parser) section() *Section { return p.path[len(p.path)-1] }

func (p *parser) node(tag string) Node {
	return Node{Tag: tag, File: p.file, Line: p.line}
}

// directive reports whether a line is the directive of this name, and its
// argument.
func directive(line, name string) (arg string, ok bool) {
	rest, ok := strings.CutPrefix(line, name)
	if !ok || rest != "" && !strings.ContainsAny(rest[:1], blanks) {
		return "", false
	}
	return trim(rest), true
}

// unquote reads a quoted string up to its closing quote or, failing that, the
// end of the line. What follows the quote is ignored.
func unquote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s) && s[i] != '"'; i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'b':
			b.WriteByte('\b')
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// blanks are what C's isspace takes for such, so that CRLF line ends need no
// care of their own.
const blanks = " \t\n\v\f\r"

func trim(s string) string { return strings.Trim(s, blanks) }
