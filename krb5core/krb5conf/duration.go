package krb5conf

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ParseDuration reads a duration as MIT does: seconds ("3600"), numbers with
// units in falling order ("1d 2h30m"; d, h, m, s, in lower case), hours and
// minutes ("10:30", "10:30:15"), or days before those ("1-10:30:15"). Numbers
// may be negative, white space may precede a number. The whole is within
// 32-bit seconds, some 68 years.
//
// As in MIT, reading stops at the first character that no duration has: "1.5h"
// is one second.
func ParseDuration(s string) (time.Duration, error) {
	seconds, err := parseSeconds(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: %w", s, err)
	}
	return time.Duration(seconds) * time.Second, nil
}

var (
	errDurationSyntax = errors.New(`write it like "10h", "1d 2h30m", "10:30" or "3600" (seconds)`)
	errDurationRange  = errors.New("longer than 2147483647 seconds")
)

// durationForms has the ways to write a duration, and the seconds that each number in them counts.
var durationForms = []struct {
	form    *regexp.Regexp
	seconds []int64
}{
	{regexp.MustCompile(`^[\s\v]*(-?\d+)$`), []int64{1}},
	{regexp.MustCompile(`^[\s\v]*(?:(-?\d+)d[\s\v]*)?(?:(-?\d+)h[\s\v]*)?(?:(-?\d+)m[\s\v]*)?(?:(-?\d+)s)?$`), []int64{86400, 3600, 60, 1}},
	{regexp.MustCompile(`^[\s\v]*(-?\d+):(\d\d?)(?::(\d\d?))?$`), []int64{3600, 60, 1}},
	{regexp.MustCompile(`^[\s\v]*(-?\d+)-(\d\d?):(\d\d?):(\d\d?)$`), []int64{86400, 3600, 60, 1}},
}

func parseSeconds(s string) (int64, error) {
	if end := strings.IndexFunc(s, func(c rune) bool { return !strings.ContainsRune("0123456789-:dhms"+blanks, c) }); end >= 0 {
		s = s[:end]
	}
	for _, f := range durationForms {
		numbers := f.form.FindStringSubmatch(s)
		if numbers == nil || trim(s) == "" {
			continue
		}
		var total int64
		for i, number := range numbers[1:] {
			if number == "" {
				continue
			}
			n, err := strconv.ParseInt(number, 10, 32)
			if err != nil || n == math.MinInt32 {
				return 0, errDurationRange
			}
			if total += n * f.seconds[i]; total > math.MaxInt32 || total < math.MinInt32 {
				return 0, errDurationRange
			}
		}
		return total, nil
	}
	return 0, errDurationSyntax
}
