package enctype

import "fmt"

type profile struct {
	id             ID
	name           string
	aliases        []string
	weak, approved bool
	keySize        int
}

var (
	table    []*profile
	profiles map[ID]*profile
)

func (id ID) profile() (*profile, error) {
	p := profiles[id]
	if p == nil {
		return nil, fmt.Errorf("%s: %w", id, ErrUnsupported)
	}
	return p, nil
}
