package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
)

func TestEstimate(t *testing.T) {
	samples := make([]float64, 0, 100)
	for i := range 100 {
		samples = append(samples, float64((i*37)%100)) // 0 to 99, in no order
	}
	e := estimateOf(samples)
	// Binomial: the ranks 40 and 61 hold the median of 100 with 95 %.
	if e.median != 49.5 || math.Abs(e.low-40) > 1 || math.Abs(e.high-60) > 1 || e.n != 100 {
		t.Errorf("%+v", e)
	}
	if one := estimateOf([]float64{7}); one.median != 7 || one.low != 7 || one.high != 7 {
		t.Errorf("%+v", one)
	}
}

func TestRatios(t *testing.T) {
	// The machine slows down by a factor of a hundred; the ratio stays.
	a, b := []float64{2, 20, 200}, []float64{1, 10, 100}
	if r := ratios(a, b); r.median != 2 || r.low != 2 || r.high != 2 {
		t.Errorf("%+v", r)
	}
}

func TestRace(t *testing.T) {
	var order []string
	player := func(name string) *side {
		return &side{name: name, n: 1, run: func(int) (time.Duration, error) {
			order = append(order, name)
			return time.Second, nil
		}}
	}
	a, b := player("a"), player("b")
	if err := race(3, 0, a, b); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "abbaab" || len(a.samples) != 3 {
		t.Errorf("order %s, samples %v", got, a.samples)
	}
	b.run = func(int) (time.Duration, error) { return 0, io.EOF }
	if err := race(1, 0, a, b); !errors.Is(err, io.EOF) || !strings.HasPrefix(err.Error(), "b: ") {
		t.Errorf("%v", err)
	}
}

func TestCondition(t *testing.T) {
	e := estimate{median: 1.2, low: 1, high: 1.4, n: 9}
	for want, c := range map[bool]condition{true: atMost("x", e, 1.2), false: atLeast("x", e, 1.21)} {
		if c.met() != want {
			t.Errorf("%+v", c)
		}
	}
	var r report
	r.judge(5, "proxy", atMost("to static", e, 1.1), leftOut("to MIT", "no compiler"))
	for _, want := range []string{"| 5 | proxy: to static <= 1.10 | 1.20 [1.00, 1.40] | **missed** |", "left out: no compiler"} {
		if !strings.Contains(r.summary(), want) {
			t.Errorf("%q is not in %s", want, r.summary())
		}
	}
}

func TestPlots(t *testing.T) {
	for name, svg := range map[string][]byte{
		"bars":   bars("a < b & c", true, []bar{{"one", 1, "1 ns", true}, {"<two>", 1000, "1 us", false}}),
		"curves": curves("t", "x", []curve{{"a & b", []float64{10, 100}, []float64{1, 2}, nanos, colourOurs}, {"flat", []float64{10, 100}, []float64{1, 1}, nanos, colourPeer}}),
	} {
		d := xml.NewDecoder(strings.NewReader(string(svg)))
		var texts []string
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, svg)
			}
			if text, ok := token.(xml.CharData); ok {
				texts = append(texts, string(text))
			}
		}
		if strings.Contains(string(svg), "NaN") || strings.Contains(string(svg), "Inf") {
			t.Errorf("%s: %s", name, svg)
		}
		if name == "bars" && !slices.Contains(texts, "<two>") {
			t.Errorf("labels %q", texts)
		}
	}
}

func TestSplit(t *testing.T) {
	zero := time.Unix(0, 0)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	refreshes := []span{{at(100), at(200)}}
	during, without := split([]answer{
		{at(201), 5e6}, {at(90), 5e6}, {at(90), 10e6}, {at(150), 1e6}, {at(200), 1e6},
	}, refreshes)
	if len(during) != 3 || len(without) != 2 {
		t.Errorf("%v, %v", during, without)
	}
}

func TestJoined(t *testing.T) {
	zero := time.Unix(0, 0)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	s := spans{list: []span{{at(300), at(350)}, {at(0), at(50)}, {at(60), at(110)}, {at(61), at(70)}}}
	if got := s.joined(); !slices.Equal(got, []span{{at(0), at(110)}, {at(300), at(350)}}) {
		t.Errorf("%v", got)
	}
}

func TestFloorLength(t *testing.T) {
	s := startSite(t, shared[0])
	cred, err := s.ticket(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made, err := templates(cred, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	header, _, err := made[0].Header(t.Context(), &gss.ChannelBindings{1})
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFloor(header)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.full(); err != nil {
		t.Fatal(err)
	}
	// Without ciphertext stealing it is at most a block longer.
	if more := len(f.value) - len(header); more < 0 || more > 24 || !strings.HasPrefix(header, string(f.header)) {
		t.Errorf("floor of %d bytes for a header of %d", len(f.value), len(header))
	}
}
