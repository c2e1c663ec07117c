package bench

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// estimate is a median with its 95 % confidence interval from order statistics, which
// assume no distribution of the noise.
type estimate struct {
	median, low, high float64
	n                 int
}

func estimateOf(samples []float64) estimate {
	x := slices.Sorted(slices.Values(samples))
	n := len(x)
	if n == 0 {
		return estimate{median: math.NaN(), low: math.NaN(), high: math.NaN()}
	}
	e := estimate{median: quantile(x, 0.5), n: n}
	// The ranks at which the binomial distribution with p = 1/2 leaves 2.5 % on
	// either side, by its normal approximation.
	spread := 1.96 * math.Sqrt(float64(n)) / 2
	low := max(0, int(math.Floor(float64(n)/2-spread)))
	high := min(n-1, int(math.Ceil(float64(n)/2+spread)))
	e.low, e.high = x[low], x[high]
	return e
}

// quantile returns a quantile of sorted samples, interpolated.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 == len(sorted) {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// ratios divides the samples of the same round, which saw the same load.
func ratios(a, b []float64) estimate {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] / b[i]
	}
	return estimateOf(out)
}

// nanos formats nanoseconds in a suitable unit.
func nanos(ns float64) string {
	switch {
	case math.IsNaN(ns):
		return "-"
	case ns < 1e3:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 1e5:
		return fmt.Sprintf("%.2f us", ns/1e3)
	case ns < 1e6:
		return fmt.Sprintf("%.0f us", ns/1e3)
	case ns < 1e8:
		return fmt.Sprintf("%.2f ms", ns/1e6)
	default:
		return fmt.Sprintf("%.0f ms", ns/1e6)
	}
}

// String returns the median and its interval.
func (e estimate) String() string {
	digits := 2
	switch {
	case e.median >= 1000:
		digits = 0
	case e.median >= 20:
		digits = 1
	}
	return fmt.Sprintf("%.*f [%.*f, %.*f]", digits, e.median, digits, e.low, digits, e.high)
}

// side is one of several compared implementations.
type side struct {
	name string
	// run runs the operation n times and returns the total time.
	run func(n int) (time.Duration, error)
	// n is the number of operations in a turn; zero: as many as fill a turn.
	n int

	samples []float64 // nanoseconds per operation, one for each round
}

// each returns a side's run for a function that runs the operation once.
func each(f func() error) func(n int) (time.Duration, error) {
	return func(n int) (time.Duration, error) {
		begin := time.Now()
		for range n {
			if err := f(); err != nil {
				return 0, err
			}
		}
		return time.Since(begin), nil
	}
}

// race runs the sides in turns of about the same length for some rounds, every second
// one in reverse order, so that all see the same load of the machine.
func race(rounds int, turn time.Duration, sides ...*side) error {
	for _, s := range sides {
		if err := s.calibrate(turn); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	order := slices.Clone(sides)
	for range rounds {
		for _, s := range order {
			took, err := s.run(s.n)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			s.samples = append(s.samples, float64(took)/float64(s.n))
		}
		slices.Reverse(order)
	}
	return nil
}

// calibrate sets n to fill a turn, after a first operation that may have to get a
// ticket.
func (s *side) calibrate(turn time.Duration) error {
	if s.n > 0 {
		return nil
	}
	if _, err := s.run(1); err != nil {
		return err
	}
	for n := 1; ; n *= 4 {
		took, err := s.run(n)
		if err != nil {
			return err
		}
		if took >= turn/8 {
			s.n = max(1, int(float64(n)*float64(turn)/float64(took)))
			return nil
		}
	}
}

// result returns the time of an operation, in nanoseconds.
func (s *side) result() estimate { return estimateOf(s.samples) }

// to returns the ratio of this side to another.
func (s *side) to(other *side) estimate { return ratios(s.samples, other.samples) }
