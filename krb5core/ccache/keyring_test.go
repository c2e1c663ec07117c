package ccache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

// kernel is a keyService with keys of a test. The anchors are key 1.
type kernel struct {
	keys []kernelKey // by serial number, from 1
	fail error
}

type kernelKey struct {
	kind, description string
	in                int // the keyring that it is in
	content           []byte
}

// add adds a key and returns its number.
func (k *kernel) add(in int, kind, description string, content []byte) int {
	k.keys = append(k.keys, kernelKey{kind, description, in, content})
	return len(k.keys)
}

func (k *kernel) open(anchor, int) (int, error) { return 1, k.fail }

func (k *kernel) search(ring int, kind, description string) (int, error) {
	for i, key := range k.keys {
		if key.in == ring && key.kind == kind && key.description == description {
			return i + 1, nil
		}
	}
	return 0, errNoKey
}

func (k *kernel) read(key, limit int) ([]byte, error) {
	if key < 1 || key > len(k.keys) {
		return nil, errNoKey
	}
	content := k.keys[key-1].content
	if k.keys[key-1].kind == typeKeyring && content == nil {
		for i := range k.keys {
			if k.keys[i].in == key {
				content = binary.NativeEndian.AppendUint32(content, uint32(i+1))
			}
		}
	}
	if len(content) > limit {
		return nil, errTooBig
	}
	return content, nil
}

func (k *kernel) describe(key int) (string, error) {
	if key < 1 || key > len(k.keys) {
		return "", errNoKey
	}
	return k.keys[key-1].kind + ";0;0;3f010000;" + k.keys[key-1].description, nil
}

// newKernel returns one with an anchor and a collection in it.
func newKernel(collection string) (k *kernel, ring int) {
	k = new(kernel)
	k.add(0, typeKeyring, "_ses", nil)
	return k, k.add(1, typeKeyring, collection, nil)
}

// addCache adds a cache with a ticket-granting ticket.
func (k *kernel) addCache(t *testing.T, in int, name, owner string) int {
	ring := k.add(in, typeKeyring, name, nil)
	k.add(ring, typeUser, keyPrincipal, encodedPrincipal(t, owner))
	k.add(ring, typeUser, keyOffsets, make([]byte, 8))
	k.add(ring, "big_key", "krbtgt/A@A", encodedTicket(t, "krbtgt/A@A"))
	return ring
}

func primaryKey(name string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1}, uint32(len(name))), name...)
}

