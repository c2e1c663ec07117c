package ccache

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestOpen_Names(t *testing.T) {
	wd := must.OK(os.Getwd())(t)
	file, folder := must.OK(filepath.Abs("/tmp/krb5cc"))(t), must.OK(filepath.Abs("/tmp/d"))(t)
	for name, want := range map[string]string{
		"/tmp/krb5cc":                file,
		"FILE:/tmp/krb5cc":           file,
		"file:krb5cc":                filepath.Join(wd, "krb5cc"),
		"krb5cc:1":                   filepath.Join(wd, "krb5cc:1"),
		"DIR:/tmp/d":                 "DIR:" + folder,
		"DIR::/tmp/d/tkt1":           "DIR::" + filepath.Join(folder, "tkt1"),
		"KCM:":                       "KCM:",
		"kcm:1000:5":                 "KCM:1000:5",
		"DIR:":                       "error: names no folder",
		"DIR::/tmp/d/x":              "error: begins with tkt",
		"FILE:":                      "error: names no file",
		"MEMORY:x":                   "error: type MEMORY cannot be read",
		"API:":                       "error: use FILE, DIR, KCM or KEYRING",
		"KEYRING:persistent:1000":    "KEYRING:persistent:1000",
		"KEYRING:process:x":          "error: process",
		"KEYRING:thread:x":           "error: thread",
		"KEYRING:persistent:alice:x": "error: number of a user",
	} {
		if strings.HasPrefix(name, "KEYRING") && runtime.GOOS != "linux" {
			want = "error: only Linux"
		}
		source, err := Open(name, Options{})
		if message, fails := strings.CutPrefix(want, "error: "); fails {
			if err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("%s: %v, want %s", name, err, message)
			}
		} else if err != nil || source.String() != want {
			t.Errorf("%s: %v, %v", name, source, err)
		}
	}
}

func TestDefaultName(t *testing.T) {
	uid := strconv.Itoa(os.Getuid())
	for _, x := range []struct{ variable, configured, want string }{
		{"KCM:", "FILE:/x", "KCM:"},
		{"", "KEYRING:persistent:%{uid}", "KEYRING:persistent:" + uid},
		{"", "%{TEMP}/a%{euid}-%{USERID}%{null}%{uid}", os.TempDir() + "/a" + uid + "-" + uid + uid},
		{"", "FILE:/x%{LIBDIR}", "error: %{LIBDIR} is not supported"},
		{"", "FILE:/x%{uid", "error: %{ without }"},
	} {
		t.Setenv("KRB5CCNAME", x.variable)
		got, err := DefaultName(x.configured)
		if message, fails := strings.CutPrefix(x.want, "error: "); fails {
			if err == nil || !strings.Contains(err.Error(), message) {
				t.Errorf("%+v: %v", x, err)
			}
		} else if err != nil || got != x.want {
			t.Errorf("%+v: %q, %v", x, got, err)
		}
	}
	t.Setenv("KRB5CCNAME", "")
	if got, err := DefaultName(""); runtime.GOOS == "linux" && (err != nil || got != "FILE:/tmp/krb5cc_"+uid) {
		t.Errorf("the system's: %q, %v", got, err)
	}
}

// writeCache writes a cache of a principal, with so many tickets.
func writeCache(t *testing.T, path, owner string, tickets int) {
	t.Helper()
	c := CCache{DefaultPrincipal: filetest.Principal(t, owner)}
	for range tickets {
		cred := ticket(t, "krbtgt/A@A", 10)
		cred.Client = c.DefaultPrincipal
		c.Credentials = append(c.Credentials, cred)
	}
	must.Do(t, os.WriteFile(path, must.OK(c.Marshal())(t), 0o600))
}

func TestFile_ReadAgainWhenChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ccache")
	writeCache(t, path, "alice@A", 1)
	source := File(path)
	first := must.OK(source.Read(t.Context(), messages.Principal{}))(t)
	if again := must.OK(source.Read(t.Context(), messages.Principal{}))(t); again != first || first.Name != path {
		t.Errorf("unchanged, %s is read again as %s", first.Name, again.Name)
	}
	writeCache(t, path, "bob@A", 2)
	must.Do(t, os.Chtimes(path, time.Time{}, noon))
	if second := must.OK(source.Read(t.Context(), messages.Principal{}))(t); second.DefaultPrincipal.String() != "bob@A" {
		t.Error(second)
	}
	must.Do(t, os.Remove(path))
	if _, err := source.Read(t.Context(), messages.Principal{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestDir(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "d")
	source := must.OK(Open("DIR:"+folder, Options{}))(t)
	read := func(owner string) string {
		t.Helper()
		var p messages.Principal
		if owner != "" {
			p = filetest.Principal(t, owner)
		}
		cache, err := source.Read(t.Context(), p)
		if err != nil {
			return "error: " + err.Error()
		}
		return strings.TrimPrefix(cache.Name, "DIR::"+folder+string(filepath.Separator)) + " " + cache.DefaultPrincipal.String()
	}
	want := func(owner, text string) {
		t.Helper()
		if got := read(owner); got != text && (!strings.HasPrefix(text, "error: ") || !strings.Contains(got, strings.TrimPrefix(text, "error: "))) {
			t.Errorf("for %q: %s, want %s", owner, got, text)
		}
	}
	primary := func(content string) {
		must.Do(t, os.WriteFile(filepath.Join(folder, "primary"), []byte(content), 0o600))
	}

	want("", "error: is not there")
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Error("the folder was made")
	}
	must.Do(t, os.Mkdir(folder, 0o700))
	want("", "error: run kinit -c DIR:"+folder)
	want("bob@A", "error: run kinit -c DIR:"+folder)
	writeCache(t, filepath.Join(folder, "tkt"), "alice@A", 1)
	want("", "tkt alice@A")
	writeCache(t, filepath.Join(folder, "tktB"), "bob@A", 1)
	must.Do(t, os.WriteFile(filepath.Join(folder, "tktA"), []byte("damaged"), 0o600))
	want("", "tkt alice@A")
	want("bob@A", "tktB bob@A")
	want("carol@A", "tkt alice@A") // the caller reports it
	primary("tktB\n")
	want("", "tktB bob@A")
	want("alice@A", "tkt alice@A")
	for _, bad := range []string{"../x\n", "tkt/../../x\n", "other\n", "", "tkt\\x", strings.Repeat("tkt", 1000)} {
		primary(bad)
		want("", "error: primary")
	}
	file := must.OK(Open("DIR:"+filepath.Join(folder, "tkt"), Options{}))(t)
	if _, err := file.Read(t.Context(), messages.Principal{}); err == nil || !strings.Contains(err.Error(), "use FILE:") {
		t.Error(err)
	}
}
