// Package must shortens tests whose calls are expected to succeed.
package must

import "testing"

// OK returns what a call returned, or ends the test with the call's error:
//
//	key := must.OK(enctype.NewKey(id, raw))(t)
func OK[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Do ends the test with the error of a call, if there is one.
func Do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
