package exchange

import "testing"

func TestBudget(t *testing.T) {
	b := NewBudget(7)
	if b.Left() != MaxProofs {
		t.Errorf("%d proofs in a new budget", b.Left())
	}
	b.spend()
	b.spend()
	if b.Left() != 1 || b.Sent() != 2 {
		t.Errorf("after two proofs: %+v", *b)
	}
	other := NewBudget(2)
	other.spend()
	other.spend()
	b.Charge(other)
	if b.Left() != 0 || b.Sent() != 4 {
		t.Errorf("with another budget's proofs: %+v", *b)
	}
}
