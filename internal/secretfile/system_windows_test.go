package secretfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/caddy-negotiate/caddy-negotiate/tests/must"
)

func TestReadable_ByTheAccessControlList(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	must.Do(t, os.WriteFile(file, []byte("x"), 0o600))
	for list, want := range map[string]string{
		"D:P(A;;FA;;;BA)":                "",
		"D:P(A;;FA;;;BA)(A;;FR;;;WD)":    "Everyone",
		"D:P(A;;FA;;;BA)(A;;FA;;;AU)":    "Authenticated Users",
		"D:P(A;;FA;;;BA)(A;;FR;;;BU)":    "Users",
		"D:P(D;;FR;;;BU)(A;;FR;;;BU)":    "",
		"D:P(A;OICIIO;FR;;;WD)":          "", // for what is in a folder
		"D:P(A;;0x100;;;WD)":             "", // to write attributes
		"D:P(A;;FR;;;WD)(A;;FR;;;BU)":    "Everyone, Users",
		"D:(A;ID;FR;;;BU)(A;ID;FA;;;BA)": "Users", // inherited
	} {
		sd := must.OK(windows.SecurityDescriptorFromString(list))(t)
		dacl, _, err := sd.DACL()
		must.Do(t, err)
		var readers []string
		for _, group := range everyone {
			if allows(dacl, must.OK(windows.CreateWellKnownSid(group.sid))(t)) {
				readers = append(readers, group.name)
			}
		}
		if got := strings.Join(readers, ", "); got != want {
			t.Errorf("%s: %q, want %q", list, got, want)
		}
	}
	if !allows(nil, must.OK(windows.CreateWellKnownSid(windows.WinWorldSid))(t)) {
		t.Error("a file without a list is everyone's")
	}
	set := func(list string) {
		dacl, _, err := must.OK(windows.SecurityDescriptorFromString(list))(t).DACL()
		must.Do(t, err)
		must.Do(t, windows.SetNamedSecurityInfo(file, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil))
	}
	user := must.OK(windows.GetCurrentProcessToken().GetTokenUser())(t).User.Sid.String()
	set("D:P(A;;FA;;;" + user + ")(A;;FR;;;WD)")
	if e := Readable(file); e == nil || !strings.Contains(e.Mode, "Everyone") || !strings.Contains(e.Remedy, `icacls "`+file+`" `) {
		t.Errorf("%+v", e)
	}
	if e := Readable(file + ".absent"); e != nil {
		t.Errorf("%+v", e)
	}
}

func TestRead_WhileItIsReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	must.Do(t, os.WriteFile(file, []byte("old"), 0o600))
	f := must.OK(open(file))(t)
	defer f.Close()
	must.Do(t, os.Rename(file, file+".old"))
	must.Do(t, os.WriteFile(file, []byte("new"), 0o600))
	if b := must.OK(Read(file, 100))(t); string(b) != "new" {
		t.Errorf("%q", b)
	}
	old := make([]byte, 3)
	if _, err := f.Read(old); err != nil || string(old) != "old" {
		t.Errorf("%q, %v", old, err)
	}
}

func TestRead_FileThatAnotherHasForItself(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	must.Do(t, os.WriteFile(file, []byte("x"), 0o600))
	h := must.OK(windows.CreateFile(must.OK(windows.UTF16PtrFromString(file))(t), windows.GENERIC_WRITE, 0, nil, windows.OPEN_EXISTING, 0, 0))(t)
	if _, err := Read(file, 100); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	must.Do(t, windows.CloseHandle(h))
	if b := must.OK(Read(file, 100))(t); string(b) != "x" {
		t.Errorf("%q", b)
	}
	if _, err := Read(t.TempDir(), 100); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("a folder: %v", err)
	}
}
