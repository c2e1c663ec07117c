package der

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
