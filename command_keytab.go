package caddynegotiate

import (
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

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/keytab"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

func newKeytabCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keytab <list|add>", Short: "Lists and writes keytab files"}
	cmd.AddCommand(newKeytabListCommand(), newKeytabAddCommand())
	for _, sub := range cmd.Commands() {
		sub.SilenceUsage = true
	}
	return cmd
}

// keytabEntryView is what is shown of an entry.
type keytabEntryView struct {
	Principal string     `json:"principal"`
	KVNO      uint32     `json:"kvno"`
	EType     string     `json:"etype"`
	Written   *time.Time `json:"written,omitempty"`
	// Note says why the key is of no use.
	Note string `json:"note,omitempty"`
}

func newKeytabListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list FILE [--json]",
		Short: "Lists the keys of a keytab, without showing them",
		Args:  cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, args []string) error {
			file, err := negotiate.ReadKeytab(args[0])
			if err != nil {
				return err
			}
			views := viewKeytab(file)
			c := consoleOf(cmd)
			if asJSON {
				return c.writeJSON(views)
			}
			return c.writeKeytab(views)
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Write JSON")
	return cmd
}

func (c *console) writeKeytab(views []keytabEntryView) error {
	t := &table{heads: []string{"PRINCIPAL", "KVNO", "KEY", "WRITTEN", "NOTE"}}
	for _, v := range views {
		written := "-"
		if v.Written != nil {
			written = v.Written.Format(time.DateOnly)
		}
		t.row(v.Principal, strconv.FormatUint(uint64(v.KVNO), 10), v.EType, written, v.Note)
	}
	return c.writeTable(t)
}

func viewKeytab(file *keytab.Keytab) []keytabEntryView {
	views := make([]keytabEntryView, 0, len(file.Entries))
	for _, e := range file.Entries {
		v := keytabEntryView{Principal: e.Principal.String(), KVNO: e.KVNO, EType: e.Key.EType().String()}
		if at := e.Timestamp.UTC(); !e.Timestamp.IsZero() {
			v.Written = &at
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

// keytabAdd is a key to be made.
type keytabAdd struct {
	principal, passwordFile, salt string
	etypes                        []string
	kvno                          uint32
}

func newKeytabAddCommand() *cobra.Command {
	add := new(keytabAdd)
	cmd := &cobra.Command{
		Use:   "add FILE --principal P --kvno N [--etype E]... [--salt S] [--password-file FILE]",
		Short: "Adds keys, made of a password, to a keytab",
		Long: "Adds keys, made of a password, to a keytab, which is created if it does not exist (mode 0600).\n" +
			"The salt is part of the key. Its default, the realm and the name, is right for users of MIT's KDC and for most of\n" +
			"Active Directory, but not after a user was renamed, nor for computers: `caddy kerberos check` shows which one the KDC names.",
		Args: cobra.ExactArgs(1),
		RunE: run(func(cmd *cobra.Command, args []string) error { return add.run(cmd, args[0]) }),
	}
	cmd.Flags().StringVar(&add.principal, "principal", "", "Whose key it is, name@REALM")
	cmd.Flags().Uint32Var(&add.kvno, "kvno", 0, "Version of the key (AD: msDS-KeyVersionNumber; MIT: kvno NAME)")
	cmd.Flags().StringArrayVar(&add.etypes, "etype", nil, "Encryption type, may be repeated (default: AES-256 and AES-128 with SHA-1)")
	cmd.Flags().StringVar(&add.salt, "salt", "", "Salt (default: realm and name)")
	cmd.Flags().StringVar(&add.passwordFile, "password-file", "", "File with the password (default: it is asked for)")
	for _, name := range []string{"principal", "kvno"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag's name is misspelt above
		}
	}
	return cmd
}

func (a *keytabAdd) run(cmd *cobra.Command, path string) error {
	principal, err := messages.ParsePrincipal(a.principal, "")
	if err != nil {
		return err
	}
	if principal.Realm == "" {
		return fmt.Errorf("--principal %s has no realm; write name@REALM", a.principal)
	}
	if a.kvno == 0 {
		return errors.New("--kvno 0 is no version: AD: Get-ADUser NAME -Properties msDS-KeyVersionNumber; MIT: kvno NAME")
	}
	ids, err := a.ids()
	if err != nil {
		return err
	}
	file, err := readOrNewKeytab(path)
	if err != nil {
		return err
	}
	password, err := a.password(cmd)
	if err != nil {
		return err
	}
	salt := a.salt
	if !cmd.Flags().Changed("salt") {
		salt = principal.Realm + strings.Join(principal.Name.NameString, "")
	}
	now := time.Now().Truncate(time.Second)
	for _, id := range ids {
		key, err := enctype.StringToKey(id, password, salt, nil)
		if err != nil {
			return err
		}
		// The same version again replaces what was there.
		file.Entries = slices.DeleteFunc(file.Entries, func(e keytab.Entry) bool {
			return e.Principal.Equal(principal) && e.KVNO == a.kvno && e.Key.EType() == id
		})
		file.Entries = append(file.Entries, keytab.Entry{Principal: principal, Timestamp: now, KVNO: a.kvno, Key: key})
	}
	content, err := file.Marshal()
	if err != nil {
		return err
	}
	if err := writeSecretFile(path, content); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s kvno %d %v, salt %q\n", path, principal, a.kvno, ids, salt)
	return err
}

func (a *keytabAdd) ids() ([]enctype.ID, error) {
	if len(a.etypes) == 0 {
		return []enctype.ID{enctype.AES256_CTS_HMAC_SHA1_96, enctype.AES128_CTS_HMAC_SHA1_96}, nil
	}
	var ids []enctype.ID
	for _, name := range a.etypes {
		id, err := enctype.Parse(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func readOrNewKeytab(path string) (*keytab.Keytab, error) {
	file, err := negotiate.ReadKeytab(path)
	if errors.Is(err, fs.ErrNotExist) {
		return new(keytab.Keytab), nil
	}
	return file, err
}

// password reads it from the file, or asks for it, twice and without echo. Where
// there is no terminal it is the first line of the input.
func (a *keytabAdd) password(cmd *cobra.Command) (string, error) {
	if a.passwordFile != "" {
		return negotiate.ReadPassword(a.passwordFile)
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
	second, err := ask("Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two passwords differ")
	}
	if first == "" {
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
		return "", errors.New("no password came; type it, pipe it in, or give --password-file FILE")
	}
	return line, nil
}

// writeSecretFile replaces a file as a whole, readable for its owner alone.
func writeSecretFile(path string, content []byte) (err error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // the link stays one
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".keytab-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	if _, err := file.Write(content); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
