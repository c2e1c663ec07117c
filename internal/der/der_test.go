package der

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"testing"
	"time"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// golden values: what X.690 says the encodings are, worked out by hand.
func TestValuesAreWrittenInDER(t *testing.T) {
	for _, test := range []struct {
		got  []byte
		want string
	}{
		{AppendInt(nil, 0), "020100"},
		{AppendInt(nil, 127), "02017f"},
		{AppendInt(nil, 128), "02020080"},
		{AppendInt(nil, 256), "02020100"},
		{AppendInt(nil, -1), "0201ff"},
		{AppendInt(nil, -128), "020180"},
		{AppendInt(nil, -129), "0202ff7f"},
		{AppendInt(nil, uint32(math.MaxUint32)), "020500ffffffff"},
		{AppendInt(nil, int64(math.MinInt64)), "02088000000000000000"},
		{AppendEnum(nil, 1), "0a0101"},
		{AppendOctetString(nil, nil), "0400"},
		{AppendGeneralString(nil, "Grüße"), "1b074772c3bcc39f65"},
		{AppendOID(nil, unhex("2a864886f712010202")), "06092a864886f712010202"},
		{AppendFlags(nil, uint32(0x40810010)), "03050040810010"},
		{AppendTime(nil, time.Date(2026, 11, 20, 5, 52, 49, 999, time.FixedZone("", 3600))), "180f32303236313132303034353234395a"},
		{AppendTime(nil, time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)), "180f30303030303130313030303030305a"},
		{AppendTime(nil, time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)), "180f39393939313233313233353935395a"},
		{AppendField(nil, 3, AppendInt, 5), "a303020105"},
		{AppendField(nil, 30, AppendOctetString, []byte{5, 0}), "be0404020500"},
		{writer(ListOf(Int32[int32]))(nil, []int32{1, 2}), "3006020101020102"},
		{writer(ListOf(Int32[int32]))(nil, nil), "3000"},
		{AppendBytes(nil, Application(14), []byte{1}), "6e0101"},
	} {
		if got := hex.EncodeToString(test.got); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestLengthsAreMinimal(t *testing.T) {
	for n, header := range map[int]string{
		0: "0400", 1: "0401", 127: "047f", 128: "048180", 255: "0481ff", 256: "04820100", 65535: "0482ffff", 65536: "0483010000",
		1 << 24: "048401000000",
	} {
		content := bytes.Repeat([]byte{0xa5}, n)
		want := append(unhex(header), content...)
		if got := AppendOctetString([]byte("x"), content); !bytes.Equal(got[1:], want) {
			t.Errorf("%d bytes: begins %x", n, got[1:min(len(got), 8)])
		}
		nested := Append([]byte("x"), TagOctetString, func(dst []byte) []byte { return append(dst, content...) })
		if !bytes.Equal(nested[1:], want) {
			t.Errorf("%d bytes appended by a function: begins %x", n, nested[1:min(len(nested), 8)])
		}
		if got := HeaderLen(n); got != len(header)/2 {
			t.Errorf("%d bytes: HeaderLen is %d", n, got)
		}
		s := String(want)
		var got []byte
		if !ReadOctets(&s, &got) || !s.Empty() || !bytes.Equal(got, content) {
			t.Errorf("%d bytes are not read", n)
		}
	}
}

func TestAppendKeepsWhatIsInTheBuffer(t *testing.T) {
	buffer := make([]byte, 3, 4096)
	copy(buffer, "abc")
	got := Append(buffer, TagSequence, func(dst []byte) []byte { return AppendOctetString(dst, make([]byte, 300)) })
	if &got[0] != &buffer[0] || string(got[:3]) != "abc" || !bytes.Equal(got[3:11], unhex("308201300482012c")) {
		t.Errorf("%x", got[:11])
	}
}

func TestAppend_NoAllocation(t *testing.T) {
	buffer := make([]byte, 0, 4096)
	raw := make([]byte, 1000)
	if n := testing.AllocsPerRun(100, func() {
		Append(buffer, TagSequence, func(dst []byte) []byte {
			dst = AppendField(dst, 0, AppendInt, 5)
			return AppendField(dst, 1, AppendOctetString, raw)
		})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// accepts says whether read takes all of the encoding, and what it yields.
func accepts[T any](read func(*String, *T) bool, encoding string) (T, bool) {
	s := String(unhex(encoding))
	var v T
	ok := read(&s, &v)
	return v, ok && s.Empty()
}

func reader[T any](code func(*Codec, *T)) func(*String, *T) bool {
	return func(s *String, v *T) bool { return ReadCoded(s, code, v) }
}

func readerBER[T any](code func(*Codec, *T)) func(*String, *T) bool {
	return func(s *String, v *T) bool { return ReadCodedBER(s, code, v) }
}

func writer[T any](code func(*Codec, *T)) func([]byte, T) []byte {
	return func(dst []byte, v T) []byte { return AppendCoded(dst, code, &v) }
}

func checkRead[T any](t *testing.T, name string, read func(*String, *T) bool, good map[string]T, bad []string) {
	t.Run(name, func(t *testing.T) {
		for encoding, want := range good {
			if got, ok := accepts(read, encoding); !ok || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %v, %t, want %v", encoding, got, ok, want)
			}
			for n := range len(encoding) / 2 {
				if got, ok := accepts(read, encoding[:2*n]); ok {
					t.Errorf("%s, %d bytes of it: %v", encoding, n, got)
				}
			}
		}
		for _, encoding := range bad {
			if got, ok := accepts(read, encoding); ok {
				t.Errorf("%s is accepted: %v", encoding, got)
			}
		}
	})
}

func TestRead_Strict(t *testing.T) {
	checkRead(t, "int32", ReadInt32[int32], map[string]int32{"020100": 0, "0201ff": -1, "020180": -128, "020500ffffff80": -128, "02047fffffff": math.MaxInt32},
		[]string{"02050100000000", "0205ff7fffffff", "0200", "02020001", "0202ffff", "0209008000000000000000", "0a0101", "02810101"})
	checkRead(t, "uint32", ReadUint32[uint32], map[string]uint32{"02048c9a0002": 0x8c9a0002, "0205008c9a0002": 0x8c9a0002, "0201ff": math.MaxUint32},
		[]string{"02050100000000", "0205ff7fffffff"})
	checkRead(t, "enum", ReadEnum[int32], map[string]int32{"0a0102": 2}, []string{"0a01ff", "0a0500ffffffff", "020102"})
	checkRead(t, "bytes", ReadOctets, map[string][]byte{"0400": {}, "04020102": {1, 2}},
		[]string{"2404040201020000", "048002010000", "04810101", "0484000000010a", "04ffffffffffffffff", "05020102"})
	checkRead(t, "string", ReadGeneralString, map[string]string{"1b00": "", "1b0141": "A"}, []string{"0c0141", "160141"})
	checkRead(t, "OID", ReadOID, map[string][]byte{"06012a": {0x2a}}, []string{"0600"})
	checkRead(t, "flags", ReadFlags[uint32], map[string]uint32{
		"03050040810010": 0x40810010, "0303004081": 0x40810000, "030100": 0, "0306004081001001": 0x40810010, "030204ff": 0xf0000000,
		"030501ffffffff": 0xfffffffe,
	}, []string{"0300", "030101", "030208ff", "0303ff4081", "2305000000000000"})
	badTimes := []string{"170f32303236313132303034353234395a"}
	for _, text := range []string{
		"2026112004524Z", "20260231000000Z", "20261320000000Z", "20261120240000Z", "20261120006000Z",
		"20261120000060Z", "202611200000000", "2026112000000xZ", "20261120000000.5Z", "20261120000000+0100",
	} {
		badTimes = append(badTimes, hex.EncodeToString(AppendBytes(nil, TagGeneralizedTime, []byte(text))))
	}
	checkRead(t, "time", ReadTime, map[string]time.Time{
		"180f32303236313132303034353234395a": time.Date(2026, 11, 20, 4, 52, 49, 0, time.UTC),
		"180f31393730303130313030303030305a": time.Unix(0, 0).UTC(),
		"180f30303030303130313030303030305a": time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC),
	}, badTimes)
	checkRead(t, "list", reader(ListOf(Int32[int32])), map[string][]int32{"3000": {}, "3006020101020102": {1, 2}},
		[]string{"3080020101", "30800000", "3003040101", "310302010a"})
}

func TestFieldsHoldOneValue(t *testing.T) {
	for encoding, want := range map[string]bool{
		"a303020105": true, "a306020105020106": false, "a300": false, "a203020105": false, "8303020105": false, "a3800201050000": false,
	} {
		s := String(unhex(encoding))
		var v int32
		if got := ReadField(&s, 3, ReadInt32, &v); got != want || want && v != 5 {
			t.Errorf("%s: %t, %d", encoding, got, v)
		}
	}
}

func TestReadOptional(t *testing.T) {
	v, p := int32(7), (*int32)(nil)
	s := String(unhex("a403020105"))
	if !ReadOptional(&s, 3, ReadInt32, &v) || v != 7 || len(s) != 5 {
		t.Errorf("an absent field: %d, %x is left", v, s)
	}
	if !ReadOptional(&s, 4, reader(Pointer(Int32[int32])), &p) || *p != 5 || !s.Empty() {
		t.Errorf("a field that is there: %v, %x is left", p, s)
	}
	s = String(unhex("a403040105"))
	if ReadOptional(&s, 4, reader(Pointer(Int32[int32])), &p) {
		t.Error("a malformed field is taken for an absent one")
	}
}

func TestSkipUnknownSkipsOnlyLaterFields(t *testing.T) {
	for encoding, want := range map[string]bool{
		"": true, "a403020105": true, "8400": true, "a4020500be020500": true, // fields after [3]
		"a303020105": false, "a0020500": false, // known ones, out of order
		"020105": false, "64020500": false, // no fields
		"a403": false, "a480": false, // no DER
	} {
		s := String(unhex(encoding))
		if got := SkipUnknown(&s, 3); got != want {
			t.Errorf("%s: %t", encoding, got)
		}
	}
}

func TestReadRawKeepsTheWholeElement(t *testing.T) {
	s := String(unhex("a30302010504"))
	var raw []byte
	if !ReadRaw(&s, &raw) || hex.EncodeToString(raw) != "a303020105" || len(s) != 1 {
		t.Errorf("%x, %x is left", raw, s)
	}
	if ReadRaw(&s, &raw) {
		t.Error("half an element is read")
	}
}

// What a reader accepts of any input, its writer writes in a form that reads as the same value.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		"020100", "02048c9a0002", "020500ffffff80", "03050040810010", "030204ff", "180f32303236313132303034353234395a", "1b0141",
		"0400", "0101ff", "0a0101", "3006020101020102", "3080", "06012a", "048180",
	} {
		f.Add(unhex(s))
		f.Add(long(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, ReadInt32[int32], AppendInt[int32])
		roundTrip(t, b, ReadUint32[uint32], AppendInt[uint32])
		roundTrip(t, b, ReadEnum[int32], AppendEnum[int32])
		roundTrip(t, b, ReadOctets, AppendOctetString)
		roundTrip(t, b, ReadGeneralString, AppendGeneralString)
		roundTrip(t, b, ReadOID, AppendOID)
		roundTrip(t, b, ReadFlags[uint32], AppendFlags[uint32])
		roundTrip(t, b, ReadTime, AppendTime)
		roundTrip(t, b, reader(ListOf(Octets)), writer(ListOf(Octets)))
		roundTrip(t, b, readerBER(ListOf(Octets)), writer(ListOf(Octets)))
		roundTrip(t, b, readerBER(codeSample), writer(codeSample))
		s := String(b)
		SkipUnknown(&s, 3)
	})
}

func roundTrip[T any](t *testing.T, b []byte, read func(*String, *T) bool, write func([]byte, T) []byte) {
	s := String(b)
	var v, again T
	if !read(&s, &v) {
		return
	}
	written := write(nil, v)
	s = String(written)
	if !read(&s, &again) || !s.Empty() || fmt.Sprint(again) != fmt.Sprint(v) {
		t.Fatalf("%x is %v, written %x, then %v", b, v, written, again)
	}
}
