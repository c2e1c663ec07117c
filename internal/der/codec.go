package der

import "time"

// Codec reads or writes one encoding. A structure describes itself once, in a function of a Codec,
// which serves both directions: func(c *Codec, v *T). After the first mistake in what is read, all
// that follows does nothing. Writing does not change the values.
type Codec struct {
	in      String // the unread rest
	out     []byte
	writing bool
	failed  bool
	ber     bool  // lengths may have more bytes than needed
	last    uint8 // the number of the last field of the SEQUENCE
	// Here so that they are not allocated each time:
	element  String // what primitive reads from
	constant int32
}

// AppendCoded appends the encoding of v.
func AppendCoded[T any](dst []byte, code func(*Codec, *T), v *T) []byte {
	c := Codec{out: dst, writing: true}
	code(&c, v)
	return c.out
}

// ReadCoded takes a value off s.
func ReadCoded[T any](s *String, code func(*Codec, *T), v *T) bool {
	c := Codec{in: *s}
	code(&c, v)
	*s = c.in
	return !c.failed
}

// ReadCodedBER is ReadCoded for encodings whose lengths may have more bytes than needed. What a raw
// field keeps has the lengths that were read.
func ReadCodedBER[T any](s *String, code func(*Codec, *T), v *T) bool {
	c := Codec{in: *s, ber: true}
	code(&c, v)
	*s = c.in
	return !c.failed
}

// Reading reports whether the Codec reads and has met no mistake.
func (c *Codec) Reading() bool { return !c.writing && !c.failed }

// Next reports whether the Codec reads and the next element has tag t.
func (c *Codec) Next(t Tag) bool { return c.Reading() && c.in.PeekASN1Tag(t) }

// Require refuses what was read unless ok.
func (c *Codec) Require(ok bool) { c.failed = c.failed || !c.writing && !ok }

// Element codes an element with tag t, whose content the function codes to its end.
func (c *Codec) Element(t Tag, content func()) {
	outer := c.enter(t)
	if !c.failed {
		content()
	}
	c.leave(outer)
}

// outer is what surrounds the content of an element.
type outer struct {
	rest  String // when reading
	start int    // of the content, when writing
}

// enter begins an element, so that what is coded next is its content, until leave ends it.
func (c *Codec) enter(t Tag) (o outer) {
	if c.writing {
		c.out = append(c.out, byte(t), 0)
		return outer{start: len(c.out)}
	}
	var inner String
	if !c.failed && c.take(&inner, t) {
		o.rest = c.in
	} else {
		c.failed = true
	}
	c.in = inner
	return o
}

func (c *Codec) leave(o outer) {
	if c.writing {
		c.out = setLength(c.out, o.start)
		return
	}
	c.Require(c.in.Empty())
	c.in = o.rest
}

// Sequence codes a SEQUENCE of the fields that the function codes, in ascending order. Unknown ones
// after them are skipped.
func (c *Codec) Sequence(fields func()) {
	last := c.last
	outer := c.enter(TagSequence)
	if !c.failed {
		fields()
	}
	c.skipUnknown()
	c.leave(outer)
	c.last = last
}

// Application codes [APPLICATION n] SEQUENCE.
func (c *Codec) Application(n uint8, fields func()) {
	outer := c.enter(Application(n))
	c.Sequence(fields)
	c.leave(outer)
}

// Raw codes an element that keeps its encoding: reading sets raw and then the value; writing repeats
// raw unless it is nil.
func (c *Codec) Raw(raw *[]byte, value func()) {
	switch {
	case !c.writing:
		before := c.in
		Any(c, raw)
		c.in = before
	case *raw != nil:
		c.out = append(c.out, *raw...)
		return
	}
	value()
}

// Const codes a field that has one value, such as a protocol version.
func (c *Codec) Const(n uint8, want int32) {
	c.constant = want
	Field(c, n, Int32, &c.constant)
	c.Require(c.constant == want)
}

// Field codes a field that must be there: a value under the explicit context tag [n].
func Field[T any](c *Codec, n uint8, code func(*Codec, *T), v *T) {
	outer := c.enter(Context(n))
	if !c.failed {
		code(c, v)
	}
	c.leave(outer)
	c.last = n
}

// Optional codes a field that may be absent. It is written if present; it is read if its tag is
// next, and v stays as it is otherwise. Optional reports whether the field is there.
func Optional[T any](c *Codec, n uint8, present bool, code func(*Codec, *T), v *T) bool {
	if !c.writing {
		present = c.Next(Context(n))
	}
	if present {
		Field(c, n, code, v)
	}
	c.last = n
	return present
}

// OptionalHas is Optional for a value with a flag for whether it is there, which reading sets.
func OptionalHas[T any](c *Codec, n uint8, has *bool, code func(*Codec, *T), v *T) {
	if present := Optional(c, n, *has, code, v); !c.writing {
		*has = present
	}
}

// Pointer codes what a pointer that is not nil points to. Reading allocates it.
func Pointer[T any](code func(*Codec, *T)) func(c *Codec, v **T) {
	return func(c *Codec, v **T) {
		if !c.writing {
			*v = new(T)
		}
		code(c, *v)
	}
}

// List codes a SEQUENCE OF. An empty list is read as an empty one, not nil.
func List[S ~[]T, T any](c *Codec, element func(*Codec, *T), list *S) {
	ListIn(c, TagSequence, element, list)
}

