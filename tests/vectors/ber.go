package vectors

import "slices"

// LongLengths returns a DER encoding with the length of each element, those of constructed elements
// included, in four bytes, as BER permits. What is not DER stays as it is.
func LongLengths(encoding []byte) []byte {
	var long []byte
	for len(encoding) > 0 {
		header, n := header(encoding)
		if n > len(encoding)-header {
			break
		}
		content := encoding[header : header+n]
		if encoding[0]&0x20 != 0 {
			content = LongLengths(content)
		}
		size := len(content)
		long = append(long, encoding[0], 0x84, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
		long, encoding = append(long, content...), encoding[header+n:]
	}
	return slices.Concat(long, encoding)
}

// header returns the sizes of an element's header and content.
func header(encoding []byte) (header, content int) {
	header = 2
	if len(encoding) < header {
		return header, 0
	}
	if content = int(encoding[1]); content >= 0x80 {
		header, content = header+content-0x80, 0
		for _, b := range encoding[2:min(header, len(encoding))] {
			content = content<<8 | int(b)
		}
	}
	return header, content & 0xffffffff
}
