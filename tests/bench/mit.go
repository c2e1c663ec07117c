package bench

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/ccache"
	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

//go:embed mit/driver.c
var mitSource []byte

// buildMIT compiles the driver. It fails without a compiler or libkrb5-dev.
func buildMIT(ctx context.Context, folder string) (program string, err error) {
	source := filepath.Join(folder, "mit.c")
	if err := os.WriteFile(source, mitSource, 0o600); err != nil {
		return "", err
	}
	compiler, err := exec.LookPath("gcc")
	if err != nil {
		return "", err
	}
	program = filepath.Join(folder, "mit")
	out, err := exec.CommandContext(ctx, compiler, "-O2", "-o", program, source, "-lgssapi_krb5", "-lkrb5", "-lpthread").CombinedOutput()
	if err != nil {
		first, _, _ := strings.Cut(string(out), "\n")
		return "", fmt.Errorf("compiling against libkrb5: %s", first)
	}
	return program, nil
}

// driver is the running C program.
type driver struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err bytes.Buffer
}

// startMIT starts the driver with a krb5.conf that names the site's KDC, at addr.
func startMIT(ctx context.Context, program string, s *site, addr string, args ...string) (*driver, error) {
	conf := filepath.Join(s.folder, fmt.Sprintf("krb5-%s.conf", strings.ReplaceAll(addr, ":", "-")))
	text := strings.ReplaceAll(s.kdc.Krb5Conf(), s.kdc.Addr(), addr)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d := &driver{cmd: exec.CommandContext(ctx, program, args...)}
	d.cmd.Env = append(os.Environ(), "KRB5_CONFIG="+conf, "LC_ALL=C")
	d.cmd.Stderr = &d.err
	var err error
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	d.out = bufio.NewReader(out)
	return d, d.cmd.Start()
}

// run runs the operation n times on each of some threads.
func (d *driver) run(n, threads int) (time.Duration, error) {
	if _, err := fmt.Fprintf(d.in, "%d %d\n", n, threads); err != nil {
		return 0, d.stopped(err)
	}
	var took int64
	if _, err := fmt.Fscanln(d.out, &took); err != nil {
		return 0, d.stopped(err)
	}
	return time.Duration(took), nil
}

// stopped returns the reason why the driver ended.
func (d *driver) stopped(err error) error {
	_ = d.in.Close()
	_ = d.cmd.Wait()
	if text := strings.TrimSpace(d.err.String()); text != "" {
		return errors.New(text)
	}
	return err
}

// side returns the driver as a side.
func (d *driver) side(name string) *side {
	return &side{name: name, run: func(n int) (time.Duration, error) { return d.run(n, 1) }}
}

// stop ends the driver.
func (d *driver) stop() {
	_ = d.in.Close()
	_ = d.cmd.Wait()
}

// writeCCache writes a credential cache that holds the ticket n times, each for
// another service, and returns ten of the services, evenly spread.
func writeCCache(path string, cred *messages.Credential, n int) (services []string, err error) {
	cache := ccache.CCache{DefaultPrincipal: cred.Client}
	tgt := *cred
	tgt.Service = messages.Principal{Name: messages.TGSName(realmName), Realm: realmName}
	cache.Credentials = append(cache.Credentials, tgt)
	for i := range n {
		one := *cred
		one.Service.Name = messages.NewPrincipalName(messages.KRB_NT_SRV_HST, "HTTP", fmt.Sprintf("web%d.corp.example", i))
		cache.Credentials = append(cache.Credentials, one)
		if i%(n/10) == n/20 {
			services = append(services, one.Service.String())
		}
	}
	content, err := cache.Marshal()
	if err != nil {
		return nil, err
	}
	return services, os.WriteFile(path, content, 0o600)
}

// writeTickets is writeCCache for one ticket.
func writeTickets(cred *messages.Credential) ticketWriter {
	return func(path string, n int) ([]string, error) { return writeCCache(path, cred, n) }
}
