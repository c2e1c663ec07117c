package rotation

import (
	"crypto/rand"
	"math/big"
	"strings"
)

// passwordLength is that of a new password, in characters: more than any policy asks for, and about 390
// bits.
const passwordLength = 64

// classes are the kinds of characters that policies ask for; Active Directory counts a space as one of
// the third, MIT as a kind of its own. None of the characters is special in a file of one line, and
// none is outside of ASCII.
var classes = []string{
	"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
	"abcdefghijklmnopqrstuvwxyz",
	"0123456789",
	"!#%()*+,-./:;=?@_~",
}

// newPassword returns a random password that meets the policies of Active Directory and MIT: long, with
// two or more of each kind of characters, a space inside, and no part of the account's name.
func newPassword(name []string) string {
	all := strings.Join(classes, "")
	for {
		b := make([]byte, passwordLength)
		for i := range b {
			b[i] = all[draw(len(all))]
		}
		b[1+draw(passwordLength-2)] = ' '
		if password := string(b); varied(password) && !names(password, name) {
			return password
		}
	}
}

func draw(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return int(i.Int64())
}

// varied reports whether there are two or more of each kind.
func varied(password string) bool {
	for _, class := range classes {
		n := 0
		for _, r := range password {
			if strings.ContainsRune(class, r) {
				n++
			}
		}
		if n < 2 {
			return false
		}
	}
	return true
}

// namePart is the length of a part of the name that Active Directory does not accept in a password.
const namePart = 3

// names reports whether a part of the account's name is in the password, in any case.
func names(password string, name []string) bool {
	password = strings.ToLower(password)
	for _, component := range name {
		component = strings.ToLower(component)
		for _, part := range append(strings.FieldsFunc(component, func(r rune) bool { return strings.ContainsRune(",.-_ #\t", r) }), component) {
			if len(part) >= namePart && strings.Contains(password, part) {
				return true
			}
		}
	}
	return false
}
