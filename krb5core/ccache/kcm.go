package ccache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/messages"
)

// DefaultKCMSocket is where SSSD's and Heimdal's daemons listen.
const DefaultKCMSocket = "/var/run/.heim_org.h5l.kcm-socket"

// kcmTimeout bounds one Read: the daemon is on the same machine.
const kcmTimeout = 3 * time.Second

// kcm is a cache of a KCM daemon, or the collection of the user that asks. The protocol has
// no standard; Heimdal's daemon defines it, MIT's kcm.h describes it.
type kcm struct {
	socket string
	name   string // empty for the collection

	mu     sync.Mutex
	last   parsed
	byUUID bool // the daemon does not know opGetCredList
}

func openKCM(name, socket string) (Source, error) {
	if socket == "-" {
		return nil, fmt.Errorf("KCM:%s: kcm_socket in krb5.conf is -, which forbids KCM; use a cache of another type", name)
	}
	return &kcm{name: name, socket: cmp.Or(socket, DefaultKCMSocket)}, nil
}

func (k *kcm) String() string { return "KCM:" + k.name }

func (k *kcm) Late() bool { return true }

func (k *kcm) Read(ctx context.Context, owner messages.Principal) (*CCache, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, kcmTimeout)
	defer cancel()
	p, err := k.read(ctx, owner)
	if err != nil {
		return nil, k.explain(err)
	}
	return k.last.parse(p)
}

// explain adds who was asked, and a remedy.
func (k *kcm) explain(err error) error {
	var dial *net.OpError
	switch {
	case errors.Is(err, ErrEmpty):
		return fmt.Errorf("%w in %s for the user that Caddy runs as (uid %d); run kinit -c %[2]s as that user: the daemon shows each user "+
			"their own caches only", ErrEmpty, k, os.Getuid())
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("does not answer in time; restart it (%w)", err)
	case errors.As(err, &dial) && dial.Op == "dial":
		err = fmt.Errorf("is not there; is sssd_kcm or Heimdal's kcm running, and its socket visible to Caddy? krb5.conf's kcm_socket "+
			"sets another path (%w)", err)
	case errors.Is(err, errTooBig):
	default:
		err = fmt.Errorf("does not answer as a KCM daemon does: %w", err)
	}
	return fmt.Errorf("KCM daemon at %s: %w", k.socket, err)
}

// read gets the cache's parts from the daemon. One that does not know the operation for all
// credentials at once says so, or closes the connection.
func (k *kcm) read(ctx context.Context, owner messages.Principal) (*parts, error) {
	p, err := k.ask(ctx, owner, k.byUUID)
	if !k.byUUID && (errors.Is(err, errKCMUnknown) || errors.Is(err, io.EOF)) {
		p, err = k.ask(ctx, owner, true)
		k.byUUID = err == nil
	}
	return p, err
}

func (k *kcm) ask(ctx context.Context, owner messages.Principal, byUUID bool) (*parts, error) {
	c, err := dialKCM(ctx, k.socket)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.cache(k.name, owner, byUUID)
}
