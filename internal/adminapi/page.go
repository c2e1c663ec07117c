package adminapi

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-negotiate/caddy-negotiate/internal/version"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"join":   func(all []string) string { return strings.Join(all, ", ") },
	"plural": english.Plural,
	"show":   func(text string) string { return showText(text, maxText) },
	"advice": func(text string) string { return showText(text, maxAdvice) },
}).Parse(pageText))

// pageData is what the page shows.
type pageData struct {
	Version, Caddy, Now string
	Refresh             bool // the page loads itself again
	Identities          []identityCard
}

// identityCard is an identity as the page shows it.
type identityCard struct {
	IdentityView
	Life    *life
	KeyText []string
	Clocks  []clock
	Soonest []ticketRow
	Others  int // tickets that are not in Soonest
}

// life is how much of a ticket's life is left.
type life struct {
	Percent         int
	Left, End, From string
}

// clock is a realm whose clock is off.
type clock struct{ Realm, Offset string }

// ticketRow is a ticket as the page shows it.
type ticketRow struct {
	Service, User string
	Uses          string
	life
}

// maxTicketRows is how many tickets of an identity the page lists.
const maxTicketRows = 20

// page is what the endpoints say, for people: one page without scripts, which loads itself again.
func (a api) page(w http.ResponseWriter, query url.Values) error {
	refresh := query.Get("refresh")
	if refresh != "" && refresh != "off" {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("refresh can only be off, not %q", refresh)}
	}
	now := a.now()
	simple, _ := caddy.Version()
	data := pageData{Version: version.Current().String(), Caddy: simple, Now: timeText(now), Refresh: refresh == ""}
	s := selection{identities: a.pool.Identities()}
	all := a.viewIdentities(s.identities)
	tickets := a.pool.Tickets()
	for i, v := range all {
		data.Identities = append(data.Identities, newCard(v, selection{identities: s.identities[i : i+1]}.viewTickets(tickets), now))
	}
	var page bytes.Buffer
	if err := pageTemplate.Execute(&page, data); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	_, err := page.WriteTo(w)
	return err
}

func newCard(v IdentityView, tickets []TicketView, now time.Time) identityCard {
	card := identityCard{IdentityView: v}
	if v.Problem != nil { // it says why the login failed
		card.Failures = slices.DeleteFunc(slices.Clone(v.Failures), func(f FailureView) bool { return f.SPN == "" })
	}
	if v.TGT != nil {
		left := lifeOf(*v.TGT, now)
		card.Life = &left
	}
	for _, k := range v.Keys {
		text := k.EType
		if k.KVNO > 0 {
			text = fmt.Sprintf("version %d: %s", k.KVNO, k.EType)
		}
		card.KeyText = append(card.KeyText, text)
	}
	for _, realm := range slices.Sorted(maps.Keys(v.ClockOffsets)) {
		if offset := time.Duration(v.ClockOffsets[realm] * float64(time.Second)).Round(time.Second); offset != 0 {
			card.Clocks = append(card.Clocks, clock{realm, offsetText(offset)})
		}
	}
	slices.SortStableFunc(tickets, func(a, b TicketView) int { return a.EndTime.Compare(b.EndTime) })
	card.Others = max(0, len(tickets)-maxTicketRows)
	for _, t := range tickets[:len(tickets)-card.Others] {
		card.Soonest = append(card.Soonest, ticketRow{t.Service, t.User, humanize.Comma(int64(t.Uses)), lifeOf(t.TicketTimes, now)})
	}
	return card
}

// State is one word for people, who see its colour too.
func (c identityCard) State() string {
	switch {
	case c.Breaker.Open:
		return "refused"
	case !c.Ready:
		return "not ready"
	case c.TGT == nil:
		return "not used yet"
	default:
		return "ready"
	}
}

// NotReady is how many identities are not ready.
func (d pageData) NotReady() (n int) {
	for _, c := range d.Identities {
		if !c.Ready {
			n++
		}
	}
	return n
}

func lifeOf(t TicketTimes, now time.Time) life {
	whole, left := t.EndTime.Sub(t.StartTime), t.EndTime.Sub(now)
	l := life{End: timeText(t.EndTime), From: timeText(t.StartTime), Left: "ended"}
	if left > 0 && whole > 0 {
		l.Percent = int(min(100, 100*left/whole))
		l.Left = strings.TrimSpace(humanize.RelTime(now, t.EndTime, "", "")) + " left"
	}
	return l
}

func timeText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func offsetText(offset time.Duration) string {
	if offset < 0 {
		return (-offset).String() + " behind ours"
	}
	return offset.String() + " ahead of ours"
}

// TimeText is a time of a view, empty for none.
func (c identityCard) TimeText(t *time.Time) string {
	if t == nil {
		return ""
	}
	return timeText(*t)
}

// When is the time of a failure.
func (f FailureView) When() string { return timeText(f.Time) }

// How much of a text that may come from the network is shown, and of a remedy that may quote
// one, in characters.
const maxText, maxAdvice = 200, 1000

// showText makes a text that may come from the network harmless for people: at most so many
// characters, and those that cannot be seen, or change the direction of writing, as escapes.
// The template escapes it for HTML.
func showText(text string, limit int) string {
	var shown strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > limit {
			shown.WriteString("…")
			break
		}
		if unicode.IsPrint(r) {
			shown.WriteRune(r)
		} else {
			shown.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return shown.String()
}
