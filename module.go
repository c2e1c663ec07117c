// Package caddynegotiate is a plugin.
package caddynegotiate