// ListIn is List with another tag, such as that of a SET OF, whose order is the caller's.
func ListIn[S ~[]T, T any](c *Codec, t Tag, element func(*Codec, *T), list *S) {
	outer := c.enter(t)
	defer c.leave(outer)
	if c.writing {
		for i := range *list {
			element(c, &(*list)[i])
		}
		return
	}
	if c.failed {
		return
	}
	*list = S{}
	for c.Reading() && !c.in.Empty() {
		var zero T
		*list = append(*list, zero)
		element(c, &(*list)[len(*list)-1])
	}
}

// ListOf is List with its element bound.
func ListOf[T any](element func(*Codec, *T)) func(c *Codec, list *[]T) {
	return func(c *Codec, list *[]T) { List(c, element, list) }
}

// Either sets n, when reading, to the one of two application numbers that comes next, to the first
// if neither does.
func Either[T ~uint8 | ~int32](c *Codec, n *T, first, second T) {
	switch {
	case c.Next(Application(uint8(second))):
		*n = second
	case !c.writing:
		*n = first
	}
}

// ImplicitOctets codes [n] IMPLICIT OCTET STRING.
func ImplicitOctets(c *Codec, n uint8, v *[]byte) {
	c.content(ContextPrimitive(n), v)
	c.last = n
}

// OptionalImplicitOctets is ImplicitOctets for a field that may be absent; v is then nil.
func OptionalImplicitOctets(c *Codec, n uint8, v *[]byte) {
	if c.writing && *v != nil || c.Next(ContextPrimitive(n)) {
		ImplicitOctets(c, n, v)
	}
	c.last = n
}

// content codes a primitive element with tag t and this content.
func (c *Codec) content(t Tag, v *[]byte) {
	if c.writing {
		c.out = AppendBytes(c.out, t, *v)
		return
	}
	var content String
	c.Require(!c.failed && c.take(&content, t))
	*v = content
}

// BitString codes a BIT STRING of whole bytes.
func BitString(c *Codec, v *[]byte) {
	content := append([]byte{0}, *v...)
	c.content(TagBitString, &content)
	if !c.writing {
		if c.Require(len(content) > 0 && content[0] == 0); !c.failed {
			*v = content[1:]
		}
	}
}

// Any codes an element of any kind, in its encoding.
func Any(c *Codec, v *[]byte) {
	if c.writing {
		c.out = append(c.out, *v...)
		return
	}
	var content String
	var t Tag
	before := c.in
	c.Require(!c.failed && c.takeAny(&content, &t))
	*v = before[:len(before)-len(c.in)]
}

// OptionalAny is Any for the last element of a structure, which may be absent; v is then nil.
func OptionalAny(c *Codec, v *[]byte) {
	if c.writing || c.Reading() && !c.in.Empty() {
		Any(c, v)
	}
}

// Int32 and those that follow are the codecs of the readers and writers of their kind.
func Int32[T ~int32](c *Codec, v *T)    { primitive(c, ReadInt32, AppendInt, v) }
func Uint32[T ~uint32](c *Codec, v *T)  { primitive(c, ReadUint32, AppendInt, v) }
func Enum[T ~int32](c *Codec, v *T)     { primitive(c, ReadEnum, AppendEnum, v) }
func Flags[T ~uint32](c *Codec, v *T)   { primitive(c, ReadFlags, AppendFlags, v) }
func Octets(c *Codec, v *[]byte)        { primitive(c, ReadOctets, AppendOctetString, v) }
func OID(c *Codec, v *[]byte)           { primitive(c, ReadOID, AppendOID, v) }
func GeneralString(c *Codec, v *string) { primitive(c, ReadGeneralString, AppendGeneralString, v) }
func Time(c *Codec, v *time.Time)       { primitive(c, ReadTime, AppendTime, v) }

func primitive[T any](c *Codec, read func(*String, *T) bool, appendValue func([]byte, T) []byte, v *T) {
	switch {
	case c.writing:
		c.out = appendValue(c.out, *v)
	case c.ber:
		var ok bool
		c.element, ok = c.minimal()
		c.Require(ok && read(&c.element, v) && c.element.Empty())
	default:
		c.Require(!c.failed && read(&c.in, v))
	}
}

// take takes the content of an element with tag t off the input.
func (c *Codec) take(content *String, t Tag) bool {
	if c.ber {
		return ReadBER(&c.in, content, t)
	}
	return c.in.ReadASN1(content, t)
}

// takeAny is take for an element with any tag.
func (c *Codec) takeAny(content *String, t *Tag) bool {
	if c.ber {
		return readAnyBER(&c.in, content, t)
	}
	return c.in.ReadAnyASN1(content, t)
}

// skipUnknown ends a structure whose last known field is the last that was coded.
func (c *Codec) skipUnknown() {
	if !c.ber {
		c.Require(SkipUnknown(&c.in, c.last))
		return
	}
	for c.Reading() && !c.in.Empty() {
		element, ok := c.minimal()
		c.Require(ok && SkipUnknown(&element, c.last))
	}
}

// minimal takes an element off the input and returns it with a length of as few bytes as possible,
// which the readers of values require.
func (c *Codec) minimal() (element String, ok bool) {
	var content String
	var t Tag
	before := c.in
	if c.failed || !readAnyBER(&c.in, &content, &t) {
		return nil, false
	}
	element = before[:len(before)-len(c.in)]
	if len(element) != HeaderLen(len(content))+len(content) {
		element = AppendBytes(nil, t, content)
	}
	return element, true
}
