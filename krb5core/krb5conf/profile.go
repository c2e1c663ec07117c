package krb5conf

import (
	"sort"
	"strings"
)

// A Section is a set of relations and subsections, in the order of the file.
// The methods of a nil Section are those of an empty one.
type Section struct {
	nodes []Node
	subs  map[string]*Section

	// final marks a section written with a star: what later files add to a
	// section of that name does not count. (Within one file it has no effect
	// in MIT 1.20.)
	final bool
}

// A Node is one relation (a tag with a value) or one subsection (a tag with
// nodes of its own) of a Section.
type Node struct {
	// Tag is the name left of the equals sign, case-sensitive.
	Tag string

	// Value is what a relation says, without surrounding blanks or quotes.
	Value string

	// Section is the subsection of this name; nil for a relation.
	Section *Section

	// File and Line say where the node was read, and a subsection that is
	// written several times, where it was first.
	File string
	Line int
}

// Nodes returns all nodes, sorted by tag as MIT's library lists them. Nodes of
// one tag keep the order of the files.
func (s *Section) Nodes() []Node {
	if s == nil {
		return nil
	}
	nodes := append([]Node(nil), s.nodes...)
	sort.SliceStable(nodes, func(i, j int) bool { return nodes[i].Tag < nodes[j].Tag })
	return nodes
}

// Sub returns the subsection found by descending through the tags of path, nil
// if there is none.
func (s *Section) Sub(path ...string) *Section {
	for _, tag := range path {
		if s == nil {
			return nil
		}
		s = s.subs[tag]
	}
	return s
}

// Values returns the values of the relations of one tag, in order. Where a
// relation is meant to be given once, the first counts.
func (s *Section) Values(tag string) []string {
	nodes := s.relations(tag)
	if len(nodes) == 0 {
		return nil
	}
	values := make([]string, len(nodes))
	for i, n := range nodes {
		values[i] = n.Value
	}
	return values
}

// relations returns the relations of one tag, in order.
func (s *Section) relations(tag string) []Node {
	if s == nil {
		return nil
	}
	var found []Node
	for _, n := range s.nodes {
		if n.Tag == tag && n.Section == nil {
			found = append(found, n)
		}
	}
	return found
}

// first returns the relation of a tag that counts: the first one.
func (s *Section) first(tag string) (Node, bool) {
	if s != nil {
		for _, n := range s.nodes {
			if n.Tag == tag && n.Section == nil {
				return n, true
			}
		}
	}
	return Node{}, false
}

// add appends a relation.
func (s *Section) add(n Node) {
	s.nodes = append(s.nodes, n)
}

// open returns the subsection of n's tag and makes it where it is new: a
// section that is written twice is one section.
func (s *Section) open(n Node) *Section {
	if sub, ok := s.subs[n.Tag]; ok {
		return sub
	}
	n.Section = new(Section)
	if s.subs == nil {
		s.subs = make(map[string]*Section)
	}
	s.subs[n.Tag] = n.Section
	s.nodes = append(s.nodes, n)
	return n.Section
}

// merge adds what a later file says. A section that an earlier file made final
// takes nothing more.
func (s *Section) merge(later *Section) {
	if s.final {
		return
	}
	for _, n := range later.nodes {
		if n.Section == nil {
			s.add(n)
			continue
		}
		s.open(n).merge(n.Section)
	}
	s.final = later.final
}

// String shows the tree in krb5.conf's own syntax, for people. Values are not
// quoted again.
func (s *Section) String() string {
	var b strings.Builder
	for _, n := range s.Nodes() {
		if n.Section == nil {
			b.WriteString(n.Tag + " = " + n.Value + "\n")
			continue
		}
		b.WriteString("[" + n.Tag + "]\n")
		n.Section.write(&b, "\t")
	}
	return b.String()
}

func (s *Section) write(b *strings.Builder, indent string) {
	for _, n := range s.Nodes() {
		if n.Section == nil {
			b.WriteString(indent + n.Tag + " = " + n.Value + "\n")
			continue
		}
		b.WriteString(indent + n.Tag + " = {\n")
		n.Section.write(b, indent+"\t")
		b.WriteString(indent + "}\n")
	}
}
