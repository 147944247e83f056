package provider

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// MadeID is an id of 24 hex digits that is the same for the same parts, so that
// equal samples are one fact. Only signers use it.
func MadeID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:12])
}

// Place puts a value where a JSON pointer will find it in the document root is
// going to be, and makes the objects on the way. Only signers use it; its errors
// wrap ErrNoSample.
func Place(root map[string]any, pointer string, value any) error {
	if err := CheckPointer(pointer); err != nil {
		return fmt.Errorf("%w: %w", ErrNoSample, err)
	}
	names := strings.Split(pointer[1:], "/")
	for i, name := range names {
		name = unescapePointer(name)
		if i == len(names)-1 {
			root[name] = value
			return nil
		}
		if _, ok := root[name]; !ok {
			root[name] = map[string]any{}
		}
		below, ok := root[name].(map[string]any)
		if !ok {
			return fmt.Errorf("%w: %s leads through something that is no object", ErrNoSample, pointer)
		}
		root = below
	}
	return nil
}
