//go:build race

package gss

const raceEnabled = true