func (k *kernel) source(t testing.TB, rest string) *keyring {
	t.Helper()
	ring, err := newKeyring(rest, func(f func(keyService) error) error { return f(k) })
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestKeyring_Read(t *testing.T) {
	own := strconv.Itoa(max(os.Getuid(), 0)) // on Windows users have no numbers
	for rest, want := range map[string]string{
		"session:c":         "KEYRING:session:c:one",
		"session:c:two":     "KEYRING:session:c:two",
		"user:c":            "KEYRING:user:c:one",
		"c":                 "KEYRING:legacy:c:one",
		"persistent:c":      "",
		"persistent:" + own: "KEYRING:persistent:" + own + ":one",
		"persistent:":       "KEYRING:persistent::one",
	} {
		if want == "" {
			if _, err := newKeyring(rest, nil); err == nil || !strings.Contains(err.Error(), "number of a user") {
				t.Errorf("%s: %v", rest, err)
			}
			continue
		}
		name := "_krb_c"
		if strings.HasPrefix(rest, "persistent") {
			name = "_krb"
		}
		k, collection := newKernel(name)
		k.add(collection, typeUser, keyPrimary, primaryKey("one"))
		k.addCache(t, collection, "one", "alice@A")
		k.addCache(t, collection, "two", "bob@A")
		source := k.source(t, rest)
		cache, err := source.Read(t.Context(), messages.Principal{})
		if err != nil || cache.Name != want || len(cache.Credentials) != 1 {
			t.Errorf("%s: %v, %v", rest, cache, err)
			continue
		}
		if again := must.OK(source.Read(t.Context(), messages.Principal{}))(t); again != cache {
			t.Errorf("%s: what has not changed is another cache", rest)
		}
		k.keys = k.keys[:len(k.keys)-1]
		if source.cache == "" {
			bob := must.OK(source.Read(t.Context(), filetest.Principal(t, "bob@A")))(t)
			if bob.DefaultPrincipal.String() != "bob@A" || len(bob.Credentials) != 0 {
				t.Errorf("%s: for bob %s", rest, bob)
			}
		}
	}
}

func uid() string { return strconv.Itoa(os.Getuid()) }

func TestKeyring_WithoutAPrimaryKey(t *testing.T) {
	for rest, cache := range map[string]string{"session:c": "c", "session:": "tkt"} {
		k, collection := newKernel("_krb_" + strings.TrimPrefix(rest, "session:"))
		k.addCache(t, collection, cache, "alice@A")
		got := must.OK(k.source(t, rest).Read(t.Context(), messages.Principal{}))(t)
		if want := "KEYRING:" + rest + ":" + cache; got.Name != want {
			t.Errorf("%s: %s, want %s", rest, got.Name, want)
		}
	}
}

// Old versions of MIT's library link a cache to the session's keyring itself.
func TestKeyring_WithoutACollection(t *testing.T) {
	k, _ := newKernel("_krb_other")
	k.addCache(t, 1, "c", "alice@A")
	if got := must.OK(k.source(t, "c").Read(t.Context(), messages.Principal{}))(t); len(got.Credentials) != 1 {
		t.Error(got)
	}
	if _, err := k.source(t, "session:c").Read(t.Context(), messages.Principal{}); !errors.Is(err, ErrEmpty) {
		t.Error(err)
	}
}

func TestKeyring_Errors(t *testing.T) {
	empty, collection := newKernel("_krb_c")
	empty.add(collection, typeUser, keyPrimary, primaryKey("gone"))
	format, collection := newKernel("_krb_c")
	format.add(collection, typeUser, keyPrimary, []byte{0, 0, 0, 2, 0, 0, 0, 0})
	cut, collection := newKernel("_krb_c")
	cut.add(collection, typeUser, keyPrimary, primaryKey("gone")[:9])
	damaged, collection := newKernel("_krb_c")
	damaged.add(damaged.addCache(t, collection, "c", "alice@A"), typeUser, "x", []byte("x"))
	huge, collection := newKernel("_krb_c")
	huge.add(huge.addCache(t, collection, "c", "alice@A"), typeUser, "x", make([]byte, maxSize))
	for name, x := range map[string]struct {
		kernel *kernel
		rest   string
		want   string
	}{
		"kdestroy leaves a primary":  {empty, "user:c", "run kinit -c KEYRING:user:c as that user"},
		"nothing":                    {empty, "user:d", "no credential cache in KEYRING:user:d"},
		"a session's":                {empty, "session:d", "KEYRING:persistent:" + uid()},
		"another format":             {format, "user:c", "format 2"},
		"a primary that is cut":      {cut, "user:c", "cut short"},
		"a damaged credential":       {damaged, "user:c", "credential 2"},
		"too big":                    {huge, "user:c", "larger than"},
		"seccomp":                    {&kernel{fail: fmt.Errorf("keyctl: %w", syscall.EPERM)}, "user:c", "Docker"},
		"a kernel without":           {&kernel{fail: syscall.ENOSYS}, "user:c", "keyctl"},
		"another user's, persistent": {&kernel{fail: syscall.EPERM}, "persistent:1234567", "of uid 1234567 may not be read by uid " + uid()},
	} {
		cache, err := x.kernel.source(t, x.rest).Read(t.Context(), messages.Principal{})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, %v does not say %q", name, cache, err, x.want)
		}
	}
}

func TestKeyring_Rejected(t *testing.T) {
	for rest, want := range map[string]string{"process:c": "process keyring", "thread:c": "thread keyring", "sessoin:c": `"sessoin"`} {
		if _, err := newKeyring(rest, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", rest, err)
		}
	}
}

func FuzzKeyring(f *testing.F) {
	t := &testing.T{}
	f.Add(primaryKey("one"), encodedPrincipal(t, "alice@A"), encodedTicket(t, "krbtgt/A@A"), []byte(nil), "bob@A")
	f.Add(primaryKey("one"), encodedPrincipal(t, "alice@A"), []byte{}, []byte{1, 0, 0, 0, 9, 0, 0, 0xff, 1}, "")
	f.Fuzz(func(t *testing.T, primary, principal, credential, ring []byte, owner string) {
		k, collection := newKernel("_krb_c")
		k.add(collection, typeUser, keyPrimary, primary)
		one := k.add(collection, typeKeyring, "one", ring)
		k.add(one, typeUser, keyPrincipal, principal)
		k.add(one, "big_key", "x", credential)
		p, _ := messages.ParsePrincipal(owner, "A")
		cache, err := k.source(t, "user:c").Read(t.Context(), p)
		if (cache == nil) == (err == nil) {
			t.Errorf("%v, %v", cache, err)
		}
	})
}
