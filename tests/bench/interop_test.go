package bench

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jcmturner/gokrb5/v8/client"
	peerkeytab "github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/service"
	peerspnego "github.com/jcmturner/gokrb5/v8/spnego"

	"github.com/jcmturner/goidentity/v6"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/spnego"
	"github.com/caddy-negotiate/caddy-negotiate/tests/kdctest"
)

// shared are the AES types that gokrb5 supports, too.
var shared = []enctype.ID{
	enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96,
	enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128,
}

// startSite starts a realm whose principals have keys of one type only.
func startSite(t *testing.T, id enctype.ID) *site {
	t.Helper()
	s, err := newSite(t.TempDir(), kdctest.ETypes(id))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	for _, p := range []*kdctest.Principal{s.web, s.realm.Principal("krbtgt/" + realmName)} {
		p.Set(kdctest.ETypes(id))
		p.ChangeKey(false)
	}
	return s
}

// peerClient returns gokrb5's client for the site.
func peerClient(t *testing.T, s *site, id enctype.ID, tcp bool) *client.Client {
	t.Helper()
	cfg, err := gokrb5Config(s.kdc.Addr(), id.String(), tcp)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := gokrb5Client(s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Destroy)
	return cl
}

func TestGokrb5Client_KDC(t *testing.T) {
	for _, id := range shared {
		for _, tcp := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/tcp=%t", id, tcp), func(t *testing.T) {
				s := startSite(t, id)
				cl := peerClient(t, s, id, tcp)
				if err := cl.Login(); err != nil {
					t.Fatal(err)
				}
				ticket, key, err := cl.GetServiceTicket(webName)
				if err != nil {
					t.Fatal(err)
				}
				if enctype.ID(ticket.EncPart.EType) != id || enctype.ID(key.KeyType) != id {
					t.Errorf("ticket of type %d, session key of type %d", ticket.EncPart.EType, key.KeyType)
				}
				c := s.kdc.Counts()
				if c.ASRep != 1 || c.TGSRep != 1 || tcp && c.UDP != 0 || !tcp && c.TCP != 0 {
					t.Errorf("counts %+v", c)
				}
			})
		}
	}
}

func TestGokrb5Client_Acceptor(t *testing.T) {
	for _, id := range shared {
		t.Run(id.String(), func(t *testing.T) {
			s := startSite(t, id)
			acceptor, err := s.acceptor(kdctest.AcceptorConfig{})
			if err != nil {
				t.Fatal(err)
			}
			upstream := kdctest.NewUpstream(kdctest.UpstreamConfig{Acceptor: acceptor})
			if err := upstream.Start(); err != nil {
				t.Fatal(err)
			}
			defer upstream.Stop()
			cl := peerspnego.NewClient(peerClient(t, s, id, false), nil, webName)
			response, err := cl.Get(upstream.URL())
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if want := proxyName + "@" + realmName + "\n"; string(body) != want {
				t.Errorf("%s %q, want %q", response.Status, body, want)
			}
		})
	}
}

// peerUpstream starts a server behind gokrb5's acceptor that returns the client's name.
func peerUpstream(t *testing.T, s *site) *httptest.Server {
	t.Helper()
	content, err := s.realm.Keytab(s.web)
	if err != nil {
		t.Fatal(err)
	}
	keys := peerkeytab.New()
	if err := keys.Unmarshal(content); err != nil {
		t.Fatal(err)
	}
	who := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := goidentity.FromHTTPRequestContext(r)
		fmt.Fprintf(w, "%s@%s", id.UserName(), id.Domain())
	})
	server := httptest.NewServer(peerspnego.SPNEGOKRB5Authenticate(who, keys, service.DecodePAC(false)))
	t.Cleanup(server.Close)
	return server
}

// ask sends a header to a server and returns its response.
func ask(t *testing.T, server *httptest.Server, header string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", header)
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

// ourTemplate gets a ticket from the KDC and returns a template of it.
func ourTemplate(t *testing.T, s *site, id enctype.ID, cfg gss.TemplateConfig) (*gss.Template, *messages.Credential) {
	t.Helper()
	account, err := ourAccount(s)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ourClient(s.kdc.Addr(), false, id)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := coldStart(t.Context(), client, account)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Clock, err = gss.NewClock(gss.ClockConfig{}); err != nil {
		t.Fatal(err)
	}
	cfg.Framing = spnego.AppendInitPrefix
	template, err := gss.NewTemplate(cred, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return template, cred
}

func TestGokrb5Acceptor(t *testing.T) {
	flags := gss.GSS_C_REPLAY_FLAG | gss.GSS_C_SEQUENCE_FLAG | gss.GSS_C_INTEG_FLAG | gss.GSS_C_CONF_FLAG
	for _, id := range shared {
		for name, cfg := range map[string]gss.TemplateConfig{
			"plain":    {Flags: flags},
			"bindings": {Flags: flags, Bindings: true},
			"mutual":   {Flags: flags | gss.GSS_C_MUTUAL_FLAG},
		} {
			t.Run(id.String()+"/"+name, func(t *testing.T) {
				s := startSite(t, id)
				server := peerUpstream(t, s)
				template, _ := ourTemplate(t, s, id, cfg)
				var bindings *gss.ChannelBindings
				if cfg.Bindings {
					bindings = &gss.ChannelBindings{1, 2, 3}
				}
				for range 3 {
					header, _, err := template.Header(t.Context(), bindings)
					if err != nil {
						t.Fatal(err)
					}
					status, body := ask(t, server, header)
					if want := proxyName + "@" + realmName; status != http.StatusOK || body != want {
						t.Fatalf("gokrb5 returns %d %q", status, body)
					}
				}
			})
		}
	}
}

func TestGokrb5Acceptor_CorruptToken(t *testing.T) {
	id := enctype.AES256_CTS_HMAC_SHA1_96
	s := startSite(t, id)
	server := peerUpstream(t, s)
	template, _ := ourTemplate(t, s, id, gss.TemplateConfig{})
	header, _, err := template.Header(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	scheme, token, _ := strings.Cut(header, " ")
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-20] ^= 1 // of the authenticator's ciphertext
	if status, _ := ask(t, server, scheme+" "+base64.StdEncoding.EncodeToString(raw)); status != http.StatusUnauthorized {
		t.Errorf("status %d", status)
	}
}
