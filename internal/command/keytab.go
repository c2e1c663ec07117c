package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddy-negotiate/caddy-negotiate/internal/secretfile"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/exchange"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func newKeytabCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keytab <list|add>", Short: "Lists and writes keytab files"}
	addGroup(cmd, newKeytabListCommand(), newKeytabAddCommand())
	return cmd
}

type keytabEntry struct {
	Principal string    `json:"principal"`
	KVNO      uint32    `json:"kvno"`
	EType     string    `json:"etype"`
	Written   time.Time `json:"written,omitzero"`
	// Note says why the key is not usable.
	Note string `json:"note,omitempty"`
}

func newKeytabListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list FILE [--json]",
		Short: "Lists the keys of a keytab, without showing them",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := negotiate.ReadKeytab(args[0])
			if err != nil {
				return err
			}
			return consoleOf(cmd).writeKeytab(viewKeytab(file), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Write JSON")
	return cmd
}

func (c *console) writeKeytab(views []keytabEntry, asJSON bool) error {
	if asJSON {
		return c.writeJSON(views)
	}
	var rows [][]string
	for _, v := range views {
		written := "-"
		if !v.Written.IsZero() {
			written = v.Written.Format(time.DateOnly)
		}
		rows = append(rows, []string{v.Principal, strconv.FormatUint(uint64(v.KVNO), 10), v.EType, written, cmp.Or(v.Note, "-")})
	}
	return c.writeTable([]string{"PRINCIPAL", "KVNO", "KEY", "WRITTEN", "NOTE"}, rows)
}

func viewKeytab(file *keytab.Keytab) []keytabEntry {
	views := make([]keytabEntry, 0, len(file.Entries))
	for _, e := range file.Entries {
		v := keytabEntry{Principal: e.Principal.String(), KVNO: e.KVNO, EType: e.Key.EType().String()}
		if !e.Timestamp.IsZero() {
			v.Written = e.Timestamp.UTC()
		}
		switch id := e.Key.EType(); {
		case !id.Supported():
			v.Note = "unsupported"
		case id.Weak():
			v.Note = "weak"
		}
		views = append(views, v)
	}
	return views
}

// keytabAdd describes the keys to add.
type keytabAdd struct {
	principal, passwordFile, salt string
	etypes                        []string
	kvno                          uint32
}

func newKeytabAddCommand() *cobra.Command {
	add := new(keytabAdd)
	cmd := &cobra.Command{
		Use:   "add FILE --principal P [--kvno N] [--etype E]... [--salt S] [--password-file FILE]",
		Short: "Adds keys, derived from a password, to a keytab",
		Long: "Adds keys, derived from a password, to a keytab, which is created if it does not exist (mode 0600).\n" +
			"The salt is part of the derivation. Its default, the realm and the name, is right for users of MIT's KDC and for most\n" +
			"accounts of Active Directory, but not for renamed users and for computers: `caddy kerberos check` shows the KDC's salt.\n" +
			"The version matters only to services that users log in to (negotiate_auth); Caddy's own login works with any.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return add.run(cmd, args[0]) },
	}
	cmd.Flags().StringVar(&add.principal, "principal", "", "Principal that the key is for, name@REALM")
	cmd.Flags().Uint32Var(&add.kvno, "kvno", 0, "Version of the key (AD: msDS-KeyVersionNumber; MIT: kvno NAME; default: one more than the file has, else 1)")
	cmd.Flags().StringArrayVar(&add.etypes, "etype", nil, "Encryption type, may be repeated (default: AES-256 and AES-128 with SHA-1)")
	cmd.Flags().StringVar(&add.salt, "salt", "", "Salt (default: realm and name)")
	cmd.Flags().StringVar(&add.passwordFile, "password-file", "", "File with the password (default: ask for it)")
	_ = cmd.MarkFlagRequired("principal")
	return cmd
}

