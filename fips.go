package caddynegotiate

import (
	"crypto/fips140"
	"fmt"

	"go.uber.org/zap"

	"github.com/caddy-negotiate/caddy-negotiate/krb5core/enctype"
)

// What rests on algorithms that FIPS 140 does not approve is refused while it is enforced (GODEBUG=fips140=only), by name
// and when the configuration is loaded; what is merely a default is narrowed, and said once. Enforcement is never
// switched off.

// checkApproved refuses an encryption type that is stated and must not be used.
func checkApproved(id enctype.ID) error {
	if !fips140.Enforced() || id.Approved() {
		return nil
	}
	return fmt.Errorf("%s is %w, which GODEBUG=fips140=only enforces: name %s or %s, and let account, service and krbtgt have such keys",
		id, enctype.ErrNotApproved, enctype.AES256_CTS_HMAC_SHA384_192, enctype.AES128_CTS_HMAC_SHA256_128)
}

// refuseUnapproved refuses a setting that rests on an algorithm which must not be used.
func refuseUnapproved(algorithm, instead string) error {
	if !fips140.Enforced() {
		return nil
	}
	return fmt.Errorf("rests on %s, %w, which GODEBUG=fips140=only enforces; %s", algorithm, enctype.ErrNotApproved, instead)
}

// tellNarrowed says once for an account what the default has become.
func (c *Credentials) tellNarrowed(types []enctype.ID, principal string, logger *zap.Logger) {
	if fips140.Enforced() && len(c.EncryptionTypes) == 0 {
		logger.Info("FIPS 140 is enforced: no AES-SHA1, Camellia or SPAKE", zap.String("principal", principal), zap.Stringers("encryption_types", types))
	}
}
