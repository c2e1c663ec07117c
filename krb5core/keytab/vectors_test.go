package keytab

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// vector is a keytab written by MIT krb5 1.20.1 or by hand after its
// documentation, and what is in it.
type vector struct {
	Name    string `json:"name"`
	File    string `json:"file"`
	Expect  string `json:"expect"`
	Entries []struct {
		Principal string `json:"principal"`
		NameType  *int32 `json:"name_type"`
		Timestamp uint32 `json:"timestamp"`
		KVNO      uint32 `json:"kvno"`
		EType     int32  `json:"etype"`
		Key       string `json:"key"`
	} `json:"entries"`
}

func (v vector) file(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(v.File)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func loadVectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("../../tests/vectors/keytab-ccache.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Keytabs []vector `json:"keytabs"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Keytabs) == 0 {
		t.Fatal("vectors are missing")
	}
	return v.Keytabs
}

// vectorNamed returns the file of one vector.
func vectorNamed(t testing.TB, name string) []byte {
	t.Helper()
	for _, v := range loadVectors(t) {
		if v.Name == name {
			return v.file(t)
		}
	}
	t.Fatalf("no vector %q", name)
	return nil
}

// shown is an entry as the vectors show it.
type shown struct {
	Principal string
	NameType  int32
	Timestamp int64
	KVNO      uint32
	EType     int32
	Key       string
}

func show(k *Keytab) []shown {
	list := []shown{}
	for _, e := range k.Entries {
		s := shown{
			Principal: e.Principal.String(), NameType: int32(e.Principal.Name.NameType), KVNO: e.KVNO,
			EType: int32(e.Key.EType()), Key: hex.EncodeToString(e.Key.Bytes()),
		}
		if !e.Timestamp.IsZero() {
			s.Timestamp = e.Timestamp.Unix()
		}
		list = append(list, s)
	}
	return list
}