func (a *keytabAdd) run(cmd *cobra.Command, path string) error {
	principal, err := a.parsePrincipal(cmd)
	if err != nil {
		return err
	}
	if a.kvno == 0 && cmd.Flags().Changed("kvno") {
		return errors.New("--kvno 0 is not a key version: AD: Get-ADUser NAME -Properties msDS-KeyVersionNumber; MIT: kvno NAME")
	}
	ids, err := a.ids()
	if err != nil {
		return err
	}
	file, err := negotiate.ReadKeytab(path)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = new(keytab.Keytab), nil
	}
	if err != nil {
		return err
	}
	kvno := a.kvno
	if kvno == 0 {
		kvno = nextVersion(file, principal)
	}
	password, err := a.password(cmd)
	if err != nil {
		return err
	}
	salt := a.salt
	if !cmd.Flags().Changed("salt") {
		salt = exchange.DefaultSalt(principal)
	}
	now := time.Now().Truncate(time.Second)
	for _, id := range ids {
		key, err := enctype.StringToKey(id, password, salt, nil)
		if err != nil {
			return err
		}
		// The same version and type replaces the key that was there.
		file.Entries = slices.DeleteFunc(file.Entries, func(e keytab.Entry) bool {
			return e.Principal.Equal(principal) && e.KVNO == kvno && e.Key.EType() == id
		})
		file.Entries = append(file.Entries, keytab.Entry{Principal: principal, Timestamp: now, KVNO: kvno, Key: key})
	}
	content, err := file.Marshal()
	if err != nil {
		return err
	}
	if err := writeSecretFile(path, content); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s kvno %d %v, salt %q\n", path, principal, kvno, ids, salt)
	return err
}

// nextVersion is the version that follows those that the file has of the principal.
func nextVersion(file *keytab.Keytab, principal messages.Principal) uint32 {
	newest := uint32(0)
	for _, e := range file.Entries {
		if e.Principal.Equal(principal) {
			newest = max(newest, e.KVNO)
		}
	}
	return newest + 1
}

// parsePrincipal capitalizes the realm, as the directive's `user` does: it is part of the salt, and
// an Active Directory user principal name (name@corp.example) makes keys that no KDC accepts.
func (a *keytabAdd) parsePrincipal(cmd *cobra.Command) (messages.Principal, error) {
	principal, err := messages.ParsePrincipal(a.principal, "")
	if err != nil {
		return principal, err
	}
	if principal.Realm == "" {
		return principal, fmt.Errorf("--principal %s has no realm: write name@REALM", a.principal)
	}
	if realm := strings.ToUpper(principal.Realm); realm != principal.Realm {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: the realm %s is written %s\n", principal.Realm, realm)
		principal.Realm = realm
	}
	return principal, nil
}

func (a *keytabAdd) ids() ([]enctype.ID, error) {
	if len(a.etypes) == 0 {
		return []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96}, nil
	}
	ids := make([]enctype.ID, 0, len(a.etypes))
	for _, name := range a.etypes {
		id, err := enctype.Parse(name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// password reads the password from the file, or asks for it twice, without echo. Without a
// terminal it is the first line of standard input.
func (a *keytabAdd) password(cmd *cobra.Command) (string, error) {
	if a.passwordFile != "" {
		return secretfile.ReadPassword(a.passwordFile)
	}
	in := cmd.InOrStdin()
	if !isTerminal(in) {
		return readLine(in)
	}
	file := in.(*os.File)
	ask := func(prompt string) (string, error) {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		typed, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(cmd.ErrOrStderr())
		return string(typed), err
	}
	first, err := ask("Password for " + a.principal + ": ")
	if err != nil {
		return "", err
	}
	switch second, err := ask("Repeat password: "); {
	case err != nil:
		return "", err
	case first != second:
		return "", errors.New("the two passwords differ")
	case first == "":
		return "", errors.New("the password is empty")
	}
	return first, nil
}

// readLine reads to the first end of a line.
func readLine(in io.Reader) (string, error) {
	content, err := io.ReadAll(io.LimitReader(in, 64<<10))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(content), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", errors.New("no password: type it, pipe it in, or give --password-file FILE")
	}
	return line, nil
}

// writeSecretFile replaces a file atomically by one that only its owner can read.
func writeSecretFile(path string, content []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // the link stays one
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".keytab-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}
