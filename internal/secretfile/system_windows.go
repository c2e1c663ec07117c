package secretfile

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// open opens a file so that it can be renamed or deleted meanwhile, which os.Open does not allow on
// Windows.
func open(path string) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil,
		windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL|windows.FILE_FLAG_BACKUP_SEMANTICS, 0) // the last flag: folders, too
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// busy reports whether another program has the file for itself at present.
func busy(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION)
}

// everyone are groups that nearly all users are in, by their SIDs and English names.
var everyone = []struct {
	sid  windows.WELL_KNOWN_SID_TYPE
	name string
}{
	{windows.WinWorldSid, "Everyone"},
	{windows.WinAuthenticatedUserSid, "Authenticated Users"},
	{windows.WinBuiltinUsersSid, "Users"},
}

// reading are the rights of which each lets a file be read.
const reading = windows.FILE_READ_DATA | windows.GENERIC_READ | windows.GENERIC_ALL

// grantRemedy is for a file that Caddy's account may not read.
const grantRemedy = `let the account that Caddy runs as read it: icacls FILE /grant "ACCOUNT:R"`

// The types of the entries of an access control list.
const (
	accessAllowed = 0 // ACCESS_ALLOWED_ACE_TYPE
	accessDenied  = 1 // ACCESS_DENIED_ACE_TYPE
)

// Readable returns which groups of all users may read the file, nil if none may or if its access
// control list cannot be read.
func Readable(path string) *Exposure {
	const information = windows.DACL_SECURITY_INFORMATION
	sd, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, information)
	if err != nil {
		return nil
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return nil
	}
	var readers []string
	for _, group := range everyone {
		sid, err := windows.CreateWellKnownSid(group.sid)
		if err == nil && allows(dacl, sid) {
			readers = append(readers, group.name)
		}
	}
	if len(readers) == 0 {
		return nil
	}
	return &Exposure{
		Mode:   strings.Join(readers, ", "),
		Remedy: `icacls "` + path + `" /inheritance:r /grant:r "ACCOUNT:R" "*S-1-5-32-544:F", where ACCOUNT is the one that Caddy runs as`,
	}
}

// allows reports whether the list lets the group read. What comes first counts. No list lets
// everyone do everything.
func allows(dacl *windows.ACL, group *windows.SID) bool {
	if dacl == nil {
		return true
	}
	for i := range uint32(dacl.AceCount) {
		var entry *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(dacl, i, &entry); err != nil {
			return false
		}
		sid := (*windows.SID)(unsafe.Pointer(&entry.SidStart))
		if entry.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0 || entry.Mask&reading == 0 {
			continue
		}
		switch entry.Header.AceType {
		case accessAllowed:
			if sid.Equals(group) {
				return true
			}
		case accessDenied:
			if sid.Equals(group) {
				return false
			}
		}
	}
	return false
}
