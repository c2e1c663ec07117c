package keytab

import (
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// vector is a keytab and what is in it.
type vector struct {
	filetest.Vector
	Entries []struct {
		Principal string `json:"principal"`
		NameType  *int32 `json:"name_type"`
		Timestamp uint32 `json:"timestamp"`
		KVNO      uint32 `json:"kvno"`
		EType     int32  `json:"etype"`
		Key       string `json:"key"`
	} `json:"entries"`
}

func loadVectors(t testing.TB) []vector { return filetest.Vectors[vector](t, "keytabs") }

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

var keytabFormat = filetest.Format[*Keytab]{
	Parse:   Parse,
	Marshal: (*Keytab).Marshal,
	Show:    func(k *Keytab) any { return show(k) },
}

func TestParse_ReadsWhatMITWrites(t *testing.T) {
	for _, v := range loadVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			k, err := Parse(v.File)
			if v.Fails() {
				if _, ok := errors.AsType[*FormatError](err); !ok {
					t.Fatalf("error %v is no *FormatError", err)
				}
				return
			}
			must.Do(t, err)
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
			filetest.Same(t, want, show(k))
		})
	}
}

func TestMarshal_WritesWhatMITWrites(t *testing.T) {
	for _, name := range []string{"mit-ktutil.keytab", "mit-rot.keytab"} {
		keytabFormat.Identity(t, filetest.File(t, "keytabs", name))
	}
}

func TestMarshal_RoundTrips(t *testing.T) {
	for _, v := range loadVectors(t) {
		if _, ok := keytabFormat.RoundTrip(t, v.File); ok == v.Fails() {
			t.Errorf("%s: read and written: %t", v.Name, ok)
		}
	}
}

// A keytab has no count and no end marker that must be there: cut between two
// records, it is a shorter keytab. Cut anywhere else it is an error.
func TestParse_Truncated(t *testing.T) {
	for _, v := range loadVectors(t) {
		file := v.File
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

func TestParse_ByteOrders(t *testing.T) {
	little := filetest.File(t, "keytabs", "version 1, little endian")
	want := must.OK(Parse(little))(t)
	// Every number of more than one byte turned around: the length, then
	// count, realm, two components, timestamp, and etype and key length after
	// the byte of the kvno.
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
	got := must.OK(Parse(big))(t)
	filetest.Same(t, show(want), show(got))
	if _, err := Parse(big[:len(big)-3]); err == nil {
		t.Error("cut short, it is no error")
	}
}

func TestParse_Errors(t *testing.T) {
	good := filetest.File(t, "keytabs", "ktpass style: time 0, 8-bit kvno only, name type 1")
	short := append([]byte(nil), good...)
	short[54] = 0x11 // a type whose keys have 16 bytes
	keytabFormat.Errors(t, map[string]filetest.ErrorCase{
		"empty":      {File: nil, Want: "byte 0: the file is empty"},
		"PEM":        {File: []byte("-----BEGIN CERTIFICATE-----\n"), Want: "byte 0: not a keytab but a PEM file"},
		"krb5.conf":  {File: []byte("\ufeff[libdefaults]\r\n"), Want: "byte 0: not a keytab but text; is it a krb5.conf?"},
		"base64":     {File: []byte("BQIAAABTAAI="), Want: "byte 0: a keytab in base64: decode it first"},
		"ccache":     {File: []byte{5, 4, 0, 12}, Want: "byte 0: keytab version 4 does not exist: this may be a credential cache"},
		"version":    {File: []byte{5, 9}, Want: "byte 0: keytab version 9 is unknown"},
		"other":      {File: []byte("MZ\x90\x00"), Want: "byte 0: not a keytab: begins with 4d 5a 90 00 instead of 05 02"},
		"cut":        {File: good[:80], Want: "byte 6: cut short or damaged: the record at byte 2 has 83 bytes, of which 74 are present; copy the file again"},
		"cut length": {File: append(append([]byte(nil), good...), 0, 0), Want: "byte 89: cut short or damaged: the length of the record at byte 89 has 4 bytes, of which 2 are present"},
		"key size":   {File: short, Want: "entry of HTTP/web.example.com@EXAMPLE.COM: a key of type aes128-cts-hmac-sha1-96 has"},
	})
}

func TestTimestampsReachPast2038(t *testing.T) {
	file := filetest.File(t, "keytabs", "32-bit kvno overrides")
	k := must.OK(Parse(file))(t)
	k.Entries[0].Timestamp = time.Date(2105, 1, 2, 3, 4, 5, 0, time.UTC)
	b := must.OK(k.Marshal())(t)
	again, err := Parse(b)
	if err != nil || !again.Entries[0].Timestamp.Equal(k.Entries[0].Timestamp) {
		t.Errorf("%v, %v", again, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range loadVectors(f) {
		f.Add([]byte(v.File))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		k, ok := keytabFormat.RoundTrip(t, file)
		if !ok {
			if k != nil {
				t.Error("it can be read, but not written")
			}
			return
		}
		for _, p := range k.Principals() {
			if len(k.Keys(p)) == 0 {
				t.Errorf("%s has no keys", p)
			}
		}
	})
}
