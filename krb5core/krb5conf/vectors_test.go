package krb5conf

import (
	"encoding/json"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/tests/filetest"
	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
	"github.com/caddy-negotiate/caddy-negotiate/tests/vectors"
)

// vectorFile is what MIT libkrb5 1.20.1 made of these inputs. Where they have final markers, it is
// what 1.22 makes of them, by its krb5.conf(5).
type vectorFile struct {
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

func loadVectors(t testing.TB) *vectorFile {
	t.Helper()
	v := new(vectorFile)
	vectors.Load(t, "mit-config.json", v)
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
func (v *vectorFile) files(t testing.TB, text string) map[string]string {
	t.Helper()
	files := map[string]string{"/etc/krb5.conf": text}
	for name, raw := range v.Files {
		var text string
		if json.Unmarshal(raw, &text) == nil {
			files["/dir/"+name] = text
			continue
		}
		var folder map[string]string
		must.Do(t, json.Unmarshal(raw, &folder))
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

func TestLoad_AsMIT(t *testing.T) {
	v := loadVectors(t)
	for _, tt := range v.Krb5Conf {
		t.Run(tt.Name, func(t *testing.T) {
			text := strings.ReplaceAll(tt.Text, "@DIR@", "/dir")
			c, err := Load(mapOpener(v.files(t, text)), "/etc/krb5.conf")
			if tt.Error != "" {
				if err == nil {
					t.Fatalf("no error, but MIT says %q; read\n%v", tt.Error, tree(c.Profile))
				}
				if !strings.HasPrefix(err.Error(), "/etc/krb5.conf:") {
					t.Errorf("error %q names no file and line", err)
				}
				return
			}
			must.Do(t, err)
			filetest.Same(t, tt.Tree, tree(c.Profile))
		})
	}
}

func TestParseDuration_AsMIT(t *testing.T) {
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

func TestRealmOf_AsMIT(t *testing.T) {
	v := loadVectors(t)
	c := must.OK(Parse([]byte(v.DomainRealm)))(t)
	for _, tt := range v.HostRealm {
		if realm := c.RealmOf(tt.Host); realm != tt.Realm {
			t.Errorf("realm of %q is %q, but MIT says %q", tt.Host, realm, tt.Realm)
		}
	}
}
