package exchange

import (
	"errors"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// answerTo drives a login to its second request, which METHOD-DATA brings about.
func answerTo(t *testing.T, change func(*ASConfig), padata ...messages.PAData) (*AS, *Request, error) {
	t.Helper()
	a := newAS(t, change)
	first := must.OK(a.Step(nil))(t)
	second, err := a.Step(errorFor(t, first.Message, messages.KDC_ERR_PREAUTH_REQUIRED, padata...).Marshal())
	return a, second, err
}

func info2(entries ...messages.ETypeInfo2Entry) messages.PAData {
	return messages.PAData{Type: messages.PA_ETYPE_INFO2, Value: messages.ETypeInfo2(entries).Marshal()}
}

var encTS = messages.PAData{Type: messages.PA_ENC_TIMESTAMP}

func TestPreAuth_FirstUsableEType(t *testing.T) {
	rc4 := messages.ETypeInfo2Entry{EType: enctype.RC4_HMAC}
	for name, c := range map[string]struct {
		keys    KeySource
		entries []messages.ETypeInfo2Entry
		want    enctype.ID
	}{
		"the KDC's order, not ours":       {passwordKeys{password: password}, []messages.ETypeInfo2Entry{entry(aes128, salt), entry(aes256, salt)}, aes128},
		"a weak type that is not allowed": {passwordKeys{password: password}, []messages.ETypeInfo2Entry{rc4, entry(aes128, salt)}, aes128},
		"a type without a key":            {heldKeys{{aes128, 0}: mustKey(t, aes128, password, salt)}, []messages.ETypeInfo2Entry{entry(aes256, salt), entry(aes128, salt)}, aes128},
		"an unknown type":                 {passwordKeys{password: password}, []messages.ETypeInfo2Entry{entry(99, salt), entry(aes256, salt)}, aes256},
	} {
		t.Run(name, func(t *testing.T) {
			_, req, err := answerTo(t, func(cfg *ASConfig) { cfg.Keys = c.keys }, info2(c.entries...), encTS)
			must.Do(t, err)
			timestamp(t, req.Message, mustKey(t, c.want, password, salt))
		})
	}
}

func TestPreAuth_ForgedETypeInfo(t *testing.T) {
	for name, e := range map[string]messages.ETypeInfo2Entry{
		"weak type":        {EType: enctype.RC4_HMAC},
		"DES":              {EType: enctype.DES_CBC_MD5, Salt: salt, HasSalt: true},
		"one iteration":    {EType: aes256, Salt: salt, HasSalt: true, S2KParams: []byte{0, 0, 0, 1}},
		"2^31 iterations":  {EType: aes256, Salt: salt, HasSalt: true, S2KParams: []byte{0x80, 0, 0, 0}},
		"0, which is 2^32": {EType: aes256, Salt: salt, HasSalt: true, S2KParams: []byte{0, 0, 0, 0}},
		"malformed params": {EType: aes256, Salt: salt, HasSalt: true, S2KParams: []byte{1}},
	} {
		t.Run(name, func(t *testing.T) {
			var events trail
			a, req, err := answerTo(t, func(c *ASConfig) { c.Trace = events.add }, info2(e), encTS)
			var none *ETypeError
			if req != nil || !errors.As(err, &none) || len(none.Offered) != 1 || none.Offered[0] != e.EType {
				t.Fatalf("request %v, error %v", req, err)
			}
			if a.cfg.Budget.Sent() != 0 || a.Result().Hint != nil {
				t.Errorf("result: %+v", a.Result())
			}
			events.wants(t, "is not used")
		})
	}
}

func TestPreAuth_ReplyParameters(t *testing.T) {
	a := newAS(t, nil)
	_, err := run(t, a, loggingIn(t, mustKey(t, aes256, password, salt), func(i *issue) {
		i.rep.PAData = messages.MethodData{info2(messages.ETypeInfo2Entry{EType: aes256, S2KParams: []byte{0x80, 0, 0, 0}})}
	}))
	wantField(t, err, "enc-part")
	if !errors.Is(err, enctype.ErrParams) {
		t.Errorf("error: %v", err)
	}
}

func TestPreAuth_OneEntryPerEType(t *testing.T) {
	var asked []KeyInfo
	var entries []messages.ETypeInfo2Entry
	for range 1000 {
		entries = append(entries, messages.ETypeInfo2Entry{EType: aes256, S2KParams: []byte{1}})
	}
	answerTo(t, func(c *ASConfig) { c.Keys = passwordKeys{password, &asked} }, info2(entries...), encTS)
	if len(asked) != 1 {
		t.Errorf("the key source was asked %d times", len(asked))
	}
}

func TestPreAuth_OlderSaltForms(t *testing.T) {
	etypeInfo := messages.ETypeInfo{{EType: aes128, Salt: []byte("given")}, {EType: aes256}}
	for name, c := range map[string]struct {
		padata []messages.PAData
		want   enctype.Key
	}{
		"ETYPE-INFO": {[]messages.PAData{encTS, {Type: messages.PA_ETYPE_INFO, Value: etypeInfo.Marshal()}}, mustKey(t, aes128, password, "given")},
		"PW-SALT":    {[]messages.PAData{{Type: messages.PA_PW_SALT, Value: []byte("given")}, encTS}, mustKey(t, aes256, password, "given")},
		"ETYPE-INFO2 before the others": {[]messages.PAData{
			encTS, {Type: messages.PA_ETYPE_INFO, Value: etypeInfo.Marshal()}, {Type: messages.PA_PW_SALT, Value: []byte("other")}, info2(entry(aes256, "newer")),
		}, mustKey(t, aes256, password, "newer")},
		"ETYPE-INFO2 without a salt": {[]messages.PAData{info2(messages.ETypeInfo2Entry{EType: aes256}), encTS}, mustKey(t, aes256, password, salt)},
		"an offer alone":             {[]messages.PAData{encTS}, mustKey(t, aes256, password, salt)},
		"nothing at all":             {nil, mustKey(t, aes256, password, salt)},
		"an extended error, which is no salt": {[]messages.PAData{
			encTS, {Type: messages.PA_PW_SALT, Value: messages.ExtendedError(messages.STATUS_ACCOUNT_RESTRICTION)},
		}, mustKey(t, aes256, password, salt)},
	} {
		t.Run(name, func(t *testing.T) {
			_, req, err := answerTo(t, nil, c.padata...)
			must.Do(t, err)
			if timestamp(t, req.Message, c.want) == nil {
				t.Error("no timestamp")
			}
		})
	}
}

func TestPreAuth_UnsupportedMechanisms(t *testing.T) {
	_, req, err := answerTo(t, nil, info2(entry(aes256, salt)), messages.PAData{Type: messages.PA_PK_AS_REQ})
	var e *PreAuthError
	if req != nil || !errors.As(err, &e) || len(e.Offered) != 2 || e.Offered[1] != messages.PA_PK_AS_REQ {
		t.Errorf("request %v, error %v", req, err)
	}
}

type brokenKeys struct{}

var errBroken = errors.New("keytab: permission denied")

func (brokenKeys) ETypes() []enctype.ID             { return nil }
func (brokenKeys) Key(KeyInfo) (enctype.Key, error) { return enctype.Key{}, errBroken }

func TestPreAuth_KeySourceFails(t *testing.T) {
	a := newAS(t, func(c *ASConfig) { c.Keys = brokenKeys{} })
	req := must.OK(a.Step(nil))(t)
	reply := newASIssue(t, req.Message, mustKey(t, aes256, password, salt)).seal(t)
	if err := a.Check(reply); !errors.Is(err, errBroken) || errors.Is(err, ErrForeign) {
		t.Errorf("Check: %v", err)
	}
	if _, err := a.Step(reply); !errors.Is(err, errBroken) {
		t.Errorf("Step: %v", err)
	}
	if _, err := a.Step(reply); !errors.Is(err, ErrFinished) {
		t.Errorf("Step after the failure: %v", err)
	}
}

func TestPreAuth_TimestampOnce(t *testing.T) {
	a := newAS(t, nil)
	requests, err := run(t, a, func(n int, r *Request) []byte {
		code := messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED
		if n == 0 {
			code = messages.KDC_ERR_PREAUTH_REQUIRED
		}
		e := errorFor(t, r.Message, code, info2(entry(aes256, salt)), encTS)
		e.SUSec += int32(n) // no copy of an earlier one
		return e.Marshal()
	})
	wantCode(t, err, messages.KDC_ERR_MORE_PREAUTH_DATA_REQUIRED)
	if n := a.cfg.Budget.Sent(); n != 1 || len(requests) != 2 {
		t.Errorf("%d proofs in %d requests: a timestamp takes one round", n, len(requests))
	}
}
