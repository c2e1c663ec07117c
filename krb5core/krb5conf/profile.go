package krb5conf

import "sort"

// A Section is a set of relations and subsections, in the order of the file.
// The methods of a nil Section are those of an empty one.
type Section struct {
	nodes []Node
	subs  map[string]*Section

	// final marks a section written with a star: what is written later under
	// its name does not count, in the same file or in others, as since MIT 1.22.
	final bool

	// finals are the tags of relations written with a star: later relations of
	// the tag do not count.
	finals map[string]bool
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

// Sub returns the subsection of a tag, nil if there is none.
func (s *Section) Sub(tag string) *Section {
	if s == nil {
		return nil
	}
	return s.subs[tag]
}

// Values returns the values of the relations of one tag, in order. Where a
// relation is meant to be given once, the first counts.
func (s *Section) Values(tag string) []string {
	if s == nil {
		return nil
	}
	var values []string
	for _, n := range s.nodes {
		if n.Tag == tag && n.Section == nil {
			values = append(values, n.Value)
		}
	}
	return values
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

func (s *Section) makeFinal(tag string) {
	if s.finals == nil {
		s.finals = make(map[string]bool)
	}
	s.finals[tag] = true
}

func (s *Section) add(n Node) {
	s.nodes = append(s.nodes, n)
}

// open returns the subsection of n's tag and creates it if it is new: a
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
// takes nothing more, and no relation of a tag that it made final.
func (s *Section) merge(later *Section) {
	if s.final {
		return
	}
	for _, n := range later.nodes {
		if n.Section == nil {
			if !s.finals[n.Tag] {
				s.add(n)
			}
			continue
		}
		s.open(n).merge(n.Section)
	}
	s.final = later.final
	for tag := range later.finals {
		s.makeFinal(tag)
	}
}
