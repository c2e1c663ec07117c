package accept_test

import (
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// Java's SPNEGO has reqFlags, which RFC 4178 advises against, and asks for mutual authentication.
func TestAccept_JGSS(t *testing.T) {
	var v struct {
		Service, Client string
		EType           enctype.ID
		KVNO            uint32
		Key             vectors.Hex
		Cases           []struct {
			Mech, Token string
			Now         time.Time
		}
	}
	vectors.Load(t, "jgss.json", &v)
	key := must.OK(enctype.NewKey(v.EType, v.Key))(t)
	for _, c := range v.Cases {
		acceptor := must.OK(accept.New(accept.Config{
			Keys:    keys{v.Service: {must.OK(accept.NewKey(key, v.KVNO))(t)}},
			Replays: accept.NewReplays(accept.ReplayMemory, time.Time{}),
			Now:     func() time.Time { return c.Now },
		}))(t)
		result, err := acceptor.Accept(accept.Request{Base64: c.Token})
		if err != nil {
			t.Errorf("%s: %v", c.Mech, err)
			continue
		}
		if result.Client.String() != v.Client || len(result.Token) == 0 {
			t.Errorf("%s: %+v", c.Mech, result)
		}
		if _, err := spnego.ParseResp(result.Token); (err == nil) != (c.Mech == "spnego") {
			t.Errorf("%s: answer %x, %v", c.Mech, result.Token, err)
		}
		if _, err := acceptor.Accept(accept.Request{Base64: c.Token}); reasonOf(t, err) != accept.Replay {
			t.Errorf("%s again: %v", c.Mech, err)
		}
	}
	if len(v.Cases) != 2 {
		t.Errorf("%d tokens", len(v.Cases))
	}
}