func TestParseReadsWhatMITWrites(t *testing.T) {
	for _, v := range loadVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			k, err := Parse(v.file(t))
			if strings.HasPrefix(v.Expect, "error") {
				var format *FormatError
				if !errors.As(err, &format) {
					t.Fatalf("error %v is no *FormatError", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := []shown{}
			for _, e := range v.Entries {
				s := shown{e.Principal, 1, int64(e.Timestamp), e.KVNO, e.EType, e.Key}
				if e.NameType != nil {
					s.NameType = *e.NameType
				}
				want = append(want, s)
			}
			if v.Expect != "" { // "one entry a/@EXAMPLE.COM or none": here it is one
				want = []shown{{"a/@EXAMPLE.COM", 1, 1, 1, 18, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}}
			}
			if diff := cmp.Diff(want, show(k)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMarshalWritesWhatMITWrites(t *testing.T) {
	for _, name := range []string{"mit-ktutil.keytab", "mit-rot.keytab"} {
		file := vectorNamed(t, name)
		k, err := Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		again, err := k.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(file, again); diff != "" {
			t.Errorf("%s: written again it differs:\n%s", name, diff)
		}
	}
}

func TestMarshalRoundTrips(t *testing.T) {
	for _, v := range loadVectors(t) {
		k, err := Parse(v.file(t))
		if err != nil {
			continue
		}
		b, err := k.Marshal()
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		again, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if diff := cmp.Diff(show(k), show(again)); diff != "" {
			t.Errorf("%s: %s", v.Name, diff)
		}
	}
}

// A keytab has no count and no end marker that must be there: cut between two
// records, it is a shorter keytab. Cut anywhere else it is an error.
func TestParseRefusesEveryCutWithinARecord(t *testing.T) {
	for _, v := range loadVectors(t) {
		file := v.file(t)
		whole, err := Parse(file)
		if err != nil || v.Name == "zero length ends the file, rest ignored" {
			continue
		}
		ends := recordEnds(file)
		for n := range file {
			k, err := Parse(file[:n])
			if !ends[n] {
				if err == nil {
					t.Errorf("%s: cut to %d of %d bytes, it gives %d entries", v.Name, n, len(file), len(k.Entries))
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: cut to %d bytes, between records: %v", v.Name, n, err)
			} else if diff := cmp.Diff(show(whole)[:len(k.Entries)], show(k)); diff != "" {
				t.Errorf("%s: cut to %d bytes: %s", v.Name, n, diff)
			}
		}
	}
}

// recordEnds are the lengths to which a file can be cut between records.
func recordEnds(file []byte) map[int]bool {
	ends := map[int]bool{2: true}
	for at := 2; at+4 <= len(file); {
		size := int(int32(uint32(file[at])<<24 | uint32(file[at+1])<<16 | uint32(file[at+2])<<8 | uint32(file[at+3])))
		if file[1] == version1 {
			size = int(file[at]) | int(file[at+1])<<8
		}
		if size < 0 {
			size = -size
		}
		at += 4 + size
		ends[at] = true
	}
	return ends
}

func TestParseReadsVersion1InBothByteOrders(t *testing.T) {
	little := vectorNamed(t, "version 1, little endian")
	want, err := Parse(little)
	if err != nil {
		t.Fatal(err)
	}
	// Every number of more than one octet turned around: the length, then
	// count, realm, two components, timestamp, and etype and key length after
	// the octet of the kvno.
	big := append([]byte(nil), little...)
	turn := func(at, n int) {
		for i, j := at, at+n-1; i < j; i, j = i+1, j-1 {
			big[i], big[j] = big[j], big[i]
		}
	}
	turn(2, 4)
	turn(6, 2)
	at := 8
	for range 3 {
		n := int(little[at])
		turn(at, 2)
		at += 2 + n
	}
	turn(at, 4)
	turn(at+5, 2)
	turn(at+7, 2)
	got, err := Parse(big)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(show(want), show(got)); diff != "" {
		t.Error(diff)
	}
	if _, err := Parse(big[:len(big)-3]); err == nil {
		t.Error("cut short, it is no error")
	}
}

func TestParseErrorsNameOffsetReasonAndRemedy(t *testing.T) {
	good := vectorNamed(t, "ktpass style: time 0, 8-bit kvno only, name type 1")
	short := append([]byte(nil), good...)
	short[54] = 0x11 // a type whose keys have 16 octets
	for name, tt := range map[string]struct {
		file []byte
		want string
	}{
		"empty":      {nil, "byte 0: the file is empty"},
		"PEM":        {[]byte("-----BEGIN CERTIFICATE-----\n"), "byte 0: not a keytab but a PEM file"},
		"krb5.conf":  {[]byte("\ufeff[libdefaults]\r\n"), "byte 0: not a keytab but a text; a krb5.conf?"},
		"base64":     {[]byte("BQIAAABTAAI="), "byte 0: a keytab in base64: decode it first"},
		"ccache":     {[]byte{5, 4, 0, 12}, "byte 0: keytab version 4 does not exist: this may be a credential cache"},
		"version":    {[]byte{5, 9}, "byte 0: keytab version 9 is not known"},
		"other":      {[]byte("MZ\x90\x00"), "byte 0: not a keytab: begins with 4d 5a 90 00 where 05 02 should be"},
		"cut":        {good[:80], "byte 80: cut short: the record at byte 2 has 83 octets, of which 74 are there; copy the file again"},
		"cut length": {append(append([]byte(nil), good...), 0, 0), "byte 91: cut short: the length of the record at byte 89 has 2 of 4 octets"},
		"key size":   {short, "entry of HTTP/web.example.com@EXAMPLE.COM: a key of type aes128-cts-hmac-sha1-96 has"},
	} {
		_, err := Parse(tt.file)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
}

func TestTimestampsReachPast2038(t *testing.T) {
	file := vectorNamed(t, "32-bit kvno overrides")
	k, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	k.Entries[0].Timestamp = time.Date(2105, 1, 2, 3, 4, 5, 0, time.UTC)
	b, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(b)
	if err != nil || !again.Entries[0].Timestamp.Equal(k.Entries[0].Timestamp) {
		t.Errorf("%v, %v", again, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range loadVectors(f) {
		f.Add(v.file(f))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		k, err := Parse(file)
		if err != nil {
			return
		}
		b, err := k.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(show(k), show(again)); diff != "" {
			t.Error(diff)
		}
		for _, p := range k.Principals() {
			if len(k.Keys(p)) == 0 {
				t.Errorf("%s has no keys", p)
			}
		}
	})
}
