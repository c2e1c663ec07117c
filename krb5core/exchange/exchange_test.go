package exchange

import "testing"

func TestBudget(t *testing.T) {
	b := NewBudget(7)
	if b.Left() != MaxProofs {
		t.Errorf("%d proofs in a new budget", b.Left())
	}
	b.spend()
	before := b.Sent()
	b.spend()
	b.refuse(before)
	if b.Left() != 1 || b.Sent() != 2 || b.Refused() != 1 {
		t.Errorf("after two proofs, one refused: %+v", *b)
	}
	other := NewBudget(2)
	other.spend()
	other.spend()
	other.refuse(0)
	b.Charge(other)
	if b.Left() != 0 || b.Sent() != 4 || b.Refused() != 3 {
		t.Errorf("with another budget's proofs: %+v", *b)
	}
}
