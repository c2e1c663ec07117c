package kdc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// ErrNoKDC is wrapped by the error of a [Finder] that knows no KDC of a realm.
var ErrNoKDC = errors.New("no KDC known")

// Finder returns the KDCs of a realm, in order of preference. If there
// are none the error wraps [ErrNoKDC]. Callers do not modify the result.
type Finder interface {
	KDCs(ctx context.Context, realm string) ([]Server, error)
}

// Resolver looks names up in the DNS. *net.Resolver implements it.
type Resolver interface {
	// LookupSRV is called with empty service and proto and the full name.
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, addrs []*net.SRV, err error)
	// LookupNetIP is called with the network "ip", "ip4" or "ip6".
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Static is a [Finder] of configured KDCs by realm. Realms are compared
// exactly (RFC 4120, Section 6.1).
type Static map[string][]Server

func (s Static) KDCs(_ context.Context, realm string) ([]Server, error) {
	if servers := s[realm]; len(servers) > 0 {
		return servers, nil
	}
	return nil, fmt.Errorf("realm %s: %w: none is configured; name one with kdc", realm, ErrNoKDC)
}

// First returns a [Finder] that asks the given ones in turn and takes the
// first that knows a KDC. Their errors are joined if none does.
func First(finders ...Finder) Finder {
	return chain(slices.Clone(finders))
}

type chain []Finder

func (c chain) KDCs(ctx context.Context, realm string) ([]Server, error) {
	var errs []error
	for _, finder := range c {
		servers, err := finder.KDCs(ctx, realm)
		if err == nil && len(servers) > 0 {
			return servers, nil
		}
		same := func(other error) bool { return other.Error() == err.Error() }
		if err != nil && !slices.ContainsFunc(errs, same) { // two that know nothing say it once
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		errs = append(errs, fmt.Errorf("realm %s: %w", realm, ErrNoKDC))
	}
	return nil, errors.Join(errs...)
}
