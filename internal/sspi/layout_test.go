package sspi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// SEC_CHANNEL_BINDINGS is the same everywhere.
func TestAppendBindings_Golden(t *testing.T) {
	const want = "00000000" + "00000000" + "00000000" + // initiator's type, length, offset
		"00000000" + "00000000" + "00000000" + // acceptor's
		"03000000" + "20000000" + "616263" // length and offset of the data, the data
	if got := hex.EncodeToString(appendBindings(nil, "abc")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// The golden bytes are for HTTP/a of the realm B, at the address 0x10000, for pointers of 64 bit
// (amd64, arm64) and of 32 bit (386).
func TestPurgeRequest_Golden(t *testing.T) {
	const names = "480054005400500" + "02f006100" + "4200" // HTTP/a, B
	for word, want := range map[int]string{
		8: "06000000" + "0000000000000000" + "00000000" +
			"0c000c00" + "00000000" + "3000010000000000" +
			"02000200" + "00000000" + "3c00010000000000" + names,
		4: "06000000" + "0000000000000000" +
			"0c000c00" + "1c000100" +
			"02000200" + "28000100" + names,
	} {
		got := must.OK(purgeRequest(0x10000, word, "HTTP/a", "B"))(t)
		if hex.EncodeToString(got) != want {
			t.Errorf("%d bit: %x, want %s", 8*word, got, want)
		}
	}
	for _, name := range [][2]string{{"", ""}, {"HTTP/a", ""}, {"", "B"}, {string(bytes.Repeat([]byte("x"), 40000)), "B"}} {
		if _, err := purgeRequest(0x10000, 8, name[0], name[1]); err == nil {
			t.Errorf("%.10q of %q is not refused", name[0], name[1])
		}
	}
}

var cached = []Ticket{
	{Client: "svc", ClientRealm: "CORP.EXAMPLE", Server: "HTTP/a", ServerRealm: "CORP.EXAMPLE", Start: time.Unix(1700000000, 0), End: time.Unix(1700036000, 500), EType: 18, SessionEType: 17, Flags: 0x40040000},
	{Client: "svc", ClientRealm: "CORP.EXAMPLE", Server: "HTTP/ü", ServerRealm: "CORP.EXAMPLE", End: time.Unix(1700036000, 0), EType: -133},
}

func TestParseTickets_BothWordSizes(t *testing.T) {
	for _, word := range []int{4, 8} {
		for _, base := range []uint64{0x1000, 0x7fff0000} {
			b := appendTickets(nil, base, word, queryTicketCacheEx2, cached)
			if got := must.OK(parseTickets(b, base, word, queryTicketCacheEx2))(t); !slices.Equal(got, cached) {
				t.Errorf("%d bit: %+v", 8*word, got)
			}
			for n := range b {
				if got, err := parseTickets(b[:n], base, word, queryTicketCacheEx2); err == nil && len(got) > 0 && n < len(b)-len("EXAMPLE")*4 {
					t.Errorf("%d bit: cut to %d of %d bytes it is accepted", 8*word, n, len(b))
				}
			}
			if _, err := parseTickets(b, base+uint64(len(b)), word, queryTicketCacheEx2); err == nil {
				t.Errorf("%d bit: names before the answer", 8*word)
			}
			if _, err := parseTickets(b, base, word, queryTicketCache); err == nil {
				t.Errorf("%d bit: the answer to another message", 8*word)
			}
		}
	}
}

func FuzzParseTickets(f *testing.F) {
	for _, word := range []int{4, 8} {
		for _, kind := range []uint32{queryTicketCache, queryTicketCacheEx2} {
			f.Add(appendTickets(nil, 0x1000, word, kind, cached), word == 8, kind == queryTicketCacheEx2)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, long, ex2 bool) {
		word, kind := 4, uint32(queryTicketCache)
		if long {
			word = 8
		}
		if ex2 {
			kind = queryTicketCacheEx2
		}
		tickets, err := parseTickets(b, 0x1000, word, kind)
		if err == nil && len(tickets) != int(binary.LittleEndian.Uint32(b[4:])) {
			t.Errorf("%d tickets", len(tickets))
		}
	})
}

func TestStatus_Names(t *testing.T) {
	for _, s := range Statuses() {
		if s.String() == "" || s.failed() != (s>>31 == 1) {
			t.Errorf("%#x: %s", uint32(s), s)
		}
	}
	if got := SEC_E_NO_CREDENTIALS.String(); got != "SEC_E_NO_CREDENTIALS (0x8009030e)" {
		t.Error(got)
	}
	if got := Status(0x80090999).String(); got != "0x80090999" {
		t.Error(got)
	}
}
