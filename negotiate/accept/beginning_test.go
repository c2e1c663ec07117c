package accept_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func mintText(t *testing.T, template *gss.Template) string {
	t.Helper()
	header, _ := mint(t, template, &gss.ChannelBindings{1})
	text, ok := strings.CutPrefix(header, "Negotiate ")
	if !ok {
		t.Fatalf("%.20q", header)
	}
	return text
}

func anyBindings(gss.ChannelBindings) bool { return true }

// TestBeginning_JudgedAlike changes each character of a token whose ticket has come before: it is judged as by
// an acceptor that sees the ticket for the first time.
func TestBeginning_JudgedAlike(t *testing.T) {
	template, w := bench(t, true)
	warm := w.acceptor()
	for range 3 {
		must.OK(warm.Accept(accept.Request{Bindings: anyBindings, Base64: mintText(t, template)}))(t)
	}
	text := mintText(t, template)
	cfg := w.cfg
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	for at := range len(text) {
		replacement := byte('A')
		if text[at] == replacement {
			replacement = 'B'
		}
		changed := text[:at] + string(replacement) + text[at+1:]
		for _, token := range []string{changed, text[:at], text[:at] + text[at+1:]} {
			cfg.Replays = accept.NewReplays(accept.ReplayMemory, time.Time{})
			_, cold := must.OK(accept.New(cfg))(t).Accept(accept.Request{Bindings: anyBindings, Base64: token})
			_, known := warm.Accept(accept.Request{Bindings: anyBindings, Base64: token})
			if got := reasonOf(t, known); got != reasonOf(t, cold) && (cold != nil || got != accept.Replay) { // a name that nothing protects has changed
				t.Fatalf("character %d: %v, from the first time: %v", at, known, cold)
			}
		}
	}
	text = mintText(t, template)
	must.OK(warm.Accept(accept.Request{Bindings: anyBindings, Base64: text}))(t)
	if _, err := warm.Accept(accept.Request{Bindings: anyBindings, Base64: text}); reasonOf(t, err) != accept.Replay {
		t.Fatal(err)
	}
}

// TestBeginning_SameResult compares what is known of a client by the first token and by later ones.
func TestBeginning_SameResult(t *testing.T) {
	template, w := bench(t, true)
	a := w.acceptor()
	first := must.OK(a.Accept(accept.Request{Bindings: anyBindings, Base64: mintText(t, template)}))(t)
	for range 3 {
		later := must.OK(a.Accept(accept.Request{Bindings: anyBindings, Base64: mintText(t, template)}))(t)
		if later.Evidence != first.Evidence || later.Account != first.Account || later.Client.String() != first.Client.String() || later.Flags != first.Flags || len(later.Token) == 0 {
			t.Fatalf("%+v, at first %+v", later, first)
		}
	}
	raw := must.OK(base64.StdEncoding.DecodeString(mintText(t, template)))(t)
	if later := must.OK(a.Accept(accept.Request{Bindings: anyBindings, Token: raw}))(t); later.Evidence != first.Evidence {
		t.Fatal("other evidence of the same ticket without base64")
	}
}

// TestBeginning_KeyRemoved refuses tokens whose key the account does not have any more.
func TestBeginning_KeyRemoved(t *testing.T) {
	template, w := bench(t, false)
	w.cfg.Keys = keys{service + "@" + realm: {must.OK(accept.NewKey(w.key, 3))(t)}}
	a := w.acceptor()
	must.OK(a.Accept(accept.Request{Bindings: anyBindings, Base64: mintText(t, template)}))(t)
	w.cfg.Keys.(keys)[service+"@"+realm] = []*accept.Key{must.OK(accept.NewKey(newKey(t, w.key.EType()), 4))(t)}
	if _, err := a.Accept(accept.Request{Bindings: anyBindings, Base64: mintText(t, template)}); reasonOf(t, err) != accept.UnknownVersion {
		t.Fatal(err)
	}
}
