package accept

import (
	"encoding/binary"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// Open tickets are bounded by their bytes, and each is found until it has made room.
func TestOpenTickets_Bound(t *testing.T) {
	var o openTickets
	for _, size := range []int{1 << 10, 60 << 10} {
		for i := range 2 * openMemory / (2*size + openExtra) {
			raw := binary.BigEndian.AppendUint64(make([]byte, size-8), uint64(i))
			entry := &openTicket{evidence: &messages.Credential{Ticket: raw}}
			o.put(raw, entry)
			o.put(raw, entry) // as two tokens at once do
			if o.size > openMemory {
				t.Fatalf("%d bytes are kept", o.size)
			}
		}
		took := 0
		for kept, other := range o.byRaw {
			if took += 2*len(kept) + openExtra; string(other.evidence.Ticket) != kept {
				t.Fatal("found under another's name")
			}
		}
		if took != o.size {
			t.Errorf("%d tickets take %d bytes, counted as %d", len(o.byRaw), took, o.size)
		}
		if len(o.byRaw) < openMemory/(2*size+openExtra)/2 {
			t.Errorf("only %d of %d bytes are kept", len(o.byRaw), size)
		}
	}
	if o.get([]byte("another")) != nil {
		t.Error("found what was not put")
	}
}
