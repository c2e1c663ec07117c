package der

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// sample has a field of each kind.
type sample struct {
	App    uint8
	Flags  uint32
	Name   string
	Number uint32
	HasNum bool
	Data   []byte
	At     time.Time
	Kept   kept
	List   []kept
	One    *kept
	State  int32
}

type kept struct {
	V   int32
	Raw []byte
}

func codeKept(c *Codec, k *kept) {
	c.Raw(&k.Raw, func() { c.Sequence(func() { Field(c, 0, Int32, &k.V) }) })
}

func codeSample(c *Codec, v *sample) {
	Either(c, &v.App, 1, 2)
	c.Application(v.App, func() {
		c.Const(0, 5)
		Field(c, 1, Flags, &v.Flags)
		Optional(c, 2, v.Name != "", GeneralString, &v.Name)
		OptionalHas(c, 3, &v.HasNum, Uint32, &v.Number)
		Optional(c, 4, v.Data != nil, Octets, &v.Data)
		Optional(c, 5, !v.At.IsZero(), Time, &v.At)
		Field(c, 6, codeKept, &v.Kept)
		Optional(c, 7, v.List != nil, ListOf(codeKept), &v.List)
		Optional(c, 8, v.One != nil, Pointer(codeKept), &v.One)
		Optional(c, 9, v.State != 0, Enum, &v.State)
		c.Require(v.State < 4)
	})
}

func TestCodec(t *testing.T) {
	raw := unhex("3005a003020107")
	for encoding, want := range map[string]sample{
		"6119" + "3017" + "a003020105" + "a10703050000000001" + "a607" + "3005a003020107": {App: 1, Flags: 1, Kept: kept{7, raw}},
		"6240" + "303e" + "a003020105" + "a10703050000000001" + "a2031b0141" + "a303020100" + "a4020400" + "a607" + "3005a003020107" +
			"a7093007" + "3005a003020107" + "a807" + "3005a003020107" + "a9030a0103": {
			App: 2, Flags: 1, Name: "A", HasNum: true, Data: []byte{}, Kept: kept{7, raw}, List: []kept{{7, raw}}, One: &kept{7, raw}, State: 3,
		},
	} {
		got, ok := accepts(reader(codeSample), encoding)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%s: %t %s", encoding, ok, diff)
		}
		if again := hex.EncodeToString(AppendCoded(nil, codeSample, &got)); again != encoding {
			t.Errorf("%s is written as %s", encoding, again)
		}
		for n := range len(encoding) / 2 {
			if got, ok := accepts(reader(codeSample), encoding[:2*n]); ok {
				t.Errorf("%d bytes of %s are accepted: %+v", n, encoding, got)
			}
		}
	}
	for name, encoding := range map[string]string{
		"another version":     "6119" + "3017" + "a003020104" + "a10703050000000001" + "a607" + "3005a003020107",
		"another application": "6319" + "3017" + "a003020105" + "a10703050000000001" + "a607" + "3005a003020107",
		"bytes after a field": "611b" + "3019" + "a003020105" + "a10703050000000001" + "a609" + "3005a0030201070500",
		"a state too high":    "611e" + "301c" + "a003020105" + "a10703050000000001" + "a607" + "3005a003020107" + "a9030a0104",
	} {
		if got, ok := accepts(reader(codeSample), encoding); ok {
			t.Errorf("%s is accepted: %+v", name, got)
		}
	}
}

// long gives every element of an encoding a length of five bytes.
func long(encoding string) []byte { return vectors.LongLengths(unhex(encoding)) }

func TestReadCodedBER(t *testing.T) {
	const encoding = "6240" + "303e" + "a003020105" + "a10703050000000001" + "a2031b0141" + "a303020100" + "a4020400" + "a607" +
		"3005a003020107" + "a7093007" + "3005a003020107" + "a807" + "3005a003020107" + "a9030a0103"
	later := "6246" + "3044" + encoding[8:] + "be0404020500" // with a field that a later revision added
	for name, b := range map[string][]byte{"DER": unhex(encoding), "long lengths": long(encoding), "unknown field": long(later)} {
		var got sample
		s := String(b)
		if !ReadCodedBER(&s, codeSample, &got) || !s.Empty() {
			t.Errorf("%s: %x is refused", name, b)
			continue
		}
		raw := unhex("3005a003020107")
		if name != "DER" {
			raw = long("3005a003020107") // what a checksum covers stays as it was read
		}
		want := sample{
			App: 2, Flags: 1, Name: "A", HasNum: true, Data: []byte{}, Kept: kept{7, raw}, List: []kept{{7, raw}}, One: &kept{7, raw}, State: 3,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		for n := range b {
			if s := String(b[:n]); ReadCodedBER(&s, codeSample, &got) {
				t.Errorf("%s: %d bytes are accepted", name, n)
			}
		}
	}
	if s := String(long(encoding)); ReadCoded(&s, codeSample, new(sample)) {
		t.Error("ReadCoded accepts a length of more bytes than needed")
	}
}

func TestReadBER(t *testing.T) {
	for encoding, want := range map[string]bool{
		"040141": true, "04810141": true, "04840000000141": true, "0489" + "000000000000000001" + "41": true,
		"048041000000": false, "04ff0141": false, // an indefinite length, a reserved one
		"0481": false, "04810241": false, "0488ffffffffffffffff41": false, "0484000000": false, "040241": false,
		"050141": false, "1f0141": false, "": false, "04": false, // another tag, or none
	} {
		s, out := String(unhex(encoding)), String(nil)
		if got := ReadBER(&s, &out, TagOctetString); got != want || want && string(out) != "A" || !want && len(s) != len(encoding)/2 {
			t.Errorf("%s: %t, %x, %x is left", encoding, got, out, s)
		}
	}
}
