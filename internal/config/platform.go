package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/caddy-negotiate/caddy-negotiate/internal/sspi"
	"github.com/caddy-negotiate/caddy-negotiate/negotiate"
)

// besidePlatform are the settings that may be set next to platform.
var besidePlatform = []string{"platform", "timeout"}

// windowsReasons say why settings do not apply next to platform, by their JSON names. The others
// have the reason of the KDCs.
var windowsReasons = map[string]string{ //nolint:gosec // words
	"user":              "the account is the one that Caddy runs as: choose it for the service (sc.exe config caddy obj= ...), or use a keytab",
	"realm":             "the account is the one that Caddy runs as, and its realm is the machine's domain",
	"canonicalize":      "Windows corrects names itself",
	"encryption_types":  "Windows chooses them (group policy: Network security: Configure encryption types allowed for Kerberos)",
	"allow_weak_crypto": "Windows chooses the encryption types (group policy: Network security: Configure encryption types allowed for Kerberos)",
	"fast_armor":        "Windows armors logins itself where the domain wants it (group policy: Kerberos client support for claims, compound authentication and Kerberos armoring)",
	"rotate_password":   "Windows renews the passwords of machines and of group managed service accounts itself",
	"gmsa":              "let the service run as the group managed service account itself (sc.exe config caddy obj= CORP\\NAME$)",
	"login_at_start":    "Windows has logged in already",
	"trace":             "Windows sends the messages to the KDC, and Caddy does not see them",
	"trace_packets":     "Windows sends the messages to the KDC, and Caddy does not see them",
}

// checkPlatform rejects what Windows decides itself.
func (c *Credentials) checkPlatform() error {
	if !c.Platform {
		return nil
	}
	text, err := json.Marshal(c) //nolint:gosec // only its names are looked at
	if err != nil {
		return err
	}
	var set map[string]json.RawMessage
	if err := json.Unmarshal(text, &set); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if slices.Contains(besidePlatform, name) {
			continue
		}
		reason, ok := windowsReasons[name]
		if !ok {
			reason = "Windows finds and asks the KDCs itself"
		}
		return Setting(name, fmt.Errorf("does not apply to platform: %s; remove it", reason))
	}
	return nil
}

// Kind is that of credentials in place, as far as the text shows it: platform, or nothing.
func (l *Login) Kind() negotiate.SecretKind {
	if l.Credentials != nil && l.Credentials.Platform {
		return negotiate.KindPlatform
	}
	return ""
}

// CheckPlatform rejects what a service cannot have with platform. The impersonation may be nil.
func CheckPlatform(kind negotiate.SecretKind, s *Service, i *Impersonation) error {
	switch {
	case kind != negotiate.KindPlatform:
	case i != nil && i.Enabled():
		return Setting("impersonate", errors.New("does not work with platform: it takes the account's key or ticket-granting ticket, which Windows keeps to itself; "+
			"use a keytab of the account"))
	case s.Delegate == "always":
		return Setting("delegate", errors.New("always does not work with platform: Windows forwards tickets only to services that the domain trusts for delegation; "+
			"set delegate without always"))
	}
	return nil
}

// resolvePlatform asks Windows for the account. There need not be tickets yet.
func (c *Credentials) resolvePlatform(r *Resolved) error {
	client, err := sspi.Open()
	if errors.Is(err, sspi.ErrUnsupported) {
		return errors.New("is for Windows, where tickets come from the account that Caddy runs as; here, name the tickets of that account with ccache default")
	}
	if err != nil {
		return err
	}
	r.Secret = negotiate.PlatformSecret(client)
	account, err := client.Account()
	if err != nil {
		return err
	}
	r.Principal = negotiate.PlatformPrincipal(account)
	return nil
}
