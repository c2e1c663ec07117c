package faults

import (
	"fmt"
	"sync"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

func TestColdHerd_LossyNetwork(t *testing.T) {
	const herd = 1000
	// One of five datagrams is lost, on its way or on its way back: in each round
	// another one of the three that it takes if all goes well.
	for _, row := range []struct {
		name   string
		rounds int
		lose   func() kdctest.Fault
	}{
		{"all arrives", 1, nil},
		{"20 % of the questions are lost", 3, kdctest.Lose},
		{"20 % of the answers are lost", 2, kdctest.LoseReply},
	} {
		for round := range 3 {
			if row.rounds <= round {
				break
			}
			t.Run(fmt.Sprintf("%s, round %d", row.name, round), func(t *testing.T) {
				e := newEnv(t)
				e.level = "ERROR"
				gate := kdctest.NewGate()
				faults := []kdctest.Fault{gate.Slow()}
				if row.lose != nil {
					faults = append(faults, everyFifth(round, row.lose()))
				}
				e.KDC.Use(append(faults, lookaside())...)
				e.load(e.usual("login_at_start off"))
				go func() {
					<-gate.Arrived()
					gate.Release()
				}()
				e.GetMany(herd, herd, "/", isServed)
				e.WantCounts(1, 1)
				c := e.KDC.Counts()
				if row.lose != nil && round < 3 && c.UDP+c.TCP == 3 {
					t.Error("nothing was sent again: nothing was lost, nothing was shown")
				}
				t.Logf("%d requests, 0 failed: %d login, %d exchange; %d datagrams, %d streams", herd, c.ASRep, c.TGSRep, c.UDP, c.TCP)
			})
		}
	}
}

// lookaside answers a question that comes again, by whatever way, as it did before,
// as MIT's KDC does: what is counted is what was issued.
func lookaside() kdctest.Fault {
	var mu sync.Mutex
	given := make(map[string]kdctest.Answer)
	return func(next kdctest.Handler) kdctest.Handler {
		return func(q *kdctest.Question) kdctest.Answer {
			mu.Lock()
			defer mu.Unlock()
			if a, again := given[string(q.Message)]; again {
				return a
			}
			a := next(q)
			if len(a.Messages) == 1 && messages.TypeOf(a.Messages[0]) != messages.KRB_ERROR {
				given[string(q.Message)] = a
			}
			return a
		}
	}
}

// everyFifth loses the datagrams number first, first+5 and so on.
func everyFifth(first int, lose kdctest.Fault) kdctest.Fault {
	seen := make(chan int, 1)
	seen <- 0
	return kdctest.UDP(kdctest.Only(func(*kdctest.Question) bool {
		n := <-seen
		seen <- n + 1
		return n%5 == first
	}, lose))
}
