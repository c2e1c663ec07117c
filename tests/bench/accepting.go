package bench

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/service"
	"github.com/jcmturner/gokrb5/v8/spnego"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/gss"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate/accept"
)

// accepting measures the verification of what clients send.
func (b *bench) accepting(ctx context.Context) error {
	b.section("Accepting a token", "The value of a client's Authorization is verified, and an answer is made: AES-256-CTS-HMAC-SHA1-96, SPNEGO, "+
		"an authenticator with a subkey, a replay cache with all tokens of the run. Each token is a new one of the same ticket, made by our template before the "+
		"time is taken; *minting* is what that takes. *Mutual* makes an AP-REP as well, which gokrb5 cannot.")
	s, err := b.siteFor(ticketSizes[0])
	if err != nil {
		return err
	}
	defer s.stop()
	cred, err := s.ticket(ctx)
	if err != nil {
		return err
	}
	plain, err := minter(ctx, cred, 0)
	if err != nil {
		return err
	}
	mutual, err := minter(ctx, cred, gss.GSS_C_MUTUAL_FLAG)
	if err != nil {
		return err
	}
	ours, err := ourAcceptor(s)
	if err != nil {
		return err
	}
	theirs, err := gokrb5Acceptor(s)
	if err != nil {
		return err
	}
	minting := &side{name: "minting", run: each(func() error { _, err := plain(); return err })}
	accepting := &side{name: "ours", run: withTokens(plain, ours)}
	proving := &side{name: "ours, mutual", run: withTokens(mutual, ours)}
	gokrb5 := &side{name: "gokrb5 AcceptSecContext", run: withTokens(plain, theirs)}
	sides := []*side{accepting, proving, minting, gokrb5}
	if err := race(pick(b, 41, 5), pick(b, 40*time.Millisecond, 4*time.Millisecond), sides...); err != nil {
		return err
	}
	var rows [][]string
	for _, side := range sides {
		allocs := testing.AllocsPerRun(20, func() { _, _ = side.run(1) })
		if side != minting {
			allocs -= testing.AllocsPerRun(20, func() { _, _ = minting.run(1) })
		}
		rows = append(rows, []string{side.name, nanos(side.result().median), side.to(accepting).String(), fmt.Sprintf("%.0f", allocs)})
	}
	b.table([]string{"", "time each", "to ours", "allocations"}, rows)
	b.printf("Ours to minting: %s, mutual %s.\n\n", accepting.to(minting), proving.to(minting))
	b.judge(11, "accepting a token, 1.3 kB ticket",
		atMost("to minting it", accepting.to(minting), 3),
		atLeast("gokrb5's time to ours", gokrb5.to(accepting), 10))
	return nil
}

// minter returns a function that makes tokens, in base64.
func minter(ctx context.Context, cred *messages.Credential, more gss.Flags) (func() (string, error), error) {
	made, err := templates(cred, 1, more)
	if err != nil {
		return nil, err
	}
	return func() (string, error) {
		header, _, err := made[0].Header(ctx, &gss.ChannelBindings{1})
		return strings.TrimPrefix(header, "Negotiate "), err
	}, nil
}

// withTokens returns a side's run for a function that takes a new token each time.
func withTokens(mint func() (string, error), take func(token string) error) func(n int) (time.Duration, error) {
	return func(n int) (time.Duration, error) {
		tokens := make([]string, n)
		for i := range tokens {
			var err error
			if tokens[i], err = mint(); err != nil {
				return 0, err
			}
		}
		begin := time.Now()
		for _, token := range tokens {
			if err := take(token); err != nil {
				return 0, err
			}
		}
		return time.Since(begin), nil
	}
}

// serviceKeys are those of the one service there is.
type serviceKeys []*accept.Key

func (k serviceKeys) KeysFor(messages.Principal) []*accept.Key { return k }

func ourAcceptor(s *site) (func(token string) error, error) {
	path, err := s.webKeytab()
	if err != nil {
		return nil, err
	}
	file, err := negotiate.ReadKeytab(path)
	if err != nil {
		return nil, err
	}
	var keys serviceKeys
	for _, e := range file.Entries {
		key, err := accept.NewKey(e.Key, e.KVNO)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	acceptor, err := accept.New(accept.Config{Keys: keys})
	if err != nil {
		return nil, err
	}
	return func(token string) error {
		result, err := acceptor.Accept(accept.Request{Base64: token, Bindings: func(gss.ChannelBindings) bool { return true }})
		if err == nil && (len(result.Token) == 0 || !result.Bound) {
			err = errors.New("no answer, or not bound")
		}
		return err
	}, nil
}

func gokrb5Acceptor(s *site) (func(token string) error, error) {
	path, err := s.webKeytab()
	if err != nil {
		return nil, err
	}
	keys, err := keytab.Load(path)
	if err != nil {
		return nil, err
	}
	acceptor := spnego.SPNEGOService(keys, service.DecodePAC(false), service.KeytabPrincipal(webName))
	return func(token string) error {
		raw, err := base64.StdEncoding.DecodeString(token)
		if err != nil {
			return err
		}
		var t spnego.SPNEGOToken
		if err := t.Unmarshal(raw); err != nil {
			return err
		}
		if ok, _, status := acceptor.AcceptSecContext(&t); !ok || status.Code != gssapi.StatusComplete {
			return fmt.Errorf("gokrb5: %v", status)
		}
		return nil
	}, nil
}
