package ccache

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"
)

// DefaultName returns the name of the default cache: the value of KRB5CCNAME if it is not
// empty, else krb5.conf's default_ccache_name, with its parameters, else the system's.
func DefaultName(configured string) (string, error) {
	if name := os.Getenv("KRB5CCNAME"); name != "" {
		return name, nil
	}
	if configured != "" {
		name, err := expand(configured)
		if err != nil {
			return "", fmt.Errorf("default_ccache_name %s: %w", configured, err)
		}
		return name, nil
	}
	switch runtime.GOOS {
	case "windows", "darwin", "ios":
		return "", errors.New("the default cache of this system can be read by its own library only; set KRB5CCNAME, " +
			"or default_ccache_name in krb5.conf, to a cache of type FILE")
	}
	return expand("FILE:/tmp/krb5cc_%{uid}")
}

// expand replaces the parameters of krb5.conf that a name may have, %{uid} and the like.
func expand(name string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(name, "%{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		parameter, after, ended := strings.Cut(rest, "}")
		if !ended {
			return "", errors.New("%{ without }")
		}
		value, err := parameterValue(parameter)
		if err != nil {
			return "", err
		}
		b.WriteString(value)
		name = after
	}
}

func parameterValue(parameter string) (string, error) {
	switch parameter {
	case "uid", "USERID":
		return strconv.Itoa(os.Getuid()), nil
	case "euid":
		return strconv.Itoa(os.Geteuid()), nil
	case "username":
		u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
		if err != nil {
			return "", fmt.Errorf("%%{username}: %w; write the name", err)
		}
		return u.Username, nil
	case "TEMP":
		return os.TempDir(), nil
	case "null":
		return "", nil
	}
	return "", fmt.Errorf("%%{%s} is not supported: uid, euid, USERID, username, TEMP and null are; write the value", parameter)
}
