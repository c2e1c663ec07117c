package krb5conf

import (
	"encoding/json"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// vectors is what MIT libkrb5 1.20.1 made of these inputs.
type vectors struct {
	Files    map[string]json.RawMessage `json:"files"`
	Krb5Conf []struct {
		Name  string `json:"name"`
		Text  string `json:"text"`
		Tree  []any  `json:"tree"`
		Error string `json:"error"`
	} `json:"krb5_conf"`
	Durations []struct {
		Input   string `json:"input"`
		Seconds int64  `json:"seconds"`
		Error   bool   `json:"error"`
	} `json:"durations"`
	DomainRealm string `json:"domain_realm"`
	HostRealm   []struct {
		Host  string `json:"host"`
		Realm string `json:"realm"`
	} `json:"host_realm"`
}

func loadVectors(t testing.TB) *vectors {
	t.Helper()
	b, err := os.ReadFile("../../tests/vectors/mit-config.json")
	if err != nil {
		t.Fatal(err)
	}
	v := new(vectors)
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	if len(v.Krb5Conf) == 0 || len(v.Durations) == 0 || len(v.HostRealm) == 0 {
		t.Fatal("vectors are missing")
	}
	return v
}

// mapOpener opens files of a map by their absolute names.
func mapOpener(files map[string]string) Opener {
	m := make(fstest.MapFS)
	for name, text := range files {
		m[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(text)}
	}
	return func(name string) (fs.File, error) { return m.Open(strings.TrimPrefix(name, "/")) }
}

// files are those that the vectors include, with the text of one in place.
func (v *vectors) files(t testing.TB, text string) map[string]string {
	t.Helper()
	files := map[string]string{"/etc/krb5.conf": text}
	for name, raw := range v.Files {
		var text string
		if json.Unmarshal(raw, &text) == nil {
			files["/dir/"+name] = text
			continue
		}
		var folder map[string]string
		if err := json.Unmarshal(raw, &folder); err != nil {
			t.Fatal(err)
		}
		for file, text := range folder {
			files["/dir/"+name+"/"+file] = text
		}
	}
	return files
}

// tree shows a section as the vectors do.
func tree(s *Section) []any {
	list := []any{}
	for _, n := range s.Nodes() {
		if n.Section != nil {
			list = append(list, []any{n.Tag, tree(n.Section)})
		} else {
			list = append(list, []any{n.Tag, n.Value})
		}
	}
	return list
}

func TestLoadReadsTreesAsMITDoes(t *testing.T) {
	v := loadVectors(t)
	for _, tt := range v.Krb5Conf {
		t.Run(tt.Name, func(t *testing.T) {
			text := strings.ReplaceAll(tt.Text, "@DIR@", "/dir")
			c, err := Load(mapOpener(v.files(t, text)), "/etc/krb5.conf")
			if tt.Error != "" {
				if err == nil {
					t.Fatalf("no error, but MIT says %q; read\n%s", tt.Error, c.Profile)
				}
				if !strings.HasPrefix(err.Error(), "/etc/krb5.conf:") {
					t.Errorf("error %q names no file and line", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.Tree, tree(c.Profile)); diff != "" {
				t.Errorf("tree differs from MIT's (-MIT +ours):\n%s", diff)
			}
		})
	}
}

func TestParseDurationAgreesWithMIT(t *testing.T) {
	for _, tt := range loadVectors(t).Durations {
		d, err := ParseDuration(tt.Input)
		switch {
		case tt.Error && err == nil:
			t.Errorf("%q: %v, but MIT refuses it", tt.Input, d)
		case !tt.Error && err != nil:
			t.Errorf("%q: %v, but MIT reads %d s", tt.Input, err, tt.Seconds)
		case d != time.Duration(tt.Seconds)*time.Second:
			t.Errorf("%q: %v, but MIT reads %d s", tt.Input, d, tt.Seconds)
		}
	}
}

func TestRealmOfAgreesWithMIT(t *testing.T) {
	v := loadVectors(t)
	c, err := Parse([]byte(v.DomainRealm))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range v.HostRealm {
		if realm := c.RealmOf(tt.Host); realm != tt.Realm {
			t.Errorf("realm of %q is %q, but MIT says %q", tt.Host, realm, tt.Realm)
		}
	}
}
