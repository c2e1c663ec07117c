package gmsa

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// blob is the value of msDS-ManagedPassword with its intervals at multiples of align bytes.
func blob(current, previous []byte, query, unchanged time.Duration, align int) []byte {
	b := make([]byte, headerSize)
	put := func(at int, content []byte) {
		if content != nil {
			binary.LittleEndian.PutUint16(b[at:], uint16(len(b)))
		}
		b = append(b, content...)
	}
	binary.LittleEndian.PutUint16(b, 1)
	put(8, append(bytes.Clone(current), 0, 0))
	if previous != nil {
		put(10, append(bytes.Clone(previous), 0, 0))
	}
	for len(b)%align != 0 {
		b = append(b, 0)
	}
	put(12, binary.LittleEndian.AppendUint64(nil, uint64(query/100)))
	put(14, binary.LittleEndian.AppendUint64(nil, uint64(unchanged/100)))
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)))
	return b
}

// random is a password of the size that domain controllers make, from a seed.
func random(seed byte) []byte {
	b := make([]byte, passwordSize)
	for i := range b {
		b[i] = byte(i)*7 + seed | 1
	}
	return b
}

func TestParsePassword(t *testing.T) {
	withZero := random(5)
	withZero[100], withZero[101] = 0, 0
	short := []byte("s\x00e\x00c\x00")
	const query, unchanged = 29 * 24 * time.Hour, 29*24*time.Hour - 5*time.Minute
	for name, want := range map[string]Password{
		"both passwords":  {Current: random(1), Previous: random(2), Query: query, Unchanged: unchanged},
		"no previous one": {Current: random(3), Query: query, Unchanged: unchanged},
		"a zero inside":   {Current: withZero, Previous: withZero, Query: query, Unchanged: unchanged},
		"shorter ones":    {Current: short, Previous: short[:2], Query: query, Unchanged: unchanged},
		"no time left":    {Current: random(4)},
		"a hundred years": {Current: random(6), Query: maxInterval, Unchanged: maxInterval},
	} {
		for _, align := range []int{1, 8} { // as found in the field, and as specified
			query, unchanged := want.Query, want.Unchanged
			if query == maxInterval {
				query, unchanged = 100*365*24*time.Hour, 200*365*24*time.Hour
			}
			b := blob(want.Current, want.Previous, query, unchanged, align)
			got, err := ParsePassword(b)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if diff := cmp.Diff(want, *got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			for n := range b {
				if got, err := ParsePassword(b[:n]); err == nil {
					t.Errorf("%s: %d bytes are accepted: %v", name, n, got)
				}
			}
			if again, err := ParsePassword(append(bytes.Clone(b), 0, 0)); err != nil || !bytes.Equal(again.Current, want.Current) {
				t.Errorf("%s: with bytes after the end: %v", name, err)
			}
		}
	}
}

func TestParsePassword_RefusesOffsetsOutside(t *testing.T) {
	good := blob(random(1), random(2), time.Hour, time.Hour, 1)
	for at, offsets := range map[int][]uint16{
		0:  {0, 2, 0xffff},                                    // the version
		4:  {0, headerSize - 1, uint16(len(good)) + 1},        // the length
		8:  {0, 1, headerSize - 1, uint16(len(good)), 0xffff}, // the current password
		10: {1, headerSize - 1, uint16(len(good)), 0xffff},
		12: {0, headerSize - 1, uint16(len(good)) - 7, 0xffff},
		14: {0, headerSize - 1, uint16(len(good)) - 7, 0xffff},
	} {
		for _, offset := range offsets {
			b := bytes.Clone(good)
			binary.LittleEndian.PutUint16(b[at:], offset)
			if got, err := ParsePassword(b); err == nil {
				t.Errorf("%d at %d: %v", offset, at, got)
			}
		}
	}
	// Up to the interval there is no zero.
	b := blob(bytes.Repeat([]byte{1}, 10), nil, time.Hour, time.Hour, 1)
	copy(b[headerSize+10:], []byte{1, 1})
	if got, err := ParsePassword(b); err == nil {
		t.Errorf("a text without an end: %v", got)
	}
}

// The lines of the file are what Samba 4.22 reads, by its own NDR, of values that it made or was given:
// the value, the current password, the previous one (empty if there is none), and the intervals in 100
// nanoseconds.
func TestParsePassword_AsSamba(t *testing.T) {
	content := must.OK(os.ReadFile("testdata/samba.txt"))(t)
	n := 0
	for line := range strings.Lines(string(content)) {
		fields := strings.Split(strings.TrimSpace(line), " ")
		if len(fields) != 5 || fields[0] == "#" {
			continue // a comment
		}
		n++
		unhex := func(s string) []byte { return must.OK(hex.DecodeString(s))(t) }
		got, err := ParsePassword(unhex(fields[0]))
		if err != nil {
			t.Errorf("line %d: %v", n, err)
			continue
		}
		text := fmt.Sprintf("%x %x %d %d", got.Current, got.Previous, got.Query/100, got.Unchanged/100)
		if want := strings.Join(fields[1:], " "); strings.TrimSpace(text) != strings.TrimSpace(strings.ReplaceAll(want, "-", "")) {
			t.Errorf("line %d: got %s, want %s", n, text, want)
		}
	}
	if n < 3 {
		t.Errorf("only %d lines", n)
	}
}

func TestPassword_IsNotPrinted(t *testing.T) {
	p := must.OK(ParsePassword(blob(random(1), random(2), time.Hour, time.Hour, 1)))(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		text := fmt.Sprintf(verb, p)
		if strings.Contains(text, hex.EncodeToString(p.Current[:4])) || strings.Contains(text, string(p.Current[:4])) || !strings.Contains(text, "1h0m0s") {
			t.Errorf("%s: %q", verb, text)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"A\x00\xe9\x00":            "Aé",
		"\x3d\xd8\x00\xde":         "\U0001f600",
		"\x3d\xd8A\x00":            "\ufffdA", // a high surrogate alone
		"\x00\xdeA\x00":            "\ufffdA", // a low one
		"\x00\xde\x3d\xd8":         "\ufffd\ufffd",
		"\x3d\xd8\x3d\xd8\x00\xde": "\ufffd\U0001f600",
		"\x00\x00A\x00":            "\x00A",
		"\xff\xff\xfe\xff":         "\uffff\ufffe",
	} {
		if got := Text([]byte(in)); got != want {
			t.Errorf("%x: got %q, want %q", in, got, want)
		}
	}
}

func FuzzParsePassword(f *testing.F) {
	for _, align := range []int{1, 8} {
		f.Add(blob(random(1), random(2), time.Hour, time.Hour, align))
		f.Add(blob([]byte("a\x00"), nil, time.Hour, time.Hour, align))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePassword(b)
		if err != nil {
			return
		}
		if len(p.Current) == 0 || len(p.Current)%2 != 0 || p.Query < 0 || p.Unchanged < 0 || p.Query > maxInterval || p.Unchanged > maxInterval {
			t.Errorf("%x: %d bytes, %s, %s", b, len(p.Current), p.Query, p.Unchanged)
		}
		_ = Text(p.Current)
	})
}
